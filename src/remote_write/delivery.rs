//! One request until it is settled: repeated while that may help, split when a part of it is refused.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, Backoff, Next};
use super::endpoint::Endpoint;
use super::request::Request;
use super::stats::{Rejection, Stats};
use crate::base::time::Now;
use crate::config::Queue;

/// Least time between two log lines of one kind.
const LOG_EVERY_NS: u64 = 60_000_000_000;
/// Requests in a row of which nothing was accepted, after which splitting is only tried once in a while.
const HOPELESS_AFTER: u32 = 2;
/// How often, then.
const HOPELESS_RETRY_NS: u64 = 60_000_000_000;
/// In a replay: targets refused one by one, with nothing accepted in between, after which a refused request is not taken apart
/// any more. What was delivered without being noted is about a second's worth and is refused, too, so the number is large enough
/// for a crash of a middle-sized installation to cost nothing, and a receiver that refuses everything has seen twice as many
/// small requests by then, once.
const DOUBTED_AFTER: u32 = 1_000;
/// So many targets of such a request are tried alone; one that is accepted ends the doubt. Where a share g of the targets would
/// be accepted, all are given up with the probability (1-g)^16: 1 in 100 for a quarter, 1 in 65,536 for a half.
const TRIED_ALONE: usize = 16;

/// What all deliveries of one destination share. Lives on one thread.
#[derive(Debug)]
pub struct Courier {
    name: String,
    endpoint: Endpoint,
    queue: Queue,
    stats: Arc<Stats>,
    random: Cell<u64>,
    /// Deliveries that wait before a repeated attempt.
    waiting: Cell<u32>,
    refused_whole: Cell<u32>,
    split_at_ns: Cell<u64>,
    /// Targets refused alone since anything was accepted.
    refused_alone: Cell<u32>,
    logged_retry_ns: Cell<Option<u64>>,
    logged_refusal_ns: Cell<Option<u64>>,
}

/// How a piece of a request ended.
enum Settled {
    Done,
    /// Nothing left to send: everything in it became too old.
    Expired,
    /// Parts may fare better.
    Split(Answer),
    Refused(Answer),
}

impl Courier {
    /// `seed` spreads the waits of senders.
    #[must_use]
    pub fn new(name: String, endpoint: Endpoint, queue: Queue, stats: Arc<Stats>, seed: u64) -> Self {
        Self {
            name,
            endpoint,
            queue,
            stats,
            random: Cell::new(seed),
            waiting: Cell::new(0),
            refused_whole: Cell::new(0),
            split_at_ns: Cell::new(0),
            refused_alone: Cell::new(0),
            logged_retry_ns: Cell::new(None),
            logged_refusal_ns: Cell::new(None),
        }
    }

