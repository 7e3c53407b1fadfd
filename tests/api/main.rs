//! The API of the real binary over scripted targets: metadata, pools, status, compression.

mod counts;
mod destinations;
mod reload;
mod stop;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::answer::Answer;
use support::http::{fetch, fetch_with};
use support::process::{Scraper, engine};
use support::target::TargetServer;

/// Longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two targets of one job with equal families, one of another job with its own, one that is down.
fn start(dir: &Path) -> (TargetServer, Scraper) {
    let node = |n: u32| {
        format!(
            "# HELP load The \\\\ load.\n# TYPE load gauge\nload {n}\n# TYPE lines_total counter\nlines_total{{f=\"a\"}} {n}\nbare 1\n"
        )
    };
    let other = "# TYPE load counter\n# HELP load Another load.\nload 1\n";
    let bodies = [("/a", node(1)), ("/b", node(2)), ("/c", other.to_owned())];
    let mut scripts: support::target::Scripts =
        bodies.into_iter().map(|(path, body)| (path.to_owned(), vec![Answer::ok(body)])).collect();
    scripts.insert("/d".to_owned(), vec![Answer::status("500 Internal Server Error", "no")]);
    let server = TargetServer::start(scripts);
    let target =
        |path: &str| format!("{{targets: ['{}'], labels: {{__metrics_path__: /x/{path}, path: {path}}}}}", server.addr);
    let yaml = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n- job_name: node\n  static_configs: [{}, {}]\n\
         - job_name: other\n  static_configs: [{}, {}]\n",
        target("a"),
        target("b"),
        target("c"),
        target("d")
    );
    std::fs::write(dir.join("prometheus.yml"), yaml).expect("the directory is ours");
    let mut more = engine();
    more.push("--shards=2".to_owned());
    let scraper = Scraper::start(&PathBuf::from(env!("CARGO_BIN_EXE_ringscrape")), dir, &more);
    (server, scraper)
}

/// The `data` of an answer, once there is one.
fn data(scraper: &Scraper, path: &str) -> Value {
    let (status, body) = fetch(scraper.port, path, Duration::from_secs(5)).expect("the web answers");
    assert!(status.contains(" 200 "), "{path}: {status} {body}");
    let answer: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
    assert_eq!(answer["status"], "success", "{body}");
    answer["data"].clone()
}

fn until_scraped(scraper: &Scraper) {
    until(scraper, || {
        let targets = fetch(scraper.port, "/api/v1/targets?state=active", Duration::from_secs(5));
        let Some((_, body)) = targets.ok().filter(|(status, _)| status.contains(" 200 ")) else { return false };
        body.matches("\"health\":\"up\"").count() == 3 && body.matches("\"health\":\"down\"").count() == 1
    });
}

#[test]
fn metadata_comes_from_the_last_bodies() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (server, scraper) = start(dir.path());
    until_scraped(&scraper);

    let all = data(&scraper, "/api/v1/metadata");
    let counter = json!([{"type": "counter", "help": "", "unit": ""}]);
    let load = json!([
        {"type": "counter", "help": "Another load.", "unit": ""},
        {"type": "gauge", "help": "The \\ load.", "unit": ""},
    ]);
    assert_eq!(all, json!({"lines_total": counter, "load": load}));
    assert_eq!(data(&scraper, "/api/v1/metadata?limit=1").as_object().map(serde_json::Map::len), Some(1));
    let one = data(&scraper, "/api/v1/metadata?metric=load&limit_per_metric=1");
    assert_eq!((one.as_object().map(serde_json::Map::len), one["load"].as_array().map(Vec::len)), (Some(1), Some(1)));
    assert_eq!(data(&scraper, "/api/v1/metadata?metric=bare"), json!({}));

    let rows = data(&scraper, "/api/v1/targets/metadata");
    let rows = rows.as_array().expect("a list");
    assert_eq!(rows.len(), 5, "{rows:?}");
    let instance = server.addr.to_string();
    let of_c = json!({
        "target": {"instance": instance, "job": "other", "path": "c"},
        "metric": "load", "type": "counter", "help": "Another load.", "unit": "",
    });
    assert!(rows.contains(&of_c), "{rows:?}");
    // As in Prometheus a limit does not cut a target's list, and a named metric is not repeated in the rows.
    assert_eq!(data(&scraper, "/api/v1/targets/metadata?limit=1").as_array().map(Vec::len), Some(2));
    assert_eq!(data(&scraper, "/api/v1/targets/metadata?limit=0"), json!([]));
    let named = data(&scraper, "/api/v1/targets/metadata?match_target=%7Bpath%3D%22b%22%7D&metric=load");
    let of_b = json!({"instance": instance, "job": "node", "path": "b"});
    assert_eq!(named, json!([{"target": of_b, "type": "gauge", "help": "The \\ load.", "unit": ""}]));
}

