//! The fast path against the reference: any body, any slicing, any history.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::naive::{Naive, Outcome, Pairs};
use super::packed::Cut;
use super::report::REPORT_EXTRA;
use super::{KeptCache, PassedOn, PoolSeries, ScrapeCache, ScrapeTime, Scraped, Stale, Store};
use crate::config::{RelabelAction, RelabelConfig, ScrapeConfig};
use crate::model::{IdentityHasher, LabelValue, Labels, OwnTexts, Shape, is_absent};

/// Final label sets of a shape, by slot.
pub(super) fn label_sets(shape: &Shape, variables: &OwnTexts) -> Vec<Pairs> {
    let mut sets = Vec::new();
    for schema in shape.schemas().iter() {
        let before = sets.len();
        schema.for_each(&mut |labels| {
            assert!(labels.is_sorted_by_key(|l| l.0), "labels are sorted");
            let text = |v: &LabelValue<'_>| match v {
                LabelValue::Text(t) => (*t).to_owned(),
                LabelValue::Var(v) => variables.get(usize::from(*v)).unwrap().to_owned(),
            };
            sets.push(labels.iter().map(|(n, v)| ((*n).to_owned(), text(v))).collect());
        });
        assert_eq!(sets.len() - before, schema.series_count());
    }
    assert_eq!(sets.len(), shape.series_count);
    sets
}

pub(super) fn stale_sets(stale: &[Stale]) -> HashSet<Pairs> {
    let mut all = HashSet::new();
    for run in stale {
        let sets = label_sets(&run.shape, &run.variables);
        assert!(run.slots.is_sorted(), "slots ascend");
        for &slot in &run.slots {
            assert!(all.insert(sets[slot as usize].clone()), "one marker per series");
        }
    }
    all
}

/// The outcome in plain form; samples are sorted, since a permuted body keeps the slots of the first order.
fn plain(scraped: &mut Scraped, time_ms: i64) -> Outcome {
    let report: Vec<f64> = (0..scraped.report_count()).map(|i| i as f64).collect();
    scraped.set_report(&report);
    let sets = label_sets(&scraped.shape, &scraped.variables);
    let first_report = scraped.values.len() - report.len();
    let mut samples = Vec::new();
    for (slot, value) in scraped.values[..first_report].iter().enumerate() {
        let explicit = scraped.times.iter().find(|t| t.0 as usize == slot).map(|t| t.1);
        if !is_absent(*value) {
            samples.push((sets[slot].clone(), explicit.unwrap_or(time_ms), value.to_bits()));
        }
    }
    let lost = (0..report.len()).filter(|i| is_absent(scraped.values[first_report + i])).collect();
    let stale = stale_sets(&scraped.stale);
    Outcome { samples, stale, tallies: scraped.tallies, error: scraped.error.clone(), lost }
}

fn kind_of(error: &super::SeriesError) -> String {
    match error {
        super::SeriesError::Text { error, .. } => format!("{error:?}"),
        other => format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
    }
}

pub(super) struct Pair {
    pub fast: KeptCache,
    pub naive: Naive,
}

impl Pair {
    pub(super) fn new(pool: &PoolSeries, config: &ScrapeConfig, labels: &Labels) -> Self {
        Self { fast: KeptCache::new(pool, labels), naive: Naive::new(config, labels).unwrap() }
    }

    pub(super) fn scrape(
        &mut self,
        store: &mut Store,
        pool: &PoolSeries,
        body: &[u8],
        slices: &[usize],
        time: ScrapeTime,
    ) {
        let mut parse = self.fast.look(|c| store.begin(pool, c));
        let mut rest = body;
        for size in slices.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (slice, after) = rest.split_at((*size).clamp(1, rest.len()));
            parse.feed(slice);
            rest = after;
        }
        let mut scraped = self.fast.open(|c| c.finish(store, pool, parse, time));
        let mut got = plain(&mut scraped, time.time_ms);
        store.recycle(scraped);
        let mut want = self.naive.scrape(Some(body), time);
        got.samples.sort();
        want.samples.sort();
        let shown = String::from_utf8_lossy(body);
        assert_eq!(got.error.as_ref().map(kind_of), want.error.as_ref().map(kind_of), "body {shown:?}");
        got.error = None;
        want.error = None;
        assert_eq!(got, want, "body {shown:?}");
    }
}

fn rule(action: RelabelAction, source: &str, regex: &str, target: &str, replacement: &str) -> RelabelConfig {
    RelabelConfig {
        source_labels: if source.is_empty() { Vec::new() } else { vec![source.to_owned()] },
        separator: ";".into(),
        regex: regex.into(),
        modulus: if action == RelabelAction::HashMod { 2 } else { 0 },
        target_label: target.into(),
        replacement: replacement.into(),
        action,
        name_validation: crate::config::NameValidation::Utf8,
    }
}

