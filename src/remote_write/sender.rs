//! One destination's thread: reads the journal, fills the lanes' requests, sends, remembers what was acknowledged.
//!
//! A target belongs to one lane and a lane has one request in flight, so samples of a series arrive in order. The
//! number of lanes changes only while nothing is in flight. When lanes are full, reading stops: the journal is the queue.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use super::delivery::{Courier, age_limit_ms, is_too_old};
use super::encoder::Encoder;
use super::lanes::Lanes;
use super::load::Load;
use super::rewrite::Rewrite;
use super::source::{Positions, Spool, Tail};
use super::stats::Stats;
use crate::base::time::Now;
use crate::config::Queue;
use crate::model::is_absent;
use crate::storage::journal::{Cursor, Event, ReadError, Samples};

/// Bytes of templates kept per destination, roughly; what was not used for longest is forgotten.
const REMOTE_TEMPLATE_BYTES: usize = 32 << 20;

/// Events read and encoded before answers are looked at again.
const EVENTS_PER_SLICE: usize = 64;
/// What the shards wrote is in the journal after this time.
const WRITTEN: Duration = Duration::from_millis(250);
/// How often positions are saved, new shard directories looked for, gauges set, and lanes reconsidered.
const HOUSEKEEPING_NS: u64 = 1_000_000_000;
/// Reading events older than this while a lane is full asks for more lanes.
const LATE_MS: i64 = 5_000;
/// Sizes behind a position are asked of the file system at most this often.
const BACKLOG_NS: u64 = 5_000_000_000;
/// Caught up with data older than this: partly filled requests do not wait for more.
const BEHIND_MS: i64 = 10_000;

/// What the owner wants of a running sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    Run,
    /// Read to the end of the journal, deliver everything, stop; give up at this monotonic time.
    Drain { until_ns: u64 },
    /// Read nothing more, wait for what is in flight, stop; give up at this monotonic time.
    Finish { until_ns: u64 },
    /// Deliver what was scraped until now, stop; give up at this monotonic time, and say what.
    Leave { until_ns: u64 },
}

/// Where a destination begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// It is new: with samples from its start on.
    Now,
    /// Where it was left; at the beginning of shards that are new since.
    Saved,
}

/// Everything a sender is made of.
#[derive(Debug)]
pub struct Setup<S> {
    /// For logs.
    pub name: String,
    /// Where events come from.
    pub spool: S,
    /// Labels as sent.
    pub rewrite: Rewrite,
    /// Delivers requests.
    pub courier: Courier,
    /// Batching and lanes.
    pub queue: Queue,
    /// Shared with the web.
    pub stats: Arc<Stats>,
    /// Under which acknowledged positions are saved.
    pub key: String,
    /// Where to begin.
    pub since: Since,
    /// Events before these positions may have been delivered already.
    pub replay_until: Positions,
    /// Of the start, milliseconds since the Unix epoch: a new destination gets nothing older.
    pub started_ms: i64,
}

struct Sender<S: Spool> {
    name: String,
    spool: S,
    encoder: Encoder,
    courier: Rc<Courier>,
    queue: Queue,
    stats: Arc<Stats>,
    replay_until: Positions,
    started_ms: i64,
    sources: Vec<Source<S::Tail>>,
    /// The source that is read now, and when the batch was begun that it is in, milliseconds.
    turn: Option<(usize, i64)>,
    lanes: Lanes,
    in_flight: JoinSet<usize>,
    key: String,
    saved: Positions,
    drained_ns: Option<u64>,
    /// On leaving: since when, milliseconds. What was scraped later is for others.
    leaving_ms: Option<i64>,
    /// Everything from before that was read.
    has_left: bool,
    housekeeping_ns: u64,
    backlog_ns: Option<u64>,
    /// Of the event read last, milliseconds.
    reading_ms: Option<i64>,
    load: Load,
}

struct Source<T> {
    shard: u32,
    tail: T,
    replay_until: Cursor,
    /// An event of it was read.
    is_begun: bool,
    /// Of what is sent, milliseconds: the start, or the first event that an earlier life left unsent. Explicit timestamps
    /// from before it are not sent. prometheus: wlog/watcher.go, readSegment (startTimestamp).
    begun_ms: i64,
    /// On leaving: nothing more of it is for this destination.
    is_over: bool,
    /// Only events from this time on, until the end of the journal is met for the first time.
    skip_before_ms: Option<i64>,
}

/// How reading went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// There may be more.
    More,
    /// Everything was read.
    CaughtUp,
    /// Some lane is full.
    Full,
}

