//! Files that forget: what no returned sync covered is lost or torn when the power goes. Some fail now and then.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Random;
use crate::base::file::Space;
use crate::storage::journal::{Files, SegmentFile, SystemFiles};

/// A directory in memory (where the system has one) that goes with its owner.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A fresh one.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let name = format!("ringscrape-sim-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A write, or a cut of the file's length.
#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

#[derive(Debug, Default)]
struct Image {
    synced: Vec<u8>,
    /// The first write of those that the last sync covered.
    last_synced: Option<(u64, usize)>,
    dirty: Vec<Change>,
    is_listed: bool,
    /// A write or a sync has failed: later syncs succeed, and cover nothing.
    is_spoilt: bool,
}

impl Image {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(at, bytes) => {
                let at = *at as usize;
                self.synced.resize(self.synced.len().max(at + bytes.len()), 0);
                self.synced[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Change::Cut(bytes) => self.synced.resize(*bytes as usize, 0),
        }
    }
}

/// Writes or syncs that succeed between two failures, at least.
const CALM: u32 = 30;

/// When calls fail.
#[derive(Debug)]
struct Failures {
    random: Random,
    calm: u32,
    count: u64,
}

impl Failures {
    fn strikes(&mut self, one_in: u64) -> bool {
        self.calm = self.calm.saturating_sub(1);
        let strikes = self.calm == 0 && self.random.below(one_in) == 0;
        if strikes {
            self.calm = CALM;
            self.count += 1;
        }
        strikes
    }
}

/// The system's files, with a memory of what is durable.
#[derive(Clone, Debug, Default)]
pub struct ForgetfulFiles {
    images: Arc<Mutex<BTreeMap<PathBuf, Image>>>,
    failures: Option<Arc<Mutex<Failures>>>,
}

impl ForgetfulFiles {
    /// Files of which a write or a sync fails now and then.
    #[must_use]
    pub fn failing(seed: u64) -> Self {
        let failures = Failures { random: Random::new(seed), calm: CALM, count: 0 };
        Self { failures: Some(Arc::new(Mutex::new(failures))), ..Self::default() }
    }

    /// Calls that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.as_ref().map_or(0, |f| f.lock().unwrap_or_else(PoisonError::into_inner).count)
    }

    fn strikes(&self, one_in: u64) -> bool {
        let failures = self.failures.as_ref();
        failures.is_some_and(|f| f.lock().unwrap_or_else(PoisonError::into_inner).strikes(one_in))
    }

    /// One time in two, where anything fails at all.
    fn tosses(&self) -> bool {
        let failures = self.failures.as_ref();
        failures.is_some_and(|f| f.lock().unwrap_or_else(PoisonError::into_inner).random.below(2) == 0)
    }

    fn images(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Image>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes: each file keeps what was synced, any number of the writes after that, and of the next one a part or
    /// a part of noise. All files must be closed. Returns the bytes that were torn.
    ///
    /// # Errors
    /// The system's.
    pub fn lose_power(&self, random: &mut Random) -> io::Result<u64> {
        let mut torn = 0;
        for (path, mut image) in std::mem::take(&mut *self.images()) {
            if !path.exists() {
                continue;
            }
            if !image.is_listed {
                fs::remove_file(&path)?;
                continue;
            }
            let dirty = std::mem::take(&mut image.dirty);
            let whole = random.below(dirty.len() as u64 + 1) as usize;
            dirty[..whole].iter().for_each(|c| image.apply(c));
            if let Some(Change::Write(at, bytes)) = dirty.get(whole) {
                let mut part = bytes[..random.below(bytes.len() as u64) as usize].to_vec();
                if random.below(3) == 0 {
                    part.resize(bytes.len(), 0xa5);
                }
                torn += part.len() as u64;
                image.apply(&Change::Write(*at, part));
            }
            fs::write(&path, &image.synced)?;
        }
        Ok(torn)
    }

    /// A bug on purpose: of the writes that the last sync covered, the first is not there either.
    pub fn forget_last_synced(&self) {
        for image in self.images().values_mut() {
            if let Some((at, bytes)) = image.last_synced.take() {
                image.dirty.clear();
                image.synced[at as usize..at as usize + bytes].fill(0);
            }
        }
    }
}

#[derive(Debug)]
struct ForgetfulFile {
    inner: Box<dyn SegmentFile>,
    path: PathBuf,
    files: ForgetfulFiles,
}

impl ForgetfulFile {
    fn change(&self, change: Change) {
        self.files.images().entry(self.path.clone()).or_default().dirty.push(change);
    }
}

impl Files for ForgetfulFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        SystemFiles.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let inner = SystemFiles.create(path)?;
        self.images().insert(path.to_owned(), Image::default());
        Ok(Box::new(ForgetfulFile { inner, path: path.to_owned(), files: self.clone() }))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.images().iter_mut().filter(|(p, _)| p.parent() == Some(dir)).for_each(|(_, i)| i.is_listed = true);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.images().remove(path);
        SystemFiles.remove(path)
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let fresh = path.with_extension("new");
        fs::write(&fresh, contents)?;
        fs::rename(&fresh, path)
    }

    /// Listed from the second time on, as by a sync of something else.
    fn overwrite(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let mut images = self.images();
        let image = images.entry(path.to_owned()).or_default();
        image.is_listed = !image.dirty.is_empty();
        image.dirty.push(Change::Write(0, contents.to_vec()));
        drop(images);
        SystemFiles.overwrite(path, contents)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space { total_bytes: 100 << 30, free_bytes: 90 << 30 })
    }
}

impl SegmentFile for ForgetfulFile {
    /// Nothing is reserved: memory is not a disk.
    fn reserve(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fails = self.files.strikes(400);
        let part = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        self.inner.write_all_at(part, offset)?;
        self.change(Change::Write(offset, part.to_vec()));
        if fails {
            self.files.images().entry(self.path.clone()).or_default().is_spoilt = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let fails = self.files.strikes(50);
        let mut images = self.files.images();
        let Some(image) = images.get_mut(&self.path) else { return Ok(()) };
        if fails {
            image.is_spoilt = true;
            // Either memory has forgotten them too, or any part of them is on the disk.
            if self.files.tosses() {
                for change in std::mem::take(&mut image.dirty) {
                    if let Change::Write(at, bytes) = change {
                        self.inner.write_all_at(&vec![0; bytes.len()], at)?;
                    }
                }
            }
            return Err(io::Error::other("a sync that fails on purpose"));
        }
        if image.is_spoilt {
            image.dirty.clear();
        }
        let first = image.dirty.iter().find_map(|c| match c {
            Change::Write(at, bytes) => Some((*at, bytes.len())),
            Change::Cut(_) => None,
        });
        image.last_synced = first.or(image.last_synced);
        for change in std::mem::take(&mut image.dirty) {
            image.apply(&change);
        }
        Ok(())
    }

    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(bytes, offset)
    }

    fn read_back(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_back(bytes, offset)
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let is_spoilt = self.files.images().get(&self.path).is_some_and(|i| i.is_spoilt);
        if is_spoilt && self.files.tosses() {
            return Err(io::Error::other("a cut that fails on purpose"));
        }
        self.inner.truncate(bytes)?;
        self.change(Change::Cut(bytes));
        Ok(())
    }
}
