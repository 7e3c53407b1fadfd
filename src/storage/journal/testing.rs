//! For the tests of this room: schemas, a simple owned form of events, files that fail and forget.

use super::directory;
use super::event::{Cursor, Event, ReadError, Samples};
use super::files::{Files, SegmentFile, SystemFiles};
use super::reader::Reader;
use crate::base::file::Space;
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
    for s in &shape.schemas {
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

/// What the disk is to do next.
#[derive(Debug, Default)]
pub struct Weather {
    /// Every write fails with this system error.
    pub write_error: Option<i32>,
    /// Every sync fails with this, and what was not synced before is lost as pages are marked clean.
    pub sync_error: Option<i32>,
    /// Writes and syncs of this file fail with EIO.
    pub bad_file: Option<PathBuf>,
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
    /// Since a failed sync: from here on writes never reach the disk, whatever later syncs say, until the file is cut
    /// here. That is what ext4 does.
    dead_from: Option<u64>,
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
            dead_from: None,
        }))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        raised(self.0.lock().expect("weather").sync_error)?;
        self.set(|w| w.unlisted.retain(|p| p.parent() != Some(dir)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.set(|w| {
            w.durable.remove(path);
            w.unlisted.retain(|p| p != path);
        });
        SystemFiles.remove(path)
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        SystemFiles.replace(path, contents)
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
        // A failing write may have written a part.
        let part = if error.is_some() { bytes.len() / 2 } else { bytes.len() };
        self.inner.write_all_at(&bytes[..part], offset)?;
        self.dirty.push((offset, Some(bytes[..part].to_vec())));
        raised(error)
    }

    fn sync(&mut self) -> io::Result<()> {
        let is_bad = self.is_bad();
        let mut weather = self.weather.lock().expect("weather");
        let stall = weather.stall;
        if let Some(error) = weather.sync_error.or(is_bad) {
            // The kernel reports the error once and forgets the dirty pages; half of them had made it.
            self.dirty.clear();
            let durable = weather.durable.get(&self.path).map_or(0, Vec::len) as u64;
            self.dead_from.get_or_insert(durable);
            return raised(Some(error));
        }
        weather.syncs += 1;
        let file = weather.durable.entry(self.path.clone()).or_default();
        for (offset, bytes) in self.dirty.drain(..) {
            let at = usize::try_from(offset).expect("small");
            match bytes {
                Some(bytes) if self.dead_from.is_some_and(|dead| offset + bytes.len() as u64 > dead) => {
                    file.resize(file.len().max(at + bytes.len()), 0);
                }
                Some(bytes) => {
                    file.resize(file.len().max(at + bytes.len()), 0);
                    file[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                None => {
                    file.resize(at, 0);
                    self.dead_from = self.dead_from.filter(|&dead| offset > dead);
                }
            }
        }
        drop(weather);
        std::thread::sleep(stall);
        Ok(())
    }

    fn read_back(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let weather = self.weather.lock().expect("weather");
        let (file, at) = (&weather.durable[&self.path], usize::try_from(offset).expect("small"));
        bytes.copy_from_slice(file.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.dirty.push((bytes, None));
        self.inner.truncate(bytes)
    }
}

/// Paths of a directory's segments.
pub fn segment_paths(dir: &Path) -> Vec<PathBuf> {
    directory::segments(dir).expect("list").into_iter().map(|s| dir.join(directory::segment_name(s))).collect()
}
