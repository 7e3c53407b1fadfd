//! The road of label sets that nobody shares: from the journal's form to protobuf each time, nothing kept.
//!
//! Keeping pieces of every unshared series would cost more memory than the journal's own form of them; encoding afresh
//! costs about 100 ns a sample. Only for destinations without write rules, which look at texts.

use std::iter::Peekable;

use super::prepared::{FIRST, LABEL_VALUE, Sample, put_sample, sample_bytes};
use super::rewrite::text;
use crate::encoding::protobuf::{put_varint, varint_len};
use crate::storage::journal::{ByteValue, ReadLabels, ReadSchema};

/// Labels that every series of a destination gets, in name order.
type External<'e> = &'e [(Box<str>, Box<str>)];

/// Buffers of the road.
#[derive(Debug, Default)]
pub struct Direct {
    plain: Vec<u8>,
    labels: Vec<u8>,
}

/// What [`Direct::encode`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Samples appended.
    pub samples: usize,
    /// Samples of series without any label.
    pub dropped: usize,
}

impl Direct {
    /// Appends the samples of one schema, ascending slots, as `TimeSeries` fields.
    pub fn encode(
        &mut self,
        schema: &ReadSchema,
        (external, variables): (External<'_>, &[&str]),
        samples: &mut Peekable<impl Iterator<Item = Sample>>,
        out: &mut Vec<u8>,
    ) -> Written {
        let mut written = Written::default();
        let encoded = &mut self.labels;
        schema.for_each(&mut self.plain, |slot, labels| {
            let Some(sample) = samples.next_if(|s| s.slot as usize == slot) else { return };
            encoded.clear();
            put_labels(labels, external, variables, encoded);
            if encoded.is_empty() {
                written.dropped += 1;
                return;
            }
            let sample_bytes = sample_bytes(&sample);
            out.push(FIRST);
            put_varint(out, (encoded.len() + 1 + varint_len(sample_bytes as u64) + sample_bytes) as u64);
            out.extend_from_slice(encoded);
            put_sample(&sample, out, &mut ());
            written.samples += 1;
        });
        written
    }
}

/// Both lists are sorted by name; a series' own label wins, unless its text is empty.
fn put_labels(labels: ReadLabels<'_>, external: External<'_>, variables: &[&str], out: &mut Vec<u8>) {
    let mut external = external.iter().peekable();
    for (name, value) in labels.bytes() {
        let value = match value {
            ByteValue::Text(text) => text,
            ByteValue::Var(n) => text(variables, n).as_bytes(),
        };
        if value.is_empty() {
            continue;
        }
        while let Some((n, v)) = external.next_if(|(n, _)| n.as_bytes() < name) {
            put_label(n.as_bytes(), v.as_bytes(), out);
        }
        external.next_if(|(n, _)| n.as_bytes() == name);
        put_label(name, value, out);
    }
    external.for_each(|(n, v)| put_label(n.as_bytes(), v.as_bytes(), out));
}

fn put_label(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let field = |bytes: &[u8]| 1 + varint_len(bytes.len() as u64) + bytes.len();
    out.push(FIRST);
    put_varint(out, (field(name) + field(value)) as u64);
    for (tag, bytes) in [(FIRST, name), (LABEL_VALUE, value)] {
        out.push(tag);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}