/// Runs a sender to its end. Returns the positions up to which it read: between the saved ones and these, events may
/// have been delivered without being acknowledged.
///
/// # Errors
/// When the runtime cannot be made.
pub fn run<S: Spool>(setup: Setup<S>, orders: watch::Receiver<Order>) -> std::io::Result<Positions> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let positions = local.block_on(&runtime, async move {
        let mut sender = Sender::new(setup);
        sender.run(orders).await;
        sender.finish().await
    });
    drop(local);
    // A look-up of a name cannot be broken off, and would be waited for, maybe past the time for stopping.
    runtime.shutdown_background();
    Ok(positions)
}

impl<S: Spool> Sender<S> {
    fn new(setup: Setup<S>) -> Self {
        let Setup { name, spool, rewrite, courier, queue, stats, key, since, replay_until, started_ms } = setup;
        let lanes = Lanes::new(&queue);
        let load = Load::new(&queue);
        let saved = if since == Since::Saved { spool.saved(&key) } else { Positions::new() };
        let mut made = Self {
            encoder: Encoder::new(rewrite, REMOTE_TEMPLATE_BYTES),
            courier: Rc::new(courier),
            sources: Vec::new(),
            turn: None,
            in_flight: JoinSet::new(),
            housekeeping_ns: 0,
            backlog_ns: None,
            reading_ms: None,
            name,
            spool,
            queue,
            stats,
            replay_until,
            started_ms,
            lanes,
            key,
            saved,
            drained_ns: None,
            leaving_ms: None,
            has_left: false,
            load,
        };
        made.open_sources(since == Since::Now);
        made
    }

    /// Opens the shards that are not open yet. A new destination begins at the end of those that exist when it starts.
    fn open_sources(&mut self, at_end: bool) {
        for shard in self.spool.shards() {
            if self.sources.iter().any(|s| s.shard == shard) {
                continue;
            }
            let (from, skip_before_ms) = match self.saved.get(&shard).copied() {
                Some(cursor) => (cursor, None),
                None if at_end => {
                    let segment = self.spool.newest_segment(shard).unwrap_or_default();
                    (Cursor { segment, ..Cursor::default() }, Some(self.started_ms))
                }
                None => (Cursor::default(), None),
            };
            match self.spool.open(shard, from) {
                Ok(tail) => {
                    let replay_until = self.replay_until.get(&shard).copied().unwrap_or_default();
                    let (begun_ms, is_begun, is_over) = (self.started_ms, false, false);
                    let source = Source { shard, tail, replay_until, is_begun, begun_ms, is_over, skip_before_ms };
                    self.sources.push(source);
                }
                Err(error) => {
                    tracing::warn!(destination = self.name, shard, %error, "cannot read the journal; will try again");
                }
            }
        }
    }

    async fn run(&mut self, mut orders: watch::Receiver<Order>) {
        loop {
            let order = *orders.borrow_and_update();
            let now = Now::read();
            let abandoned = order == Order::Run && orders.has_changed().is_err();
            if abandoned || order.until_ns().is_some_and(|until| now.mono_ns >= until) {
                if order.is_leave() {
                    self.tell_given_up(now);
                }
                return;
            }
            if order.is_leave() {
                self.leaving_ms.get_or_insert(now.wall_ms());
            }
            let fill = if order.is_finish() || self.has_left { Fill::CaughtUp } else { self.fill(now) };
            self.has_left |= order.is_leave() && fill == Fill::CaughtUp;
            match (order, fill) {
                (Order::Run, Fill::CaughtUp) => self.lanes.close_due(now.mono_ns, now.wall_ms() - BEHIND_MS),
                (Order::Run, _) => self.lanes.close_due(now.mono_ns, i64::MIN),
                (_, Fill::CaughtUp) => self.lanes.close_all(),
                (_, _) => {}
            }
            if self.lanes.is_changing() {
                self.lanes.close_all();
            }
            self.dispatch();
            self.load.note(fill == Fill::Full, fill == Fill::CaughtUp);
            self.keep_house(now);
            if order != Order::Run && fill == Fill::CaughtUp && self.lanes.is_empty() && self.is_drained(order, now) {
                return;
            }
            if fill == Fill::More {
                self.reap();
                tokio::task::yield_now().await;
            } else {
                let poll = if order == Order::Run { self.load.poll() } else { WRITTEN };
                self.pause(&mut orders, now, poll).await;
            }
        }
    }

