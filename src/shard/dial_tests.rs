//! Tests of how a cycle gets to its job: names, redirects to names, deadlines; the net is played by hand.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::config::ScrapeConfig;
use crate::encoding::gzip::Inflater;
use crate::model::{IdentityHasher, Labels};
use crate::net::{NetError, Outcome, Phases, Sink};
use crate::scrape::exchange::Tools;
use crate::scrape::{KeepAlive, PoolId, PoolSpec, Scheme, TargetHash, TargetSpec};
use crate::series::Store;
use crate::shard::errands::{Errands, Mailer};
use crate::shard::names::{Names, Resolver};
use crate::shard::slice::Parts;
use crate::shard::stats::{Recorder, ShardStats};
use crate::storage::journal::Writer;

const SECOND: u64 = 1_000_000_000;

/// A slice with one pool, and what comes back to it.
struct Rig {
    slice: Slice,
    answers: Receiver<Answer>,
    now: Now,
}

impl Rig {
    fn new(resolver: Resolver) -> Self {
        let (sender, answers) = channel();
        let now = Now { mono_ns: Now::read().mono_ns, wall_ns: 1_700_000_000_000_000_000 };
        let mut slice = Slice::new(Parts {
            tools: Tools { store: Store::new(IdentityHasher::new(1, 2)), inflater: Inflater::default() },
            writer: Writer::new(0, 1),
            recorder: Recorder::new(Arc::new(ShardStats::new(0))),
            names: Names::spawn_with(resolver).unwrap(),
            errands: Errands::spawn().unwrap(),
            mailer: Mailer::new(move |answer| sender.send(answer).map_err(|e| e.0)),
            clock: Box::new(move || now),
            tolerance_ns: 0,
            keep_alive: KeepAlive::Always,
            sabotage: None,
        });
        let config = ScrapeConfig { job_name: "job".into(), ..ScrapeConfig::default() };
        slice.set_pool(PoolSpec { id: PoolId(1), config: Arc::new(config), forced_error: None });
        Self { slice, answers, now }
    }

    /// Begins a cycle of a target at this host.
    fn scrape(&mut self, host: Host, authority: &str) -> u32 {
        let spec = TargetSpec {
            hash: TargetHash(self.slice.target_count() as u64),
            labels: Labels::from_pairs([("instance", self.slice.target_count().to_string())]),
            scheme: Scheme::Http,
            host,
            authority: authority.into(),
            path: "/metrics".into(),
            interval_ns: 15_000_000_000,
            timeout_ns: 10_000_000_000,
            offset_ns: 0,
        };
        let hash = spec.hash;
        self.slice.add_target(PoolId(1), spec);
        let token = self.slice.token_of(PoolId(1), hash).unwrap();
        self.again(token);
        token
    }

    fn again(&mut self, token: u32) {
        let target = self.slice.loop_mut(token);
        target.has_started = true;
        let deadline = self.now.mono_ns + 10 * SECOND;
        let config = Arc::clone(&self.slice.pools[0].as_ref().unwrap().spec.config);
        let exchange = Exchange::new(self.now.wall_ms(), self.now, deadline, &config);
        self.slice.dial(token, Box::new(exchange), self.now);
    }

    fn take_answer(&mut self) {
        let answer = self.answers.recv_timeout(Duration::from_secs(10)).expect("an answer");
        self.slice.on_answer(answer, self.now);
    }

    fn job(&mut self) -> Job {
        assert_eq!(self.slice.jobs.len(), 1, "{:?}", self.slice.jobs);
        self.slice.jobs.remove(0)
    }

    /// The answer to a job is a redirect there.
    fn redirect(&mut self, token: u32, location: &str) {
        let Cycle::InFlight(exchange) = &mut self.slice.loop_mut(token).cycle else { panic!("nothing in flight") };
        exchange.location = Some(location.to_owned());
        self.slice.end(token, Outcome::Done(Phases::default()));
    }

    fn fail(&mut self, token: u32, error: NetError) {
        self.slice.end(token, Outcome::Failed(error, Phases::default()));
    }

    fn last_error(&self, token: u32) -> &str {
        let target = self.slice.loop_of(token);
        assert!(matches!(target.cycle, Cycle::Resting), "{:?}", target.cycle);
        target.last_error()
    }
}

