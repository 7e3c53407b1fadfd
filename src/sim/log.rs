//! The sample log: what must be in it, what may, and what was seen.

use std::rc::Rc;

use super::run::Finding;
use super::timeline::{SECOND, Timeline};
use super::{HashMap, HashSet};
use crate::model::{ABSENT, STALE_NAN};
use crate::storage::journal::{Event, ReadShape, ReadTarget, Samples};

/// Number of a label set.
pub type SeriesId = u32;
/// Resent at most so much of what came before a crash: cursors are durable every 15 s, and what is noted in between is lost
/// with the power.
const RESENT_NS: u64 = 18 * SECOND;

/// Label sets as text, numbered.
#[derive(Debug, Default)]
pub struct Names {
    ids: HashMap<Rc<str>, SeriesId>,
    texts: Vec<Rc<str>>,
    scratch: String,
}

impl Names {
    /// The number of a label set given as sorted pairs.
    pub fn id<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> SeriesId {
        let text = &mut self.scratch;
        text.clear();
        for (name, value) in pairs.filter(|p| !p.1.is_empty()) {
            text.push_str(name);
            text.push('=');
            text.push_str(value);
            text.push('\n');
        }
        if let Some(&id) = self.ids.get(&**text) {
            return id;
        }
        let (id, text) = (self.texts.len() as SeriesId, Rc::<str>::from(&**text));
        self.texts.push(Rc::clone(&text));
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
    /// Time in milliseconds, and bits of the value: what it is found by.
    key: (i64, u64),
    /// How often it is written at least: a target's successor, and the next process, repeat explicit timestamps.
    must: u32,
    /// How often more it may be written.
    may: u32,
    /// When its scrape ended at the latest, monotonic.
    at: u64,
    kept: u32,
    received: u32,
}

/// What is expected of one series, by time and value.
#[derive(Clone, Debug, Default)]
struct Row {
    entries: Vec<Entry>,
    /// Where the next sample is looked for first: readers go through a row in order.
    next: [usize; 2],
}

impl Row {
    fn at(&self, key: (i64, u64)) -> Result<usize, usize> {
        match self.entries.last() {
            Some(last) if last.key >= key => self.entries.binary_search_by_key(&key, |e| e.key),
            _ => Err(self.entries.len()),
        }
    }

    fn see(&mut self, place: Place, key: (i64, u64)) -> Option<&mut Entry> {
        let next = &mut self.next[place as usize];
        if self.entries.get(*next).is_none_or(|e| e.key != key) {
            *next = self.entries.binary_search_by_key(&key, |e| e.key).ok()?;
        }
        *next += 1;
        Some(&mut self.entries[*next - 1])
    }
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
    /// By number of the series.
    rows: Vec<Row>,
    /// Series whose values are durations: any value will do.
    durations: HashSet<SeriesId>,
    slots: HashMap<(Generation, u64, u64), Rc<[SeriesId]>>,
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
        if self.rows.len() <= id as usize {
            self.rows.resize_with(id as usize + 1, Row::default);
        }
        let (row, key) = (&mut self.rows[id as usize], (time_ms, bits));
        let place = row.at(key).unwrap_or_else(|place| {
            row.entries.insert(place, Entry { key, must: 0, may: 0, at, kept: 0, received: 0 });
            place
        });
        let entry = &mut row.entries[place];
        *if need == Need::Must { &mut entry.must } else { &mut entry.may } += 1;
        entry.at = entry.at.max(at);
    }

    /// Number of expected samples.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.rows.iter().map(|r| r.entries.len() as u64).sum()
    }

    fn bits(&self, id: SeriesId, bits: u64) -> u64 {
        if bits != STALE_NAN.to_bits() && self.durations.contains(&id) { 0 } else { bits }
    }

    /// Takes an event of reader `reader` (a number of its own for each reader).
    pub fn see(&mut self, place: Place, reader: u32, event: &Event<'_>) {
        let key = (reader, event.shape.key, event.target.key);
        let names = &mut self.names;
        let ids = Rc::clone(self.slots.entry(key).or_insert_with(|| ids_of(names, event.shape, event.target)));
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
    }

    fn mark(&mut self, place: Place, (id, time_ms, bits): Sample) {
        let key = (time_ms, self.bits(id, bits));
        let total = if place == Place::Journal { &mut self.kept } else { &mut self.received };
        *total += 1;
        match self.rows.get_mut(id as usize).and_then(|row| row.see(place, key)) {
            Some(entry) if place == Place::Journal => entry.kept += 1,
            Some(entry) => entry.received += 1,
            None => {
                self.surprise.get_or_insert((place, (id, time_ms, bits)));
            }
        }
    }

    /// Whether every sample seen was expected.
    ///
    /// # Errors
    /// The first that was not.
    pub fn no_surprise(&self, timeline: &Timeline) -> Result<(), Finding> {
        match self.surprise {
            Some((place, sample)) => Err(self.finding(&format!("not expected ({place:?})"), sample, timeline)),
            None => Ok(()),
        }
    }

    /// Whether everything that had to happen until `t` has been received.
    ///
    /// # Errors
    /// The first thing that was not.
    pub fn all_received(&self, timeline: &Timeline, t: u64) -> Result<(), Finding> {
        let missing = self.entries().filter(|(_, e)| e.at <= t && e.received < e.must);
        match missing.min_by_key(|(sample, e)| (e.at, *sample)) {
            Some((sample, _)) => Err(self.finding(&format!("not received by {t}"), sample, timeline)),
            None => Ok(()),
        }
    }

    /// Whether everything is as expected.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn verdict(&self, timeline: &Timeline) -> Result<(), Finding> {
        self.no_surprise(timeline)?;
        let is_just_back = (timeline.dead.from..=timeline.dead.until() + RESENT_NS).contains(&timeline.crash.from);
        let saved = if is_just_back { timeline.dead.from } else { timeline.crash.from };
        let mut wrong: Vec<(Sample, &Entry, &str)> = Vec::new();
        for (sample, entry) in self.entries() {
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

    fn entries(&self) -> impl Iterator<Item = (Sample, &Entry)> {
        let rows = (0..).zip(&self.rows);
        rows.flat_map(|(id, row)| row.entries.iter().map(move |e| ((id, e.key.0, e.key.1), e)))
    }

    fn finding(&self, what: &str, (id, time_ms, bits): Sample, timeline: &Timeline) -> Finding {
        let value = f64::from_bits(bits);
        let value = if bits == STALE_NAN.to_bits() { "stale".to_owned() } else { value.to_string() };
        let others: Vec<String> = self
            .entries()
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

fn ids_of(names: &mut Names, shape: &ReadShape, target: &ReadTarget) -> Rc<[SeriesId]> {
    let mut ids = Vec::with_capacity(shape.series_count);
    shape.for_each(|_, labels| ids.push(names.id(labels.iter().map(|(name, value)| (name, target.text(value))))));
    ids.into()
}
