//! Segments that a failed write or sync ends early: nothing is lost, nothing is read twice, whatever else fails.

use super::ended::{Ended, end_name};
use super::lane::{Lane, SyncMode, Work};
use super::reader::Reader;
use super::testing::{MS, Plain, Source, StormyFiles, at, numbers, read_all, segment_paths};
use super::writer::{Batch, Writer};
use super::{Cursor, recovery};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
enum Fails {
    Write,
    Sync,
    Create,
    Truncate,
    Remove,
    Read,
    Replace,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Scrape,
    Flush,
    Roll,
    Wait(u64),
    Weather(Fails, Option<i32>),
    Read,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    use Fails::{Create, Read, Remove, Replace, Sync, Truncate, Write};
    let error = prop_oneof![3 => Just(None), 1 => Just(Some(libc::EIO)), 1 => Just(Some(libc::ENOSPC))];
    let what = prop_oneof![
        2 => Just(Write), 3 => Just(Sync), 1 => Just(Create), 1 => Just(Truncate), 1 => Just(Remove), 1 => Just(Replace)
    ];
    prop_oneof![
        6 => Just(Step::Scrape),
        5 => Just(Step::Flush),
        1 => Just(Step::Roll),
        5 => (1u64..900).prop_map(Step::Wait),
        4 => (what, error).prop_map(|(w, e)| Step::Weather(w, e)),
        // Shorter than the time after which what cannot be read back is given up.
        1 => Just(Step::Weather(Read, Some(libc::EIO))),
        2 => Just(Step::Weather(Read, None)),
        4 => Just(Step::Read),
        1 => Just(Step::Reopen),
    ]
}

/// A lane, its source, its files, and a reader that follows it.
struct Scene {
    tmp: tempfile::TempDir,
    files: StormyFiles,
    lane: Lane,
    source: Source,
    reader: Reader,
    seen: Vec<Plain>,
    done: Vec<Batch>,
    work: Work,
    ms: u64,
    images: u32,
}

impl Scene {
    fn new(sync: SyncMode) -> Self {
        let tmp = tempfile::tempdir().expect("tempdir");
        let dir = tmp.path().join("journal/0");
        std::fs::create_dir_all(&dir).expect("directory");
        let files = StormyFiles::default();
        let lane = Lane::new(0, 1, dir.clone(), Arc::new(files.clone())).with(sync, 0);
        let reader = Reader::open(&dir, Cursor::default()).expect("reader").following(lane.position().clone());
        let source = Source::new(Writer::new(0, 1));
        let (seen, done, work) = (vec![], vec![], Work::default());
        Self { tmp, files, lane, source, reader, seen, done, work, ms: 5000, images: 0 }
    }

    fn journal(&self) -> PathBuf {
        self.tmp.path().join("journal")
    }

    fn dir(&self) -> PathBuf {
        self.journal().join("0")
    }

    fn fail(&self, what: Fails, error: Option<i32>) {
        self.files.set(|w| match what {
            Fails::Write => w.write_error = error,
            Fails::Sync => w.sync_error = error,
            Fails::Create => w.create_error = error,
            Fails::Truncate => w.truncate_error = error,
            Fails::Remove => w.remove_error = error,
            Fails::Read => w.read_error = error,
            Fails::Replace => w.replace_error = error,
        });
    }

    fn clear(&self) {
        use Fails::{Create, Read, Remove, Replace, Sync, Truncate, Write};
        [Write, Sync, Create, Truncate, Remove, Read, Replace].into_iter().for_each(|what| self.fail(what, None));
    }

    /// A turn of the lane after so many milliseconds; the writer leaves what it is asked to leave.
    fn turn(&mut self, after_ms: u64) {
        self.ms += after_ms;
        let work = self.lane.turn(at(self.ms), &mut self.done);
        self.work.given_up += work.given_up;
        self.work.frames_lost += work.frames_lost;
    }

    fn flush(&mut self) -> bool {
        let batch = self.source.writer.flush(at(self.ms));
        batch.is_some_and(|b| {
            self.lane.push(b);
            true
        })
    }

