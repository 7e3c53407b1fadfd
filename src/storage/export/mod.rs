//! Exports: a journal as OpenMetrics text.
//!
//! Look for [`open_metrics`] and [`Selector`]. The text is grouped as OpenMetrics demands: by metric name, then by
//! series, then by time, with `# EOF` at the end. Memory is bounded: samples are sorted externally.
//!
//! What the text cannot say: the journal keeps no metric types, so every family is `unknown` and is named like its
//! samples; a staleness marker is written as `NaN`, so that one sees where a series ends; names beyond the classic
//! alphabet are quoted as Prometheus does. Absent on purpose: files and flags (the `app` room's).

mod runs;
mod selector;

pub use selector::{Selector, SelectorError};

use crate::model::{STALE_NAN, is_absent};
use crate::storage::journal::{self, Cursor, Event, ReadLabels, ReadTarget, Reader, Samples};
use runs::{Sample, Sink, Sorter};
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What to export.
#[derive(Debug)]
pub struct Options {
    /// Series that any of these selects; all when there is none.
    pub selectors: Vec<Selector>,
    /// Samples from this time on, milliseconds.
    pub from_ms: i64,
    /// Samples before this time, milliseconds.
    pub until_ms: i64,
    /// Directory for files of the sort; must exist. They are gone after success.
    pub scratch: PathBuf,
    /// Memory for samples before they go to files.
    pub buffer_bytes: usize,
}

impl Options {
    /// Everything, with 256 MB of memory.
    #[must_use]
    pub fn new(scratch: PathBuf) -> Self {
        Self { selectors: vec![], from_ms: i64::MIN, until_ms: i64::MAX, scratch, buffer_bytes: 256 << 20 }
    }
}

/// What was exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Series.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Series without a name, which the text cannot hold.
    pub nameless: u64,
    /// What could not be read of the journal.
    pub damage: Vec<String>,
}

/// Writes the journal under `journal` (`<data>/journal`) as OpenMetrics text. Works beside a running process; what is
/// written after the start may or may not be included.
///
/// # Errors
/// The file system's, and the writer's. Damage is reported in the result and skipped.
pub fn open_metrics(journal: &Path, options: &Options, out: &mut dyn Write) -> io::Result<Exported> {
    let mut exported = Exported::default();
    let mut sorter = Sorter::new(&options.scratch, options.buffer_bytes);
    for (_, dir) in journal::shard_directories(journal)? {
        let mut reader = Reader::open(&dir, Cursor::default())?;
        let mut columns = HashMap::new();
        let mut io_errors = 0;
        loop {
            match reader.next() {
                Ok(Some(event)) => take(&event, options, (&mut sorter, &mut columns, &mut exported)),
                Ok(None) => break,
                Err(e) => {
                    io_errors += u32::from(!e.is_loss());
                    exported.damage.push(e.to_string());
                    if io_errors > 3 {
                        break;
                    }
                }
            }
            if sorter.is_full() {
                sorter.spill()?;
                columns.clear();
            }
        }
    }
    let mut text = Text { out, family: String::new(), exported: &mut exported };
    sorter.finish(&mut text)?;
    out.write_all(b"# EOF\n")?;
    Ok(exported)
}

/// Numbers of a column's series in the sorter, by (target, shape); `NOT_SELECTED` for others.
type Columns = HashMap<(u64, u64), Vec<u32>>;

const NOT_SELECTED: u32 = u32::MAX;

