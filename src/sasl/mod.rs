//! stub
/// A mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616
    Plain,
    /// draft-murchison-sasl-login
    Login,
}
/// What a client claims. Debug and Display never show the password; the memory is wiped on drop.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    /// By which mechanism.
    pub mechanism: Mechanism,
    /// As given, valid UTF-8, prepared.
    pub user: String,
    /// The password.
    pub password: String,
}
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({:?})", self.user)
    }
}
/// Server side of one exchange.
#[derive(Debug)]
pub struct Exchange {}
/// What follows a line of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send `334 ` and this text, which is already base64 (may be empty).
    Challenge(&'static str),
    /// Check these.
    Verify(Credentials),
    /// The client said `*`: 501 5.7.0.
    Cancelled,
    /// Not base64, or not of the mechanism's form: 501 5.5.2.
    Malformed,
    /// An authorization identity that is not the user's own: 535 5.7.8 (RFC 4616, WIRE 10.9).
    OtherIdentity,
}
impl Mechanism {
    /// By its name, case-insensitive.
    pub fn parse(_name: &[u8]) -> Option<Mechanism> {
        todo!()
    }
}
impl Exchange {
    /// Starts with the initial response as on the wire (base64, `=` for empty) or none.
    pub fn start(_mechanism: Mechanism, _initial: Option<&[u8]>) -> (Exchange, Step) {
        todo!()
    }
    /// The client's next line, without CRLF.
    pub fn respond(&mut self, _line: &[u8]) -> Step {
        todo!()
    }
}
/// Client side: the base64 lines to send.
#[derive(Debug)]
pub struct ClientExchange {}
impl ClientExchange {
    /// A client exchange; the first value is the initial response to put on the AUTH line, if the mechanism has one.
    pub fn start(_mechanism: Mechanism, _user: &str, _password: &str) -> (ClientExchange, Option<String>) {
        todo!()
    }
    /// The answer to a 334 challenge (base64 text of the server), or none if it makes no sense.
    pub fn respond(&mut self, _challenge: &[u8]) -> Option<String> {
        todo!()
    }
}
