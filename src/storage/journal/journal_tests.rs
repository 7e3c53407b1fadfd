//! Writer to files to reader, bit for bit, whatever comes between.

use super::column::Column;
use super::lane::{Lane, SyncMode};
use super::reader::Reader;
use super::testing::{MS, Plain, Source, at, read_all, schema, segment_paths, series_text, shape};
use super::writer::{Row, Slots, Writer};
use super::{Cursor, SystemFiles};
use crate::base::limits::JOURNAL_FLUSH_EARLY_NS;
use crate::base::time::Now;
use crate::model::{ABSENT, Shape};
use proptest::prelude::*;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Op {
    Scrape { target: usize, shape: usize, ms: i64, values: Vec<f64>, times: Vec<(u32, i64)> },
    Stale { target: usize, shape: usize, ms: i64, keep: Vec<bool> },
    Renew { target: usize },
    Flush,
    Roll,
    Mute,
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => (0i64..5).prop_map(|i| i as f64),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(ABSENT),
        1 => any::<f32>().prop_map(f64::from),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let times = proptest::collection::btree_map(0u32..40, any::<i64>(), 0..4);
    let some_times = prop_oneof![3 => Just(vec![]), 1 => times.prop_map(|m| m.into_iter().collect())];
    let ms = prop_oneof![4 => 1_700_000_000_000i64..1_700_000_100_000, 1 => any::<i64>()];
    prop_oneof![
        8 => (0usize..4, 0usize..6, ms.clone(), proptest::collection::vec(value(), 60), some_times)
            .prop_map(|(target, shape, ms, values, times)| Op::Scrape { target, shape, ms, values, times }),
        2 => (0usize..4, 0usize..6, ms, proptest::collection::vec(any::<bool>(), 60))
            .prop_map(|(target, shape, ms, keep)| Op::Stale { target, shape, ms, keep }),
        1 => (0usize..4).prop_map(|target| Op::Renew { target }),
        2 => Just(Op::Flush),
        1 => Just(Op::Roll),
        1 => Just(Op::Mute),
    ]
}

/// Six shapes over five schemas, sharing fronts, backs and middles; one is empty.
fn shapes() -> Vec<Rc<Shape>> {
    let s: Vec<_> = [7, 1, 20, 3, 12].iter().enumerate().map(|(i, n)| schema(&format!("m{i}"), *n)).collect();
    let lists: [&[usize]; 6] = [&[0, 1, 2], &[0, 3, 2], &[0, 1, 4, 2], &[4], &[], &[1, 1, 2]];
    lists.iter().map(|l| Rc::new(Shape::new(l.iter().map(|&i| s[i].clone()).collect()))).collect()
}

struct World {
    shapes: Vec<Rc<Shape>>,
    writer: Writer,
    columns: Vec<Column>,
    variables: Vec<Vec<String>>,
    lane: Lane,
    now: Now,
    expected: Vec<Plain>,
    /// Events not yet flushed: a mute loses them.
    pending: usize,
}

impl World {
    fn new(dir: &Path) -> Self {
        let lane = Lane::new(0, 7, dir.to_owned(), Arc::new(SystemFiles)).with(SyncMode::Os, 0);
        Self {
            shapes: shapes(),
            writer: Writer::new(0, 7),
            columns: (0..4).map(|_| Column::default()).collect(),
            variables: (0..4).map(|i| vec![format!("host-{i}"), String::new(), "x".repeat(i * 100)]).collect(),
            lane,
            now: Now { wall_ns: 1_700_000_000_000_000_000, mono_ns: 1 },
            expected: vec![],
            pending: 0,
        }
    }

    fn flush(&mut self) {
        self.now.mono_ns += 1_000_000;
        if let Some(batch) = self.writer.flush(self.now) {
            self.lane.push(batch);
        }
        self.writer.tell_time(self.now.wall_ms());
        self.pending = 0;
        let mut done = vec![];
        self.lane.turn(self.now, &mut done);
        assert!(self.lane.fault().is_none() && self.lane.is_done());
        done.into_iter().for_each(|b| self.writer.recycle(b.bytes));
    }

