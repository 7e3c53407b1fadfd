//! The disk thread: one for all shards; the only place that writes journal files.

use super::cursors::{self, Cursors};
use super::directory;
use super::feed::{Feed, Message, Waiting};
use super::files::{Files, SystemFiles};
use super::lane::{Lane, SyncMode};
use super::metrics::Stats;
use super::position::{Position, entered};
use super::recovery::{self, Recovered};
use super::retention::{self, Retention};
use super::writer::{Batch, Writer};
use crate::base::queue::{Receiver, RecvTimeoutError, Sender, queue};
use crate::base::time::Now;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Batches waiting per shard; a full mailbox counts as "too far behind". Batches of a quiet shard come five a second.
const BATCHES_WAITING: usize = 4096;
/// Buffers on their way back to a shard; more are freed.
const BUFFERS_BACK: usize = 8;
/// How often cursors are noted and the state of the disk is looked at, nanoseconds.
const CARE_NS: u64 = 1_000_000_000;
/// Saves cursors and looks at the size of things every so many rounds of care; at once when the disk is full.
const RETENTION_ROUNDS: u64 = 15;
/// How long a stop waits for a disk that says no, nanoseconds.
const STOP_NS: u64 = 10_000_000_000;

/// How the journal is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// `<data>/journal`.
    pub journal: PathBuf,
    /// Shards of this process.
    pub shards: u32,
    /// Random identity of this process.
    pub boot: u128,
    /// When to sync.
    pub sync: SyncMode,
    /// What to delete, and when.
    pub retention: Retention,
    /// Bytes per shard that may wait for the disk before scrapes are dropped.
    pub waiting_bytes_max: u64,
}

impl Options {
    /// The defaults: sync every second, 64 MB waiting per shard.
    #[must_use]
    pub fn new(journal: PathBuf, shards: u32, boot: u128) -> Self {
        Self {
            journal,
            shards,
            boot,
            sync: SyncMode::Every(1_000_000_000),
            retention: Retention::default(),
            waiting_bytes_max: 64 << 20,
        }
    }
}

/// Something an operator has to know now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Whose; `None` for all.
    pub shard: Option<u32>,
    /// What, where, what to do.
    pub text: String,
}

/// Handle of the disk thread.
#[derive(Debug)]
pub struct Disk {
    /// `None` after the stop, and when turned by hand.
    thread: Mutex<Option<JoinHandle<bool>>>,
    outbox: Sender<Message>,
    positions: Vec<Arc<Position>>,
    cursors: Arc<Cursors>,
    stats: Arc<Stats>,
    recovered: Recovered,
    journal: PathBuf,
}

impl Disk {
    /// Recovers what is there and starts the thread. Gives one writer and one feed per shard.
    ///
    /// # Errors
    /// The system's, when the directory cannot be made or the thread not started. Damaged segments are no error.
    pub fn spawn(options: Options) -> io::Result<(Self, Vec<(Writer, Feed)>)> {
        Self::spawn_on(options, Arc::new(SystemFiles))
    }

    /// The same on other files.
    ///
    /// # Errors
    /// See [`Disk::spawn`].
    pub fn spawn_on(options: Options, files: Arc<dyn Files>) -> io::Result<(Self, Vec<(Writer, Feed)>)> {
        let (disk, ends, hand) = Self::by_hand(options, files)?;
        let thread =
            std::thread::Builder::new().name("journal".to_owned()).spawn(move || hand.core.run(&hand.inbox))?;
        *entered(disk.thread.lock()) = Some(thread);
        Ok((disk, ends))
    }

    /// The same without a thread: whoever holds the [`Hand`] gives it its turns. For the simulator, whose time is not the
    /// system's.
    ///
    /// # Errors
    /// See [`Disk::spawn`].
    pub fn by_hand(options: Options, files: Arc<dyn Files>) -> io::Result<(Self, Vec<(Writer, Feed)>, Hand)> {
        files.create_dir(&options.journal)?;
        let mut recovered = recovery::recover(&options.journal);
        let cursors = Cursors::load(&options.journal).unwrap_or_else(|e| {
            recovered.messages.push(format!("cursors are lost, everything kept is sent again: {e}"));
            Cursors::lost(&options.journal)
        });
        let firsts = first_segments(&options, &cursors, (files.as_ref(), &mut recovered.messages));
        for message in &recovered.messages {
            tracing::warn!("{message}");
        }
        let cursors = Arc::new(cursors);
        let (outbox, inbox) = queue(BATCHES_WAITING * options.shards.max(1) as usize);
        let waiting: Vec<Arc<Waiting>> = (0..options.shards).map(|_| Arc::default()).collect();
        let stats = Arc::new(Stats::new(waiting.clone(), options.journal.clone()));
        let segment_bytes = options.retention.segment_bytes(options.shards);
        let mut ends = Vec::new();
        let mut buffers = Vec::new();
        let mut lanes = Vec::new();
        for ((shard, waiting), first) in (0..options.shards).zip(&waiting).zip(firsts) {
            let (back, buffers_in) = sync_channel(BUFFERS_BACK);
            buffers.push(back);
            let both = (waiting.clone(), options.waiting_bytes_max);
            let feed = Feed::new(shard as usize, outbox.clone(), buffers_in, both);
            ends.push((Writer::new(shard, options.boot).segments_of(segment_bytes), feed));
            let dir = options.journal.join(shard.to_string());
            let lane = Lane::new(shard, options.boot, dir, files.clone());
            lanes.push(lane.with(options.sync, first.saturating_sub(1)));
        }
        let positions = lanes.iter().map(|l| l.position().clone()).collect();
        let keeper = retention::Keeper::new(&options, files.as_ref());
        let journal = options.journal.clone();
        let core = Core {
            options,
            files,
            lanes,
            waiting,
            buffers,
            cursors: cursors.clone(),
            stats: stats.clone(),
            keeper,
            rounds: 0,
            cared_mono_ns: 0,
        };
        let disk = Self { thread: Mutex::new(None), outbox, positions, cursors, stats, recovered, journal };
        Ok((disk, ends, Hand { core, inbox }))
    }

