//! Scrapes in, batches of frames out: the writing half of the format, without any I/O.

use super::codes::{self, Part};
use super::column::Column;
use super::dictionary::SchemaRun;
use super::format::{
    self, BATCH_HEADER_BYTES, FLAG_ALL, FLAG_BITMAP, FLAG_LABELS, FLAG_SHAPE, FLAG_TIMES, HEADER_BYTES, KIND_SCRAPE,
    KIND_SHAPE, KIND_STALE, KIND_TARGET, put_signed, put_text, put_varint,
};
use crate::base::limits::{
    JOURNAL_BATCH_BYTES, JOURNAL_FLUSH_EARLY_NS, JOURNAL_FLUSH_NS, SEGMENT_AGE_NS, SEGMENT_BYTES,
};
use crate::base::time::Now;
use crate::model::{Schema, Shape};
use std::collections::HashMap;
use std::rc::Rc;

/// Sample bytes that a segment holds per dictionary byte before it may end.
const SAMPLES_PER_DICTIONARY: u64 = 10;
/// A segment ends at this many times its age and size even when its dictionary is large.
const HARD_FACTOR: u64 = 8;
/// What is introduced into the dictionary of a segment of this age is taken to replace something: targets have all been
/// scraped by then. Nanoseconds.
const SETTLED_AGE_NS: u64 = 600_000_000_000;
/// Bytes of replaced dictionary below which a segment does not end for their sake. In the memory of a reader they are some
/// ten times as many.
const REPLACED_BYTES_MIN: u64 = 4 << 20;

/// One scrape.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Meaning of the slots.
    pub shape: &'a Rc<Shape>,
    /// Timestamp of samples without an explicit one.
    pub time_ms: i64,
    /// One per slot; `model::ABSENT` for none.
    pub values: &'a [f64],
    /// Explicit timestamps (slot, milliseconds), ascending slots.
    pub times: &'a [(u32, i64)],
}

/// By process-unique key; keys are our own counters, so a fast hash is safe.
type KeyMap<V> = HashMap<u64, V, rapidhash::fast::RandomState>;

/// Which series of a shape end.
#[derive(Clone, Copy, Debug)]
pub enum Slots<'a> {
    /// Every one.
    All,
    /// These, ascending.
    Some(&'a [u32]),
}

/// What was written or dropped, in the writer's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Scrape and stale frames.
    pub frames: u64,
    /// Slots of scrape frames, absent ones included.
    pub slots: u64,
    /// Bytes of scrape and stale frames.
    pub sample_bytes: u64,
    /// Bytes of schema, shape and target frames.
    pub dictionary_bytes: u64,
    /// Scrape and stale frames that were dropped because the disk was too far behind.
    pub frames_lost: u64,
    /// Their slots.
    pub slots_lost: u64,
    /// Segments begun.
    pub segments: u64,
}

/// Bytes for the disk.
#[derive(Debug)]
pub struct Batch {
    /// The writer's count of segments; a new number is a new file.
    pub ordinal: u32,
    /// Where in the file the bytes belong.
    pub offset: u64,
    /// Header and payload.
    pub bytes: Vec<u8>,
    /// Slots inside, for accounting.
    pub slots: u64,
    /// Scrape and stale frames inside.
    pub events: u64,
}

