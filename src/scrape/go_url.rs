//! URLs spelled as Go spells them: the spelling is part of a target's hash, and of what a target is sent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::Host;

/// Where an encoded text stands in a URL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Host,
    Path,
    Query,
}

/// Whether Go writes the byte as it is. go: net/url, encoding_table.go.
fn is_plain(c: u8, place: Place) -> bool {
    match c {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => true,
        b'$' | b'&' | b'+' | b',' | b':' | b';' | b'=' => place != Place::Query,
        b'/' | b'@' => place == Place::Path,
        b'!' | b'"' | b'\'' | b'(' | b')' | b'*' | b'<' | b'>' | b'[' | b']' => place == Place::Host,
        _ => false,
    }
}

fn escape(text: &str, place: Place) -> Cow<'_, str> {
    if text.bytes().all(|c| is_plain(c, place)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    escape_onto(&mut out, text, place);
    Cow::Owned(out)
}

fn escape_onto(out: &mut String, text: &str, place: Place) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for c in text.bytes() {
        match c {
            c if is_plain(c, place) => out.push(char::from(c)),
            b' ' if place == Place::Query => out.push('+'),
            c => {
                out.push('%');
                out.push(char::from(HEX[usize::from(c >> 4)]));
                out.push(char::from(HEX[usize::from(c & 15)]));
            }
        }
    }
}

/// `k=v&k=w`, keys sorted, form encoding. go: net/url, Values.Encode.
pub(super) fn query(params: &BTreeMap<&str, Vec<&str>>) -> String {
    let mut out = String::new();
    for (key, values) in params {
        for value in values {
            if !out.is_empty() {
                out.push('&');
            }
            escape_onto(&mut out, key, Place::Query);
            out.push('=');
            escape_onto(&mut out, value, Place::Query);
        }
    }
    out
}

/// `scheme://host/path?query`; the host is never empty here. go: net/url, URL.String.
pub(super) fn url(scheme: &str, host: &str, path: &str, query: &str) -> String {
    let mut out = String::with_capacity(scheme.len() + host.len() + path.len() + query.len() + 8);
    if !scheme.is_empty() {
        out.push_str(scheme);
        out.push(':');
    }
    out.push_str("//");
    out.push_str(&escape(host, Place::Host));
    let path = escaped_path(path);
    if !path.is_empty() && !path.starts_with('/') {
        out.push('/');
    }
    out.push_str(&path);
    if !query.is_empty() {
        out.push('?');
        out.push_str(query);
    }
    out
}

/// The lone asterisk is a request form of its own and stays. go: net/url, URL.EscapedPath.
fn escaped_path(path: &str) -> Cow<'_, str> {
    if path == "*" { Cow::Borrowed(path) } else { escape(path, Place::Path) }
}

/// What the request line carries: never empty. go: net/url, URL.RequestURI.
pub(super) fn request_path(path: &str, query: &str) -> String {
    let path = escaped_path(path);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{slash}{path}{mark}{query}")
}

/// The `Host` header: as written, without a bare trailing colon, and encoded, so that nothing in an address can end
/// the header line. go: net/http, removeEmptyPort.
pub(super) fn authority(address: &str) -> Box<str> {
    let address = match address.strip_suffix(':') {
        Some(host) if split_port(address).is_some() => host,
        _ => address,
    };
    escape(address, Place::Host).into()
}

/// Where an address leads. What is no valid address becomes a name that cannot be resolved, so that such a target is
/// scraped and down, as with Prometheus. go: net/http, canonicalAddr.
pub(super) fn host(address: &str, port_default: u16) -> Host {
    let (name, port) = match split_port(address) {
        // go: net, Dial: without a host it is this machine.
        Some(("", port)) => ("localhost", port),
        Some(parts) => parts,
        None => (address, ""),
    };
    let (name, port) = match (name, port) {
        (name, "") => (name, port_default),
        (name, port) => match port.parse() {
            Ok(port) => (name, port),
            Err(_) => return Host::Name { name: address.into(), port: port_default },
        },
    };
    let bare = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(inside) => inside,
        None if name.contains(':') => return Host::Name { name: address.into(), port: port_default },
        None => name,
    };
    match bare.parse::<IpAddr>() {
        Ok(ip) => Host::Addr(SocketAddr::new(ip, port)),
        Err(_) => Host::Name { name: bare.into(), port },
    }
}

