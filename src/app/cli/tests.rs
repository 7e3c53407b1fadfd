//! What command lines come to.

use super::*;
use crate::config::Depth;
use crate::web::Lifecycle;

fn invocation(args: &[&str]) -> Result<Invocation, CliError> {
    parse_from(std::iter::once("ringscrape").chain(args.iter().copied()))
}

fn options(args: &[&str]) -> Options {
    match invocation(args) {
        Ok(Invocation::Run(options)) => *options,
        other => panic!("not a run: {other:?}"),
    }
}

fn refusal(args: &[&str]) -> String {
    match invocation(args) {
        Ok(other) => panic!("accepted: {other:?}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn declarations_hold_together() {
    typed::Typed::command().debug_assert();
}

#[test]
fn nothing_typed_is_run_with_our_defaults() {
    let o = options(&[]);
    assert_eq!(o, options(&["run"]));
    assert_eq!(o.mode, Mode::Native);
    assert_eq!(o.config_file, PathBuf::from("prometheus.yml"));
    assert_eq!(o.storage_path, PathBuf::from("data"));
    assert_eq!(o.web.listen_addresses, ["127.0.0.1:9099"]);
    assert_eq!(o.web.route_prefix, "/");
    assert_eq!(o.web.lifecycle, Lifecycle::Disabled);
    assert_eq!((o.web.connections_max, o.web.read_timeout), (512, Duration::from_secs(300)));
    assert_eq!(o.sync, Sync::Every(Duration::from_secs(1)));
    assert_eq!(o.flush_deadline, Duration::from_secs(60));
    assert_eq!(o.scrape.timestamp_tolerance, Some(Duration::from_millis(2)));
    assert_eq!(o.scrape.keep_alive, KeepAlive::Always);
    assert_eq!(o.scrape.discovery_reload_interval, Duration::from_secs(5));
    assert_eq!(o.scrape.placement_interval, Duration::from_secs(60));
    assert_eq!((o.shards, o.cpus.as_slice(), o.engine), (None, &[][..], EngineChoice::Auto));
    assert_eq!((o.auto_reload, o.notes.len(), o.features.len()), (None, 0, 0));
}

#[test]
fn an_operators_agent_line_starts_unchanged() {
    let o = options(&[
        "--config.file=/etc/prometheus/config_out/prometheus.env.yaml",
        "--agent",
        "--enable-feature=agent,native-histograms",
        "--storage.agent.path=/prometheus",
        "--no-storage.agent.wal-compression",
        "--web.enable-lifecycle",
        "--web.route-prefix=/",
        "--web.external-url=http://p.example/x",
        "--web.page-title=A title",
        "--web.max-connections=16",
        "--web.config.file=",
        "--web.console.templates=/etc/prometheus/consoles",
        "--web.console.libraries=/etc/prometheus/console_libraries",
        "--log.level=warn",
        "--log.format=json",
    ]);
    assert_eq!(o.mode, Mode::Agent);
    assert_eq!(o.storage_path, PathBuf::from("/prometheus"));
    assert_eq!(o.web.listen_addresses, ["0.0.0.0:9090"]);
    assert_eq!(o.web.route_prefix, "/");
    assert_eq!(o.web.external_url, "http://p.example/x");
    assert_eq!(o.web.lifecycle, Lifecycle::Enabled);
    assert_eq!(o.features, ["native-histograms"]);
    assert_eq!(o.log, LogOptions { level: LogLevel::Warn, format: LogFormat::Json });
    let notes = o.notes.join("; ");
    for flag in ["storage.agent.wal-compression", "web.console.templates", "web.console.libraries"] {
        assert!(notes.contains(flag), "{notes}");
    }
    assert!(!notes.contains("agent.path") && !notes.contains("native-histograms"), "{notes}");
    assert_eq!(o.flags()["storage.agent.wal-compression"], "false");
    assert_eq!(o.flags()["agent"], "true");
}

#[test]
fn the_feature_alone_means_agent() {
    let o = options(&["--enable-feature=agent"]);
    assert_eq!((o.mode, o.storage_path), (Mode::Agent, PathBuf::from("data-agent/")));
}

#[test]
fn values_follow_a_space_or_an_equals_sign() {
    assert_eq!(options(&["--shards", "4"]).shards, options(&["--shards=4"]).shards);
    assert_eq!(options(&["--config.file", "a.yml"]).config_file, PathBuf::from("a.yml"));
    let two = options(&["--web.listen-address=:1", "--web.listen-address", "[::1]:2"]);
    assert_eq!(two.web.listen_addresses, [":1", "[::1]:2"]);
}

#[test]
fn switches_can_be_negated() {
    assert_eq!(options(&["--no-scrape.adjust-timestamps"]).scrape.timestamp_tolerance, None);
    assert_eq!(options(&["--scrape.adjust-timestamps=false"]).scrape.timestamp_tolerance, None);
    assert!(options(&["--scrape.adjust-timestamps"]).scrape.timestamp_tolerance.is_some());
    assert_eq!(options(&["--no-web.enable-lifecycle"]).web.lifecycle, Lifecycle::Disabled);
    assert!(refusal(&["--no-shards"]).contains("unexpected argument"));
}

#[test]
fn extra_scrape_metrics_are_a_feature() {
    assert!(options(&["--enable-feature=extra-scrape-metrics"]).extra_scrape_metrics);
    assert!(!options(&["--log.level=WARN"]).extra_scrape_metrics, "levels are read in either case");
}

#[test]
fn automatic_reload_has_a_flag_and_a_feature() {
    let o = options(&["--enable-feature=auto-reload-config"]);
    assert_eq!((o.auto_reload, o.notes.len()), (Some(Duration::from_secs(30)), 0));
    let o = options(&["--config.auto-reload", "--config.auto-reload-interval=1m"]);
    assert_eq!((o.auto_reload, o.notes.len()), (Some(Duration::from_secs(60)), 0));
    assert_eq!(options(&["--config.auto-reload-interval=1m"]).auto_reload, None);
}

#[test]
fn unknown_flags_are_errors_with_a_suggestion() {
    let text = refusal(&["--storage.pth=x"]);
    assert!(text.contains("--storage.path"), "{text}");
    // Each as Prometheus 3.16 ends.
    for (flag, code) in [
        ("--nonsense", 1),
        ("nonsense", 1),
        ("--log.level", 1),
        ("--web.enable-lifecycle=maybe", 1),
        ("--web.listen-address=x", 1),
        ("--web.config.file=/nowhere/at.all", 1),
        ("--log.level=x", 2),
        ("--web.read-timeout=x", 2),
        ("--web.external-url=http://[", 2),
        ("--storage.tsdb.path=x", 3),
        ("--help", 0),
    ] {
        let e = invocation(&["--config.file=x.yml", flag]).expect_err(flag);
        assert_eq!(e.exit_code(), code, "{flag}: {e}");
    }
}

#[test]
fn server_flags_say_what_to_use_instead() {
    let e = invocation(&["--config.file=x.yml", "--storage.tsdb.path=/p"]).unwrap_err();
    assert_eq!(e.exit_code(), 3);
    assert!(e.to_string().contains("Use --storage.path"), "{e}");
    assert!(refusal(&["--no-storage.tsdb.wal-compression"]).contains("server mode"));
    assert!(refusal(&["--query.timeout", "5m"]).contains("remote write"));
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    assert!(refusal(&["--storage.path=a", "--storage.agent.path=b"]).contains("give one of them"));
    assert!(refusal(&["--config.auto-reload", "--config.auto-reload-interval=10ms"]).contains("at least 1s"));
    assert!(refusal(&["--web.listen-address=127.0.0.1"]).contains("no port"));
    assert!(refusal(&["--web.external-url='http://x'"]).contains("quote"));
    assert!(refusal(&["--web.external-url=not a url"]).contains("not a URL"));
    assert!(refusal(&["--web.read-timeout=0"]).contains("idle connection"));
    assert!(refusal(&["--web.route-prefix=/{x}"]).contains("letters"));
    assert!(refusal(&["--web.cors.origin=("]).contains("regular expression"));
    assert!(refusal(&["--shards=0"]).contains("--shards"));
}

#[test]
fn a_web_config_that_asks_for_something_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yml");
    let flag = format!("--web.config.file={}", file.display());
    assert!(refusal(&[&flag]).contains("cannot read"));
    std::fs::write(&file, "# nothing\n---\n{}\n").unwrap();
    options(&[&flag]);
    std::fs::write(&file, "basic_auth_users:\n  a: b\n").unwrap();
    assert!(refusal(&[&flag]).contains("does not offer"));
}

#[test]
fn the_external_url_moves_the_routes() {
    let o = options(&["--web.external-url=https://h:1/a/b/?x"]);
    assert_eq!(o.web.route_prefix, "/a/b");
    let o = options(&["--web.external-url=/east/"]);
    assert_eq!((o.web.route_prefix.as_str(), o.web.external_url.as_str()), ("/east", "/east"));
    let o = options(&["--web.external-url=x/y/"]);
    assert_eq!((o.web.route_prefix.as_str(), o.web.external_url.as_str()), ("/x/y", "/x/y"));
    assert_eq!(options(&["--web.route-prefix=x/"]).web.route_prefix, "/x");
    assert!(options(&[]).web.external_url.ends_with(":9099"));
}

#[test]
fn durations_are_read_as_prometheus_reads_them() {
    let ms = |t: &str| values::duration(t).map(|d| d.as_millis()).ok();
    assert_eq!(ms("0"), Some(0));
    assert_eq!(ms("1h30m"), Some(5_400_000));
    assert_eq!(ms("1m250ms"), Some(60_250));
    assert_eq!(ms("1y2w3d"), Some((365 + 14 + 3) * 86_400_000));
    for wrong in ["", "1", "m", "1s1m", "1s1s", "-1s", "1.5s", "1 s", "300y", "99999999999999999999s", "1\u{b5}s"] {
        assert_eq!(ms(wrong), None, "{wrong}");
    }
}

#[test]
fn sizes_are_powers_of_two() {
    assert_eq!(values::bytes("512MB"), Ok(512 << 20));
    assert_eq!(values::bytes("1KiB"), Ok(1024));
    assert_eq!(values::bytes("15EB"), Ok(15 << 60));
    for wrong in ["", "1", "GB", "1.5GB", "16EB", "1gb"] {
        assert!(values::bytes(wrong).is_err(), "{wrong}");
    }
    assert_eq!(options(&["--storage.retention.size=1GB"]).retention_size_bytes, Some(1 << 30));
}

#[test]
fn connections_to_targets() {
    assert_eq!(options(&["--scrape.keep-alive=auto"]).scrape.keep_alive, KeepAlive::Auto);
    assert_eq!(options(&["--scrape.keep-alive=never"]).scrape.keep_alive, KeepAlive::Never);
    assert!(refusal(&["--scrape.keep-alive=no"]).contains("auto, always or never"));
}

#[test]
fn sync_and_cpus() {
    assert_eq!(values::sync("batch"), Ok(Sync::Batch));
    assert_eq!(values::sync("os"), Ok(Sync::Os));
    assert_eq!(values::sync("250ms"), Ok(Sync::Every(Duration::from_millis(250))));
    assert!(values::sync("0").is_err() && values::sync("often").is_err());
    assert_eq!(options(&["--cpus=4-6,1,5"]).cpus, [4, 5, 6, 1]);
    for wrong in ["", "3-1", "a", "0-99999", "1,,2"] {
        assert!(values::cpus(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_flag_is_reported_with_its_effective_value() {
    let o = options(&["--config.ignore=alerting,rule_files"]);
    let flags = o.flags();
    assert_eq!(flags["config.ignore"], "alerting,rule_files");
    assert_eq!(flags["storage.path"], "data");
    assert_eq!(flags["web.listen-address"], "127.0.0.1:9099");
    assert_eq!(flags["storage.remote.flush-deadline"], "1m");
    assert_eq!(flags["scrape.adjust-timestamps"], "true");
    assert_eq!(flags["engine"], "auto");
    assert!(!flags.contains_key("help") && !flags.contains_key("auto-gomemlimit"));
}

#[test]
fn subcommands() {
    let files = vec![PathBuf::from("a.yml"), PathBuf::from("b.yml")];
    let ignored_keys = vec!["alerting".to_owned()];
    assert_eq!(
        invocation(&["check", "config", "a.yml", "b.yml", "--config.ignore=alerting"]).unwrap(),
        Invocation::CheckConfig { files: files.clone(), ignored_keys, depth: Depth::Files }
    );
    assert_eq!(
        invocation(&["check", "config", "--syntax-only", "a.yml", "b.yml"]).unwrap(),
        Invocation::CheckConfig { files, ignored_keys: Vec::new(), depth: Depth::Syntax }
    );
    assert!(invocation(&["check", "config"]).is_err());
    assert_eq!(invocation(&["check", "metrics"]).unwrap(), Invocation::CheckMetrics);
    assert_eq!(
        invocation(&["journal", "inspect", "d"]).unwrap(),
        Invocation::JournalInspect { dir: PathBuf::from("d") }
    );
    let Ok(Invocation::Export(export)) = invocation(&["export", "--format=openmetrics", "--match", "up{a=\"b\"}"])
    else {
        panic!("not an export")
    };
    assert_eq!((export.storage_path, export.matches), (PathBuf::from("data"), vec!["up{a=\"b\"}".to_owned()]));
    assert!(matches!(invocation(&["demo", "--targets", "5"]).unwrap(), Invocation::Demo(d) if d.targets == 5));
    let demo = invocation(&["demo", "--web.listen-address=127.0.0.1:0"]).unwrap();
    assert!(matches!(demo, Invocation::Demo(d) if d.listen_address == "127.0.0.1:0" && d.targets == 1000));
    let doctor = invocation(&["doctor", "--json"]).unwrap();
    assert!(matches!(doctor, Invocation::Doctor { format: super::DoctorFormat::Json, .. }));
    assert!(matches!(invocation(&["scrape", "http://h/m"]).unwrap(), Invocation::Scrape(s) if s.url == "http://h/m"));
    assert!(matches!(invocation(&["doctor"]).unwrap(), Invocation::Doctor { .. }));
}

#[test]
fn help_is_an_answer_and_not_a_failure() {
    let help = invocation(&["--help"]).unwrap_err();
    assert!(help.is_answer() && help.exit_code() == 0);
    assert!(help.to_string().contains("--storage.sync"));
    assert!(!help.to_string().contains("gomemlimit"));
}