/// Encodes one shard's scrapes. Lives on the shard's thread; never touches a file.
///
/// Invariants: ids (target, shape, schema) are dense and mean something within one segment only; a batch never spans
/// segments; everything a frame refers to stands before it in the same segment.
#[derive(Debug)]
pub struct Writer {
    shard: u32,
    boot: u128,
    ordinal: u32,
    seed: u32,
    /// Offset of the batch under construction.
    offset: u64,
    batch: Vec<u8>,
    /// Frames of the batch under construction, dictionary frames included.
    frames: u32,
    /// When the batch under construction was begun, milliseconds.
    base_ms: i64,
    /// The time now, as it was told last; 0 before.
    now_ms: i64,
    previous_target: u32,
    batch_events: u64,
    batch_slots: u64,
    segment: Totals,
    opened_mono_ns: Option<u64>,
    /// The segment is older than [`SETTLED_AGE_NS`].
    is_settled: bool,
    flushed_mono_ns: u64,
    /// The batch under construction is due whatever its age.
    is_urgent: bool,
    muted: bool,
    segment_bytes: u64,
    schemas: KeyMap<Part>,
    shapes: KeyMap<u32>,
    shape_list: Vec<Box<[Part]>>,
    targets: u32,
    run: SchemaRun,
    scratch: Vec<u8>,
    spare: Vec<Vec<u8>>,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    sample_bytes: u64,
    dictionary_bytes: u64,
    /// Of the dictionary: other shapes of known targets, and targets that came late. About as much of what stood there
    /// before is of no use any more, but readers hold it until the segment ends.
    replaced_bytes: u64,
}

