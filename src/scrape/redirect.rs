//! Where a redirect leads, and whether credentials may follow. prometheus/common: http_config.go; Go: net/http, Client.

use crate::scrape::spec::Host;

/// One place to fetch from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where to connect.
    pub host: Host,
    /// `Host` header.
    pub authority: String,
    /// Path and query of the request line.
    pub path: String,
}

/// Why a redirect cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectError {
    /// The `Location` header cannot be resolved against the present URL.
    BadLocation(String),
    /// Only http is spoken to targets.
    UnsupportedScheme(String),
}

impl std::fmt::Display for RedirectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadLocation(l) => write!(f, "failed to parse Location header {l:?}"),
            Self::UnsupportedScheme(s) => write!(f, "unsupported protocol scheme {s:?} in redirect"),
        }
    }
}

/// Resolves `location` against the URL that answered with it.
///
/// # Errors
/// See [`RedirectError`].
pub fn follow(authority: &str, path: &str, location: &str) -> Result<Place, RedirectError> {
    let bad = || RedirectError::BadLocation(location.to_owned());
    let base = url::Url::parse(&format!("http://{authority}{path}")).map_err(|_| bad())?;
    let next = base.join(location).map_err(|_| bad())?;
    if next.scheme() != "http" {
        return Err(RedirectError::UnsupportedScheme(next.scheme().to_owned()));
    }
    let port = next.port().unwrap_or(80);
    let host = match next.host().ok_or_else(bad)? {
        url::Host::Ipv4(ip) => Host::Addr((ip, port).into()),
        url::Host::Ipv6(ip) => Host::Addr((ip, port).into()),
        url::Host::Domain(name) => Host::Name { name: name.into(), port },
    };
    let text = next.host_str().unwrap_or_default();
    let authority = next.port().map_or_else(|| text.to_owned(), |p| format!("{text}:{p}"));
    let query = next.query().map_or_else(String::new, |q| format!("?{q}"));
    Ok(Place { host, authority, path: format!("{}{query}", next.path()) })
}

/// Whether `Authorization` may be sent on from the first host to the next: same host or a sub-domain of it.
#[must_use]
pub fn may_carry_credentials(first: &str, next: &str) -> bool {
    let (first, next) = (host_only(first).to_ascii_lowercase(), host_only(next).to_ascii_lowercase());
    first == next || (next.ends_with(&format!(".{first}")) && !first.is_empty() && !next.contains(':'))
}

fn host_only(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(i) if !authority[i..].contains(']') => &authority[..i],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(location: &str, want: &str) {
        let got = match follow("10.0.0.1:9100", "/a/metrics?x=1", location) {
            Ok(p) => format!("{} {}", p.authority, p.path),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, want, "{location}");
    }

    #[test]
    fn locations_resolve_as_urls_do() {
        check("/other", "10.0.0.1:9100 /other");
        check("b?c=d", "10.0.0.1:9100 /a/b?c=d");
        check("../m", "10.0.0.1:9100 /m");
        check("?y=2", "10.0.0.1:9100 /a/metrics?y=2");
        check("//10.0.0.2/x", "10.0.0.2 /x");
        check("http://example.org:81/x", "example.org:81 /x");
        check("http://[::1]:9/x", "[::1]:9 /x");
        check("https://example.org/", "unsupported protocol scheme \"https\" in redirect");
        check("http://:0:/", "failed to parse Location header \"http://:0:/\"");
    }

    #[test]
    fn credentials_stay_with_the_host_and_its_subdomains() {
        assert!(may_carry_credentials("a.org:80", "A.org:81"));
        assert!(may_carry_credentials("a.org", "b.a.org"));
        assert!(!may_carry_credentials("a.org", "ba.org"));
        assert!(!may_carry_credentials("10.0.0.1:9100", "10.0.0.2:9100"));
        assert!(may_carry_credentials("[::1]:80", "[::1]:81"));
    }
}