#[test]
fn pools_and_status_answer() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_server, scraper) = start(dir.path());
    until_scraped(&scraper);
    assert_eq!(data(&scraper, "/api/v1/scrape_pools"), json!({"scrapePools": ["node", "other"]}));
    let yaml = data(&scraper, "/api/v1/status/config")["yaml"].as_str().map(str::to_owned).expect("a text");
    assert!(yaml.contains("job_name: other") && yaml.contains("scrape_interval: 500ms"), "{yaml}");
    assert_eq!(data(&scraper, "/api/v1/status/flags")["shards"], "2");
    assert_eq!(data(&scraper, "/api/v1/status/runtimeinfo")["shards"], 2);
    assert!(data(&scraper, "/api/v1/status/buildinfo")["version"].is_string());
}

#[test]
fn answers_are_compressed_for_whoever_takes_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_server, scraper) = start(dir.path());
    until_scraped(&scraper);
    let take = |path: &str, accept: &[(&str, &str)]| {
        fetch_with(scraper.port, path, accept, Duration::from_secs(5)).expect("the web answers")
    };
    for path in ["/api/v1/status/config", "/metrics"] {
        let (head, plain) = take(path, &[]);
        assert!(!head.contains("content-encoding"), "{head}");
        let (head, packed) = take(path, &[("Accept-Encoding", "deflate, gzip")]);
        assert!(head.contains("content-encoding: gzip"), "{head}");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("gzip");
        assert!(packed.len() < plain.len() && unpacked.len() > plain.len() / 2, "{path}");
        if path.starts_with("/api") {
            assert_eq!(unpacked, plain);
        }
    }
}

#[test]
fn pages_of_pools_are_the_whole_list() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_server, scraper) = start(dir.path());
    until_scraped(&scraper);
    let urls = |data: &Value| -> Vec<String> {
        let targets = data["activeTargets"].as_array().expect("a list");
        targets.iter().map(|t| t["scrapeUrl"].as_str().expect("a URL").to_owned()).collect()
    };
    let whole = urls(&data(&scraper, "/api/v1/targets?state=active"));
    assert_eq!(whole.len(), 4);
    for limit in 1..=4 {
        let (mut walked, mut token) = (Vec::new(), String::new());
        loop {
            let page = data(&scraper, &format!("/api/v1/targets?state=active&limit={limit}{token}"));
            let shown = urls(&page);
            assert!(shown.len() <= limit);
            walked.extend(shown);
            let Some(next) = page["nextPageToken"].as_str() else { break };
            token = format!("&page_token={next}");
        }
        assert_eq!(walked, whole, "pages of {limit}");
    }
    let other = urls(&data(&scraper, "/api/v1/targets?state=active&scrapePool=other"));
    assert_eq!(other.len(), 2);
}

/// A job on a listener over TLS.
fn secure_job(name: &str, at: std::net::SocketAddr, tls: &str) -> String {
    format!(
        "- job_name: {name}\n  scheme: https\n  metrics_path: /x/a\n  tls_config: {{{tls}}}\n  static_configs: [{{targets: ['{at}']}}]\n"
    )
}

