//! `--config.auto-reload` of the real binary: files that change, that break, and that are put back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::support::http::fetch;
use super::support::process::{Scraper, engine};
use super::{data, until, until_ready};

fn start(dir: &Path, more: &[&str]) -> Scraper {
    let mut flags = engine();
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    let scraper = Scraper::start(&PathBuf::from(env!("CARGO_BIN_EXE_ringscrape")), dir, &flags);
    until_ready(&scraper);
    scraper
}

fn job(name: &str) -> String {
    format!("scrape_configs: [{{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:1']}}]}}]\n")
}

fn until_pools(scraper: &Scraper, names: &[&str]) {
    until(scraper, || data(scraper, "/api/v1/scrape_pools") == json!({ "scrapePools": names }));
}

/// `prometheus_config_last_reload_successful`, and when a load last was.
fn last_load(scraper: &Scraper) -> (String, String) {
    let (_, text) = fetch(scraper.port, "/metrics", Duration::from_secs(5)).expect("the web answers");
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect("the metric");
        line.split(' ').nth(1).expect("a value").to_owned()
    };
    let name = "prometheus_config_last_reload_success";
    (value(&format!("{name}ful ")), value(&format!("{name}_timestamp_seconds ")))
}

#[test]
fn files_that_change_are_loaded_by_themselves() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // Moved into place, as a half-written file may be looked at.
    let write = |name: &str, text: &str| {
        let fresh = dir.path().join("fresh");
        std::fs::write(&fresh, text).expect("the directory is ours");
        std::fs::rename(&fresh, dir.path().join(name)).expect("the directory is ours");
    };
    let main = format!("scrape_config_files: ['more*.yml']\n{}", job("one"));
    write("prometheus.yml", &main);
    let scraper = start(dir.path(), &["--config.auto-reload", "--config.auto-reload-interval=1s"]);
    until_pools(&scraper, &["one"]);
    let (_, at_start) = last_load(&scraper);

    write("more1.yml", &job("two"));
    until_pools(&scraper, &["one", "two"]);
    let (successful, loaded) = last_load(&scraper);
    assert!(successful == "1" && loaded > at_start, "{at_start} {loaded}");

    // Broken, the old one stays; put back as it was, the failure is over, although there is nothing new in it.
    assert_eq!(data(&scraper, "/api/v1/notifications"), json!([]));
    write("prometheus.yml", "scrape_configs: 7\n");
    until(&scraper, || last_load(&scraper) == ("0".to_owned(), loaded.clone()));
    let told = data(&scraper, "/api/v1/notifications");
    assert_eq!((&told[0]["text"], &told[0]["active"]), (&json!("Configuration reload has failed."), &json!(true)));
    assert!(told[0]["date"].as_str().is_some_and(|date| date.starts_with("20")), "{told}");
    until_pools(&scraper, &["one", "two"]);
    write("prometheus.yml", &main);
    until(&scraper, || last_load(&scraper).0 == "1");
    assert_eq!(data(&scraper, "/api/v1/notifications"), json!([]));

    // What is in force is not loaded again.
    let (_, settled) = last_load(&scraper);
    let before = scraper.output().matches("changed on disk").count();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(last_load(&scraper).1, settled);
    assert_eq!(scraper.output().matches("changed on disk").count(), before);
}

#[test]
fn a_reload_to_tls_files_that_cannot_be_used_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let write = |text: &str| std::fs::write(dir.path().join("prometheus.yml"), text).expect("the directory is ours");
    write(&job("one"));
    let scraper = start(dir.path(), &[]);
    let bad = "tls_config: {ca_file: nothing-here.pem}";
    let destination = format!("remote_write: [{{name: far, url: 'https://127.0.0.1:1', {bad}}}]\n{}", job("one"));
    for (text, told) in
        [(job("one").replace("job_name", &format!("{bad}, job_name")), "job "), (destination, "remote_write ")]
    {
        write(&text);
        scraper.signal("HUP");
        until(&scraper, || last_load(&scraper).0 == "0");
        until(&scraper, || scraper.output().contains(&format!("the old one stays in force: {told}")));
        write(&job("one"));
        scraper.signal("HUP");
        until(&scraper, || last_load(&scraper).0 == "1");
    }
}

#[test]
fn without_the_flag_nothing_is_loaded_by_itself() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let write = |text: &str| std::fs::write(dir.path().join("prometheus.yml"), text).expect("the directory is ours");
    write(&job("one"));
    let scraper = start(dir.path(), &["--config.auto-reload-interval=1s"]);
    write(&job("two"));
    std::thread::sleep(Duration::from_millis(2500));
    until_pools(&scraper, &["one"]);
    scraper.signal("HUP");
    until_pools(&scraper, &["two"]);
}
