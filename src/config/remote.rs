//! `remote_write`: destinations and their queues.

use std::collections::BTreeMap;
use std::time::Duration;

use md5::{Digest, Md5};

use super::errors::{At, NoteKind};
use super::fields::Fields;
use super::http::{self, Use};
use super::node::{Kind, Node};
use super::rules::rules;
use super::types::{NameValidation, Queue, RemoteWrite};

/// Headers that the protocol sets itself. prometheus: config.go, reservedHeaders.
const RESERVED_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "user-agent",
    "www-authenticate",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-prometheus-remote-read-version",
    "x-prometheus-remote-write-version",
];

/// Reads all destinations and gives names to those without one.
pub(super) fn remote_write(f: &Fields<'_>, validation: NameValidation) -> Vec<RemoteWrite> {
    let Some((at, list)) = f.list("remote_write") else { return Vec::new() };
    let mut all: Vec<RemoteWrite> = Vec::new();
    for (i, node) in list.iter().enumerate() {
        let at = at.index(i, node.line);
        let Some(destination) = destination(&at, node, validation) else { continue };
        if !destination.name.is_empty() && all.iter().any(|d| d.name == destination.name) {
            at.error(format!("name {:?} is taken by an earlier destination", destination.name));
        }
        if all.contains(&destination) {
            at.error("the same destination is there twice");
        }
        all.push(destination);
    }
    name_the_nameless(&mut all);
    all
}

