//! How far each destination has got in each shard directory, kept across restarts.

use super::event::Cursor;
use super::files::Files;
use super::position::entered;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Mutex;

/// Name of the file under `<data>/journal`.
pub(super) const FILE: &str = "cursors.json";
/// The same, as it was at most a second ago, for the next process. The disk is not waited for, so a power loss may leave any
/// part of it, or an old one: it counts when it is whole, and newer than the other. First a line with checksum and length.
pub(super) const NOTE: &str = "cursors.last";

/// Cursors by (destination, shard directory). Senders set them, the disk thread notes them every second and saves them now and
/// then: a crash repeats at most that much (at least once, never lost).
#[derive(Debug, Default)]
pub struct Cursors {
    state: Mutex<State>,
    saving: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    by_destination: BTreeMap<String, BTreeMap<u32, Cursor>>,
    /// Of the last file or note; the next one has the next number.
    serial: u64,
    /// Changed since that was saved.
    is_dirty: bool,
    /// Changed since that was saved or noted.
    is_unnoted: bool,
    /// The file could not be read, and nobody has said since which destinations there are.
    are_lost: bool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    #[serde(default)]
    serial: u64,
    /// All, those without a cursor yet included: what is unsent is counted from the first moment on.
    destinations: Vec<String>,
    cursors: Vec<SavedCursor>,
}

#[derive(Serialize, Deserialize)]
struct SavedCursor {
    destination: String,
    shard: u32,
    segment: u64,
    batch: u64,
    frame: u32,
}

impl State {
    fn to_saved(&self) -> Saved {
        let each = self.by_destination.iter().flat_map(|(d, shards)| shards.iter().map(move |(s, c)| (d, s, c)));
        let cursors = each.map(|(destination, &shard, c)| SavedCursor {
            destination: destination.clone(),
            shard,
            segment: c.segment,
            batch: c.batch,
            frame: c.frame,
        });
        let (cursors, destinations) = (cursors.collect(), self.by_destination.keys().cloned().collect());
        Saved { version: 1, serial: self.serial, destinations, cursors }
    }

    fn change(&mut self, is_change: bool) {
        self.is_dirty |= is_change;
        self.is_unnoted |= is_change;
    }

    /// What is to be written now, under the next number.
    fn next_saved(&mut self) -> Saved {
        self.serial += 1;
        self.is_unnoted = false;
        self.to_saved()
    }
}

