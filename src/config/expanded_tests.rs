//! What is shown of a configuration, against what `prometheus --agent` of 3.16 shows of it.

use super::node::{Kind, Node};
use super::yaml_out::YamlOut;
use super::*;

const FILE: &str = r#"
global: {scrape_interval: 20s, external_labels: {z: "1", a: "$HOST x", b: 'yes'}}
scrape_configs:
- job_name: min
- job_name: "full"
  honor_labels: true
  honor_timestamps: false
  track_timestamps_staleness: true
  params: {b: [x, "1"], a: []}
  scrape_interval: 90s
  scrape_timeout: 5s
  scrape_protocols: [PrometheusText0.0.4]
  fallback_scrape_protocol: PrometheusText0.0.4
  metrics_path: /x
  scheme: https
  enable_compression: false
  body_size_limit: 1500KB
  sample_limit: 5
  target_limit: 6
  label_limit: 7
  label_name_length_limit: 8
  label_value_length_limit: 9
  keep_dropped_targets: 10
  basic_auth: {username: u, password: p}
  tls_config: {ca_file: c.pem, insecure_skip_verify: true, min_version: TLS12}
  follow_redirects: false
  enable_http2: false
  static_configs: [{targets: ['h:1', 'i:2'], labels: {b: c, a: 'true'}}, {targets: []}]
  file_sd_configs: [{files: ['x.json', y.yml], refresh_interval: 1m}, {files: [z.json]}]
  relabel_configs:
  - {source_labels: [a, b], target_label: c, regex: 'x(.*)', replacement: '$1', action: replace}
  - {action: labeldrop, regex: foo}
  - {source_labels: [__address__], modulus: 5, target_label: __tmp, action: hashmod}
  - {target_label: e, replacement: ''}
  metric_relabel_configs: [{source_labels: [__name__], regex: "a|b", action: drop, separator: ','}]
- job_name: bearer
  authorization: {credentials: s}
  metric_name_validation_scheme: legacy
- job_name: btoken
  bearer_token_file: /secrets/x
  static_configs: [{targets: [a]}]
remote_write:
- url: http://h:9/w?x=y
- url: https://h/w
  name: n
  remote_timeout: 5s
  headers: {A: b}
  write_relabel_configs: [{action: labelkeep, regex: x}]
  basic_auth: {username: u, password_file: f}
  queue_config: {max_shards: 7, sample_age_limit: 1h}
scrape_config_files: ['more/*.yml']
"#;

/// Its answer to /api/v1/status/config without the sections that do nothing here, with our samples of a request.
const STOCK: &str = r#"global:
  scrape_interval: 20s
  scrape_timeout: 10s
  evaluation_interval: 1m
  external_labels:
    a: far x
    b: "yes"
    z: "1"
  metric_name_validation_scheme: utf8
  scrape_native_histograms: false
  extra_scrape_metrics: false
