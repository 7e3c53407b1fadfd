//! Destinations that go and move while the real binary runs: what is said about what they have not had.

use std::path::PathBuf;
use std::time::Duration;

use super::support::answer::Answer;
use super::support::process::{Scraper, engine};
use super::support::receiver::{Point, Receiver};
use super::support::target::TargetServer;
use super::{until, until_ready};

/// Longer than a destination that goes has for its last requests.
const HAND_OVER: Duration = Duration::from_secs(6);

#[test]
fn only_a_backlog_that_is_given_up_is_spoken_of() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = TargetServer::start([("/a".to_owned(), vec![Answer::ok("a 1\n")])].into());
    let receiver = Receiver::start();
    // Nobody listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let config = |destinations: &[(&str, std::net::SocketAddr)]| {
        let mut yaml = "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nremote_write:\n".to_owned();
        for (name, at) in destinations {
            let queue = "queue_config: {batch_send_deadline: 100ms, max_backoff: 100ms}";
            yaml += &format!("- {{name: {name}, url: 'http://{at}/write', {queue}}}\n");
        }
        yaml += &format!(
            "scrape_configs: [{{job_name: a, metrics_path: /x/a, static_configs: [{{targets: ['{}']}}]}}]\n",
            target.addr
        );
        std::fs::write(dir.path().join("prometheus.yml"), yaml).expect("the directory is ours");
    };
    config(&[("good", receiver.addr), ("bad", nowhere), ("moving", nowhere)]);
    let scraper = Scraper::start(&PathBuf::from(env!("CARGO_BIN_EXE_ringscrape")), dir.path(), &engine());
    until_ready(&scraper);
    until(&scraper, || receiver.with_log(|log| log.values().any(|points| points.len() > 3)));
    // One goes and has had everything, one goes and has had nothing, one is found elsewhere from now on.
    config(&[("moving", receiver.addr)]);
    scraper.signal("HUP");
    std::thread::sleep(HAND_OVER);
    let output = scraper.output();
    let told: Vec<_> = output.lines().filter(|line| line.contains("no longer configured")).collect();
    assert!(told.len() == 1 && told[0].contains("bad"), "{told:?}");
    let bytes = told[0].split("backlog_bytes=").nth(1).and_then(|b| b.split(' ').next()?.parse::<u64>().ok());
    assert!(bytes.is_some_and(|b| b > 0), "{told:?}");
    // The moved one brings everything from the beginning on, after what the good one delivered.
    let twice = |points: &Vec<Point>| points.iter().filter(|p| p.time_ms == points[0].time_ms).count() == 2;
    until(&scraper, || receiver.with_log(|log| log.values().any(twice)));
}