fn any_rule() -> impl Strategy<Value = RelabelConfig> {
    prop::sample::select(vec![
        rule(RelabelAction::Drop, "__name__", "b.*", "", "$1"),
        rule(RelabelAction::LabelDrop, "", "x", "", "$1"),
        rule(RelabelAction::LabelDrop, "", "instance|le", "", "$1"),
        rule(RelabelAction::LabelDrop, "", "__name__", "", "$1"),
        rule(RelabelAction::Replace, "instance", "(.*):.*", "host", "$1"),
        rule(RelabelAction::Replace, "x", "(.+)", "__name__", "$1"),
        rule(RelabelAction::LabelMap, "", "inst(ance)", "x", "${1}"),
        rule(RelabelAction::LabelMap, "", "job", "", "x"),
        rule(RelabelAction::HashMod, "__name__", "(.*)", "x", "$1"),
        rule(RelabelAction::Keep, "x", "1|", "", "$1"),
    ])
}

pub(super) fn any_config() -> impl Strategy<Value = ScrapeConfig> {
    let flags = (any::<bool>(), prop::bool::weighted(0.8), any::<bool>(), any::<bool>());
    let limits = (prop::sample::select(vec![0u64, 0, 0, 3, 8]), prop::sample::select(vec![0u64, 0, 0, 5, 6]));
    let lengths = (prop::sample::select(vec![0u64, 0, 0, 9]), prop::sample::select(vec![0u64, 0, 0, 4, 9]));
    (flags, limits, lengths, any::<bool>(), prop::collection::vec(any_rule(), 0..3)).prop_map(
        |(flags, limits, lengths, legacy, rules)| ScrapeConfig {
            honor_labels: flags.0,
            honor_timestamps: flags.1,
            track_timestamps_staleness: flags.2,
            extra_scrape_metrics: flags.3,
            sample_limit: limits.0,
            label_limit: limits.1,
            label_name_length_limit: lengths.0,
            label_value_length_limit: lengths.1,
            name_validation: if legacy {
                crate::config::NameValidation::Legacy
            } else {
                crate::config::NameValidation::Utf8
            },
            metric_relabel_configs: rules,
            ..ScrapeConfig::default()
        },
    )
}

/// A line, mostly a good one.
pub(super) fn any_line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c:d", "up", "h_bucket", "some_longer_name_total"]);
    let label = prop::sample::select(vec![
        "x=\"1\"",
        "x=\"2\"",
        "x=\"\"",
        "le=\"1\"",
        "le=\"1.0\"",
        "quantile=\"0.50\"",
        "instance=\"h:1\"",
        "job=\"j\"",
        "exported_job=\"j\"",
        "y = \"\\\\\\\"\\n\"",
        "\"u v\"=\"é\"",
        "__name__=\"z\"",
        "y=\"long value long\"",
        "node=\"NODE\"",
        "node=\"NODE\"",
        "instance=\"NODE\"",
    ]);
    let value = prop::sample::select(vec!["0", "1", "17", "1.5", "-3e5", "NaN", "+Inf", "12345678901234567890", "0.1"]);
    let tail =
        prop::sample::select(vec!["", "", "", "", "", "", " ", " 1000", " 2000", " 1", " 5000 ", " 99999999999"]);
    let labels = prop::collection::vec(label, 0..3);
    let sample = (name, labels, value, tail).prop_map(|(n, l, v, t)| {
        if l.is_empty() { format!("{n} {v}{t}\n") } else { format!("{n}{{{}}} {v}{t}\n", l.join(",")) }
    });
    let other = prop::sample::select(vec![
        "# TYPE a counter\n",
        "# TYPE h_bucket histogram\n",
        "# TYPE s summary\n",
        "# HELP a some text\n",
        "# a comment\n",
        "#\n",
        "\n",
        "  a 1\n",
        "{\"q uoted\",x=\"1\"} 4\n",
        "a{x=\"1\",x=\"2\"} 1\n",
        "a-1\n",
        "a-5\n",
        "a{x=\"1\"}7\n",
        "a{ x=\"1\" } 7\n",
        "{\"\"} 1\n",
    ]);
    let broken = prop::sample::select(vec![
        "a\n",
        "a 1 2 3\n",
        "# TYPE a nothing\n",
        "a{x=\"1\n",
        "\0",
        "a 1_0\n",
        "{x=\"1\"} 1\n",
        "# HELP \"a\\\n",
        "\r\n",
        "a{\"b\"} 1\n",
        "a 1",
        "# \0\n",
        "a{x=\"1\"\0} 2\n",
        "a{\"\u{1}\"=\"1\"} 1\n",
    ]);
    prop_oneof![
        30 => sample,
        8 => other.prop_map(str::to_owned),
        1 => broken.prop_map(str::to_owned),
    ]
}

