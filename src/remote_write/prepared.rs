//! The uncompressed road: label bytes of a schema made once, holes for variables, values filled in per scrape.

use super::rewrite::{Rewrite, SentValue, text};
use crate::encoding::protobuf::{put_varint, tag_bytes, tag_fixed64, tag_varint, varint_len};
use crate::storage::journal::ReadSchema;

/// `WriteRequest.timeseries`, `TimeSeries.labels`, `Label.name`: all are field 1. prometheus: prompb/types.proto.
pub const FIRST: u8 = tag_bytes(1);
/// `Label.value`.
pub const LABEL_VALUE: u8 = tag_bytes(2);
const SAMPLES: u8 = tag_bytes(2);
const SAMPLE_VALUE: u8 = tag_fixed64(1);
const SAMPLE_TIME: u8 = tag_varint(2);
const NO_HOLE: u16 = u16::MAX;

/// One schema, rewritten for a destination, as protobuf bytes with holes.
#[derive(Debug)]
pub struct Prepared {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// By slot; `None` where the rules drop the series.
    series: Vec<Option<Series>>,
    dropped: usize,
}

#[derive(Debug)]
struct Series {
    parts: (u32, u32),
    fixed_bytes: u32,
}

/// Either finished label messages, or (with a hole) the name field of a label whose value is a variable.
#[derive(Debug)]
struct Part {
    bytes: (u32, u32),
    hole: u16,
}

/// A stretch of an encoded series that differs between targets or scrapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Eight bytes, little-endian, of this slot.
    Value(u32),
    /// The timestamp.
    Time,
    /// The text of this variable.
    Variable(u16),
}

/// Where marks are written down while encoding; the ordinary road writes none.
pub trait Marks {
    /// The bytes from `from` to `to` of the output are `mark`.
    fn mark(&mut self, mark: Mark, from: usize, to: usize);
}

impl Marks for () {
    fn mark(&mut self, _: Mark, _: usize, _: usize) {}
}

/// One sample of one slot.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Slot in the schema.
    pub slot: u32,
    /// As sent.
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
}

impl Prepared {
    /// Rewrites and encodes the labels of a schema. See [`Rewrite::series`] for `read`.
    #[must_use]
    pub fn new(schema: &ReadSchema, rewrite: &Rewrite, variables: &[&str], read: &[u16]) -> Self {
        let mut made = Self { bytes: Vec::new(), parts: Vec::new(), series: Vec::new(), dropped: 0 };
        schema.for_each(&mut Vec::new(), |_, labels| {
            let series = rewrite.series(labels, variables, read).map(|labels| made.append(&labels));
            made.dropped += usize::from(series.is_none());
            made.series.push(series);
        });
        made
    }

    fn append(&mut self, labels: &[(Box<str>, SentValue)]) -> Series {
        let first = self.parts.len() as u32;
        let mut fixed_bytes = 0;
        let mut run = self.bytes.len();
        for (name, value) in labels {
            let name_field = 1 + varint_len(name.len() as u64) + name.len();
            match value {
                SentValue::Text(value) => {
                    let inner = name_field + 1 + varint_len(value.len() as u64) + value.len();
                    self.bytes.push(FIRST);
                    put_varint(&mut self.bytes, inner as u64);
                    put_text(&mut self.bytes, FIRST, name);
                    put_text(&mut self.bytes, LABEL_VALUE, value);
                }
                SentValue::Var(n) => {
                    self.close_run(run, &mut fixed_bytes);
                    let from = self.bytes.len();
                    put_text(&mut self.bytes, FIRST, name);
                    run = self.bytes.len();
                    self.parts.push(Part { bytes: (from as u32, run as u32), hole: *n });
                }
            }
        }
        self.close_run(run, &mut fixed_bytes);
        Series { parts: (first, self.parts.len() as u32), fixed_bytes }
    }

    fn close_run(&mut self, from: usize, fixed_bytes: &mut u32) {
        let to = self.bytes.len();
        if from < to {
            self.parts.push(Part { bytes: (from as u32, to as u32), hole: NO_HOLE });
            *fixed_bytes += (to - from) as u32;
        }
    }

    /// Series that the rules drop.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.series.len()
    }

    /// Heap bytes, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.parts.len() * size_of::<Part>() + self.series.len() * size_of::<Option<Series>>()
    }

    /// Appends one `TimeSeries` field with one sample. Returns whether the series is sent at all.
    pub fn encode(&self, sample: Sample, variables: &[&str], out: &mut Vec<u8>, marks: &mut impl Marks) -> bool {
        let Some(series) = &self.series[sample.slot as usize] else { return false };
        let parts = &self.parts[series.parts.0 as usize..series.parts.1 as usize];
        let sample_bytes = sample_bytes(&sample);
        let labels_bytes: usize = series.fixed_bytes as usize
            + parts.iter().filter(|p| p.hole != NO_HOLE).map(|p| p.field_bytes(variables)).sum::<usize>();
        out.push(FIRST);
        put_varint(out, (labels_bytes + 1 + varint_len(sample_bytes as u64) + sample_bytes) as u64);
        for part in parts {
            let bytes = &self.bytes[part.bytes.0 as usize..part.bytes.1 as usize];
            if part.hole == NO_HOLE {
                out.extend_from_slice(bytes);
                continue;
            }
            let value = text(variables, part.hole);
            out.push(FIRST);
            put_varint(out, part.inner_bytes(value) as u64);
            out.extend_from_slice(bytes);
            put_text(out, LABEL_VALUE, value);
            marks.mark(Mark::Variable(part.hole), out.len() - value.len(), out.len());
        }
        put_sample(&sample, out, marks);
        true
    }
}

/// Bytes of a sample's message.
pub fn sample_bytes(sample: &Sample) -> usize {
    1 + 8 + 1 + varint_len(sample.time_ms as u64)
}

/// Appends the `TimeSeries.samples` field with one sample.
pub fn put_sample(sample: &Sample, out: &mut Vec<u8>, marks: &mut impl Marks) {
    out.push(SAMPLES);
    put_varint(out, sample_bytes(sample) as u64);
    out.push(SAMPLE_VALUE);
    out.extend_from_slice(&sample.value.to_le_bytes());
    marks.mark(Mark::Value(sample.slot), out.len() - 8, out.len());
    out.push(SAMPLE_TIME);
    let from = out.len();
    put_varint(out, sample.time_ms as u64);
    marks.mark(Mark::Time, from, out.len());
}

impl Part {
    fn inner_bytes(&self, value: &str) -> usize {
        (self.bytes.1 - self.bytes.0) as usize + 1 + varint_len(value.len() as u64) + value.len()
    }

    fn field_bytes(&self, variables: &[&str]) -> usize {
        let inner = self.inner_bytes(text(variables, self.hole));
        1 + varint_len(inner as u64) + inner
    }
}

fn put_text(out: &mut Vec<u8>, tag: u8, text: &str) {
    out.push(tag);
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}