/// Waits until each job's only target shows this in `lastError`; the empty text is that of a good one.
fn until_errors(scraper: &Scraper, wanted: &[(&str, &str)]) {
    let start = Instant::now();
    loop {
        let all = data(scraper, "/api/v1/targets?state=active");
        let all = all["activeTargets"].as_array().cloned().unwrap_or_default();
        let error = |job: &str| {
            let target = all.iter().find(|t| t["scrapePool"] == job && t["health"] != "unknown");
            target.map(|t| t["lastError"].as_str().unwrap_or_default().to_owned())
        };
        let wrong: Vec<_> = wanted
            .iter()
            .map(|(job, text)| (job, text, error(job)))
            .filter(|(_, text, got)| {
                got.as_ref().is_none_or(|got| if text.is_empty() { !got.is_empty() } else { !got.ends_with(*text) })
            })
            .collect();
        if wrong.is_empty() {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{wrong:?}\n{}", scraper.last_words());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn targets_over_tls_fail_precisely_and_files_are_read_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = TargetServer::start([("/a".to_owned(), vec![Answer::ok("a 1\n")])].into());
    let listeners: std::collections::HashMap<_, _> = server.secure().iter().copied().collect();
    // Its connections stand, and nobody ever takes them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let certificates = support::secure::certificates();
    let install = |from: &str| {
        let fresh = dir.path().join("fresh");
        std::fs::copy(certificates.join(from), &fresh).expect("a certificate");
        std::fs::rename(&fresh, dir.path().join("ca.pem")).expect("the directory is ours");
    };
    install("self-signed.pem");
    let key = std::fs::read_to_string(certificates.join("leaf-key.pem")).expect("a key");
    let cert = std::fs::read_to_string(certificates.join("client.pem")).expect("a certificate");
    let inline = |text: &str| format!("\"{}\"", text.replace('\n', "\\n"));
    let trusted = format!("ca_file: '{}'", certificates.join("ca.pem").display());
    // Relative to the configuration file, as everywhere.
    let rotated = secure_job("rotated", listeners["good"], "ca_file: ca.pem");
    let jobs = [
        secure_job("named", listeners["good"], &format!("{trusted}, server_name: other.test")),
        secure_job("address", listeners["wrong-name"], &trusted),
        secure_job("expired", listeners["expired"], &trusted),
        secure_job("plain", server.addr, &trusted),
        secure_job("silent", silent.local_addr().expect("an address"), &trusted),
        secure_job(
            "inline",
            listeners["client"],
            &format!("{trusted}, cert: {}, key: {}", inline(&cert), inline(&key)),
        ),
        secure_job("missing", listeners["good"], "ca_file: /nowhere/ca.pem"),
    ];
    let global = "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\nscrape_configs:\n";
    std::fs::write(dir.path().join("prometheus.yml"), format!("{global}{}{rotated}", jobs.concat())).expect("ours");
    let scraper = Scraper::start(&PathBuf::from(env!("CARGO_BIN_EXE_ringscrape")), dir.path(), &engine());
    until_ready(&scraper);
    until_errors(
        &scraper,
        &[
            ("named", "tls: certificate is not valid for name \"other.test\""),
            ("address", "tls: certificate is not valid for name \"127.0.0.1\""),
            ("expired", "tls: certificate has expired"),
            ("plain", "read: connection reset by peer"),
            ("silent", "context deadline exceeded during the TLS handshake"),
            ("inline", ""),
            ("missing", "tls_config: cannot read /nowhere/ca.pem: No such file or directory (os error 2)"),
            ("rotated", "tls: certificate signed by unknown authority"),
        ],
    );
    install("ca.pem");
    until_errors(&scraper, &[("rotated", "")]);
    // A connection that was made under the old file is not used under the new one.
    install("self-signed.pem");
    until_errors(&scraper, &[("rotated", "tls: certificate signed by unknown authority")]);
    std::fs::remove_file(dir.path().join("ca.pem")).expect("it was there");
    until_errors(&scraper, &[("rotated", "ca.pem: No such file or directory (os error 2)")]);
    install("ca.pem");
    until_errors(&scraper, &[("rotated", ""), ("inline", "")]);
    let shown = data(&scraper, "/api/v1/status/config")["yaml"].as_str().map(str::to_owned).expect("a text");
    let secret = key.lines().nth(1).expect("a second line");
    assert!(shown.contains("job_name: inline") && !shown.contains(secret) && !scraper.output().contains(secret));
}

/// Waits until it is so.
fn until(scraper: &Scraper, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{}", scraper.last_words());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Makes a pipe: whoever reads it waits until somebody has written.
fn named_pipe(path: &Path) -> PathBuf {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "a named pipe");
    path.to_owned()
}

fn until_ready(scraper: &Scraper) {
    let ready = || fetch(scraper.port, "/-/ready", Duration::from_secs(1));
    until(scraper, || ready().is_ok_and(|(status, _)| status.contains(" 200 ")));
}

/// Long before the end-of-run markers of its series are written.
#[test]
fn the_connection_to_a_removed_target_is_closed_at_once() {
    let dir = tempfile::tempdir().expect("room for files");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let target = listener.local_addr().expect("it listens");
    let config = |targets: &str| {
        let yaml = format!(
            "global: {{scrape_interval: 4s, scrape_timeout: 4s}}\nscrape_configs: [{{job_name: a, static_configs: [{{targets: [{targets}]}}]}}]\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), yaml).expect("the directory is ours");
    };
    config(&format!("'{target}'"));
    let scraper = Scraper::start(&PathBuf::from(env!("CARGO_BIN_EXE_ringscrape")), dir.path(), &engine());
    let (connection, _) = listener.accept().expect("the scraper dials");
    let closed = thread::spawn(move || answer_until_closed(connection));
    let targets = || data(&scraper, "/api/v1/targets")["activeTargets"].clone();
    until(&scraper, || targets()[0]["health"] == "up");
    config("");
    scraper.signal("HUP");
    until(&scraper, || targets() == json!([]));
    let removed = Instant::now();
    let closed = closed.join().expect("it closes");
    let took = closed.saturating_duration_since(removed);
    assert!(took < Duration::from_secs(2), "closed after {took:?}");
}

/// Answers each request; gives the time at which the scraper closed.
fn answer_until_closed(mut connection: std::net::TcpStream) -> Instant {
    connection.set_read_timeout(Some(PATIENCE)).expect("a time is given");
    let mut request = [0; 4096];
    while connection.read(&mut request).expect("it asks or closes") > 0 {
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\na 1\n";
        std::io::Write::write_all(&mut connection, answer.as_bytes()).expect("it listens");
    }
    Instant::now()
}

/// Also where the timeout is as long as the interval: the scrape that never ends must not take the next one's place.
#[test]
fn a_target_that_never_answers_is_asked_each_interval() {
    let dir = tempfile::tempdir().expect("room for files");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let target = listener.local_addr().expect("it listens");
    let yaml = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: a, static_configs: [{{targets: ['{target}']}}]}}]\n"
    );
    std::fs::write(dir.path().join("prometheus.yml"), yaml).expect("the directory is ours");
    let _scraper = Scraper::start(&PathBuf::from(env!("CARGO_BIN_EXE_ringscrape")), dir.path(), &engine());
    let mut held = vec![listener.accept().expect("the scraper dials")];
    let first = Instant::now();
    while held.len() < 7 {
        held.push(listener.accept().expect("the scraper dials again"));
    }
    let took = first.elapsed();
    // Every second one would take twelve; a loaded machine may miss one or two.
    assert!((5_100..9_500).contains(&took.as_millis()), "six intervals took {took:?}");
}