/// What a target calls itself in its body.
fn any_node() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["n-17", "n-18", "a much longer name", "1", "2", "h:1", "é", "a\\nb", "", "j"])
}

/// What happens to the list of lines between two scrapes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Nothing,
    Insert(usize, String),
    Remove(usize),
    Swap(usize, usize),
    Repeat(usize),
    Replace(usize, String),
    Rotate(usize),
    Truncate(usize),
    Fail,
    Rename,
    Fresh(Vec<String>),
}

pub(super) fn any_change() -> impl Strategy<Value = Change> {
    let place = 0..64usize;
    prop_oneof![
        3 => Just(Change::Nothing),
        3 => (place.clone(), any_line()).prop_map(|(p, l)| Change::Insert(p, l)),
        3 => place.clone().prop_map(Change::Remove),
        2 => (place.clone(), place.clone()).prop_map(|(a, b)| Change::Swap(a, b)),
        2 => place.clone().prop_map(Change::Repeat),
        2 => (place.clone(), any_line()).prop_map(|(p, l)| Change::Replace(p, l)),
        1 => place.clone().prop_map(Change::Rotate),
        1 => (0..400usize).prop_map(Change::Truncate),
        1 => Just(Change::Fail),
        1 => Just(Change::Rename),
        1 => prop::collection::vec(any_line(), 0..20).prop_map(Change::Fresh),
    ]
}

/// Applies a change; tells how much of the body arrives.
pub(super) fn change(lines: &mut Vec<String>, change: Change) -> usize {
    let count = lines.len();
    let at = |place: usize| place % count.max(1);
    match change {
        Change::Insert(p, line) => lines.insert(p % (count + 1), line),
        Change::Fresh(new) => *lines = new,
        Change::Truncate(bytes) => return bytes,
        Change::Fail => return 0,
        _ if count == 0 => {}
        Change::Nothing | Change::Rename => {}
        Change::Remove(p) => drop(lines.remove(at(p))),
        Change::Swap(a, b) => lines.swap(at(a), at(b)),
        Change::Repeat(p) => lines.insert(at(p), lines[at(p)].clone()),
        Change::Replace(p, line) => lines[at(p)] = line,
        Change::Rotate(p) => lines.rotate_left(at(p)),
    }
    usize::MAX
}

/// Bytes for all layouts, and for new text of one body.
fn any_room() -> impl Strategy<Value = (usize, usize)> {
    prop::sample::select(vec![(usize::MAX, usize::MAX), (usize::MAX, usize::MAX), (0, 0), (0, 0), (6000, 300)])
}

/// Good lines of one family, so that layouts have several chunks.
pub(super) fn family(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("family_member{{x=\"{}\",n=\"{i}\",node=\"NODE\"}} {i}\n", i % 3)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { ..ProptestConfig::default() })]

    #[test]
    fn every_scrape_gives_what_the_reference_gives(
        config in any_config(),
        lines in prop::collection::vec(any_line(), 0..20),
        members in prop::sample::select(vec![0usize, 0, 0, 200]),
        changes in prop::collection::vec((any_change(), 0..3usize, 0..4i64, 0..5usize), 1..12),
        nodes in prop::collection::vec(any_node(), 4),
        rooms in prop::collection::vec(any_room(), 1..4),
        slices in prop::collection::vec(prop::sample::select(vec![1usize, 2, 7, 30, 100, 4000]), 1..4),
    ) {
        let mut store = Store::new(IdentityHasher::new(1, 2));
        store.cut = Cut { series_mean: 8, series_max: 30, text_bytes: 500 };
        (store.steady_scrapes, store.rest_bytes_min) = (1, 0);
        let mut rooms = rooms.iter().cycle();
        let pool = PoolSeries::new(&config).unwrap();
        let labels = |i: &str| Labels::from_pairs([("instance", format!("h:{i}")), ("job", "j".to_owned())]);
        let mut targets = ["1", "22", "333"].map(|i| Pair::new(&pool, &config, &labels(i)));
        let mut nodes = nodes;
        let mut lines = lines;
        lines.extend(family(members));
        let mut time_ms = 1_000;
        for (what, which, step, repeats) in changes {
            if matches!(what, Change::Rename) {
                nodes.rotate_left(1);
            }
            let bytes = change(&mut lines, what);
            let body = lines.concat().replace("NODE", nodes[which]).into_bytes();
            let body = &body[..body.len().min(bytes)];
            let target = &mut targets[which];
            // A body that comes again and again is put to rest, unless it is the pool's guess for new targets.
            for _ in 0..=repeats {
                if repeats > 1 {
                    pool.guess.take();
                }
                time_ms += step * 700;
                // The clock may stand still: storage then refuses everything it has already.
                let time = ScrapeTime { time_ms, now_ms: time_ms };
                // There is room for layouts, or none, or none for large ones: nobody can tell from what comes out.
                (store.bytes_max, store.body_bytes_max) = *rooms.next().expect("an endless cycle");
                target.scrape(&mut store, &pool, body, &slices, time);
            }
        }
        for target in &mut targets {
            let got = stale_sets(&target.fast.open(|c| c.end_of_run(&store, &PassedOn::default())));
            prop_assert_eq!(got, target.naive.end_of_run());
        }
        drop(targets);
        drop(pool);
        let stats = store.stats();
        prop_assert_eq!((stats.bytes, stats.packed_bytes), (0, 0), "nothing outlives its users");
    }
}