    /// How far a shard of this process is written; for [`super::Reader::following`].
    #[must_use]
    pub fn position(&self, shard: u32) -> Option<Arc<Position>> {
        self.positions.get(shard as usize).cloned()
    }

    /// Shard directories that there are, those of earlier processes with more shards included.
    ///
    /// # Errors
    /// The file system's.
    pub fn directories(&self) -> io::Result<Vec<(u32, PathBuf)>> {
        let mut all = directory::shards(&self.journal)?;
        for shard in 0..self.positions.len() as u32 {
            if !all.iter().any(|(s, _)| *s == shard) {
                all.push((shard, self.journal.join(shard.to_string())));
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Where the destinations are.
    #[must_use]
    pub fn cursors(&self) -> &Arc<Cursors> {
        &self.cursors
    }

    /// Counters; also a collector for /metrics.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// What recovery found at the start.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// What is wrong now.
    #[must_use]
    pub fn alarms(&self, now: Now) -> Vec<Alarm> {
        self.stats.alarms(now)
    }

    /// Writes, syncs and seals all that was handed over, saves the cursors, and ends the thread. Waits ten seconds
    /// for a disk that says no. Returns whether everything is safe.
    pub fn stop(&self) -> bool {
        let Some(thread) = entered(self.thread.lock()).take() else { return true };
        self.outbox.send_last(Message::Stop);
        thread.join().unwrap_or(false)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The disk thread's work without the thread. Dropping it is a crash: nothing more is written.
#[derive(Debug)]
pub struct Hand {
    core: Core,
    inbox: Receiver<Message>,
}

impl Hand {
    /// Takes what the feeds handed over, then writes, syncs and cleans up as far as it is due at `now`.
    pub fn turn(&mut self, now: Now) {
        for message in self.inbox.try_iter() {
            if let Message::Batch(lane, batch) = message {
                self.core.lanes[lane].push(batch);
            }
        }
        self.core.turn(now);
    }
}

/// The thread's state.
#[derive(Debug)]
struct Core {
    options: Options,
    files: Arc<dyn Files>,
    lanes: Vec<Lane>,
    waiting: Vec<Arc<Waiting>>,
    buffers: Vec<SyncSender<Vec<u8>>>,
    cursors: Arc<Cursors>,
    stats: Arc<Stats>,
    keeper: retention::Keeper,
    rounds: u64,
    cared_mono_ns: u64,
}

impl Core {
    fn run(mut self, inbox: &Receiver<Message>) -> bool {
        loop {
            let now = Now::read();
            let due_ns = self.lanes.iter().filter_map(Lane::due_at).min().unwrap_or(u64::MAX);
            let wake_ns = due_ns.min(self.cared_mono_ns + CARE_NS);
            match inbox.recv_timeout(Duration::from_nanos(wake_ns.saturating_sub(now.mono_ns))) {
                Ok(Message::Batch(lane, batch)) => self.lanes[lane].push(batch),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return self.close(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // What else has come, so that one sync covers it.
            for message in inbox.try_iter().take(BATCHES_WAITING) {
                match message {
                    Message::Batch(lane, batch) => self.lanes[lane].push(batch),
                    Message::Stop => return self.close(),
                }
            }
            self.turn(Now::read());
        }
    }

    fn turn(&mut self, now: Now) {
        let mut done = Vec::new();
        for i in 0..self.lanes.len() {
            let before = Now::read();
            self.stats.works(before);
            let work = self.lanes[i].turn(now, &mut done);
            self.stats.add(work, Now::read().mono_ns - before.mono_ns);
            self.waiting[i].charge(work.told_bytes);
            self.waiting[i].frames_given_up.add(work.frames_lost);
            self.waiting[i].slots_given_up.add(work.slots_lost);
            if let Some(ordinal) = self.lanes[i].leaving() {
                self.waiting[i].leave(ordinal);
            }
            self.release(i, &mut done);
        }
        self.alarm();
        if now.mono_ns.saturating_sub(self.cared_mono_ns) >= CARE_NS {
            self.cared_mono_ns = now.mono_ns;
            self.stats.works(Now::read());
            self.care(now);
        }
        self.stats.rests();
    }

    fn release(&self, lane: usize, done: &mut Vec<Batch>) {
        for batch in done.drain(..) {
            self.waiting[lane].release(batch.bytes.len());
            match self.buffers[lane].try_send(batch.bytes) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    fn alarm(&self) {
        let mut alarms = Vec::new();
        for (i, lane) in self.lanes.iter().enumerate() {
            let shard = Some(i as u32);
            if let Some(fault) = lane.fault() {
                alarms.push(Alarm { shard, text: fault.text.clone() });
            }
            if self.waiting[i].is_behind() {
                let text = format!(
                    "the disk is more than {} MB behind: scrapes of shard {i} are dropped and counted. Look at the disk under {}",
                    self.options.waiting_bytes_max >> 20,
                    lane.dir().display()
                );
                alarms.push(Alarm { shard, text });
            }
        }
        alarms.extend(self.keeper.alarm().map(|text| Alarm { shard: None, text }));
        self.stats.set_alarms(alarms);
    }

    /// Cursors are noted every second; saved, before anything is deleted by them, now and then, or at once when the disk is
    /// full.
    fn care(&mut self, now: Now) {
        self.rounds += 1;
        let is_full = self.lanes.iter().any(|l| l.fault().is_some_and(|f| f.is_full));
        let is_thorough = is_full || self.rounds % RETENTION_ROUNDS == 1;
        let (journal, files) = (&self.options.journal, self.files.as_ref());
        let kept = if is_thorough { self.cursors.save(journal, files) } else { self.cursors.note(journal, files) };
        if let Err(e) = kept {
            self.stats.cursor_failed(&e);
        }
        if is_thorough {
            let lanes = self.lanes.iter().enumerate();
            let current: Vec<(u32, u64)> = lanes.flat_map(|(i, l)| l.current().map(move |s| (i as u32, s))).collect();
            self.keeper.turn(now, &current, (self.files.as_ref(), &self.cursors, &self.stats));
        }
    }

    fn close(mut self) -> bool {
        let start = Now::read().mono_ns;
        let mut done = Vec::new();
        let all_safe = loop {
            let now = Now::read();
            let mut all_safe = true;
            for lane in &mut self.lanes {
                all_safe &= lane.close(now, &mut done);
            }
            done.clear();
            if all_safe || now.mono_ns - start > STOP_NS {
                break all_safe;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        if let Err(e) = self.cursors.save(&self.options.journal, self.files.as_ref()) {
            self.stats.cursor_failed(&e);
        }
        self.alarm();
        all_safe
    }
}

/// A random identity for [`Options::boot`], from the operating system's randomness by way of the standard hasher.
#[must_use]
pub fn boot_id() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    u128::from(RandomState::new().hash_one(1u8)) << 64 | u128::from(RandomState::new().hash_one(2u8))
}

/// The number that each shard's next segment has at least; cursors past what there is are set to its start, and saved. While
/// they cannot be, numbers are passed over: a gap is reported as a loss to whoever reads over it, but hides nothing. A directory
/// that cannot be listed is its lane's trouble: cursors stay.
fn first_segments(options: &Options, cursors: &Cursors, (files, messages): (&dyn Files, &mut Vec<String>)) -> Vec<u64> {
    let settle = |shard: u32| {
        let newest = directory::newest_number(&options.journal.join(shard.to_string())).unwrap_or(u64::MAX);
        cursors.settle(shard, newest)
    };
    let settled: Vec<(u64, bool)> = (0..options.shards).map(settle).collect();
    if settled.iter().all(|&(_, is_gone)| !is_gone) {
        return settled.into_iter().map(|(first, _)| first).collect();
    }
    let saved = cursors.save(&options.journal, files).map_err(|e| {
        format!(
            "{} cannot be written: {e}; new segments begin one number further on, and receivers' readers report a gap; make room in the directory, or give the right to write to it",
            options.journal.join(cursors::FILE).display()
        )
    });
    let is_saved = saved.is_ok();
    messages.extend(saved.err());
    for (shard, (first, _)) in (0u32..).zip(&settled).filter(|(_, s)| s.1) {
        messages.push(format!(
            "journal segment {first} of shard {shard} was not yet durable when the power failed, and is gone; what was already sent of it is not sent again"
        ));
    }
    settled.into_iter().map(|(first, is_gone)| first + u64::from(is_gone && !is_saved)).collect()
}
