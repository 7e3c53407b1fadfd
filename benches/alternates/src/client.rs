//! A client: one engine under one load, in a process of its own on CPU 0; and what the loops of the runtimes share.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringscrape::base::cpu;
use ringscrape::base::limits::RECV_BUFFER_BYTES;

use crate::answer::Answer;
use crate::engine::Engine;
use crate::load::Load;
use crate::meter::{Figures, Meter, Tally};
use crate::served::Address;
use crate::{on_glommio, on_tokio, on_tokio_uring, ours};

/// Exchanges made before the first connection, so that their memory is not taken for that of connections.
const EXCHANGES_READY: usize = 256;
/// When a scrape is given up.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a client and prints its figures.
pub fn run(engine: Engine, load: Load, farm: Address) -> Result<(), String> {
    cpu::pin(0);
    let client = || Arc::new(Client::new(load, farm));
    let figures = match engine {
        Engine::Ring => ours::ring(load, farm),
        Engine::Epoll => ours::epoll(load, farm),
        Engine::Tokio => on_tokio::run(client()),
        Engine::TokioUring => on_tokio_uring::run(client()),
        Engine::Glommio => on_glommio::run(client()),
    }
    .map_err(|e| format!("{}: {e}", engine.name()))?;
    println!("{}", serde_json::to_string(&figures).map_err(|e| e.to_string())?);
    Ok(())
}

/// What a scrape needs while it is under way.
#[derive(Debug)]
pub struct Exchange {
    /// What is sent.
    pub request: Vec<u8>,
    /// What reads fill.
    pub buffer: Vec<u8>,
    /// What came.
    pub answer: Answer,
}

/// What the tasks of a runtime share. One thread uses it: the locks are never contended.
#[derive(Debug)]
pub struct Client {
    /// What is to be done.
    pub load: Load,
    farm: Address,
    start: Instant,
    tally: Mutex<Tally>,
    meter: Mutex<Meter>,
    exchanges: Mutex<Vec<Box<Exchange>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    fn new(load: Load, farm: Address) -> Self {
        Self {
            load,
            farm,
            start: Instant::now(),
            tally: Mutex::default(),
            meter: Mutex::new(Meter::new(farm)),
            exchanges: Mutex::new((0..EXCHANGES_READY).map(|_| Exchange::new()).collect()),
        }
    }

    /// Targets whose tasks begin before a mark: the first, then all others, so that what memory grows by between the first
    /// two marks is that of connections with their tasks.
    pub fn newcomers(&self, mark: usize) -> Range<u32> {
        match mark {
            0 => 0..1,
            1 => 1..self.load.targets,
            _ => 0..0,
        }
    }

    /// The moment so long after the start.
    pub fn at(&self, ns: u64) -> Instant {
        self.start + Duration::from_nanos(ns)
    }

    /// When a target is to be scraped for the `round`-th time.
    pub fn due(&self, target: u32, round: u64) -> Instant {
        self.at(self.load.due_ns(u64::from(target) + round * u64::from(self.load.targets)))
    }

    /// Where a target is.
    pub fn addr(&self, target: u32) -> std::net::SocketAddr {
        self.load.addr(target, self.farm.port)
    }

    /// An exchange with the request of a target.
    pub fn exchange(&self, target: u32) -> Box<Exchange> {
        let mut exchange = lock(&self.exchanges).pop().unwrap_or_else(Exchange::new);
        self.load.request(target, self.farm.port, &mut exchange.request);
        exchange.answer.reset();
        exchange
    }

    /// Takes an exchange back and counts how it ended.
    pub fn ended(&self, exchange: Box<Exchange>, due: Instant, result: io::Result<()>) {
        let samples = exchange.answer.samples.count;
        match result {
            Ok(()) if samples == self.load.samples => lock(&self.tally).done(due.elapsed().as_nanos() as u64),
            Ok(()) => self.failed(format_args!("{samples} samples")),
            Err(e) => self.failed(e),
        }
        lock(&self.exchanges).push(exchange);
    }

    /// Counts a scrape that failed and took its exchange with it.
    pub fn failed(&self, why: impl std::fmt::Display) {
        lock(&self.tally).failed(why);
    }

    /// Looks at the meter, at each mark.
    pub fn look(&self) {
        lock(&self.meter).look(&self.load, &mut lock(&self.tally));
    }

    /// What came of it.
    pub fn figures(&self) -> Figures {
        lock(&self.meter).figures(&self.load, &mut lock(&self.tally))
    }
}

impl Exchange {
    /// An exchange whose memory is resident.
    fn new() -> Box<Self> {
        Box::new(Self { request: vec![1; 512], buffer: vec![1; RECV_BUFFER_BYTES], answer: Answer::default() })
    }
}
