//! What is wrong with a TLS connection, in words that say what to repair.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Everything that can end a session early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The certificate is for other names.
    WrongName,
    /// The certificate, or one above it, has expired.
    Expired,
    /// The certificate, or one above it, is not valid yet.
    NotYetValid,
    /// No trusted root stands above the certificate.
    UnknownAuthority,
    /// A signature of the chain or of the handshake is wrong.
    BadSignature,
    /// The certificate is not for servers.
    WrongPurpose,
    /// The server shows a CA's certificate, which counts only where it is trusted itself.
    AuthorityAsServer,
    /// The certificate is revoked.
    Revoked,
    /// An algorithm or version of the certificate that is not supported.
    UnsupportedCertificate,
    /// The certificate cannot be read.
    BadCertificate,
    /// The server has none.
    NoCertificate,
    /// The server refused: its alert.
    Alert(u8),
    /// The server speaks plain HTTP.
    PlainHttp,
    /// The bytes are not TLS.
    NotTls,
    /// No version, cipher suite or signature scheme in common.
    Incompatible,
    /// No application protocol in common: the server speaks no HTTP/1.1.
    NoHttp1,
    /// The server broke the protocol.
    Misbehaved,
    /// A record is damaged or not from the peer.
    BadRecord,
    /// A handshake message or record beyond every measure.
    TooLarge,
    /// The peer closed the connection during the handshake.
    HungUp,
    /// The target's host is neither a DNS name nor an address.
    BadName,
    /// Nobody gave this connection its settings.
    NotConfigured,
    /// No randomness or no clock.
    Host,
}

impl Fault {
    /// With the name that the certificate should be valid for.
    #[must_use]
    pub fn of(self, name: &str) -> NamedFault<'_> {
        NamedFault(self, name)
    }

    pub(super) fn from_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(e) => Self::from_certificate(e),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => {
                Self::NoHttp1
            }
            Error::AlertReceived(alert) => Self::Alert(u8::from(*alert)),
            Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) | Error::PeerIncompatible(_) => {
                Self::Incompatible
            }
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Self::NotTls
            }
            Error::PeerSentOversizedRecord
            | Error::InvalidMessage(InvalidMessage::MessageTooLarge | InvalidMessage::HandshakePayloadTooLarge) => {
                Self::TooLarge
            }
            Error::DecryptError => Self::BadRecord,
            Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => Self::Host,
            _ => Self::Misbehaved,
        }
    }

    fn from_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::UnknownIssuer => Self::UnknownAuthority,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Self::WrongPurpose,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::BadEncoding => Self::BadCertificate,
            CertificateError::Other(e) if e.to_string().contains("CaUsedAsEndEntity") => Self::AuthorityAsServer,
            _ => Self::UnsupportedCertificate,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of("").fmt(f)
    }
}

impl std::error::Error for Fault {}

/// A fault and the name that the certificate should be valid for; empty where it is not known.
#[derive(Clone, Copy, Debug)]
pub struct NamedFault<'a>(Fault, &'a str);

impl fmt::Display for NamedFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            Fault::WrongName if self.1.is_empty() => "certificate is not valid for the server's name",
            Fault::WrongName => return write!(f, "tls: certificate is not valid for name {:?}", self.1),
            Fault::Expired => "certificate has expired",
            Fault::NotYetValid => "certificate is not yet valid",
            Fault::UnknownAuthority => "certificate signed by unknown authority",
            Fault::BadSignature => "certificate or handshake has a wrong signature",
            Fault::WrongPurpose => "certificate is not meant for servers",
            Fault::AuthorityAsServer => "certificate is that of an authority and not itself in ca_file",
            Fault::Revoked => "certificate is revoked",
            Fault::UnsupportedCertificate => "certificate uses an algorithm or version that is not supported",
            Fault::BadCertificate => "certificate cannot be read",
            Fault::NoCertificate => "server shows no certificate",
            Fault::Alert(alert) => return alert_text(alert, f),
            Fault::PlainHttp => return f.write_str("http: server gave HTTP response to HTTPS client"),
            Fault::NotTls => "first record does not look like a TLS handshake",
            Fault::Incompatible => "no protocol version, cipher suite or signature scheme in common",
            Fault::NoHttp1 => "server speaks no HTTP/1.1",
            Fault::Misbehaved => "server broke the protocol",
            Fault::BadRecord => "bad record MAC",
            Fault::TooLarge => "record or handshake message is too large",
            Fault::HungUp => "server closed the connection during the handshake",
            Fault::BadName => "host is neither a DNS name nor an address",
            Fault::NotConfigured => "no TLS settings for this connection",
            Fault::Host => "no randomness or no clock on this host",
        };
        write!(f, "tls: {text}")
    }
}

/// RFC 8446, section 6.2, in Go's words. go: crypto/tls, alert.go.
fn alert_text(alert: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = match alert {
        10 => "unexpected message",
        20 => "bad record MAC",
        22 => "record overflow",
        40 => "handshake failure",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "revoked certificate",
        45 => "expired certificate",
        46 => "unknown certificate",
        47 => "illegal parameter",
        48 => "unknown certificate authority",
        49 => "access denied",
        50 => "error decoding message",
        51 => "error decrypting message",
        70 => "protocol version not supported",
        71 => "insufficient security level",
        80 => "internal error",
        90 => "user canceled",
        112 => "unrecognized name",
        116 => "certificate required",
        other => return write!(f, "remote error: tls: alert({other})"),
    };
    write!(f, "remote error: tls: {text}")
}
