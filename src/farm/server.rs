//! A running farm: its thread, what drives its sockets, and what it tells.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::exporters::Exporters;
use super::listen::Listeners;
use super::press::Press;
use super::{Engine, Spec, epoll, rings};
use crate::base::cpu;
use crate::base::time::Now;

/// How often the thread notes its CPU time, and the longest sleep: a farm that is told to stop ends within it.
const NOTED_NS: u64 = 50_000_000;

/// What the farm's thread tells others.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    served: Arc<AtomicU64>,
    cpu_ns: AtomicU64,
}

/// A running farm; stops when dropped.
pub struct Farm {
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
    spec: Spec,
    engine: Engine,
    sockets: String,
    /// First port of every address.
    pub port: u16,
}

/// What drives the sockets.
enum Sockets {
    Rings(Box<rings::Server>),
    Epoll(Box<epoll::Server>),
}

/// What came of the attempt at serving.
struct Opened {
    engine: Engine,
    sockets: String,
    port: u16,
}

impl Farm {
    /// Listens and serves from a thread of its own.
    ///
    /// # Errors
    /// A description that cannot be, a body that cannot be had, or the system's: port taken, no descriptors.
    pub fn spawn(spec: Spec) -> io::Result<Self> {
        spec.check().map_err(io::Error::other)?;
        let told = Arc::new(Told::default());
        let (shared, described) = (Arc::clone(&told), spec.clone());
        let (say, heard) = mpsc::sync_channel(1);
        // A ring belongs to the thread that makes it, so the thread says whether it could.
        let thread = std::thread::Builder::new().name("farm".into()).spawn(move || {
            let entered = described.namespace.as_deref().map_or(Ok(()), enter);
            match entered.and_then(|()| Sockets::new(&described, &shared.served)) {
                Ok((sockets, opened)) => {
                    let _ = say.send(Ok(opened));
                    sockets.serve(&shared);
                }
                Err(e) => drop(say.send(Err(e))),
            }
        })?;
        let ended = || io::Error::other("the farm's thread ended");
        let Opened { engine, sockets, port } = heard.recv().unwrap_or_else(|_| Err(ended()))?;
        Ok(Self { told, thread: Some(thread), spec, engine, sockets, port })
    }

    /// Where a target is scraped.
    #[must_use]
    pub fn addr(&self, target: u32) -> SocketAddr {
        self.spec.addr(target, self.port)
    }

    /// The description it was made from.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What drives its sockets: [`Engine::Uring`] or [`Engine::Epoll`].
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The same for people, with how many rings or why none.
    #[must_use]
    pub fn sockets(&self) -> &str {
        &self.sockets
    }

    /// Requests answered so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.told.served.load(Ordering::Relaxed)
    }

    /// CPU time of the farm's thread, as of at most 50 ms ago.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.told.cpu_ns.load(Ordering::Relaxed)
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// Moves this thread to a network namespace: sockets that it makes from now on live there.
fn enter(namespace: &Path) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("namespace {}: {e}", namespace.display()));
    let file = File::open(namespace).map_err(named)?;
    // SAFETY: a plain system call on an open descriptor.
    let r = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    if r == 0 { Ok(()) } else { Err(named(io::Error::last_os_error())) }
}

impl Sockets {
    fn new(spec: &Spec, served: &Arc<AtomicU64>) -> io::Result<(Self, Opened)> {
        if spec.engine == Engine::Epoll {
            return Self::epoll(spec, "epoll".to_owned(), served);
        }
        match rings::Server::new(spec, served) {
            Ok(server) => {
                let sockets = format!("io_uring, {} rings", server.rings());
                let opened = Opened { engine: Engine::Uring, sockets, port: server.port() };
                Ok((Self::Rings(Box::new(server)), opened))
            }
            Err(rings::Failure::Refused(refusal)) if spec.engine == Engine::Auto => {
                Self::epoll(spec, format!("epoll ({refusal})"), served)
            }
            Err(rings::Failure::Refused(refusal)) => Err(io::Error::other(refusal)),
            Err(rings::Failure::System(e)) => Err(e),
        }
    }

    fn epoll(spec: &Spec, sockets: String, served: &Arc<AtomicU64>) -> io::Result<(Self, Opened)> {
        let press = Press::new(spec)?;
        let listeners = Listeners::open(spec, 1)?;
        let opened = Opened { engine: Engine::Epoll, sockets, port: listeners.port };
        let exporters = Exporters::new(spec, listeners.port, press, Arc::clone(served))?;
        Ok((Self::Epoll(Box::new(epoll::Server::new(listeners, exporters)?)), opened))
    }

    fn serve(mut self, told: &Told) {
        let mut noted_ns = 0;
        while !told.stop.load(Ordering::Relaxed) {
            let now_ns = Now::read().mono_ns;
            if now_ns - noted_ns >= NOTED_NS {
                noted_ns = now_ns;
                told.cpu_ns.store(cpu::thread_time_ns(), Ordering::Relaxed);
            }
            let until_ns = now_ns + NOTED_NS;
            match &mut self {
                Self::Rings(server) => server.turn(until_ns),
                Self::Epoll(server) => server.turn(now_ns, until_ns),
            }
        }
    }
}
