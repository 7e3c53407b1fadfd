//! Files as operators, editors and Kubernetes change them. Real time: the watcher is the kernel's.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Discoverer, DiscoveryMetrics, FileDiscoverer, GroupSender, ProviderId};
use crate::config::{FileSdConfig, TargetGroup};

const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    dir: TempDir,
    metrics: Arc<DiscoveryMetrics>,
    found: mpsc::Receiver<(ProviderId, Vec<TargetGroup>)>,
    /// Addresses by source, sources relative to the directory.
    now: BTreeMap<String, Vec<String>>,
}

impl Bench {
    async fn new(files: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Self::every(HOUR, files, prepare).await
    }

    async fn every(refresh_interval: Duration, files: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let metrics = Arc::new(DiscoveryMetrics::default());
        let files = files.iter().map(|f| format!("{}/{f}", dir.path().display())).collect();
        let discoverer = FileDiscoverer::new(FileSdConfig { files, refresh_interval }, Arc::clone(&metrics));
        let (out, found) = mpsc::channel(16);
        tokio::spawn(Box::new(discoverer).run(GroupSender { id: ProviderId(0), out }));
        let mut bench = Self { dir, metrics, found, now: BTreeMap::new() };
        bench.take().await;
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// As good tools replace a file.
    fn replace(&self, name: &str, text: &str) {
        self.write("new.tmp", text);
        std::fs::rename(self.path("new.tmp"), self.path(name)).unwrap();
    }

    /// One message; panics when none comes.
    async fn take(&mut self) -> Vec<TargetGroup> {
        let (_, groups) =
            timeout(Duration::from_secs(10), self.found.recv()).await.expect("a message").expect("running");
        let prefix = format!("{}/", self.dir.path().display());
        for group in &groups {
            let source = group.source.strip_prefix(&prefix).unwrap().to_owned();
            let addresses: Vec<String> =
                group.targets.iter().filter_map(|t| t.get("__address__").map(str::to_owned)).collect();
            if addresses.is_empty() {
                self.now.remove(&source);
            } else {
                self.now.insert(source, addresses);
            }
        }
        groups
    }

    /// Waits until the groups are these.
    async fn until(&mut self, want: &[(&str, &[&str])]) {
        let want: BTreeMap<String, Vec<String>> =
            want.iter().map(|(s, a)| ((*s).to_owned(), a.iter().map(|a| (*a).to_owned()).collect())).collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.now != want {
            let took = timeout_at(deadline, self.take()).await;
            assert!(took.is_ok(), "{:?} is not {want:?}", self.now);
        }
    }

    async fn until_errors(&self, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.metrics.file_read_errors.read() < count {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn json(addresses: &[&str]) -> String {
    format!("[{{\"targets\": {addresses:?}, \"labels\": {{\"env\": \"x\", \"__meta_filepath\": \"mine\"}}}}]")
}

#[tokio::test]
async fn what_is_there_is_read_at_once() {
    let mut bench = Bench::new(&["*.json", "one.yml", "[a-b].json"], |dir| {
        std::fs::write(dir.join("a.json"), json(&["a1", "a2"])).unwrap();
        std::fs::write(dir.join("one.yml"), "- targets: [y1]\n- targets: [y2]\n").unwrap();
        std::fs::write(dir.join("two.yml"), "- targets: [no]\n").unwrap();
    })
    .await;
    bench.until(&[("a.json:0", &["a1", "a2"]), ("one.yml:0", &["y1"]), ("one.yml:1", &["y2"])]).await;
}

#[tokio::test]
async fn the_path_label_is_ours_whatever_the_file_says() {
    let mut bench = Bench::new(&["a.json"], |_| {}).await;
    bench.replace("a.json", &json(&["a1"]));
    let groups = bench.take().await;
    let path = bench.path("a.json");
    assert_eq!(groups[0].labels.get("__meta_filepath"), path.to_str());
    assert_eq!(groups[0].labels.get("env"), Some("x"));
    assert_eq!(groups[0].source, format!("{}:0", path.display()));
}

#[tokio::test]
async fn nothing_there_is_told_too() {
    let bench = Bench::new(&["none/*.json", "x.yml"], |_| {}).await;
    assert!(bench.now.is_empty());
}

#[tokio::test]
async fn files_come_change_shrink_and_go() {
    let mut bench = Bench::new(&["*.yml"], |_| {}).await;
    bench.write("a.yml", "- targets: [a]\n- targets: [b]\n- targets: [c]\n");
    bench.until(&[("a.yml:0", &["a"]), ("a.yml:1", &["b"]), ("a.yml:2", &["c"])]).await;
    bench.replace("a.yml", "- targets: [d]\n");
    bench.until(&[("a.yml:0", &["d"])]).await;
    bench.write("b.yml", "- targets: [e]\n");
    bench.until(&[("a.yml:0", &["d"]), ("b.yml:0", &["e"])]).await;
    std::fs::rename(bench.path("b.yml"), bench.path("c.yml")).unwrap();
    bench.until(&[("a.yml:0", &["d"]), ("c.yml:0", &["e"])]).await;
    std::fs::remove_file(bench.path("a.yml")).unwrap();
    bench.until(&[("c.yml:0", &["e"])]).await;
}

#[tokio::test]
async fn a_bad_file_keeps_its_groups_and_is_counted() {
    let mut bench = Bench::new(&["*.json"], |dir| {
        std::fs::write(dir.join("a.json"), json(&["a"])).unwrap();
        std::fs::write(dir.join("b.json"), "[{]").unwrap();
    })
    .await;
    bench.until(&[("a.json:0", &["a"])]).await;
    let before = bench.metrics.file_read_errors.read();
    assert_eq!(before, 1);
    bench.replace("a.json", "[null]");
    bench.until_errors(before + 2).await;
    assert_eq!(bench.now.len(), 1);
    bench.replace("a.json", "[]");
    bench.until(&[]).await;
    bench.replace("b.json", &json(&["b"]));
    bench.until(&[("b.json:0", &["b"])]).await;
}

#[tokio::test]
async fn a_config_map_swap_is_noticed() {
    let mut bench = Bench::new(&["t.json"], |dir| {
        std::fs::create_dir(dir.join("..1")).unwrap();
        std::fs::write(dir.join("..1/t.json"), json(&["old"])).unwrap();
        symlink("..1", dir.join("..data")).unwrap();
        symlink("..data/t.json", dir.join("t.json")).unwrap();
    })
    .await;
    bench.until(&[("t.json:0", &["old"])]).await;
    std::fs::create_dir(bench.path("..2")).unwrap();
    bench.write("..2/t.json", &json(&["new"]));
    symlink("..2", bench.path("..data_tmp")).unwrap();
    std::fs::rename(bench.path("..data_tmp"), bench.path("..data")).unwrap();
    std::fs::remove_dir_all(bench.path("..1")).unwrap();
    bench.until(&[("t.json:0", &["new"])]).await;
}

#[tokio::test]
async fn a_directory_that_comes_later_is_found_at_a_refresh_and_watched_then() {
    let mut bench = Bench::every(Duration::from_millis(200), &["later/*.json"], |_| {}).await;
    std::fs::create_dir(bench.path("later")).unwrap();
    bench.write("later/a.json", &json(&["a"]));
    bench.until(&[("later/a.json:0", &["a"])]).await;
    std::fs::remove_dir_all(bench.path("later")).unwrap();
    bench.until(&[]).await;
    std::fs::create_dir(bench.path("later")).unwrap();
    bench.write("later/a.json", &json(&["b"]));
    bench.until(&[("later/a.json:0", &["b"])]).await;
}

#[tokio::test]
async fn rights_and_equal_bytes_tell_nothing_and_reading_does_not_wake_us() {
    let mut bench = Bench::new(&["a.json"], |dir| std::fs::write(dir.join("a.json"), json(&["a"])).unwrap()).await;
    bench.until(&[("a.json:0", &["a"])]).await;
    let scans = bench.metrics.file_scans.read();
    let rights = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(bench.path("a.json"), rights).unwrap();
    std::fs::read(bench.path("a.json")).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.metrics.file_scans.read(), scans);
    bench.replace("a.json", &json(&["a"]));
    bench.replace("b.json", &json(&["not ours"]));
    assert!(timeout(Duration::from_millis(500), bench.found.recv()).await.is_err());
    assert!(bench.metrics.file_scans.read() > scans);
}
