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
const FILE: &str = "cursors.json";

/// Cursors by (destination, shard directory). Senders set them, the disk thread saves them at most every second: a
/// crash repeats at most that much (at least once, never lost).
#[derive(Debug, Default)]
pub struct Cursors {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_destination: BTreeMap<String, BTreeMap<u32, Cursor>>,
    is_dirty: bool,
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
