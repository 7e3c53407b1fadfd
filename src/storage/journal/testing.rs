//! For the tests of this room: schemas, a simple owned form of events, files that fail and forget.

use super::column::Column;
use super::directory;
use super::event::{Cursor, Event, ReadError, Samples};
use super::files::{Files, SegmentFile, SystemFiles};
use super::reader::Reader;
use super::writer::{Row, Writer};
use crate::base::file::Space;
use crate::base::time::Now;
use crate::model::{LabelValue, Schema, Shape, next_key};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// A schema of given label sets; `$n` is variable n.
#[derive(Debug)]
pub struct TestSchema {
    key: u64,
    series: Vec<Vec<(String, String)>>,
}

impl Schema for TestSchema {
    fn key(&self) -> u64 {
        self.key
    }

    fn series_count(&self) -> usize {
        self.series.len()
    }

    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)])) {
        for s in &self.series {
            let labels: Vec<_> = s.iter().map(|(n, v)| (n.as_str(), value_of(v))).collect();
            each(&labels);
        }
    }
}

fn value_of(v: &str) -> LabelValue<'_> {
    match v.strip_prefix('$') {
        Some(n) => LabelValue::Var(n.parse().expect("variable number")),
        None => LabelValue::Text(v),
    }
}

/// `slots` series of metric `name`, with an `instance` that is variable 0.
pub fn schema(name: &str, slots: usize) -> Rc<dyn Schema> {
    let series = (0..slots)
        .map(|i| {
            let pairs = [("__name__", name), ("instance", "$0"), ("slot", &i.to_string())];
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        })
        .collect();
    Rc::new(TestSchema { key: next_key(), series })
}

/// A schema of these label sets.
pub fn schema_of(series: &[&[(&str, &str)]]) -> Rc<dyn Schema> {
    let own = |s: &&[(&str, &str)]| s.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Rc::new(TestSchema { key: next_key(), series: series.iter().map(own).collect() })
}

/// A shape of one schema.
pub fn shape(name: &str, slots: usize) -> Rc<Shape> {
    Rc::new(Shape::new(vec![schema(name, slots)]))
}

/// An event with everything spelled out, values as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    pub variables: Vec<String>,
    pub series: Vec<String>,
    pub time_ms: i64,
    pub values: Vec<u64>,
    pub times: Vec<(u32, i64)>,
    pub stale: Option<Vec<u32>>,
}

/// Label sets of a shape as text.
pub fn series_text(shape: &Shape) -> Vec<String> {
    let mut out = vec![];
    for s in shape.schemas().iter() {
        s.for_each(&mut |labels| {
            out.push(
                labels
                    .iter()
                    .map(|(n, v)| match v {
                        LabelValue::Text(t) => format!("{n}={t};"),
                        LabelValue::Var(n2) => format!("{n}=${n2};"),
                    })
                    .collect(),
            );
        });
    }
    out
}

impl Plain {
    pub fn of(e: &Event<'_>) -> Self {
        let text = |v: LabelValue<'_>| match v {
            LabelValue::Text(t) => t.to_string(),
            LabelValue::Var(n) => format!("${n}"),
        };
        let mut series: Vec<String> = Vec::new();
        e.shape.for_each(|_, l| series.push(l.iter().map(|(n, v)| format!("{n}={};", text(v))).collect()));
        assert_eq!(series.len(), e.shape.series_count);
        let (values, times, stale) = match e.samples {
            Samples::Values { values, times } => (values.iter().map(|v| v.to_bits()).collect(), times.to_vec(), None),
            Samples::Stale { slots } => (vec![], vec![], Some(slots.to_vec())),
        };
        let variables = e.target.variables.iter().map(|v| v.to_string()).collect();
        Self { variables, series, time_ms: e.time_ms, values, times, stale }
    }
}

/// Everything from `from` on; errors that lose data are counted.
pub fn read_all(dir: &Path, from: Cursor) -> (Vec<Plain>, Vec<Cursor>, Vec<ReadError>) {
    let mut reader = Reader::open(dir, from).expect("directory");
    let (mut events, mut cursors, mut errors) = (vec![], vec![], vec![]);
    loop {
        match reader.next() {
            Ok(Some(e)) => events.push(Plain::of(&e)),
            Ok(None) => return (events, cursors, errors),
            Err(e) => {
                assert!(errors.len() < 1000, "the reader does not get on: {e}");
                errors.push(e);
                continue;
            }
        }
        cursors.push(reader.cursor());
    }
}