/// What happens to a body that comes again and again.
fn any_stir() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => Just(Change::Nothing),
        4 => any_change(),
        1 => (0..64usize).prop_map(|p| Change::Insert(p, "# a comment\n".to_owned())),
        1 => (0..64usize).prop_map(|p| Change::Insert(p, "# TYPE family_member gauge\n".to_owned())),
        1 => (0..9000usize).prop_map(Change::Truncate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Targets that share nothing: their layouts rest after the second scrape, and whatever comes then wakes them.
    #[test]
    fn what_rests_gives_what_the_reference_gives(
        rules in prop::collection::vec(any_rule(), 0..2),
        honor_labels in any::<bool>(),
        members in 1..150usize,
        stirs in prop::collection::vec((any_stir(), 0..2usize, 0..6usize), 1..10),
        slices in prop::collection::vec(prop::sample::select(vec![1usize, 30, 100, 700, 4000, 20_000]), 1..4),
    ) {
        let config = ScrapeConfig { metric_relabel_configs: rules, honor_labels, ..ScrapeConfig::default() };
        let mut store = Store::new(IdentityHasher::new(1, 2));
        (store.steady_scrapes, store.rest_bytes_min) = (1, 0);
        let pool = PoolSeries::new(&config).unwrap();
        let labels = |i: &str| Labels::from_pairs([("instance", format!("h:{i}")), ("job", "j".to_owned())]);
        let mut targets = ["1", "22"].map(|i| Pair::new(&pool, &config, &labels(i)));
        let line = |of: usize, i: usize| format!("family_member{{x=\"{}\",n=\"{i}\",of=\"{of}{i}\"}} VALUE{i}\n", i % 3);
        let mut bodies = [0, 1].map(|of| (0..members).map(|i| line(of, i)).collect::<Vec<_>>());
        let mut round = 0u64;
        for (what, which, repeats) in stirs {
            let bytes = change(&mut bodies[which], what);
            for _ in 0..=repeats {
                // The guess for new targets is nobody's alone, so it stays awake.
                pool.guess.take();
                round += 1;
                let value = |i: usize| (round * 7919 * (i as u64 + 1) % 1_000_003) as f64 / [1.0, 8.0, 1e9][i % 3];
                let body = bodies[which].iter().enumerate();
                let body: String = body.map(|(i, l)| l.replace(&format!("VALUE{i}"), &value(i).to_string())).collect();
                let body = body.replace("VALUE", "1");
                let body = &body.as_bytes()[..body.len().min(bytes)];
                let time = ScrapeTime { time_ms: round as i64 * 1000, now_ms: round as i64 * 1000 };
                targets[which].scrape(&mut store, &pool, body, &slices, time);
            }
        }
        for target in &mut targets {
            let mut shown = HashSet::new();
            target.fast.look(|c| {
                c.shows(&store, |identity| {
                    shown.insert(identity);
                });
            });
            let got = stale_sets(&target.fast.open(|c| c.end_of_run(&store, &PassedOn::default())));
            prop_assert_eq!(got.len(), shown.len());
            prop_assert_eq!(got, target.naive.end_of_run());
        }
        drop(targets);
        drop(pool);
        let stats = store.stats();
        prop_assert_eq!((stats.bytes, stats.resting), (0, 0), "nothing outlives its users");
    }
}

pub(super) struct Rig {
    pub store: Store,
    pub pool: PoolSeries,
    pub time_ms: i64,
}

impl Rig {
    pub fn new(bytes_max: usize) -> Self {
        let store = Store::with_bytes_max(IdentityHasher::new(1, 2), bytes_max);
        Self { store, pool: PoolSeries::new(&ScrapeConfig::default()).unwrap(), time_ms: 0 }
    }

