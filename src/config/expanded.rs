//! The configuration as it is in force: with defaults, without secrets. prometheus: config.go, Config.String.
//!
//! Keys and their order are Prometheus's. What has no meaning here is shown as it was written, without defaults: those of
//! sections that do nothing would say something untrue.

use std::time::Duration;

use super::duration;
use super::global::{Inherited, Limits, PROTOCOLS};
use super::node::{Kind, Node};
use super::redact;
use super::rules::ACTIONS;
use super::size;
use super::tags::truth;
use super::types::{
    Auth, Config, FileSdConfig, HttpClient, NameValidation, Queue, RelabelConfig, RemoteWrite, ScrapeConfig,
    ScrapeProtocol, SecretSource, TargetGroup, Tls, TlsVersion,
};
use super::yaml_out::{SECRET, YamlOut};

/// A checked main file as YAML.
pub(super) fn expanded(root: &Node, config: &Config, inherited: &Inherited, job_files: &[String]) -> String {
    let mut out = YamlOut::default();
    let as_read = |out: &mut YamlOut, key: &str| {
        if let Some(node) = child(root, key).filter(|node| node.kind != Kind::Null) {
            out.as_read(key, node);
        }
    };
    out.section("global", |out| global(out, child(root, "global").unwrap_or(&Node::null()), inherited));
    ["runtime", "alerting", "rule_files"].iter().for_each(|key| as_read(&mut out, key));
    if !job_files.is_empty() {
        out.strings("scrape_config_files", job_files);
    }
    // Those of other files come behind those of this one, and are shown there only.
    let jobs: Vec<_> = list(root, "scrape_configs").iter().zip(&config.scrape_configs).collect();
    out.items("scrape_configs", &jobs, |out, (node, job)| scrape(out, node, job));
    ["storage", "tracing"].iter().for_each(|key| as_read(&mut out, key));
    let remotes: Vec<_> = list(root, "remote_write").iter().zip(&config.remote_write).collect();
    out.items("remote_write", &remotes, |out, (node, remote)| remote_write(out, node, remote));
    ["remote_read", "otlp"].iter().for_each(|key| as_read(&mut out, key));
    out.finish()
}

fn child<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Kind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|e| e.key == key).map(|e| &e.value)
}

fn list<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    match child(node, key).map(|n| &n.kind) {
        Some(Kind::List(list)) => list,
        _ => &[],
    }
}

fn text_of<'a>(node: &'a Node, key: &str) -> &'a str {
    match child(node, key).map(|n| &n.kind) {
        Some(Kind::Scalar { text, .. }) => text,
        _ => "",
    }
}

fn global(out: &mut YamlOut, node: &Node, inherited: &Inherited) {
    let global = &inherited.global;
    span(out, "scrape_interval", global.scrape_interval);
    span(out, "scrape_timeout", global.scrape_timeout);
    if let Some(list) = &inherited.protocols {
        protocols(out, list);
    }
    let written = |key| duration::parse(text_of(node, key)).ok().filter(|d| !d.is_zero());
    span(out, "evaluation_interval", written("evaluation_interval").unwrap_or(Duration::from_secs(60)));
    if let Some(offset) = written("rule_query_offset") {
        span(out, "rule_query_offset", offset);
    }
    out.some_string("query_log_file", text_of(node, "query_log_file"));
    let labels: Vec<_> = global.external_labels.iter().collect();
    if !labels.is_empty() {
        out.section("external_labels", |out| labels.iter().for_each(|(name, value)| out.string(name, value)));
    }
    limits(out, &inherited.limits);
    out.word("metric_name_validation_scheme", validation(inherited.validation));
    // prometheus: only the default of the whole section spells it out.
    let escaping = if node.kind == Kind::Null { "allow-utf-8" } else { text_of(node, "metric_name_escaping_scheme") };
    out.some_string("metric_name_escaping_scheme", escaping);
    out.word("scrape_native_histograms", false);
    out.word("extra_scrape_metrics", inherited.extra_scrape_metrics);
}

