//! The jitter seed: what makes two scrapers of one configuration hit a target at different moments.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::base::names;
use crate::model::Labels;
use crate::scrape::target::{FNV_START, fnv1a};

/// FNV-1a over the machine's name and the text of the external labels.
/// prometheus: scrape/manager.go, setOffsetSeed.
#[must_use]
pub fn jitter_seed(fqdn: &str, external_labels: &Labels) -> u64 {
    fnv1a(fnv1a(FNV_START, fqdn.as_bytes()), external_labels.to_string().as_bytes())
}

/// The machine's name as Prometheus finds it: the host name's first address that has a name names the machine, else the
/// host name does. Asks the system's resolver, which may take seconds: call it once, before anything turns.
/// prometheus: util/osutil/hostname.go, GetFQDN.
///
/// # Errors
/// The system has no host name.
pub fn fqdn() -> std::io::Result<String> {
    let hostname = names::hostname()?;
    let addresses: Vec<SocketAddr> =
        (hostname.as_str(), 0).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    Ok(named(hostname, &addresses, names::reverse))
}

fn named(hostname: String, addresses: &[SocketAddr], reverse: impl Fn(SocketAddr) -> Option<String>) -> String {
    addresses.iter().find_map(|a| reverse(*a)).map_or(hostname, absolute)
}

/// Go ends names that have a dot with a dot; the system's resolver cuts it off. go: net/dnsclient.go, absDomainName.
fn absolute(mut name: String) -> String {
    if name.contains('.') && !name.ends_with('.') {
        name.push('.');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_those_prometheus_computed() {
        let labels = Labels::from_pairs([("foo", "bar"), ("monitor", "codelab")]);
        assert_eq!(jitter_seed("prom-0.example.org", &labels), 12_244_564_969_904_364_541);
        assert_eq!(jitter_seed("prom-0.example.org", &Labels::default()), 8_470_811_600_237_877_090);
    }

    #[test]
    fn the_first_address_with_a_name_names_the_machine() {
        let addresses: Vec<SocketAddr> = vec!["10.0.0.1:0".parse().unwrap(), "10.0.0.2:0".parse().unwrap()];
        let second = |a: SocketAddr| (a.ip().to_string() == "10.0.0.2").then(|| "h.example.org".to_owned());
        for (reverse, want) in [
            (&second as &dyn Fn(SocketAddr) -> Option<String>, "h.example.org."),
            (&|_| None, "host"),
            (&|_| Some("localhost".to_owned()), "localhost"),
            (&|_| Some("a.b.".to_owned()), "a.b."),
        ] {
            assert_eq!(named("host".to_owned(), &addresses, reverse), want);
        }
        assert_eq!(named("host".to_owned(), &[], second), "host");
    }

    #[test]
    fn this_machine_has_a_name() {
        assert!(!fqdn().unwrap().is_empty());
    }
}
