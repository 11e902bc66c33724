//! Sends the message of standard input with lettre, as the environment says.

use std::io::Read;

use lettre::address::{Address, Envelope};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let said = |name: &str| std::env::var(name);
    let authority = Certificate::from_pem(&std::fs::read(said("CA")?)?)?;
    let parameters = TlsParameters::builder("localhost".into()).add_root_certificate(authority).build_rustls()?;
    let mechanism = if said("MECHANISM")? == "LOGIN" { Mechanism::Login } else { Mechanism::Plain };
    let transport = SmtpTransport::builder_dangerous("localhost")
        .port(said("PORT")?.parse()?)
        .hello_name(ClientId::Domain("client.example".into()))
        .tls(if said("TLS")? == "implicit" { Tls::Wrapper(parameters) } else { Tls::Required(parameters) })
        .credentials(Credentials::new(said("LOGIN")?, said("PASSWORD")?))
        .authentication(vec![mechanism])
        .build();
    let recipients = said("RECIPIENTS")?.split(',').map(str::parse).collect::<Result<Vec<Address>, _>>()?;
    let envelope = Envelope::new(Some(said("SENDER")?.parse()?), recipients)?;
    let mut message = Vec::new();
    std::io::stdin().read_to_end(&mut message)?;
    // It adds the last line end.
    let response = transport.send_raw(&envelope, message.strip_suffix(b"\r\n").unwrap_or(&message))?;
    println!("{response:?}");
    Ok(())
}
