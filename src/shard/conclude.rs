//! How a scrape ends: series, report, journal, status; and how a target ends.

use std::cmp::Reverse;
use std::rc::Rc;

use crate::base::memory;
use crate::base::time::{Now, thread_cpu_ns};
use crate::model::is_absent;
use crate::scrape::error::ScrapeError;
use crate::scrape::exchange::Exchange;
use crate::scrape::scrape_loop::{Cycle, Health, Status};
use crate::scrape::{PoolId, TargetHash};
use crate::series::{Families, ScrapeTime, Scraped, SeriesError, Stale, Tallies};
use crate::shard::command::TargetStatus;
use crate::shard::slice::{Ending, Slice};
use crate::shard::stages::Stage;
use crate::shard::writing::write_stale;
use crate::storage::journal::Progress;

impl Slice {
    /// Ends a cycle: what the scrape showed goes to the journal, its verdict to the status.
    pub(super) fn conclude(&mut self, token: u32, exchange: Exchange) {
        let now = (self.parts.clock)();
        self.parts.writer.tell_time(now.wall_ms());
        let is_written = self.is_written(token, exchange.time_ms);
        let time_ms = self.distinct_ms(token, exchange.time_ms);
        let target = self.roster.at_mut(token);
        target.cycle = Cycle::Resting;
        let pool = self.pools[target.pool as usize].as_ref();
        let Some(pool) = pool.filter(|_| target.has_started) else {
            // The pool was removed while the scrape was under way: nothing of it is kept.
            return self.drop_last(token);
        };
        let (started, body_bytes) = (exchange.started, exchange.body_bytes);
        let time = ScrapeTime { time_ms, now_ms: now.wall_ms() };
        let store = &mut self.parts.tools.store;
        let piece = self.parts.recorder.stopwatch.begin(Stage::Settle, &self.parts.clock);
        let (mut scraped, failure) = match exchange.into_parse() {
            Ok(Some(parse)) => (target.cache.open(|c| c.finish(store, &pool.series, parse, time)), None),
            Ok(None) => (target.cache.open(|c| c.fail(store, time)), None),
            Err(error) => (target.cache.open(|c| c.fail(store, time)), Some(error)),
        };
        piece.end(&self.parts.recorder.stats().stage_times, &self.parts.clock);
        let failure = failure.or_else(|| scraped.error.take().map(ScrapeError::Series));
        let duration_ns = now.mono_ns.saturating_sub(started.mono_ns);
        let report = Report {
            health: if failure.is_none() { Health::Up } else { Health::Down },
            duration_s: duration_ns as f64 / 1e9,
            timeout_s: target.spec.timeout_ns as f64 / 1e9,
            sample_limit: pool.spec.config.sample_limit,
            body_bytes: reported_bytes(failure.as_ref(), body_bytes),
        };
        let values = report.values(&scraped.tallies);
        scraped.set_report(&values[..scraped.report_count()]);
        #[cfg(any(test, feature = "sim"))]
        let mut time_ms = time_ms;
        #[cfg(any(test, feature = "sim"))]
        if let Some(sabotage) = &mut self.parts.sabotage {
            sabotage.scraped(target.spec.hash, &mut scraped, &mut time_ms);
        }
        if is_written {
            self.parts.recorder.stats().out_of_order.add(scraped.tallies.post_relabel);
        } else {
            target.written_ms = time_ms;
            let newest_ms = &self.parts.recorder.stats().written_ms;
            newest_ms.set(newest_ms.read().max(time_ms as f64));
        }
        let before = std::mem::replace(&mut target.health, report.health);
        target.set_last_error(failure.as_ref().map_or_else(String::new, ToString::to_string));
        target.status = Status { last_scrape_wall_ms: started.wall_ms(), last_duration_ns: duration_ns };
        let (ending, pool) = (target.ending, target.pool as usize);
        if let Some(pool) = self.pools[pool].as_mut().filter(|_| !ending && before != report.health) {
            pool.count(before, report.health);
        }
        self.count(&scraped, failure.as_ref(), body_bytes, duration_ns);
        if is_written {
            self.parts.tools.store.recycle(scraped);
        } else {
            self.parts.recorder.stats().appended.add(appended(&scraped, failure.is_some()));
            self.pass_on(token, &scraped.stale);
            let piece = self.parts.recorder.stopwatch.begin(Stage::Write, &self.parts.clock);
            self.write(token, scraped, time_ms);
            piece.end(&self.parts.recorder.stats().stage_times, &self.parts.clock);
        }
        if ending && matches!(self.loop_of(token).cycle, Cycle::Resting) {
            self.begin_ending(token, now);
        }
    }

