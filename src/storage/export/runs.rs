//! External sort of samples by series: runs on disk, merged with one series in memory at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Runs merged at once; more are merged in several rounds, so that descriptors and buffers stay bounded.
const FAN_IN: usize = 64;

/// One sample: milliseconds, bits of the value.
pub type Sample = (i64, u64);

/// Where merged series go, in key order.
pub trait Sink {
    /// One series with its samples in time order, equal times once.
    ///
    /// # Errors
    /// The writer's.
    fn series(&mut self, key: &str, samples: &[Sample]) -> io::Result<()>;
}

/// Samples by series, spilled to sorted runs when they take too much memory.
#[derive(Debug)]
pub struct Sorter {
    scratch: PathBuf,
    buffer_bytes: usize,
    held_bytes: usize,
    index: HashMap<Box<str>, u32>,
    samples: Vec<Vec<Sample>>,
    runs: Vec<PathBuf>,
    made: u32,
}

impl Sorter {
    /// A sorter that holds about `buffer_bytes` in memory, and the rest in files under `scratch`.
    #[must_use]
    pub fn new(scratch: &Path, buffer_bytes: usize) -> Self {
        Self {
            scratch: scratch.to_owned(),
            buffer_bytes,
            held_bytes: 0,
            index: HashMap::new(),
            samples: Vec::new(),
            runs: Vec::new(),
            made: 0,
        }
    }

    /// A number for a series; valid until the next [`Sorter::spill`].
    pub fn number(&mut self, key: &str) -> u32 {
        if let Some(&n) = self.index.get(key) {
            return n;
        }
        let n = self.samples.len() as u32;
        self.held_bytes += key.len() + 120;
        self.index.insert(key.into(), n);
        self.samples.push(Vec::new());
        n
    }

    /// Adds a sample of a numbered series.
    pub fn add(&mut self, number: u32, sample: Sample) {
        self.held_bytes += size_of::<Sample>();
        self.samples[number as usize].push(sample);
    }

    /// Whether [`Sorter::spill`] is due.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.held_bytes > self.buffer_bytes
    }

    /// Writes what is held as a run.
    ///
    /// # Errors
    /// The system's.
    pub fn spill(&mut self) -> io::Result<()> {
        let mut run = self.new_run()?;
        self.each_held(&mut run)?;
        run.finish()?;
        if self.runs.len() >= FAN_IN {
            let all = std::mem::take(&mut self.runs);
            let mut merged = self.new_run()?;
            merge(&all, &mut merged)?;
            merged.finish()?;
        }
        Ok(())
    }

    /// Gives all series to the sink.
    ///
    /// # Errors
    /// The system's, and the sink's.
    pub fn finish(mut self, sink: &mut dyn Sink) -> io::Result<()> {
        if self.runs.is_empty() {
            return self.each_held(sink);
        }
        self.spill()?;
        merge(&self.runs, sink)
    }

    fn each_held(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let mut keys: Vec<(Box<str>, u32)> = self.index.drain().collect();
        keys.sort_unstable();
        for (key, n) in keys {
            let samples = &mut self.samples[n as usize];
            tidy(samples);
            if !samples.is_empty() {
                sink.series(&key, samples)?;
            }
        }
        self.samples.clear();
        self.held_bytes = 0;
        Ok(())
    }

    fn new_run(&mut self) -> io::Result<RunWriter> {
        self.made += 1;
        let path = self.scratch.join(format!("run-{}", self.made));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        self.runs.push(path);
        Ok(RunWriter(BufWriter::with_capacity(1 << 18, file)))
    }
}

/// Time order; of samples at one time the first that was read stays.
fn tidy(samples: &mut Vec<Sample>) {
    if !samples.is_sorted_by(|a, b| a.0 < b.0) {
        samples.sort_by_key(|s| s.0);
        samples.dedup_by_key(|s| s.0);
    }
}

/// A run: `key bytes (u32), key, samples (u32), (ms, bits)*`, keys ascending.
struct RunWriter(BufWriter<File>);

impl RunWriter {
    fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Sink for RunWriter {
    fn series(&mut self, key: &str, samples: &[Sample]) -> io::Result<()> {
        self.0.write_all(&(key.len() as u32).to_le_bytes())?;
        self.0.write_all(key.as_bytes())?;
        self.0.write_all(&(samples.len() as u32).to_le_bytes())?;
        for (ms, bits) in samples {
            self.0.write_all(&ms.to_le_bytes())?;
            self.0.write_all(&bits.to_le_bytes())?;
        }
        Ok(())
    }
}

struct RunReader(BufReader<File>);

impl RunReader {
    fn key(&mut self) -> io::Result<Option<String>> {
        if self.0.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut key = vec![0; self.word()? as usize];
        self.0.read_exact(&mut key)?;
        String::from_utf8(key).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    fn word(&mut self) -> io::Result<u32> {
        let mut b = [0; 4];
        self.0.read_exact(&mut b)?;
        Ok(u32::from_le_bytes(b))
    }

    fn samples(&mut self, out: &mut Vec<Sample>) -> io::Result<()> {
        for _ in 0..self.word()? {
            let mut b = [0u8; 16];
            self.0.read_exact(&mut b)?;
            let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| b[at + i]));
            out.push((half(0) as i64, half(8)));
        }
        Ok(())
    }
}

/// Merges runs into the sink and removes them.
fn merge(runs: &[PathBuf], sink: &mut dyn Sink) -> io::Result<()> {
    let mut readers = Vec::with_capacity(runs.len());
    let mut heap = BinaryHeap::new();
    for (i, path) in runs.iter().enumerate() {
        let mut reader = RunReader(BufReader::with_capacity(1 << 18, File::open(path)?));
        heap.extend(reader.key()?.map(|key| Reverse((key, i))));
        readers.push(reader);
    }
    let mut samples = Vec::new();
    while let Some(Reverse((key, i))) = heap.pop() {
        readers[i].samples(&mut samples)?;
        heap.extend(readers[i].key()?.map(|next| Reverse((next, i))));
        if heap.peek().is_none_or(|Reverse((next, _))| *next != key) {
            tidy(&mut samples);
            sink.series(&key, &samples)?;
            samples.clear();
        }
    }
    runs.iter().try_for_each(std::fs::remove_file)
}
