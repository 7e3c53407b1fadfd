//! `scrape_configs`: one job with everything it inherits.

use std::collections::BTreeMap;
use std::time::Duration;

use super::errors::{At, NoteKind};
use super::fields::Fields;
use super::global::{self, Inherited, Limits};
use super::groups::yaml_group;
use super::http::{self, Use};
use super::node::{Kind, Node};
use super::rules::rules;
use super::types::{FileSdConfig, ScrapeConfig, ScrapeProtocol, TargetGroup};

/// The order of preference without `scrape_protocols`.
const DEFAULT_PROTOCOLS: [ScrapeProtocol; 4] =
    [ScrapeProtocol::OpenMetrics100, ScrapeProtocol::OpenMetrics001, ScrapeProtocol::Text100, ScrapeProtocol::Text004];

/// Discovery that Prometheus has and this program has not.
const FOREIGN_DISCOVERY: &[&str] = &[
    "aws",
    "azure",
    "consul",
    "digitalocean",
    "dns",
    "docker",
    "dockerswarm",
    "ec2",
    "ecs",
    "elasticache",
    "eureka",
    "gce",
    "hetzner",
    "http",
    "ionos",
    "kubernetes",
    "kuma",
    "lightsail",
    "linode",
    "marathon",
    "msk",
    "nerve",
    "nomad",
    "oci",
    "openstack",
    "outscale",
    "ovhcloud",
    "puppetdb",
    "rds",
    "scaleway",
    "serverset",
    "stackit",
    "triton",
    "uyuni",
    "vultr",
];

/// Reads one job. `None` when it is not even a map. prometheus: config.go, ScrapeConfig.UnmarshalYAML and Validate.
pub(super) fn scrape_config(at: &At<'_>, node: &Node, inherited: &Inherited) -> Option<ScrapeConfig> {
    if node.kind == Kind::Null {
        at.error("is empty; a job is a map with at least job_name");
        return None;
    }
    let f = Fields::new(at, node)?;
    let job_name = f.text("job_name").unwrap_or_default();
    if job_name.is_empty() {
        f.error("job_name", "is missing or empty; every job needs a unique one");
    }
    let (scrape_interval, scrape_timeout) = timing(&f, inherited);
    let own_validation = global::name_validation(&f);
    let name_validation = own_validation.unwrap_or(inherited.validation);
    global::escaping(&f, name_validation);
    let limits = Limits::read(&f);
    let all = &inherited.limits;
    let limit = |own: Option<u64>, global: Option<u64>| own.or(global).unwrap_or(0);
    let relabel_configs = rules(&f, "relabel_configs", name_validation);
    let static_configs = static_configs(&f, relabel_configs.is_empty());
    let config = ScrapeConfig {
        job_name,
        scrape_interval,
        scrape_timeout,
        metrics_path: f.text_or("metrics_path", "/metrics"),
        scheme: scheme(&f),
        params: params(&f),
        honor_labels: f.flag("honor_labels").unwrap_or(false),
        honor_timestamps: f.flag("honor_timestamps").unwrap_or(true),
        track_timestamps_staleness: f.flag("track_timestamps_staleness").unwrap_or(false),
        enable_compression: f.flag("enable_compression").unwrap_or(true),
        extra_scrape_metrics: f.flag("extra_scrape_metrics").unwrap_or(inherited.extra_scrape_metrics),
        body_size_limit: limit(limits.body_size, all.body_size),
        sample_limit: limit(limits.samples, all.samples),
        target_limit: limit(limits.targets, all.targets),
        label_limit: limit(limits.labels, all.labels),
        label_name_length_limit: limit(limits.label_name_length, all.label_name_length),
        label_value_length_limit: limit(limits.label_value_length, all.label_value_length),
        keep_dropped_targets: limit(limits.dropped_targets, all.dropped_targets),
        name_validation,
        scrape_protocols: global::protocols(&f)
            .or_else(|| inherited.protocols.clone())
            .unwrap_or_else(|| DEFAULT_PROTOCOLS.to_vec()),
        fallback_scrape_protocol: fallback(&f),
        metric_relabel_configs: rules(&f, "metric_relabel_configs", name_validation),
        relabel_configs,
        static_configs,
        file_sd_configs: file_sd_configs(&f),
        http: http::http_client(&f, Use::Scrape),
    };
    global::histograms(&f);
    f.unsupported(
        &["native_histogram_bucket_limit", "native_histogram_min_bucket_factor"],
        "native histograms are not scraped",
    );
    f.finish(foreign_discovery);
    Some(config)
}

fn foreign_discovery(key: &str) -> Option<String> {
    let kind = key.strip_suffix("_sd_configs").filter(|k| FOREIGN_DISCOVERY.contains(k))?;
    Some(format!(
        "no {kind} discovery yet, only static_configs and file_sd_configs; let a small program write the {kind} \
         targets to a JSON file (the same list an http_sd endpoint returns) and name it in file_sd_configs"
    ))
}

