//! Why a TLS handshake failed, in words that help whoever looks after the clients. The cause as TLS names it stays beside
//! them in the log.

use std::fmt;
use std::io::{self, ErrorKind};

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};

/// When a handshake begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// TLS from the first octet (RFC 8314 section 3.3).
    Implicit,
    /// After STARTTLS (RFC 3207).
    StartTls,
}

/// What a PROXY header means that nobody asked for, before a greeting or in place of a handshake.
pub const UNASKED_PROXY: &str = "a PROXY header from an address which is not in this listener's proxy_from";

/// What the failure of a server's handshake most likely means, and what to do. `error`: of
/// [`Stream::accept_tls`](super::Stream::accept_tls) or its sibling.
pub fn explain(error: &io::Error, begin: Begin) -> &'static str {
    if is_silent(error) && error.kind() == ErrorKind::TimedOut && begin == Begin::Implicit {
        return "the client may be set to STARTTLS and wait for a greeting: this port wants TLS from the first octet";
    }
    if is_silent(error) {
        return "the client said nothing: a port scanner, a health check, or somebody who thought better of it";
    }
    if error.get_ref().is_some_and(|inner| inner.is::<BeganWithProxy>()) {
        return UNASKED_PROXY;
    }
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (of_tls, error.kind()) {
        (Some(of_tls), _) => explain_tls(of_tls, begin),
        (None, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            "the client closed during the handshake: many do so without a word when they do not accept the certificate"
        }
        (None, ErrorKind::TimedOut) => "the client fell silent during the handshake",
        (None, ErrorKind::Interrupted) => "the server stops",
        (None, _) => "the connection failed during the handshake",
    }
}

/// Did the client go, or let the time pass, before its first octet? Nothing failed then, and it is not worth a line.
pub fn is_silent(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<SaidNothing>())
}

/// The peer went, or the time was over, before its first octet.
#[derive(Debug)]
pub(super) struct SaidNothing {
    timed_out: bool,
}

impl SaidNothing {
    pub fn error(kind: ErrorKind) -> io::Error {
        io::Error::new(kind, SaidNothing { timed_out: kind == ErrorKind::TimedOut })
    }
}

impl fmt::Display for SaidNothing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.timed_out { "timed out" } else { "closed before the handshake" })
    }
}

impl std::error::Error for SaidNothing {}

/// What came in place of a handshake began with a PROXY header; TLS has its own words for that.
#[derive(Debug)]
pub(super) struct BeganWithProxy(io::Error);

impl BeganWithProxy {
    pub fn error(of_tls: io::Error) -> io::Error {
        io::Error::new(of_tls.kind(), BeganWithProxy(of_tls))
    }
}

impl fmt::Display for BeganWithProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for BeganWithProxy {}

fn explain_tls(error: &Error, begin: Begin) -> &'static str {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => match begin {
            Begin::Implicit => {
                "the client does not speak TLS: it is set to STARTTLS or to no encryption, and this port wants TLS from the \
                 first octet; set it to SSL/TLS, or to the port for STARTTLS"
            }
            Begin::StartTls => {
                "what came behind STARTTLS is not TLS: the client, or something between, went on in the clear"
            }
        },
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => OLD,
        Error::InvalidMessage(_) | Error::DecryptError | Error::PeerMisbehaved(_) => {
            "what came is damaged or forbidden TLS: a broken client, or something between that changes what it sends"
        }
        Error::PeerIncompatible(reason) => explain_incompatible(reason),
        Error::NoApplicationProtocol => {
            "the client wants to speak another protocol than SMTP (ALPN), as a web browser does that was led here"
        }
        Error::AlertReceived(alert) => explain_alert(*alert),
        _ => "the handshake failed",
    }
}

const OLD: &str =
    "the client offers only TLS 1.1 or older, and TLS 1.2 is the least (RFC 8996): update it, or the device";

fn explain_incompatible(reason: &PeerIncompatible) -> &'static str {
    use PeerIncompatible::*;
    match reason {
        // Below TLS 1.2 there are no signature algorithms to offer, and that is looked at first.
        Tls12NotOffered | Tls12NotOfferedOrEnabled | SupportedVersionsExtensionRequired => OLD,
        SignatureAlgorithmsExtensionRequired => OLD,
        NoCipherSuitesInCommon => {
            "no cipher suite in common: the client offers none with ECDHE and AEAD, or none for our certificate's kind of key; \
             update it, or give a certificate of the other kind (RSA or P-256) too"
        }
        NoKxGroupsInCommon | NamedGroupsExtensionRequired | KeyShareExtensionRequired => {
            "no key exchange in common: the client offers neither X25519 nor P-256 nor P-384; update it"
        }
        NoSignatureSchemesInCommon => {
            "the client cannot check signatures of our certificate's kind of key; update it, or give a certificate of the other \
             kind (RSA or P-256) too"
        }
        _ => "the client's TLS and ours have too little in common; update it",
    }
}

