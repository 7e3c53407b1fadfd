//! `export` and `journal inspect`: what a data directory holds.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::app::cli::{ExportArgs, ExportFormat};
use crate::app::{eprint, print};
use crate::storage::export::{self, Exported, Selector};
use crate::storage::inspect as report;

/// `export`: exit code 1 when part of the journal could not be read.
///
/// # Errors
/// A bad selector, a directory that is no data path, the system's.
pub fn export(arguments: &ExportArgs) -> Result<ExitCode, String> {
    let selectors: Result<Vec<Selector>, _> = arguments.matches.iter().map(|m| Selector::parse(m)).collect();
    let journal = journal_below(&arguments.storage_path)?;
    let scratch = Scratch::new()?;
    let mut options = export::Options::new(scratch.0.clone());
    options.selectors = selectors.map_err(|e| e.to_string())?;
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let exported = match arguments.format {
        ExportFormat::Openmetrics => export::open_metrics(&journal, &options, &mut out),
    };
    match exported.and_then(|e| out.flush().map(|()| e)) {
        // The reader of the pipe has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(e) => Err(format!("{}: {e}", journal.display())),
        Ok(exported) => Ok(verdict(&exported)),
    }
}

fn verdict(exported: &Exported) -> ExitCode {
    let Exported { series, samples, nameless, damage } = exported;
    eprint(&format!("{samples} samples of {series} series"));
    if *nameless > 0 {
        eprint(&format!("{nameless} series without a name are left out: the format cannot hold them"));
    }
    for text in damage {
        eprint(&format!("damage: {text}"));
    }
    if damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `journal inspect`: exit code 1 when a segment is damaged.
///
/// # Errors
/// A directory that is no data path, the system's.
pub fn inspect(dir: &Path) -> Result<ExitCode, String> {
    let journal = journal_below(dir)?;
    let found = report::inspect(&journal).map_err(|e| format!("{}: {e}", journal.display()))?;
    print(&found.to_string());
    let is_whole = found.segments.values().all(|s| s.damage.is_empty());
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The journal of a data path; also takes the journal itself.
fn journal_below(dir: &Path) -> Result<PathBuf, String> {
    let below = dir.join("journal");
    if below.is_dir() {
        return Ok(below);
    }
    let holds_shards = crate::storage::journal::shard_directories(dir).is_ok_and(|s| !s.is_empty());
    if holds_shards {
        return Ok(dir.to_path_buf());
    }
    Err(format!("{}: no journal here; give the path that was --storage.path", dir.display()))
}

/// A directory for the sort's files, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("ringscrape-export-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
