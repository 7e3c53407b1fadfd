//! Questions to a shard, answered a little in each turn so that no scrape waits for them.

use std::collections::HashSet;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::command::{MetadataRequest, MetadataScope, StatusRequest, TargetMetadata, TargetStatus};
use super::handover::{Weighing, Weights};
use super::slice::Slice;
use crate::series::Families;

/// Targets looked up in one turn: about 50 us.
const TARGETS_PER_TURN: usize = 256;
/// Loops weighed in one turn: about 50 us.
const LOOPS_PER_TURN: u32 = 512;
/// Chunks of layouts read in one turn: some 500 lines, about 50 us.
const CHUNKS_PER_TURN: usize = 16;

/// A question on its way.
pub(super) enum Question {
    Status(Statuses),
    Metadata(Box<MetadataWalk>),
    Weights(Box<Weighing>, oneshot::Sender<Weights>),
}

/// Last outcomes.
pub(super) struct Statuses {
    request: StatusRequest,
    looked_up: usize,
    answered: Vec<TargetStatus>,
}

/// Families of the targets' last bodies.
pub(super) struct MetadataWalk {
    request: MetadataRequest,
    metric: Option<Rc<str>>,
    looked_up: usize,
    /// The target being read.
    reading: Option<(usize, Families)>,
    /// Layouts that were answered for, where each is wanted once.
    seen: HashSet<u64>,
    rows: usize,
    answered: Vec<TargetMetadata>,
}

impl Question {
    pub fn status(request: StatusRequest) -> Self {
        Self::Status(Statuses { request, looked_up: 0, answered: Vec::new() })
    }

    pub fn metadata(request: MetadataRequest) -> Self {
        let metric = request.metric.as_deref().map(Rc::from);
        Self::Metadata(Box::new(MetadataWalk {
            request,
            metric,
            looked_up: 0,
            reading: None,
            seen: HashSet::new(),
            rows: 0,
            answered: Vec::new(),
        }))
    }

    pub fn weigh(reply: oneshot::Sender<Weights>) -> Self {
        Self::Weights(Box::default(), reply)
    }

    /// A turn's share of the work. Whether nothing is left to do, since all is found or the asker has gone.
    pub fn advance(&mut self, slice: &Slice) -> bool {
        match self {
            Self::Status(q) => q.request.reply.is_closed() || q.advance(slice),
            Self::Metadata(q) => q.request.reply.is_closed() || q.advance(slice),
            Self::Weights(q, reply) => reply.is_closed() || q.advance(slice, LOOPS_PER_TURN),
        }
    }

    /// Sends what was found. An asker that has gone does not matter.
    pub fn reply(self) {
        match self {
            Self::Status(q) => drop(q.request.reply.send(q.answered)),
            Self::Metadata(q) => drop(q.request.reply.send(q.answered)),
            Self::Weights(q, reply) => drop(reply.send(q.weights())),
        }
    }
}

impl Statuses {
    fn advance(&mut self, slice: &Slice) -> bool {
        let asked = &self.request.targets;
        let upto = (self.looked_up + TARGETS_PER_TURN).min(asked.len());
        let found = asked[self.looked_up..upto].iter().filter_map(|&(pool, hash)| slice.status_of(pool, hash));
        self.answered.extend(found);
        self.looked_up = upto;
        upto == asked.len()
    }
}

impl MetadataWalk {
    fn advance(&mut self, slice: &Slice) -> bool {
        let (mut chunks, mut targets) = (CHUNKS_PER_TURN, TARGETS_PER_TURN);
        while self.rows < self.request.rows_max {
            if let Some((target, mut families)) = self.reading.take() {
                chunks -= families.advance(chunks);
                if families.is_done() {
                    self.answer(target, families);
                } else {
                    self.reading = Some((target, families));
                }
                if chunks == 0 {
                    return false;
                }
                continue;
            }
            let at = self.looked_up;
            let Some(&(pool, hash)) = self.request.targets.get(at) else { return true };
            if targets == 0 {
                return false;
            }
            targets -= 1;
            self.looked_up += 1;
            let Some(families) = slice.families_of(pool, hash, self.metric.clone()) else { continue };
            let is_wanted = match self.request.scope {
                MetadataScope::PerTarget => true,
                MetadataScope::Distinct => self.seen.insert(families.key()),
            };
            self.reading = is_wanted.then_some((at, families));
        }
        true
    }

    fn answer(&mut self, target: usize, families: Families) {
        let (pool, hash) = self.request.targets[target];
        let families = families.list();
        self.rows += families.len();
        if !families.is_empty() {
            self.answered.push(TargetMetadata { pool, hash, families });
        }
    }
}