fn explain_alert(alert: AlertDescription) -> &'static str {
    use AlertDescription::*;
    match alert {
        UnknownCA => {
            "the client does not know who issued our certificate: a self-signed one, or its chain is not complete in the file"
        }
        CertificateExpired => "the client holds our certificate for expired: renew it, or set the client's clock",
        BadCertificate | CertificateUnknown | UnsupportedCertificate | CertificateRevoked | AccessDenied => {
            "the client does not accept our certificate: see that it has the name that the client connects to, and its whole chain"
        }
        ProtocolVersion | HandshakeFailure | InsufficientSecurity | InappropriateFallback => {
            "the client refused what we speak: TLS 1.2 and 1.3 with ECDHE and AEAD"
        }
        UserCanceled | CloseNotify => "the client gave up, or its user did",
        _ => "the client ended the handshake",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_failures_have_words_of_their_own() {
        let tls = |error: Error| io::Error::new(ErrorKind::InvalidData, error);
        let in_the_clear = || tls(Error::InvalidMessage(InvalidMessage::InvalidContentType));
        for (error, begin, words) in [
            (in_the_clear(), Begin::Implicit, "set to STARTTLS"),
            (in_the_clear(), Begin::StartTls, "went on in the clear"),
            (BeganWithProxy::error(in_the_clear()), Begin::Implicit, "not in this listener's proxy_from"),
            (tls(Error::AlertReceived(AlertDescription::UnknownCA)), Begin::Implicit, "who issued our certificate"),
            (tls(Error::AlertReceived(AlertDescription::CertificateExpired)), Begin::StartTls, "for expired"),
            (tls(Error::AlertReceived(AlertDescription::BadCertificate)), Begin::StartTls, "does not accept our cert"),
            (tls(Error::AlertReceived(AlertDescription::DecodeError)), Begin::StartTls, "client ended the handshake"),
            (tls(PeerIncompatible::SignatureAlgorithmsExtensionRequired.into()), Begin::StartTls, "TLS 1.1 or older"),
            (tls(PeerIncompatible::Tls12NotOffered.into()), Begin::StartTls, "TLS 1.1 or older"),
            (tls(PeerIncompatible::NoCipherSuitesInCommon.into()), Begin::StartTls, "no cipher suite"),
            (tls(PeerIncompatible::NoKxGroupsInCommon.into()), Begin::StartTls, "no key exchange"),
            (tls(PeerIncompatible::NoSignatureSchemesInCommon.into()), Begin::StartTls, "cannot check signatures"),
            (tls(PeerIncompatible::EcPointsExtensionRequired.into()), Begin::StartTls, "too little in common"),
            (tls(Error::DecryptError), Begin::StartTls, "damaged or forbidden"),
            (tls(Error::AlertReceived(AlertDescription::HandshakeFailure)), Begin::StartTls, "refused what we speak"),
            (tls(Error::AlertReceived(AlertDescription::UserCanceled)), Begin::StartTls, "gave up"),
            (ErrorKind::Interrupted.into(), Begin::StartTls, "the server stops"),
            (tls(Error::NoApplicationProtocol), Begin::StartTls, "another protocol than SMTP"),
            (SaidNothing::error(ErrorKind::UnexpectedEof), Begin::Implicit, "said nothing"),
            (SaidNothing::error(ErrorKind::TimedOut), Begin::Implicit, "may be set to STARTTLS"),
            (SaidNothing::error(ErrorKind::TimedOut), Begin::StartTls, "said nothing"),
            (ErrorKind::UnexpectedEof.into(), Begin::StartTls, "closed during the handshake"),
            (ErrorKind::TimedOut.into(), Begin::StartTls, "fell silent"),
            (io::Error::other("x"), Begin::StartTls, "connection failed"),
        ] {
            let said = explain(&error, begin);
            assert!(said.contains(words), "{error}: {said}");
        }
        let [gone, late] =
            [ErrorKind::UnexpectedEof, ErrorKind::TimedOut].map(|kind| SaidNothing::error(kind).to_string());
        assert_eq!((gone.as_str(), late.as_str()), ("closed before the handshake", "timed out"));
    }
}
