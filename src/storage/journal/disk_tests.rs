//! The disk thread and its lanes in bad weather: errors, stalls, power loss, other processes.

use super::disk::{Disk, Hand, Options};
use super::feed::Feed;
use super::files::SystemFiles;
use super::lane::{Lane, SyncMode};
use super::retention::Retention;
use super::testing::{MS, Source, StormyFiles, at, numbers, read_all, segment_paths};
use super::writer::Writer;
use super::{Cursor, recovery};
use crate::base::file::Space;
use crate::base::time::Now;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn a_power_loss_takes_at_most_the_sync_interval() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let journal = tmp.path().join("journal");
    let files = StormyFiles::default();
    let mut lane = Lane::new(0, 1, journal.join("0"), Arc::new(files.clone())).with(SyncMode::Every(1000 * MS), 0);
    let mut source = Source::new(Writer::new(0, 1));
    let mut flushed_at = vec![];
    for turn in 0..60u64 {
        let ms = 10_000 + turn * 200;
        source.scrape();
        lane.push(source.writer.flush(at(ms)).expect("a batch"));
        flushed_at.push(ms);
        if turn % 20 == 19 {
            source.writer.roll();
        }
        lane.turn(at(ms), &mut vec![]);
        let image = tmp.path().join(format!("{turn}"));
        files.lose_power(&journal, &image);
        let _ = recovery::recover(&image);
        let (events, ..) = read_all(&image.join("0"), Cursor::default());
        let due = flushed_at.iter().filter(|&&f| ms - f >= 1000).count();
        assert!(events.len() >= due, "turn {turn}: {} of {due}", events.len());
    }
    assert!(files.0.lock().expect("weather").syncs <= 16, "syncs are grouped");
}

fn options(journal: &Path) -> Options {
    Options { sync: SyncMode::Every(20 * MS), ..Options::new(journal.to_owned(), 1, 1) }
}

fn spawn(options: Options, files: &StormyFiles) -> (Disk, Source, Feed) {
    let (disk, mut ends) = Disk::spawn_on(options, Arc::new(files.clone())).expect("disk");
    let (writer, feed) = ends.remove(0);
    (disk, Source::new(writer), feed)
}

/// Waits until `what` holds; a test that waits a minute has failed.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} never came");
}

#[test]
fn a_stalling_disk_only_queues() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let files = StormyFiles::default();
    let (disk, mut source, mut feed) = spawn(options(tmp.path()), &files);
    files.set(|w| w.stall = Duration::from_millis(150));
    for i in 0..200 {
        source.scrape();
        feed.turn(&mut source.writer, at(1_000_000 + i * 200));
    }
    files.set(|w| w.stall = Duration::ZERO);
    feed.finish(&mut source.writer, at(2_000_000));
    assert!(disk.stop(), "no alarm is left");
    let (events, _, errors) = read_all(&tmp.path().join("0"), Cursor::default());
    assert_eq!((numbers(&events), errors.len()), ((0..200).collect(), 0));
    assert_eq!(source.writer.tally().frames_lost, 0);
}

#[test]
fn a_failed_sync_is_over_when_one_succeeds_and_not_before() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let files = StormyFiles::default();
    let plan = Options { sync: SyncMode::Every(1000 * MS), ..options(tmp.path()) };
    let (disk, mut ends, mut hand) = Disk::by_hand(plan, Arc::new(files.clone())).expect("disk");
    let (writer, mut feed) = ends.remove(0);
    let mut source = Source::new(writer);
    let ms = go_on(30, 1_000_000, &mut source, (&mut feed, &mut hand));
    files.set(|w| w.sync_error = Some(libc::ENOSPC));
    let mut ms = go_on(15, ms, &mut source, (&mut feed, &mut hand));
    for _ in 0..100 {
        ms = go_on(1, ms, &mut source, (&mut feed, &mut hand));
        assert!(disk.alarms(at(ms)).iter().any(|a| a.text.contains("cannot sync")), "the alarm stands");
    }
    files.set(|w| w.sync_error = None);
    let ms = go_on(60, ms, &mut source, (&mut feed, &mut hand));
    assert!(disk.alarms(at(ms)).is_empty());
    let image = tmp.path().join("image");
    files.lose_power(tmp.path(), &image);
    let _ = recovery::recover(&image);
    let (events, _, errors) = read_all(&image.join("0"), Cursor::default());
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(numbers(&events), (0..events.len() as i64).collect::<Vec<_>>());
    assert!(events.len() as i64 + 15 >= source.next, "{} of {}", events.len(), source.next);
}

