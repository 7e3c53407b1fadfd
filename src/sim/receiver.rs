//! The receiver's side: reads the journal as a sender does, and goes on where the saved cursor says.

use std::io;

use super::log::{Log, Place};
use super::script::{SHARDS, Script};
use super::{HashMap, HashSet};
use crate::storage::journal::{Disk, Reader, Samples};

/// Its name among the cursors.
const NAME: &str = "receiver";

/// One process's sender and what it sent to.
#[derive(Debug)]
pub struct Receiver {
    /// With a number for each, unique in the simulation.
    readers: Vec<(u32, Reader)>,
    /// Events to pass over: a bug on purpose.
    skips: u32,
    /// Time of the last scrape by fingerprint of the target's variables, milliseconds.
    last_ms: HashMap<u64, i64>,
    /// Addresses with a successor of equal labels: both may be scraped at once.
    shared: HashSet<String>,
}

impl Receiver {
    /// Continues at the saved cursors. `process` counts processes; `skips` events are passed over by mistake.
    ///
    /// # Errors
    /// The system's.
    pub fn new(disk: &Disk, script: &Script, process: u32, skips: u32) -> io::Result<Self> {
        let cursors = disk.cursors();
        cursors.keep(&[NAME]);
        let mut readers = Vec::new();
        for (shard, dir) in disk.directories()? {
            let mut reader = Reader::open(&dir, cursors.get(NAME, shard))?;
            if let Some(position) = disk.position(shard) {
                reader = reader.following(position);
            }
            readers.push((process * SHARDS + shard, reader));
        }
        let successors = script.lives.iter().filter(|l| l.spec.path.as_ref() != "/metrics");
        let shared = successors.map(|l| l.spec.authority.to_string()).collect();
        Ok(Self { readers, skips, last_ms: HashMap::default(), shared })
    }

    /// Takes everything that is written, in the order in which it was, and acknowledges it.
    ///
    /// # Errors
    /// The first that the reader meets, or that comes out of order, in words.
    pub fn poll(&mut self, disk: &Disk, log: &mut Log) -> Result<(), String> {
        while let Some(next) = self.oldest()? {
            let (number, reader) = &mut self.readers[next];
            let Some(event) = reader.next().map_err(|e| e.to_string())? else { continue };
            if self.skips > 0 {
                self.skips -= 1;
            } else {
                let is_shared = event.target.variables.iter().any(|text| self.shared.contains(text));
                if matches!(event.samples, Samples::Values { .. }) && !is_shared {
                    let before_ms = self.last_ms.insert(event.target.fingerprint, event.time_ms);
                    if before_ms.is_some_and(|ms| ms >= event.time_ms) {
                        let texts: Vec<&str> = event.target.variables.iter().collect();
                        return Err(format!("{texts:?} at {} after {before_ms:?}", event.time_ms));
                    }
                }
                log.see(Place::Receiver, *number, &event);
            }
            disk.cursors().set(NAME, *number % SHARDS, reader.cursor());
        }
        Ok(())
    }

    /// The reader whose next event is in the oldest batch.
    fn oldest(&mut self) -> Result<Option<usize>, String> {
        let mut found: Option<(i64, usize)> = None;
        for (at, (_, reader)) in self.readers.iter_mut().enumerate() {
            if let Some(ms) = reader.batch_ms().map_err(|e| e.to_string())? {
                found = Some(found.map_or((ms, at), |best| best.min((ms, at))));
            }
        }
        Ok(found.map(|(_, at)| at))
    }
}

/// Everything that the journal holds at the end.
///
/// # Errors
/// The first that the reader meets, in words.
pub fn read_whole(disk: &Disk, log: &mut Log) -> Result<(), String> {
    for (shard, dir) in disk.directories().map_err(|e| e.to_string())? {
        let mut reader = Reader::open(&dir, Default::default()).map_err(|e| e.to_string())?;
        while let Some(event) = reader.next().map_err(|e| e.to_string())? {
            log.see(Place::Journal, 1_000 + shard, &event);
        }
    }
    Ok(())
}