fn limits(out: &mut YamlOut, limits: &Limits) {
    if let Some(bytes) = limits.body_size.filter(|n| *n > 0) {
        out.word("body_size_limit", size::print(bytes));
    }
    for (key, limit) in [
        ("sample_limit", limits.samples),
        ("target_limit", limits.targets),
        ("label_limit", limits.labels),
        ("label_name_length_limit", limits.label_name_length),
        ("label_value_length_limit", limits.label_value_length),
        ("keep_dropped_targets", limits.dropped_targets),
    ] {
        out.some_count(key, limit.unwrap_or(0));
    }
}

fn span(out: &mut YamlOut, key: &str, span: Duration) {
    out.word(key, duration::print(span));
}

fn protocol(protocol: ScrapeProtocol) -> &'static str {
    PROTOCOLS.iter().find(|(_, p)| *p == protocol).map_or("", |(name, _)| *name)
}

fn protocols(out: &mut YamlOut, list: &[ScrapeProtocol]) {
    let names: Vec<_> = list.iter().map(|p| protocol(*p)).collect();
    out.strings("scrape_protocols", &names);
}

fn validation(validation: NameValidation) -> &'static str {
    match validation {
        NameValidation::Utf8 => "utf8",
        NameValidation::Legacy => "legacy",
    }
}

fn scrape(out: &mut YamlOut, node: &Node, job: &ScrapeConfig) {
    out.string("job_name", &job.job_name);
    if job.honor_labels {
        out.word("honor_labels", true);
    }
    out.word("honor_timestamps", job.honor_timestamps);
    out.word("track_timestamps_staleness", job.track_timestamps_staleness);
    if !job.params.is_empty() {
        out.section("params", |out| job.params.iter().for_each(|(name, values)| out.strings(name, values)));
    }
    span(out, "scrape_interval", job.scrape_interval);
    span(out, "scrape_timeout", job.scrape_timeout);
    protocols(out, &job.scrape_protocols);
    if let Some(fallback) = job.fallback_scrape_protocol {
        out.word("fallback_scrape_protocol", protocol(fallback));
    }
    for key in ["scrape_native_histograms", "always_scrape_classic_histograms", "convert_classic_histograms_to_nhcb"] {
        out.word(key, false);
    }
    out.some_string("metrics_path", &job.metrics_path);
    out.some_string("scheme", &job.scheme);
    out.word("enable_compression", job.enable_compression);
    limits(
        out,
        &Limits {
            body_size: Some(job.body_size_limit),
            samples: Some(job.sample_limit),
            targets: Some(job.target_limit),
            labels: Some(job.label_limit),
            label_name_length: Some(job.label_name_length_limit),
            label_value_length: Some(job.label_value_length_limit),
            dropped_targets: Some(job.keep_dropped_targets),
        },
    );
    out.word("metric_name_validation_scheme", validation(job.name_validation));
    let escaping = match job.name_validation {
        NameValidation::Utf8 => "allow-utf-8",
        NameValidation::Legacy => "underscores",
    };
    out.word("metric_name_escaping_scheme", escaping);
    out.word("extra_scrape_metrics", job.extra_scrape_metrics);
    http(out, &job.http, is_on(node, "enable_http2", true));
    out.items("relabel_configs", &job.relabel_configs, relabel);
    out.items("metric_relabel_configs", &job.metric_relabel_configs, relabel);
    out.items("file_sd_configs", &job.file_sd_configs, file_sd);
    out.items("static_configs", &job.static_configs, group);
}

fn is_on(node: &Node, key: &str, default: bool) -> bool {
    match child(node, key).map(|n| &n.kind) {
        None => default,
        Some(Kind::Scalar { text, .. }) => truth(text).unwrap_or(default),
        Some(_) => false,
    }
}

fn relabel(out: &mut YamlOut, rule: &RelabelConfig) {
    if !rule.source_labels.is_empty() {
        out.strings("source_labels", &rule.source_labels);
    }
    out.some_string("separator", &rule.separator);
    if rule.regex != "(.*)" {
        out.string("regex", &rule.regex);
    }
    out.some_count("modulus", rule.modulus);
    out.some_string("target_label", &rule.target_label);
    out.string("replacement", &rule.replacement);
    out.word("action", ACTIONS.iter().find(|(_, a)| *a == rule.action).map_or("", |(name, _)| *name));
}

