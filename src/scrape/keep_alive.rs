//! Whether a target's connection is kept for its next scrape.

use super::spec::Scheme;
use crate::net::Link;

/// With `auto`, connections of targets with longer intervals are not kept, nanoseconds.
const KEPT_INTERVAL_NS_MAX: i64 = 30_000_000_000;

/// `--scrape.keep-alive`. Prometheus keeps every connection; an idle one costs both ends some 4 KB in the kernel, and a dial
/// costs about what it costs to wake a connection that has left all caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepAlive {
    /// Kept when the interval is at most 30 s, and always over TLS, whose handshake is dear.
    Auto,
    /// Kept for as long as the target allows, at most 5 minutes.
    #[default]
    Always,
    /// A connection for each scrape.
    Never,
}

impl KeepAlive {
    /// The link for a scrape of a target with this interval, nanoseconds.
    #[must_use]
    pub fn link(self, interval_ns: i64, scheme: Scheme) -> Link {
        let keeps = match self {
            Self::Auto => interval_ns <= KEPT_INTERVAL_NS_MAX || scheme == Scheme::Https,
            Self::Always => true,
            Self::Never => false,
        };
        if keeps { Link::Keep } else { Link::Fresh }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_keeps_what_is_soon_used_again() {
        let seconds = |s: i64| s * 1_000_000_000;
        for (policy, scheme, interval_s, link) in [
            (KeepAlive::Auto, Scheme::Http, 15, Link::Keep),
            (KeepAlive::Auto, Scheme::Http, 30, Link::Keep),
            (KeepAlive::Auto, Scheme::Http, 60, Link::Fresh),
            (KeepAlive::Auto, Scheme::Https, 60, Link::Keep),
            (KeepAlive::Always, Scheme::Http, 600, Link::Keep),
            (KeepAlive::Never, Scheme::Https, 1, Link::Fresh),
        ] {
            assert_eq!(policy.link(seconds(interval_s), scheme), link, "{policy:?}, {scheme:?} at {interval_s} s");
        }
    }
}