impl Writer {
    /// A writer for shard `shard` of the process `boot`.
    #[must_use]
    pub fn new(shard: u32, boot: u128) -> Self {
        Self {
            shard,
            boot,
            ordinal: 1,
            seed: format::seed(boot, shard, 1),
            offset: HEADER_BYTES as u64,
            batch: Vec::new(),
            frames: 0,
            base_ms: 0,
            now_ms: 0,
            previous_target: u32::MAX,
            batch_events: 0,
            batch_slots: 0,
            segment: Totals::default(),
            opened_mono_ns: None,
            is_settled: false,
            flushed_mono_ns: 0,
            is_urgent: false,
            muted: false,
            segment_bytes: SEGMENT_BYTES,
            schemas: KeyMap::default(),
            shapes: KeyMap::default(),
            shape_list: Vec::new(),
            targets: 0,
            run: SchemaRun::default(),
            scratch: Vec::new(),
            spare: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Sets the size at which a segment ends.
    #[must_use]
    pub fn segments_of(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets what the first segment is counted as.
    #[must_use]
    pub(super) fn beginning_at(mut self, ordinal: u32) -> Self {
        self.ordinal = ordinal;
        self.seed = format::seed(self.boot, self.shard, ordinal);
        self
    }

    /// The shard this writes for.
    #[must_use]
    pub fn shard(&self) -> u32 {
        self.shard
    }

    /// What was written and dropped so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Tells the time: to be called before something is written. By the time at which a batch was begun readers put batches of
    /// several shards in order.
    pub fn tell_time(&mut self, wall_ms: i64) {
        self.now_ms = wall_ms;
    }

    /// Writes one scrape of a target. `variables` are walked over only when the target is new in the segment.
    /// `row.values` has one value per slot of `row.shape`.
    pub fn scrape<'t>(&mut self, column: &mut Column, variables: impl Iterator<Item = &'t str>, row: &Row<'_>) {
        assert_eq!(row.values.len(), row.shape.series_count, "one value per slot");
        if self.muted {
            self.lose(1, row.values.len() as u64);
            return;
        }
        let (shape, start) = self.begin(column, variables, row.shape, row.time_ms);
        let has_shape = column.shape_key != row.shape.key;
        if has_shape {
            let old: &[Part] = if column.shape_key == 0 { &[] } else { &self.shape_list[column.shape as usize] };
            codes::reshape(&mut column.values, old, &self.shape_list[shape as usize]);
            column.shape_key = row.shape.key;
            column.shape = shape;
        }
        let flags = if has_shape { FLAG_SHAPE } else { 0 } | if row.times.is_empty() { 0 } else { FLAG_TIMES };
        self.frame_header(KIND_SCRAPE | flags, column, start, row.time_ms);
        if has_shape {
            put_varint(&mut self.batch, u64::from(shape));
        }
        if !row.times.is_empty() {
            put_times(&mut self.batch, row.times, row.time_ms);
        }
        let room = codes::room(row.values.len());
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        let n = codes::encode(&mut column.values, row.values, &mut self.scratch);
        self.batch.extend_from_slice(&self.scratch[..n]);
        self.end(start, row.values.len() as u64);
    }

    /// Writes staleness markers at `time_ms` for series of `shape`. When all series of the target's current shape end,
    /// its last values are forgotten on both sides.
    pub fn stale<'t>(
        &mut self,
        column: &mut Column,
        variables: impl Iterator<Item = &'t str>,
        (shape, time_ms): (&Rc<Shape>, i64),
        slots: Slots<'_>,
    ) {
        let all = match slots {
            Slots::All => true,
            Slots::Some(s) => s.len() == shape.series_count,
        };
        let count = if let Slots::Some(s) = slots { s.len() } else { shape.series_count };
        if count == 0 {
            return;
        }
        if self.muted {
            self.lose(1, count as u64);
            return;
        }
        let (id, start) = self.begin(column, variables, shape, time_ms);
        let bitmap_bytes = shape.series_count.div_ceil(8);
        let bitmap = !all && count >= bitmap_bytes;
        let flags = if all { FLAG_ALL } else { 0 } | if bitmap { FLAG_BITMAP } else { 0 };
        self.frame_header(KIND_STALE | FLAG_SHAPE | flags, column, start, time_ms);
        put_varint(&mut self.batch, u64::from(id));
        match slots {
            Slots::Some(s) if bitmap => put_bitmap(&mut self.batch, s, bitmap_bytes),
            Slots::Some(s) if !all => put_list(&mut self.batch, s),
            _ => {}
        }
        if all && column.shape_key == shape.key {
            column.values = Box::default();
            column.shape_key = 0;
        }
        self.end(start, count as u64);
    }

    /// When the batch under construction is to be flushed, monotonic nanoseconds; `None` when there is nothing.
    #[must_use]
    pub fn due_at(&self) -> Option<u64> {
        match self.batch.len() {
            0 => None,
            n if n >= JOURNAL_BATCH_BYTES || self.is_urgent => Some(0),
            _ => Some(self.flushed_mono_ns.saturating_add(JOURNAL_FLUSH_NS)),
        }
    }

    /// What comes after this turn is in a batch that is begun later.
    pub fn end_batch(&mut self) {
        self.is_urgent = true;
    }

    /// Whether [`Writer::flush`] is to be called in a turn at `now`.
    #[must_use]
    pub fn due(&self, now: Now) -> bool {
        self.due_at().is_some_and(|at| at <= now.mono_ns + JOURNAL_FLUSH_EARLY_NS)
    }

    /// Closes the batch under construction, due or not. `None` when there is nothing in it.
    pub fn flush(&mut self, now: Now) -> Option<Batch> {
        self.flushed_mono_ns = now.mono_ns;
        self.is_urgent = false;
        if self.batch.is_empty() {
            return None;
        }
        let mut bytes = std::mem::replace(&mut self.batch, self.spare.pop().unwrap_or_default());
        format::finish_batch(&mut bytes, self.seed, self.offset, self.frames, self.base_ms);
        if self.offset == HEADER_BYTES as u64 {
            self.tally.segments += 1;
        }
        let batch = Batch {
            ordinal: self.ordinal,
            offset: self.offset,
            bytes,
            slots: self.batch_slots,
            events: self.batch_events,
        };
        self.offset += batch.bytes.len() as u64;
        self.close_batch();
        let age_ns = now.mono_ns.saturating_sub(*self.opened_mono_ns.get_or_insert(now.mono_ns));
        self.is_settled = age_ns >= SETTLED_AGE_NS;
        if self.is_full(age_ns) {
            self.roll();
        }
        Some(batch)
    }

    /// Takes back the buffer of a batch that the disk is done with.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < 4 && buffer.capacity() <= 4 * JOURNAL_BATCH_BYTES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Drops the batch under construction and everything after it until [`Writer::resume`]: the disk is too far behind.
    /// What comes after begins a new segment, so no frame ever refers to one that was dropped.
    pub fn mute(&mut self) {
        if self.muted {
            return;
        }
        self.muted = true;
        self.lose(self.batch_events, self.batch_slots);
        self.batch.clear();
        self.close_batch();
        self.roll();
    }

    /// Accepts scrapes again.
    pub fn resume(&mut self) {
        self.muted = false;
    }

    /// Whether scrapes are being dropped.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.muted
    }

