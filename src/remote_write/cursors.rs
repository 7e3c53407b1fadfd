//! Acknowledged positions of one destination, in a small file that is replaced whole.
//!
//! One line per shard: `<shard> <segment> <batch> <frame>`. A file that cannot be read counts as absent: the
//! destination then starts at the end of the journal, and that is logged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;

use crate::storage::journal::Cursor;

/// Positions by shard directory name.
pub type Positions = BTreeMap<String, Cursor>;

const FIRST_LINE: &str = "ringscrape cursors 1";

/// The file of one destination.
#[derive(Clone, Debug)]
pub struct CursorFile {
    path: PathBuf,
}

impl CursorFile {
    /// `key` names the destination; `directory` is made when needed.
    #[must_use]
    pub fn new(directory: &Path, key: &str) -> Self {
        Self { path: directory.join(key) }
    }

    /// What was saved last; `None` when there is no file.
    ///
    /// # Errors
    /// The file system's, or that the content is not ours.
    pub fn load(&self) -> io::Result<Option<Positions>> {
        let text = match fs::read_to_string(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a cursor file of this release"));
        }
        let positions = lines.map(parse_line).collect::<Option<Positions>>();
        positions.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "damaged cursor file"))
    }

    /// Replaces the file; on return it is on disk. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The file system's; the old file is then still there.
    pub fn save(&self, positions: &Positions) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut text = format!("{FIRST_LINE}\n");
        for (shard, c) in positions {
            text.push_str(&format!("{shard} {} {} {}\n", c.segment, c.batch, c.frame));
        }
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        File::open(directory)?.sync_all()
    }
}

/// Saves positions without stopping the sender for the disk, one save at a time.
#[derive(Debug)]
pub struct Keeper {
    file: CursorFile,
    saved: Positions,
    saving: Option<(Positions, JoinHandle<io::Result<()>>)>,
    failing: bool,
}

impl Keeper {
    /// Reads what was saved. Also says whether the destination is new.
    #[must_use]
    pub fn load(file: CursorFile, destination: &str) -> (Self, bool) {
        let loaded = file.load().unwrap_or_else(|error| {
            let file = file.path.display();
            tracing::error!(destination, %file, %error, "the saved position is lost; sending starts with new samples");
            None
        });
        let is_new = loaded.is_none();
        (Self { file, saved: loaded.unwrap_or_default(), saving: None, failing: false }, is_new)
    }

    /// Where a shard was left.
    #[must_use]
    pub fn position(&self, shard: &str) -> Option<Cursor> {
        self.saved.get(shard).copied()
    }

    /// Begins to save the positions when they are new and no save is running.
    pub async fn save(&mut self, positions: Positions) {
        if self.saving.as_ref().is_some_and(|(_, task)| !task.is_finished()) {
            return;
        }
        self.settle().await;
        let positions = self.with_unopened(positions);
        if positions != self.saved {
            let (file, theirs) = (self.file.clone(), positions.clone());
            let task = tokio::task::spawn_blocking(move || file.save(&theirs));
            self.saving = Some((positions, task));
        }
    }

    /// Saves the last positions; on return they are on disk, or the failure is logged.
    pub async fn close(&mut self, positions: Positions) {
        self.settle().await;
        self.save(positions).await;
        self.settle().await;
    }

    async fn settle(&mut self) {
        let Some((positions, task)) = self.saving.take() else { return };
        match task.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok(()) => {
                self.saved = positions;
                self.failing = false;
            }
            Err(error) => {
                if !self.failing {
                    let file = self.file.path.display();
                    tracing::error!(%file, %error, "cannot save the position; after a restart samples are sent again");
                }
                self.failing = true;
            }
        }
    }

    /// A shard that could not be opened keeps its position.
    fn with_unopened(&self, positions: Positions) -> Positions {
        let mut all = self.saved.clone();
        all.extend(positions);
        all
    }
}

fn parse_line(line: &str) -> Option<(String, Cursor)> {
    let mut words = line.split(' ');
    let shard = words.next()?.to_owned();
    let segment = words.next()?.parse().ok()?;
    let batch = words.next()?.parse().ok()?;
    let frame = words.next()?.parse().ok()?;
    words.next().is_none().then_some((shard, Cursor { segment, batch, frame }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_positions_come_back_and_damage_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = CursorFile::new(&dir.path().join("cursors"), "x-1");
        assert!(file.load().expect("no file yet").is_none());
        let positions: Positions = [
            ("0".to_owned(), Cursor { segment: 3, batch: 4096, frame: 7 }),
            ("11".to_owned(), Cursor { segment: u64::MAX, batch: 0, frame: u32::MAX }),
        ]
        .into();
        file.save(&positions).expect("saved");
        assert_eq!(file.load().expect("readable"), Some(positions.clone()));
        file.save(&Positions::new()).expect("saved");
        assert_eq!(file.load().expect("readable"), Some(Positions::new()));
        let path = dir.path().join("cursors/x-1");
        for bad in ["", "something\n", "ringscrape cursors 1\n0 1 2\n", "ringscrape cursors 1\n0 1 2 -3\n"] {
            std::fs::write(&path, bad).expect("written");
            assert!(file.load().is_err(), "{bad:?}");
        }
    }
}