    fn expect(&mut self, target: usize, shape: usize, time_ms: i64) -> &mut Plain {
        self.pending += 1;
        self.expected.push(Plain {
            variables: self.variables[target].clone(),
            series: series_text(&self.shapes[shape]),
            time_ms,
            values: vec![],
            times: vec![],
            stale: None,
        });
        self.expected.last_mut().expect("just pushed")
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Scrape { target, shape, ms, values, times } => {
                let which = self.shapes[*shape].clone();
                let values = &values[..which.series_count];
                let times: Vec<_> = times.iter().copied().filter(|t| (t.0 as usize) < values.len()).collect();
                let row = Row { shape: &which, time_ms: *ms, values, times: &times };
                let variables = self.variables[*target].iter().map(String::as_str);
                self.writer.scrape(&mut self.columns[*target], variables, &row);
                let e = self.expect(*target, *shape, *ms);
                e.values = values.iter().map(|v| v.to_bits()).collect();
                e.times = times;
            }
            Op::Stale { target, shape, ms, keep } => {
                let which = self.shapes[*shape].clone();
                let slots: Vec<u32> = (0..which.series_count as u32).filter(|s| keep[*s as usize]).collect();
                let all = keep[59] && !slots.is_empty();
                let given = if all { Slots::All } else { Slots::Some(&slots) };
                let variables = self.variables[*target].iter().map(String::as_str);
                self.writer.stale(&mut self.columns[*target], variables, (&which, *ms), given);
                if !slots.is_empty() {
                    let e = self.expect(*target, *shape, *ms);
                    e.stale = Some(if all { (0..which.series_count as u32).collect() } else { slots });
                }
            }
            Op::Renew { target } => {
                self.columns[*target].renew();
                self.variables[*target][1].push('v');
            }
            Op::Flush => self.flush(),
            Op::Roll => {
                self.flush();
                self.writer.roll();
            }
            Op::Mute => {
                self.writer.mute();
                let kept = self.expected.len() - self.pending;
                self.expected.truncate(kept);
                self.pending = 0;
                self.writer.resume();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(ops in proptest::collection::vec(op(), 0..60), sealed in any::<bool>()) {
        let dir = tempfile::tempdir().expect("tempdir");
        let dir = dir.path().join("0");
        let mut world = World::new(&dir);
        ops.iter().for_each(|op| world.apply(op));
        world.flush();
        if sealed {
            prop_assert!(world.lane.close(world.now, &mut vec![]));
        }
        let (events, cursors, errors) = read_all(&dir, Cursor::default());
        prop_assert!(errors.is_empty(), "{errors:?}");
        prop_assert_eq!(&events, &world.expected);
        // Resuming after any event gives exactly the rest.
        for (i, cursor) in cursors.iter().enumerate().step_by(7) {
            let (rest, _, errors) = read_all(&dir, *cursor);
            prop_assert!(errors.is_empty(), "{errors:?}");
            prop_assert_eq!(&rest[..], &world.expected[i + 1..]);
        }
    }

    #[test]
    fn a_tailing_reader_sees_the_same(ops in proptest::collection::vec(op(), 0..60)) {
        let dir = tempfile::tempdir().expect("tempdir");
        let dir = dir.path().join("0");
        let mut world = World::new(&dir);
        let mut reader = Reader::open(&dir, Cursor::default()).expect("reader");
        let mut following = Reader::open(&dir, Cursor::default()).expect("reader").following(world.lane.position().clone());
        let (mut seen, mut seen_following) = (vec![], vec![]);
        for op in &ops {
            world.apply(op);
            while let Some(e) = reader.next().expect("no damage") {
                seen.push(Plain::of(&e));
            }
            while let Some(e) = following.next().expect("no damage") {
                seen_following.push(Plain::of(&e));
            }
        }
        world.flush();
        while let Some(e) = reader.next().expect("no damage") {
            seen.push(Plain::of(&e));
        }
        while let Some(e) = following.next().expect("no damage") {
            seen_following.push(Plain::of(&e));
        }
        prop_assert_eq!(&seen, &world.expected);
        prop_assert_eq!(&seen_following, &world.expected);
    }
}

/// A small journal of several batches in one unsealed segment, its path, and its events by batch end.
fn small_journal(dir: &Path) -> (Vec<Plain>, Vec<(u64, usize)>) {
    let mut world = World::new(dir);
    let mut ends = vec![];
    for i in 0..5 {
        for target in 0..3 {
            let values = (0..60).map(|v| f64::from(v * i)).collect();
            world.apply(&Op::Scrape { target, shape: i as usize % 3, ms: i64::from(i) * 1000, values, times: vec![] });
        }
        world.flush();
        ends.push((world.lane.position().extent().written_bytes, world.expected.len()));
    }
    (world.expected, ends)
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path().join("0");
    let (expected, ends) = small_journal(&dir);
    let path = segment_paths(&dir).pop().expect("one segment");
    let whole = std::fs::read(&path).expect("read");
    let first = ends[2].0 as usize;
    for cut in first..=whole.len() {
        let journal = tmp.path().join(format!("cut-{cut}"));
        let copy = journal.join("0");
        std::fs::create_dir_all(&copy).expect("directory");
        std::fs::write(copy.join("000001.seg"), &whole[..cut]).expect("write");
        let &(end, count) = ends.iter().rev().find(|(end, _)| *end as usize <= cut).expect("at least three batches");
        // Before recovery a reader gives what is whole; after it there is no damage left to speak of.
        assert_eq!(read_all(&copy, Cursor::default()).0, expected[..count]);
        let recovered = super::recovery::recover(&journal);
        let torn = cut as u64 - end;
        // Trailing zeros of a torn batch are not told from reserved space.
        assert!(recovered.cut_bytes <= torn && (torn > 0) >= (recovered.cut_bytes > 0), "cut {cut}");
        assert_eq!((recovered.segments, recovered.kept_bytes, recovered.damaged), (1, end, 0));
        let (events, _, errors) = read_all(&copy, Cursor::default());
        assert_eq!(events, expected[..count]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(super::recovery::recover(&journal), super::Recovered::default(), "recovery happens once");
        std::fs::remove_dir_all(&journal).expect("remove");
    }
}

#[test]
fn any_flipped_bit_is_seen_and_only_costs_what_follows_in_the_segment() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path().join("0");
    let (expected, ends) = small_journal(&dir);
    let path = segment_paths(&dir).pop().expect("one segment");
    let whole = std::fs::read(&path).expect("read");
    // A second segment: what the next process writes.
    let mut world = World::new(&dir);
    world.apply(&Op::Scrape { target: 0, shape: 0, ms: 5, values: vec![1.0; 60], times: vec![] });
    world.flush();
    let after = world.expected.clone();
    for byte in (0..whole.len()).step_by(3) {
        let mut bad = whole.clone();
        bad[byte] ^= 1 << (byte % 8);
        std::fs::write(&path, &bad).expect("write");
        let (events, _, errors) = read_all(&dir, Cursor::default());
        let count = ends.iter().rev().find(|(end, _)| *end as usize <= byte).map_or(0, |e| e.1);
        let want: Vec<Plain> = expected[..count].iter().chain(&after).cloned().collect();
        assert_eq!(events, want, "byte {byte}");
        assert_eq!(errors.len(), 1, "byte {byte}: {errors:?}");
        assert!(errors[0].is_loss());
    }
}

#[test]
fn shapes_and_schemas_are_shared_across_segments() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path().join("0");
    let mut world = World::new(&dir);
    for _ in 0..3 {
        world.apply(&Op::Scrape { target: 0, shape: 0, ms: 5, values: vec![1.0; 60], times: vec![] });
        world.apply(&Op::Roll);
    }
    let mut reader = Reader::open(&dir, Cursor::default()).expect("reader");
    let first = reader.next().expect("intact").expect("event").shape.clone();
    while let Some(e) = reader.next().expect("intact") {
        assert!(Arc::ptr_eq(e.shape, &first));
    }
    assert_eq!(reader.tally().segments, 3);
}

#[test]
fn a_reader_waits_for_a_live_segment_of_another_process_and_then_goes_on() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path().join("0");
    let scrape = |ms| Op::Scrape { target: 0, shape: 0, ms, values: vec![1.0; 60], times: vec![] };
    let (mut old, mut new) = (World::new(&dir), World::new(&dir));
    old.apply(&scrape(1));
    old.flush();
    new.apply(&scrape(3));
    new.flush();
    assert_eq!(segment_paths(&dir).len(), 2);
    let mut reader = Reader::open(&dir, Cursor::default()).expect("reader");
    assert_eq!(reader.next().expect("intact").map(|e| e.time_ms), Some(1));
    assert!(reader.next().expect("intact").is_none(), "the first process may still write");
    // Recovery by a third process leaves both alone.
    assert_eq!(super::recovery::recover(tmp.path()).live, 2);
    old.apply(&scrape(2));
    old.flush();
    assert_eq!(reader.next().expect("intact").map(|e| e.time_ms), Some(2));
    // The first process dies without sealing; its lock goes with it.
    drop(old);
    assert_eq!(reader.next().expect("intact").map(|e| e.time_ms), Some(3));
    assert!(reader.next().expect("intact").is_none());
}