    /// What the shards wrote last, or a directory they made for it, may still be on its way to the disk: only a second
    /// look finds the true end.
    fn is_drained(&mut self, order: Order, now: Now) -> bool {
        if self.has_left {
            return true;
        }
        self.open_sources(false);
        let first = *self.drained_ns.get_or_insert(now.mono_ns);
        order.is_finish() || now.mono_ns - first >= WRITTEN.as_nanos() as u64
    }

    /// Reads and encodes a slice of events, in the order in which the shards wrote them.
    fn fill(&mut self, now: Now) -> Fill {
        for _ in 0..EVENTS_PER_SLICE {
            if self.lanes.is_full() {
                return Fill::Full;
            }
            let Some(source) = self.next_source() else { return Fill::CaughtUp };
            self.read(source, now);
        }
        Fill::More
    }

    /// The source whose next event is in the oldest batch: a target's scrapes may go on in another shard's directory. What an
    /// earlier life left comes first, whatever the clock was then.
    fn next_source(&mut self) -> Option<usize> {
        if let Some((source, ms)) = self.turn
            && self.peek(source) == Some(ms)
        {
            return Some(source);
        }
        self.turn = self.oldest();
        if self.turn.is_some() && self.sources.len() > 1 {
            // What came to the disk while the others were looked at is after what has come to theirs meanwhile.
            self.turn = self.oldest();
        }
        self.turn.map(|(source, _)| source)
    }

    fn oldest(&mut self) -> Option<(usize, i64)> {
        let found = (0..self.sources.len()).filter_map(|i| Some((i, self.peek(i)?))).collect::<Vec<_>>();
        let is_left = |i: usize| self.sources[i].tail.cursor() < self.sources[i].replay_until;
        found.into_iter().min_by_key(|&(i, ms)| (!is_left(i), ms))
    }

    /// When the batch was begun that a source's next event is in; `None` when there is nothing to read now.
    fn peek(&mut self, index: usize) -> Option<i64> {
        loop {
            let source = &mut self.sources[index];
            match source.tail.batch_ms() {
                Ok(Some(ms)) => return (!source.is_over).then_some(ms),
                Ok(None) => {
                    source.skip_before_ms = None;
                    return None;
                }
                Err(error) if self.is_loss(index, &error) => {}
                Err(_) => return None,
            }
        }
    }