impl Cursors {
    /// Reads the cursors of an earlier process; none when there is no file.
    ///
    /// # Errors
    /// The system's, or `InvalidData` when the file is not one of ours.
    pub fn load(journal: &Path) -> io::Result<Self> {
        let text = match std::fs::read(journal.join(FILE)) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::after_note(journal, false)),
            Err(e) => return Err(e),
        };
        let mut saved: Saved = serde_json::from_slice(&text)?;
        if saved.version != 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "cursors of another version"));
        }
        if let Some(newer) = noted(journal).filter(|n| n.version == 1 && n.serial > saved.serial) {
            saved = newer;
        }
        let all = Self::default();
        let names: Vec<&str> = saved.destinations.iter().map(String::as_str).collect();
        all.keep(&names);
        for c in saved.cursors {
            all.set(&c.destination, c.shard, Cursor { segment: c.segment, batch: c.batch, frame: c.frame });
        }
        let mut state = entered(all.state.lock());
        (state.serial, state.is_dirty, state.is_unnoted) = (saved.serial, false, false);
        drop(state);
        Ok(all)
    }

    /// Those of a journal whose file cannot be read.
    #[must_use]
    pub fn lost(journal: &Path) -> Self {
        Self::after_note(journal, true)
    }

    /// None, for a journal without a good file. A note of before stays older than the next file: it is not gone by then either.
    fn after_note(journal: &Path, are_lost: bool) -> Self {
        let serial = noted(journal).map_or(0, |n| n.serial);
        Self { state: Mutex::new(State { serial, are_lost, ..State::default() }), saving: Mutex::default() }
    }

    /// Where a destination is to continue in a shard directory: the start of what is left when it is new there.
    #[must_use]
    pub fn get(&self, destination: &str, shard: u32) -> Cursor {
        let state = entered(self.state.lock());
        state.by_destination.get(destination).and_then(|c| c.get(&shard)).copied().unwrap_or_default()
    }

    /// Everything before `cursor` is acknowledged by the destination.
    pub fn set(&self, destination: &str, shard: u32, cursor: Cursor) {
        let mut state = entered(self.state.lock());
        match state.by_destination.get_mut(destination) {
            Some(shards) => {
                let is_change = shards.insert(shard, cursor) != Some(cursor);
                state.change(is_change);
            }
            None => {
                state.by_destination.insert(destination.to_owned(), BTreeMap::from([(shard, cursor)]));
                state.change(true);
            }
        }
    }

    /// The same for several shards of a destination that exists; nothing for one that does not.
    pub fn advance(&self, destination: &str, positions: &BTreeMap<u32, Cursor>) {
        let mut state = entered(self.state.lock());
        let Some(shards) = state.by_destination.get_mut(destination) else { return };
        let mut is_change = false;
        for (&shard, &cursor) in positions {
            is_change |= shards.insert(shard, cursor) != Some(cursor);
        }
        state.change(is_change);
    }

    /// Whether this or an earlier life has had a destination. Of any that is true as long as nobody can tell, so that
    /// everything is sent again and nothing is passed over.
    #[must_use]
    pub fn knows(&self, destination: &str) -> bool {
        let state = entered(self.state.lock());
        state.are_lost || state.by_destination.contains_key(destination)
    }

    /// Sets the cursors of a shard that stand past its segments to where the next one will begin: a power loss takes a segment
    /// that was read before it was durable, and the next one has its number, so that no gap looks like a loss. `newest` is
    /// the number of the newest segment that there is. Returns the number that the next one has at least, and whether a
    /// segment is gone that a cursor stood in: then the cursors must be saved before that number is used again.
    pub fn settle(&self, shard: u32, newest: u64) -> (u64, bool) {
        let mut state = entered(self.state.lock());
        let cursors = || state.by_destination.values().filter_map(|shards| shards.get(&shard));
        let next = cursors().map(|c| c.segment).max().unwrap_or(1);
        let is_gone = cursors().any(|c| c.segment > newest && (c.batch, c.frame) != (0, 0));
        let start = Cursor { segment: next, batch: 0, frame: 0 };
        let mut is_changed = false;
        for cursor in state.by_destination.values_mut().filter_map(|shards| shards.get_mut(&shard)) {
            if cursor.segment > newest && *cursor != start {
                *cursor = start;
                is_changed = true;
            }
        }
        state.change(is_changed);
        (next, is_gone)
    }

    /// The destinations that exist now. Others are forgotten, so that they hold no segment; new ones count as being
    /// at the start of every directory.
    pub fn keep(&self, destinations: &[&str]) {
        let mut state = entered(self.state.lock());
        let before = state.by_destination.len();
        state.by_destination.retain(|name, _| destinations.contains(&name.as_str()));
        let mut is_changed = state.by_destination.len() != before;
        for name in destinations {
            is_changed |= !state.by_destination.contains_key(*name);
            state.by_destination.entry((*name).to_owned()).or_default();
        }
        state.change(is_changed);
        state.are_lost = false;
    }

    /// All cursors, for retention.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, BTreeMap<u32, Cursor>> {
        entered(self.state.lock()).by_destination.clone()
    }

    /// A shard directory is gone.
    pub fn forget_shard(&self, shard: u32) {
        let mut state = entered(self.state.lock());
        let mut is_changed = false;
        for shards in state.by_destination.values_mut() {
            is_changed |= shards.remove(&shard).is_some();
        }
        state.change(is_changed);
    }

    /// Notes when something changed, without waiting for the disk.
    ///
    /// # Errors
    /// The system's; the next call tries again.
    pub fn note(&self, journal: &Path, files: &dyn Files) -> io::Result<()> {
        let _saving = entered(self.saving.lock());
        let noted = {
            let mut state = entered(self.state.lock());
            if !state.is_unnoted {
                return Ok(());
            }
            state.next_saved()
        };
        let done = serde_json::to_vec(&noted)
            .map_err(io::Error::from)
            .and_then(|text| files.overwrite(&journal.join(NOTE), &to_note(&text)));
        if done.is_err() {
            entered(self.state.lock()).is_unnoted = true;
        }
        done
    }

    /// Saves when something changed, durably.
    ///
    /// # Errors
    /// The system's; the next call tries again.
    pub fn save(&self, journal: &Path, files: &dyn Files) -> io::Result<()> {
        // One at a time: what a caller has set is in the file when this returns, whoever writes it.
        let _saving = entered(self.saving.lock());
        let saved = {
            let mut state = entered(self.state.lock());
            if !std::mem::take(&mut state.is_dirty) {
                return Ok(());
            }
            state.next_saved()
        };
        let done = serde_json::to_vec(&saved)
            .map_err(io::Error::from)
            .and_then(|text| files.replace(&journal.join(FILE), &text));
        if done.is_err() {
            entered(self.state.lock()).is_dirty = true;
        }
        done
    }
}

/// With what tells a whole note from a part of one, or one with the end of a longer one behind it.
fn to_note(text: &[u8]) -> Vec<u8> {
    let mut note = format!("{:08x} {}\n", crc32c::crc32c(text), text.len()).into_bytes();
    note.extend_from_slice(text);
    note
}

fn noted(journal: &Path) -> Option<Saved> {
    std::fs::read(journal.join(NOTE)).ok().and_then(|note| read_note(&note))
}

