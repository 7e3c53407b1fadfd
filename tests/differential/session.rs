//! One session: two scrapers side by side on the same scripted targets, and what each wrote.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::case::Case;
use crate::log::{self, BASE_MS, Frame};
use crate::support::answer::Step;
use crate::support::process::Scraper;
use crate::support::receiver::{Log, Receiver};
use crate::support::secure;
use crate::support::target::{Scripts, TargetServer, with_listeners};

/// Letter of the scraper under test.
const TESTED: &str = "y";
/// Scrapes of every target before target files change.
const SCRAPES_BEFORE_CHANGE: usize = 3;
/// From a change of target files to everything written: two throttles of 5 s, two intervals, and slack on a busy machine.
const AFTER_CHANGE: Duration = Duration::from_secs(20);
/// A session that has not finished by then has failed.
const SESSION_MAX: Duration = Duration::from_secs(110);

/// The two scrapers of a session.
pub struct Side {
    pub binary: PathBuf,
    letter: &'static str,
    dir: PathBuf,
    receiver: Receiver,
    process: Scraper,
}

/// A finished session.
pub struct Session {
    /// Lines by case of the scraper that is believed.
    pub expected: HashMap<String, Vec<String>>,
    /// Lines by case of the scraper under test.
    pub got: HashMap<String, Vec<String>>,
    /// Malformed remote-write requests and processes that died.
    pub faults: Vec<String>,
}

/// Runs both scrapers on all cases until everything that is compared has been written. `more` are arguments of the tested.
pub fn run(cases: &[Case], believed: &Path, tested: &Path, more: &[String]) -> Session {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let start_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let server = TargetServer::start(scripts(cases, start_ms + BASE_MS));
    let frame = Frame { addr: server.addr.to_string(), start_ms };
    let listeners = server.secure().to_vec();
    let mut sides = [("x", believed), (TESTED, tested)].map(|(letter, binary)| {
        let dir = scratch.path().join(letter);
        std::fs::create_dir_all(&dir).expect("the scratch directory is ours");
        let receiver = Receiver::start();
        let yaml = config(cases, &dir, &receiver, &frame, letter);
        let certificates = secure::certificates().display().to_string();
        let yaml = with_listeners(&yaml, &listeners).replace("@CERTS@", &certificates);
        std::fs::write(dir.join("prometheus.yml"), yaml).expect("the directory is ours");
        let process = Scraper::start(binary, &dir, if letter == TESTED { more } else { &[] });
        Side { binary: binary.to_owned(), letter, dir, receiver, process }
    });
    let mut faults = follow(cases, &mut sides, &frame);
    for side in &sides {
        let who = side.binary.display();
        faults.extend(side.receiver.faults().into_iter().map(|f| format!("{who}: {f}")));
    }
    let [expected, got] = sides.map(|side| side.receiver.with_log(|log| lines(cases, log, side.letter, &frame)));
    Session { expected, got, faults }
}

/// The neutral lines of every case.
fn lines(cases: &[Case], log: &Log, letter: &str, frame: &Frame) -> HashMap<String, Vec<String>> {
    let by_case = log::by_case(log);
    let of_case = |case: &Case| {
        let series = by_case.get(case.name.as_str()).cloned().unwrap_or_default();
        if letter == TESTED || !case.rising {
            return log::lines(case, &series, frame);
        }
        let rising: Vec<_> = series.into_iter().map(|(labels, points)| (labels, log::rising(points))).collect();
        let series: Vec<_> = rising.iter().map(|(labels, points)| (*labels, points.as_slice())).collect();
        log::lines(case, &series, frame)
    };
    cases.iter().map(|c| (c.name.clone(), of_case(c))).collect()
}

/// Waits for the first phase, changes the target files, waits for the rest. Returns what went wrong.
fn follow(cases: &[Case], sides: &mut [Side; 2], frame: &Frame) -> Vec<String> {
    let begun = Instant::now();
    let mut changed: Option<Instant> = None;
    loop {
        thread::sleep(Duration::from_millis(200));
        for side in sides.iter_mut() {
            if !side.process.alive() {
                return vec![format!("{} ended:\n{}", side.binary.display(), side.process.last_words())];
            }
        }
        let missing: Vec<String> = sides.iter().flat_map(|s| unfinished(cases, s, changed.is_some())).collect();
        let settled = match changed {
            None => missing.is_empty(),
            Some(at) => missing.is_empty() && at.elapsed() > AFTER_CHANGE,
        };
        match (settled, changed) {
            (true, Some(_)) => return Vec::new(),
            (true, None) => {
                sides.iter().for_each(|side| change_files(cases, side, frame));
                changed = Some(Instant::now());
            }
            (false, _) if begun.elapsed() > SESSION_MAX => {
                let words = sides.iter().map(|s| format!("{}:\n{}", s.binary.display(), s.process.last_words()));
                return missing.into_iter().chain(words).collect();
            }
            (false, _) => {}
        }
    }
}