scrape_config_files:
- DIR/more/*.yml
scrape_configs:
- job_name: min
  honor_timestamps: true
  track_timestamps_staleness: false
  scrape_interval: 20s
  scrape_timeout: 10s
  scrape_protocols:
  - OpenMetricsText1.0.0
  - OpenMetricsText0.0.1
  - PrometheusText1.0.0
  - PrometheusText0.0.4
  scrape_native_histograms: false
  always_scrape_classic_histograms: false
  convert_classic_histograms_to_nhcb: false
  metrics_path: /metrics
  scheme: http
  enable_compression: true
  metric_name_validation_scheme: utf8
  metric_name_escaping_scheme: allow-utf-8
  extra_scrape_metrics: false
  follow_redirects: true
  enable_http2: true
- job_name: full
  honor_labels: true
  honor_timestamps: false
  track_timestamps_staleness: true
  params:
    a: []
    b:
    - x
    - "1"
  scrape_interval: 1m30s
  scrape_timeout: 5s
  scrape_protocols:
  - PrometheusText0.0.4
  fallback_scrape_protocol: PrometheusText0.0.4
  scrape_native_histograms: false
  always_scrape_classic_histograms: false
  convert_classic_histograms_to_nhcb: false
  metrics_path: /x
  scheme: https
  enable_compression: false
  body_size_limit: 1MiB476KiB
  sample_limit: 5
  target_limit: 6
  label_limit: 7
  label_name_length_limit: 8
  label_value_length_limit: 9
  keep_dropped_targets: 10
  metric_name_validation_scheme: utf8
  metric_name_escaping_scheme: allow-utf-8
  extra_scrape_metrics: false
  basic_auth:
    username: u
    password: <secret>
  tls_config:
    ca_file: DIR/c.pem
    insecure_skip_verify: true
    min_version: TLS12
  follow_redirects: false
  enable_http2: false
  relabel_configs:
  - source_labels: [a, b]
    separator: ;
    regex: x(.*)
    target_label: c
    replacement: $1
    action: replace
  - separator: ;
    regex: foo
    replacement: $1
    action: labeldrop
  - source_labels: [__address__]
    separator: ;
    modulus: 5
    target_label: __tmp
    replacement: $1
    action: hashmod
  - separator: ;
    target_label: e
    replacement: ""
    action: replace
  metric_relabel_configs:
  - source_labels: [__name__]
    separator: ','
    regex: a|b
    replacement: $1
    action: drop
  file_sd_configs:
  - files:
    - DIR/x.json
    - DIR/y.yml
    refresh_interval: 1m
  - files:
    - DIR/z.json
    refresh_interval: 5m
  static_configs:
  - targets:
    - h:1
    - i:2
    labels:
      a: "true"
      b: c
  - targets: []
- job_name: bearer
  honor_timestamps: true
  track_timestamps_staleness: false
  scrape_interval: 20s
  scrape_timeout: 10s
  scrape_protocols:
  - OpenMetricsText1.0.0
  - OpenMetricsText0.0.1
  - PrometheusText1.0.0
  - PrometheusText0.0.4
  scrape_native_histograms: false
  always_scrape_classic_histograms: false
  convert_classic_histograms_to_nhcb: false
  metrics_path: /metrics
  scheme: http
  enable_compression: true
  metric_name_validation_scheme: legacy
  metric_name_escaping_scheme: underscores
  extra_scrape_metrics: false
  authorization:
    type: Bearer
    credentials: <secret>
  follow_redirects: true
  enable_http2: true
- job_name: btoken
  honor_timestamps: true
  track_timestamps_staleness: false
  scrape_interval: 20s
  scrape_timeout: 10s
  scrape_protocols:
  - OpenMetricsText1.0.0
  - OpenMetricsText0.0.1
  - PrometheusText1.0.0
  - PrometheusText0.0.4
  scrape_native_histograms: false
  always_scrape_classic_histograms: false
  convert_classic_histograms_to_nhcb: false
  metrics_path: /metrics
  scheme: http
  enable_compression: true
  metric_name_validation_scheme: utf8
  metric_name_escaping_scheme: allow-utf-8
  extra_scrape_metrics: false
  authorization:
    type: Bearer
    credentials_file: /secrets/x
  follow_redirects: true
  enable_http2: true
  static_configs:
  - targets:
    - a
remote_write:
- url: http://h:9/w?x=y
  remote_timeout: 30s
  protobuf_message: prometheus.WriteRequest
  follow_redirects: true
  enable_http2: false
  queue_config:
    capacity: 10000
    max_shards: 50
    min_shards: 1
    max_samples_per_send: 10000
    batch_send_deadline: 5s
    min_backoff: 30ms
    max_backoff: 5s
- url: https://h/w
  remote_timeout: 5s
  headers:
    A: b
  write_relabel_configs:
  - separator: ;
    regex: x
    replacement: $1
    action: labelkeep
  name: "n"
  protobuf_message: prometheus.WriteRequest
  basic_auth:
    username: u
    password_file: DIR/f
  follow_redirects: true
  enable_http2: false
  queue_config:
    capacity: 10000
    max_shards: 7
    min_shards: 1
    max_samples_per_send: 10000
    batch_send_deadline: 5s
    min_backoff: 30ms
    max_backoff: 5s
    sample_age_limit: 1h
"#;

fn shown(text: &str) -> (String, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).expect("written");
    let env = |name: &str| (name == "HOST").then(|| "far".to_owned());
    let loaded = load(&path, &LoadOptions { ignore: &[], env: &env, extra_scrape_metrics: false }).expect("good");
    (loaded.text, dir.path().display().to_string())
}

/// Order and texts; how a text is quoted is a matter of taste.
fn content(text: &str) -> Vec<String> {
    fn walk(node: &Node, path: &str, out: &mut Vec<String>) {
        match &node.kind {
            Kind::Null => out.push(format!("{path} nothing")),
            Kind::Scalar { text, .. } => out.push(format!("{path} {text:?}")),
            Kind::List(list) if list.is_empty() => out.push(format!("{path} []")),
            Kind::List(list) => list.iter().enumerate().for_each(|(i, n)| walk(n, &format!("{path}[{i}]"), out)),
            Kind::Map(map) => map.iter().for_each(|e| walk(&e.value, &format!("{path}.{}", e.key), out)),
        }
    }
    let mut out = Vec::new();
    walk(&Node::parse(text).unwrap_or_else(|e| panic!("{e:?}\n{text}")), "", &mut out);
    out
}

#[test]
fn the_configuration_is_shown_as_by_prometheus() {
    let (text, dir) = shown(FILE);
    let (ours, theirs) = (content(&text), content(&STOCK.replace("DIR", &dir)));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "{text}");
    }
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(shown(&text).0, text, "it is a configuration itself");
}

#[test]
fn defaults_alone_are_shown() {
    for (text, is_spelt) in [("", true), ("global:\n", true), ("global: {}\n", false)] {
        let (shown, _) = shown(text);
        assert!(shown.starts_with("global:\n  scrape_interval: 1m\n  scrape_timeout: 10s\n"), "{shown}");
        assert_eq!(shown.contains("metric_name_escaping_scheme: allow-utf-8"), is_spelt, "{text}");
        assert_eq!(shown.lines().filter(|line| !line.starts_with(' ')).count(), 1, "{shown}");
    }
}

#[test]
fn what_does_nothing_is_shown_as_written_without_secrets() {
    let (text, _) = shown(
        "storage: {tsdb: {out_of_order_time_window: 30m}}\ntracing: {endpoint: 'h:1', headers: {Api-Key: hunter2}}\n\
         remote_write: [{url: 'http://h/', metadata_config: {send: false}, headers: {X-Token: hunter2}}]\n",
    );
    assert!(!text.contains("hunter2") && text.matches("<secret>").count() == 2, "{text}");
    for part in ["out_of_order_time_window: 30m", "endpoint: \"h:1\"", "metadata_config:\n    send: false\n"] {
        assert!(text.contains(part), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn texts_read_back(text in "[ -~\\n\u{e9}]{0,10}|[a-z~]{1,5}|[+-]?[0-9._e]{1,6}") {
        let node = Node::parse(&{
            let mut out = YamlOut::default();
            out.string("a", &text);
            out.finish()
        }).expect("YAML");
        let Kind::Map(map) = node.kind else { panic!("a map") };
        let is_text = |kind: &Kind| matches!(kind, Kind::Scalar { text: read, .. } if *read == text);
        proptest::prop_assert!(is_text(&map[0].value.kind), "{text:?}: {:?}", map[0].value);
    }
}