/// A millisecond, nanoseconds.
pub const MS: u64 = 1_000_000;

/// That many milliseconds on both clocks.
pub fn at(ms: u64) -> Now {
    Now { wall_ns: (ms * MS) as i64, mono_ns: ms * MS }
}

/// Scrapes numbered 0, 1, 2 ... of one target; the number is the time and the first value.
pub struct Source {
    pub writer: Writer,
    pub column: Column,
    pub shape: Rc<Shape>,
    pub next: i64,
}

impl Source {
    pub fn new(writer: Writer) -> Self {
        Self { writer, column: Column::default(), shape: shape("m", 10), next: 0 }
    }

    pub fn values(number: i64) -> Vec<f64> {
        (0..10).map(|i| (number * (i + 1)) as f64 * 0.1).collect()
    }

    pub fn scrape(&mut self) {
        let values = Self::values(self.next);
        let row = Row { shape: &self.shape, time_ms: self.next, values: &values, times: &[] };
        self.writer.scrape(&mut self.column, ["host"].into_iter(), &row);
        self.next += 1;
    }
}

/// The numbers of a [`Source`]'s events, which are as it wrote them.
pub fn numbers(events: &[Plain]) -> Vec<i64> {
    let bits = |n| Source::values(n).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for e in events {
        assert_eq!((&e.values, e.variables.as_slice()), (&bits(e.time_ms), &["host".to_owned()][..]), "{}", e.time_ms);
        assert_eq!(e.series[3], "__name__=m;instance=$0;slot=3;");
    }
    events.iter().map(|e| e.time_ms).collect()
}

/// What the disk is to do next.
#[derive(Debug, Default)]
pub struct Weather {
    /// Every write fails with this system error.
    pub write_error: Option<i32>,
    /// Every sync fails with this, and what was not synced before is lost as pages are marked clean.
    pub sync_error: Option<i32>,
    /// Writes and syncs of this file fail with EIO.
    pub bad_file: Option<PathBuf>,
    /// Cuts fail with this.
    pub truncate_error: Option<i32>,
    /// Removals fail with this.
    pub remove_error: Option<i32>,
    /// Reading back what was written fails with this.
    pub read_error: Option<i32>,
    /// Putting small files in place fails with this.
    pub replace_error: Option<i32>,
    /// A failed sync throws the dirty pages away, instead of calling them clean.
    pub drops_pages: bool,
    /// Making files fails with this.
    pub create_error: Option<i32>,
    /// Every write and sync takes so long.
    pub stall: std::time::Duration,
    /// Space reported; plenty when not set, whatever the machine that runs the test has.
    pub space: Option<Space>,
    /// Bytes that survive a power loss, by file; a file is in here once its directory was synced.
    durable: BTreeMap<PathBuf, Vec<u8>>,
    /// Files whose directory entry is not durable yet.
    unlisted: Vec<PathBuf>,
    /// Successful syncs.
    pub syncs: u64,
}

/// The system's files, with weather.
#[derive(Clone, Debug, Default)]
pub struct StormyFiles(pub Arc<Mutex<Weather>>);

impl StormyFiles {
    pub fn set(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.0.lock().expect("weather"));
    }

    /// Puts into `to` what a power loss would leave of the shard directories under `journal`.
    pub fn lose_power(&self, journal: &Path, to: &Path) {
        let weather = self.0.lock().expect("weather");
        for (path, bytes) in &weather.durable {
            if weather.unlisted.contains(path) {
                continue;
            }
            let copy = to.join(path.strip_prefix(journal).expect("inside"));
            std::fs::create_dir_all(copy.parent().expect("parent")).expect("directory");
            std::fs::write(copy, bytes).expect("write");
        }
    }
}

#[derive(Debug)]
struct StormyFile {
    inner: Box<dyn SegmentFile>,
    path: PathBuf,
    weather: Arc<Mutex<Weather>>,
    /// What the page cache holds that no sync covered: (offset, bytes), or a cut.
    dirty: Vec<(u64, Option<Vec<u8>>)>,
    /// A write, a sync or a cut has failed: nobody is to write to this file any more, or to believe a sync of it.
    is_spoilt: bool,
}

fn raised(code: Option<i32>) -> io::Result<()> {
    code.map_or(Ok(()), |c| Err(io::Error::from_raw_os_error(c)))
}