/// A name belongs to a destination's cursor, so it depends on the URL alone, and on the position among the nameless
/// destinations of the same URL.
fn name_the_nameless(all: &mut [RemoteWrite]) {
    for i in 0..all.len() {
        let mut turn = 0;
        while all[i].name.is_empty() {
            let digest: [u8; 16] = Md5::digest(format!("{}#{turn}", all[i].url).as_bytes()).into();
            let name = format!("{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]);
            if all.iter().all(|d| d.name != name) {
                all[i].name = name;
            }
            turn += 1;
        }
    }
}

/// prometheus: config.go, RemoteWriteConfig.UnmarshalYAML.
fn destination(at: &At<'_>, node: &Node, validation: NameValidation) -> Option<RemoteWrite> {
    if node.kind == Kind::Null {
        at.error("is empty; a destination is a map with at least url");
        return None;
    }
    let f = Fields::new(at, node)?;
    let remote = RemoteWrite {
        url: url(&f),
        name: f.text("name").unwrap_or_default(),
        remote_timeout: f.duration("remote_timeout").unwrap_or(Duration::from_secs(30)),
        headers: headers(&f),
        write_relabel_configs: rules(&f, "write_relabel_configs", validation),
        queue: queue(&f),
        http: http::http_client(&f, Use::RemoteWrite),
    };
    // prometheus: it loads, and no request of it ever ends well.
    if remote.remote_timeout.is_zero() {
        at.note(NoteKind::Warning, "remote_timeout is 0: no request can be answered in time");
    }
    f.unsupported(&["send_exemplars"], "exemplars are not sent");
    f.unsupported(&["send_native_histograms"], "native histograms are not scraped");
    f.unsupported(&["round_robin_dns"], "all addresses of a name are tried in turn anyway");
    const SIGNED: &str = "use basic_auth or authorization, or a signing proxy beside";
    f.unsupported(&["sigv4", "google_iam"], SIGNED);
    if f.has("azuread") {
        f.error("azuread", format!("unsupported: {SIGNED}"));
    }
    f.no_effect(&["failed_request_logging"]);
    message(&f);
    metadata(&f);
    f.finish(|_| None);
    Some(remote)
}

fn url(f: &Fields<'_>) -> String {
    let url = f.text("url").unwrap_or_default();
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let authority = rest.map(|r| r.split(['/', '?', '#']).next().unwrap_or_default());
    match authority {
        _ if url.is_empty() => f.error("url", "is missing; write for example http://host:9090/api/v1/write"),
        None => f.error("url", "must begin with http:// or https://"),
        Some(a) if a.contains('@') => f.error("url", "must not carry credentials; use basic_auth"),
        Some(a) if a.is_empty() || a.starts_with(':') => f.error("url", "has no host"),
        Some(a) if a.contains(char::is_whitespace) => f.error("url", "has a blank in its host"),
        Some(a) if !has_good_port(a) => f.error("url", "must have a host, or a host and the number of a port"),
        Some(_) if url.contains(|c: char| c.is_ascii_control()) => f.error("url", "has a control character"),
        Some(_) if !is_escaped(&url) => f.error("url", "has a % that no two hexadecimal digits follow"),
        Some(_) => {}
    }
    url
}

/// go: net/url, parseHost.
fn has_good_port(authority: &str) -> bool {
    let after = match (authority.strip_prefix('['), authority.split_once(']')) {
        (Some(_), Some((_, after))) => after,
        (Some(_), None) => return false,
        (None, _) => authority.find(':').map_or("", |at| &authority[at..]),
    };
    after.is_empty() || after.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// The query may hold anything. go: net/url, unescape.
fn is_escaped(url: &str) -> bool {
    let path = url.split('?').next().unwrap_or_default();
    let mut parts = path.split('%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

fn headers(f: &Fields<'_>) -> BTreeMap<String, String> {
    let headers = f.text_map("headers");
    for (name, value) in &headers {
        let lower = name.to_ascii_lowercase();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if lower == "authorization" {
            f.error("headers", "Authorization is set by basic_auth or authorization");
        } else if RESERVED_HEADERS.contains(&lower.as_str()) {
            f.error("headers", format!("{name} is reserved; it must not be changed"));
        } else if name.is_empty() || !name.bytes().all(token) {
            f.error("headers", format!("{name:?} is not a header name"));
        } else if value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
            f.error("headers", format!("the value of {name} has control characters"));
        }
    }
    headers
}

fn message(f: &Fields<'_>) {
    let Some(message) = f.text("protobuf_message") else { return };
    match message.as_str() {
        "prometheus.WriteRequest" => {}
        "io.prometheus.write.v2.Request" => {
            f.error("protobuf_message", "unsupported: only prometheus.WriteRequest so far");
        }
        other => f.error("protobuf_message", format!("unknown message {other:?}; write prometheus.WriteRequest")),
    }
}

/// Metadata is not sent; the section is checked all the same.
fn metadata(f: &Fields<'_>) {
    let Some(item) = f.item("metadata_config") else { return };
    item.at.note(NoteKind::NoEffect, "");
    let Some(f) = Fields::new(&item.at, item.node) else { return };
    let _ = (f.flag("send"), f.duration("send_interval"), f.count("max_samples_per_send"));
    f.finish(|_| None);
}

/// Samples per request where the file says nothing. Prometheus has 2,000; a request costs about 40 us here, and
/// receivers take the 10,000 that vmagent sends.
const SAMPLES_PER_SEND: u64 = 10_000;

/// prometheus: config.go, DefaultQueueConfig and QueueConfig.Validate.
fn queue(f: &Fields<'_>) -> Queue {
    let default = Queue {
        capacity: 10_000,
        max_shards: 50,
        min_shards: 1,
        max_samples_per_send: SAMPLES_PER_SEND,
        batch_send_deadline: Duration::from_secs(5),
        min_backoff: Duration::from_millis(30),
        max_backoff: Duration::from_secs(5),
        retry_on_http_429: None,
        sample_age_limit: Duration::ZERO,
    };
    let Some(item) = f.item("queue_config") else { return default };
    if item.node.kind == Kind::Null {
        item.at.error("is empty; remove it");
        return default;
    }
    let Some(f) = Fields::new(&item.at, item.node) else { return default };
    let positive = |key: &'static str, default: u64| {
        let given = f.count(key);
        match given {
            Some(0) => f.error(key, "must be above 0"),
            Some(n) if i64::try_from(n).is_err() => f.error(key, "is too large"),
            _ => {}
        }
        given.unwrap_or(default)
    };
    let queue = Queue {
        capacity: positive("capacity", default.capacity),
        max_shards: positive("max_shards", default.max_shards),
        min_shards: positive("min_shards", default.min_shards),
        max_samples_per_send: positive("max_samples_per_send", default.max_samples_per_send),
        batch_send_deadline: f.duration("batch_send_deadline").unwrap_or(default.batch_send_deadline),
        min_backoff: f.duration("min_backoff").unwrap_or(default.min_backoff),
        max_backoff: f.duration("max_backoff").unwrap_or(default.max_backoff),
        retry_on_http_429: f.flag("retry_on_http_429"),
        sample_age_limit: f.duration("sample_age_limit").unwrap_or_default(),
    };
    if queue.max_shards > 0 && queue.min_shards > queue.max_shards {
        f.error("min_shards", format!("must not be above max_shards ({})", queue.max_shards));
    }
    if queue.max_backoff < queue.min_backoff {
        f.error("max_backoff", "must not be shorter than min_backoff");
    }
    f.finish(|_| None);
    queue
}