fn read_note(note: &[u8]) -> Option<Saved> {
    let head = note.iter().position(|&b| b == b'\n')?;
    let (crc, length) = std::str::from_utf8(&note[..head]).ok()?.split_once(' ')?;
    let (crc, length) = (u32::from_str_radix(crc, 16).ok()?, length.parse::<usize>().ok()?);
    let text = note[head + 1..].get(..length).filter(|text| crc32c::crc32c(text) == crc)?;
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::journal::SystemFiles;

    #[test]
    fn the_next_process_goes_by_the_note_when_it_is_whole_and_newer() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path();
        let loaded = || Cursors::load(journal).unwrap().get("a", 0);
        let all = Cursors::default();
        all.keep(&["a"]);
        all.save(journal, &SystemFiles).unwrap();
        for batch in [1_000_000_000, 7] {
            all.set("a", 0, at(3, batch, 1));
            all.note(journal, &SystemFiles).unwrap();
            assert_eq!(loaded(), at(3, batch, 1), "the end of a longer note is no part of it");
        }
        let whole = std::fs::read(journal.join(NOTE)).unwrap();
        let head = String::from_utf8_lossy(&whole).lines().next().unwrap().to_owned();
        let length: usize = head.split(' ').nth(1).unwrap().parse().unwrap();
        for cut in 0..head.len() + 1 + length {
            let mut torn = whole.clone();
            torn[cut] ^= 1;
            std::fs::write(journal.join(NOTE), &torn).unwrap();
            assert_eq!(loaded(), at(0, 0, 0), "byte {cut} is another");
            std::fs::write(journal.join(NOTE), &whole[..cut]).unwrap();
            assert_eq!(loaded(), at(0, 0, 0), "{cut} bytes");
        }
        all.set("a", 0, at(4, 1, 0));
        all.save(journal, &SystemFiles).unwrap();
        std::fs::write(journal.join(NOTE), &whole).unwrap();
        assert_eq!(loaded(), at(4, 1, 0), "an old note");
        let next = Cursors::load(journal).unwrap();
        next.set("a", 0, at(5, 1, 0));
        next.note(journal, &SystemFiles).unwrap();
        assert_eq!(loaded(), at(5, 1, 0), "numbers go on");
    }

    #[test]
    fn a_file_that_was_missing_or_damaged_is_newer_than_the_note_of_before() {
        for damaged in [None, Some("{")] {
            let dir = tempfile::tempdir().unwrap();
            let journal = dir.path();
            let first = Cursors::default();
            for batch in 1..9 {
                first.set("a", 0, at(500, batch, 0));
                first.note(journal, &SystemFiles).unwrap();
            }
            damaged.inspect(|text| std::fs::write(journal.join(FILE), text).unwrap());
            let next = Cursors::load(journal).unwrap_or_else(|_| Cursors::lost(journal));
            next.keep(&["a"]);
            next.save(journal, &SystemFiles).unwrap();
            // Nothing is acknowledged, so no other note comes before the next start.
            next.note(journal, &SystemFiles).unwrap();
            assert_eq!(Cursors::load(journal).unwrap().get("a", 0), at(0, 0, 0), "{damaged:?}");
        }
    }

    fn at(segment: u64, batch: u64, frame: u32) -> Cursor {
        Cursor { segment, batch, frame }
    }

    #[test]
    fn cursors_past_all_segments_go_to_the_start_of_the_next() {
        let all = Cursors::default();
        all.set("a", 0, at(11, 1226, 0));
        all.set("b", 0, at(11, 0, 0));
        all.set("c", 0, at(9, 700, 2));
        all.set("a", 1, at(5, 64, 0));
        assert_eq!(all.settle(0, 10), (11, true), "segment 11 was read and is gone");
        assert_eq!(["a", "b", "c"].map(|d| all.get(d, 0)), [at(11, 0, 0), at(11, 0, 0), at(9, 700, 2)]);
        assert_eq!(all.settle(0, 10), (11, false), "once");
        assert_eq!((all.settle(1, 5), all.get("a", 1)), ((5, false), at(5, 64, 0)), "segment 5 is there");
    }

    #[test]
    fn cursors_at_the_start_of_what_comes_next_stay() {
        let all = Cursors::default();
        assert_eq!(all.settle(0, 0), (1, false), "no cursor");
        all.keep(&["a"]);
        all.set("a", 0, at(12, 0, 0));
        assert_eq!(all.settle(0, 11), (12, false), "all is read");
        assert_eq!(all.settle(0, 0), (12, false), "and deleted");
        all.set("a", 0, at(0, 0, 0));
        assert_eq!((all.settle(0, 0), all.get("a", 0)), ((0, false), at(0, 0, 0)), "new there");
    }

    #[test]
    fn a_destination_that_is_gone_stays_gone() {
        let all = Cursors::default();
        all.keep(&["a", "b"]);
        all.advance("a", &BTreeMap::from([(0, at(3, 64, 1))]));
        all.keep(&["b"]);
        all.advance("a", &BTreeMap::from([(0, at(3, 99, 0))]));
        assert!(!all.knows("a") && all.knows("b"));
        assert_eq!(all.all().len(), 1, "its sender ends later than it");
    }

    #[test]
    fn with_lost_cursors_no_destination_is_new() {
        let all = Cursors::lost(Path::new("none"));
        assert!(all.knows("a"));
        all.keep(&["a"]);
        assert!(all.knows("a") && !all.knows("b"), "from then on it is known which there are");
    }
}
