//! The whole server against a made-up appliance, over real connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::*;
use crate::model::Labels;
use crate::selfmetrics::{Exposition, Kind};

struct Made {
    readiness: Readiness,
    targets: Vec<TargetView>,
    reload: Result<(), String>,
    reloads: AtomicU32,
    quits: AtomicU32,
}

impl Default for Made {
    fn default() -> Self {
        let targets = (0..5).map(target).collect();
        Self {
            readiness: Readiness::Ready,
            targets,
            reload: Ok(()),
            reloads: AtomicU32::new(0),
            quits: AtomicU32::new(0),
        }
    }
}

fn target(n: u64) -> TargetView {
    TargetView {
        pool: if n < 3 { "a" } else { "b" }.to_owned(),
        hash: n,
        discovered_labels: Labels::from_pairs([("__address__", format!("127.0.0.1:{n}"))]),
        labels: Labels::from_pairs([("instance", format!("i{n}")), ("job", "a\"x".to_owned())]),
        scrape_url: format!("http://127.0.0.1:{n}/metrics"),
        last_error: if n == 1 { "connection refused".to_owned() } else { String::new() },
        last_scrape_ns: (n != 0).then_some(1_700_000_000_500_000_000),
        last_duration_ns: n * 1_500_000,
        health: [Health::Unknown, Health::Down, Health::Up][n.min(2) as usize],
        interval: "15s".to_owned(),
        timeout: "10s".to_owned(),
    }
}

impl Appliance for Made {
    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn pools(&self) -> Vec<PoolView> {
        let pool = |name: &str, dropped| PoolView { name: name.to_owned(), up: 1, dropped, ..PoolView::default() };
        vec![pool("a", 0), pool("b", 7)]
    }

    fn active_targets(&self, query: TargetQuery) -> Answer<'_, TargetPage> {
        let mut pager = Pager::new(query);
        self.targets.iter().for_each(|t| pager.offer(t));
        Box::pin(async { Ok(pager.finish()) })
    }

    fn dropped_targets(&self, pool: Option<String>, _: usize) -> Answer<'_, Vec<DroppedView>> {
        let labels = Labels::from_pairs([("__address__", "gone:1")]);
        let all = [DroppedView { pool: "b".to_owned(), discovered_labels: labels }];
        let wanted = all.into_iter().filter(|d| pool.as_ref().is_none_or(|p| *p == d.pool)).collect();
        Box::pin(async { Ok(wanted) })
    }

    fn metadata(&self, query: MetadataQuery) -> Answer<'_, Vec<MetadataRow>> {
        let row = |metric: &str, help: &str| MetadataRow {
            metric: metric.to_owned(),
            kind: "counter".to_owned(),
            help: help.to_owned(),
            unit: String::new(),
            target: match query.scope {
                MetadataScope::PerTarget => self.targets[0].labels.clone(),
                MetadataScope::Distinct => Labels::default(),
            },
        };
        let mut rows = vec![row("m_total", "M."), row("m_total", "Em."), row("n_total", "N.")];
        rows.retain(|r| query.targets.matches(&r.target) && query.metric.as_ref().is_none_or(|m| *m == r.metric));
        rows.truncate(query.count_max);
        Box::pin(async { Ok(rows) })
    }

    fn config_yaml(&self) -> String {
        "global: {}\n".to_owned()
    }

    fn flags(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("engine".to_owned(), "auto".to_owned())])
    }

    fn runtime(&self) -> RuntimeView {
        RuntimeView { shards: 2, engine: "uring".to_owned(), ..RuntimeView::default() }
    }

    fn remote_write(&self) -> Vec<RemoteWriteView> {
        vec![RemoteWriteView { name: "far".to_owned(), lag_s: 1.5, ..RemoteWriteView::default() }]
    }

    fn collect(&self, out: &mut Exposition) {
        out.sample("made_up", Kind::Gauge, "Made up.", &[], 1.0);
    }

    fn reload(&self) -> Answer<'_, ()> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.reloads.fetch_add(1, Ordering::Relaxed);
            self.reload.clone()
        })
    }

    fn quit(&self) {
        self.quits.fetch_add(1, Ordering::Relaxed);
    }
}