    fn leave(&mut self) {
        if let Some(ordinal) = self.lane.leaving() {
            self.source.writer.leave(ordinal);
        }
    }

    /// Scrapes, one batch and one turn each, 200 ms apart.
    fn go_on(&mut self, scrapes: u32) {
        for _ in 0..scrapes {
            self.source.scrape();
            self.flush();
            self.turn(200);
        }
    }

    fn read(&mut self) {
        while let Some(e) = self.reader.next().expect("intact") {
            self.seen.push(Plain::of(&e));
        }
    }

    fn reopen(&mut self) {
        let from = self.reader.cursor();
        self.reader = Reader::open(&self.dir(), from).expect("reader").following(self.lane.position().clone());
    }

    /// What is there after a recovery: of a power loss, or of a kill, which leaves what memory had.
    fn image(&mut self, is_kill: bool) -> (Vec<i64>, usize) {
        self.images += 1;
        let image = self.tmp.path().join(format!("image-{}", self.images));
        if is_kill {
            copy(&self.dir(), &image.join("0"));
        } else {
            self.files.lose_power(&self.journal(), &image);
        }
        let recovered = recovery::recover(&image);
        assert_eq!(recovered.damaged, 0, "{:?}", recovered.messages);
        let (events, _, errors) = read_all(&image.join("0"), Cursor::default());
        assert!(errors.is_empty(), "{errors:?}");
        let mut all = numbers(&events);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        (all, count)
    }

