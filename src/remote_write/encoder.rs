//! Journal events to compressed pieces of a remote write 1.0 request; keeps what it can reuse.

use std::rc::Rc;
use std::sync::Arc;

use super::direct::Direct;
use super::fragment::{Fragment, TIME_BYTES, TIME_MS};
use super::prepared::Sample;
use super::rewrite::Rewrite;
use super::templates::{Found, Parts, Plan, PlanKey, Sharing, Templates, class_key};
use crate::encoding::protobuf::put_varint;
use crate::encoding::snappy::Compressor;
use crate::model::{STALE_NAN, is_absent};
use crate::storage::journal::{Event, ReadSchema, Samples};

/// Encodes events for one class of destinations (equal external labels and write rules).
#[derive(Debug)]
pub struct Encoder {
    rewrite: Rewrite,
    templates: Templates,
    raw: Vec<u8>,
    compressor: Compressor,
    key: Vec<u8>,
    direct: Direct,
    /// Explicit timestamps up to this one are left out, milliseconds.
    before_ms: i64,
}

/// What [`Encoder::append`] added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Samples in the piece.
    pub samples: usize,
    /// Bytes the piece expands to.
    pub raw_bytes: usize,
    /// Samples that the write rules dropped.
    pub dropped: usize,
    /// Samples left out because of their explicit timestamps.
    pub old: usize,
}

impl Encoder {
    /// `template_bytes` bounds what is kept for reuse.
    #[must_use]
    pub fn new(rewrite: Rewrite, template_bytes: usize) -> Self {
        Self {
            rewrite,
            templates: Templates::new(template_bytes),
            raw: Vec::new(),
            compressor: Compressor::default(),
            key: Vec::new(),
            direct: Direct::default(),
            before_ms: i64::MIN,
        }
    }

    /// From now on, samples with explicit timestamps up to this one, in milliseconds, are left out.
    pub fn leave_out(&mut self, before_ms: i64) {
        self.before_ms = before_ms;
    }

    /// Appends one event as one self-contained piece: pieces may be joined in any order behind one header.
    /// `source` numbers the reader the event comes from, since shape keys are unique per reader only.
    pub fn append(&mut self, source: u32, event: &Event<'_>, out: &mut Vec<u8>) -> Encoded {
        self.raw.clear();
        let mut encoded = match &event.samples {
            Samples::Values { values, times } if times.is_empty() && TIME_MS.contains(&event.time_ms) => {
                self.patched(source, event, values, out)
            }
            Samples::Values { values, times } => self.timed(event, values, times),
            Samples::Stale { slots } => self.ended(event, slots),
        };
        encoded.raw_bytes += self.raw.len();
        self.compressor.append(&self.raw, out);
        encoded
    }

    /// Bytes kept for reuse.
    #[must_use]
    pub fn template_bytes(&self) -> usize {
        self.templates.bytes()
    }

    fn patched(&mut self, source: u32, event: &Event<'_>, values: &[f64], out: &mut Vec<u8>) -> Encoded {
        let mut time = Vec::with_capacity(TIME_BYTES);
        put_varint(&mut time, event.time_ms as u64);
        let time: [u8; TIME_BYTES] = time.try_into().expect("the range makes it six bytes");
        let variables = event.target.variables.open();
        class_key(&variables, &mut self.key);
        let plan_key = PlanKey { source, shape: event.shape.key };
        let sharing = if event.shape.is_shared() { Sharing::Several } else { Sharing::One };
        match self.templates.plan(plan_key, &self.key, sharing) {
            Some(Plan::Whole(whole, _)) if !values.iter().any(|v| is_absent(*v)) => {
                whole.append(values, &time, &variables, out);
                let (samples, raw_bytes, dropped) = (whole.samples(), whole.raw_bytes(), whole.dropped());
                return Encoded { samples, raw_bytes, dropped, old: 0 };
            }
            Some(Plan::Whole(_, parts) | Plan::Parts(parts)) => return self.along(&parts, event, (values, &time), out),
            Some(Plan::Ripe(parts)) => {
                self.build_whole(plan_key, event);
                return self.along(&parts, event, (values, &time), out);
            }
            None => {}
        }
        let mut plan: Option<Vec<Rc<Fragment>>> = Some(Vec::with_capacity(event.shape.schemas.len()));
        let mut encoded = Encoded::default();
        let mut at = 0;
        for schema in &event.shape.schemas {
            let part = &values[at..at + schema.series_count()];
            at += part.len();
            if !self.is_worth_keeping(schema, event) {
                plan = None;
                self.present(schema, event, part, &mut encoded);
                continue;
            }
            match self.templates.find(schema, &variables, &self.rewrite) {
                Found::Fragment(fragment) => {
                    self.one(&fragment, schema, event, (part, &time), out, &mut encoded);
                    if let Some(plan) = &mut plan {
                        plan.push(fragment);
                    }
                }
                Found::ByText(fragment) => {
                    plan = None;
                    self.one(&fragment, schema, event, (part, &time), out, &mut encoded);
                }
                Found::Ordinary => {
                    plan = None;
                    self.present(schema, event, part, &mut encoded);
                }
            }
        }
        if let Some(parts) = plan {
            self.templates.keep_plan(plan_key, &self.key, parts);
        }
        encoded
    }

