//! The service that looks host names up for all shards: its threads, and the system's resolver, which may block.
//!
//! What is looked up when is decided in `look_ups.rs`. Threads are grown on demand: one that begins a look-up sees to it
//! that another one rests, so that who asks never starts a thread: a shard's would be bound to the shard's core.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::time::Now;
use crate::selfmetrics::{Collect, Exposition, Kind};
use crate::shard::errands::Answer;
pub use crate::shard::look_ups::{Asked, Asker, Found};
use crate::shard::look_ups::{LANES, LookUps, Next, THREADS_MAX};

/// A thread that rests this long ends, but for the last one.
const REST: Duration = Duration::from_secs(60);

/// The addresses of a name, whatever their port, at least one; or the error text.
pub type Resolver = Box<dyn Fn(&str) -> Result<Vec<SocketAddr>, String> + Send + Sync>;

/// The way to the service; cheap to clone, one for each shard.
#[derive(Clone)]
pub struct Names(Arc<Handle>);

/// The threads end with the last one who may ask.
struct Handle(Arc<Service>);

struct Service {
    state: Mutex<State>,
    wake: Condvar,
    resolver: Resolver,
}

#[derive(Default)]
struct State {
    look_ups: LookUps,
    threads: usize,
    /// Of these at rest.
    resting: usize,
    is_closed: bool,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    /// Starts the service with the system's resolver.
    ///
    /// # Errors
    /// The system's, when no thread can be had.
    pub fn spawn() -> std::io::Result<Self> {
        Self::spawn_with(Box::new(resolve))
    }

    /// Starts the service with this resolver, which may block for as long as it likes.
    ///
    /// # Errors
    /// The system's, when no thread can be had.
    pub fn spawn_with(resolver: Resolver) -> std::io::Result<Self> {
        let service = Arc::new(Service { state: Mutex::default(), wake: Condvar::new(), resolver });
        service.lock().threads = 1;
        Service::start(&service)?;
        Ok(Self(Arc::new(Handle(service))))
    }

    /// Asks for a name. What is known is known at once; else an [`Answer::Resolved`] comes, unless the asker's deadline has
    /// passed by then.
    #[must_use]
    pub fn ask(&self, name: &str, asker: Asker, now: Now) -> Asked {
        let service = &self.0.0;
        let asked = service.lock().look_ups.ask(name, asker, now.mono_ns);
        if let Asked::Waiting = asked {
            service.wake.notify_one();
        }
        asked
    }
}