    /// Tells removed targets of the same labels, whose end is still to come, what this one lost and marks: then a marker of
    /// theirs would be older than its own. prometheus: tsdb, out of order.
    fn pass_on(&mut self, token: u32, marked: &[Stale]) {
        let target = self.loop_of(token);
        if marked.is_empty() || !target.has_twins {
            return;
        }
        let labels = target.cache.packed_labels();
        let same = self.roster.of_labels(&labels).filter(|&t| t != token);
        let ending: Vec<u32> = same.filter(|&t| self.roster.at(t).ending).collect();
        for other in ending {
            let passed_on = self.passed_on.entry(other).or_default();
            for stale in marked {
                passed_on.add_marked(&self.parts.tools.store, stale);
            }
        }
    }

    fn count(&mut self, scraped: &Scraped, failure: Option<&ScrapeError>, body_bytes: u64, duration_ns: u64) {
        let recorder = &mut self.parts.recorder;
        recorder.latency(duration_ns);
        let stats = recorder.stats();
        if failure.is_none() { &stats.succeeded } else { &stats.failed }.add(1);
        stats.samples.add(scraped.tallies.scraped);
        stats.body_bytes.add(body_bytes);
        stats.duplicates.add(scraped.tallies.duplicates);
        stats.out_of_order.add(scraped.tallies.out_of_order);
        stats.out_of_bounds.add(scraped.tallies.out_of_bounds);
        match failure {
            Some(ScrapeError::BodyTooLarge { .. }) => stats.over_body_limit.add(1),
            Some(ScrapeError::Series(SeriesError::SampleLimit)) => stats.over_sample_limit.add(1),
            Some(ScrapeError::Series(e)) if e.is_label_limit() => stats.over_label_limit.add(1),
            Some(ScrapeError::Series(e)) if e.is_layout_memory() => stats.over_layout_memory.add(1),
            _ => {}
        }
    }

    /// A removed target whose loop has stopped: its markers come after two more intervals, so that a successor that
    /// goes on with its series can be seen. prometheus: scrape.go, endOfRunStaleness.
    pub(super) fn begin_ending(&mut self, token: u32, now: Now) {
        let target = self.loop_of(token);
        if !target.has_started {
            return self.drop_last(token);
        }
        let (interval, offset) = (target.spec.interval_ns, target.spec.offset_ns);
        let tick_ns = self.schedule.due_after(now.wall_ns, interval, offset);
        let wait_ns = (tick_ns - now.wall_ns) + interval + interval / 10;
        let at_mono_ns = now.mono_ns + wait_ns.max(0) as u64;
        self.endings.push(Reverse(Ending { token, at_mono_ns, time_ms: tick_ns.div_euclid(1_000_000) }));
        // Its connection goes now: a successor has its own, and the target may have room for few.
        self.forgotten.push(token);
    }

    /// Writes the end-of-run markers that are due.
    pub fn write_endings(&mut self, now: Now) {
        while let Some(&Reverse(ending)) = self.endings.peek().filter(|Reverse(e)| e.at_mono_ns <= now.mono_ns) {
            self.endings.pop();
            self.parts.writer.tell_time(now.wall_ms());
            self.write_ending(ending);
            self.drop_loop(ending.token);
        }
    }

    fn write_ending(&mut self, ending: Ending) {
        let Some(mut target) = self.roster.take(ending.token) else { return };
        let mut ended = Vec::new();
        if self.pools[target.pool as usize].is_some() {
            let mut passed_on = self.passed_on.remove(&ending.token).unwrap_or_default();
            let labels = target.cache.packed_labels();
            let others = self.roster.of_labels(&labels).map(|t| self.roster.at(t));
            // One that is removed too, and was scraped later, has its own end still to come.
            for other in others.filter(|o| !o.ending || o.written_ms > target.written_ms) {
                other.cache.look(|c| passed_on.add(&self.parts.tools.store, c));
            }
            #[cfg(any(test, feature = "sim"))]
            if let Some(sabotage) = &mut self.parts.sabotage {
                sabotage.successors(&mut passed_on);
            }
            ended = target.cache.open(|c| c.end_of_run(&self.parts.tools.store, &passed_on));
            for stale in &ended {
                let mut at = Progress::default();
                while !write_stale(&mut self.parts.writer, &mut target, (stale, ending.time_ms), &mut at) {}
                self.parts.recorder.stats().appended.add(stale.slots.len() as u64);
            }
        }
        self.roster.put_back(ending.token, target);
        self.pass_on(ending.token, &ended);
    }

