//! Why an exchange failed, in the words operators know from Go's client.

use std::fmt;

use super::tls::Fault;
use crate::engine::Stage;
use crate::http::HttpError;

/// How far a job had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting.
    Connect,
    /// Agreeing on keys.
    Handshake,
    /// Sending the request.
    Send,
    /// Waiting for the first byte.
    Wait,
    /// Receiving.
    Receive,
}

/// Everything that can end a job early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetError {
    /// Nobody listens there.
    ConnectRefused,
    /// The kernel gave up connecting before the deadline.
    ConnectTimeout,
    /// No route, or the local host forbids it: errno.
    Unreachable(i32),
    /// The deadline passed in this phase.
    DeadlineExceeded(Phase),
    /// The peer reset the connection.
    Reset,
    /// The bytes are not a usable response, or end too early.
    Response(HttpError),
    /// This process or host has no descriptor left, and no idle connection to give up.
    NoDescriptors,
    /// TLS: the certificate, the protocol.
    Tls(Fault),
    /// The connect policy said no.
    Blocked(&'static str),
    /// Cancelled by its owner.
    Cancelled,
    /// No kept connection, and none to be dialled.
    NotKept,
    /// Any other errno.
    Os(Phase, i32),
}

impl NetError {
    /// Whether time ran out.
    #[must_use]
    pub fn is_timeout(self) -> bool {
        matches!(self, Self::ConnectTimeout | Self::DeadlineExceeded(_))
    }

    /// Whether the connection never stood, so that another address may be tried.
    #[must_use]
    pub fn is_connect(self) -> bool {
        matches!(
            self,
            Self::ConnectRefused
                | Self::ConnectTimeout
                | Self::Unreachable(_)
                | Self::DeadlineExceeded(Phase::Connect)
                | Self::Os(Phase::Connect, _)
        )
    }

    /// Whether the cause is on this host rather than at the target.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::NoDescriptors | Self::Blocked(_) | Self::Cancelled | Self::NotKept)
    }

    pub(super) fn from_errno(stage: Stage, errno: i32, answered: bool) -> Self {
        let phase = match stage {
            Stage::Dial => Phase::Connect,
            Stage::Send => Phase::Send,
            Stage::Recv if answered => Phase::Receive,
            Stage::Recv => Phase::Wait,
        };
        match errno {
            libc::ECONNREFUSED => Self::ConnectRefused,
            libc::ETIMEDOUT if stage == Stage::Dial => Self::ConnectTimeout,
            // Later, such an error is that of a connection which stood: no other address may be tried.
            libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES | libc::EPERM | libc::EADDRNOTAVAIL
                if stage == Stage::Dial =>
            {
                Self::Unreachable(errno)
            }
            libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => Self::Reset,
            libc::EMFILE | libc::ENFILE => Self::NoDescriptors,
            _ => Self::Os(phase, errno),
        }
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectRefused => f.write_str("connect: connection refused"),
            Self::ConnectTimeout => f.write_str("connect: connection timed out"),
            Self::Unreachable(errno) => write!(f, "connect: {}", OsText(*errno)),
            Self::DeadlineExceeded(Phase::Handshake) => {
                f.write_str("context deadline exceeded during the TLS handshake")
            }
            Self::DeadlineExceeded(_) => f.write_str("context deadline exceeded"),
            Self::Reset => f.write_str("read: connection reset by peer"),
            Self::Response(e) => e.fmt(f),
            Self::Tls(fault) => fault.fmt(f),
            Self::NoDescriptors => f.write_str("socket: too many open files"),
            Self::Blocked(reason) => write!(f, "connect: blocked by policy: {reason}"),
            Self::Cancelled => f.write_str("context canceled"),
            Self::NotKept => f.write_str("no kept connection"),
            Self::Os(Phase::Connect, errno) => write!(f, "connect: {}", OsText(*errno)),
            Self::Os(Phase::Send, errno) => write!(f, "write: {}", OsText(*errno)),
            Self::Os(Phase::Handshake | Phase::Wait | Phase::Receive, errno) => write!(f, "read: {}", OsText(*errno)),
        }
    }
}

impl std::error::Error for NetError {}

/// The system's text of an errno, in lower case and without its number, as Go prints it.
struct OsText(i32);

impl fmt::Display for OsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(&text.split(" (os error").next().unwrap_or_default().to_lowercase())
    }
}
