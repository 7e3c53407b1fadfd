//! What retention deletes, on made-up facts.

use super::event::Cursor;
use super::retention::{Caps, Destinations, Reason, Retention, Segment, plan};
use crate::base::file::Space;

const HOUR_MS: i64 = 3_600_000;
const GIB: u64 = 1 << 30;

fn segment(shard: u32, sequence: u64, ended_h: i64) -> Segment {
    Segment { shard, sequence, bytes: 100, ended_ms: ended_h * HOUR_MS, is_open: false, is_orphan: false }
}

fn destinations(all: &[(&str, u32, u64)]) -> Destinations {
    let mut out = Destinations::new();
    for (name, shard, segment) in all {
        let cursor = Cursor { segment: *segment, batch: 64, frame: 0 };
        out.entry((*name).to_owned()).or_default().insert(*shard, cursor);
    }
    out
}

fn caps(bytes_max: u64, age_h: Option<i64>) -> Caps {
    Caps { bytes_max, age_max_ms: age_h.map(|h| h * HOUR_MS) }
}

fn gone(segments: &[Segment], d: &Destinations, caps: &Caps, now_h: i64) -> Vec<(u64, Reason, usize)> {
    let plan = plan(segments, d, caps, now_h * HOUR_MS);
    let deleted: u64 = plan.deletions.iter().map(|d| d.segment.bytes).sum();
    assert_eq!(plan.bytes_left + deleted, segments.iter().map(|s| s.bytes).sum::<u64>());
    plan.deletions.iter().map(|d| (d.segment.sequence, d.reason, d.unsent.len())).collect()
}

#[test]
fn nothing_goes_below_the_caps() {
    let all: Vec<_> = (1..=5).map(|n| segment(0, n, n as i64)).collect();
    assert_eq!(gone(&all, &destinations(&[("a", 0, 9)]), &caps(500, Some(24)), 6), []);
}

#[test]
fn acknowledged_segments_go_before_older_unsent_ones() {
    // Shard 1 is older but unsent; shard 0 is acknowledged up to 4.
    let mut all: Vec<_> = (1..=5).map(|n| segment(0, n, 10 + n as i64)).collect();
    all.push(segment(1, 100, 1));
    let d = destinations(&[("a", 0, 5), ("a", 1, 100)]);
    // Acknowledged more than two hours before the last acknowledged one: 1 only (11 h against 14 h).
    assert_eq!(gone(&all, &d, &caps(500, None), 20), [(1, Reason::Acknowledged, 0)]);
    // With less room the spared ones go too, before anything unsent.
    assert_eq!(gone(&all, &d, &caps(250, None), 20), [1, 2, 3, 4].map(|n| (n, Reason::Acknowledged, 0)));
    assert_eq!(gone(&all, &d, &caps(150, None), 20).last(), Some(&(100, Reason::Size, 1)));
}

#[test]
fn a_segment_is_acknowledged_when_every_destination_passed_it() {
    let all: Vec<_> = (1..=3).map(|n| segment(0, n, n as i64)).collect();
    let d = destinations(&[("fast", 0, 4), ("slow", 0, 2)]);
    assert_eq!(
        gone(&all, &d, &caps(0, None), 4),
        [(1, Reason::Acknowledged, 0), (2, Reason::Size, 1), (3, Reason::Size, 1)]
    );
    // Without destinations nothing is acknowledged, and nothing is unsent.
    assert_eq!(gone(&all, &Destinations::new(), &caps(200, None), 4), [(1, Reason::Size, 0)]);
    // A destination without a cursor there has all of it to come.
    let d = destinations(&[("a", 7, 1)]);
    assert_eq!(gone(&all, &d, &caps(200, None), 4), [(1, Reason::Size, 1)]);
}

#[test]
fn age_counts_from_the_last_write_and_open_segments_stay() {
    let mut all: Vec<_> = (1..=3).map(|n| segment(0, n, n as i64)).collect();
    all[2].is_open = true;
    let d = destinations(&[("a", 0, 2)]);
    assert_eq!(gone(&all, &d, &caps(1000, Some(24)), 25), []);
    assert_eq!(gone(&all, &d, &caps(1000, Some(24)), 50), [(1, Reason::Age, 0), (2, Reason::Age, 1)]);
    assert_eq!(gone(&all, &d, &caps(0, None), 50).len(), 2);
}

#[test]
fn directories_of_lost_shards_go_as_soon_as_they_are_acknowledged() {
    let mut all = [segment(3, 1, 1), segment(3, 2, 2)];
    all.iter_mut().for_each(|s| s.is_orphan = true);
    assert_eq!(gone(&all, &destinations(&[("a", 3, 2)]), &caps(1000, None), 3), [(1, Reason::Acknowledged, 0)]);
    assert_eq!(gone(&all, &Destinations::new(), &caps(1000, None), 3), []);
}

#[test]
fn caps_follow_the_file_system() {
    let space = Space { total_bytes: 1000 * GIB, free_bytes: 500 * GIB };
    let asked = Retention::default();
    assert_eq!(Caps::new(&asked, space, 0).bytes_max, 50 * GIB);
    let small = Space { total_bytes: 100 * GIB, free_bytes: 5 * GIB };
    assert_eq!(Caps::new(&asked, small, 0).bytes_max, 4 * GIB);
    assert_eq!(Caps::new(&asked, small, 5 * GIB).bytes_max, 8 * GIB);
    let explicit = Retention { time_ms: None, size_bytes: Some(3 * GIB) };
    assert_eq!(Caps::new(&explicit, space, 0), Caps { bytes_max: 3 * GIB, age_max_ms: None });
    // 5 % of 100 GiB are to stay free, 2 are: three have to go.
    let full = Space { total_bytes: 100 * GIB, free_bytes: 2 * GIB };
    assert_eq!(caps(50 * GIB, None).leaving_free(full, 10 * GIB).bytes_max, 7 * GIB);
    assert_eq!(caps(50 * GIB, None).leaving_free(space, 10 * GIB).bytes_max, 50 * GIB);
}

#[test]
fn a_small_journal_outlives_a_file_system_that_others_filled() {
    let crowded = Space { total_bytes: 100 * GIB, free_bytes: 4 * GIB };
    let mut unsent = [segment(0, 1, 1), segment(0, 2, 2)];
    unsent[1].is_open = true;
    let caps = caps(50 * GIB, None).leaving_free(crowded, 200);
    assert_eq!(caps.bytes_max, GIB / 2);
    assert_eq!(gone(&unsent, &destinations(&[("a", 0, 1)]), &caps, 3), []);
    // It gives way as the rest goes.
    let full = Space { total_bytes: 100 * GIB, free_bytes: 0 };
    let caps = caps.leaving_free(full, 200);
    assert_eq!(gone(&unsent, &destinations(&[("a", 0, 1)]), &caps, 3), [(1, Reason::Size, 1)]);
}