#[test]
fn a_shard_that_is_awake_writes_a_little_before_it_would_wake() {
    let mut source = Source::new(Writer::new(0, 7));
    assert!(source.writer.flush(at(1_000)).is_none());
    assert!(!source.writer.due(at(9_000)), "there is nothing");
    source.scrape();
    let due_ms = source.writer.due_at().expect("a scrape waits") / MS;
    let early_ms = JOURNAL_FLUSH_EARLY_NS / MS;
    assert!(due_ms > 1_000 + 2 * early_ms);
    let at_turns = [due_ms - early_ms - 1, due_ms - early_ms, due_ms].map(|ms| source.writer.due(at(ms)));
    assert_eq!(at_turns, [false, true, true]);
}

/// By these times readers of several shards put the batches in order.
#[test]
fn a_batch_says_when_it_was_begun_and_can_be_ended_at_once() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path().join("0");
    let mut lane = Lane::new(0, 7, dir.clone(), Arc::new(SystemFiles)).with(SyncMode::Batch, 0);
    let (mut writer, mut column, shape) = (Writer::new(0, 7), Column::default(), shape("up", 1));
    for now_ms in [5_000, 4_000, 6_000] {
        writer.end_batch();
        assert_eq!(writer.due_at(), None, "there is nothing to end");
        for time_ms in [now_ms - 10, now_ms - 900] {
            writer.tell_time(now_ms + time_ms % 7);
            writer.scrape(&mut column, ["a"].into_iter(), &Row { shape: &shape, time_ms, values: &[1.0], times: &[] });
        }
        assert_eq!(writer.due_at(), Some(0));
        lane.push(writer.flush(Now::default()).expect("a batch"));
        lane.turn(Now::default(), &mut vec![]);
    }
    let mut reader = Reader::open(&dir, Cursor::default()).expect("readable");
    for now_ms in [5_000, 4_000, 6_000] {
        for time_ms in [now_ms - 10, now_ms - 900] {
            assert_eq!(reader.batch_ms().expect("intact"), Some(now_ms + (now_ms - 10) % 7));
            assert_eq!(reader.next().expect("intact").map(|e| e.time_ms), Some(time_ms));
        }
    }
    assert_eq!(reader.batch_ms().expect("intact"), None);
}

