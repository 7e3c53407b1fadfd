//! The shards of one process and their disk, turned by hand.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::ForgetfulFiles;
use super::oracle::TOLERANCE_NS;
use super::peer::{Clock, Network, Starts};
use super::script::{SHARDS, Script};
use crate::base::limits::COMMANDS_WAITING;
use crate::base::mailbox::{Outbox, mailbox};
use crate::base::time::Now;
use crate::encoding::gzip::Inflater;
use crate::model::IdentityHasher;
use crate::net::Net;
use crate::scrape::KeepAlive;
use crate::scrape::exchange::Tools;
use crate::series::Store;
use crate::shard::errands::{Errands, Mailer};
use crate::shard::names::Names;
use crate::shard::sabotage::Sabotage;
use crate::shard::stats::{Recorder, ShardStats};
use crate::shard::{Command, Message, Parts, Shard, Slice};
use crate::storage::journal::{Disk, Feed, Hand, Options, Writer};

/// How far the shards run before the disk and the receiver have their turns.
pub const STEP_NS: u64 = 100_000_000;
/// A shard that turns so often without time passing is stuck.
const TURNS_MAX: u32 = 100_000;

/// One shard and its time.
struct Core {
    shard: Shard<Network>,
    outbox: Outbox<Message>,
    clock: Clock,
    now: Now,
    stats: Arc<ShardStats>,
}

/// One process. Dropping it is a crash.
pub struct Appliance {
    cores: Vec<Core>,
    horizon: Rc<Cell<u64>>,
    disk: Disk,
    hand: Hand,
    /// Who was asked when.
    pub starts: Starts,
}

/// What differs between processes.
pub struct Setting<'a> {
    /// The world.
    pub script: &'a Rc<Script>,
    /// Files that forget.
    pub files: &'a ForgetfulFiles,
    /// Journal directory.
    pub journal: &'a Path,
    /// Identity of the process.
    pub boot: u128,
    /// A bug on purpose, for each shard.
    pub sabotage: &'a dyn Fn() -> Option<Box<dyn Sabotage>>,
}

impl Appliance {
    /// Starts a process: recovery, then shards without targets.
    ///
    /// # Errors
    /// The system's.
    pub fn start(setting: &Setting<'_>, now: Now) -> io::Result<Self> {
        let options = Options::new(setting.journal.to_owned(), SHARDS, setting.boot);
        let (disk, ends, hand) = Disk::by_hand(options, Arc::new(setting.files.clone()))?;
        let (horizon, starts) = (Rc::new(Cell::new(now.mono_ns)), Rc::new(RefCell::new(Vec::new())));
        let errands = Errands::spawn()?;
        // Scripted targets are given by address: a look-up would end at any time.
        let names = Names::spawn_with(Box::new(|name| Err(format!("lookup {name}: there are no names here"))))?;
        let cores = ends
            .into_iter()
            .enumerate()
            .map(|(number, end)| core(setting, now, (number, end), (&names, &errands), (&horizon, &starts)))
            .collect::<io::Result<_>>()?;
        Ok(Self { cores, horizon, disk, hand, starts })
    }

    /// The journal.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Counters of a shard.
    #[must_use]
    pub fn stats(&self, shard: usize) -> &ShardStats {
        &self.cores[shard].stats
    }

    /// Gives a command to a shard.
    pub fn post(&self, shard: usize, command: Command) {
        assert!(self.cores[shard].outbox.post(Message::Command(command)).is_ok(), "the mailbox is large enough");
    }

    /// Lets the shards run to an instant on the monotonic clock.
    pub fn run_to(&mut self, t: u64) {
        self.horizon.set(t);
        for core in &mut self.cores {
            let mut turns = 0;
            while core.now.mono_ns < t {
                core.now = core.shard.turn(core.now);
                turns += 1;
                assert!(turns < TURNS_MAX, "a shard is stuck at {:?}", core.now);
            }
        }
    }

    /// The disk's turn.
    pub fn turn_disk(&mut self, now: Now) {
        self.hand.turn(now);
    }

    /// Both clocks are suddenly these: a step of the wall clock, or a pause of the process.
    pub fn jump(&mut self, now: Now) {
        for core in &mut self.cores {
            core.now = now;
            *core.clock.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
    }
}

fn core(
    setting: &Setting<'_>,
    now: Now,
    (number, (writer, feed)): (usize, (Writer, Feed)),
    (names, errands): (&Names, &Errands),
    (horizon, starts): (&Rc<Cell<u64>>, &Starts),
) -> io::Result<Core> {
    let clock: Clock = Arc::new(Mutex::new(now));
    let network = Network::new(Rc::clone(setting.script), Rc::clone(starts), Arc::clone(&clock), Rc::clone(horizon));
    let (outbox, inbox) = mailbox(COMMANDS_WAITING)?;
    let stats = Arc::new(ShardStats::new(number));
    let answers = outbox.clone();
    let read = Arc::clone(&clock);
    let seed = setting.script.seed;
    let parts = Parts {
        tools: Tools { store: Store::new(IdentityHasher::new(seed, seed ^ 1)), inflater: Inflater::default() },
        writer,
        recorder: Recorder::new(Arc::clone(&stats)),
        names: names.clone(),
        errands: errands.clone(),
        mailer: Mailer::new(move |a| {
            answers.post(Message::Answer(a)).map_err(|m| match m {
                Message::Answer(a) => a,
                Message::Command(_) => unreachable!("an answer comes back as an answer"),
            })
        }),
        clock: Box::new(move || *read.lock().unwrap_or_else(PoisonError::into_inner)),
        tolerance_ns: TOLERANCE_NS,
        keep_alive: KeepAlive::Always,
        sabotage: (setting.sabotage)(),
    };
    let shard = Shard::new(Net::new(network), Slice::new(parts), inbox, feed);
    Ok(Core { shard, outbox, clock, now, stats })
}
