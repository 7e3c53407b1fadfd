//! What a reader of the journal sees: events, their dictionaries, positions, errors.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::schema::ReadShape;
use crate::model::{LabelValue, TextList};

/// Whose values they are. Clones share the texts.
#[derive(Clone, Debug)]
pub struct ReadTarget {
    /// Unique in this reader; stable for a target within a segment, new in the next one.
    pub key: u64,
    /// Texts that [`crate::model::LabelValue::Var`] names; one the target does not have reads as empty. Empty text means "no such label".
    pub variables: TextList,
    /// Of those variables that are the target's labels: the same in every segment, process and shard.
    pub fingerprint: u64,
}

impl ReadTarget {
    /// The text that a value has for this target; empty is no label.
    #[must_use]
    pub fn text<'a>(&'a self, value: LabelValue<'a>) -> &'a str {
        match value {
            LabelValue::Text(text) => text,
            LabelValue::Var(n) => self.variables.get(usize::from(n)).unwrap_or_default(),
        }
    }
}

/// One scrape, or one set of staleness markers, of one target.
#[derive(Debug)]
pub struct Event<'r> {
    /// Whose.
    pub target: &'r ReadTarget,
    /// Meaning of the slots.
    pub shape: &'r Arc<ReadShape>,
    /// Timestamp of every sample without an explicit one, milliseconds since the epoch.
    pub time_ms: i64,
    /// The samples.
    pub samples: Samples<'r>,
}

/// Samples of one event.
#[derive(Clone, Copy, Debug)]
pub enum Samples<'r> {
    /// A scrape.
    Values {
        /// One per slot of the shape; `model::ABSENT` marks a slot without a sample.
        values: &'r [f64],
        /// Explicit timestamps (slot, milliseconds), ascending slots.
        times: &'r [(u32, i64)],
    },
    /// Ends of series.
    Stale {
        /// Ascending; each gets `model::STALE_NAN` at the event's time.
        slots: &'r [u32],
    },
}

/// A position in one shard directory: where reading continues. The default is the oldest segment's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// Sequence number of the segment.
    pub segment: u64,
    /// Byte offset of the batch; 0 is the segment's start.
    pub batch: u64,
    /// Events of that batch that were consumed.
    pub frame: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} offset {} event {}", self.segment, self.batch, self.frame)
    }
}

/// Why the next event cannot be had. After an error the reader stands where [`ReadError`]'s variant says and may be
/// asked again.
#[derive(Debug)]
pub enum ReadError {
    /// Bytes that are not what the writer wrote. The rest of the segment is skipped (its dictionary may be
    /// incomplete); the next call continues in the next segment.
    Damaged {
        /// The segment file.
        file: PathBuf,
        /// Offset of the first bad byte's batch.
        offset: u64,
        /// Bytes of the segment that are skipped.
        skipped_bytes: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// Written by a newer release in a way this one cannot read. The segment is skipped.
    Newer {
        /// The segment file.
        file: PathBuf,
        /// Oldest format version that can read it.
        version: u16,
    },
    /// Segments were deleted before they were read (retention); reading continues with the oldest one left.
    Gone {
        /// First sequence number that was to be read.
        wanted: u64,
        /// The one read instead.
        found: u64,
    },
    /// The file system's error; the next call tries the same bytes again.
    Io {
        /// File or directory.
        file: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

impl ReadError {
    /// Whether data was passed over for good (as against: try again later).
    #[must_use]
    pub fn is_loss(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { file, offset, skipped_bytes, what } => write!(
                f,
                "journal segment {} is damaged at byte {offset} ({what}); {skipped_bytes} bytes of it are skipped. Check the disk; `ringscrape inspect` shows what is left",
                file.display()
            ),
            Self::Newer { file, version } => write!(
                f,
                "journal segment {} needs a reader of format {version}; it is skipped. Read it with the release that wrote it",
                file.display()
            ),
            Self::Gone { wanted, found } => write!(
                f,
                "journal segments {wanted} to {} were deleted before they were read; reading continues at {found}. Raise --storage.retention.size, or look why the destination was behind",
                found - 1
            ),
            Self::Io { file, error } => write!(f, "cannot read journal {}: {error}", file.display()),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