    /// A batch that [`Writer::flush`] gave could not be handed on: counts it as lost and begins a new segment.
    pub fn lost(&mut self, batch: &Batch) {
        self.lose(batch.events, batch.slots);
        if batch.ordinal == self.ordinal {
            self.mute();
            self.resume();
        }
    }

    fn lose(&mut self, frames: u64, slots: u64) {
        self.tally.frames_lost += frames;
        self.tally.slots_lost += slots;
    }

    fn close_batch(&mut self) {
        self.frames = 0;
        self.batch_events = 0;
        self.batch_slots = 0;
        self.previous_target = u32::MAX;
    }

    fn is_full(&self, age_ns: u64) -> bool {
        let ripe = self.segment.sample_bytes >= SAMPLES_PER_DICTIONARY * self.segment.dictionary_bytes;
        let factor = if ripe { 1 } else { HARD_FACTOR };
        let Totals { dictionary_bytes, replaced_bytes, .. } = self.segment;
        // To introduce all of what is in use again costs no more than what churn has cost already.
        let is_churned = replaced_bytes >= (dictionary_bytes - replaced_bytes).max(REPLACED_BYTES_MIN);
        let is_old = age_ns >= factor * SEGMENT_AGE_NS || self.offset >= factor * self.segment_bytes;
        is_old || (self.is_settled && is_churned)
    }

    /// The segment that scrapes go to, by its count.
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Begins a new segment if this is still the present one and the batch under construction was flushed.
    pub fn leave(&mut self, ordinal: u32) {
        if self.ordinal == ordinal && self.batch.is_empty() {
            self.roll();
        }
    }

    /// Begins a new segment.
    pub(super) fn roll(&mut self) {
        self.ordinal += 1;
        self.seed = format::seed(self.boot, self.shard, self.ordinal);
        self.offset = HEADER_BYTES as u64;
        self.segment = Totals::default();
        self.opened_mono_ns = None;
        self.is_settled = false;
        self.schemas.clear();
        self.shapes.clear();
        self.shape_list.clear();
        self.targets = 0;
    }

