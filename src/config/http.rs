//! The HTTP client block: authentication, TLS, redirects.

use super::errors::{At, NoteKind};
use super::fields::Fields;
use super::types::{Auth, HttpClient, Secret, SecretSource, Tls, TlsVersion};

/// Where the block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A scrape job.
    Scrape,
    /// A remote-write destination.
    RemoteWrite,
}

/// Reads the block out of the map it is part of. prometheus: common/config/http_config.go.
pub(super) fn http_client(f: &Fields<'_>, used: Use) -> HttpClient {
    let mut given = Vec::new();
    let auth = [basic_auth(f), authorization(f), bearer(f)]
        .into_iter()
        .flatten()
        .inspect(|(key, _)| given.push(*key))
        .map(|(_, auth)| auth)
        .collect::<Vec<_>>();
    if given.len() > 1 {
        f.error(given[1], format!("at most one way to authenticate may be given, found {}", given.join(" and ")));
    }
    let tls = f.value("tls_config").and_then(|i| tls(&i.at, i.node)).unwrap_or_default();
    if f.has("oauth2") {
        f.error("oauth2", "unsupported: use authorization with credentials_file, kept fresh by an agent beside");
    }
    f.unsupported(&["proxy_url", "no_proxy", "proxy_from_environment", "proxy_connect_header"], "no proxies");
    f.unsupported(
        &["http_headers"],
        match used {
            Use::Scrape => "scrapes send no extra headers",
            Use::RemoteWrite => "use headers",
        },
    );
    let _ = f.flag("enable_http2");
    HttpClient {
        auth: auth.into_iter().next().unwrap_or_default(),
        tls,
        follow_redirects: f.flag("follow_redirects").unwrap_or(true),
    }
}

fn basic_auth(f: &Fields<'_>) -> Option<(&'static str, Auth)> {
    let item = f.value("basic_auth")?;
    let f = Fields::new(&item.at, item.node)?;
    let username = f.secret(["username", "username_file", "username_ref"]);
    let password = f.secret(["password", "password_file", "password_ref"]);
    f.finish(|_| None);
    Some(("basic_auth", Auth::Basic { username, password }))
}

fn authorization(f: &Fields<'_>) -> Option<(&'static str, Auth)> {
    let item = f.value("authorization")?;
    let f = Fields::new(&item.at, item.node)?;
    let kind = f.text("type").map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).unwrap_or("Bearer".to_owned());
    if kind.eq_ignore_ascii_case("basic") {
        f.error("type", "cannot be basic here; use basic_auth");
    }
    let credentials = f.secret(["credentials", "credentials_file", "credentials_ref"]);
    f.finish(|_| None);
    Some(("authorization", Auth::Header { kind, credentials }))
}

/// The old spelling, folded into `authorization`.
fn bearer(f: &Fields<'_>) -> Option<(&'static str, Auth)> {
    let inline = f.text("bearer_token").filter(|t| !t.is_empty());
    let file = f.path_of("bearer_token_file");
    let key = if inline.is_some() { "bearer_token" } else { "bearer_token_file" };
    if inline.is_some() && file.is_some() {
        f.error("bearer_token_file", "at most one of bearer_token and bearer_token_file may be given");
    }
    let credentials = inline.map(|t| SecretSource::Inline(Secret::new(t))).or(file.map(SecretSource::File))?;
    Some((key, Auth::Header { kind: "Bearer".to_owned(), credentials: Some(credentials) }))
}

fn tls(at: &At<'_>, node: &super::node::Node) -> Option<Tls> {
    let f = Fields::new(at, node)?;
    let tls = Tls {
        ca: f.secret(["ca", "ca_file", "ca_ref"]),
        cert: f.secret(["cert", "cert_file", "cert_ref"]),
        key: f.secret(["key", "key_file", "key_ref"]),
        server_name: f.text("server_name").unwrap_or_default(),
        insecure_skip_verify: f.flag("insecure_skip_verify").unwrap_or(false),
        min_version: version(&f, "min_version"),
        max_version: version(&f, "max_version"),
    };
    if tls.min_version.zip(tls.max_version).is_some_and(|(least, most)| least > most) {
        f.error("max_version", "is below min_version");
    }
    if tls.cert.is_some() != tls.key.is_some() {
        at.error("a client certificate needs both cert_file and key_file");
    }
    f.finish(|_| None);
    Some(tls)
}

/// prometheus/common: http_config.go, TLSVersions.
fn version(f: &Fields<'_>, key: &'static str) -> Option<TlsVersion> {
    match f.text(key)?.as_str() {
        "" => None,
        "TLS12" => Some(TlsVersion::Tls12),
        "TLS13" => Some(TlsVersion::Tls13),
        "TLS10" | "TLS11" if key == "min_version" => {
            f.at.note(NoteKind::Warning, format!("{key}: TLS 1.2 is the least that is spoken"));
            None
        }
        old @ ("TLS10" | "TLS11") => {
            f.error(key, format!("unsupported: {old} is too weak to be spoken here; write TLS12 or TLS13"));
            None
        }
        other => {
            f.error(key, format!("unknown TLS version {other:?}, one of TLS12, TLS13"));
            None
        }
    }
}
