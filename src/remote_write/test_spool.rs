//! A journal in memory for tests, written while it is read.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::source::{Positions, Spool, Tail};
use crate::model::LabelValue;
use crate::storage::journal::{Cursor, Event, ReadError, ReadSchema, ReadShape, ReadTarget, Samples};

#[derive(Clone, Debug)]
pub struct OwnedEvent {
    segment: u64,
    target: ReadTarget,
    shape: Arc<ReadShape>,
    time_ms: i64,
    values: Vec<f64>,
}

/// Shards by name; cursors count events in `batch`.
#[derive(Clone, Debug, Default)]
pub struct MemorySpool {
    shards: Arc<Mutex<BTreeMap<u32, Vec<OwnedEvent>>>>,
    saved: Arc<Mutex<BTreeMap<String, Positions>>>,
}

pub struct MemoryTail {
    spool: MemorySpool,
    shard: u32,
    cursor: Cursor,
    current: Option<OwnedEvent>,
}

/// Series per scrape in these tests.
pub const SERIES: usize = 3;

impl MemorySpool {
    /// The same journal with the positions as they are now: what a crash leaves.
    pub fn crashed(&self) -> Self {
        let saved = self.saved.lock().expect("no panic").clone();
        Self { shards: Arc::clone(&self.shards), saved: Arc::new(Mutex::new(saved)) }
    }

    /// Whether any position was saved.
    pub fn has_positions(&self) -> bool {
        self.saved.lock().expect("no panic").values().any(|p| !p.is_empty())
    }

    /// A scrape of `SERIES` series `m0`.. of `instance`; values are `value`, `value + 1`, ..
    pub fn scrape(&self, shard: u32, segment: u64, instance: &str, time_ms: i64, value: f64) {
        let names: Vec<String> = (0..SERIES).map(|i| format!("m{i}")).collect();
        let labels = |name| [("__name__", LabelValue::Text(name)), ("instance", LabelValue::Var(0))];
        let series: Vec<_> = names.iter().map(|name| labels(name)).collect();
        let schema = Arc::new(ReadSchema::new(series.iter().map(<[_; 2]>::as_slice)));
        let shape = Arc::new(ReadShape::new(1, vec![schema]));
        let fingerprint = xxhash_rust::xxh64::xxh64(instance.as_bytes(), 0);
        let target = ReadTarget { key: fingerprint, variables: [instance].into_iter().collect(), fingerprint };
        let values = (0..SERIES).map(|i| value + i as f64).collect();
        let event = OwnedEvent { segment, target, shape, time_ms, values };
        self.shards.lock().expect("no panic").entry(shard).or_default().push(event);
    }
}

impl Spool for MemorySpool {
    type Tail = MemoryTail;

    fn shards(&self) -> Vec<u32> {
        self.shards.lock().expect("no panic").keys().copied().collect()
    }

    fn newest_segment(&self, shard: u32) -> Option<u64> {
        self.shards.lock().expect("no panic").get(&shard).and_then(|s| s.last()).map(|e| e.segment)
    }

    fn bytes_behind(&self, shard: u32, cursor: Cursor) -> u64 {
        self.shards.lock().expect("no panic").get(&shard).map_or(0, |s| s.len() as u64 - cursor.batch)
    }

    fn saved(&self, destination: &str) -> Positions {
        self.saved.lock().expect("no panic").get(destination).cloned().unwrap_or_default()
    }

    fn begin(&self, destination: &str, positions: &Positions) {
        self.saved.lock().expect("no panic").entry(destination.into()).or_default().extend(positions);
    }

    fn save(&self, destination: &str, positions: &Positions) {
        if let Some(saved) = self.saved.lock().expect("no panic").get_mut(destination) {
            saved.extend(positions);
        }
    }

    fn is_known(&self, destination: &str) -> bool {
        self.saved.lock().expect("no panic").contains_key(destination)
    }

    fn keep(&self, destinations: &[&str]) {
        let mut saved = self.saved.lock().expect("no panic");
        saved.retain(|d, _| destinations.contains(&d.as_str()));
        for d in destinations {
            saved.entry((*d).to_owned()).or_default();
        }
    }

    fn open(&self, shard: u32, from: Cursor) -> io::Result<MemoryTail> {
        let first = self.shards.lock().expect("no panic")[&shard].iter().position(|e| e.segment >= from.segment);
        let batch = from.batch.max(first.unwrap_or(0) as u64);
        let cursor = Cursor { segment: from.segment, batch, frame: 0 };
        Ok(MemoryTail { spool: self.clone(), shard, cursor, current: None })
    }
}

impl Tail for MemoryTail {
    fn next(&mut self) -> Result<Option<Event<'_>>, ReadError> {
        self.current =
            self.spool.shards.lock().expect("no panic")[&self.shard].get(self.cursor.batch as usize).cloned();
        let Some(event) = &self.current else { return Ok(None) };
        self.cursor = Cursor { segment: event.segment, batch: self.cursor.batch + 1, frame: 0 };
        let samples = Samples::Values { values: &event.values, times: &[] };
        Ok(Some(Event { target: &event.target, shape: &event.shape, time_ms: event.time_ms, samples }))
    }

    fn batch_ms(&mut self) -> Result<Option<i64>, ReadError> {
        let shards = self.spool.shards.lock().expect("no panic");
        Ok(shards[&self.shard].get(self.cursor.batch as usize).map(|e| e.time_ms))
    }

    fn cursor(&self) -> Cursor {
        self.cursor
    }
}
