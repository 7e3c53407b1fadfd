//! A request being filled: events as self-contained compressed pieces, so that any subset is a request too.

use hyper::body::Bytes;

use super::encoder::Encoded;
use crate::encoding::snappy::put_header;
use crate::storage::journal::{Cursor, ReadTarget};

/// Length of a header: a varint of less than 4 GiB.
const HEADER_BYTES_MAX: usize = 5;

/// One event in a request.
#[derive(Clone, Debug)]
pub struct Part {
    /// Whose.
    pub target: ReadTarget,
    /// Of the event.
    pub time_ms: i64,
    /// Samples in it.
    pub samples: usize,
    raw_bytes: usize,
    from: usize,
    to: usize,
}

/// Events of whole targets, in journal order.
#[derive(Debug)]
pub struct Request {
    /// Room for the header, then the pieces; moves to `sealed`.
    filling: Vec<u8>,
    sealed: Bytes,
    /// Where the header begins in `sealed`.
    header_at: usize,
    parts: Vec<Part>,
    samples: usize,
    raw_bytes: usize,
    firsts: Vec<(usize, Cursor)>,
    opened_ns: u64,
    replay: bool,
}

impl Request {
    /// Empty, opened now (monotonic). `replay`: its events may have been delivered before a stop. `filling` is the
    /// buffer for it.
    #[must_use]
    pub fn new(opened_ns: u64, replay: bool, mut filling: Vec<u8>) -> Self {
        filling.clear();
        filling.resize(HEADER_BYTES_MAX, 0);
        Self {
            filling,
            sealed: Bytes::new(),
            header_at: 0,
            parts: Vec::new(),
            samples: 0,
            raw_bytes: 0,
            firsts: Vec::new(),
            opened_ns,
            replay,
        }
    }

    /// Adds the event that `encode` appends; nothing, when it has no sample. `source` and `cursor` tell which reader
    /// stood where before the event.
    pub fn push(
        &mut self,
        target: &ReadTarget,
        time_ms: i64,
        (source, cursor): (usize, Cursor),
        encode: impl FnOnce(&mut Vec<u8>) -> Encoded,
    ) -> Encoded {
        assert!(self.sealed.is_empty(), "a sealed request takes no more events");
        let from = self.filling.len();
        let encoded = encode(&mut self.filling);
        if encoded.samples == 0 {
            self.filling.truncate(from);
            return encoded;
        }
        if !self.firsts.iter().any(|f| f.0 == source) {
            self.firsts.push((source, cursor));
        }
        let Encoded { samples, raw_bytes, .. } = encoded;
        let to = self.filling.len();
        self.parts.push(Part { target: target.clone(), time_ms, samples, raw_bytes, from, to });
        self.samples += samples;
        self.raw_bytes += raw_bytes;
        encoded
    }

    /// The events.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Samples in all events.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Uncompressed bytes.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Monotonic nanoseconds.
    #[must_use]
    pub fn opened_ns(&self) -> u64 {
        self.opened_ns
    }

    /// Whether a refusal may mean "I have that already".
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.replay
    }

    /// Whether an event of this target is in it.
    #[must_use]
    pub fn holds(&self, target: &ReadTarget) -> bool {
        self.parts.iter().any(|p| p.target.fingerprint == target.fingerprint)
    }

    /// Where reader `source` stood before its first event in here.
    #[must_use]
    pub fn first(&self, source: usize) -> Option<Cursor> {
        self.firsts.iter().find(|f| f.0 == source).map(|f| f.1)
    }

    /// Earliest event time, milliseconds.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.parts.iter().map(|p| p.time_ms).min()
    }

    /// Ends the filling: from now on the body of all events is ready without a copy.
    pub fn seal(&mut self) {
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        put_header(&mut header, self.raw_bytes);
        self.header_at = HEADER_BYTES_MAX - header.len();
        self.filling[self.header_at..HEADER_BYTES_MAX].copy_from_slice(&header);
        self.sealed = std::mem::take(&mut self.filling).into();
    }

    /// The buffer of a sealed request, for another one; `None` while somebody still reads it.
    #[must_use]
    pub fn into_buffer(self) -> Option<Vec<u8>> {
        let mut buffer = self.sealed.try_into_mut().ok()?;
        buffer.clear();
        Some(buffer.into())
    }

    /// The body of a subset of the events of a sealed request.
    #[must_use]
    pub fn body_of(&self, parts: &[usize]) -> Bytes {
        assert!(!self.sealed.is_empty(), "only a sealed request has a body");
        if parts.len() == self.parts.len() {
            return self.sealed.slice(self.header_at..);
        }
        let parts = || parts.iter().map(|i| &self.parts[*i]);
        let mut body = Vec::with_capacity(HEADER_BYTES_MAX + parts().map(|p| p.to - p.from).sum::<usize>());
        put_header(&mut body, parts().map(|p| p.raw_bytes).sum());
        for part in parts() {
            body.extend_from_slice(&self.sealed[part.from..part.to]);
        }
        body.into()
    }

    /// Splits a subset by targets into two halves that keep the order of events; `None` when it has one target only.
    #[must_use]
    pub fn halves(&self, parts: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
        let mut targets: Vec<u64> = parts.iter().map(|i| self.parts[*i].target.fingerprint).collect();
        targets.sort_unstable();
        targets.dedup();
        if targets.len() < 2 {
            return None;
        }
        let middle = targets[targets.len() / 2];
        Some(parts.iter().partition(|i| self.parts[**i].target.fingerprint < middle))
    }
    /// At most `count` events of a subset of a replayed request, spread over it, one of each stretch as `random` has it (a fixed
    /// step could meet one shard's events only); and all the others.
    #[must_use]
    pub fn picked(&self, parts: &[usize], count: usize, mut random: impl FnMut() -> u64) -> (Vec<usize>, Vec<usize>) {
        assert!(self.replay, "elsewhere a target may have several events, which stay together");
        let count = count.min(parts.len());
        let stretches = (0..count).map(|i| (i * parts.len() / count)..((i + 1) * parts.len() / count));
        let picked: Vec<usize> =
            stretches.map(|s| parts[s.start + (random() % (s.end - s.start) as u64) as usize]).collect();
        let others = parts.iter().copied().filter(|part| !picked.contains(part)).collect();
        (picked, others)
    }
}
