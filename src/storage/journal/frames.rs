//! Frames in, events out: the reading half of the format, over one segment's dictionary and last values.

use super::codes::{self, PADDING_BYTES, Part};
use super::dictionary::{take_schemas, variables_fingerprint};
use super::event::ReadTarget;
use super::format::{
    FLAG_ALL, FLAG_BITMAP, FLAG_LABELS, FLAG_SHAPE, FLAG_TIMES, KIND_LATER, KIND_MASK, KIND_SCHEMAS, KIND_SCRAPE,
    KIND_SHAPE, KIND_STALE, KIND_TARGET, Walk,
};
use super::schema::{ReadSchema, ReadShape};
use crate::model::TextList;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// One `Arc` per distinct content, across the segments a reader goes through.
#[derive(Debug, Default)]
pub struct Interner {
    schemas: HashMap<u128, Weak<ReadSchema>>,
    shapes: HashMap<Box<[u128]>, Weak<ReadShape>>,
    keys: u64,
}

impl Interner {
    fn key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    fn schema(&mut self, schema: ReadSchema) -> Arc<ReadSchema> {
        if let Some(known) = self.schemas.get(&schema.fingerprint()).and_then(Weak::upgrade) {
            return known;
        }
        let schema = Arc::new(schema);
        self.schemas.insert(schema.fingerprint(), Arc::downgrade(&schema));
        schema
    }

    fn shape(&mut self, schemas: Vec<Arc<ReadSchema>>) -> Arc<ReadShape> {
        let content: Box<[u128]> = schemas.iter().map(|s| s.fingerprint()).collect();
        if let Some(known) = self.shapes.get(&content).and_then(Weak::upgrade) {
            return known;
        }
        let shape = Arc::new(ReadShape::new(self.key(), schemas));
        self.shapes.insert(content, Arc::downgrade(&shape));
        shape
    }

    /// Forgets what nobody holds any more.
    pub fn prune(&mut self) {
        self.schemas.retain(|_, s| s.strong_count() > 0);
        self.shapes.retain(|_, s| s.strong_count() > 0);
    }
}

#[derive(Debug)]
struct TargetState {
    target: ReadTarget,
    /// Shape of `values`; `NO_SHAPE` when the next scrape is coded against zero.
    shape: u32,
    values: Box<[f64]>,
}

const _: () = assert!(size_of::<TargetState>() == 56, "a million of them");

const NO_SHAPE: u32 = u32::MAX;

#[derive(Debug)]
struct ShapeState {
    shape: Arc<ReadShape>,
    parts: Box<[Part]>,
}

/// What a segment's frames so far have established.
#[derive(Debug, Default)]
pub struct Frames {
    schemas: Vec<Arc<ReadSchema>>,
    shapes: Vec<ShapeState>,
    targets: Vec<TargetState>,
    /// Explicit times of the last scrape event.
    pub times: Vec<(u32, i64)>,
    /// Slots of the last stale event.
    pub slots: Vec<u32>,
    /// Bytes of dictionary frames taken.
    pub dictionary_bytes: u64,
    /// Bytes of scrape and stale frames taken.
    pub sample_bytes: u64,
}

/// Frames of one batch that are still to come.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Offset in the buffer.
    pub at: usize,
    /// Frames left.
    pub frames: u32,
    /// What times count from.
    pub base_ms: i64,
    /// Target of the last event in the batch.
    pub previous_target: u32,
    /// Offset in the segment of the buffer's first byte.
    pub offset: u64,
}

/// One event, by the ids of the segment.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Target id.
    pub target: u32,
    /// Shape id.
    pub shape: u32,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// Markers, not values.
    pub is_stale: bool,
    /// Bytes back to the target's previous frame in the segment; 0 for none.
    pub distance: u64,
}

/// What does not fit in a frame whose bytes are intact.
pub type Misfit = &'static str;

impl Frames {
    /// Starts a segment.
    pub fn clear(&mut self) {
        for target in self.targets.iter().filter(|t| t.shape != NO_SHAPE) {
            self.shapes[target.shape as usize].shape.leave();
        }
        *self =
            Self { times: std::mem::take(&mut self.times), slots: std::mem::take(&mut self.slots), ..Self::default() };
    }

