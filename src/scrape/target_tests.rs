//! One case a line for what becomes of an entry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::target::{FNV_START, Made, Target, TargetMaker, fnv1a};
use crate::config::{NameValidation, RelabelAction, RelabelConfig, ScrapeConfig};
use crate::model::Labels;
use crate::scrape::{Host, Scheme};

fn config() -> ScrapeConfig {
    ScrapeConfig {
        job_name: "node".into(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".into(),
        scheme: "http".into(),
        ..ScrapeConfig::default()
    }
}

fn rule(action: RelabelAction, source: &[&str], regex: &str, target: &str, replacement: &str) -> RelabelConfig {
    RelabelConfig {
        source_labels: source.iter().map(|s| (*s).to_owned()).collect(),
        separator: ";".into(),
        regex: regex.into(),
        modulus: 0,
        target_label: target.into(),
        replacement: replacement.into(),
        action,
        name_validation: NameValidation::Utf8,
    }
}

fn made(config: ScrapeConfig, entry: &[(&str, &str)], group: &[(&str, &str)]) -> Made {
    let maker = TargetMaker::new(Arc::new(config), 0).unwrap();
    maker.make(&Labels::from_pairs(entry.iter().copied()), &Labels::from_pairs(group.iter().copied()))
}

fn active(config: ScrapeConfig, entry: &[(&str, &str)]) -> Target {
    match made(config, entry, &[]) {
        Made::Active(t) => t,
        other => panic!("{entry:?}: {other:?}"),
    }
}

fn error(entry: &[(&str, &str)]) -> String {
    match made(config(), entry, &[]) {
        Made::Failed(e) => e.to_string(),
        other => panic!("{entry:?}: {other:?}"),
    }
}

#[test]
fn hash_and_phase_are_those_prometheus_computed() {
    let entry = Labels::from_pairs([("__address__", "10.0.0.1:9100")]);
    for (seed, want_offset_ns) in [(0, 11_579_308_123_942_531_805u64 % 15_000_000_000), (12_244_564_969_904_364_541, 0)]
    {
        let maker = TargetMaker::new(Arc::new(config()), seed).unwrap();
        let Made::Active(t) = maker.make(&entry, &Labels::default()) else { panic!("active") };
        assert_eq!(t.spec.hash.0, 11_579_308_123_942_531_805);
        // The wait that Prometheus computed, from the offset: prometheus-scrape.md section 2.3.
        let wait = |now: i64| {
            let interval = 15_000_000_000;
            let wait = interval - now % interval + t.spec.offset_ns;
            if wait > interval { wait - interval } else { wait }
        };
        if seed == 0 {
            assert_eq!(t.spec.offset_ns as u64, want_offset_ns);
            assert_eq!(wait(1_700_000_000_000_000_000), 8_942_531_805);
            assert_eq!(wait(1_700_000_007_123_456_789), 1_819_075_016);
        } else {
            assert_eq!(wait(1_700_000_000_000_000_000), 7_887_872_288);
        }
    }
}

#[test]
fn fnv_is_fnv_1a() {
    assert_eq!(fnv1a(FNV_START, b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a(FNV_START, b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn discovered_labels_are_entry_then_group_then_defaults() {
    let mut c = config();
    c.params = BTreeMap::from([("q".into(), vec!["1".into(), "2".into()]), ("none".into(), vec![])]);
    let maker = TargetMaker::new(Arc::new(c), 0).unwrap();
    let entry = Labels::from_pairs([("__address__", "a:1"), ("x", "entry")]);
    let group = Labels::from_pairs([("x", "group"), ("y", "group"), ("__scheme__", "https"), ("job", "mine")]);
    let want = "{__address__=\"a:1\", __always_scrape_classic_histograms__=\"false\", \
        __convert_classic_histograms_to_nhcb__=\"false\", __metrics_path__=\"/metrics\", __param_q=\"1\", \
        __scheme__=\"https\", __scrape_interval__=\"15s\", __scrape_native_histograms__=\"false\", \
        __scrape_timeout__=\"10s\", job=\"mine\", x=\"entry\", y=\"group\"}";
    assert_eq!(maker.discovered(&entry, &group).to_string(), want);
}

#[test]
fn public_labels_are_what_samples_carry() {
    for (entry, want) in [
        (&[("__address__", "a:1")][..], "{instance=\"a:1\", job=\"node\"}"),
        (&[("__address__", "a")], "{instance=\"a\", job=\"node\"}"),
        (&[("__address__", "a:1"), ("instance", "i")], "{instance=\"i\", job=\"node\"}"),
        (
            &[("__address__", "a:1"), ("__meta_x", "1"), ("__tmp", "2"), ("_y", "3")],
            "{_y=\"3\", instance=\"a:1\", job=\"node\"}",
        ),
    ] {
        assert_eq!(active(config(), entry).spec.labels.to_string(), want);
    }
}

#[test]
fn meta_labels_do_not_reach_the_hash_and_other_reserved_ones_do() {
    let hash = |entry: &[(&str, &str)]| active(config(), entry).spec.hash;
    let plain = hash(&[("__address__", "a:1")]);
    assert_eq!(plain, hash(&[("__address__", "a:1"), ("__meta_x", "1")]));
    assert_ne!(plain, hash(&[("__address__", "a:1"), ("__tmp_x", "1")]));
    assert_ne!(plain, hash(&[("__address__", "a:1"), ("__scrape_interval__", "30s")]));
    assert_eq!(plain, hash(&[("__address__", "a:1"), ("__scrape_interval__", "")]));
}

#[test]
fn bad_entries_say_what_is_wrong() {
    for (name, value, want) in [
        ("__address__", "", "no address"),
        ("__address__", "http://a", "\"http://a\" is not a valid hostname"),
        ("__scrape_interval__", "abc", "error parsing scrape interval: \"abc\" is not a duration"),
        ("__scrape_interval__", "0s", "error parsing scrape interval: cannot be 0"),
        ("__scrape_timeout__", "1x", "error parsing scrape timeout: \"1x\" is not a duration"),
        ("__scrape_timeout__", "0", "error parsing scrape timeout: cannot be 0"),
        ("__scrape_timeout__", "16s", "scrape timeout cannot be greater than scrape interval (\"16s\" > \"15s\")"),
        ("__scrape_native_histograms__", "yes", "error parsing scrape native histograms: \"yes\" is not true or false"),
        ("__convert_classic_histograms_to_nhcb__", "2", "error parsing convert classic histograms to nhcb: \"2\""),
        ("__always_scrape_classic_histograms__", "no", "error parsing always scrape classic histograms: \"no\""),
    ] {
        let got = error(&[("__address__", "a:1"), (name, value)]);
        assert!(got.starts_with(want), "{name}={value}: {got}");
    }
}

#[test]
fn go_booleans_and_schemes_in_any_case_are_taken() {
    for value in ["1", "t", "TRUE", "true", "True", "0", "f", "False"] {
        active(config(), &[("__address__", "a:1"), ("__scrape_native_histograms__", value)]);
    }
    assert_eq!(active(config(), &[("__address__", "a:1"), ("__scheme__", "HTTP")]).url, "HTTP://a:1/metrics");
    let secure = active(config(), &[("__address__", "1.2.3.4"), ("__scheme__", "https")]);
    assert_eq!((secure.url.as_str(), secure.spec.scheme), ("https://1.2.3.4/metrics", Scheme::Https));
    assert_eq!(secure.spec.host, Host::Addr("1.2.3.4:443".parse().unwrap()));
    let other = active(config(), &[("__address__", "a:1"), ("__scheme__", "ftp")]);
    assert_eq!(other.url, "ftp://a:1/metrics");
    let text = "Get \"ftp://a:1/metrics\": unsupported protocol scheme \"ftp\"";
    assert_eq!(other.spec.host, Host::Nowhere(text.into()));
}

#[test]
fn urls_follow_labels_and_parameters() {
    let mut c = config();
    c.params = BTreeMap::from([("module".into(), vec!["icmp".into(), "x".into()]), ("b".into(), vec!["1 2".into()])]);
    for (entry, url, path) in [
        (&[][..], "http://a:1/metrics?b=1+2&module=icmp&module=x", "/metrics?b=1+2&module=icmp&module=x"),
        (
            &[("__param_module", "tcp")],
            "http://a:1/metrics?b=1+2&module=tcp&module=x",
            "/metrics?b=1+2&module=tcp&module=x",
        ),
        (
            &[("__param_new", "é")],
            "http://a:1/metrics?b=1+2&module=icmp&module=x&new=%C3%A9",
            "/metrics?b=1+2&module=icmp&module=x&new=%C3%A9",
        ),
        (
            &[("__metrics_path__", "probe?x")],
            "http://a:1/probe%3Fx?b=1+2&module=icmp&module=x",
            "/probe%3Fx?b=1+2&module=icmp&module=x",
        ),
    ] {
        let mut all = vec![("__address__", "a:1")];
        all.extend(entry);
        let t = active(c.clone(), &all);
        assert_eq!((t.url.as_str(), &*t.spec.path), (url, path));
    }
}

#[test]
fn relabelling_drops_moves_and_overrides() {
    let mut c = config();
    c.relabel_configs = vec![
        rule(RelabelAction::Drop, &["env"], "test", "", ""),
        rule(RelabelAction::Replace, &["__meta_node"], "(.+)", "instance", "$1"),
        rule(RelabelAction::Replace, &["slow"], "yes", "__scrape_interval__", "1m"),
        rule(RelabelAction::Replace, &["lost"], "yes", "__address__", ""),
    ];
    assert!(matches!(made(c.clone(), &[("__address__", "a:1"), ("env", "test")], &[]), Made::Dropped));
    assert!(matches!(made(c.clone(), &[("__address__", "a:1")], &[("env", "test")]), Made::Dropped));
    assert!(matches!(made(c.clone(), &[("__address__", "a:1"), ("lost", "yes")], &[]), Made::Failed(_)));
    let t = active(c, &[("__address__", "a:1"), ("__meta_node", "n1"), ("slow", "yes")]);
    assert_eq!(t.spec.labels.get("instance"), Some("n1"));
    assert_eq!((t.spec.interval_ns, t.spec.timeout_ns), (60_000_000_000, 10_000_000_000));
    assert_eq!((&*t.interval, &*t.timeout), ("1m", "10s"));
}

#[test]
fn label_order_and_group_origin_do_not_matter() {
    let a = active(config(), &[("__address__", "a:1"), ("x", "1")]);
    let Made::Active(b) = made(config(), &[("__address__", "a:1")], &[("x", "1")]) else { panic!("active") };
    assert_eq!((a.spec.hash, a.public_hash), (b.spec.hash, b.public_hash));
}

#[test]
fn a_label_too_long_to_pack_is_an_error_and_no_panic() {
    let mut c = config();
    c.relabel_configs = vec![rule(RelabelAction::Replace, &["x", "x", "x"], "(.*)", "y", "$1$1")];
    let x = "x".repeat(3 << 20);
    let Made::Failed(e) = made(c, &[("__address__", "a:1"), ("x", &x)], &[]) else { panic!("failed") };
    assert_eq!(e.to_string(), "label \"y\": name or value reaches 16 MiB");
}