    pub fn target(&self, instance: &str) -> ScrapeCache {
        ScrapeCache::new(&self.pool, &Labels::from_pairs([("instance", instance), ("job", "j")]))
    }

    pub fn scrape(&mut self, target: &mut ScrapeCache, body: &str) -> Scraped {
        self.time_ms += 1000;
        let mut parse = self.store.begin(&self.pool, target);
        parse.feed(body.as_bytes());
        let time = ScrapeTime { time_ms: self.time_ms, now_ms: self.time_ms };
        target.finish(&mut self.store, &self.pool, parse, time)
    }
}

#[test]
fn targets_of_one_exporter_share_everything_and_a_changed_line_only_its_chunk() {
    let mut rig = Rig::new(usize::MAX);
    let (mut a, mut b) = (rig.target("a:1"), rig.target("b:1"));
    let body = family(1000).concat();
    let first = rig.scrape(&mut a, &body);
    let second = rig.scrape(&mut b, &body);
    assert_eq!(first.shape.key, second.shape.key);
    let stats = rig.store.stats();
    assert_eq!(stats.layouts, 1);
    assert!((1000 / 128..200).contains(&stats.chunks), "{} chunks", stats.chunks);
    let third = rig.scrape(&mut b, &body.replace("n=\"500\"", "n=\"changed\""));
    assert_ne!(third.shape.key, first.shape.key);
    assert_eq!((third.tallies.series_added, third.stale[0].slots.len()), (1, 1));
    let now = rig.store.stats();
    assert!(now.chunks - stats.chunks <= 2 && now.layouts == 2, "{now:?}");
    let keys = |s: &Scraped| s.shape.schemas().iter().map(|s| s.key()).collect::<HashSet<_>>();
    assert!(keys(&third).difference(&keys(&first)).count() <= 2);
}

#[test]
fn families_in_another_order_keep_the_shape() {
    let mut rig = Rig::new(usize::MAX);
    let mut target = rig.target("a:1");
    let mut blocks: Vec<String> =
        (0..50).map(|i| format!("# TYPE f{i} gauge\nf{i}{{x=\"1\"}} {i}\nf{i}{{x=\"2\"}} {i}.5\n")).collect();
    let first = rig.scrape(&mut target, &blocks.concat());
    blocks.reverse();
    blocks.swap(3, 40);
    let second = rig.scrape(&mut target, &blocks.concat());
    assert_eq!(first.shape.key, second.shape.key);
    assert_eq!(first.values[..100], second.values[..100]);
    assert_eq!((second.tallies.series_added, second.stale.len()), (0, 0));
}

#[test]
fn past_the_memory_for_layouts_bodies_are_packed() {
    let mut rig = Rig::new(0);
    let (mut a, mut b) = (rig.target("a:1"), rig.target("b:1"));
    assert_eq!(rig.scrape(&mut a, "a 1\n").error, None);
    assert_eq!(rig.store.stats().packed_bytes, 0, "the first one found room");
    let first = rig.scrape(&mut b, "b 1\nc 1\n");
    assert_eq!((first.error.clone(), first.tallies.series_added), (None, 2));
    let open = rig.store.stats().bytes;
    assert!(rig.store.stats().packed_bytes > 0);
    // The same body again has the same shape, so that the journal needs no words for it.
    let second = rig.scrape(&mut b, "b 2\nc 3\n");
    assert_eq!((second.shape.key, second.stale.len()), (first.shape.key, 0));
    assert_eq!(second.values[..2], [2.0, 3.0]);
    drop((first, second));
    let failed = rig.scrape(&mut b, "?\n");
    assert_eq!(failed.stale[0].slots, [0, 1]);
    assert_eq!(label_sets(&failed.stale[0].shape, &failed.stale[0].variables)[1]["__name__"], "c");
    drop(failed);
    assert_eq!(rig.store.stats().bytes, open);
    // Room comes back: the target is like any other again.
    rig.store.bytes_max = usize::MAX;
    let open = rig.scrape(&mut b, "b 2\nd 3\n");
    assert_eq!((open.error.clone(), open.tallies.series_added), (None, 1));
    assert_eq!(b.metadata().len(), 0);
    drop(open);
    assert_eq!(rig.store.stats().packed_bytes, 0);
}

