//! A disk that stalls, a disk that is full: scrapes go on, nothing is lost, the operator is told.

use std::thread;
use std::time::{Duration, Instant};

use crate::fleet::{Fleet, metric, until, wall_ms};
use crate::mount::Mount;
use crate::support::http;
use crate::support::process::Scraper;

/// How long the disk stalls.
const STALL_S: u32 = 5;
/// The promise: no scrape is later than this because of the disk, ms.
const LATE_MS: i64 = 20;
/// What a loaded machine may add to it in a test.
const NOISE_MS: i64 = 200;

fn bound_ms(control_ms: i64) -> i64 {
    if std::env::var_os("RINGSCRAPE_QUIET").is_some() { LATE_MS } else { LATE_MS + NOISE_MS + 2 * control_ms }
}

fn a_stall_delays_no_scrape(engine: &str) {
    let fleet = Fleet::new(200, 500);
    let Some(disk) = Mount::ext4("a_stall_delays_no_scrape", &fleet.dir.path().join("data"), 96, "") else { return };
    let mut scraper = fleet.scraped(&[&format!("--engine={engine}")]);
    let control = wall_ms();
    thread::sleep(Duration::from_secs(4));
    let stall = wall_ms();
    let frozen = Instant::now();
    let mut freezer = disk.freeze(STALL_S);
    thread::sleep(Duration::from_millis(3500));
    // What the operator sees meanwhile.
    assert!(metric(&scraper, "ringscrape_journal_alarms") >= 1.0, "the alarm's metric");
    assert!(metric(&scraper, "ringscrape_journal_call_seconds") > 2.0);
    assert!(metric(&scraper, "ringscrape_journal_waiting_bytes") > 0.0);
    let healthy = http::fetch(scraper.port, "/-/healthy", Duration::from_secs(1)).expect("the web answers");
    assert!(healthy.0.contains(" 200 "), "{healthy:?}");
    until("the alarm's line", || scraper.output().contains("has not answered for more than"));
    let known = fleet.sightings().values().flat_map(|s| s.keys().copied()).max().expect("scrapes were seen");
    assert!(known < stall + 2000, "the disk did not stall: the receiver knows {} ms of it", known - stall);
    assert!(freezer.wait().is_ok_and(|s| s.success()), "the freezer");
    assert!(frozen.elapsed() >= Duration::from_secs(u64::from(STALL_S)));
    let thawed = wall_ms();
    thread::sleep(Duration::from_secs(1));
    fleet.until_all_arrived(Instant::now());
    until("the end of the alarm", || metric(&scraper, "ringscrape_journal_alarms") == 0.0);
    until("the line of its end", || scraper.output().contains("over: the disk under"));
    assert_eq!(metric(&scraper, "ringscrape_journal_frames_lost_total"), 0.0);
    assert_eq!(metric(&scraper, "ringscrape_scrapes_missed_total"), 0.0);
    assert_eq!(metric(&scraper, "ringscrape_scrapes_skipped_total"), 0.0);
    assert!(scraper.alive(), "{}", scraper.last_words());
    let (before, during) = (fleet.punctuality((control, stall)), fleet.punctuality((stall, thawed)));
    println!("{engine}: before the stall {before}; during {during}");
    assert!(before.late_ms.len() > 1200 && during.late_ms.len() > 1500, "the load was no load");
    assert!(during.faults.is_empty(), "{engine}: {:#?}", &during.faults[..during.faults.len().min(20)]);
    assert!(during.max_ms() <= bound_ms(before.max_ms()), "{engine}: a scrape began {} ms late", during.max_ms());
}

#[test]
fn a_stalled_disk_delays_no_scrape_on_uring() {
    a_stall_delays_no_scrape("uring");
}

#[test]
fn a_stalled_disk_delays_no_scrape_on_epoll() {
    a_stall_delays_no_scrape("epoll");
}

/// Scrapes through a while in which the disk gives this error and the log this remedy, then frees the space.
fn ride_out(fleet: &Fleet, disk: &Mount, scraper: &mut Scraper, (error, remedy): (&str, &str)) {
    until("the alarm's line", || scraper.output().contains(error));
    until("the alarm's metric", || metric(scraper, "ringscrape_journal_alarms") >= 1.0);
    let full = wall_ms();
    let asked = fleet.server.counted().len();
    thread::sleep(Duration::from_secs(3));
    assert!(metric(scraper, "ringscrape_journal_waiting_bytes") > 0.0);
    assert!(metric(scraper, "prometheus_tsdb_wal_writes_failed_total") > 0.0);
    assert!(scraper.output().contains(remedy), "the remedy is said");
    let during = fleet.server.counted().len() - asked;
    assert!(during >= fleet.targets * 4, "scrapes go on: {during} in 3 s");
    disk.free();
    let freed = wall_ms();
    thread::sleep(Duration::from_secs(1));
    fleet.until_all_arrived(Instant::now());
    until("the end of the alarm", || metric(scraper, "ringscrape_journal_alarms") == 0.0);
    assert_eq!(metric(scraper, "ringscrape_journal_frames_lost_total"), 0.0);
    let during = fleet.punctuality((full, freed));
    println!("full for {} ms: {during}", freed - full);
    assert!(during.faults.is_empty(), "{:#?}", &during.faults[..during.faults.len().min(20)]);
    assert!(scraper.alive(), "{}", scraper.last_words());
    scraper.signal("TERM");
    assert!(scraper.ended(), "{}", scraper.last_words());
}