/// A scrape and a turn of everything each 100 ms; gives the time after them.
fn go_on(turns: u64, ms: u64, source: &mut Source, (feed, hand): (&mut Feed, &mut Hand)) -> u64 {
    for turn in 1..=turns {
        source.scrape();
        feed.turn(&mut source.writer, at(ms + turn * 100));
        hand.turn(at(ms + turn * 100));
    }
    ms + turns * 100
}

#[test]
fn a_file_that_cannot_be_written_is_left_for_another_one() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let files = StormyFiles::default();
    let plan = Options { sync: SyncMode::Every(1000 * MS), ..options(tmp.path()) };
    let (disk, mut ends, mut hand) = Disk::by_hand(plan, Arc::new(files.clone())).expect("disk");
    let (writer, mut feed) = ends.remove(0);
    let mut source = Source::new(writer);
    let ms = go_on(30, 1_000_000, &mut source, (&mut feed, &mut hand));
    let dir = tmp.path().join("0");
    files.set(|w| w.bad_file = Some(segment_paths(&dir)[0].clone()));
    let ms = go_on(5, ms, &mut source, (&mut feed, &mut hand));
    assert!(disk.alarms(at(ms)).is_empty(), "the journal goes on");
    let mut text = crate::selfmetrics::Exposition::default();
    crate::selfmetrics::Collect::collect(disk.stats().as_ref(), &mut text);
    assert!(text.text().contains("ringscrape_journal_segments_given_up_total 1\n"));
    assert!(text.text().contains("ringscrape_journal_frames_lost_total{shard=\"0\"} 0\n"));
    go_on(30, ms, &mut source, (&mut feed, &mut hand));
    assert_eq!(segment_paths(&dir).len(), 3, "the bad one, its tail, and what the writer began when it was told");
    drop(hand);
    let image = tmp.path().join("image");
    files.lose_power(tmp.path(), &image);
    let _ = recovery::recover(&image);
    let (events, _, errors) = read_all(&image.join("0"), Cursor::default());
    assert!(errors.is_empty(), "{errors:?}");
    // The last second was not synced yet.
    assert!(events.len() as i64 + 15 >= source.next, "{} of {}", events.len(), source.next);
    assert_eq!(numbers(&events), (0..events.len() as i64).collect::<Vec<_>>());
}

#[test]
fn a_bad_file_that_is_still_in_memory_costs_nothing() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let files = StormyFiles::default();
    let (disk, mut ends, mut hand) = Disk::by_hand(options(tmp.path()), Arc::new(files.clone())).expect("disk");
    let (writer, mut feed) = ends.remove(0);
    let mut source = Source::new(writer);
    let dir = tmp.path().join("0");
    // The header goes out before the path is known to be bad.
    let first = dir.join(super::segment_name(1));
    source.scrape();
    feed.finish(&mut source.writer, at(999_900));
    files.set(|w| (w.stall, w.sync_error) = (Duration::ZERO, Some(libc::EIO)));
    hand.turn(at(1_000_000));
    files.set(|w| (w.sync_error, w.bad_file) = (None, Some(first)));
    let ms = go_on(200, 1_000_000, &mut source, (&mut feed, &mut hand));
    assert!(disk.alarms(at(ms)).is_empty(), "the journal goes on");
    assert_eq!(disk.stats().frames_lost(), 0);
    assert!(segment_paths(&dir).len() >= 2);
    feed.finish(&mut source.writer, at(ms + 100));
    hand.turn(at(ms + 100));
    drop(hand);
    let (events, ..) = read_all(&dir, Cursor::default());
    assert_eq!(numbers(&events), (0..source.next).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_does_not_answer_is_an_alarm_until_it_does() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let files = StormyFiles::default();
    let (disk, mut source, mut feed) = spawn(options(tmp.path()), &files);
    let later = || Now { mono_ns: Now::read().mono_ns + 3000 * MS, ..Now::read() };
    assert!(disk.alarms(later()).is_empty(), "nothing to do is no stall");
    files.set(|w| w.stall = Duration::from_millis(400));
    source.scrape();
    feed.finish(&mut source.writer, at(1_000_000));
    until("the alarm", || disk.alarms(later()).iter().any(|a| a.text.contains("has not answered")));
    files.set(|w| w.stall = Duration::ZERO);
    until("its end", || disk.alarms(later()).is_empty());
    assert!(disk.stop());
}

