//! The receiver's side: reads the journal as a sender does, and goes on where the saved cursor says.

use std::io;

use super::log::{Log, Place};
use super::script::SHARDS;
use crate::storage::journal::{Disk, Reader};

/// Its name among the cursors.
const NAME: &str = "receiver";

/// One process's sender and what it sent to.
#[derive(Debug)]
pub struct Receiver {
    /// With a number for each, unique in the simulation.
    readers: Vec<(u32, Reader)>,
    /// Events to pass over: a bug on purpose.
    skips: u32,
}

impl Receiver {
    /// Continues at the saved cursors. `process` counts processes; `skips` events are passed over by mistake.
    ///
    /// # Errors
    /// The system's.
    pub fn new(disk: &Disk, process: u32, skips: u32) -> io::Result<Self> {
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
        Ok(Self { readers, skips })
    }

    /// Takes everything that is written, and acknowledges it.
    ///
    /// # Errors
    /// The first that the reader meets, in words.
    pub fn poll(&mut self, disk: &Disk, log: &mut Log) -> Result<(), String> {
        for (number, reader) in &mut self.readers {
            let mut any = false;
            while let Some(event) = reader.next().map_err(|e| e.to_string())? {
                any = true;
                if self.skips > 0 {
                    self.skips -= 1;
                } else {
                    log.see(Place::Receiver, *number, &event);
                }
            }
            if any {
                disk.cursors().set(NAME, *number % SHARDS, reader.cursor());
            }
        }
        Ok(())
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