    /// The target of an event.
    #[must_use]
    pub fn target(&self, id: u32) -> &ReadTarget {
        &self.targets[id as usize].target
    }

    /// The shape of an event.
    #[must_use]
    pub fn shape(&self, id: u32) -> &Arc<ReadShape> {
        &self.shapes[id as usize].shape
    }

    /// Values of a target's last scrape.
    #[must_use]
    pub fn values(&self, target: u32) -> &[f64] {
        &self.targets[target as usize].values
    }

    /// Targets seen in the segment.
    #[must_use]
    pub fn target_count(&self) -> usize {
        self.targets.len()
    }

    /// Schemas of the segment.
    #[must_use]
    pub fn schemas(&self) -> &[Arc<ReadSchema>] {
        &self.schemas
    }

    /// Takes frames up to and including the next event; `None` at the end of the batch. `payload` is the batch's
    /// payload and [`PADDING_BYTES`] bytes more.
    ///
    /// # Errors
    /// What does not fit; the segment cannot be read on.
    pub fn next(
        &mut self,
        interner: &mut Interner,
        payload: &[u8],
        place: &mut Place,
    ) -> Result<Option<Found>, Misfit> {
        while place.frames > 0 {
            let start = place.at;
            let (plain, _) = payload.split_at(payload.len() - PADDING_BYTES);
            let mut w = Walk::new(plain, start);
            let first = w.byte().ok_or("a frame is missing")?;
            place.frames -= 1;
            let found = match first & KIND_MASK {
                KIND_SCRAPE => Some(self.scrape(first, &mut w, payload, place)?),
                KIND_STALE => Some(self.stale(first, &mut w, place)?),
                KIND_SCHEMAS => self.add_schemas(interner, first, &mut w).map(|()| None)?,
                KIND_TARGET => {
                    self.add_target(interner, first, &mut w).ok_or("a target frame does not fit").map(|()| None)?
                }
                KIND_SHAPE => self.add_shape(interner, &mut w).ok_or("a shape frame does not fit").map(|()| None)?,
                KIND_LATER.. => w.count().and_then(|n| w.take(n)).ok_or("a frame is cut short").map(|_| None)?,
                _ => return Err("a frame of no kind"),
            };
            place.at = w.at;
            if place.frames == 0 && w.rest() > 0 {
                return Err("bytes after the last frame");
            }
            let bytes = (w.at - start) as u64;
            if found.is_some() {
                self.sample_bytes += bytes;
                return Ok(found);
            }
            self.dictionary_bytes += bytes;
        }
        Ok(None)
    }

    fn add_schemas(&mut self, interner: &mut Interner, first: u8, w: &mut Walk<'_>) -> Result<(), Misfit> {
        let (id, schemas) = take_schemas(first, w).ok_or("a schema frame does not fit")?;
        if id as usize != self.schemas.len() {
            return Err("schema ids are not consecutive");
        }
        self.schemas.extend(schemas.into_iter().map(|s| interner.schema(s)));
        Ok(())
    }

    fn add_target(&mut self, interner: &mut Interner, first: u8, w: &mut Walk<'_>) -> Option<()> {
        let id = w.varint()?;
        let count = w.count()?;
        let labels = if first & FLAG_LABELS == 0 { count } else { w.count()? };
        let variables: TextList = (0..count).map(|_| w.text()).collect::<Option<_>>()?;
        let fingerprint = variables_fingerprint(variables.iter().take(labels));
        let target = ReadTarget { key: interner.key(), variables, fingerprint };
        (id == self.targets.len() as u64).then_some(())?;
        self.targets.push(TargetState { target, shape: NO_SHAPE, values: Box::default() });
        Some(())
    }

    fn add_shape(&mut self, interner: &mut Interner, w: &mut Walk<'_>) -> Option<()> {
        let id = w.varint()?;
        let count = w.count()?;
        let mut schemas = Vec::with_capacity(count);
        let mut parts = Vec::with_capacity(count);
        let mut expected = 0i64;
        for _ in 0..count {
            let schema = expected.checked_add(w.signed()?)?;
            let known = self.schemas.get(usize::try_from(schema).ok()?)?;
            parts.push(Part { schema: schema as u32, slots: known.series_count() as u32 });
            schemas.push(known.clone());
            expected = schema + 1;
        }
        (id == self.shapes.len() as u64).then_some(())?;
        self.shapes.push(ShapeState { shape: interner.shape(schemas), parts: parts.into() });
        Some(())
    }