#[test]
fn a_disk_too_far_behind_costs_the_newest_scrapes_and_says_so() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let files = StormyFiles::default();
    let (disk, mut source, mut feed) = spawn(Options { waiting_bytes_max: 2000, ..options(tmp.path()) }, &files);
    files.set(|w| w.write_error = Some(libc::ENOSPC));
    let mut ms = 1_000_000;
    let mut go = |source: &mut Source, feed: &mut Feed| {
        source.scrape();
        ms += 200;
        feed.turn(&mut source.writer, at(ms));
    };
    for _ in 0..100 {
        go(&mut source, &mut feed);
    }
    assert!(source.writer.is_muted());
    until("the alarm", || {
        let texts: Vec<String> = disk.alarms(Now::read()).into_iter().map(|a| a.text).collect();
        texts.iter().any(|t| t.contains("Free space")) && texts.iter().any(|t| t.contains("dropped"))
    });
    files.set(|w| w.write_error = None);
    until("recovery", || {
        std::thread::sleep(Duration::from_millis(20));
        go(&mut source, &mut feed);
        !source.writer.is_muted() && disk.alarms(Now::read()).is_empty()
    });
    go(&mut source, &mut feed);
    feed.finish(&mut source.writer, at(9_000_000));
    let lost = source.writer.tally().frames_lost;
    assert!(lost > 0);
    assert_eq!(disk.stats().frames_lost(), lost);
    assert!(disk.stats().errors() > 0);
    assert!(disk.stop());
    let (events, _, errors) = read_all(&tmp.path().join("0"), Cursor::default());
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(events.len() as u64 + lost, source.next as u64);
    assert_eq!(numbers(&events)[..5], [0, 1, 2, 3, 4]);
    assert_eq!(events.last().map(|e| e.time_ms), Some(source.next - 1));
    assert!(segment_paths(&tmp.path().join("0")).len() >= 2, "what follows a loss stands in a segment of its own");
}

#[test]
fn readers_of_this_process_are_woken_and_follow() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let files = StormyFiles::default();
    let (disk, mut source, mut feed) = spawn(options(tmp.path()), &files);
    let position = disk.position(0).expect("shard 0");
    let woken = Arc::new(AtomicU64::new(0));
    let counter = woken.clone();
    position.on_change(Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let dir = tmp.path().join("0");
    let mut reader = super::Reader::open(&dir, Cursor::default()).expect("reader").following(position);
    let mut seen = vec![];
    for i in 0..50 {
        source.scrape();
        feed.turn(&mut source.writer, at(1_000_000 + i * 200));
        if i % 10 == 9 {
            source.writer.roll();
        }
        until("the event", || {
            while let Some(e) = reader.next().expect("intact") {
                seen.push(e.time_ms);
            }
            seen.len() as u64 == i + 1
        });
    }
    assert!(woken.load(Ordering::Relaxed) >= 50);
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert!(disk.stop());
}

#[test]
fn two_processes_share_a_directory_and_the_next_start_finds_all() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let files = StormyFiles::default();
    let (one, mut a, mut feed_a) = spawn(options(tmp.path()), &files);
    let (two, mut b, mut feed_b) = spawn(Options { boot: 2, ..options(tmp.path()) }, &files);
    for i in 0..30 {
        a.scrape();
        b.scrape();
        feed_a.turn(&mut a.writer, at(1_000_000 + i * 200));
        feed_b.turn(&mut b.writer, at(1_000_000 + i * 200));
        if i == 10 {
            a.writer.roll();
            b.writer.roll();
        }
    }
    assert!(one.stop() && two.stop());
    let dir = tmp.path().join("0");
    assert_eq!(segment_paths(&dir).len(), 4);
    let (events, _, errors) = read_all(&dir, Cursor::default());
    assert_eq!((events.len(), errors.len()), (60, 0));
}

#[test]
fn cursors_survive_and_lost_shards_are_drained_then_deleted() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let journal = tmp.path().join("journal");
    let two = Options { shards: 2, ..options(&journal) };
    let (disk, ends) = Disk::spawn_on(two, Arc::new(StormyFiles::default())).expect("disk");
    for (writer, mut feed) in ends {
        let mut source = Source::new(writer);
        source.scrape();
        feed.finish(&mut source.writer, at(1));
    }
    disk.cursors().keep(&["far"]);
    disk.cursors().set("far", 1, Cursor { segment: 1, batch: 64, frame: 1 });
    assert!(disk.stop());

    let (disk, _ends) = Disk::spawn_on(options(&journal), Arc::new(StormyFiles::default())).expect("disk");
    assert_eq!(disk.recovered().segments, 0, "a clean stop seals");
    assert_eq!(disk.cursors().get("far", 1), Cursor { segment: 1, batch: 64, frame: 1 });
    let directories: Vec<u32> = disk.directories().expect("list").into_iter().map(|d| d.0).collect();
    assert_eq!(directories, [0, 1]);
    let mut reader = super::Reader::open(&journal.join("1"), disk.cursors().get("far", 1)).expect("reader");
    assert!(reader.next().expect("intact").is_none());
    disk.cursors().set("far", 1, reader.cursor());
    assert_eq!(reader.cursor().segment, 2, "a finished segment is passed even before there is a next one");
    drop(disk);
    // Retention of a start looks in its first second.
    let (disk, _ends) = Disk::spawn_on(options(&journal), Arc::new(StormyFiles::default())).expect("disk");
    until("deletion", || !journal.join("1").exists());
    assert!(journal.join("0").join("000001.seg").exists());
    assert!(disk.stop());
}