/// A target has more variables than labels where its body's texts vary; other shards may have found others.
#[test]
fn a_target_is_known_by_its_labels_whatever_else_varies() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path().join("0");
    let mut lane = Lane::new(0, 7, dir.clone(), Arc::new(SystemFiles)).with(SyncMode::Batch, 0);
    let (mut writer, shape) = (Writer::new(0, 7), shape("up", 1));
    for variables in [&["a", "j"][..], &["a", "j", "n-17"], &["a", "j", "n-17", "x"], &["a", "k", "n-17"]] {
        let mut column = Column::default();
        column.set_labels(if variables.len() > 2 { 2 } else { 0 });
        for time_ms in 1..3 {
            let row = Row { shape: &shape, time_ms, values: &[1.0], times: &[] };
            writer.scrape(&mut column, variables.iter().copied(), &row);
        }
    }
    lane.push(writer.flush(Now::default()).expect("a batch"));
    lane.turn(Now::default(), &mut vec![]);
    let mut reader = Reader::open(&dir, Cursor::default()).expect("readable");
    let mut seen = Vec::new();
    while let Some(event) = reader.next().expect("intact") {
        seen.push((event.target.variables.iter().count(), event.target.fingerprint));
    }
    let counts: Vec<usize> = seen.iter().map(|s| s.0).collect();
    assert_eq!(counts, [2, 2, 3, 3, 4, 4, 3, 3]);
    assert!(seen[..6].iter().all(|s| s.1 == seen[0].1) && seen[6].1 != seen[0].1, "{seen:?}");
}

