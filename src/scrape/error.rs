//! Why a scrape failed, worded as Prometheus words it in `lastError` where it has a text.

use std::fmt;
use std::sync::Arc;

use crate::encoding::gzip::GzipError;
use crate::exposition::negotiation::ContentTypeError;
use crate::net::NetError;
use crate::net::tls::Fault;
use crate::scrape::redirect::RedirectError;
use crate::series::SeriesError;

/// One failed scrape. A value, not an error of ours.
#[derive(Clone, Debug)]
pub enum ScrapeError {
    /// The credentials for this job could not be read.
    Authorization(String),
    /// Decompressed bytes reached the limit (ours where the operator set none).
    BodyTooLarge { limit_bytes: u64 },
    /// Blank or foreign `Content-Type` without a fallback.
    ContentType(ContentTypeError),
    /// The pool forces this error on all its targets (`target_limit`).
    Forced(Arc<str>),
    /// The compressed body is damaged.
    Gzip(GzipError),
    /// The exchange failed; the URL is named as Go's client does.
    Net { url: String, error: NetError },
    /// TLS failed; the name is what the certificate should be valid for.
    Tls { url: String, name: String, fault: Fault },
    /// The files of `tls_config` cannot be used.
    TlsSettings(String),
    /// The target's URL cannot be asked for.
    Nowhere(Box<str>),
    /// The deadline passed while the host name was being looked up, or the name is unknown.
    Name { url: String, text: String },
    /// A redirect that cannot be followed.
    Redirect { url: String, error: RedirectError },
    /// What the body says cannot be used: syntax or a limit.
    Series(SeriesError),
    /// Any status but 200.
    Status { code: u16, reason: String },
    /// Compressed as nobody asked for.
    Zstd,
    /// More hops than allowed.
    TooManyRedirects { url: String },
}

impl fmt::Display for ScrapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization(text) => f.write_str(text),
            Self::BodyTooLarge { limit_bytes } => write!(f, "body size limit exceeded ({limit_bytes} bytes)"),
            Self::ContentType(e) => write!(f, "{e}"),
            Self::Forced(text) => f.write_str(text),
            Self::Gzip(e) => write!(f, "{e}"),
            Self::Net { url, error } => write!(f, "Get \"{url}\": {error}"),
            Self::Tls { url, name, fault } => write!(f, "Get \"{url}\": {}", fault.of(name)),
            Self::TlsSettings(text) => f.write_str(text),
            Self::Name { url, text } => write!(f, "Get \"{url}\": dial tcp: {text}"),
            Self::Nowhere(text) => f.write_str(text),
            Self::Redirect { url, error } => write!(f, "Get \"{url}\": {error}"),
            Self::Series(e) => write!(f, "{e}"),
            // A target that ignores what is accepted gets Prometheus's answer.
            Self::Zstd => {
                f.write_str("received a zstd-compressed response, but the \"zstd-scrape\" feature flag is not enabled")
            }
            Self::Status { code, reason } if reason.is_empty() => {
                write!(f, "server returned HTTP status {code}")
            }
            Self::Status { code, reason } => write!(f, "server returned HTTP status {code} {reason}"),
            Self::TooManyRedirects { url } => write!(f, "Get \"{url}\": stopped after 10 redirects"),
        }
    }
}