#[test]
fn without_memory_for_packed_layouts_only_known_bodies_go_on() {
    let mut rig = Rig::new(0);
    let (mut a, mut b) = (rig.target("a:1"), rig.target("b:1"));
    assert_eq!(rig.scrape(&mut a, "a 1\n").error, None);
    assert_eq!(rig.scrape(&mut a, "b 1\n").error, None, "it is packed");
    rig.store.packed_bytes_max = rig.store.stats().packed_bytes;
    assert_eq!(rig.scrape(&mut b, "b 1\n").error, Some(super::SeriesError::LayoutMemory));
    assert_eq!(rig.scrape(&mut a, "b 2\n").error, None);
    // A quarter more for known ones is less than this body takes.
    let failed = rig.scrape(&mut a, "c 1\n");
    assert_eq!(failed.error, Some(super::SeriesError::LayoutMemory));
    assert_eq!(failed.stale[0].slots, [0]);
}

#[test]
fn known_targets_may_change_a_quarter_longer_than_new_ones_may_come() {
    let mut probe = Rig::new(usize::MAX);
    let mut first = probe.target("a:1");
    drop(probe.scrape(&mut first, "a 1\n"));
    let one = probe.store.stats().bytes;
    let mut rig = Rig::new(one * 8);
    let mut targets: Vec<_> = (0..40).map(|i| rig.target(&format!("t{i}:1"))).collect();
    let bodies: Vec<String> = (0..40).map(|i| format!("only_{i} 1\n")).collect();
    for (target, body) in targets.iter_mut().zip(&bodies) {
        assert_eq!(rig.scrape(target, body).error, None);
    }
    let is_open = |t: &ScrapeCache| t.shown().is_some_and(|s| !s.layout.is_packed());
    let taken = targets.iter().filter(|t| is_open(t)).count();
    assert!((6..20).contains(&taken), "{taken} targets in the room of 8");
    // No room for another target; a known one goes on with a new series, and without it again.
    assert_eq!(rig.scrape(&mut targets[0], "only_0 1\nnew 1\n").error, None);
    let back = rig.scrape(&mut targets[0], "only_0 1\n");
    assert_eq!((back.error.clone(), back.stale[0].slots.clone()), (None, vec![1]));
    assert!(is_open(&targets[0]));
    assert!(rig.store.stats().bytes <= one * 8 * 5 / 4 + 2 * one);
}

#[test]
fn a_large_body_is_packed_and_only_what_changes_is_packed_again() {
    let mut rig = Rig::new(usize::MAX);
    rig.store.body_bytes_max = 4000;
    let lines = |n: usize| (0..n).map(|i| format!("metric{{i=\"{i:04}\",x=\"some text\"}} {i}\n")).collect::<Vec<_>>();
    let mut target = rig.target("a:1");
    assert_eq!(rig.scrape(&mut target, &lines(100).concat()).error, None);
    let open = rig.store.stats();
    assert_eq!(open.packed_bytes, 0);
    let mut body = lines(10_000);
    let first = rig.scrape(&mut target, &body.concat());
    assert_eq!((first.error.clone(), first.tallies.series_added, first.stale.len()), (None, 9_900, 0));
    let packed = rig.store.stats();
    assert!(packed.packed_bytes < 10_000 * 40, "{} bytes a series", packed.packed_bytes / 10_000);
    assert!(packed.bytes <= open.bytes, "the pool's first guess may stay");
    body[5000] = "another 1\n".to_owned();
    let second = rig.scrape(&mut target, &body.concat());
    assert_eq!((second.tallies.series_added, second.stale[0].slots.clone()), (1, vec![5000]));
    let keys = |s: &Scraped| s.shape.schemas().iter().map(|s| s.key()).collect::<HashSet<_>>();
    assert!(keys(&second).difference(&keys(&first)).count() <= 2);
    assert_eq!(label_sets(&second.stale[0].shape, &second.stale[0].variables)[5000]["i"], "5000");
}

