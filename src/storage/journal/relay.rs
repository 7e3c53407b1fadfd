//! Frames of a segment that ended early, told again as frames of a new one: decoded and encoded anew.

use super::codes::PADDING_BYTES;
use super::column::Column;
use super::dictionary::variables_fingerprint;
use super::event::ReadTarget;
use super::files::SegmentFile;
use super::format::{self, BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchHeader, HEADER_BYTES};
use super::frames::{Found, Frames, Interner, Place};
use super::schema::{ReadSchema, ReadShape};
use super::writer::{Batch, Row, Slots, Writer};
use crate::base::time::Now;
use crate::model::{LabelValue, Schema, Shape, next_key};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// What was decoded does not fit: bytes that are not what the writer wrote.
pub type Misfit = &'static str;

/// Takes the batches of one segment and gives batches of another one. Lives from the failure of a file until the shard's
/// writer has left that segment. Memory: what a reader of the segment needs (its dictionary, 8 bytes a slot), and once more
/// 8 bytes a slot of the targets told again.
#[derive(Debug)]
pub struct Relay {
    /// The writer's count of the segment whose batches are taken.
    pub from: u32,
    decoder: Decoder,
    teller: Teller,
}

impl Relay {
    /// A relay for what follows the first `end` bytes of a segment, which are read through: frames lean on those before.
    ///
    /// # Errors
    /// The system's; `InvalidData` for bytes that are not what the writer wrote.
    pub fn begin(file: &mut dyn SegmentFile, end: u64, (from, seed): (u32, u32), to: Writer) -> io::Result<Self> {
        let mut decoder = Decoder::default();
        let mut at = HEADER_BYTES as u64;
        while at < end {
            let mut head = [0u8; BATCH_HEADER_BYTES];
            file.read_at(&mut head, at)?;
            let header = BatchHeader::decode(&head).filter(|h| (h.payload_bytes as usize) <= BATCH_BYTES_MAX);
            let header = header.ok_or_else(|| bad("a batch is missing"))?;
            let bytes = BATCH_HEADER_BYTES + header.payload_bytes as usize;
            if at + bytes as u64 > end {
                return Err(bad("a batch is cut short"));
            }
            decoder.batch.resize(bytes, 0);
            file.read_at(&mut decoder.batch, at)?;
            if !format::is_intact(&decoder.batch, seed, at) {
                return Err(bad("a checksum does not match"));
            }
            decoder.enter(header);
            while decoder.next().map_err(bad)?.is_some() {}
            at += bytes as u64;
        }
        Ok(Self { from, decoder, teller: Teller::new(to) })
    }

    /// The writer's count of the segment that is told now.
    #[must_use]
    pub fn to(&self) -> u32 {
        self.teller.writer.ordinal()
    }

    /// Goes on telling where another relay has got to, which is used up.
    pub fn continue_in(&mut self, other: Relay) {
        self.teller = other.teller;
        // Its targets have their ids from another dictionary; known ones are introduced once more.
        self.teller.columns.clear();
        self.teller.shapes.clear();
    }

    /// Tells one batch; what comes of it goes to `out`.
    ///
    /// # Errors
    /// What does not fit; nothing that comes after it can be told either.
    pub fn tell(&mut self, batch: &Batch, now: Now, out: &mut Vec<Batch>) -> Result<(), Misfit> {
        self.decoder.batch.clear();
        self.decoder.batch.extend_from_slice(&batch.bytes);
        let head = batch.bytes.first_chunk().and_then(BatchHeader::decode).ok_or("a batch is missing")?;
        self.decoder.enter(head);
        self.teller.writer.tell_time(head.base_ms);
        let mut shapes = HashMap::new();
        while let Some(found) = self.decoder.next()? {
            let frames = &self.decoder.frames;
            let shape = shapes.entry(found.shape).or_insert_with(|| self.teller.shape(frames.shape(found.shape)));
            self.teller.tell(frames, &found, shape);
            if self.teller.writer.due_at() == Some(0) {
                out.extend(self.teller.writer.flush(now));
            }
        }
        out.extend(self.teller.writer.flush(now));
        Ok(())
    }
}

fn bad(what: Misfit) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[derive(Debug)]
struct Decoder {
    frames: Frames,
    interner: Interner,
    /// Header, payload and padding.
    batch: Vec<u8>,
    place: Place,
}

impl Default for Decoder {
    fn default() -> Self {
        let place = Place { at: 0, frames: 0, base_ms: 0, previous_target: u32::MAX, offset: 0 };
        Self { frames: Frames::default(), interner: Interner::default(), batch: Vec::new(), place }
    }
}

impl Decoder {
    /// Stands before the first frame of `batch`, which is header and payload.
    fn enter(&mut self, header: BatchHeader) {
        self.batch.resize(self.batch.len() + PADDING_BYTES, 0);
        let (frames, base_ms) = (header.frames, header.base_ms);
        self.place = Place { at: BATCH_HEADER_BYTES, frames, base_ms, previous_target: u32::MAX, offset: 0 };
    }

    fn next(&mut self) -> Result<Option<Found>, Misfit> {
        self.frames.next(&mut self.interner, &self.batch, &mut self.place)
    }
}

#[derive(Debug)]
struct Teller {
    writer: Writer,
    /// By target id of what is decoded.
    columns: HashMap<u32, Column>,
    /// Keys by what a schema says, and by key of the decoded shape.
    schemas: HashMap<u128, u64>,
    shapes: HashMap<u64, u64>,
}

impl Teller {
    fn new(writer: Writer) -> Self {
        Self { writer, columns: HashMap::new(), schemas: HashMap::new(), shapes: HashMap::new() }
    }

    fn tell(&mut self, frames: &Frames, found: &Found, shape: &Rc<Shape>) {
        let target: &ReadTarget = frames.target(found.target);
        let variables = target.variables.iter();
        let column = self.columns.entry(found.target).or_insert_with(|| column_of(target));
        if found.is_stale {
            self.writer.stale(column, variables, (shape, found.time_ms), Slots::Some(&frames.slots));
        } else {
            let values = frames.values(found.target);
            let row = Row { shape, time_ms: found.time_ms, values, times: &frames.times };
            self.writer.scrape(column, variables, &row);
        }
    }

    /// The shape as the writer takes it; equal shapes have equal keys.
    fn shape(&mut self, read: &ReadShape) -> Rc<Shape> {
        let key = *self.shapes.entry(read.key).or_insert_with(next_key);
        let schemas = read.schemas.iter().map(|schema| {
            let key = *self.schemas.entry(schema.fingerprint()).or_insert_with(next_key);
            Rc::new(ToldSchema { key, schema: schema.clone() }) as Rc<dyn Schema>
        });
        Rc::new(Shape::with_key(key, schemas.collect()))
    }
}

/// A column for a target that is told again: as many of its variables are labels as its fingerprint is of.
fn column_of(target: &ReadTarget) -> Column {
    let count = target.variables.iter().count();
    let is_of = |labels: &usize| variables_fingerprint(target.variables.iter().take(*labels)) == target.fingerprint;
    let mut column = Column::default();
    column.set_labels((1..count).find(is_of).unwrap_or(0));
    column
}

/// A decoded schema, for a writer.
#[derive(Debug)]
struct ToldSchema {
    key: u64,
    schema: Arc<ReadSchema>,
}

impl Schema for ToldSchema {
    fn key(&self) -> u64 {
        self.key
    }

    fn series_count(&self) -> usize {
        self.schema.series_count()
    }

    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)])) {
        self.schema.for_each(&mut Vec::new(), |_, labels| each(&labels.iter().collect::<Vec<_>>()));
    }
}