    /// Answer of the status question for one target.
    pub(super) fn status_of(&self, pool: PoolId, hash: TargetHash) -> Option<TargetStatus> {
        let target = self.loop_of(self.token_of(pool, hash)?);
        Some(TargetStatus {
            pool,
            hash,
            last_error: target.last_error().to_owned(),
            last_scrape_wall_ms: target.status.last_scrape_wall_ms,
            last_duration_ns: target.status.last_duration_ns,
            health: target.health,
        })
    }

    /// Families of a target's last body, to be read.
    pub(super) fn families_of(&self, pool: PoolId, hash: TargetHash, metric: Option<Rc<str>>) -> Option<Families> {
        self.loop_of(self.token_of(pool, hash)?).cache.look(|c| c.families(metric))
    }

    pub(super) fn count_turn(&mut self, now: Now) {
        let targets = self.target_count();
        let stats = self.parts.recorder.stats();
        stats.turns.add(1);
        stats.turned_at_ns.add(now.mono_ns.saturating_sub(stats.turned_at_ns.read()));
        stats.targets.set(targets as f64);
        if self.parts.recorder.is_publish_due(now) {
            if self.parts.tools.store.has_freed_much() {
                memory::give_back();
            }
            let usage = self.parts.tools.store.stats();
            let stats = self.parts.recorder.stats();
            stats.cpu_ns.add(thread_cpu_ns().saturating_sub(stats.cpu_ns.read()));
            stats.layout_bytes.set(usage.bytes as f64);
            stats.layout_bytes_max.set(usage.bytes_max as f64);
            stats.packed_layout_bytes.set(usage.packed_bytes as f64);
            stats.packed_layout_bytes_max.set(usage.packed_bytes_max as f64);
            stats.layout_chunks.set(usage.chunks as f64);
            stats.resting_layouts.set(usage.resting as f64);
            let counts = self.pools.iter().flatten().map(|p| (p.spec.config.job_name.clone(), p.counts)).collect();
            self.parts.recorder.publish(now, counts);
        }
    }
}

/// Samples and markers that the journal gets, the report included; of a body that was refused it gets nothing. Known from
/// what was counted, so that no sample is looked at again.
fn appended(scraped: &Scraped, is_refused: bool) -> u64 {
    let Tallies { post_relabel, duplicates, out_of_order, out_of_bounds, .. } = scraped.tallies;
    let refused = duplicates + out_of_order + out_of_bounds;
    let exposed = if is_refused { 0 } else { post_relabel.saturating_sub(refused) };
    let report = &scraped.values[scraped.values.len() - scraped.report_count()..];
    let reported = report.iter().filter(|v| !is_absent(**v)).count();
    let markers: usize = scraped.stale.iter().map(|s| s.slots.len()).sum();
    exposed + (reported + markers) as u64
}

/// prometheus: scrape.go, report: -1 for a body that is too large, nothing for one that could not be read.
fn reported_bytes(failure: Option<&ScrapeError>, body_bytes: u64) -> f64 {
    match failure {
        None | Some(ScrapeError::Series(_)) => body_bytes as f64,
        Some(ScrapeError::BodyTooLarge { .. }) => -1.0,
        Some(_) => 0.0,
    }
}

/// What a scrape reports about itself.
struct Report {
    health: Health,
    duration_s: f64,
    timeout_s: f64,
    sample_limit: u64,
    body_bytes: f64,
}

impl Report {
    /// In the order of `series::REPORT_NAMES` and `REPORT_EXTRA`.
    fn values(&self, tallies: &Tallies) -> [f64; 8] {
        [
            f64::from(u8::from(self.health == Health::Up)),
            self.duration_s,
            tallies.scraped as f64,
            tallies.post_relabel as f64,
            tallies.series_added as f64,
            self.timeout_s,
            self.sample_limit as f64,
            self.body_bytes,
        ]
    }
}
