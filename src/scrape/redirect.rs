//! Where a redirect leads, and whether credentials may follow. prometheus/common: http_config.go; Go: net/http, Client.

use crate::scrape::spec::{Host, Scheme};

/// One place to fetch from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In clear text or over TLS.
    pub scheme: Scheme,
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
    /// Only http and https are spoken to targets.
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

impl Place {
    /// As errors show it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme.name(), self.authority, self.path)
    }
}

/// Resolves `location` against the URL that answered with it.
///
/// # Errors
/// See [`RedirectError`].
pub fn follow(url: &str, location: &str) -> Result<Place, RedirectError> {
    let bad = || RedirectError::BadLocation(location.to_owned());
    let base = url::Url::parse(url).map_err(|_| bad())?;
    let next = base.join(location).map_err(|_| bad())?;
    let unsupported = || RedirectError::UnsupportedScheme(next.scheme().to_owned());
    let scheme = Scheme::of(next.scheme()).ok_or_else(unsupported)?;
    let port = next.port().unwrap_or(scheme.port());
    let host = match next.host().ok_or_else(bad)? {
        url::Host::Ipv4(ip) => Host::Addr((ip, port).into()),
        url::Host::Ipv6(ip) => Host::Addr((ip, port).into()),
        url::Host::Domain(name) => Host::Name { name: name.into(), port },
    };
    let text = next.host_str().unwrap_or_default();
    let authority = next.port().map_or_else(|| text.to_owned(), |p| format!("{text}:{p}"));
    let query = next.query().map_or_else(String::new, |q| format!("?{q}"));
    Ok(Place { scheme, host, authority, path: format!("{}{query}", next.path()) })
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
        let got = match follow("http://10.0.0.1:9100/a/metrics?x=1", location) {
            Ok(p) => p.url(),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, want, "{location}");
    }

    #[test]
    fn locations_resolve_as_urls_do() {
        check("/other", "http://10.0.0.1:9100/other");
        check("b?c=d", "http://10.0.0.1:9100/a/b?c=d");
        check("../m", "http://10.0.0.1:9100/m");
        check("?y=2", "http://10.0.0.1:9100/a/metrics?y=2");
        check("//10.0.0.2/x", "http://10.0.0.2/x");
        check("http://example.org:81/x", "http://example.org:81/x");
        check("http://[::1]:9/x", "http://[::1]:9/x");
        check("https://example.org/", "https://example.org/");
        check("ftp://example.org/", "unsupported protocol scheme \"ftp\" in redirect");
        let port = |host: Host| match host {
            Host::Name { port, .. } => port,
            Host::Addr(addr) => addr.port(),
            Host::Nowhere(_) => 0,
        };
        assert_eq!(port(follow("http://a/b", "https://b/").unwrap().host), 443);
        assert_eq!(follow("https://1.2.3.4/b", "/c").unwrap().host, Host::Addr("1.2.3.4:443".parse().unwrap()));
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
