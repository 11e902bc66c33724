//! Content on its way into the client, converted or as it is.

use crate::message::mime::Converter;
use crate::smtp::Client;

/// Where content goes on its way to the server.
pub struct Outlet {
    converter: Option<Converter>,
    converted: Vec<u8>,
}

impl Outlet {
    /// `converter`: for a server that does not take the content as it is.
    pub fn new(converter: Option<Converter>) -> Outlet {
        Outlet { converter, converted: Vec::new() }
    }

    /// The next piece of what is to be sent.
    pub fn put(&mut self, piece: &[u8], client: &mut Client, out: &mut Vec<u8>) {
        let Outlet { converter, converted } = self;
        // A server that has spoken too early wants nothing more.
        match converter {
            _ if !client.wants_content() => {}
            None => client.content(piece, out),
            Some(converter) => {
                converter.feed(piece, converted);
                client.content(converted, out);
                converted.clear();
            }
        }
    }

    /// Behind the last piece.
    pub fn end(&mut self, client: &mut Client, out: &mut Vec<u8>) {
        if let Some(converter) = self.converter.as_mut().filter(|_| client.wants_content()) {
            converter.end(&mut self.converted);
            client.content(&self.converted, out);
        }
    }
}