/// Cases of which a scraper has not yet written enough.
fn unfinished(cases: &[Case], side: &Side, all: bool) -> Vec<String> {
    let mut out = Vec::new();
    side.receiver.with_log(|log| {
        let by_case = log::by_case(log);
        for case in cases {
            let need = match (case.changes(), all) {
                (true, _) => SCRAPES_BEFORE_CHANGE,
                (false, true) => case.scrapes + 1,
                (false, false) => continue,
            };
            let have = by_case.get(case.name.as_str()).and_then(|series| log::scrapes(case, series));
            if have.is_none_or(|n| n < need) {
                out.push(format!("{}: {} has {have:?} of {need} scrapes", side.binary.display(), case.name));
            }
        }
    });
    out
}

fn scripts(cases: &[Case], base_ms: i64) -> Scripts {
    let mut scripts = Scripts::new();
    for (path, answers) in cases.iter().flat_map(|c| &c.scripts) {
        let mut answers = answers.clone();
        for step in answers.iter_mut().flat_map(|a| a.steps.iter_mut()) {
            if let Step::Send(bytes) = step {
                *bytes = with_times(bytes, base_ms);
            }
        }
        assert!(!answers.is_empty(), "{path} has no answers");
        let before = scripts.insert(path.clone(), answers);
        assert!(before.is_none(), "two scripts at {path}");
    }
    scripts
}

/// Replaces `@T0000000123@` by the base plus that many ms: both are thirteen bytes, so that a written length stays true.
fn with_times(bytes: &[u8], base_ms: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = crate::support::http::find(rest, b"@T") {
        let digits = rest.get(at + 2..at + 13).and_then(|d| d.strip_suffix(b"@"));
        let digits = digits.filter(|d| d.iter().all(u8::is_ascii_digit));
        out.extend_from_slice(&rest[..at]);
        match digits.and_then(|d| std::str::from_utf8(d).ok()?.parse::<i64>().ok()) {
            Some(offset) => {
                out.extend_from_slice(format!("{:013}", base_ms + offset).as_bytes());
                rest = &rest[at + 13..];
            }
            None => {
                out.extend_from_slice(&rest[at..at + 2]);
                rest = &rest[at + 2..];
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

fn filled(text: &str, frame: &Frame, letter: &str) -> String {
    let port = frame.addr.rsplit(':').next().unwrap_or("");
    text.replace("@S@", letter).replace("@ADDR@", &frame.addr).replace("@PORT@", port)
}

/// The configuration, after target files have been written.
fn config(cases: &[Case], dir: &Path, receiver: &Receiver, frame: &Frame, letter: &str) -> String {
    let mut yaml = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  external_labels: {{fleet: f}}\nremote_write:\n\
         - url: http://{}/api/v1/write\n  queue_config: {{capacity: 50000, min_shards: 1, max_shards: 1, \
         max_samples_per_send: 5000, batch_send_deadline: 500ms}}\n  metadata_config: {{send: false}}\nscrape_configs:\n",
        receiver.addr
    );
    for case in cases {
        yaml.push_str(&case.yaml());
        for (name, contents) in case.jobs.iter().flat_map(|j| &j.files) {
            std::fs::write(dir.join(name), filled(contents, frame, letter)).expect("the directory is ours");
        }
    }
    filled(&yaml, frame, letter)
}

/// Puts the new target files in place at once, as a careful operator does.
fn change_files(cases: &[Case], side: &Side, frame: &Frame) {
    for (name, contents) in cases.iter().flat_map(|c| &c.change) {
        let fresh = side.dir.join(format!("{name}.new"));
        std::fs::write(&fresh, filled(contents, frame, side.letter)).expect("the directory is ours");
        std::fs::rename(&fresh, side.dir.join(name)).expect("the directory is ours");
    }
}

#[cfg(test)]
mod tests {
    use super::with_times;

    #[test]
    fn times_keep_the_length() {
        assert_eq!(with_times(b"a 1 @T0000000123@\nb 2\n", 1_700_000_000_000), b"a 1 1700000000123\nb 2\n");
        assert_eq!(with_times(b"@Tx", 1), b"@Tx");
        assert_eq!(with_times(b"a 1 @T0000000123", 1), b"a 1 @T0000000123");
    }
}