/// Host and port around the last colon that is not inside brackets.
fn split_port(address: &str) -> Option<(&str, &str)> {
    let (name, port) = address.rsplit_once(':')?;
    (!port.contains(']')).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_spelled_as_go_spells_them() {
        // Each expectation was printed by Go's net/url.
        for (host, path, q, want) in [
            ("h:1", "/metrics", "", "http://h:1/metrics"),
            ("h:1", "metrics", "a=b", "http://h:1/metrics?a=b"),
            ("h", "", "", "http://h"),
            ("h", "/a b?c#d", "", "http://h/a%20b%3Fc%23d"),
            ("h", "/é", "", "http://h/%C3%A9"),
            ("h", "/$&+,:;=@!*'()[]%41", "", "http://h/$&+,:;=@%21%2A%27%28%29%5B%5D%2541"),
            ("h", "*", "", "http://h/*"),
            ("[::1]:9", "/m", "", "http://[::1]:9/m"),
            ("u@h", "/m", "", "http://u%40h/m"),
            ("h h", "/m", "", "http://h%20h/m"),
        ] {
            assert_eq!(url("http", host, path, q), want);
        }
    }

    #[test]
    fn queries_are_sorted_and_form_encoded() {
        let params = BTreeMap::from([("z", vec!["1", "a b"]), ("a[]", vec!["x&y=~*"]), ("e", vec![""]), ("n", vec![])]);
        assert_eq!(query(&params), "a%5B%5D=x%26y%3D~%2A&e=&z=1&z=a+b");
    }

    #[test]
    fn request_paths_are_never_empty() {
        for (path, q, want) in
            [("", "", "/"), ("", "a=1", "/?a=1"), ("m", "", "/m"), ("/m", "a=1", "/m?a=1"), ("/a?b", "", "/a%3Fb")]
        {
            assert_eq!(request_path(path, q), want);
        }
    }

    #[test]
    fn addresses_lead_where_go_dials() {
        let name = |name: &str, port| Host::Name { name: name.into(), port };
        for (address, want) in [
            ("10.0.0.1:9100", Host::Addr("10.0.0.1:9100".parse().unwrap())),
            ("10.0.0.1", Host::Addr("10.0.0.1:80".parse().unwrap())),
            ("[::1]:9100", Host::Addr("[::1]:9100".parse().unwrap())),
            ("[::1]", Host::Addr("[::1]:80".parse().unwrap())),
            ("[::1]:", Host::Addr("[::1]:80".parse().unwrap())),
            ("node-1.example.org:9100", name("node-1.example.org", 9100)),
            ("node-1.example.org", name("node-1.example.org", 80)),
            ("node:", name("node", 80)),
            (":9100", name("localhost", 9100)),
            (":", name("localhost", 80)),
            ("node:http", name("node:http", 80)),
            ("node:99999", name("node:99999", 80)),
            ("::1", name("::1", 80)),
            ("a:b:1", name("a:b:1", 80)),
            ("[fe80::1%eth0]:9", name("fe80::1%eth0", 9)),
        ] {
            assert_eq!(host(address, 80), want, "{address}");
        }
    }

    #[test]
    fn no_address_can_end_the_host_header() {
        assert_eq!(&*authority("node:9100"), "node:9100");
        assert_eq!(&*authority("node:"), "node");
        assert_eq!(&*authority("[::1]:9100"), "[::1]:9100");
        assert_eq!(&*authority("a\r\nX: y"), "a%0D%0AX:%20y");
    }
}