    /// The disk is well again: all is there, once, for the reader that followed and for one that comes now.
    fn settle(&mut self) {
        self.clear();
        self.source.scrape();
        self.flush();
        for _ in 0..4 {
            self.turn(6000);
        }
        assert!(self.lane.fault().is_none() && self.lane.is_done(), "{:?}", self.lane.fault());
        self.read();
        let all: Vec<i64> = (0..self.source.next).collect();
        assert_eq!(numbers(&self.seen), all, "the reader that followed");
        let (events, _, errors) = read_all(&self.dir(), Cursor::default());
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(numbers(&events), all, "a reader that comes now");
        assert_eq!(self.image(false), (all.clone(), all.len()), "after a power loss");
        assert_eq!(self.image(true), (all.clone(), all.len()), "after a kill");
        assert_eq!(self.work.frames_lost, 0);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("list") {
        let path = entry.expect("entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("name"))).expect("copy");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever fails and for how long: when the disk is well again nothing is missing and nothing is read twice, and at
    /// every moment a power loss leaves at least what was reported as synced, as an undamaged prefix.
    #[test]
    fn errors_lose_nothing(
        steps in proptest::collection::vec(step(), 1..100),
        batch in any::<bool>(),
        drops_pages in any::<bool>(),
    ) {
        let mut scene = Scene::new(if batch { SyncMode::Batch } else { SyncMode::Every(1000 * MS) });
        scene.files.set(|w| w.drops_pages = drops_pages);
        for (i, step) in steps.iter().enumerate() {
            match *step {
                Step::Scrape => scene.source.scrape(),
                Step::Flush => drop(scene.flush()),
                Step::Roll => if scene.source.writer.due_at().is_none() { scene.source.writer.roll() },
                Step::Wait(n) => { scene.leave(); scene.turn(n) },
                Step::Weather(what, error) => scene.fail(what, error),
                Step::Read => scene.read(),
                Step::Reopen => scene.reopen(),
            }
            scene.turn(0);
            if scene.work.frames_lost > 0 {
                // Reading back failed for too long, which steps rarely give time for.
                return Err(TestCaseError::reject("given up"));
            }
            if i % 8 == 0 {
                let (found, count) = scene.image(false);
                prop_assert_eq!(&found, &(0..found.len() as i64).collect::<Vec<_>>());
                // Twice only what a segment had that the next one has, and whose end is not recorded yet.
                prop_assert!(count == found.len() || scene.lane.fault().is_some(), "{count} of {}", found.len());
                if scene.lane.is_done() {
                    prop_assert!(found.len() as i64 >= scene.source.next - pending(&scene), "{} of {}", found.len(), scene.source.next);
                }
            }
        }
        scene.settle();
    }
}

/// Scrapes that the lane was not given yet.
fn pending(scene: &Scene) -> i64 {
    if scene.source.writer.due_at().is_some() { scene.source.next } else { 0 }
}

fn ended(scene: &Scene) -> Vec<Option<Ended>> {
    let all = segment_paths(&scene.dir()).len() as u64;
    (1..=all).map(|n| Ended::load(&scene.dir(), n).expect("read")).collect()
}

const EIO: Option<i32> = Some(libc::EIO);

#[test]
fn the_tail_of_a_failed_sync_stands_in_a_new_segment_of_its_own() {
    let mut scene = Scene::new(SyncMode::Every(1000 * MS));
    scene.go_on(8);
    scene.read();
    assert_eq!(scene.seen.len(), 8, "readers read what is written");
    scene.fail(Fails::Sync, EIO);
    scene.go_on(3);
    scene.read();
    let was = scene.reader.cursor();
    assert_eq!(was.segment, 1);
    scene.clear();
    scene.go_on(2);
    scene.read();
    assert_eq!(numbers(&scene.seen), (0..13).collect::<Vec<_>>());
    assert_eq!(scene.reader.cursor().segment, 2);
    let ends = ended(&scene);
    let first = ends[0].as_ref().expect("the first ends early");
    assert!(first.end_bytes > 64 && first.heir != 0 && !first.moved.is_empty());
    assert!(ends[1].is_none());
    let states = super::segment_states(&scene.dir()).expect("list");
    assert_eq!(
        states.iter().map(|s| s.2.map(super::SegmentState::word)).collect::<Vec<_>>(),
        [Some("ended"), Some("live")]
    );
    // A restart between: the saved position is in what is no more, and goes on behind it.
    let (events, ..) = read_all(&scene.dir(), was);
    assert_eq!(*numbers(&events).first().expect("an event"), 11, "those of the tail that were read are not read again");
    // The new segment stands alone.
    std::fs::remove_file(&segment_paths(&scene.dir())[0]).expect("remove");
    let (events, _, errors) = read_all(&scene.dir(), Cursor::default());
    assert!(errors.is_empty() && numbers(&events).last() == Some(&12) && events.len() < 13);
}

#[test]
fn a_failure_in_a_segments_first_second_moves_all_of_it() {
    for sync in [SyncMode::Batch, SyncMode::Every(1000 * MS)] {
        let mut scene = Scene::new(sync);
        scene.files.set(|w| w.drops_pages = true);
        scene.fail(Fails::Sync, EIO);
        scene.go_on(3);
        scene.read();
        scene.go_on(20);
        scene.clear();
        scene.go_on(1);
        scene.settle();
        assert_eq!((scene.work.given_up, segment_paths(&scene.dir()).len()), (1, 2), "{sync:?}");
    }
}

#[test]
fn failures_one_after_another_leave_no_files_behind() {
    let mut scene = Scene::new(SyncMode::Every(1000 * MS));
    scene.go_on(8);
    scene.read();
    scene.fail(Fails::Sync, EIO);
    scene.go_on(300);
    assert_eq!(segment_paths(&scene.dir()).len(), 1);
    scene.settle();
    assert_eq!(segment_paths(&scene.dir()).len(), 2);
    assert_eq!(scene.work.given_up, 1);
}

#[test]
fn what_can_be_neither_removed_nor_cut_ends_all_the_same() {
    let mut scene = Scene::new(SyncMode::Every(1000 * MS));
    scene.go_on(8);
    scene.read();
    [Fails::Sync, Fails::Remove, Fails::Truncate].into_iter().for_each(|what| scene.fail(what, EIO));
    scene.go_on(20);
    scene.read();
    scene.fail(Fails::Sync, None);
    scene.go_on(40);
    scene.read();
    let ends = ended(&scene);
    assert!(ends.len() > 2 && ends.iter().rev().skip(1).all(Option::is_some), "{ends:?}");
    assert!(
        std::fs::metadata(&segment_paths(&scene.dir())[0]).expect("there").len()
            > ends[0].as_ref().expect("ended").end_bytes
    );
    scene.settle();
}

#[test]
fn a_new_segment_that_fails_too_is_told_once_more() {
    let mut scene = Scene::new(SyncMode::Every(1000 * MS));
    for round in 0..5 {
        // The writer stays where it is: what it adds goes through the relay.
        scene.go_on(8);
        if round % 2 == 0 {
            scene.read();
        }
        scene.fail(if round == 3 { Fails::Write } else { Fails::Sync }, EIO);
        scene.go_on(7);
        scene.read();
        scene.clear();
    }
    scene.go_on(7);
    assert_eq!(scene.work.given_up, 5);
    assert_eq!(scene.lane.leaving(), Some(1));
    scene.settle();
    // The relay ends with what the writer adds.
    scene.leave();
    scene.go_on(2);
    assert_eq!(scene.lane.leaving(), None);
    scene.settle();
}

#[test]
fn without_syncs_a_segment_ends_at_its_last_whole_batch() {
    let mut scene = Scene::new(SyncMode::Os);
    scene.go_on(5);
    scene.read();
    scene.fail(Fails::Write, EIO);
    scene.go_on(5);
    scene.clear();
    scene.go_on(5);
    scene.read();
    assert_eq!(numbers(&scene.seen), (0..15).collect::<Vec<_>>());
    assert_eq!((scene.work.given_up, scene.work.frames_lost), (1, 0));
    let (found, count) = scene.image(true);
    assert_eq!((found.len(), count), (15, 15));
}

#[test]
fn a_seal_that_fails_ends_the_segment_and_costs_nothing() {
    for what in [Fails::Write, Fails::Sync, Fails::Truncate] {
        let mut scene = Scene::new(SyncMode::Every(1000 * MS));
        scene.go_on(8);
        scene.turn(1000);
        scene.read();
        scene.source.writer.roll();
        scene.fail(what, EIO);
        scene.go_on(2);
        scene.clear();
        scene.go_on(4);
        assert_eq!(scene.work.given_up, 1, "{what:?}");
        scene.settle();
    }
}

#[test]
fn a_tail_whose_beginning_cannot_be_read_is_lost_and_counted() {
    let mut scene = Scene::new(SyncMode::Every(1000 * MS));
    scene.go_on(8);
    scene.fail(Fails::Sync, EIO);
    scene.fail(Fails::Read, EIO);
    scene.go_on(7);
    scene.fail(Fails::Sync, None);
    for _ in 0..8 {
        scene.turn(6000);
    }
    assert!(scene.work.frames_lost >= 7, "{}", scene.work.frames_lost);
    let before = scene.work.frames_lost;
    scene.go_on(1);
    assert_eq!(scene.work.frames_lost, before + 1, "what leans on it is lost too");
    scene.leave();
    scene.go_on(10);
    assert_eq!(scene.work.frames_lost, before + 1);
    scene.clear();
    scene.turn(6000);
    assert!(scene.lane.is_done());
    let (events, _, errors) = read_all(&scene.dir(), Cursor::default());
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(events.len() as u64 + scene.work.frames_lost, scene.source.next as u64);
    scene.read();
    assert!(numbers(&scene.seen).windows(2).all(|w| w[0] < w[1]));
    assert_eq!(scene.seen.last().map(|e| e.time_ms), Some(scene.source.next - 1));
}

#[test]
fn a_segments_record_goes_with_it() {
    let mut scene = Scene::new(SyncMode::Every(1000 * MS));
    scene.go_on(8);
    scene.fail(Fails::Sync, EIO);
    scene.go_on(7);
    scene.clear();
    scene.go_on(10);
    assert!(scene.dir().join(end_name(1)).exists());
    let options = super::Options {
        retention: super::Retention { time_ms: None, size_bytes: Some(1) },
        ..super::Options::new(scene.journal(), 1, 2)
    };
    let cursors = super::Cursors::default();
    let stats = super::Stats::new(vec![], scene.journal());
    let mut keeper = super::retention::Keeper::new(&options, &scene.files);
    keeper.turn(at(scene.ms), &[(0, 2)], (&scene.files, &cursors, &stats));
    let mut left: Vec<String> = std::fs::read_dir(scene.dir())
        .expect("list")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["000002.seg"]);
}
