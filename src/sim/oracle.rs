//! The oracle: from the script alone to every sample that must be in the log.

use super::HashMap;
use super::log::{Log, Need};
use super::oracle_series::Series;
use super::scene::{Fate, Scene};
use super::script::{ANSWER_NS, Script, Terms};
use super::timeline::{SECOND, Timeline};
use crate::model::STALE_NAN;

/// What a returned sync covers by now: the flush, the sync interval, two steps of the driver, and one after a failed sync.
const DURABLE_NS: u64 = SECOND + 200_000_000 + 6 * super::appliance::STEP_NS;
/// A scrape that starts later than this is written with the time it started at. See `Parts::tolerance_ns`.
pub const TOLERANCE_NS: i64 = 2_000_000;

/// Something that happens to one life.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A scrape: due on the wall clock, written with this time.
    Scrape { due_ns: i64, time_ms: i64, start: u64 },
    /// The job's rules change.
    Rules,
    /// End-of-run markers with this time.
    Ending { time_ms: i64 },
}

/// Expects everything that the script makes happen.
pub fn expect(script: &Script, log: &mut Log) {
    for life in script.timeline.lives() {
        expect_process(script, life, log);
    }
}

/// One process's life: it begins with nothing in mind.
fn expect_process(script: &Script, (begin, end): (u64, u64), log: &mut Log) {
    let timeline = &script.timeline;
    let mut acts: Vec<(u64, usize, Act)> = Vec::new();
    for (l, life) in script.lives.iter().enumerate() {
        let (from, until) = life.span(timeline);
        let (from, to) = (from.max(begin), until.min(end));
        if from >= to {
            continue;
        }
        acts.extend(scrapes(script, l, (from, to)));
        let job = &script.jobs[life.job];
        // prometheus: scrape.go, reusableCache: another `sample_limit` leaves what is known of series.
        let limited = Terms { sample_limit: job.terms[1].sample_limit, ..job.terms[0] };
        if limited != job.terms[1] && (begin..end).contains(&timeline.reload) && life.is_old {
            acts.push((timeline.reload, l, Act::Rules));
        }
        if !life.stays && until < end {
            let (interval, wall) = (life.spec.interval_ns, timeline.wall_ns(until));
            let mut tick = wall.div_euclid(interval) * interval + life.phase_ns;
            while tick <= wall {
                tick += interval;
            }
            let at = until + (tick - wall) as u64 + (interval + interval / 10) as u64;
            let at = if timeline.pause.holds(at) { timeline.pause.until() } else { at };
            if at < end {
                acts.push((at, l, Act::Ending { time_ms: tick / 1_000_000 }));
            }
        }
    }
    acts.sort_by_key(|a| (a.0, a.1));
    let mut all: HashMap<usize, Series> = HashMap::default();
    for (at, l, act) in acts {
        let life = &script.lives[l];
        let need = need(at, end);
        match act {
            Act::Scrape { due_ns, time_ms, start } => {
                let series = all.entry(l).or_insert_with(|| Series::new(life, log));
                let scene = Scene::new(script, life, due_ns);
                series.scrape(&scene, script.terms(life.job, start), time_ms, (need, at), log);
            }
            Act::Rules => {
                if let Some(series) = all.get_mut(&l) {
                    series.forget_texts();
                }
            }
            Act::Ending { time_ms } => ending(script, &all, (l, at, time_ms, need), log),
        }
    }
}

/// What is written shortly before the end of a process may be lost.
fn need(at: u64, end: u64) -> Need {
    if at + DURABLE_NS <= end { Need::Must } else { Need::May }
}

/// All scrapes of a life in `(from, to]`, at the latest instant at which they can end. One that is due while the last one
/// is still under way, as after a step or a pause, is left out.
fn scrapes(script: &Script, l: usize, span: (u64, u64)) -> Vec<(u64, usize, Act)> {
    let (life, timeline) = (&script.lives[l], &script.timeline);
    let mut all = Vec::new();
    let mut waits_until = 0;
    for (t, due_ns) in timeline.dues(span, life.spec.interval_ns, life.phase_ns) {
        let start = if timeline.pause.holds(t) { timeline.pause.until() } else { t };
        if start <= waits_until {
            continue;
        }
        let late_ns = (start - t) as i64;
        let time_ns = if late_ns <= TOLERANCE_NS.min(life.spec.interval_ns / 100) { due_ns } else { due_ns + late_ns };
        let fate = Fate::of(script, life, due_ns);
        let at = ended(timeline, start, (fate, life.spec.timeout_ns as u64));
        if fate.times_out() {
            waits_until = at;
        }
        all.push((at, l, Act::Scrape { due_ns, time_ms: time_ns.div_euclid(1_000_000), start }));
    }
    all
}

/// The latest instant at which a scrape can end; exact when it times out.
fn ended(timeline: &Timeline, start: u64, (fate, timeout_ns): (Fate, u64)) -> u64 {
    let at = start + if fate.times_out() { timeout_ns } else { ANSWER_NS };
    if timeline.pause.holds(at) { timeline.pause.until() + if fate.times_out() { 0 } else { ANSWER_NS } } else { at }
}

/// Markers for what a removed target showed last, except for what a successor of equal labels has shown since.
fn ending(
    script: &Script,
    all: &HashMap<usize, Series>,
    (l, at, time_ms, need): (usize, u64, i64, Need),
    log: &mut Log,
) {
    let Some(gone) = all.get(&l).filter(|s| s.has_reported) else { return };
    let labels = &script.lives[l].spec.labels;
    let next = script.lives.iter().position(|n| !n.is_old && n.spec.labels == *labels);
    // A scrape of the successor that may end on either side of this instant decides what is live: both will do.
    let is_close = next.is_some_and(|n| {
        let life = &script.lives[n];
        let before = at - life.spec.timeout_ns as u64 - ANSWER_NS;
        let near = script.timeline.dues((before, at + 1), life.spec.interval_ns, life.phase_ns);
        near.into_iter().any(|(t, due)| {
            let fate = Fate::of(script, life, due);
            ended(&script.timeline, t, (fate, life.spec.timeout_ns as u64)) + 1 >= at
        })
    });
    let need = if is_close { Need::May } else { need };
    let next = next.and_then(|n| all.get(&n));
    let reports = gone.report().iter().filter(|_| next.is_none_or(|n| !n.has_reported));
    for &id in gone.live.iter().chain(reports) {
        let goes_on = next.is_some_and(|n| n.ever.contains(&id));
        if !goes_on || is_close {
            log.expect((id, time_ms, STALE_NAN.to_bits()), need, at);
        }
    }
}
