//! Schemas as bytes: each series front coded against the one before, a run of schemas compressed together.

use super::format::{FLAG_SNAPPY, KIND_SCHEMAS, Walk, put_varint};
use super::schema::{Coder, ReadSchema};
use crate::model::Schema;
use md5::{Digest, Md5};
use std::rc::Rc;

/// Plain bytes after which a run of schemas is closed into a frame, so that no frame's dictionary grows without bound.
const RUN_BYTES: usize = 256 << 10;

/// Collects schemas into frames.
#[derive(Debug, Default)]
pub struct SchemaRun {
    first_id: u32,
    count: u32,
    body: Vec<u8>,
    coder: Coder,
}

impl SchemaRun {
    /// Starts a run; schemas added get ids from `first_id` on.
    pub fn start(&mut self, first_id: u32) {
        self.first_id = first_id;
        self.count = 0;
        self.body.clear();
        self.coder.restart();
    }

    /// Adds a schema, and closes the frame into `out` when it is large enough. Returns the frames written.
    pub fn add(&mut self, schema: &Rc<dyn Schema>, out: &mut Vec<u8>) -> u32 {
        put_varint(&mut self.body, schema.series_count() as u64);
        let mut series_count = 0;
        schema.for_each(&mut |labels| {
            self.coder.add(labels, &mut self.body);
            series_count += 1;
        });
        assert_eq!(series_count, schema.series_count(), "a schema walks over as many series as it counts");
        self.count += 1;
        if self.body.len() > RUN_BYTES { self.close(out) } else { 0 }
    }

    /// Writes what was added as a frame; nothing when nothing was. Returns the frames written.
    pub fn close(&mut self, out: &mut Vec<u8>) -> u32 {
        if self.count == 0 {
            return 0;
        }
        // Compression only fails above 4 GiB, far beyond a run; the plain body is the answer then too.
        let packed = snap::raw::Encoder::new().compress_vec(&self.body).unwrap_or_default();
        let smaller = !packed.is_empty() && packed.len() < self.body.len();
        let body = if smaller { &packed } else { &self.body };
        out.push(KIND_SCHEMAS | if smaller { FLAG_SNAPPY } else { 0 });
        put_varint(out, u64::from(self.first_id));
        put_varint(out, u64::from(self.count));
        put_varint(out, body.len() as u64);
        out.extend_from_slice(body);
        self.start(self.first_id + self.count);
        1
    }
}

/// Reads the rest of a schemas frame (after its first byte): the first id, and the schemas in id order.
pub fn take_schemas(first: u8, w: &mut Walk<'_>) -> Option<(u32, Vec<ReadSchema>)> {
    let first_id = u32::try_from(w.varint()?).ok()?;
    let count = usize::try_from(w.varint()?).ok()?;
    let body_bytes = w.count()?;
    let body = w.take(body_bytes)?;
    let unpacked;
    let plain = if first & FLAG_SNAPPY != 0 {
        // A snappy element of three bytes stands for at most 64, so a larger claim is damage, not data.
        let claimed = snap::raw::decompress_len(body).ok()?;
        if claimed > body.len().saturating_mul(32) {
            return None;
        }
        unpacked = snap::raw::Decoder::new().decompress_vec(body).ok()?;
        &unpacked[..]
    } else {
        body
    };
    let mut plain = Walk::new(plain, 0);
    let mut previous = Vec::new();
    let mut schemas = Vec::with_capacity(count.min(plain.rest()));
    for _ in 0..count {
        let series_count = plain.count()?;
        schemas.push(ReadSchema::take(series_count, &mut plain, &mut previous)?);
    }
    (plain.rest() == 0).then_some((first_id, schemas))
}

/// Fingerprint of a target's variables.
#[must_use]
pub fn variables_fingerprint<'a>(variables: impl Iterator<Item = &'a str>) -> u64 {
    let mut digest = Md5::new();
    for v in variables {
        digest.update((v.len() as u64).to_le_bytes());
        digest.update(v.as_bytes());
    }
    let all: [u8; 16] = digest.finalize().into();
    u64::from_le_bytes(std::array::from_fn(|i| all[i]))
}
