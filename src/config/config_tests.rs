//! Files good and bad: what they mean, and what is said about them.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::model::Labels;

fn options() -> LoadOptions<'static> {
    LoadOptions { ignore: &[], env: &|_| None, extra_scrape_metrics: false }
}

fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    load_with(text, &options())
}

fn load_with(text: &str, options: &LoadOptions<'_>) -> Result<Loaded, ConfigErrors> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).expect("written");
    load(&path, options)
}

fn good(text: &str) -> Loaded {
    load_text(text).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

/// The job of a file with one, its body indented by four.
fn job(body: &str) -> Result<ScrapeConfig, ConfigErrors> {
    let lines: String = body.lines().map(|l| format!("    {l}\n")).collect();
    let loaded = load_text(&format!("scrape_configs:\n  - job_name: j\n{lines}"))?;
    Ok(loaded.config.scrape_configs[0].clone())
}

/// Errors without the file, `line path: what`.
fn errors(text: &str) -> Vec<String> {
    let Err(e) = load_text(text) else { return Vec::new() };
    e.0.iter().map(|e| format!("{} {}: {}", e.line, e.path, e.what)).collect()
}

/// Every case must give exactly one error that begins like this.
fn refuse(cases: &[(&str, &str)], wrap: impl Fn(&str) -> String) {
    for (text, want) in cases {
        let got = errors(&wrap(text));
        assert_eq!(got.len(), 1, "{text}: {got:#?}");
        assert!(got[0].contains(want), "{text}:\n got {}\nwant {want}", got[0]);
    }
}

#[test]
fn the_first_document_is_read() {
    for text in ["global: {scrape_interval: 7s}\n---\n", "---\nglobal: {scrape_interval: 7s}\n--- [1, {]\n"] {
        let loaded = load_with(text, &LoadOptions { ignore: &[], env: &|_| None, extra_scrape_metrics: true });
        assert_eq!(loaded.expect("good").config.global.scrape_interval, Duration::from_secs(7), "{text}");
    }
}

#[test]
fn a_feature_decides_where_the_file_is_silent() {
    let text = "scrape_configs: [{job_name: a}, {job_name: b, extra_scrape_metrics: false}]";
    let loaded = load_with(text, &LoadOptions { ignore: &[], env: &|_| None, extra_scrape_metrics: true });
    let jobs = loaded.expect("good").config.scrape_configs;
    assert_eq!(jobs.iter().map(|j| j.extra_scrape_metrics).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn top_level_errors() {
    refuse(
        &[
            ("globl: {}", "1 globl: unknown key; did you mean global?"),
            ("scrape_configs: []\nscrape_configs: []", "2 : key \"scrape_configs\" occurs twice in one map"),
            ("- a", "1 : must be a map, found a list"),
            ("scrape_configs: {}", "1 scrape_configs: must be a list, found a map"),
            ("scrape_configs: [null]", "1 scrape_configs[0]: is empty; a job is a map"),
            ("scrape_configs: [x]", "1 scrape_configs[0]: must be a map, found \"x\""),
            ("scrape_configs: [{}]", "1 scrape_configs[0].job_name: is missing or empty"),
            ("scrape_configs: [{job_name: a}, {job_name: a}]", "1 scrape_configs[1]: job_name \"a\" is taken by"),
            ("a: [1", "1 : "),
            ("a: *x", "1 : "),
            ("global: !foo {}\nx: !!int b", "2 : !!int \"b\": it is a !!str"),
            ("scrape_config_files: ['d/[.yml']", "d/[.yml\": malformed pattern"),
            ("storage: {tsdb: {bogus: 1}}", "1 storage.tsdb.bogus: unknown key"),
            ("storage: {exemplars: {foo: 1}}", "1 storage.exemplars.foo: unknown key"),
            ("scrape_config_files: ['*/a.yml']", "1 scrape_config_files: \"*/a.yml\": at most one *"),
            (
                "rule_files: [a]",
                "1 rule_files: not possible here: rules are not evaluated, as with prometheus --agent. \
                Remove it, or start with --config.ignore=rule_files",
            ),
            ("alerting: {alertmanagers: [{static_configs: []}, 1]}", "--config.ignore=alerting"),
            ("remote_read: [{url: 'http://x'}]", "1 remote_read: not possible here"),
            (
                "storage: {tsdb: {out_of_order_time_window: 1}}",
                "1 storage.tsdb.out_of_order_time_window: \"1\" is not a duration",
            ),
            ("storage: {exemplar: {}}", "1 storage.exemplar: unknown key; did you mean exemplars?"),
        ],
        str::to_owned,
    );
    let both = errors("rule_files: [a]\nalerting: {alertmanagers: [1]}");
    assert!(both.iter().all(|e| e.ends_with("--config.ignore=alerting,rule_files")), "{both:#?}");
}

#[test]
fn global_errors() {
    refuse(
        &[
            ("scrape_interval: 1", "2 global.scrape_interval: \"1\" is not a duration"),
            ("scrape_interval: ''", "2 global.scrape_interval: \"\" is an empty duration"),
            ("scrape_interval: [1s]", "2 global.scrape_interval: must be a text, found a list"),
            (
                "scrape_interval: 5s\n  scrape_timeout: 6s",
                "3 global.scrape_timeout: is longer than the scrape_interval",
            ),
            ("scrape_timeout: 2m", "2 global.scrape_timeout: is longer"),
            ("scrape_protocols: []", "2 global.scrape_protocols: cannot be empty"),
            ("scrape_protocols: [text]", "2 global.scrape_protocols: unknown scrape protocol \"text\", one of OpenM"),
            ("scrape_protocols: [PrometheusProto, PrometheusProto]", "PrometheusProto is there twice"),
            (
                "sample_limit: -1",
                "2 global.sample_limit: must be a whole number, 0 or more, without quotes; found \"-1\"",
            ),
            ("sample_limit: '1'", "2 global.sample_limit: must be a whole number"),
            ("body_size_limit: 10", "2 global.body_size_limit: \"10\" is not a size"),
            ("external_labels: {'': a}", "global.external_labels.: \"\" is not a valid label name"),
            ("external_labels: {a: [b]}", "2 global.external_labels.a: must be a text, found a list"),
            ("external_labels: {a.b: c}\n  metric_name_validation_scheme: legacy", "\"a.b\" is not a valid label name"),
            ("metric_name_validation_scheme: utf16", "must be utf8 or legacy, found \"utf16\""),
            ("metric_name_escaping_scheme: dots", "unsupported: only allow-utf-8 with this validation"),
            ("scrape_native_histograms: true", "2 global.scrape_native_histograms: unsupported: native"),
            ("scrape_failure_log_file: x", "2 global.scrape_failure_log_file: unsupported"),
            ("extra_scrape_metrics: 1", "2 global.extra_scrape_metrics: must be true or false, found \"1\""),
            ("scrape_intervall: 1s", "2 global.scrape_intervall: unknown key; did you mean scrape_interval?"),
        ],
        |text| format!("global:\n  {text}\n"),
    );
}

#[test]
fn job_errors() {
    refuse(
        &[
            ("scrape_interval: 1s\nscrape_timeout: 2s", "4 scrape_configs[0].scrape_timeout: is longer"),
            ("tls_config: {cert_file: a}", "scrape_configs[0].tls_config: a client certificate needs both"),
            ("tls_config: {ca: a, ca_file: b}", "scrape_configs[0].tls_config"),
            ("tls_config: {min_version: TLS9}", "tls_config.min_version: unknown TLS version"),
            ("tls_config: {max_version: TLS10}", "tls_config.max_version: unsupported: TLS10 is too weak"),
            ("tls_config: {min_version: TLS13, max_version: TLS12}", "tls_config.max_version: is below min_version"),
            ("params: {a: b}", "3 scrape_configs[0].params.a: must be a list of texts, found \"b\"; write [value]"),
            ("honor_labels: maybe", "3 scrape_configs[0].honor_labels: must be true or false, found \"maybe\""),
            ("honor_labels: 'true'", "must be true or false"),
            ("fallback_scrape_protocol: x", "3 scrape_configs[0].fallback_scrape_protocol: unknown scrape protocol"),
            ("static_configs: [null]", "3 scrape_configs[0].static_configs[0]: is null"),
            (
                "static_configs: [{targets: [a, 'http://b']}]",
                "static_configs[0].targets[1]: \"http://b\" is not host:port",
            ),
            ("static_configs: [{tragets: []}]", "3 scrape_configs[0].static_configs[0]: unknown key \"tragets\""),
            ("file_sd_configs: [null]", "3 scrape_configs[0].file_sd_configs[0]: is empty"),
            ("file_sd_configs: [{}]", "file_sd_configs[0].files: is missing or empty"),
            ("file_sd_configs: [{files: [a.txt]}]", "file_sd_configs[0].files: \"a.txt\" must end in .json"),
            ("file_sd_configs: [{files: ['*/a.json']}]", "in the last path element"),
            ("file_sd_configs: [{files: [a.json], refresh_interval: 0}]", "refresh_interval: must be above 0"),
            (
                "kubernetes_sd_configs: [{role: pod}]",
                "3 scrape_configs[0].kubernetes_sd_configs: unsupported: no kubernetes",
            ),
            ("consull_sd_configs: []", "3 scrape_configs[0].consull_sd_configs: unknown key"),
            ("metrics_paht: /x", "3 scrape_configs[0].metrics_paht: unknown key; did you mean metrics_path?"),
            (
                "basic_auth: {password: a, password_file: b}",
                "basic_auth.password_file: at most one of password and password_file",
            ),
            ("basic_auth: {password_ref: b}", "basic_auth.password_ref: needs a secret manager"),
            ("basic_auth: {user: a}", "3 scrape_configs[0].basic_auth.user: unknown key"),
            ("authorization: {type: Basic}", "authorization.type: cannot be basic here; use basic_auth"),
            ("bearer_token: a\nbearer_token_file: b", "4 scrape_configs[0].bearer_token_file: at most one of"),
            ("bearer_token: a\nbasic_auth: {username: b}", "3 scrape_configs[0].bearer_token: at most one way to auth"),
            ("oauth2: {client_id: a}", "3 scrape_configs[0].oauth2: unsupported: use authorization"),
            ("proxy_url: http://x", "3 scrape_configs[0].proxy_url: unsupported: no proxies"),
            ("native_histogram_bucket_limit: 10", "unsupported: native histograms"),
            ("metric_name_validation_scheme: legacy\nmetric_name_escaping_scheme: allow-utf-8", "allow-utf-8 needs"),
        ],
        |text| format!("scrape_configs:\n  - job_name: j\n    {}\n", text.replace('\n', "\n    ")),
    );
}

#[test]
fn rule_errors_carry_their_place() {
    refuse(
        &[
            ("null", "3 scrape_configs[0].relabel_configs[0]: is empty; a rule is a map"),
            ("{regex: '('}", "relabel_configs[0].target_label: action replace needs"),
            (
                "{action: keep, regex: '('}",
                "relabel_configs[0].regex: \"(\": invalid regular expression: missing closing )",
            ),
            ("{action: keep, regex: 'a**'}", "* repeats a repetition"),
            ("{action: keeep}", "relabel_configs[0].action: unknown action \"keeep\", one of drop, dropequal"),
            ("{target_label: a, modulus: x}", "relabel_configs[0].modulus: must be a whole number"),
            ("{target_label: a, source_label: [b]}", "source_label: unknown key; did you mean source_labels?"),
            ("{target_label: a, source_labels: b}", "source_labels: must be a list, found \"b\""),
            ("{target_label: a, source_labels: ['']}", "source_labels: a label name is empty"),
            ("{action: dropequal, target_label: a, regex: (.*)}", "regex: has no meaning for this action"),
            ("{action: labeldrop, regex: a, source_labels: []}", "source_labels: has no meaning for this action"),
            ("{action: labelkeep, regex: a, separator: x}", "separator: has no meaning for action labelkeep"),
            ("{action: hashmod, target_label: a}", "action hashmod needs a modulus above 0"),
        ],
        |text| format!("scrape_configs:\n  - job_name: j\n    relabel_configs: [{text}]\n"),
    );
    let metric =
        errors("scrape_configs: [{job_name: j, metric_relabel_configs: [{action: keep}, {action: drop, regex: '['}]}]");
    assert!(metric[0].starts_with("1 scrape_configs[0].metric_relabel_configs[1].regex: "), "{metric:?}");
}

#[test]
fn remote_write_errors() {
    refuse(
        &[
            ("null", "2 remote_write[0]: is empty"),
            ("{}", "2 remote_write[0].url: is missing"),
            ("{url: x}", "2 remote_write[0].url: must begin with http:// or https://"),
            ("{url: 'http://'}", "url: has no host"),
            ("{url: 'http://u:hunter2@h/'}", "url: must not carry credentials; use basic_auth"),
            ("{url: http://x, headers: {Authorization: a}}", "headers: Authorization is set by basic_auth"),
            ("{url: http://x, headers: {HOST: a}}", "headers: HOST is reserved"),
            ("{url: http://x, headers: {'a b': c}}", "\"a b\" is not a header name"),
            ("{url: http://x, headers: {a: \"b\\r\\nc\"}}", "the value of a has control characters"),
            ("{url: http://x, send_exemplars: true}", "send_exemplars: unsupported"),
            ("{url: http://x, send_native_histograms: true}", "send_native_histograms: unsupported"),
            (
                "{url: http://x, protobuf_message: io.prometheus.write.v2.Request}",
                "protobuf_message: unsupported: only",
            ),
            ("{url: http://x, protobuf_message: x}", "protobuf_message: unknown message \"x\""),
            ("{url: http://x, queue_config: null}", "queue_config: is empty; remove it"),
            ("{url: http://x, queue_config: {min_shards: 0}}", "min_shards: must be above 0"),
            (
                "{url: http://x, queue_config: {max_shards: 2, min_shards: 3}}",
                "min_shards: must not be above max_shards (2)",
            ),
            ("{url: http://x, queue_config: {min_backoff: 10s}}", "max_backoff: must not be shorter"),
            (
                "{url: http://x, queue_config: {capasity: 1}}",
                "queue_config.capasity: unknown key; did you mean capacity?",
            ),
            ("{url: http://x, metadata_config: {sent: true}}", "metadata_config.sent: unknown key; did you mean send?"),
            ("{url: http://x, sigv4: {region: a}}", "sigv4: unsupported: use basic_auth"),
            ("{url: http://x, tls_config: {cert_file: a}}", "tls_config: a client certificate needs both"),
            ("{url: http://x, tls_config: {min_version: SSL3}}", "unknown TLS version \"SSL3\""),
            (
                "{url: http://x, write_relabel_configs: [{}]}",
                "write_relabel_configs[0].target_label: action replace needs",
            ),
        ],
        |text| format!("remote_write:\n  - {text}\n"),
    );
    let twice = errors("remote_write: [{url: http://x, name: a}, {url: http://y, name: a}]");
    assert!(twice[0].contains("remote_write[1]: name \"a\" is taken"), "{twice:?}");
    let same = errors("remote_write: [{url: http://x}, {url: http://x}]");
    assert!(same[0].contains("remote_write[1]: the same destination is there twice"), "{same:?}");
}

#[test]
fn one_pass_finds_everything_in_file_order() {
    let got = errors(
        "global: {scrape_interval: x}\nscrape_configs:\n  - job_name: a\n    foo: 1\n    honor_labels: 7\n    \
         relabel_configs: [{}]\n  - {}\nremote_write: [{}]\nbar: 1\n",
    );
    let lines: Vec<_> = got.iter().map(|e| e.split(':').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(
        lines,
        [
            "1 global.scrape_interval",
            "4 scrape_configs[0].foo",
            "5 scrape_configs[0].honor_labels",
            "6 scrape_configs[0].relabel_configs[0].target_label",
            "7 scrape_configs[1].job_name",
            "8 remote_write[0].url",
            "9 bar",
        ]
    );
}

#[test]
fn defaults_are_prometheus() {
    for text in ["", "# nothing\n", "---\n", "global:\n", "global: {}\nscrape_configs:\nremote_write: null\n"] {
        let global = good(text).config.global;
        assert_eq!(global.scrape_interval, Duration::from_secs(60), "{text}");
        assert_eq!(global.scrape_timeout, Duration::from_secs(10), "{text}");
    }
    let j = job("").expect("good");
    assert_eq!((j.scrape_interval.as_secs(), j.scrape_timeout.as_secs()), (60, 10));
    assert_eq!((j.metrics_path.as_str(), j.scheme.as_str()), ("/metrics", "http"));
    assert!(j.honor_timestamps && j.enable_compression && j.http.follow_redirects);
    assert!(!j.honor_labels && !j.track_timestamps_staleness && !j.extra_scrape_metrics);
    assert_eq!(
        j.scrape_protocols,
        [
            ScrapeProtocol::OpenMetrics100,
            ScrapeProtocol::OpenMetrics001,
            ScrapeProtocol::Text100,
            ScrapeProtocol::Text004
        ]
    );
    assert_eq!(j.name_validation, NameValidation::Utf8);
    let short =
        good("global: {scrape_interval: 4s}\nscrape_configs: [{job_name: a}, {job_name: b, scrape_interval: 2s}]");
    assert_eq!(short.config.global.scrape_timeout.as_secs(), 4);
    assert_eq!(short.config.scrape_configs[1].scrape_timeout.as_secs(), 2);
    let zero = good("global: {scrape_interval: 0s, scrape_timeout: 0}");
    assert_eq!(zero.config.global.scrape_interval.as_secs(), 60);
}

#[test]
fn jobs_inherit_and_cannot_lift_limits() {
    let config = good(
        "global:\n  sample_limit: 10\n  body_size_limit: 1MB\n  keep_dropped_targets: 3\n  \
         scrape_protocols: [PrometheusText0.0.4]\n  metric_name_validation_scheme: legacy\n  \
         extra_scrape_metrics: true\n  label_limit: 0x10\n  target_limit: 1e3\n\
         scrape_configs:\n- {job_name: a, sample_limit: 0, body_size_limit: 0}\n- {job_name: b, sample_limit: 20, \
         extra_scrape_metrics: no, metric_name_validation_scheme: utf8, label_limit: 1_000, \
         scrape_protocols: [OpenMetricsText1.0.0]}\n",
    )
    .config;
    let [a, b] = config.scrape_configs.as_slice() else { panic!("two jobs") };
    assert_eq!((a.sample_limit, a.body_size_limit, a.keep_dropped_targets), (10, 1 << 20, 3));
    assert_eq!((a.label_limit, a.target_limit, a.extra_scrape_metrics), (16, 1000, true));
    assert_eq!(a.scrape_protocols, [ScrapeProtocol::Text004]);
    assert_eq!(a.name_validation, NameValidation::Legacy);
    assert_eq!((b.sample_limit, b.label_limit, b.extra_scrape_metrics), (20, 1000, false));
    assert_eq!(b.scrape_protocols, [ScrapeProtocol::OpenMetrics100]);
    assert_eq!(b.name_validation, NameValidation::Utf8);
}

#[test]
fn a_whole_job() {
    let j = job("honor_labels: true\nmetrics_path: /probe\nparams: {module: [http_2xx], n: [1, 2]}\n\
         basic_auth: {username: u, password_file: pw}\nfollow_redirects: false\nenable_http2: true\n\
         static_configs:\n- targets: [a:1, b:2]\n  labels: {env: x, port: 80}\n- targets: []\n\
         file_sd_configs:\n- files: [sd/*.json, /abs/x.yml]\n\
         relabel_configs:\n- source_labels: [a, b]\n  regex:\n  target_label: c\n- {action: LabelMap, regex: x}\n")
    .expect("good");
    assert_eq!(j.params["n"], ["1", "2"]);
    let Auth::Basic { username: Some(SecretSource::Inline(u)), password: Some(SecretSource::File(p)) } = &j.http.auth
    else {
        panic!("{:?}", j.http.auth)
    };
    assert_eq!(u.reveal(), "u");
    assert!(p.is_absolute() && p.ends_with("pw"));
    assert!(!j.http.follow_redirects);
    assert_eq!(j.static_configs.len(), 2);
    assert_eq!(j.static_configs[0].labels, Labels::from_pairs([("env", "x"), ("port", "80")]));
    assert_eq!(j.static_configs[1].source, "1");
    assert!(j.file_sd_configs[0].files[0].ends_with("/sd/*.json"));
    assert_eq!(j.file_sd_configs[0].files[1], "/abs/x.yml");
    assert_eq!(j.file_sd_configs[0].refresh_interval.as_secs(), 300);
    assert_eq!((j.relabel_configs[0].regex.as_str(), j.relabel_configs[0].replacement.as_str()), ("", "$1"));
    assert_eq!(j.relabel_configs[1].action, RelabelAction::LabelMap);
    let bearer = job("bearer_token: t").expect("good").http.auth;
    assert!(matches!(&bearer, Auth::Header { kind, credentials: Some(_) } if kind == "Bearer"));
    let slash = "static_configs: [{targets: ['http://x/y']}]\nrelabel_configs: [{target_label: a}]";
    assert!(job(slash).is_ok(), "with rules the address is checked after them");
}

#[test]
fn yaml_is_resolved() {
    let text = "x-not: 1\n";
    assert_eq!(errors(text).len(), 1);
    let config = good(
        "scrape_configs:\n- &a {job_name: a, scrape_interval: 7s, static_configs: &s [{targets: [x]}]}\n\
         - {<<: *a, job_name: b}\n- job_name: c\n  static_configs: *s\n  honor_labels: On\n",
    )
    .config;
    assert_eq!(config.scrape_configs[1].scrape_interval.as_secs(), 7);
    assert_eq!(config.scrape_configs[1].static_configs, config.scrape_configs[2].static_configs);
    assert!(config.scrape_configs[2].honor_labels);
    let bomb = (0..20).fold("a0: &a0 [x]\n".to_owned(), |t, i| {
        format!("{t}a{}: &a{} [*a{i}, *a{i}, *a{i}, *a{i}, *a{i}, *a{i}, *a{i}, *a{i}]\n", i + 1, i + 1)
    });
    assert!(errors(&bomb)[0].contains("aliases stand for more than"), "aliases must not grow without bound");
}

#[test]
fn external_labels_take_the_environment() {
    let env = |name: &str| (name == "HOST").then(|| "h1".to_owned());
    let text = "global:\n  external_labels: {a: '${HOST}-$HOST', b: $NONE, c: $$HOST, d: 5}\n";
    let loaded = load_with(text, &LoadOptions { ignore: &[], env: &env, extra_scrape_metrics: false }).expect("good");
    let want = Labels::from_pairs([("a", "h1-h1"), ("c", "$HOST"), ("d", "5")]);
    assert_eq!(loaded.config.global.external_labels, want);
    assert_eq!(loaded.notes.len(), 1);
    assert_eq!((loaded.notes[0].kind, loaded.notes[0].path.as_str()), (NoteKind::Warning, "global.external_labels.b"));
    assert!(loaded.notes[0].text.contains("NONE"));
}

#[test]
fn an_external_label_too_long_is_an_error_and_no_panic() {
    let long = "x".repeat(crate::model::TEXT_BYTES_MAX + 1);
    let env = |_: &str| Some(long.clone());
    let loaded = load_with(
        "global: {external_labels: {a: $LONG}}",
        &LoadOptions { ignore: &[], env: &env, extra_scrape_metrics: false },
    );
    let errors = loaded.expect_err("it is too long").to_string();
    assert!(errors.contains("1: global.external_labels.a: a name or text of 16 MiB or more"), "{errors}");
}

#[test]
fn what_has_no_effect_must_make_sense_all_the_same() {
    refuse(
        &[
            ("global: {evaluation_interval: 15}", "1 global.evaluation_interval: \"15\" is not a duration"),
            ("global: {query_max_series: -1}", "1 global.query_max_series: must be a whole number"),
            ("global: {external_labels: {~: x}}", "\"\" is not a valid label name"),
            ("runtime: {gogo: 1}", "1 runtime.gogo: unknown key; did you mean gogc?"),
            ("otlp: {bogus: 1}", "1 otlp.bogus: unknown key"),
            ("tracing: {}", "1 tracing.endpoint: is missing"),
            ("scrape_configs: [{job_name: a, oauth2: {}}]", "oauth2: unsupported"),
            ("scrape_configs: [{job_name: a, sample_limit: _1}]", "sample_limit: must be a whole number"),
            ("scrape_configs: [{job_name: a, relabel_configs: [{action: ~}]}]", "action: unknown action \"\""),
            ("remote_write: [{url: 'http://h', protobuf_message: ''}]", "protobuf_message: unknown message \"\""),
            ("remote_write: [{url: 'http://h:x/'}]", "url: must have a host, or a host and the number of a port"),
            ("remote_write: [{url: 'http://[::1/'}]", "url: must have a host"),
            ("remote_write: [{url: 'http://h/%zz'}]", "url: has a % that no two"),
            ("remote_write: [{url: \"http://h/\\x01\"}]", "url: has a control character"),
        ],
        str::to_owned,
    );
    good("remote_write: [{url: 'http://[::1]:90/a%20b?c=%zz'}, {url: 'http://h:/'}]");
    assert_eq!(job("scheme: HTTPS").expect("good").scheme, "HTTPS");
    assert_eq!(job("params: {a: }").expect("good").params["a"], Vec::<String>::new());
}

#[test]
fn sections_without_meaning_are_noted() {
    let text = "global: {evaluation_interval: 1m, rule_query_offset: 0s}\nruntime: {gogc: 75}\notlp: {}\ntracing: {endpoint: 'h:1'}\n\
        rule_files:\nalerting: {alertmanagers: []}\nremote_read: []\n\
        storage: {tsdb: {out_of_order_time_window: 30m}}\n";
    let loaded = good(text);
    let paths: Vec<_> = loaded.notes.iter().map(|n| n.path.as_str()).collect();
    assert_eq!(
        paths,
        ["global.evaluation_interval", "global.rule_query_offset", "runtime", "otlp", "tracing", "storage"]
    );
    assert!(loaded.notes.iter().all(|n| n.kind == NoteKind::NoEffect));
    assert_eq!(loaded.config.out_of_order_window.as_secs(), 1800);
    let ignore = LoadOptions { ignore: &["rule_files", "remote_read"], env: &|_| None, extra_scrape_metrics: false };
    let loaded = load_with("rule_files: [a]\nremote_read: [{url: x}]\n", &ignore).expect("ignored");
    assert_eq!(loaded.notes.iter().filter(|n| n.kind == NoteKind::Ignored).count(), 2);
    let wrong = load_with("", &LoadOptions { ignore: &["alertin"], env: &|_| None, extra_scrape_metrics: false })
        .expect_err("unknown name");
    assert!(wrong.to_string().contains("did you mean alerting?"), "{wrong}");
    let unsupported = load_with("scrape_configs: [{job_name: a, oauth2: {a: b}}]", &ignore);
    assert!(unsupported.is_err(), "only whole server sections can be ignored");
}

#[test]
fn destinations_get_names_that_last() {
    let text = "remote_write:\n- url: https://a/push\n  headers: {X-Scope-OrgID: t}\n  queue_config: {max_shards: 7}\n  \
        authorization: {credentials: hunter2}\n- {url: https://a/push, name: n}\n\
        - {url: https://a/push, remote_timeout: 5s}\n";
    let remote = good(text).config.remote_write;
    let [a, n, b] = remote.as_slice() else { panic!("three") };
    assert_eq!(a.name.len(), 6);
    assert!(n.name == "n" && a.name != b.name);
    assert_eq!(a.headers["X-Scope-OrgID"], "t");
    assert_eq!((a.queue.max_shards, a.queue.min_shards, a.queue.max_samples_per_send), (7, 1, 10_000));
    assert_eq!((a.queue.retry_on_http_429, a.remote_timeout.as_secs()), (None, 30));
    let again = good(&text.replace("hunter2", "other").replace("max_shards: 7", "max_shards: 8"));
    assert_eq!(again.config.remote_write[0].name, a.name, "the cursor must survive a change of settings");
}

#[test]
fn secrets_never_print() {
    let text = "scrape_configs:\n- {job_name: a, basic_auth: {username: u, password: hunter2}}\n- job_name: b\n  \
        bearer_token: hunter2\n- {job_name: 'yes', scrape_interval: 15s, metrics_path: 'a: b'}\n\
        remote_write:\n- url: http://x\n  headers:\n    \
        X-Api-Key: hunter2\n    X-Scope-OrgID: me\n  tls_config: {key: hunter2, cert: c}\n";
    let loaded = good(text);
    assert!(!loaded.text.contains("hunter2"), "{}", loaded.text);
    assert_eq!(loaded.text.matches("<secret>").count(), 4, "{}", loaded.text);
    assert!(loaded.text.contains("X-Scope-OrgID: me"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let again = good(&loaded.text);
    assert_eq!(again.text, loaded.text, "the text is valid and stable");
    assert_eq!(again.config.scrape_configs[2], loaded.config.scrape_configs[2]);
    let bad = errors("scrape_configs: [{job_name: a, basic_auth: {password: [hunter2]}, bearer_token: {hunter2: 1}}]");
    assert!(!bad.is_empty() && !format!("{bad:?}").contains("hunter2"), "{bad:?}");
}

#[test]
fn job_files_are_part_of_the_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    std::fs::create_dir(dir.path().join("jobs")).expect("created");
    write(
        "p.yml",
        "global: {scrape_interval: 9s}\nscrape_config_files: [jobs/*.yml, none/*.yml]\n\
         scrape_configs: [{job_name: a}]\n",
    );
    write("jobs/1.yml", "scrape_configs:\n- job_name: b\n  authorization: {credentials_file: token}\n");
    write("jobs/2.yml", "");
    let loaded = load(&dir.path().join("p.yml"), &options()).expect("good");
    let [_, b] = loaded.config.scrape_configs.as_slice() else { panic!("two jobs") };
    assert_eq!((b.job_name.as_str(), b.scrape_interval.as_secs()), ("b", 9));
    let Auth::Header { credentials: Some(SecretSource::File(f)), .. } = &b.http.auth else { panic!("{b:?}") };
    assert_eq!(f, &dir.path().join("jobs/token"));
    write("jobs/2.yml", "global: {}\nscrape_configs: [{job_name: a}]\n");
    let errors = load(&dir.path().join("p.yml"), &options()).expect_err("bad").0;
    assert_eq!(errors.len(), 2);
    assert!(errors[0].file.ends_with("jobs/2.yml") && errors[0].what.contains("scrape_configs only"), "{errors:?}");
    assert!(errors[1].what.contains("job_name \"a\" is taken by") && errors[1].what.contains("p.yml"), "{errors:?}");
}

#[test]
fn check_looks_at_what_a_file_points_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p.yml");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    write(
        "p.yml",
        "global: {evaluation_interval: 1m}\nscrape_configs:\n\
         - {job_name: a, file_sd_configs: [{files: [t/*.json, none.yml]}]}\n",
    );
    let (report, code) = check(&[path.clone()], &options(), Depth::Files);
    assert_eq!(code, 0, "{report}");
    assert!(report.contains("none.yml does not exist (yet)"), "{report}");
    assert!(report.ends_with("p.yml: OK  1 job. no effect here: global.evaluation_interval.\n"), "{report}");
    std::fs::create_dir(dir.path().join("t")).expect("created");
    write("t/1.json", "[{\"targets\": [\"http://a\"]}]");
    write("t/2.json", "[{\"target\": []}]");
    let (report, code) = check(&[path.clone()], &options(), Depth::Files);
    assert_eq!(code, 1);
    assert!(report.contains("t/1.json: [0].targets[0]: \"http://a\" is not host:port"), "{report}");
    assert!(report.contains("t/2.json:1: unknown field `target`"), "{report}");
    write("p.yml", "remote_write: [{url: http://x, name: n, authorization: {credentials_file: nowhere}}]\n");
    assert_eq!(check(&[path.clone()], &options(), Depth::Syntax).1, 0, "credentials may be elsewhere");
    let (report, code) = check(&[path, dir.path().join("absent.yml")], &options(), Depth::Files);
    assert_eq!(code, 1);
    assert!(report.contains("remote_write \"n\": ") && report.contains("nowhere: No such file"), "{report}");
    assert!(report.contains("absent.yml: cannot be read"), "{report}");
}

#[test]
fn debian_file_loads_with_ignore() {
    let path = Path::new("/etc/prometheus/prometheus.yml");
    if !path.exists() {
        eprintln!("SKIP debian_file_loads_with_ignore: the Debian package is not installed");
        return;
    }
    let ignore = LoadOptions { ignore: &["alerting"], env: &|_| None, extra_scrape_metrics: false };
    assert_eq!(load(path, &ignore).expect("loads").config.scrape_configs.len(), 2);
    let (report, code) = check(&[path.to_owned()], &ignore, Depth::Files);
    assert_eq!(code, 0);
    assert!(report.contains("OK  2 jobs. ignored on request: alerting; no effect here: "), "{report}");
    let refused = load(path, &options()).expect_err("alerting");
    assert!(refused.to_string().contains("--config.ignore=alerting"), "{refused}");
}