fn take(event: &Event<'_>, options: &Options, (sorter, columns, exported): (&mut Sorter, &mut Columns, &mut Exported)) {
    let numbers = columns.entry((event.target.key, event.shape.key)).or_insert_with(|| {
        let mut numbers = Vec::with_capacity(event.shape.series_count);
        event.shape.for_each(|_, labels| numbers.push(number_of(labels, event.target, options, (sorter, exported))));
        numbers
    });
    let mut add = |slot: usize, ms: i64, bits: u64| {
        if numbers[slot] != NOT_SELECTED && ms >= options.from_ms && ms < options.until_ms {
            sorter.add(numbers[slot], (ms, bits));
        }
    };
    match event.samples {
        Samples::Values { values, times } => {
            let mut times = times.iter().peekable();
            for (slot, v) in values.iter().enumerate() {
                let explicit = times.next_if(|t| t.0 as usize == slot).map(|t| t.1);
                if !is_absent(*v) {
                    add(slot, explicit.unwrap_or(event.time_ms), v.to_bits());
                }
            }
        }
        Samples::Stale { slots } => slots.iter().for_each(|&s| add(s as usize, event.time_ms, STALE_NAN.to_bits())),
    }
}

fn number_of(
    labels: ReadLabels<'_>,
    target: &ReadTarget,
    options: &Options,
    (sorter, exported): (&mut Sorter, &mut Exported),
) -> u32 {
    let value_of = |name: &str| labels.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| target.text(v));
    if !options.selectors.is_empty() && !options.selectors.iter().any(|s| s.selects(value_of)) {
        return NOT_SELECTED;
    }
    let name = value_of("__name__");
    if name.is_empty() {
        exported.nameless += 1;
        return NOT_SELECTED;
    }
    // The name first and a byte below all others, so that keys sort by family.
    let mut key = format!("{name}\0");
    for (n, v) in labels.iter().filter(|(n, _)| *n != "__name__") {
        let value = target.text(v);
        if !value.is_empty() {
            key.push_str(if key.ends_with('\0') { "" } else { "," });
            if is_classic(n, &[]) {
                key.push_str(n)
            } else {
                push_quoted(&mut key, n)
            }
            key.push('=');
            push_quoted(&mut key, value);
        }
    }
    sorter.number(&key)
}

fn is_classic(name: &str, also: &[u8]) -> bool {
    let plain = |c: u8| c.is_ascii_alphabetic() || c == b'_' || also.contains(&c);
    name.bytes().next().is_some_and(plain) && name.bytes().all(|c| plain(c) || c.is_ascii_digit())
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Prints series as they come out of the sort.
struct Text<'a> {
    out: &'a mut dyn Write,
    family: String,
    exported: &'a mut Exported,
}

impl Sink for Text<'_> {
    fn series(&mut self, key: &str, samples: &[Sample]) -> io::Result<()> {
        let (name, labels) = key.split_once('\0').unwrap_or((key, ""));
        let mut quoted = String::new();
        let classic = is_classic(name, b":");
        if !classic {
            push_quoted(&mut quoted, name);
        }
        if self.family != name {
            name.clone_into(&mut self.family);
            writeln!(self.out, "# TYPE {} unknown", if classic { name } else { &quoted })?;
        }
        let series = match (classic, labels.is_empty()) {
            (true, true) => name.to_owned(),
            (true, false) => format!("{name}{{{labels}}}"),
            (false, true) => format!("{{{quoted}}}"),
            (false, false) => format!("{{{quoted},{labels}}}"),
        };
        for &(ms, bits) in samples {
            writeln!(self.out, "{series} {} {}", Number(f64::from_bits(bits)), Seconds(ms))?;
        }
        self.exported.series += 1;
        self.exported.samples += samples.len() as u64;
        Ok(())
    }
}

struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            v if v.is_nan() => f.write_str("NaN"),
            v if v.is_infinite() => f.write_str(if v > 0.0 { "+Inf" } else { "-Inf" }),
            v if v.fract() == 0.0 && v.abs() < 1e15 => write!(f, "{v}"),
            // The shortest text that reads back as the same value, with an exponent where that is shorter.
            v => write!(f, "{v:?}"),
        }
    }
}

struct Seconds(i64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, ms) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}", ms / 1000)?;
        match ms % 1000 {
            0 => Ok(()),
            part => write!(f, ".{part:03}"),
        }
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