/// Neither its end nor what was asked for it may touch the targets that come after it.
#[test]
fn a_target_removed_while_it_waits_for_credentials_ends_once() {
    let dir = tempfile::tempdir().expect("room for files");
    // Nobody ever writes into it, so that reading it never ends.
    let pipe = named_pipe(&dir.path().join("credentials"));
    let config = |targets: &str| {
        let yaml = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: a, \
             authorization: {{credentials_file: '{}'}}, static_configs: [{{targets: [{targets}]}}]}}]\n",
            pipe.display()
        );
        std::fs::write(dir.path().join("prometheus.yml"), yaml).expect("the directory is ours");
    };
    config("'127.0.0.1:1'");
    let scraper = Scraper::start(&PathBuf::from(env!("CARGO_BIN_EXE_ringscrape")), dir.path(), &engine());
    until_ready(&scraper);
    let down = || {
        let targets = data(&scraper, "/api/v1/targets")["activeTargets"].to_string();
        targets.matches("\"health\":\"down\"").count()
    };
    until(&scraper, || down() == 1);
    config("");
    scraper.signal("HUP");
    until(&scraper, || data(&scraper, "/api/v1/targets")["activeTargets"] == json!([]));
    // Past the end-of-run markers, and past a second end of the same target.
    thread::sleep(Duration::from_secs(5));
    config("'127.0.0.1:2', '127.0.0.1:3'");
    scraper.signal("HUP");
    until(&scraper, || down() == 2);
}

/// What was asked for under the configuration from before a reload is nobody's any more.
#[test]
fn credentials_from_before_a_reload_are_not_used_after_it() {
    let dir = tempfile::tempdir().expect("room for files");
    let pipe = named_pipe(&dir.path().join("credentials"));
    let target = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = target.local_addr().expect("bound").port();
    // Several, so that some wait whatever their phases are.
    let targets: Vec<String> = (1..=10).map(|n| format!("'127.0.0.{n}:{port}'")).collect();
    let (asked, requests) = std::sync::mpsc::channel::<String>();
    thread::spawn(move || {
        for mut stream in target.incoming().flatten() {
            let mut head = [0u8; 4096];
            let n = stream.read(&mut head).unwrap_or(0);
            let _ = asked.send(String::from_utf8_lossy(&head[..n]).into_owned());
            let answer =
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 4\r\n\r\na 1\n";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let config = |credentials: &str| {
        let yaml = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: a, \
             authorization: {{{credentials}}}, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(dir.path().join("prometheus.yml"), yaml).expect("the directory is ours");
    };
    config(&format!("credentials_file: '{}'", pipe.display()));
    let scraper = Scraper::start(&PathBuf::from(env!("CARGO_BIN_EXE_ringscrape")), dir.path(), &engine());
    until_ready(&scraper);
    // The reading begins with the first scrape, and lasts until somebody writes.
    thread::sleep(Duration::from_millis(1500));
    config("credentials: fresh");
    scraper.signal("HUP");
    thread::sleep(Duration::from_millis(300));
    std::fs::write(&pipe, "stale").expect("the scraper reads");
    let first = requests.recv_timeout(PATIENCE).expect("a scrape after the reload");
    thread::sleep(Duration::from_secs(2));
    let all: Vec<String> = std::iter::once(first).chain(requests.try_iter()).collect();
    assert!(all.iter().any(|r| r.contains("Bearer fresh")), "{all:?}");
    assert!(!all.iter().any(|r| r.contains("stale")), "{all:?}");
}
