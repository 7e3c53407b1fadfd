//! The sample log: what must be in it, what may, and what was seen.

use std::collections::HashMap;

use super::run::Finding;
use super::timeline::{SECOND, Timeline};
use crate::model::{ABSENT, STALE_NAN};
use crate::storage::journal::{Event, ReadShape, ReadTarget, Samples};

/// Number of a label set.
pub type SeriesId = u32;
/// Resent at most so much of what came before a crash: cursors are saved every second.
const RESENT_NS: u64 = 3 * SECOND;

/// Label sets as text, numbered.
#[derive(Debug, Default)]
pub struct Names {
    ids: HashMap<String, SeriesId>,
    texts: Vec<String>,
}

impl Names {
    /// The number of a label set given as sorted pairs.
    pub fn id<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> SeriesId {
        let mut text = String::new();
        for (name, value) in pairs.filter(|p| !p.1.is_empty()) {
            text.push_str(name);
            text.push('=');
            text.push_str(value);
            text.push('\n');
        }
        if let Some(&id) = self.ids.get(&text) {
            return id;
        }
        let id = self.texts.len() as SeriesId;
        self.texts.push(text.clone());
        self.ids.insert(text, id);
        id
    }

    fn show(&self, id: SeriesId) -> String {
        self.texts[id as usize].trim_end().replace('\n', ",")
    }
}

/// One sample: series, time in milliseconds, bits of the value.
pub type Sample = (SeriesId, i64, u64);

/// Whether a sample has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Yes.
    Must,
    /// It may be missing: it came too close to a crash, or to the end.
    May,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// How often it is written at least: a target's successor, and the next process, repeat explicit timestamps.
    must: u32,
    /// How often more it may be written.
    may: u32,
    /// When its scrape ended at the latest, monotonic.
    at: u64,
    kept: u32,
    received: u32,
}

/// Where a sample was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the journal, read from its start at the end.
    Journal,
    /// At the receiver.
    Receiver,
}

/// What is expected, and how often it was seen.
#[derive(Debug, Default)]
pub struct Log {
    /// Label sets.
    pub names: Names,
    entries: HashMap<Sample, Entry>,
    /// Series whose values are durations: any value will do.
    durations: std::collections::HashSet<SeriesId>,
    slots: HashMap<(Generation, u64, u64), Vec<SeriesId>>,
    /// The first sample seen that was not expected.
    surprise: Option<(Place, Sample)>,
    /// Samples seen in the journal.
    pub kept: u64,
    /// Samples seen by the receiver.
    pub received: u64,
}

/// Reader's generation: keys of shapes and targets are unique within one.
type Generation = u32;

impl Log {
    /// A series whose values nobody can foresee.
    pub fn is_duration(&mut self, id: SeriesId) {
        self.durations.insert(id);
    }

    /// Expects a sample.
    pub fn expect(&mut self, (id, time_ms, bits): Sample, need: Need, at: u64) {
        let bits = self.bits(id, bits);
        let fresh = Entry { must: 0, may: 0, at, kept: 0, received: 0 };
        let entry = self.entries.entry((id, time_ms, bits)).or_insert(fresh);
        *if need == Need::Must { &mut entry.must } else { &mut entry.may } += 1;
        entry.at = entry.at.max(at);
    }

    /// Number of expected samples.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.entries.len() as u64
    }

    fn bits(&self, id: SeriesId, bits: u64) -> u64 {
        if bits != STALE_NAN.to_bits() && self.durations.contains(&id) { 0 } else { bits }
    }

    /// Takes an event of reader `reader` (a number of its own for each reader).
    pub fn see(&mut self, place: Place, reader: u32, event: &Event<'_>) {
        let key = (reader, event.shape.key, event.target.key);
        let ids = match self.slots.remove(&key) {
            Some(ids) => ids,
            None => ids_of(&mut self.names, event.shape, event.target),
        };
        match event.samples {
            Samples::Values { values, times } => {
                let mut times = times.iter().peekable();
                for (slot, value) in values.iter().enumerate() {
                    let explicit = times.next_if(|t| t.0 as usize == slot).map(|t| t.1);
                    if value.to_bits() != ABSENT.to_bits() {
                        self.mark(place, (ids[slot], explicit.unwrap_or(event.time_ms), value.to_bits()));
                    }
                }
            }
            Samples::Stale { slots } => {
                for &slot in slots {
                    self.mark(place, (ids[slot as usize], event.time_ms, STALE_NAN.to_bits()));
                }
            }
        }
        self.slots.insert(key, ids);
    }

    fn mark(&mut self, place: Place, (id, time_ms, bits): Sample) {
        let sample = (id, time_ms, self.bits(id, bits));
        let total = if place == Place::Journal { &mut self.kept } else { &mut self.received };
        *total += 1;
        match self.entries.get_mut(&sample) {
            Some(entry) if place == Place::Journal => entry.kept += 1,
            Some(entry) => entry.received += 1,
            None => {
                self.surprise.get_or_insert((place, (id, time_ms, bits)));
            }
        }
    }

    /// Whether everything is as expected.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn verdict(&self, timeline: &Timeline) -> Result<(), Finding> {
        if let Some((place, sample)) = self.surprise {
            return Err(self.finding(&format!("not expected ({place:?})"), sample, timeline));
        }
        let is_just_back = (timeline.dead.from..=timeline.dead.until() + RESENT_NS).contains(&timeline.crash.from);
        let saved = if is_just_back { timeline.dead.from } else { timeline.crash.from };
        let mut wrong: Vec<(Sample, &Entry, &str)> = Vec::new();
        for (&sample, entry) in &self.entries {
            let resent = (entry.at + RESENT_NS >= saved) && entry.at <= timeline.crash.from + SECOND * 61;
            let most = entry.must + entry.may;
            let what = match entry {
                e if e.kept > most => "too often in the journal",
                e if e.received > most && !resent => "received too often, and not because of the crash",
                e if e.kept < e.must => "not in the journal",
                e if e.received < e.must => "not received",
                _ => continue,
            };
            wrong.push((sample, entry, what));
        }
        match wrong.iter().min_by_key(|w| (w.1.at, w.0)) {
            Some((sample, _, what)) => {
                Err(self.finding(&format!("{what} ({} samples are wrong)", wrong.len()), *sample, timeline))
            }
            None => Ok(()),
        }
    }

    fn finding(&self, what: &str, (id, time_ms, bits): Sample, timeline: &Timeline) -> Finding {
        let value = f64::from_bits(bits);
        let value = if bits == STALE_NAN.to_bits() { "stale".to_owned() } else { value.to_string() };
        let others: Vec<String> = self
            .entries
            .iter()
            .filter(|(s, _)| s.0 == id && (s.1 - time_ms).abs() < 130_000)
            .map(|(s, e)| format!("  {} {:?} {:?}", s.1, f64::from_bits(s.2), e))
            .collect();
        Finding(format!(
            "{what}: {{{}}} at {time_ms} ({:+} s) = {value}\nexpected near by:\n{}\n{timeline:?}",
            self.names.show(id),
            (time_ms - timeline.wall_ns(super::timeline::BEGIN) / 1_000_000) as f64 / 1e3,
            others.join("\n"),
        ))
    }
}

fn ids_of(names: &mut Names, shape: &ReadShape, target: &ReadTarget) -> Vec<SeriesId> {
    let mut ids = Vec::with_capacity(shape.series_count);
    shape.for_each(|_, labels| ids.push(names.id(labels.iter().map(|(name, value)| (name, target.text(value))))));
    ids
}