#[test]
fn a_successor_keeps_what_it_shows() {
    let mut rig = Rig::new(usize::MAX);
    let (mut old, mut new) = (rig.target("a:1"), rig.target("a:1"));
    assert!(old.end_of_run(&rig.store, &PassedOn::default()).is_empty(), "never scraped");
    let scraped = rig.scrape(&mut old, "a 1\nb 1\n");
    drop(scraped);
    drop(rig.scrape(&mut new, "b 1\n"));
    let mut passed_on = PassedOn::default();
    passed_on.add(&rig.store, &new);
    let ended = stale_sets(&old.end_of_run(&rig.store, &passed_on));
    let names: Vec<&str> = ended.iter().map(|s| s["__name__"].as_str()).collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn a_report_that_shrinks_ends_the_series_it_loses() {
    let pool = |extra| {
        PoolSeries::new(&ScrapeConfig { extra_scrape_metrics: extra, ..ScrapeConfig::default() }).expect("no rules")
    };
    let labels = Labels::from_pairs([("instance", "a:1"), ("job", "j")]);
    let names = |stale: &[Stale]| {
        let sets = stale_sets(stale).into_iter();
        sets.map(|set| set["__name__"].clone()).collect::<BTreeSet<_>>()
    };
    let extras: BTreeSet<String> = REPORT_EXTRA.map(str::to_owned).into();
    for body in [Some("a 1\n"), Some("a 1 5\n"), None] {
        let mut rig = Rig::new(usize::MAX);
        let scrape = |rig: &mut Rig, target: &mut ScrapeCache| {
            let scraped = match body {
                Some(body) => rig.scrape(target, body),
                None => {
                    rig.time_ms += 1000;
                    target.fail(&mut rig.store, ScrapeTime { time_ms: rig.time_ms, now_ms: rig.time_ms })
                }
            };
            (scraped.report_count(), names(&scraped.stale))
        };
        rig.pool = pool(true);
        let mut target = rig.target("a:1");
        // Not scraped yet: nothing to end.
        rig.pool = pool(false);
        target.adopt(&rig.pool, &labels);
        assert_eq!(scrape(&mut rig, &mut target), (5, BTreeSet::new()), "{body:?}");
        rig.pool = pool(true);
        target.adopt(&rig.pool, &labels);
        assert_eq!(scrape(&mut rig, &mut target), (8, BTreeSet::new()), "{body:?}");
        // There and back between two scrapes.
        for extra in [false, true] {
            rig.pool = pool(extra);
            target.adopt(&rig.pool, &labels);
        }
        assert_eq!(scrape(&mut rig, &mut target), (8, BTreeSet::new()), "{body:?}");
        rig.pool = pool(false);
        target.adopt(&rig.pool, &labels);
        assert_eq!(scrape(&mut rig, &mut target), (5, extras.clone()), "{body:?}");
        assert_eq!(scrape(&mut rig, &mut target), (5, BTreeSet::new()), "{body:?}");
        // Gone before the next scrape: the end has all that was shown.
        rig.pool = pool(true);
        target.adopt(&rig.pool, &labels);
        scrape(&mut rig, &mut target);
        rig.pool = pool(false);
        target.adopt(&rig.pool, &labels);
        let ended = names(&target.end_of_run(&rig.store, &PassedOn::default()));
        assert!(ended.is_superset(&extras) && ended.contains("up"), "{ended:?}");
    }
    // What the body shows under such a name goes on.
    let mut rig = Rig::new(usize::MAX);
    rig.pool = pool(true);
    let mut target = rig.target("a:1");
    drop(rig.scrape(&mut target, "a 1\n"));
    rig.pool = pool(false);
    target.adopt(&rig.pool, &labels);
    let ended = names(&rig.scrape(&mut target, "scrape_sample_limit 1\n").stale);
    assert_eq!(ended, ["a", "scrape_body_size_bytes", "scrape_timeout_seconds"].map(str::to_owned).into());
}

#[test]
fn metadata_is_read_from_the_layout() {
    for bytes_max in [usize::MAX, 0] {
        metadata_is_read(bytes_max);
    }
}

fn metadata_is_read(bytes_max: usize) {
    let mut rig = Rig::new(bytes_max);
    // Where there is no room, this takes the last.
    drop(rig.scrape(&mut rig.target("b:1"), "other 1\n"));
    let mut target = rig.target("a:1");
    drop(rig.scrape(&mut target, "# HELP a A\\\\n \\n.\n# TYPE a counter\na 1\nb 1\n# TYPE c gauge\n"));
    assert_eq!(rig.store.stats().packed_bytes > 0, bytes_max == 0);
    let list = target.metadata();
    let plain: Vec<_> = list.iter().map(|m| (m.family.as_str(), m.kind, m.help.as_str())).collect();
    assert_eq!(plain, [("a", "counter", "A\\n \n."), ("c", "gauge", "")]);
}

#[test]
fn targets_that_differ_in_a_label_value_share_a_layout_with_a_hole() {
    let mut rig = Rig::new(usize::MAX);
    let body = |node: &str| family(300).concat().replace("NODE", node);
    let mut targets: Vec<ScrapeCache> = (0..20).map(|i| rig.target(&format!("h:{i}"))).collect();
    let mut keys = HashSet::new();
    for (i, target) in targets.iter_mut().enumerate() {
        let scraped = rig.scrape(target, &body(&format!("n-{i}")));
        let sets = label_sets(&scraped.shape, &scraped.variables);
        assert!(sets[..300].iter().all(|s| s["node"] == format!("n-{i}") && s["instance"] == format!("h:{i}")));
        keys.insert(scraped.shape.key);
    }
    // The first target's own layout, and one for all others.
    assert_eq!((keys.len(), rig.store.stats().layouts), (2, 2));
    let last = targets.last_mut().unwrap();
    let again = rig.scrape(last, &body("n-19"));
    assert_eq!((again.tallies.series_added, again.stale.len()), (0, 0));
    let renamed = rig.scrape(last, &body("renamed"));
    assert_eq!(renamed.shape.key, again.shape.key);
    assert_eq!((renamed.tallies.series_added, renamed.stale[0].slots.len()), (300, 300));
    let gone = stale_sets(&renamed.stale);
    assert!(gone.iter().all(|s| s["node"] == "n-19"));
    // A line that only this target has costs its chunk, and its own hole stays one.
    let more = rig.scrape(last, &(body("renamed") + "extra{node=\"renamed\"} 1\n"));
    assert_eq!((more.tallies.series_added, more.stale.len()), (1, 0));
    let own: Vec<u64> = more.shape.schemas().iter().map(|s| s.key()).collect();
    let shared = again.shape.schemas().iter().filter(|s| own.contains(&s.key())).count();
    assert!(shared + 1 >= again.shape.schemas().len() - 1, "{shared} of {}", again.shape.schemas().len());
}

#[test]
fn a_label_that_rules_read_is_never_a_hole() {
    let config = ScrapeConfig {
        metric_relabel_configs: vec![rule(RelabelAction::Replace, "node", "n-(.*)", "number", "$1")],
        ..ScrapeConfig::default()
    };
    let mut rig = Rig::new(usize::MAX);
    rig.pool = PoolSeries::new(&config).unwrap();
    for i in 0..3 {
        let mut target = rig.target("h:1");
        let scraped = rig.scrape(&mut target, &format!("a{{node=\"n-{i}\"}} 1\n"));
        assert_eq!(label_sets(&scraped.shape, &scraped.variables)[0]["number"], i.to_string());
    }
}

#[test]
fn last_times_outlive_bodies_without_timestamps() {
    let mut rig = Rig::new(usize::MAX);
    rig.pool = PoolSeries::new(&ScrapeConfig { honor_timestamps: true, ..ScrapeConfig::default() }).unwrap();
    let mut target = rig.target("a:1");
    let names = |s: &Scraped| s.values[..s.values.len() - s.report_count()].iter().filter(|v| !is_absent(**v)).count();
    assert_eq!(names(&rig.scrape(&mut target, "a 1 500000\nb 1\n")), 2);
    assert_eq!(names(&rig.scrape(&mut target, "b 1\n")), 1);
    // The clock is at 3 s: nothing of this series is newer than what was stored.
    let refused = rig.scrape(&mut target, "a 1\nb 1\n");
    assert_eq!((names(&refused), refused.tallies.out_of_order), (1, 1));
    assert_eq!(names(&rig.scrape(&mut target, "a 1 500001\nb 1\n")), 2);
    // Two hours without timestamps, and the record is dropped.
    rig.time_ms += 2 * 3_600_000;
    assert_eq!(names(&rig.scrape(&mut target, "b 1\n")), 1);
    assert!(target.last.is_none());
}

#[test]
fn timestamps_after_a_failure_are_compared_with_its_markers() {
    let mut rig = Rig::new(usize::MAX);
    rig.pool = PoolSeries::new(&ScrapeConfig { honor_timestamps: true, ..ScrapeConfig::default() }).unwrap();
    let mut target = rig.target("a:1");
    drop(rig.scrape(&mut target, "a 1\nb 1\n"));
    assert_eq!(rig.scrape(&mut target, "?\n").stale[0].slots, [0, 1]);
    let scraped = rig.scrape(&mut target, "a 1 2000\nb 1 2001\n");
    assert_eq!((scraped.tallies.out_of_order, scraped.times), (1, vec![(1, 2001)]));
}

#[test]
fn what_failures_ended_is_remembered_by_the_first_timestamps() {
    let config = ScrapeConfig { honor_timestamps: true, ..ScrapeConfig::default() };
    let mut store = Store::new(IdentityHasher::new(1, 2));
    let pool = PoolSeries::new(&config).unwrap();
    let mut pair = Pair::new(&pool, &config, &Labels::from_pairs([("instance", "h:1"), ("job", "j")]));
    // The clock stands still, as it may when it is set back.
    for body in ["a 0\n?\n", "a 0\n?\n", "a 0\nb 0 1000\n?\n", "a 0\nb 0 1000\n", "a 0\n"] {
        let time = ScrapeTime { time_ms: 1000, now_ms: 1000 };
        pair.scrape(&mut store, &pool, body.as_bytes(), &[1], time);
    }
}