    /// Makes sure that the batch is open and that target and shape are in the segment's dictionary. Returns the shape's
    /// id and the frame's place in the batch.
    fn begin<'t>(
        &mut self,
        column: &mut Column,
        variables: impl Iterator<Item = &'t str>,
        shape: &Rc<Shape>,
        time_ms: i64,
    ) -> (u32, usize) {
        if self.batch.is_empty() {
            self.batch.resize(BATCH_HEADER_BYTES, 0);
            // Without a clock, what is written says it roughly.
            self.base_ms = if self.now_ms == 0 { time_ms } else { self.now_ms };
        }
        let known = column.epoch == self.ordinal;
        if known && column.shape_key == shape.key {
            #[cfg(debug_assertions)]
            self.check_variables(column, variables);
            return (column.shape, self.batch.len());
        }
        let dictionary_start = self.batch.len();
        if !known {
            self.introduce(column, variables);
        }
        let id = self.shape_id(shape);
        let bytes = (self.batch.len() - dictionary_start) as u64;
        self.segment.dictionary_bytes += bytes;
        if known || self.is_settled {
            self.segment.replaced_bytes += bytes;
        }
        self.tally.dictionary_bytes += bytes;
        (id, self.batch.len())
    }

    #[cfg(debug_assertions)]
    fn check_variables<'t>(&self, column: &Column, variables: impl Iterator<Item = &'t str>) {
        let now = super::dictionary::variables_fingerprint(variables);
        assert_eq!(column.variables, now, "a target whose variables changed is to be renewed");
    }

    fn introduce<'t>(&mut self, column: &mut Column, variables: impl Iterator<Item = &'t str>) {
        let texts: Vec<&str> = variables.collect();
        let (epoch, target, labels) = (self.ordinal, self.targets, column.labels);
        *column = Column { epoch, target, labels, ..Column::default() };
        #[cfg(debug_assertions)]
        {
            column.variables = super::dictionary::variables_fingerprint(texts.iter().copied());
        }
        self.targets += 1;
        self.frames += 1;
        self.batch.push(KIND_TARGET | if labels > 0 { FLAG_LABELS } else { 0 });
        put_varint(&mut self.batch, u64::from(column.target));
        put_varint(&mut self.batch, texts.len() as u64);
        if labels > 0 {
            put_varint(&mut self.batch, u64::from(labels));
        }
        for text in texts {
            put_text(&mut self.batch, text);
        }
    }

    fn shape_id(&mut self, shape: &Rc<Shape>) -> u32 {
        if let Some(&id) = self.shapes.get(&shape.key) {
            return id;
        }
        self.run.start(self.schemas.len() as u32);
        let parts: Box<[Part]> = shape.schemas().iter().map(|s| self.part(s)).collect();
        self.frames += self.run.close(&mut self.batch);
        let id = self.shape_list.len() as u32;
        self.frames += 1;
        self.batch.push(KIND_SHAPE);
        put_varint(&mut self.batch, u64::from(id));
        put_varint(&mut self.batch, parts.len() as u64);
        let mut expected = 0i64;
        for p in &parts {
            put_signed(&mut self.batch, i64::from(p.schema) - expected);
            expected = i64::from(p.schema) + 1;
        }
        self.shapes.insert(shape.key, id);
        self.shape_list.push(parts);
        id
    }

    fn part(&mut self, schema: &Rc<dyn Schema>) -> Part {
        if let Some(&part) = self.schemas.get(&schema.key()) {
            return part;
        }
        let part = Part { schema: self.schemas.len() as u32, slots: schema.series_count() as u32 };
        self.frames += self.run.add(schema, &mut self.batch);
        self.schemas.insert(schema.key(), part);
        part
    }

    /// First byte, target, time, distance to the target's previous frame.
    fn frame_header(&mut self, first: u8, column: &mut Column, start: usize, time_ms: i64) {
        let here = self.offset + start as u64;
        self.batch.push(first);
        put_signed(&mut self.batch, i64::from(column.target.wrapping_sub(self.previous_target).wrapping_sub(1) as i32));
        put_signed(&mut self.batch, time_ms.wrapping_sub(self.base_ms));
        put_varint(&mut self.batch, if column.last == 0 { 0 } else { here - column.last });
        column.last = here;
        self.previous_target = column.target;
    }

    fn end(&mut self, start: usize, slots: u64) {
        let bytes = (self.batch.len() - start) as u64;
        self.segment.sample_bytes += bytes;
        self.tally.sample_bytes += bytes;
        self.tally.frames += 1;
        self.tally.slots += slots;
        self.frames += 1;
        self.batch_events += 1;
        self.batch_slots += slots;
    }
}

fn put_times(out: &mut Vec<u8>, times: &[(u32, i64)], time_ms: i64) {
    put_varint(out, times.len() as u64);
    let mut expected = 0;
    for &(slot, ms) in times {
        assert!(slot >= expected, "explicit times are in slot order");
        put_varint(out, u64::from(slot - expected));
        put_signed(out, ms.wrapping_sub(time_ms));
        expected = slot + 1;
    }
}

fn put_list(out: &mut Vec<u8>, slots: &[u32]) {
    put_varint(out, slots.len() as u64);
    let mut expected = 0;
    for &slot in slots {
        assert!(slot >= expected, "stale slots ascend");
        put_varint(out, u64::from(slot - expected));
        expected = slot + 1;
    }
}

fn put_bitmap(out: &mut Vec<u8>, slots: &[u32], bytes: usize) {
    let at = out.len();
    out.resize(at + bytes, 0);
    for &slot in slots {
        out[at + slot as usize / 8] |= 1 << (slot % 8);
    }
}
