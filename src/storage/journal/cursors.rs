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

/// Cursors by (destination, shard directory). Senders set them, the disk thread saves them at most every second: a
/// crash repeats at most that much (at least once, never lost).
#[derive(Debug, Default)]
pub struct Cursors {
    state: Mutex<State>,
    saving: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    by_destination: BTreeMap<String, BTreeMap<u32, Cursor>>,
    is_dirty: bool,
    /// The file could not be read, and nobody has said since which destinations there are.
    are_lost: bool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
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
        Saved { version: 1, destinations: self.by_destination.keys().cloned().collect(), cursors: cursors.collect() }
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
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(e),
        };
        let saved: Saved = serde_json::from_slice(&text)?;
        if saved.version != 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "cursors of another version"));
        }
        let all = Self::default();
        let names: Vec<&str> = saved.destinations.iter().map(String::as_str).collect();
        all.keep(&names);
        for c in saved.cursors {
            all.set(&c.destination, c.shard, Cursor { segment: c.segment, batch: c.batch, frame: c.frame });
        }
        entered(all.state.lock()).is_dirty = false;
        Ok(all)
    }

    /// Those of a journal whose file cannot be read.
    #[must_use]
    pub fn lost() -> Self {
        Self { state: Mutex::new(State { are_lost: true, ..State::default() }), saving: Mutex::default() }
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
            Some(shards) => state.is_dirty |= shards.insert(shard, cursor) != Some(cursor),
            None => {
                state.by_destination.insert(destination.to_owned(), BTreeMap::from([(shard, cursor)]));
                state.is_dirty = true;
            }
        }
    }

    /// The same for several shards of a destination that exists; nothing for one that does not.
    pub fn advance(&self, destination: &str, positions: &BTreeMap<u32, Cursor>) {
        let mut state = entered(self.state.lock());
        let State { by_destination, is_dirty, .. } = &mut *state;
        let Some(shards) = by_destination.get_mut(destination) else { return };
        for (&shard, &cursor) in positions {
            *is_dirty |= shards.insert(shard, cursor) != Some(cursor);
        }
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
        state.is_dirty |= is_changed;
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
        state.is_dirty |= is_changed;
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
        state.is_dirty |= is_changed;
    }

    /// Saves when something changed.
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
            state.to_saved()
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let all = Cursors::lost();
        assert!(all.knows("a"));
        all.keep(&["a"]);
        assert!(all.knows("a") && !all.knows("b"), "from then on it is known which there are");
    }
}