fn settings() -> Settings {
    Settings {
        listen_addresses: vec!["127.0.0.1:0".to_owned()],
        lifecycle: Lifecycle::Enabled,
        external_url: "http://scrape.example:1".to_owned(),
        route_prefix: "/".to_owned(),
        page_title: "A <title>".to_owned(),
        connections_max: 8,
        read_timeout: Duration::from_secs(5),
        cors_origin: CorsOrigin::parse(".*").unwrap(),
    }
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn data(&self) -> Value {
        assert_eq!((self.status, self.json()["status"].as_str()), (200, Some("success")), "{}", self.body);
        self.json()["data"].clone()
    }
}

async fn exchange(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_lowercase(), body: body.to_owned() }
}

async fn call(address: SocketAddr, method: &str, path: &str, headers: &str) -> Reply {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n{headers}\r\n");
    exchange(address, &request).await
}

async fn get(address: SocketAddr, path: &str) -> Reply {
    call(address, "GET", path, "").await
}

/// Runs a server on loopback, the test beside it, and stops the server.
fn with_server<F: Future<Output = ()>>(settings: Settings, made: Arc<Made>, test: impl FnOnce(SocketAddr) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::bind(&settings.listen_addresses).unwrap();
        let address = server.addresses()[0];
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let web = Web::new(settings, made);
        let running = tokio::spawn(async move { server.run(web, async move { stopped.notified().await }).await });
        test(address).await;
        stop.notify_one();
        tokio::time::timeout(Duration::from_secs(10), running).await.expect("stops").unwrap().unwrap();
    });
}

