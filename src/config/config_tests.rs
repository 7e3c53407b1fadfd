//! Files good and bad.

use super::*;
use std::path::Path;

fn options() -> LoadOptions<'static> {
    LoadOptions { ignore: &[], env: &|_| None }
}

fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).expect("written");
    load(&path, &options())
}

#[test]
fn debian_file_loads_with_ignore() {
    let path = Path::new("/etc/prometheus/prometheus.yml");
    if !path.exists() {
        eprintln!("SKIP debian_file_loads_with_ignore: no Debian package");
        return;
    }
    let loaded = load(path, &LoadOptions { ignore: &["alerting"], env: &|_| None }).expect("loads");
    assert_eq!(loaded.config.scrape_configs.len(), 2);
    println!("{}", loaded.text);
    println!("{:?}", loaded.notes);
    println!("{}", load(path, &options()).err().map(|e| e.to_string()).unwrap_or_default());
    println!("{}", check(&[path.to_owned()], &LoadOptions { ignore: &["alerting"], env: &|_| None }).0);
    assert_eq!(load_text("").expect("valid").config.global.scrape_interval.as_secs(), 60);
}