    /// One fragment for all schemas of the event's shape, unless it were too large.
    fn build_whole(&mut self, plan: PlanKey, event: &Event<'_>) {
        let variables = event.target.variables.open();
        let mut prepared = Vec::with_capacity(event.shape.schemas.len());
        for schema in &event.shape.schemas {
            prepared.push(self.templates.prepared(schema, &variables, &self.rewrite));
        }
        let prepared: Vec<_> = prepared.iter().map(Rc::as_ref).collect();
        if let Some(whole) = Fragment::new(&prepared, &variables) {
            self.templates.keep_whole(plan, &self.key, whole);
        }
    }

    fn along(
        &mut self,
        parts: &Parts,
        event: &Event<'_>,
        (values, time): (&[f64], &[u8; TIME_BYTES]),
        out: &mut Vec<u8>,
    ) -> Encoded {
        let mut encoded = Encoded::default();
        let mut at = 0;
        for (fragment, schema) in parts.iter().zip(&event.shape.schemas) {
            let part = &values[at..at + schema.series_count()];
            at += part.len();
            self.one(fragment, schema, event, (part, time), out, &mut encoded);
        }
        encoded
    }

    fn one(
        &mut self,
        fragment: &Fragment,
        schema: &Arc<ReadSchema>,
        event: &Event<'_>,
        (values, time): (&[f64], &[u8; TIME_BYTES]),
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) {
        if values.iter().any(|v| is_absent(*v)) {
            return self.present(schema, event, values, encoded);
        }
        fragment.append(values, time, &event.target.variables.open(), out);
        encoded.samples += fragment.samples();
        encoded.raw_bytes += fragment.raw_bytes();
        encoded.dropped += fragment.dropped();
    }

    /// Whether something kept for this schema serves other targets too, or there is room anyway.
    fn is_worth_keeping(&self, schema: &Arc<ReadSchema>, event: &Event<'_>) -> bool {
        event.shape.is_shared() || schema.is_shared() || self.templates.has_room()
    }

    /// The ordinary road for the slots of one schema that hold a sample.
    fn present(&mut self, schema: &Arc<ReadSchema>, event: &Event<'_>, values: &[f64], encoded: &mut Encoded) {
        let samples = values.iter().enumerate().filter(|(_, v)| !is_absent(**v));
        let samples = samples.map(|(slot, value)| Sample { slot: slot as u32, value: *value, time_ms: event.time_ms });
        self.ordinary(schema, event, samples, encoded);
    }

    fn timed(&mut self, event: &Event<'_>, values: &[f64], times: &[(u32, i64)]) -> Encoded {
        let mut encoded = Encoded::default();
        let before_ms = self.before_ms;
        let is_old = |time: &(u32, i64)| time.1 <= before_ms && !is_absent(values[time.0 as usize]);
        encoded.old = times.iter().filter(|t| is_old(t)).count();
        let (mut at, mut times) = (0, times);
        for schema in &event.shape.schemas {
            let end = at + schema.series_count();
            let (mine, rest) = times.split_at(times.partition_point(|t| (t.0 as usize) < end));
            times = rest;
            let mut mine = mine.iter().peekable();
            let samples = values[at..end].iter().enumerate().filter_map(|(slot, value)| {
                let explicit = mine.next_if(|t| t.0 as usize == at + slot).map(|t| t.1);
                let time_ms = explicit.unwrap_or(event.time_ms);
                let sent = !is_absent(*value) && explicit.is_none_or(|t| t > before_ms);
                sent.then_some(Sample { slot: slot as u32, value: *value, time_ms })
            });
            self.ordinary(schema, event, samples, &mut encoded);
            at = end;
        }
        encoded
    }

    fn ended(&mut self, event: &Event<'_>, slots: &[u32]) -> Encoded {
        let mut encoded = Encoded::default();
        let (mut at, mut slots) = (0u32, slots);
        for schema in &event.shape.schemas {
            let end = at + schema.series_count() as u32;
            let (mine, rest) = slots.split_at(slots.partition_point(|s| *s < end));
            slots = rest;
            let samples = mine.iter().map(|slot| Sample { slot: slot - at, value: STALE_NAN, time_ms: event.time_ms });
            self.ordinary(schema, event, samples, &mut encoded);
            at = end;
        }
        encoded
    }

    fn ordinary(
        &mut self,
        schema: &Arc<ReadSchema>,
        event: &Event<'_>,
        samples: impl Iterator<Item = Sample>,
        encoded: &mut Encoded,
    ) {
        let mut samples = samples.peekable();
        if samples.peek().is_none() {
            return;
        }
        let variables = event.target.variables.open();
        if let Some(external) = self.rewrite.external_only()
            && !self.is_worth_keeping(schema, event)
        {
            let written = self.direct.encode(schema, (external, &variables), &mut samples, &mut self.raw);
            encoded.samples += written.samples;
            encoded.dropped += written.dropped;
            return;
        }
        let prepared = self.templates.prepared(schema, &variables, &self.rewrite);
        for sample in samples {
            if prepared.encode(sample, &variables, &mut self.raw, &mut ()) {
                encoded.samples += 1;
            } else {
                encoded.dropped += 1;
            }
        }
    }
}