/// Readers have what is written before it is durable, so a power loss can take a segment that a cursor stands in.
#[test]
fn a_segment_that_was_read_and_is_gone_hides_nothing_of_the_next() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let journal = tmp.path().join("journal");
    let write = |scrapes: u64| {
        let (disk, mut source, mut feed) = spawn(options(&journal), &StormyFiles::default());
        disk.cursors().keep(&["far"]);
        (0..scrapes).for_each(|_| source.scrape());
        feed.finish(&mut source.writer, at(1));
        assert!(disk.stop());
        let mut reader = super::Reader::open(&journal.join("0"), disk.cursors().get("far", 0)).expect("reader");
        let mut read = 0;
        while reader.next().expect("intact").is_some() {
            read += 1;
            disk.cursors().set("far", 0, reader.cursor());
        }
        disk.cursors().save(&journal, &SystemFiles).expect("saved");
        read
    };
    let first = write(9);
    assert!(first >= 9, "{first}");
    let mut cursors = std::fs::read_to_string(journal.join("cursors.json")).expect("cursors");
    cursors = cursors.replace("\"segment\":2,\"batch\":0", "\"segment\":1,\"batch\":900");
    std::fs::write(journal.join("cursors.json"), cursors).expect("written");
    std::fs::remove_file(journal.join("0/000001.seg")).expect("the power loss");
    assert_eq!(write(9), first, "the same again in the next process");
}

/// As on a full file system, where retention takes the last segment before there is room for another.
#[test]
fn numbers_go_on_when_the_last_segment_is_deleted_before_the_next_is_begun() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let (dir, files) = (tmp.path().join("0"), StormyFiles::default());
    let mut lane = Lane::new(0, 1, dir.clone(), Arc::new(files.clone())).with(SyncMode::Batch, 0);
    let mut source = Source::new(Writer::new(0, 1));
    let write = |lane: &mut Lane, source: &mut Source, ms: u64| {
        source.scrape();
        lane.push(source.writer.flush(at(ms)).expect("a batch"));
        lane.turn(at(ms), &mut vec![]);
    };
    write(&mut lane, &mut source, 1000);
    let mut reader = super::Reader::open(&dir, Cursor::default()).expect("reader").following(lane.position().clone());
    assert!(reader.next().expect("intact").is_some());
    source.writer.roll();
    files.set(|w| w.create_error = Some(libc::ENOSPC));
    write(&mut lane, &mut source, 2000);
    while reader.next().expect("intact").is_some() {}
    std::fs::remove_file(dir.join("000001.seg")).expect("retention");
    files.set(|w| w.create_error = None);
    write(&mut lane, &mut source, 60_000);
    assert!(dir.join("000002.seg").exists());
    let mut read = 0;
    while reader.next().expect("intact").is_some() {
        read += 1;
    }
    assert_eq!(read, 2, "what is written after it is read");
}

#[test]
fn a_full_file_system_makes_room_by_itself() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let files = StormyFiles::default();
    let (disk, mut source, mut feed) = spawn(options(tmp.path()), &files);
    disk.cursors().keep(&["far"]);
    for i in 0..400 {
        source.scrape();
        feed.turn(&mut source.writer, at(1_000_000 + i * 200));
        if i % 40 == 39 {
            source.writer.roll();
        }
    }
    let dir = tmp.path().join("0");
    until("ten segments", || segment_paths(&dir).len() == 10);
    assert!(disk.stop());
    let small = Retention { time_ms: None, size_bytes: Some(10_000) };
    files.set(|w| w.space = Some(Space { total_bytes: 100_000, free_bytes: 0 }));
    let (disk, ..) = spawn(Options { retention: small, ..options(tmp.path()) }, &files);
    until("deletion", || segment_paths(&dir).len() < 10);
    until("the alarm", || disk.alarms(Now::read()).iter().any(|a| a.text.contains("had not got")));
    let mut text = crate::selfmetrics::Exposition::default();
    crate::selfmetrics::Collect::collect(disk.stats().as_ref(), &mut text);
    assert!(text.text().contains("ringscrape_journal_unsent_deleted_bytes_total{destination=\"far\"}"));
}
