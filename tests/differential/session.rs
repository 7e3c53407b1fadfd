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
use crate::support::target::{Scripts, TargetServer};

/// Letter of the scraper under test.
const TESTED: &str = "y";
/// Scrapes of every target before target files change.
const SCRAPES_BEFORE_CHANGE: usize = 3;
/// From a change to everything written: two throttles of 5 s, two intervals, and slack on a busy machine.
const AFTER_CHANGE: Duration = Duration::from_secs(20);
/// From a change of target files to a reload: 2.42 loses an update that has not been taken in by then.
const BEFORE_RELOAD: Duration = Duration::from_secs(7);
/// A session that has not finished by then has failed.
const SESSION_MAX: Duration = Duration::from_secs(110);

/// The two scrapers of a session.
pub struct Side {
    pub binary: PathBuf,
    letter: &'static str,
    dir: PathBuf,
    /// Where certificates and listeners over TLS are, as texts to be put into the configuration.
    places: Vec<(String, String)>,
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
    let mut places = vec![("@CERTS@".to_owned(), secure::certificates().display().to_string())];
    places.extend(server.secure().iter().map(|(name, addr)| (format!("@TLS:{name}@"), addr.to_string())));
    let mut sides = [("x", believed), (TESTED, tested)].map(|(letter, binary)| {
        let dir = scratch.path().join(letter);
        std::fs::create_dir_all(&dir).expect("the scratch directory is ours");
        let receiver = Receiver::start();
        for (name, contents) in cases.iter().flat_map(|c| &c.jobs).flat_map(|j| &j.files) {
            std::fs::write(dir.join(name), filled(contents, &frame, letter)).expect("the directory is ours");
        }
        let yaml = config(cases, 0, &receiver, &places, &frame, letter);
        std::fs::write(dir.join("prometheus.yml"), yaml).expect("the directory is ours");
        let process = Scraper::start(binary, &dir, if letter == TESTED { more } else { &[] });
        Side { binary: binary.to_owned(), letter, dir, places: places.clone(), receiver, process }
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
        let clean = match case {
            _ if letter == TESTED => return log::lines(case, &series, frame),
            c if c.is_reloading() => log::lasting,
            c if c.rising => log::rising,
            _ => return log::lines(case, &series, frame),
        };
        let cleaned: Vec<_> = series.into_iter().map(|(labels, points)| (labels, clean(points))).collect();
        let series: Vec<_> = cleaned.iter().map(|(labels, points)| (*labels, points.as_slice())).collect();
        log::lines(case, &series, frame)
    };
    cases.iter().map(|c| (c.name.clone(), of_case(c))).collect()
}

/// Waits for the first phase, makes the changes one by one, waits for the rest. Returns what went wrong.
fn follow(cases: &[Case], sides: &mut [Side; 2], frame: &Frame) -> Vec<String> {
    let most = cases.iter().map(|c| c.changes.len()).max().unwrap_or(0);
    let begun = Instant::now();
    let mut changed: Option<Instant> = None;
    let mut changes = 0;
    loop {
        thread::sleep(Duration::from_millis(200));
        for side in sides.iter_mut() {
            if !side.process.alive() {
                return vec![format!("{} ended:\n{}", side.binary.display(), side.process.last_words())];
            }
        }
        let last = changes == most;
        let missing: Vec<String> = sides.iter().flat_map(|s| unfinished(cases, s, last)).collect();
        let settled = missing.is_empty() && changed.is_none_or(|at| at.elapsed() > AFTER_CHANGE);
        if settled && last {
            return Vec::new();
        }
        if settled {
            sides.iter().for_each(|side| change_files(cases, changes, side, frame));
            changes += 1;
            if cases.iter().any(|c| c.changes.get(changes - 1).is_some_and(|c| c.jobs.is_some())) {
                thread::sleep(BEFORE_RELOAD);
                sides.iter().for_each(|side| reload(cases, changes, side, frame));
            }
            changed = Some(Instant::now());
        } else if begun.elapsed() > SESSION_MAX + AFTER_CHANGE * most as u32 {
            let words = sides.iter().map(|s| format!("{}:\n{}", s.binary.display(), s.process.last_words()));
            return missing.into_iter().chain(words).collect();
        }
    }
}

/// Cases of which a scraper has not yet written enough.
fn unfinished(cases: &[Case], side: &Side, all: bool) -> Vec<String> {
    let mut out = Vec::new();
    side.receiver.with_log(|log| {
        let by_case = log::by_case(log);
        for case in cases {
            let need = match (case.is_changing(), all) {
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

/// The configuration after so many changes.
fn config(
    cases: &[Case],
    changes: usize,
    receiver: &Receiver,
    places: &[(String, String)],
    frame: &Frame,
    letter: &str,
) -> String {
    let mut yaml = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  external_labels: {{fleet: f}}\nremote_write:\n\
         - url: http://{}/api/v1/write\n  queue_config: {{capacity: 50000, min_shards: 1, max_shards: 1, \
         max_samples_per_send: 5000, batch_send_deadline: 500ms}}\n  metadata_config: {{send: false}}\nscrape_configs:\n",
        receiver.addr
    );
    yaml.extend(cases.iter().map(|case| case.yaml(changes)));
    places.iter().fold(filled(&yaml, frame, letter), |text, (name, value)| text.replace(name, value))
}

/// Puts the new target files in place at once, as a careful operator does.
fn change_files(cases: &[Case], number: usize, side: &Side, frame: &Frame) {
    for (name, contents) in cases.iter().filter_map(|c| c.changes.get(number)).flat_map(|c| &c.files) {
        match contents {
            Some(contents) => replace(&side.dir, name, &filled(contents, frame, side.letter)),
            None => std::fs::remove_file(side.dir.join(name)).expect("the file is ours"),
        }
    }
}

/// Lets the configuration after so many changes be loaded.
fn reload(cases: &[Case], changes: usize, side: &Side, frame: &Frame) {
    let yaml = config(cases, changes, &side.receiver, &side.places, frame, side.letter);
    replace(&side.dir, "prometheus.yml", &yaml);
    side.process.signal("HUP");
}

fn replace(dir: &Path, name: &str, contents: &str) {
    let fresh = dir.join(format!("{name}.new"));
    std::fs::write(&fresh, contents).expect("the directory is ours");
    std::fs::rename(&fresh, dir.join(name)).expect("the directory is ours");
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
