//! Shard threads: which engine they run on, how many there are, how they are started.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::app::cli::EngineChoice;
use crate::base::limits::COMMANDS_WAITING;
use crate::base::mailbox::{Outbox, mailbox};
use crate::base::time::Now;
use crate::encoding::gzip::Inflater;
use crate::engine::{Backend, Epoll, Uring, UringOptions};
use crate::manager::Outlet;
use crate::model::IdentityHasher;
use crate::net::Net;
use crate::scrape::KeepAlive;
use crate::scrape::exchange::Tools;
use crate::selfmetrics::Gauge;
use crate::series::Store;
use crate::shard::errands::{Errands, Mailer};
use crate::shard::names::Names;
use crate::shard::stats::{Recorder, ShardStats};
use crate::shard::{Command, Message, Parts, Shard, Slice};
use crate::storage::journal::{self, Feed, Writer};

/// A shard with more than this share of its room for layouts takes no targets of others.
const LAYOUT_ROOM: f64 = 0.8;

/// The engine that was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// `uring` or `epoll`.
    pub name: &'static str,
    /// One sentence.
    pub why: String,
}

/// Chooses the engine by building the real ring with the real flags.
///
/// # Errors
/// When io_uring was demanded and is refused; the text says by which layer.
pub fn choose(choice: EngineChoice) -> Result<Engine, String> {
    let uring = |why: &str| Engine { name: "uring", why: why.to_owned() };
    match choice {
        EngineChoice::Epoll => Ok(Engine { name: "epoll", why: "asked for with --engine=epoll".into() }),
        EngineChoice::Uring => match Uring::probe() {
            Ok(()) => Ok(uring("asked for with --engine=uring")),
            Err(e) => Err(format!("--engine=uring: {e}; use --engine=auto to fall back to epoll")),
        },
        EngineChoice::Auto => match Uring::probe() {
            Ok(()) => Ok(uring("io_uring works here")),
            Err(e) => Ok(Engine { name: "epoll", why: e.to_string() }),
        },
    }
}

/// What every shard is given.
#[derive(Clone, Copy, Debug)]
pub struct ShardSettings<'a> {
    /// CPUs to pin to, by shard; empty = never.
    pub cpus: &'a [usize],
    /// See [`Parts::tolerance_ns`].
    pub tolerance_ns: i64,
    /// See [`Parts::keep_alive`].
    pub keep_alive: KeepAlive,
    /// `uring` or `epoll`.
    pub engine: &'static str,
}

/// All shards of the process.
pub struct Shards {
    threads: Vec<JoinHandle<()>>,
    /// Mailboxes by shard.
    pub outboxes: Vec<Outbox<Message>>,
    /// Counters by shard.
    pub stats: Vec<Arc<ShardStats>>,
    /// What looks names up for all of them.
    pub names: Names,
}

impl Shards {
    /// Starts one thread for each journal writer.
    ///
    /// # Errors
    /// When a thread, a mailbox or a backend cannot be had.
    pub fn spawn(ends: Vec<(Writer, Feed)>, settings: ShardSettings<'_>) -> Result<Self, String> {
        let errands = Errands::spawn().map_err(|e| format!("errand threads: {e}"))?;
        let names = Names::spawn().map_err(|e| format!("name threads: {e}"))?;
        let mut all = Self { threads: Vec::new(), outboxes: Vec::new(), stats: Vec::new(), names };
        for (shard, (writer, feed)) in ends.into_iter().enumerate() {
            let (outbox, inbox) = mailbox(COMMANDS_WAITING).map_err(|e| format!("shard mailbox: {e}"))?;
            let stats = Arc::new(ShardStats::new(shard));
            let answers = outbox.clone();
            let mailer = Mailer::new(move |a| {
                answers.post(Message::Answer(a)).map_err(|m| match m {
                    Message::Answer(a) => a,
                    Message::Command(_) => unreachable!("an answer comes back as an answer"),
                })
            });
            let parts_of = {
                let (stats, names, errands) = (Arc::clone(&stats), all.names.clone(), errands.clone());
                move || Parts {
                    tools: Tools { store: Store::new(IdentityHasher::random()), inflater: Inflater::default() },
                    writer,
                    recorder: Recorder::new(stats),
                    names,
                    errands,
                    mailer,
                    clock: Box::new(Now::read),
                    tolerance_ns: settings.tolerance_ns,
                    keep_alive: settings.keep_alive,
                    #[cfg(any(test, feature = "sim"))]
                    sabotage: None,
                }
            };
            let cpu = settings.cpus.get(shard % settings.cpus.len().max(1)).copied();
            let (started, ready) = std::sync::mpsc::sync_channel(1);
            let body = move || {
                if let Some(cpu) = cpu {
                    crate::base::cpu::pin(cpu);
                }
                let said = match settings.engine {
                    "uring" => Uring::new(UringOptions::default()).map_err(|e| e.to_string()).map(|b| {
                        let _ = started.send(Ok(()));
                        turn(b, parts_of(), inbox, feed);
                    }),
                    _ => Epoll::new().map_err(|e| e.to_string()).map(|b| {
                        let _ = started.send(Ok(()));
                        turn(b, parts_of(), inbox, feed);
                    }),
                };
                if let Err(text) = said {
                    let _ = started.send(Err(text));
                }
            };
            let thread = std::thread::Builder::new().name(format!("shard-{shard}")).spawn(body);
            all.threads.push(thread.map_err(|e| format!("shard thread: {e}"))?);
            ready
                .recv()
                .unwrap_or_else(|_| Err("the thread ended".into()))
                .map_err(|e| format!("shard {shard}: {e}"))?;
            all.outboxes.push(outbox);
            all.stats.push(stats);
        }
        Ok(all)
    }

    /// Waits until every shard has flushed its last frames and ended. They must have been told to stop.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a shard ended badly");
            }
        }
    }
}

fn turn<B: Backend>(backend: B, parts: Parts, inbox: crate::base::mailbox::Inbox<Message>, feed: Feed) {
    Shard::new(Net::new(backend), Slice::new(parts), inbox, feed).run(Now::read);
}

/// The manager's way to the shards.
#[derive(Debug)]
pub struct ShardOutlet {
    /// Mailboxes by shard.
    pub outboxes: Vec<Outbox<Message>>,
    /// Counters by shard.
    pub stats: Vec<Arc<ShardStats>>,
    /// Of the journal.
    pub disk: Arc<journal::Stats>,
}

impl Outlet for ShardOutlet {
    fn shards(&self) -> usize {
        self.outboxes.len()
    }

    fn cpu_ns(&self, shard: usize) -> u64 {
        self.stats[shard].cpu_ns.read()
    }

    fn may_take(&self, shard: usize) -> bool {
        let has_room = |used: &Gauge, most: &Gauge| used.read() < LAYOUT_ROOM * most.read();
        let stats = &self.stats[shard];
        has_room(&stats.layout_bytes, &stats.layout_bytes_max)
            && has_room(&stats.packed_layout_bytes, &stats.packed_layout_bytes_max)
            && self.disk.alarms(Now::read()).is_empty()
    }

    fn post(&mut self, shard: usize, command: Command) -> Result<(), Box<Command>> {
        self.outboxes[shard].post(Message::Command(command)).map_err(|m| match m {
            Message::Command(c) => Box::new(c),
            Message::Answer(_) => unreachable!("a command comes back as a command"),
        })
    }
}