    /// Whether any delivery is between two attempts: then more lanes would not help.
    #[must_use]
    pub fn is_backing_off(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Returns when every event of the request was accepted or given up. Dropping the future is safe at any time: the
    /// request then counts as not sent.
    pub async fn deliver(&self, request: &Request) {
        let mut pieces = vec![(0..request.parts().len()).collect::<Vec<_>>()];
        let (mut accepted, mut split) = (false, false);
        let mut attempt = 0;
        while let Some(piece) = pieces.pop() {
            match self.settle(request, piece.clone(), &mut attempt).await {
                Settled::Done => accepted = true,
                Settled::Expired => {}
                Settled::Split(answer) => match request.halves(&piece) {
                    Some(_) if request.is_replay() && self.doubts() => {
                        accepted = true;
                        pieces.extend(self.try_some(request, &piece, &answer, &mut attempt).await);
                    }
                    Some((first, second)) if self.may_split(request) => {
                        split = true;
                        self.stats.splits.add(1);
                        pieces.push(second);
                        pieces.push(first);
                    }
                    None if request.is_replay() => {
                        accepted |= answer.is_bad_request();
                        self.refused_alone();
                        self.give_up(request, &piece, &answer);
                    }
                    _ => self.refuse(request, &piece, &answer),
                },
                Settled::Refused(answer) => self.refuse(request, &piece, &answer),
            }
        }
        if accepted {
            self.refused_whole.set(0);
        } else if split {
            self.refused_whole.set(self.refused_whole.get().saturating_add(1));
            self.split_at_ns.set(Now::read().mono_ns);
        }
    }

    /// A receiver that refused everything lately gets no further burst of halves, except now and then. In a replay a
    /// refusal is the expected answer.
    fn may_split(&self, request: &Request) -> bool {
        let rested = Now::read().mono_ns.saturating_sub(self.split_at_ns.get()) >= HOPELESS_RETRY_NS;
        request.is_replay() || self.refused_whole.get() < HOPELESS_AFTER || rested
    }

    /// Whether a replay goes to a receiver that seems to refuse all of it.
    fn doubts(&self) -> bool {
        self.refused_alone.get() >= DOUBTED_AFTER
    }

    fn refused_alone(&self) {
        let count = self.refused_alone.get().saturating_add(1);
        self.refused_alone.set(count);
        if count == DOUBTED_AFTER {
            tracing::warn!(
                destination = self.name,
                "the receiver refused the samples of {count} targets in a row that were left by an earlier process: \
                 of a request that it refuses, only {TRIED_ALONE} targets are tried alone until it takes one"
            );
        }
    }

    /// Tries some targets of a refused piece alone. Gives the others back when one was accepted, and gives them up otherwise.
    async fn try_some(
        &self,
        request: &Request,
        piece: &[usize],
        answer: &Answer,
        attempt: &mut u32,
    ) -> Option<Vec<usize>> {
        let (picked, others) = request.picked(piece, TRIED_ALONE, || self.next_random());
        for part in picked {
            match self.settle(request, vec![part], attempt).await {
                Settled::Done | Settled::Expired => {}
                Settled::Split(answer) => {
                    self.refused_alone();
                    self.give_up(request, &[part], &answer);
                }
                Settled::Refused(answer) => self.refuse(request, &[part], &answer),
            }
        }
        if others.is_empty() {
            return None;
        }
        if self.doubts() {
            self.give_up(request, &others, answer);
            return None;
        }
        Some(others)
    }

    /// Sends one piece until its fate is known. `attempt` counts on over all pieces of a request.
    async fn settle(&self, request: &Request, mut piece: Vec<usize>, attempt: &mut u32) -> Settled {
        let mut backoff = Backoff::new(&self.queue);
        let mut body = None;
        loop {
            let now = Now::read();
            if self.expire(request, &mut piece, now.wall_ms()) {
                body = None;
            }
            if piece.is_empty() {
                return Settled::Expired;
            }
            let body = body.get_or_insert_with(|| request.body_of(&piece)).clone();
            let samples = self.count_attempt(request, &piece, body.len(), *attempt);
            let answer = self.endpoint.post(body, *attempt).await;
            let done = Now::read();
            self.stats.batches.add(done.mono_ns - now.mono_ns);
            *attempt = attempt.saturating_add(1);
            match answer.next(&self.queue) {
                Next::Done => {
                    self.accept(request, &piece);
                    return Settled::Done;
                }
                Next::Split => return Settled::Split(answer),
                Next::Drop => return Settled::Refused(answer),
                Next::Retry(asked) => {
                    let wait = backoff.wait(asked, self.next_random());
                    self.tell_retry(&answer, samples, wait, done);
                    self.wait(wait).await;
                }
            }
        }
    }

    fn count_attempt(&self, request: &Request, piece: &[usize], bytes: usize, attempt: u32) -> usize {
        let samples: usize = piece.iter().map(|i| request.parts()[*i].samples).sum();
        self.stats.samples.add(samples as u64);
        self.stats.bytes.add(bytes as u64);
        if attempt > 0 {
            self.stats.retried.add(samples as u64);
        }
        samples
    }

    async fn wait(&self, wait: Duration) {
        let _one = Waiting::new(&self.waiting);
        tokio::time::sleep(wait).await;
    }

    /// Removes events past `sample_age_limit`; says whether there were any.
    fn expire(&self, request: &Request, piece: &mut Vec<usize>, now_ms: i64) -> bool {
        let before = piece.len();
        piece.retain(|i| {
            let part = &request.parts()[*i];
            let keep = !is_too_old(&self.queue, part.time_ms, now_ms);
            if !keep {
                self.stats.dropped_old.add(part.samples as u64);
            }
            keep
        });
        piece.len() != before
    }

    fn accept(&self, request: &Request, piece: &[usize]) {
        self.stats.requests_done.add(1);
        self.stats.recovered();
        self.refused_alone.set(0);
        let newest = piece.iter().map(|i| request.parts()[*i].time_ms).max().unwrap_or(0) as f64;
        if newest > self.stats.highest_sent_ms.read() {
            self.stats.highest_sent_ms.set(newest);
        }
    }

    /// What an earlier life left was refused: nearly always because the receiver has it.
    fn give_up(&self, request: &Request, piece: &[usize], answer: &Answer) {
        if !answer.is_bad_request() {
            return self.refuse(request, piece, answer);
        }
        let samples: usize = piece.iter().map(|i| request.parts()[*i].samples).sum();
        self.stats.dropped_again.add(samples as u64);
        if is_due(&self.logged_refusal_ns, Now::read().mono_ns) {
            tracing::warn!(
                destination = self.name, samples, %answer,
                "the receiver refused samples that were left by an earlier process, most likely because it has them"
            );
        }
    }

    fn refuse(&self, request: &Request, piece: &[usize], answer: &Answer) {
        let parts = || piece.iter().map(|i| &request.parts()[*i]);
        let samples: usize = parts().map(|p| p.samples).sum();
        let target = parts().next().map_or_else(String::new, |p| p.target.variables.open().join(","));
        self.stats.failed.add(samples as u64);
        let now = Now::read();
        let answer = answer.to_string();
        self.stats.failing(answer.clone(), now.wall_ms());
        if is_due(&self.logged_refusal_ns, now.mono_ns) {
            tracing::warn!(
                destination = self.name, samples, first_target = target, %answer,
                "the receiver refused samples for good; they are dropped"
            );
        }
        self.stats.reject(Rejection { time_ms: now.wall_ms(), samples, target, answer });
    }

    fn tell_retry(&self, answer: &Answer, samples: usize, wait: Duration, now: Now) {
        if is_due(&self.logged_retry_ns, now.mono_ns) {
            tracing::warn!(destination = self.name, samples, ?wait, %answer, "sending failed; it will be repeated");
        }
        self.stats.failing(answer.to_string(), now.wall_ms());
    }

    fn next_random(&self) -> u64 {
        let next = self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random.set(next);
        next >> 33
    }
}

/// Whether an event of this time is not worth sending any more.
#[must_use]
pub fn is_too_old(queue: &Queue, time_ms: i64, now_ms: i64) -> bool {
    time_ms < age_limit_ms(queue, now_ms)
}

/// Samples from before this time, in milliseconds, are not sent any more; the beginning of time without a limit.
pub fn age_limit_ms(queue: &Queue, now_ms: i64) -> i64 {
    let limit = i64::try_from(queue.sample_age_limit.as_millis()).unwrap_or(i64::MAX);
    if limit == 0 { i64::MIN } else { now_ms.saturating_sub(limit) }
}

/// True once per [`LOG_EVERY_NS`].
fn is_due(last_ns: &Cell<Option<u64>>, now_ns: u64) -> bool {
    let due = last_ns.get().is_none_or(|last| now_ns.saturating_sub(last) >= LOG_EVERY_NS);
    if due {
        last_ns.set(Some(now_ns));
    }
    due
}

/// Counts one waiting delivery for as long as it lives, also when its future is dropped.
struct Waiting<'c>(&'c Cell<u32>);

impl<'c> Waiting<'c> {
    fn new(count: &'c Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
