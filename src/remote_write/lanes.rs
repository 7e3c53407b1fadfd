//! Lanes: each holds the requests of its targets in order and has at most one of them in flight.

use std::collections::VecDeque;
use std::rc::Rc;

use super::request::Request;
use crate::config::Queue;
use crate::storage::journal::{Cursor, ReadTarget};

/// Closed requests that may wait in a lane. When a lane has this many, reading stops.
const READY_MAX: usize = 2;
/// A request closes at this many uncompressed bytes, whatever its number of samples; receivers take ten times more.
const REQUEST_RAW_BYTES: usize = 2 << 20;

/// See the file's caption. Never without a lane.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Lane>,
    wanted: usize,
    samples_max: usize,
    deadline_ns: u64,
}

#[derive(Debug, Default)]
struct Lane {
    open: Option<Request>,
    ready: VecDeque<Request>,
    sending: Option<Rc<Request>>,
    /// Buffers of settled requests, at most [`READY_MAX`]: the next ones are probably as large, and fresh memory costs a page
    /// fault every 4 KB.
    spare: Vec<Vec<u8>>,
}

impl Lanes {
    /// With `min_shards` lanes.
    #[must_use]
    pub fn new(queue: &Queue) -> Self {
        let count = usize::try_from(queue.min_shards).unwrap_or(usize::MAX).clamp(1, 1024);
        Self {
            lanes: (0..count).map(|_| Lane::default()).collect(),
            wanted: count,
            samples_max: usize::try_from(queue.max_samples_per_send).unwrap_or(usize::MAX).max(1),
            deadline_ns: u64::try_from(queue.batch_send_deadline.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Number of lanes now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Number of lanes asked for.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Asks for another number of lanes; it changes when all are empty.
    pub fn want(&mut self, count: usize) {
        assert!(count > 0);
        self.wanted = count;
    }

    /// Whether nothing may be added until the number of lanes has changed.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.wanted != self.lanes.len()
    }

    /// Changes the number of lanes if that is asked for and all are empty.
    pub fn change(&mut self) {
        if self.is_changing() && self.is_empty() {
            self.lanes = (0..self.wanted).map(|_| Lane::default()).collect();
        }
    }

    /// Whether nothing is open, waiting or in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|l| l.open.is_none() && l.ready.is_empty() && l.sending.is_none())
    }

    /// Whether some lane must send before more can be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_changing() || self.lanes.iter().any(|l| l.ready.len() >= READY_MAX)
    }

    /// The lane of a target.
    #[must_use]
    pub fn of(&self, target: &ReadTarget) -> usize {
        (target.fingerprint % self.lanes.len() as u64) as usize
    }

    /// The request that takes the next event of this target. Replayed events travel with others of their kind, and
    /// never two of one target together: one scrape per series.
    pub fn request(&mut self, lane: usize, target: &ReadTarget, replay: bool, now_ns: u64) -> &mut Request {
        let fits = |r: &Request| r.is_replay() == replay && !(replay && r.holds(target));
        let lane = &mut self.lanes[lane];
        if lane.open.as_ref().is_some_and(|r| !fits(r)) {
            lane.close();
        }
        lane.open.get_or_insert_with(|| Request::new(now_ns, replay, lane.spare.pop().unwrap_or_default()))
    }

    /// Closes the lane's open request when it is large enough.
    pub fn close_full(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        let large = |r: &Request| r.samples() >= self.samples_max || r.raw_bytes() >= REQUEST_RAW_BYTES;
        if lane.open.as_ref().is_some_and(large) {
            lane.close();
        }
    }

    /// Closes requests that waited long enough, and those with events older than `behind_before_ms`.
    pub fn close_due(&mut self, now_ns: u64, behind_before_ms: i64) {
        let due = |r: &Request| {
            now_ns.saturating_sub(r.opened_ns()) >= self.deadline_ns
                || r.oldest_ms().is_some_and(|t| t < behind_before_ms)
        };
        for lane in self.lanes.iter_mut().filter(|l| l.open.as_ref().is_some_and(due)) {
            lane.close();
        }
    }

    /// Closes all open requests.
    pub fn close_all(&mut self) {
        self.lanes.iter_mut().for_each(Lane::close);
    }

    /// When the next open request closes by itself, monotonic.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        let opened = self.lanes.iter().filter_map(|l| l.open.as_ref()).map(Request::opened_ns).min();
        opened.map(|o| o.saturating_add(self.deadline_ns))
    }

    /// A request to send now, with its lane; the lane is busy until [`Self::done`].
    pub fn next(&mut self) -> Option<(usize, Rc<Request>)> {
        self.lanes.iter_mut().enumerate().find_map(|(i, lane)| {
            if lane.sending.is_some() {
                return None;
            }
            let request = Rc::new(lane.ready.pop_front()?);
            lane.sending = Some(Rc::clone(&request));
            Some((i, request))
        })
    }

    /// The lane's request is settled.
    pub fn done(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        let settled = lane.sending.take().and_then(Rc::into_inner);
        if let Some(buffer) = settled.and_then(Request::into_buffer).filter(|_| lane.spare.len() < READY_MAX) {
            lane.spare.push(buffer);
        }
    }

    /// Up to where reader `source`, that stands at `read`, is acknowledged.
    #[must_use]
    pub fn acknowledged(&self, source: usize, read: Cursor) -> Cursor {
        self.requests().filter_map(|r| r.first(source)).min().unwrap_or(read)
    }

    /// Samples without an answer.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.requests().map(Request::samples).sum()
    }

    /// Earliest event without an answer, milliseconds.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.requests().filter_map(Request::oldest_ms).min()
    }

    fn requests(&self) -> impl Iterator<Item = &Request> {
        self.lanes.iter().flat_map(|l| l.open.iter().chain(&l.ready).chain(l.sending.as_deref()))
    }
}

impl Lane {
    fn close(&mut self) {
        if let Some(mut request) = self.open.take().filter(|r| !r.parts().is_empty()) {
            request.seal();
            self.ready.push_back(request);
        }
    }
}