const FULL: (&str, &str) = ("No space left on device", "Free space");

/// What the export makes of the journal.
fn exported(fleet: &Fleet) -> (std::process::Output, String) {
    let storage = format!("--storage.path={}", fleet.dir.path().join("data").display());
    let out = std::process::Command::new(crate::fleet::binary())
        .args(["export", &storage, "--match=up"])
        .output()
        .expect("the binary runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    (out, text)
}

/// The journal by itself has what the receiver got.
fn journal_has_all(fleet: &Fleet) {
    let (out, text) = exported(fleet);
    assert!(out.status.success() && text.ends_with("# EOF\n"), "{}", String::from_utf8_lossy(&out.stderr));
    let held = text.lines().filter(|l| l.starts_with("up{")).count();
    let sent: usize = fleet.sightings().values().map(std::collections::BTreeMap::len).sum();
    assert!(held >= sent, "the journal holds {held} scrapes, the receiver got {sent}");
}

#[test]
fn a_disk_full_from_the_start_is_ridden_out() {
    let fleet = Fleet::new(50, 500);
    let place = fleet.dir.path().join("data");
    let Some(disk) = Mount::tmpfs("a_disk_full_from_the_start_is_ridden_out", &place, 48) else { return };
    disk.fill();
    let mut scraper = fleet.started(&[]);
    until("the web", || http::fetch(scraper.port, "/-/ready", Duration::from_secs(1)).is_ok());
    ride_out(&fleet, &disk, &mut scraper, FULL);
    journal_has_all(&fleet);
}

/// Without extents a file system cannot reserve space, so that a write in the middle of a segment meets the end of it.
#[test]
fn a_disk_that_fills_up_inside_a_segment_is_ridden_out() {
    let fleet = Fleet::new(50, 500);
    let place = fleet.dir.path().join("data");
    let test = "a_disk_that_fills_up_inside_a_segment_is_ridden_out";
    let Some(disk) = Mount::ext4(test, &place, 48, "^extents,^64bit,^has_journal,^metadata_csum") else { return };
    let mut scraper = fleet.scraped(&[]);
    disk.fill();
    ride_out(&fleet, &disk, &mut scraper, FULL);
    journal_has_all(&fleet);
}

/// A thinly provisioned disk that runs dry: writes succeed in memory, then the device refuses them and the sync fails. The
/// alarm stands until a sync succeeds. A segment whose sync failed ends there, and what followed stands in others: the receiver
/// gets everything, nothing twice, and the device has all since the failure when memory has forgotten it. What it has of the
/// second before is not asked: ext4 that was refused its own maps may lose blocks that it had called synced.
#[test]
fn a_disk_whose_syncs_fail_is_ridden_out() {
    let fleet = Fleet::new(50, 500);
    let test = "a_disk_whose_syncs_fail_is_ridden_out";
    let thin = fleet.dir.path().join("thin");
    std::fs::create_dir(&thin).expect("the directory is ours");
    let Some(below) = Mount::tmpfs(test, &thin, 24) else { return };
    let place = fleet.dir.path().join("data");
    // Without a journal of its own the file system goes on after an error.
    let features = "^has_journal,^metadata_csum";
    let image = thin.join("image");
    let Some(disk) = Mount::ext4_in(test, (&image, &place), 256, features) else { return };
    let mut scraper = fleet.scraped(&[]);
    below.fill();
    until("the first failure", || scraper.output().contains("cannot sync journal"));
    let failed = wall_ms();
    ride_out(&fleet, &below, &mut scraper, ("cannot sync journal", "Free space"));
    assert!(scraper.output().contains("ends at byte"), "{}", scraper.last_words());
    assert_eq!(fleet.repeated(), Vec::<String>::new());
    let ends = ended(&place.join("journal"));
    assert!(ends > 0, "no segment ended early");
    disk.remount(&image);
    assert_eq!(ended(&place.join("journal")), ends);
    let (_, text) = exported(&fleet);
    let lines = text.lines().filter(|l| l.starts_with("up{"));
    let time_ms =
        |l: &str| l.rsplit(' ').next().and_then(|t| t.parse::<f64>().ok()).map(|s| (s * 1000.0).round() as i64);
    let held = lines.filter(|l| time_ms(l).expect("a line ends in its time") >= failed).count();
    let sent: usize = fleet.sightings().values().map(|times| times.range(failed..).count()).sum();
    assert!(sent > 300 && held >= sent, "the journal holds {held} scrapes since the failure, the receiver got {sent}");
}

/// Segments of which a record says where they end.
fn ended(journal: &std::path::Path) -> usize {
    let shards = std::fs::read_dir(journal).expect("list").map(|e| e.expect("entry").path()).filter(|p| p.is_dir());
    let files = shards.flat_map(|dir| std::fs::read_dir(dir).expect("list").map(|e| e.expect("entry").path()));
    files.filter(|f| f.extension().is_some_and(|e| e == "end")).count()
}