fn name(name: &str, port: u16) -> Host {
    Host::Name { name: name.into(), port }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Two addresses for each name.
fn two(_: &str) -> Result<Vec<SocketAddr>, String> {
    Ok(vec![addr("127.0.0.1:0"), addr("127.0.0.2:0")])
}

#[test]
fn addresses_share_what_is_left_of_the_deadline() {
    let second = 1_000_000_000;
    for (left_s, more, wanted_s) in [(10, 0, 10), (10, 1, 5), (10, 4, 2), (10, 9, 2), (1, 3, 1), (0, 1, 0)] {
        let at = connected_by_ns(7 * second, (7 + left_s) * second, more);
        assert_eq!(at, (7 + wanted_s) * second, "{left_s} s and {more} more");
    }
    assert_eq!(connected_by_ns(5, 3, 1), 5, "a deadline in the past");
}

#[test]
fn all_ports_of_a_host_share_a_look_up() {
    let mut rig = Rig::new(Box::new(two));
    rig.scrape(name("a.host", 1), "a.host:1");
    rig.take_answer();
    assert_eq!(rig.job().addr, addr("127.0.0.1:1"));
    rig.scrape(name("a.host", 2), "a.host:2");
    assert_eq!(rig.job().addr, addr("127.0.0.1:2"), "known at once");
}

#[test]
fn all_addresses_of_a_redirects_name_are_tried() {
    let mut rig = Rig::new(Box::new(two));
    let token = rig.scrape(Host::Addr(addr("10.0.0.1:80")), "10.0.0.1");
    assert_eq!(rig.job().addr, addr("10.0.0.1:80"));
    rig.redirect(token, "http://other.host:81/m");
    rig.take_answer();
    let job = rig.job();
    assert_eq!((job.addr, job.dial), (addr("127.0.0.1:81"), Dial::Until(rig.now.mono_ns + 5 * SECOND)));
    rig.fail(token, NetError::ConnectRefused);
    let job = rig.job();
    assert_eq!((job.addr, job.dial), (addr("127.0.0.2:81"), Dial::Until(rig.now.mono_ns + 10 * SECOND)));
    // The next place begins with its first address.
    rig.redirect(token, "http://third.host:82/m");
    rig.take_answer();
    assert_eq!(rig.job().addr, addr("127.0.0.1:82"));
    rig.fail(token, NetError::ConnectRefused);
    assert_eq!(rig.job().addr, addr("127.0.0.2:82"));
    rig.fail(token, NetError::ConnectRefused);
    assert!(rig.last_error(token).contains("http://third.host:82/m"), "{}", rig.last_error(token));
}

#[test]
fn a_redirect_to_the_targets_own_name_uses_the_connection_that_answered() {
    let mut rig = Rig::new(Box::new(two));
    let token = rig.scrape(name("Own.host", 80), "Own.host");
    rig.take_answer();
    rig.job();
    rig.fail(token, NetError::ConnectRefused);
    assert_eq!(rig.job().addr, addr("127.0.0.2:80"));
    rig.redirect(token, "/elsewhere");
    let job = rig.job();
    assert_eq!((job.addr, job.link, job.dial), (addr("127.0.0.2:80"), Link::Keep, Dial::Never));
    // It was closed: then the name counts.
    rig.fail(token, NetError::NotKept);
    let job = rig.job();
    assert_eq!((job.addr, job.dial), (addr("127.0.0.1:80"), Dial::Until(rig.now.mono_ns + 5 * SECOND)));
    rig.slice.end(token, Outcome::Done(Phases::default()));
    rig.again(token);
    let job = rig.job();
    assert_eq!((job.addr, job.dial), (addr("127.0.0.1:80"), Dial::Never), "and so does the next scrape");
}

#[test]
fn a_name_that_cannot_be_looked_up_fails_the_scrape_and_those_of_its_neighbours() {
    let mut rig = Rig::new(Box::new(|name| Err(format!("lookup {name}: no such host"))));
    let token = rig.scrape(name("a.host", 80), "a.host");
    rig.take_answer();
    let text = "Get \"http://a.host/metrics\": dial tcp: lookup a.host: no such host";
    assert_eq!(rig.last_error(token), text);
    let neighbour = rig.scrape(name("a.host", 81), "a.host:81");
    assert!(rig.last_error(neighbour).ends_with("lookup a.host: no such host"));
}

#[test]
fn a_scrape_whose_name_is_not_looked_up_in_time_fails_and_the_next_one_asks_again() {
    let (release, held) = channel::<()>();
    let held = std::sync::Mutex::new(held);
    let mut rig = Rig::new(Box::new(move |name| {
        let _ = held.lock().map(|h| h.recv());
        two(name)
    }));
    let tokens: Vec<u32> = (0..1_000).map(|port| rig.scrape(name("a.host", port), "a.host")).collect();
    let start = rig.now;
    assert_eq!(rig.slice.wake_at(start).map(|at| at <= start.mono_ns + 10 * SECOND), Some(true));
    rig.now.mono_ns += 10 * SECOND - 1;
    rig.slice.expire_awaiting(rig.now);
    assert!(matches!(rig.slice.loop_of(tokens[0]).cycle, Cycle::AwaitingName(_)));
    rig.now.mono_ns += 1;
    rig.slice.expire_awaiting(rig.now);
    for &token in &tokens {
        assert!(rig.last_error(token).contains("context deadline exceeded"), "{}", rig.last_error(token));
    }
    assert!(rig.slice.awaiting.is_empty());
    rig.again(tokens[7]);
    drop(release);
    // In the world of the service, which has a clock of its own, nobody's time is up.
    for _ in 0..=tokens.len() {
        rig.take_answer();
    }
    assert_eq!((rig.job().token, rig.slice.jobs.len()), (tokens[7], 0));
}