    /// Takes one event of a source.
    fn read(&mut self, index: usize, now: Now) {
        let source = &mut self.sources[index];
        let before = source.tail.cursor();
        let event = match source.tail.next() {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                self.is_loss(index, &error);
                return;
            }
        };
        if source.skip_before_ms.is_some_and(|t| event.time_ms < t) {
            return;
        }
        if self.leaving_ms.is_some_and(|t| event.time_ms > t) {
            source.is_over = true;
            return;
        }
        if !source.is_begun {
            source.is_begun = true;
            source.begun_ms = self.started_ms.min(event.time_ms);
        }
        self.reading_ms = Some(event.time_ms);
        if is_too_old(&self.queue, event.time_ms, now.wall_ms()) {
            self.stats.dropped_old.add(sample_count(&event) as u64);
            return;
        }
        let lane = self.lanes.of(event.target);
        let request = self.lanes.request(lane, event.target, before < source.replay_until, now.mono_ns);
        let (encoder, time_ms) = (&mut self.encoder, event.time_ms);
        encoder.leave_out(source.begun_ms.max(age_limit_ms(&self.queue, now.wall_ms()).saturating_sub(1)));
        let encoded =
            request.push(event.target, event.time_ms, (index, before), |out| encoder.append(index as u32, &event, out));
        self.stats.dropped_rules.add(encoded.dropped as u64);
        self.stats.dropped_old.add(encoded.old as u64);
        if encoded.samples > 0 {
            self.stats.highest_ms.set(self.stats.highest_ms.read().max(time_ms as f64));
        }
        self.load.read(encoded.samples);
        self.lanes.close_full(lane);
    }

    /// Tells what could not be read, and whether that is lost: then there may be something behind it.
    fn is_loss(&mut self, index: usize, error: &ReadError) -> bool {
        let shard = self.sources[index].shard;
        if error.is_loss() {
            self.stats.journal_losses.add(1);
            tracing::error!(destination = self.name, shard, %error, "a part of the journal cannot be sent");
        } else if self.load.may_log() {
            tracing::warn!(destination = self.name, shard, %error, "cannot read the journal; will try again");
        }
        error.is_loss()
    }

    fn dispatch(&mut self) {
        while let Some((lane, request)) = self.lanes.next() {
            let courier = Rc::clone(&self.courier);
            self.in_flight.spawn_local(async move {
                courier.deliver(&request).await;
                lane
            });
        }
    }

    /// Takes note of deliveries that ended, without waiting.
    fn reap(&mut self) {
        while let Some(lane) = self.in_flight.try_join_next() {
            self.lanes.done(lane.expect("deliveries end by themselves"));
        }
    }

    /// Waits until something can have changed, at most for `poll`.
    async fn pause(&mut self, orders: &mut watch::Receiver<Order>, now: Now, poll: Duration) {
        let due = self.lanes.due_ns().map(|at| Duration::from_nanos(at.saturating_sub(now.mono_ns)));
        let wait = due.unwrap_or(poll).clamp(Duration::from_millis(1), poll);
        tokio::select! {
            Some(lane) = self.in_flight.join_next() => self.lanes.done(lane.expect("deliveries end by themselves")),
            Ok(()) = orders.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
        self.reap();
    }

    fn keep_house(&mut self, now: Now) {
        self.lanes.change();
        if now.mono_ns.saturating_sub(self.housekeeping_ns) < HOUSEKEEPING_NS {
            return;
        }
        self.load.reckon(now.mono_ns - std::mem::replace(&mut self.housekeeping_ns, now.mono_ns));
        self.open_sources(false);
        let reading_late = self.reading_ms.is_some_and(|t| now.wall_ms() - t > LATE_MS);
        if let Some(count) = self.load.lanes(self.lanes.count(), reading_late && !self.courier.is_backing_off()) {
            self.lanes.want(count);
        }
        let positions = self.acknowledged();
        if self.backlog_ns.is_none_or(|at| now.mono_ns.saturating_sub(at) >= BACKLOG_NS) {
            self.backlog_ns = Some(now.mono_ns);
            self.stats.backlog_bytes.set(self.bytes_behind(&positions) as f64);
        }
        self.show(now);
        self.spool.save(&self.key, &positions);
    }

    fn bytes_behind(&self, positions: &Positions) -> u64 {
        positions.iter().map(|(shard, c)| self.spool.bytes_behind(*shard, *c)).sum()
    }

    /// On leaving, when the time is over.
    fn tell_given_up(&self, now: Now) {
        self.show(now);
        tracing::warn!(
            destination = self.name,
            backlog_bytes = self.bytes_behind(&self.acknowledged()),
            lag_seconds = self.stats.lag_seconds.read(),
            "this destination is no longer configured, and the samples that it has not taken are not sent; \
             one under another name, or without a name under another URL, is a new one"
        );
    }

    fn show(&self, now: Now) {
        let unread = self.reading_ms.filter(|_| self.load.is_busy());
        let oldest = self.lanes.oldest_ms().or(unread);
        let lag_ms = oldest.map_or(0, |t| (now.wall_ms() - t).max(0));
        self.stats.lag_seconds.set(lag_ms as f64 / 1e3);
        self.stats.pending.set(self.lanes.samples() as f64);
        self.stats.lanes.set(self.lanes.count() as f64);
        self.stats.lanes_wanted.set(self.lanes.wanted() as f64);
    }

    fn acknowledged(&self) -> Positions {
        let sources = self.sources.iter().enumerate();
        sources.map(|(i, s)| (s.shard, self.lanes.acknowledged(i, s.tail.cursor()))).collect()
    }

    /// Ends what is in flight and saves the last positions.
    async fn finish(mut self) -> Positions {
        self.reap();
        self.in_flight.shutdown().await;
        let positions = self.acknowledged();
        self.show(Now::read());
        self.spool.save(&self.key, &positions);
        // What a predecessor may have delivered, and this one has not come to, its successor may deliver again.
        let mut read = self.replay_until;
        for source in &self.sources {
            let until = read.entry(source.shard).or_default();
            *until = source.tail.cursor().max(*until);
        }
        read
    }
}

impl Order {
    fn until_ns(self) -> Option<u64> {
        match self {
            Self::Run => None,
            Self::Drain { until_ns } | Self::Finish { until_ns } | Self::Leave { until_ns } => Some(until_ns),
        }
    }

    fn is_finish(self) -> bool {
        matches!(self, Self::Finish { .. })
    }

    fn is_leave(self) -> bool {
        matches!(self, Self::Leave { .. })
    }
}

fn sample_count(event: &Event<'_>) -> usize {
    match event.samples {
        Samples::Values { values, .. } => values.iter().filter(|v| !is_absent(**v)).count(),
        Samples::Stale { slots } => slots.len(),
    }
}