fn file_sd(out: &mut YamlOut, config: &FileSdConfig) {
    out.strings("files", &config.files);
    span(out, "refresh_interval", config.refresh_interval);
}

fn group(out: &mut YamlOut, group: &TargetGroup) {
    let targets: Vec<_> = group.targets.iter().map(|t| t.get("__address__").unwrap_or_default().to_owned()).collect();
    out.strings("targets", &targets);
    let labels: Vec<_> = group.labels.iter().collect();
    if !labels.is_empty() {
        out.section("labels", |out| labels.iter().for_each(|(name, value)| out.string(name, value)));
    }
}

fn http(out: &mut YamlOut, http: &HttpClient, http2: bool) {
    match &http.auth {
        Auth::None => {}
        Auth::Basic { username, password } => out.section("basic_auth", |out| {
            open(out, ["username", "username_file"], username.as_ref());
            source(out, ["password", "password_file"], password.as_ref());
        }),
        Auth::Header { kind, credentials } => out.section("authorization", |out| {
            out.string("type", kind);
            source(out, ["credentials", "credentials_file"], credentials.as_ref());
        }),
    }
    if http.tls != Tls::default() {
        out.section("tls_config", |out| tls(out, &http.tls));
    }
    out.word("follow_redirects", http.follow_redirects);
    out.word("enable_http2", http2);
}

/// What is no secret, though it may come from a file like one.
fn open(out: &mut YamlOut, keys: [&str; 2], given: Option<&SecretSource>) {
    match given {
        Some(SecretSource::Inline(text)) => out.string(keys[0], text.reveal()),
        other => source(out, keys, other),
    }
}

fn source(out: &mut YamlOut, [inline, file]: [&str; 2], source: Option<&SecretSource>) {
    match source {
        None => {}
        Some(SecretSource::Inline(_)) => out.word(inline, SECRET),
        Some(SecretSource::File(path)) => out.string(file, &path.to_string_lossy()),
    }
}

fn tls(out: &mut YamlOut, tls: &Tls) {
    open(out, ["ca", "ca_file"], tls.ca.as_ref());
    open(out, ["cert", "cert_file"], tls.cert.as_ref());
    source(out, ["key", "key_file"], tls.key.as_ref());
    out.some_string("server_name", &tls.server_name);
    out.word("insecure_skip_verify", tls.insecure_skip_verify);
    for (key, version) in [("min_version", tls.min_version), ("max_version", tls.max_version)] {
        if let Some(version) = version {
            out.word(key, if version == TlsVersion::Tls12 { "TLS12" } else { "TLS13" });
        }
    }
}

fn remote_write(out: &mut YamlOut, node: &Node, remote: &RemoteWrite) {
    out.string("url", &remote.url);
    span(out, "remote_timeout", remote.remote_timeout);
    if !remote.headers.is_empty() {
        out.section("headers", |out| {
            for (name, value) in &remote.headers {
                if redact::is_secret_header(name) { out.word(name, SECRET) } else { out.string(name, value) }
            }
        });
    }
    out.items("write_relabel_configs", &remote.write_relabel_configs, relabel);
    out.some_string("name", text_of(node, "name"));
    out.word("protobuf_message", "prometheus.WriteRequest");
    http(out, &remote.http, is_on(node, "enable_http2", false));
    out.section("queue_config", |out| queue(out, &remote.queue));
    if let Some(metadata) = child(node, "metadata_config").filter(|n| n.kind != Kind::Null) {
        out.as_read("metadata_config", metadata);
    }
}

fn queue(out: &mut YamlOut, queue: &Queue) {
    out.word("capacity", queue.capacity);
    out.word("max_shards", queue.max_shards);
    out.word("min_shards", queue.min_shards);
    out.word("max_samples_per_send", queue.max_samples_per_send);
    span(out, "batch_send_deadline", queue.batch_send_deadline);
    span(out, "min_backoff", queue.min_backoff);
    span(out, "max_backoff", queue.max_backoff);
    if let Some(retries) = queue.retry_on_http_429 {
        out.word("retry_on_http_429", retries);
    }
    if !queue.sample_age_limit.is_zero() {
        span(out, "sample_age_limit", queue.sample_age_limit);
    }
}