    /// Target, time, distance: what scrape and stale frames begin with.
    fn begin(&self, w: &mut Walk<'_>, place: &mut Place) -> Option<Found> {
        let step = w.signed()? as u32;
        let target = place.previous_target.wrapping_add(1).wrapping_add(step);
        let time_ms = place.base_ms.wrapping_add(w.signed()?);
        let distance = w.varint()?;
        place.previous_target = target;
        let known = self.targets.get(target as usize)?;
        Some(Found { target, shape: known.shape, time_ms, is_stale: false, distance })
    }

    fn scrape(&mut self, first: u8, w: &mut Walk<'_>, payload: &[u8], place: &mut Place) -> Result<Found, Misfit> {
        let mut found = self.begin(w, place).ok_or("a scrape of an unknown target")?;
        let state = &mut self.targets[found.target as usize];
        if first & FLAG_SHAPE != 0 {
            let id = w.varint().and_then(|id| u32::try_from(id).ok()).ok_or("a scrape is cut short")?;
            let new = &self.shapes.get(id as usize).ok_or("a scrape of an unknown shape")?.parts;
            let old: &[Part] = if state.shape == NO_SHAPE { &[] } else { &self.shapes[state.shape as usize].parts };
            codes::reshape(&mut state.values, old, new);
            if state.shape != NO_SHAPE {
                self.shapes[state.shape as usize].shape.leave();
            }
            state.shape = id;
            found.shape = id;
            self.shapes[id as usize].shape.join();
        } else if state.shape == NO_SHAPE {
            return Err("a scrape without a shape");
        }
        self.times.clear();
        if first & FLAG_TIMES != 0 {
            take_times(w, &mut self.times, found.time_ms, state.values.len()).ok_or("explicit times do not fit")?;
        }
        let n = codes::decode(&mut state.values, &payload[w.at..]).ok_or("a column is cut short")?;
        w.at += n;
        Ok(found)
    }

    fn stale(&mut self, first: u8, w: &mut Walk<'_>, place: &mut Place) -> Result<Found, Misfit> {
        let mut found = self.begin(w, place).ok_or("markers of an unknown target")?;
        found.is_stale = true;
        let id = w.varint().and_then(|id| u32::try_from(id).ok()).ok_or("markers are cut short")?;
        found.shape = id;
        let slots = self.shapes.get(id as usize).ok_or("markers of an unknown shape")?.shape.series_count as u32;
        self.slots.clear();
        if first & FLAG_ALL != 0 {
            self.slots.extend(0..slots);
            let state = &mut self.targets[found.target as usize];
            if state.shape == id {
                state.shape = NO_SHAPE;
                state.values = Box::default();
                self.shapes[id as usize].shape.leave();
            }
        } else if first & FLAG_BITMAP != 0 {
            let bits = w.take((slots as usize).div_ceil(8)).ok_or("a bitmap is cut short")?;
            self.slots.extend((0..slots).filter(|s| bits[*s as usize / 8] >> (s % 8) & 1 != 0));
        } else {
            take_list(w, &mut self.slots, slots).ok_or("marked slots do not fit")?;
        }
        Ok(found)
    }
}

fn take_times(w: &mut Walk<'_>, times: &mut Vec<(u32, i64)>, time_ms: i64, slots: usize) -> Option<()> {
    let mut next = 0u64;
    for _ in 0..w.count()? {
        let slot = next.checked_add(w.varint()?)?;
        (slot < slots as u64).then_some(())?;
        times.push((slot as u32, time_ms.wrapping_add(w.signed()?)));
        next = slot + 1;
    }
    Some(())
}

fn take_list(w: &mut Walk<'_>, slots: &mut Vec<u32>, count: u32) -> Option<()> {
    let mut next = 0u64;
    for _ in 0..w.count()? {
        let slot = next.checked_add(w.varint()?)?;
        (slot < u64::from(count)).then_some(())?;
        slots.push(slot as u32);
        next = slot + 1;
    }
    Some(())
}