impl Files for StormyFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        SystemFiles.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        raised(self.0.lock().expect("weather").create_error)?;
        let inner = SystemFiles.create(path)?;
        self.set(|w| {
            w.durable.insert(path.to_owned(), vec![]);
            w.unlisted.push(path.to_owned());
        });
        Ok(Box::new(StormyFile {
            inner,
            path: path.to_owned(),
            weather: self.0.clone(),
            dirty: vec![],
            is_spoilt: false,
        }))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        raised(self.0.lock().expect("weather").sync_error)?;
        self.set(|w| w.unlisted.retain(|p| p.parent() != Some(dir)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        raised(self.0.lock().expect("weather").remove_error)?;
        self.set(|w| {
            w.durable.remove(path);
            w.unlisted.retain(|p| p != path);
        });
        SystemFiles.remove(path)
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let weather = self.0.lock().map(|w| w.replace_error.or(w.sync_error).or(w.write_error)).expect("weather");
        raised(weather)?;
        self.set(|w| drop(w.durable.insert(path.to_owned(), contents.to_vec())));
        SystemFiles.replace(path, contents)
    }

    fn overwrite(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let weather = self.0.lock().map(|w| w.replace_error.or(w.write_error)).expect("weather");
        raised(weather)?;
        SystemFiles.overwrite(path, contents)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let plenty = Space { total_bytes: 1 << 40, free_bytes: 1 << 39 };
        Ok(self.0.lock().expect("weather").space.unwrap_or(plenty))
    }
}

impl StormyFile {
    fn is_bad(&self) -> Option<i32> {
        let weather = self.weather.lock().expect("weather");
        weather.bad_file.as_ref().filter(|bad| **bad == self.path).map(|_| libc::EIO)
    }
}

impl SegmentFile for StormyFile {
    fn reserve(&mut self, _: u64, _: u64) -> io::Result<()> {
        raised(self.weather.lock().expect("weather").create_error)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_bad = self.is_bad();
        let (error, stall) = self.weather.lock().map(|w| (w.write_error.or(is_bad), w.stall)).expect("weather");
        std::thread::sleep(stall);
        assert!(!self.is_spoilt, "a write to a file after its failure");
        self.is_spoilt = error.is_some();
        // A failing write may have written a part.
        let part = if error.is_some() { bytes.len() / 2 } else { bytes.len() };
        self.inner.write_all_at(&bytes[..part], offset)?;
        self.dirty.push((offset, Some(bytes[..part].to_vec())));
        raised(error)
    }

    fn sync(&mut self) -> io::Result<()> {
        assert!(!self.is_spoilt, "a sync of a file after its failure");
        let is_bad = self.is_bad();
        let mut weather = self.weather.lock().expect("weather");
        let stall = weather.stall;
        if let Some(error) = weather.sync_error.or(is_bad) {
            // The kernel reports the error once and forgets which pages were dirty.
            self.is_spoilt = true;
            for (offset, bytes) in self.dirty.drain(..).filter(|_| weather.drops_pages) {
                self.inner.write_all_at(&vec![0; bytes.map_or(0, |b| b.len())], offset)?;
            }
            return raised(Some(error));
        }
        weather.syncs += 1;
        let file = weather.durable.entry(self.path.clone()).or_default();
        for (offset, bytes) in self.dirty.drain(..) {
            let at = usize::try_from(offset).expect("small");
            if let Some(bytes) = bytes {
                file.resize(file.len().max(at + bytes.len()), 0);
                file[at..at + bytes.len()].copy_from_slice(&bytes);
            } else {
                file.resize(at, 0);
            }
        }
        drop(weather);
        std::thread::sleep(stall);
        Ok(())
    }

    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        raised(self.weather.lock().expect("weather").read_error)?;
        self.inner.read_at(bytes, offset)
    }

    fn read_back(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let weather = self.weather.lock().expect("weather");
        raised(weather.read_error)?;
        let (file, at) = (&weather.durable[&self.path], usize::try_from(offset).expect("small"));
        bytes.copy_from_slice(file.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let error = self.weather.lock().expect("weather").truncate_error;
        self.is_spoilt |= error.is_some();
        raised(error)?;
        self.dirty.push((bytes, None));
        self.inner.truncate(bytes)
    }
}

/// Paths of a directory's segments.
pub fn segment_paths(dir: &Path) -> Vec<PathBuf> {
    directory::segments(dir).expect("list").into_iter().map(|s| dir.join(directory::segment_name(s))).collect()
}