#[test]
fn management_speaks_prometheus() {
    let made = Arc::new(Made::default());
    with_server(settings(), Arc::clone(&made), |at| async move {
        let healthy = get(at, "/-/healthy").await;
        assert_eq!((healthy.status, healthy.body.as_str()), (200, "ringscrape is Healthy.\n"));
        assert_eq!(get(at, "/-/ready").await.body, "ringscrape is Ready.\n");
        let head = call(at, "HEAD", "/-/ready", "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        for path in ["/-/reload", "/-/quit"] {
            let refused = get(at, path).await;
            assert_eq!((refused.status, refused.body.as_str()), (405, "Only POST or PUT requests allowed"));
        }
        let reloaded = call(at, "POST", "/-/reload", "").await;
        assert_eq!((reloaded.status, reloaded.body.as_str()), (200, ""));
        let foreign = call(at, "POST", "/-/quit", "Origin: http://evil\r\n").await;
        assert_eq!((foreign.status, made.quits.load(Ordering::Relaxed)), (403, 0));
        assert_eq!(call(at, "PUT", "/-/quit", "Origin: http://h:1\r\n").await.status, 200);
        assert_eq!(made.quits.load(Ordering::Relaxed), 1);
        let lost = get(at, "/nowhere").await;
        assert_eq!((lost.status, lost.body.as_str()), (404, "404 page not found\n"));
        assert_eq!(get(at, "/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
    });
}

#[test]
fn lifecycle_calls_are_off_by_default_and_failures_say_why() {
    let off = Settings { lifecycle: Lifecycle::Disabled, ..settings() };
    with_server(off, Arc::default(), |at| async move {
        let refused = call(at, "POST", "/-/reload", "").await;
        assert_eq!((refused.status, refused.body.as_str()), (403, "Lifecycle API is not enabled."));
        assert_eq!(get(at, "/-/reload").await.status, 405);
    });
    let broken = Made { reload: Err("line 3: no".to_owned()), ..Made::default() };
    with_server(settings(), Arc::new(broken), |at| async move {
        let failed = call(at, "POST", "/-/reload", "").await;
        assert_eq!((failed.status, failed.body.as_str()), (500, "failed to reload config: line 3: no\n"));
    });
}

#[test]
fn a_reload_goes_on_when_its_client_goes_away() {
    let made = Arc::new(Made::default());
    with_server(settings(), Arc::clone(&made), |at| async move {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"POST /-/reload HTTP/1.1\r\nHost: h:1\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(stream);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(made.reloads.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn only_management_and_metrics_answer_before_ready() {
    for (readiness, stopping) in [(Readiness::Starting("recovery".to_owned()), "false"), (Readiness::Stopping, "true")]
    {
        let made = Made { readiness, ..Made::default() };
        with_server(settings(), Arc::new(made), |at| async move {
            for path in ["/-/ready", "/api/v1/targets", "/api/v1/status/config"] {
                let refused = get(at, path).await;
                assert_eq!((refused.status, refused.body.as_str()), (503, "Service Unavailable"), "{path}");
                assert!(refused.head.contains(&format!("x-prometheus-stopping: {stopping}")), "{}", refused.head);
            }
            assert_eq!(get(at, "/-/healthy").await.status, 200);
            assert_eq!(get(at, "/").await.status, 200);
            assert_eq!(get(at, "/api/v1/features").await.status, 503);
            assert_eq!(get(at, "/api/v1/notifications/live").await.status, 204);
            let replay = get(at, "/api/v1/status/walreplay").await.data();
            assert_eq!(replay, json!({"min": 0, "max": 0, "current": 0}));
            assert!(get(at, "/metrics").await.body.contains("\nprometheus_ready 0\n"));
        });
    }
}

#[test]
fn targets_have_prometheus_shape() {
    with_server(settings(), Arc::default(), |at| async move {
        let data = get(at, "/api/v1/targets").await.data();
        let keys: Vec<_> = data.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["activeTargets", "droppedTargetCounts", "droppedTargets"]);
        let want = json!({
            "discoveredLabels": {"__address__": "127.0.0.1:1"},
            "labels": {"instance": "i1", "job": "a\"x"},
            "scrapePool": "a",
            "scrapeUrl": "http://127.0.0.1:1/metrics",
            "globalUrl": "http://scrape.example:1/metrics",
            "lastError": "connection refused",
            "lastScrape": "2023-11-14T22:13:20.5Z",
            "lastScrapeDuration": 0.0015,
            "health": "down",
            "scrapeInterval": "15s",
            "scrapeTimeout": "10s",
        });
        assert_eq!(data["activeTargets"][1], want);
        assert_eq!(data["activeTargets"].as_array().unwrap().len(), 5);
        assert_eq!(data["activeTargets"][0]["lastScrape"], "0001-01-01T00:00:00Z");
        assert_eq!(data["activeTargets"][0]["health"], "unknown");
        assert_eq!(data["droppedTargetCounts"], json!({"a": 0, "b": 7}));
        let dropped = json!([{"discoveredLabels": {"__address__": "gone:1"}, "scrapePool": "b"}]);
        assert_eq!(data["droppedTargets"], dropped);

        let active = get(at, "/api/v1/targets?state=ACTIVE&scrapePool=b").await.data();
        assert_eq!(active["activeTargets"].as_array().unwrap().len(), 2);
        assert_eq!((&active["droppedTargets"], &active["droppedTargetCounts"]), (&json!([]), &Value::Null));
        let dropped = get(at, "/api/v1/targets?state=dropped&scrapePool=a").await.data();
        assert_eq!((&dropped["activeTargets"], &dropped["droppedTargets"]), (&json!([]), &json!([])));
        assert_eq!(dropped["droppedTargetCounts"], json!({"a": 0, "b": 7}));
        let neither = get(at, "/api/v1/targets?state=x").await.data();
        assert_eq!((&neither["activeTargets"], &neither["droppedTargets"]), (&json!([]), &json!([])));
    });
}

#[test]
fn targets_page_search_and_sort() {
    with_server(settings(), Arc::default(), |at| async move {
        let mut token = String::new();
        let mut seen = Vec::new();
        loop {
            let path = format!("/api/v1/targets?limit=2&sort=duration&page_token={token}");
            let data = get(at, &path).await.data();
            assert_eq!(data["matchedTargets"], 5);
            seen.extend(data["activeTargets"].as_array().unwrap().iter().map(|t| t["labels"]["instance"].to_string()));
            let Some(next) = data["nextPageToken"].as_str() else { break };
            token = next.to_owned();
        }
        assert_eq!(seen, ["\"i4\"", "\"i3\"", "\"i2\"", "\"i1\"", "\"i0\""]);
        let found = get(at, "/api/v1/targets?search=REFUSED&health=down&limit=9").await.data();
        assert_eq!(found["activeTargets"][0]["labels"]["instance"], "i1");
        assert_eq!(found["matchedTargets"], 1);
        for wrong in ["health=ill", "sort=colour", "limit=x", "page_token=%21"] {
            let refused = get(at, &format!("/api/v1/targets?{wrong}")).await;
            assert_eq!((refused.status, &refused.json()["errorType"]), (400, &json!("bad_data")), "{wrong}");
        }
    });
}

#[test]
fn metadata_has_prometheus_shape() {
    with_server(settings(), Arc::default(), |at| async move {
        let all = get(at, "/api/v1/metadata").await.data();
        let m = json!([{"type": "counter", "help": "M.", "unit": ""}, {"type": "counter", "help": "Em.", "unit": ""}]);
        assert_eq!(all["m_total"], m);
        assert_eq!(get(at, "/api/v1/metadata?limit=1").await.data().as_object().unwrap().len(), 1);
        let one = get(at, "/api/v1/metadata?limit_per_metric=1&metric=m_total").await.data();
        assert_eq!(one["m_total"].as_array().unwrap().len(), 1);
        let per_target = get(at, "/api/v1/targets/metadata?limit=1").await.data();
        let labels = json!({"instance": "i0", "job": "a\"x"});
        let want = json!([{"target": labels, "metric": "m_total", "type": "counter", "help": "M.", "unit": ""}]);
        assert_eq!(per_target, want);
        let named = get(at, "/api/v1/targets/metadata?metric=n_total&match_target=%7Binstance%3D%22i0%22%7D").await;
        assert_eq!(named.data(), json!([{"target": labels, "type": "counter", "help": "N.", "unit": ""}]));
        let none = get(at, "/api/v1/targets/metadata?match_target=%7Binstance%3D%22i1%22%7D").await;
        assert_eq!(none.data(), json!([]));
        for everything in ["%7B%7D", "", "%7Bjob!=%22b%22%7D&match_target=%7Bjob=%22b%22%7D"] {
            let rows = get(at, &format!("/api/v1/targets/metadata?match_target={everything}")).await.data();
            assert_eq!(rows.as_array().map(Vec::len), Some(3), "{everything}");
        }
        assert_eq!(get(at, "/api/v1/targets/metadata?match_target=%7B").await.status, 400);
        assert_eq!(get(at, "/api/v1/metadata?limit=x").await.json()["error"], "limit must be a number");
    });
}

#[test]
fn the_rest_of_the_api() {
    with_server(settings(), Arc::default(), |at| async move {
        assert_eq!(get(at, "/api/v1/scrape_pools").await.data(), json!({"scrapePools": ["a", "b"]}));
        assert_eq!(get(at, "/api/v1/status/config").await.data(), json!({"yaml": "global: {}\n"}));
        assert_eq!(get(at, "/api/v1/status/flags").await.data(), json!({"engine": "auto"}));
        let runtime = get(at, "/api/v1/status/runtimeinfo").await.data();
        assert_eq!((&runtime["reloadConfigSuccess"], &runtime["GOMAXPROCS"]), (&json!(true), &json!(2)));
        assert_eq!(runtime["lastConfigTime"], "0001-01-01T00:00:00Z");
        let build = get(at, "/api/v1/status/buildinfo").await.data();
        assert_eq!(build["version"], env!("CARGO_PKG_VERSION"));
        let overview = get(at, "/api/v1/status/overview").await.data();
        assert_eq!(overview["sentence"], "All 2 targets are up.");
        assert_eq!(overview["remoteWrite"][0]["lagSeconds"], 1.5);
        for (method, path) in [("GET", "query?query=up"), ("POST", "query_range"), ("GET", "label/job/values")] {
            let refused = call(at, method, &format!("/api/v1/{path}"), "Content-Length: 0\r\n").await;
            assert_eq!((refused.status, &refused.json()["errorType"]), (422, &json!("execution")), "{path}");
        }
        assert_eq!(get(at, "/api/v1/notifications").await.data(), json!([]));
        let features = get(at, "/api/v1/features").await.data();
        assert_eq!(
            (&features["prometheus"]["agent_mode"], &features["api"]["lifecycle"]),
            (&json!(true), &json!(true))
        );
        let cors = call(at, "GET", "/api/v1/scrape_pools", "Origin: http://x\r\n").await;
        assert!(cors.head.contains("access-control-allow-origin: *"), "{}", cors.head);
        assert_eq!(call(at, "OPTIONS", "/api/v1/query", "").await.status, 204);
    });
}

#[test]
fn own_metrics_hold_the_appliances_and_ours() {
    with_server(settings(), Arc::default(), |at| async move {
        get(at, "/nowhere").await;
        get(at, "/-/healthy").await;
        let reply = get(at, "/metrics").await;
        assert!(reply.head.contains("content-type: text/plain; version=0.0.4"), "{}", reply.head);
        for line in [
            "made_up 1\n",
            "prometheus_ready 1\n",
            "prometheus_config_last_reload_successful 1\n",
            "ringscrape_engine_info{engine=\"uring\",reason=\"\"} 1\n",
            "process_open_fds ",
            "prometheus_http_requests_total{handler=\"/-/healthy\",code=\"200\"} 1\n",
        ] {
            assert!(reply.body.contains(line), "{line} in {}", reply.body);
        }
        assert!(!reply.body.contains("nowhere"));
    });
}

#[test]
fn everything_moves_below_a_prefix() {
    let moved = Settings { route_prefix: "/x/y".to_owned(), external_url: "http://h/x/y".to_owned(), ..settings() };
    with_server(moved, Arc::default(), |at| async move {
        assert_eq!(get(at, "/x/y/-/healthy").await.status, 200);
        assert_eq!(get(at, "/-/healthy").await.status, 404);
        for path in ["/", "/x/y", "/x/y/targets"] {
            let reply = get(at, path).await;
            assert_eq!(reply.status, 302);
            assert!(reply.head.contains("location: /x/y/"), "{}", reply.head);
        }
        assert_eq!(get(at, "/x/y/api/v1/scrape_pools").await.status, 200);
    });
}

#[test]
fn the_page_is_ours_alone() {
    with_server(settings(), Arc::default(), |at| async move {
        let page = get(at, "/").await;
        assert!(page.body.contains("<title>A &lt;title&gt;</title>"), "{}", page.body);
        assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
        let script = get(at, "/assets/app.js").await;
        assert!(script.status == 200 && script.head.contains("text/javascript"), "{}", script.head);
        assert_eq!(get(at, "/assets/style.css").await.status, 200);
        for text in [&page.body, &script.body] {
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("innerHTML"));
        }
        assert!(!page.body.contains("style=") && !page.body.contains("onclick"));
    });
}

#[test]
fn connections_beyond_the_limit_wait_and_idle_ones_are_closed() {
    let tight = Settings { connections_max: 1, read_timeout: Duration::from_millis(300), ..settings() };
    with_server(tight, Arc::default(), |at| async move {
        let mut idle = TcpStream::connect(at).await.unwrap();
        idle.write_all(b"GET /-/healthy HTTP/1.1\r\n").await.unwrap();
        // Served only after the unfinished head has run out of time.
        assert_eq!(get(at, "/-/healthy").await.status, 200);
        let mut rest = Vec::new();
        let _ = idle.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let targets = (0..20_000).map(target).collect();
    let tight = Settings { connections_max: 1, read_timeout: Duration::from_millis(300), ..settings() };
    with_server(tight, Arc::new(Made { targets, ..Made::default() }), |at| async move {
        let mut slow = TcpStream::connect(at).await.unwrap();
        slow.write_all(b"GET /api/v1/targets HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        assert_eq!(get(at, "/-/healthy").await.status, 200);
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest).await;
        let text = String::from_utf8_lossy(&rest);
        assert!(text.starts_with("HTTP/1.1 200") && !text.ends_with("}"), "{} bytes", rest.len());
    });
}

#[test]
fn a_taken_port_says_how_to_find_its_owner() {
    let first = Server::bind(&["127.0.0.1:0".to_owned()]).unwrap();
    let error = Server::bind(&[first.addresses()[0].to_string()]).unwrap_err().to_string();
    assert!(error.contains("ss -ltnp") && error.contains("--web.listen-address"), "{error}");
    let error = Server::bind(&["192.0.2.1:1".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("no such address"), "{error}");
    assert!(Server::bind(&[":0".to_owned()]).is_ok());
}
