//! A stop that is asked for during the start: a pipe stands where the start reads a file, and holds it there.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::support::process::{Scraper, engine};
use super::{PATIENCE, named_pipe, until, until_ready};

fn start(dir: &Path) -> Scraper {
    Scraper::start(&PathBuf::from(env!("CARGO_BIN_EXE_ringscrape")), dir, &engine())
}

/// Waits until the pipe's reader is there; it reads nothing for as long as what this gives lives.
fn held_at(scraper: &Scraper, pipe: &Path) -> File {
    let start = Instant::now();
    loop {
        // Refused while nobody reads.
        if let Ok(file) = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(pipe) {
            return file;
        }
        assert!(start.elapsed() < PATIENCE, "{}", scraper.last_words());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn ends_well(mut scraper: Scraper, signal: &str) {
    scraper.signal(signal);
    let start = Instant::now();
    while scraper.alive() {
        assert!(start.elapsed() < PATIENCE, "it does not end\n{}", scraper.last_words());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(scraper.ended(), "{}", scraper.last_words());
    assert!(scraper.output().contains("asked to stop during the start"), "{}", scraper.last_words());
}

#[test]
fn a_stop_while_the_configuration_is_read_is_obeyed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pipe = named_pipe(&dir.path().join("prometheus.yml"));
    let scraper = start(dir.path());
    let _held = held_at(&scraper, &pipe);
    ends_well(scraper, "TERM");
}

#[test]
fn a_stop_while_the_journal_is_taken_up_is_obeyed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let yaml = "scrape_configs: [{job_name: a, scrape_interval: 100ms, scrape_timeout: 100ms, static_configs: [{targets: ['127.0.0.1:1']}]}]\n";
    std::fs::write(dir.path().join("prometheus.yml"), yaml).expect("the directory is ours");
    let first = start(dir.path());
    until_ready(&first);
    let journal = dir.path().join("data/journal");
    let segment = journal.join("0/000001.seg");
    until(&first, || segment.metadata().is_ok_and(|m| m.len() > 0));
    drop(first);

    // What comes right after the segments.
    let cursors = journal.join("cursors.json");
    let _ = std::fs::remove_file(&cursors);
    named_pipe(&cursors);
    let second = start(dir.path());
    let held = held_at(&second, &cursors);
    ends_well(second, "INT");
    drop(held);

    std::fs::remove_file(&cursors).expect("it is there");
    let third = start(dir.path());
    until_ready(&third);
    let damaged = std::fs::read_dir(journal.join("0")).expect("a directory").flatten();
    let names: Vec<_> = damaged.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|n| n.ends_with(".damaged")), "{names:?}");
}