#[test]
fn small_batches_of_one_metric_round_trip_without_values() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path().join("0");
    let mut lane = Lane::new(0, 7, dir.clone(), Arc::new(SystemFiles)).with(SyncMode::Batch, 41);
    let (mut writer, mut column) = (Writer::new(0, 7), Column::default());
    let shape = shape("up", 1);
    writer.scrape(&mut column, ["a"].into_iter(), &Row { shape: &shape, time_ms: 9, values: &[ABSENT], times: &[] });
    lane.push(writer.flush(Now::default()).expect("a batch"));
    lane.turn(Now::default(), &mut vec![]);
    assert_eq!(lane.current().last(), Some(42), "numbers go on after what cursors know");
    let (events, ..) = read_all(&dir, Cursor::default());
    assert_eq!(events[0].values, [ABSENT.to_bits()]);
}

/// What targets no longer show stays in the dictionary of a segment, and in the memory of its readers.
#[test]
fn a_segment_ends_when_churn_has_replaced_its_dictionary() {
    let minutes = |m: u64| Now { mono_ns: 1 + m * 60_000_000_000, ..Now::default() };
    let (mut writer, mut column) = (Writer::new(0, 7), Column::default());
    let mut scrape = |writer: &mut Writer, shape: &Rc<Shape>, at: Now| {
        let values = vec![1.0; shape.series_count];
        let row = Row { shape, time_ms: 9, values: &values, times: &[] };
        writer.scrape(&mut column, ["a"].into_iter(), &row);
        writer.flush(at).expect("a batch").ordinal
    };
    // Names that do not compress.
    let letter = |n: usize, i: usize| char::from(b'a' + ((n + i).wrapping_mul(0x9E37_79B9 + i * i) >> 20) as u8 % 26);
    let other = |n: usize| shape(&(0..50_000).map(|i| letter(n, i)).collect::<String>(), 1);
    let first = other(0);
    assert_eq!(scrape(&mut writer, &first, minutes(0)), 1);
    for n in 1..150 {
        assert_eq!(scrape(&mut writer, &other(n), minutes(0)), 1, "not while targets may not all have been scraped");
    }
    let bytes = writer.tally().dictionary_bytes;
    assert!(bytes > 5 << 20, "{bytes} bytes");
    assert_eq!(scrape(&mut writer, &first, minutes(11)), 1);
    for minute in 12..100 {
        assert_eq!(scrape(&mut writer, &first, minutes(minute)), 2, "nothing was replaced since");
    }
    for n in 150..180 {
        assert_eq!(scrape(&mut writer, &other(n), minutes(100)), 2, "less than is worth a segment");
    }
}

#[test]
fn a_schema_is_shared_while_targets_of_several_shapes_have_it() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path().join("0");
    let mut lane = Lane::new(0, 7, dir.clone(), Arc::new(SystemFiles)).with(SyncMode::Batch, 0);
    let (mut writer, mut columns) = (Writer::new(0, 7), [Column::default(), Column::default()]);
    let parts = ["a", "b", "c", "d"].map(|name| schema(name, 1));
    let shape = |second: usize| Rc::new(Shape::new(vec![Rc::clone(&parts[0]), Rc::clone(&parts[second])]));
    let (b, c, d) = (shape(1), shape(2), shape(3));
    let mut scrape = |writer: &mut Writer, target: usize, shape: &Rc<Shape>| {
        let row = Row { shape, time_ms: 9, values: &[1.0, 2.0], times: &[] };
        writer.scrape(&mut columns[target], [["x", "y"][target]].into_iter(), &row);
    };
    // One target goes through two shapes; another one comes, and shows the first again.
    for (target, shape) in [(0, &b), (0, &c), (1, &d), (0, &b), (1, &b)] {
        scrape(&mut writer, target, shape);
    }
    writer.stale(&mut columns[1], ["y"].into_iter(), (&b, 10), Slots::All);
    lane.push(writer.flush(Now::default()).expect("a batch"));
    lane.turn(Now::default(), &mut vec![]);
    let mut reader = Reader::open(&dir, Cursor::default()).expect("reader");
    let mut seen = Vec::new();
    while let Some(event) = reader.next().expect("intact") {
        seen.push((event.shape.schemas[0].is_shared(), event.shape.is_shared()));
    }
    let no = (false, false);
    assert_eq!(seen, [no, no, (true, false), (true, false), (false, true), no]);
}