impl Collect for Names {
    fn collect(&self, out: &mut Exposition) {
        let tallies = self.0.0.lock().look_ups.tallies();
        let counts = [
            ("ringscrape_name_lookups_total", "Look-ups of host names that ended.", tallies.ended),
            ("ringscrape_name_lookups_failed_total", "Look-ups of host names without an address.", tallies.failed),
            ("ringscrape_name_lookups_slow_total", "Look-ups of host names that took a second or more.", tallies.slow),
            (
                "ringscrape_name_lookups_refused_total",
                "Scrapes that failed because too many wait for names.",
                tallies.refused,
            ),
        ];
        for (name, help, count) in counts {
            out.sample(name, Kind::Counter, help, &[], count as f64);
        }
        let help = "Scrapes that wait for a name, or gave up while it was looked up.";
        for (lane, count) in LANES.into_iter().zip(tallies.waiting) {
            out.sample("ringscrape_name_lookups_waiting", Kind::Gauge, help, &[("lane", lane)], count as f64);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.wake.notify_all();
    }
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread, which is counted already.
    fn start(service: &Arc<Self>) -> std::io::Result<()> {
        let own = Arc::clone(service);
        std::thread::Builder::new().name("names".into()).spawn(move || Self::run(&own)).map(drop)
    }

    fn run(service: &Arc<Self>) {
        let mut state = service.lock();
        while !state.is_closed {
            let mono_ns = Now::read().mono_ns;
            match state.look_ups.next(mono_ns) {
                Next::LookUp(name) => {
                    service.see_to_another(state);
                    let result = (service.resolver)(&name);
                    service.answer(&name, result);
                    state = service.lock();
                }
                Next::Again => {
                    drop(state);
                    std::thread::yield_now();
                    state = service.lock();
                }
                Next::Rest(until_mono_ns) => {
                    let until = until_mono_ns.map(|at| Duration::from_nanos(at.saturating_sub(mono_ns)));
                    state.resting += 1;
                    let (rested, timed_out) =
                        service.wake.wait_timeout(state, until.unwrap_or(REST)).unwrap_or_else(PoisonError::into_inner);
                    state = rested;
                    state.resting -= 1;
                    if timed_out.timed_out() && until.is_none() && state.resting > 0 {
                        break;
                    }
                }
            }
        }
        state.threads -= 1;
    }

    /// Before a look-up: another thread is to take the next name, or to see when this one is slow.
    fn see_to_another(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.resting > 0 {
            if state.look_ups.has_next() {
                self.wake.notify_one();
            }
            return;
        }
        if state.threads == THREADS_MAX {
            return;
        }
        state.threads += 1;
        drop(state);
        if let Err(e) = Self::start(self) {
            // Those who wait are served by the threads that there are.
            tracing::warn!(error = %e, "no further thread for looking up names");
            self.lock().threads -= 1;
        }
    }

    fn answer(&self, name: &Arc<str>, result: Result<Vec<SocketAddr>, String>) {
        let mut state = self.lock();
        let (found, mut askers) = state.look_ups.finish(name, result, Now::read().mono_ns);
        drop(state);
        while let Some(asker) = askers.pop() {
            let (token, name, port) = (asker.token, Arc::clone(name), asker.port);
            let answer = Answer::Resolved { token, name, port, found: found.clone() };
            if !asker.mailer.post(answer) {
                // That shard is gone, and must not hold this thread up again.
                askers.retain(|other| !Arc::ptr_eq(&other.mailer, &asker.mailer));
            }
        }
    }
}

/// The system's resolver: files, DNS, whatever it is set up with.
fn resolve(name: &str) -> Result<Vec<SocketAddr>, String> {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut all: Vec<SocketAddr> = found.collect();
            all.dedup();
            if all.is_empty() { Err(format!("lookup {name}: no such host")) } else { Ok(all) }
        }
        Err(e) => Err(format!("lookup {name}: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::shard::errands::Mailer;

    const SECOND: u64 = 1_000_000_000;

    /// A shard's end: what reaches it.
    fn mailbox() -> (Arc<Mailer>, Receiver<(u32, Found)>) {
        let (sender, inbox) = channel();
        let mailer = Mailer::new(move |answer| match answer {
            Answer::Resolved { token, found, .. } => {
                let _ = sender.send((token, found));
                Ok(())
            }
            other => Err(other),
        });
        (mailer, inbox)
    }

    fn asker(token: u32, mailer: &Arc<Mailer>) -> Asker {
        let deadline_mono_ns = Now::read().mono_ns + 60 * SECOND;
        Asker { token, port: 80, deadline_mono_ns, mailer: Arc::clone(mailer) }
    }

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn literal_names_resolve_and_unknown_ones_say_so() {
        assert_eq!(resolve("127.0.0.1").unwrap(), vec![loopback()]);
        assert!(resolve("no-such-host.invalid").unwrap_err().contains("lookup no-such-host.invalid"));
    }

    #[test]
    fn a_dead_zone_does_not_hold_up_a_healthy_name() {
        let (release, held) = channel::<()>();
        let held = Mutex::new(held);
        let names = Names::spawn_with(Box::new(move |name| {
            if name.ends_with(".dead.zone") {
                // Until the sender is gone: then all of them end.
                let _ = held.lock().map(|h| h.recv());
                return Err("no answer".into());
            }
            Ok(vec![loopback()])
        }))
        .unwrap();
        let (mailer, inbox) = mailbox();
        for i in 0..5_000 {
            let name = format!("n{i}.dead.zone");
            assert!(matches!(names.ask(&name, asker(0, &mailer), Now::read()), Asked::Waiting));
        }
        for token in 1..=3 {
            let name = format!("n{token}.healthy.zone");
            assert!(matches!(names.ask(&name, asker(token, &mailer), Now::read()), Asked::Waiting));
            let (answered, found) = inbox.recv_timeout(Duration::from_secs(10)).expect("an answer in time");
            assert_eq!((answered, found.addresses(9100)), (token, vec!["127.0.0.1:9100".parse().unwrap()]));
        }
        assert!(names.0.0.lock().threads <= THREADS_MAX);
        drop(release);
    }

    #[test]
    fn who_asks_for_one_name_shares_a_look_up() {
        let count = Arc::new(AtomicUsize::new(0));
        let (begin, wait) = channel::<()>();
        let (counted, wait) = (Arc::clone(&count), Mutex::new(wait));
        let names = Names::spawn_with(Box::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = wait.lock().map(|w| w.recv());
            Ok(vec![loopback()])
        }))
        .unwrap();
        let (mailer, inbox) = mailbox();
        for token in 0..1_000 {
            assert!(matches!(names.ask("one.host", asker(token, &mailer), Now::read()), Asked::Waiting));
        }
        drop(begin);
        let mut answered: Vec<u32> =
            (0..1_000).map(|_| inbox.recv_timeout(Duration::from_secs(10)).unwrap().0).collect();
        answered.sort_unstable();
        let mut metrics = Exposition::default();
        names.collect(&mut metrics);
        assert!(metrics.text().contains("ringscrape_name_lookups_total 1\n"), "{}", metrics.text());
        assert!(answered.into_iter().eq(0..1_000));
        assert!(matches!(names.ask("one.host", asker(1, &mailer), Now::read()), Asked::Known(_)));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_threads_end_with_the_last_one_who_may_ask() {
        let names = Names::spawn_with(Box::new(|_| Ok(vec![loopback()]))).unwrap();
        let service = Arc::downgrade(&names.0.0);
        let (mailer, inbox) = mailbox();
        assert!(matches!(names.ask("a.host", asker(1, &mailer), Now::read()), Asked::Waiting));
        assert_eq!(inbox.recv_timeout(Duration::from_secs(10)).unwrap().0, 1);
        drop(names);
        let ended = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            service.strong_count() == 0
        });
        assert!(ended, "a thread still runs");
    }
}