fn timing(f: &Fields<'_>, inherited: &Inherited) -> (Duration, Duration) {
    let own = |key| f.duration(key).filter(|d| !d.is_zero());
    let interval = own("scrape_interval").unwrap_or(inherited.global.scrape_interval);
    let timeout = own("scrape_timeout");
    if timeout.is_some_and(|t| t > interval) {
        f.error("scrape_timeout", "is longer than the job's scrape_interval; make it equal or shorter");
    }
    (interval, timeout.unwrap_or(inherited.global.scrape_timeout.min(interval)))
}

/// A rule may set `__scheme__` to another one, so any will do here; a target that keeps a wrong one is down.
fn scheme(f: &Fields<'_>) -> String {
    let scheme = f.text_or("scheme", "http");
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        let text = "scheme is neither http nor https: targets are down unless relabel_configs set __scheme__";
        f.at.note(NoteKind::Warning, text);
    }
    scheme
}

fn fallback(f: &Fields<'_>) -> Option<ScrapeProtocol> {
    let name = f.text("fallback_scrape_protocol").filter(|n| !n.is_empty())?;
    let protocol = global::protocol(&name);
    match protocol {
        None => f.error("fallback_scrape_protocol", global::unknown_protocol(&name)),
        Some(p) if !p.is_text() => {
            let text = format!(
                "fallback_scrape_protocol: {name} is not spoken yet: answers without a usable Content-Type are refused"
            );
            f.at.note(NoteKind::Warning, text);
        }
        Some(_) => {}
    }
    protocol
}

fn params(f: &Fields<'_>) -> BTreeMap<String, Vec<String>> {
    let mut out = BTreeMap::new();
    let Some(item) = f.value("params") else { return out };
    let Some(params) = Fields::new(&item.at, item.node) else { return out };
    for (name, item) in params.all() {
        if item.node.kind == Kind::Null {
            out.insert(name.to_owned(), Vec::new());
            continue;
        }
        let Kind::List(list) = &item.node.kind else {
            item.at.error(format!("must be a list of texts, found {}; write [value]", item.node.describe()));
            continue;
        };
        let texts = list
            .iter()
            .enumerate()
            .filter_map(|(i, node)| super::fields::Item { node, at: item.at.index(i, node.line) }.text());
        out.insert(name.to_owned(), texts.collect());
    }
    out
}

/// All groups of the job; with rules, whether an address is good shows only after relabelling.
fn static_configs(f: &Fields<'_>, check_addresses: bool) -> Vec<TargetGroup> {
    let Some((at, list)) = f.list("static_configs") else { return Vec::new() };
    let mut groups = Vec::with_capacity(list.len());
    for (i, node) in list.iter().enumerate() {
        match yaml_group(i, node) {
            Err(e) => at.error_below(&e.path, e.line, e.what),
            Ok(mut group) => {
                group.source = i.to_string();
                for (n, target) in group.targets.iter().enumerate().filter(|_| check_addresses) {
                    let address = target.get("__address__").unwrap_or_default();
                    if address.contains('/') {
                        let what = format!("{address:?} is not host:port; scheme and path have keys of their own");
                        at.error_below(&format!("[{i}].targets[{n}]"), node.line, what);
                    }
                }
                groups.push(group);
            }
        }
    }
    groups
}

fn file_sd_configs(f: &Fields<'_>) -> Vec<FileSdConfig> {
    let Some((at, list)) = f.list("file_sd_configs") else { return Vec::new() };
    let read = |(i, node): (usize, &Node)| {
        let at = at.index(i, node.line);
        if node.kind == Kind::Null {
            at.error("is empty; it needs files");
            return None;
        }
        file_sd_config(&at, node)
    };
    list.iter().enumerate().filter_map(read).collect()
}

fn file_sd_config(at: &At<'_>, node: &Node) -> Option<FileSdConfig> {
    let f = Fields::new(at, node)?;
    let files = f.texts("files").unwrap_or_default();
    if files.is_empty() {
        f.error("files", "is missing or empty; list at least one path");
    }
    for file in files.iter().filter(|file| !is_group_file_pattern(file)) {
        let rule = "must end in .json, .yml or .yaml, with at most one *, in the last path element";
        f.error("files", format!("{file:?} {rule}"));
    }
    let refresh = f.duration("refresh_interval");
    if refresh.is_some_and(|r| r.is_zero()) {
        f.error("refresh_interval", "must be above 0");
    }
    let join = |file: &String| f.at.directory().join(file).to_string_lossy().into_owned();
    let config = FileSdConfig {
        files: files.iter().map(join).collect(),
        refresh_interval: refresh.unwrap_or(Duration::from_secs(300)),
    };
    f.finish(|_| None);
    Some(config)
}

/// prometheus: discovery/file/file.go, patFileSDName.
fn is_group_file_pattern(pattern: &str) -> bool {
    let stem = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"].iter().find_map(|e| pattern.strip_suffix(e));
    stem.is_some_and(has_one_star_at_most)
}

/// At most one `*`, with no `/` after it. prometheus: config.go, patRulePath.
pub(super) fn has_one_star_at_most(pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => true,
        Some((_, rest)) => !rest.contains('/'),
    }
}
