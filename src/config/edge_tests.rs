//! Edges of files that were compared with `promtool check config --agent` of 3.16: what it takes is taken, what it refuses refused.

use super::*;

fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).expect("written");
    load(&path, &LoadOptions { ignore: &[], env: &|_| None, extra_scrape_metrics: false })
}

fn good(text: &str) -> Loaded {
    load_text(text).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

fn refused(text: &str, want: &str) {
    let errors = load_text(text).err().unwrap_or_else(|| panic!("taken: {text}")).0;
    assert!(errors.iter().any(|e| e.to_string().contains(want)), "{text}: {errors:?}");
}

/// What a job that merges in this way becomes.
fn merged(body: &str) -> ScrapeConfig {
    let text = format!(
        "scrape_configs:\n- &a {{job_name: a, scheme: http, metrics_path: /a}}\n- &b {{job_name: b, scheme: https}}\n- {{{body}}}\n"
    );
    good(&text).config.scrape_configs.pop().expect("three jobs")
}

#[test]
fn of_keys_given_twice_by_merges_the_later_counts() {
    for (body, scheme, path) in [
        ("<<: *a, job_name: c", "http", "/a"),
        ("<<: *a, job_name: c, scheme: https", "https", "/a"),
        ("scheme: https, <<: *a, job_name: c", "http", "/a"),
        ("<<: [*b, *a], job_name: c", "https", "/a"),
        ("<<: *b, <<: *a, job_name: c", "http", "/a"),
        ("<<: [{scheme: HTTPS}], job_name: c", "HTTPS", "/metrics"),
        ("<<: [], job_name: c", "http", "/metrics"),
        ("!!merge <<: *b, job_name: c", "https", "/metrics"),
    ] {
        let job = merged(body);
        assert_eq!(
            (job.job_name.as_str(), job.scheme.as_str(), job.metrics_path.as_str()),
            ("c", scheme, path),
            "{body}"
        );
    }
    for (text, want) in [
        ("scrape_configs: [&a {job_name: a}, {job_name: b, <<: *a}]", "job_name \"a\" is taken"),
        ("scrape_configs: [{job_name: c, <<: {scheme: http, scheme: https}}]", "occurs twice"),
        ("scrape_configs: [{job_name: c, <<: 1}]", "merges maps only"),
        ("scrape_configs: [{job_name: c, <<: ~}]", "merges maps only"),
        ("scrape_configs: [{job_name: c, <<: [[{scheme: http}]]}]", "merges maps only"),
        ("scrape_configs: [{job_name: c, '<<': {scheme: http}}]", "unknown key"),
    ] {
        refused(text, want);
    }
}

/// Labels, parameters, headers: what is there is not set again.
#[test]
fn a_merge_gives_no_free_key_a_second_time() {
    let want = "is there twice";
    refused("global: {external_labels: {<<: {a: b}, a: c}}", want);
    refused("scrape_configs: [{job_name: a, params: {<<: {a: [b]}, a: [c]}}]", want);
    refused("scrape_configs: [{job_name: a, static_configs: [{labels: {a: b, <<: {a: b}}}]}]", want);
    refused("remote_write: [{url: 'http://h/', headers: {<<: [{a: b}, {a: b}]}}]", want);
    let labels = good("global: {external_labels: {<<: {a: b}, c: d}}").config.global.external_labels;
    assert_eq!(labels.iter().count(), 2);
}

#[test]
fn nothing_is_zero() {
    let queue = |body: &str| format!("remote_write: [{{url: 'http://h/', queue_config: {{{body}}}}}]");
    for key in ["capacity", "max_shards", "min_shards", "max_samples_per_send"] {
        refused(&queue(&format!("{key}: ~")), "must be above 0");
        refused(&queue(&format!("{key}: 0")), "must be above 0");
        refused(&queue(&format!("{key}: 9223372036854775808")), "is too large");
        // Stock cuts the fraction off, without a word.
        refused(&queue(&format!("{key}: 1.5")), "must be a whole number");
        good(&queue(&format!("{key}: 50.0")));
    }
    refused(&queue("max_backoff: ~"), "must not be shorter than min_backoff");
    let zero = good(&queue("batch_send_deadline: ~, min_backoff: ~, sample_age_limit: ~, retry_on_http_429: ~"));
    let queue = &zero.config.remote_write[0].queue;
    assert!(queue.batch_send_deadline.is_zero() && queue.min_backoff.is_zero() && queue.sample_age_limit.is_zero());
    assert_eq!(queue.retry_on_http_429, Some(false));
    let limits =
        good("scrape_configs: [{job_name: a, sample_limit: ~, body_size_limit: ~, scrape_interval: ~}]").config;
    let job = &limits.scrape_configs[0];
    assert_eq!((job.sample_limit, job.body_size_limit, job.scrape_interval.as_secs()), (0, 0, 60));
    for nothing in ["~", "0", "0s"] {
        let text = format!("remote_write: [{{url: 'http://h/', remote_timeout: {nothing}}}]");
        assert!(good(&text).notes[0].text.contains("no request can be answered in time"));
        // Stock takes it, and dies of it.
        let text = format!(
            "scrape_configs: [{{job_name: a, file_sd_configs: [{{files: [a.yml], refresh_interval: {nothing}}}]}}]"
        );
        refused(&text, "must be above 0");
    }
}

#[test]
fn tags_that_mean_nothing_make_texts() {
    let job = |body: &str| format!("scrape_configs: [{{job_name: a, {body}}}]");
    for body in [
        "scheme: !foo https",
        "scrape_interval: !foo 5s",
        "sample_limit: !!int \"5\"",
        "sample_limit: ! 5",
        "honor_labels: !!bool \"true\"",
        "static_configs: !!map [!foo {targets: ['h:1']}]",
        "!foo scheme: http",
    ] {
        good(&job(body));
    }
    refused(&job("sample_limit: !foo 5"), "must be a whole number");
    refused(&job("honor_labels: !foo true"), "must be true or false");
    refused(&job("honor_labels: !!int true"), "it is a !!bool");
    refused(&job("sample_limit: !!null 5"), "it is a !!int");
    refused(&job("!!int scheme: http"), "it is a !!str");
}

/// It loads and a target is down, as `__scheme__` may still come from a rule.
#[test]
fn any_scheme_loads_with_a_warning() {
    for scheme in ["~", "''", "ftp"] {
        let loaded = good(&format!("scrape_configs: [{{job_name: a, scheme: {scheme}}}]"));
        assert!(loaded.notes[0].text.contains("neither http nor https"), "{:?}", loaded.notes);
    }
}

#[test]
fn formats_that_are_not_spoken_are_told_once() {
    let warnings = |loaded: &Loaded| -> Vec<String> {
        let notes = loaded.notes.iter().filter(|n| n.kind == NoteKind::Warning);
        notes.map(|n| format!("{} {}: {}", n.line, n.path, n.text)).collect()
    };
    let jobs: String = (0..1000)
        .map(|i| {
            format!(
                "- {{job_name: j{i}, scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, PrometheusText0.0.4]}}\n"
            )
        })
        .collect();
    let text = format!(
        "global: {{scrape_protocols: [OpenMetricsText1.0.0]}}\nscrape_configs:\n{jobs}- {{job_name: a, fallback_scrape_protocol: PrometheusProto}}\n\
         - {{job_name: b, scrape_protocols: [PrometheusText1.0.0], fallback_scrape_protocol: PrometheusText0.0.4}}\n"
    );
    assert_eq!(
        warnings(&good(&text)),
        [
            "1 global: scrape_protocols: OpenMetricsText1.0.0 not spoken yet: the text format is asked for",
            "3 scrape_configs[0]: scrape_protocols: OpenMetricsText1.0.0, PrometheusProto not spoken yet: the text format is \
             asked for (and at 999 more places)",
            "1003 scrape_configs[1000]: fallback_scrape_protocol: PrometheusProto is not spoken yet: answers without a usable \
             Content-Type are refused",
        ]
    );
    assert_eq!(warnings(&good("scrape_configs: [{job_name: a}]")), Vec::<String>::new(), "defaults need no word");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).expect("written");
    let options = LoadOptions { ignore: &[], env: &|_| None, extra_scrape_metrics: false };
    let (report, code) = check(&[path], &options, Depth::Files);
    assert!(code == 0 && report.contains("warning: scrape_protocols: ") && report.lines().count() == 4, "{report}");
}
