//! The address a browser elsewhere would use for a target on this machine. prometheus: api.go, getGlobalURL.

/// Who we are, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outside {
    /// Scheme and authority of the external URL; `None` when only a path was given: nothing is rewritten then.
    base: Option<(String, String)>,
    /// Port of the first listening address.
    own_port: String,
    /// Path of the external URL, without trailing slash.
    pub path: String,
}

impl Outside {
    pub(super) fn new(external_url: &str, listen_address: &str) -> Self {
        let own_port = split_port(listen_address).1.to_owned();
        let Some((scheme, rest)) = external_url.split_once("://") else {
            return Self { base: None, own_port, path: external_url.trim_end_matches('/').to_owned() };
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/').to_owned();
        // User information names nobody a target's link should carry.
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Self { base: Some((scheme.to_owned(), authority.to_owned())), own_port, path }
    }

    /// `url` with a loopback host replaced by ours; scheme and port too when the port is our own.
    pub(super) fn global_url(&self, url: &str) -> String {
        let (Some((scheme, authority)), Some((own_scheme, rest))) = (&self.base, url.split_once("://")) else {
            return url.to_owned();
        };
        let (target, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = split_port(target);
        if !matches!(host, "127.0.0.1" | "localhost" | "::1") {
            return url.to_owned();
        }
        if port == self.own_port {
            return format!("{scheme}://{authority}{path}");
        }
        let (host, _) = split_port(authority);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let colon = if port.is_empty() { "" } else { ":" };
        format!("{own_scheme}://{host}{colon}{port}{path}")
    }
}

/// Host without brackets, and port or nothing.
fn split_port(authority: &str) -> (&str, &str) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, port.trim_start_matches(':'));
    }
    authority.rsplit_once(':').unwrap_or((authority, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_replaced_by_the_name_others_use() {
        let at = |external: &str, url: &str| Outside::new(external, "127.0.0.1:9099").global_url(url);
        let ours = "https://scrape.example:444/x";
        assert_eq!(at(ours, "http://127.0.0.1:9099/x/metrics"), "https://scrape.example:444/x/metrics");
        assert_eq!(at(ours, "http://localhost:9100/metrics?a=b"), "http://scrape.example:9100/metrics?a=b");
        assert_eq!(at(ours, "http://[::1]:9100/"), "http://scrape.example:9100/");
        assert_eq!(at(ours, "http://localhost/m"), "http://scrape.example/m");
        assert_eq!(at(ours, "http://10.0.0.1:9099/m"), "http://10.0.0.1:9099/m");
        assert_eq!(at("http://[2001:db8::1]:1", "http://localhost:2/m"), "http://[2001:db8::1]:2/m");
        assert_eq!(at("http://me:pw@h:1", "http://localhost:9099/m"), "http://h:1/m");
        assert_eq!(at("/east", "http://localhost:9100/m"), "http://localhost:9100/m");
    }

    #[test]
    fn the_path_is_kept_apart() {
        assert_eq!(Outside::new("https://h/a/b/", ":1").path, "/a/b");
        assert_eq!(Outside::new("/east", ":1").path, "/east");
        assert_eq!(Outside::new("http://h:1", ":1").path, "");
    }
}
