//! A shard's slice of every scrape pool: what is owned by one thread and shared with none.
//!
//! The slice turns due times into jobs for the net, takes the bytes of answers (it is the net's [`Sink`]), and writes
//! what a scrape showed to the journal. It knows no sockets; its thread is [`crate::shard::Shard`].

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::base::limits::{BODY_BYTES_IN_FLIGHT, REDIRECTS_MAX};
use crate::base::time::Now;
use crate::http::{Flow, ResponseHead};
use crate::net::tls::{Fault, Session};
use crate::net::{Job, Link, NetError, Outcome, Secured, Sink};
use crate::relabel::RelabelError;
use crate::scrape::error::ScrapeError;
use crate::scrape::exchange::{Exchange, Tools, Wanted};
use crate::scrape::pool::{Applied, Authorization, Security};
use crate::scrape::redirect::{self, Place};
use crate::scrape::request::RequestLine;
use crate::scrape::schedule::{Due, Schedule};
use crate::scrape::scrape_loop::{Cycle, Health, Whereto};
use crate::scrape::{Host, KeepAlive, PoolId, PoolSpec, ScrapeLoop, ScrapePool, TargetHash, TargetSpec};
use crate::series::ScrapeCache;
use crate::shard::errands::{self, Answer, Errand, Errands, Mailer};
use crate::shard::roster::Roster;
use crate::shard::stages::Stage;
use crate::shard::stats::Recorder;
use crate::shard::writing::Writing;
use crate::storage::journal::Writer;

/// Starts between the moment when a target's state is asked for and its own: together they take longer than memory.
const PREFETCHED: usize = 4;

/// What a slice is made of.
pub struct Parts {
    /// Series store and inflater.
    pub tools: Tools,
    /// Journal writer.
    pub writer: Writer,
    /// Counters.
    pub recorder: Recorder,
    /// Look-ups and credential files.
    pub errands: Errands,
    /// How their answers come back.
    pub mailer: Arc<Mailer>,
    /// The clocks; virtual in the simulator. Read once for each ended scrape.
    pub clock: Box<dyn Fn() -> Now + Send>,
    /// Scrape times within this of their due time are written as the due time, nanoseconds.
    pub tolerance_ns: i64,
    /// Which connections are kept.
    pub keep_alive: KeepAlive,
    /// Bugs on purpose; `None` outside the simulator's own tests.
    #[cfg(any(test, feature = "sim"))]
    pub sabotage: Option<Box<dyn crate::shard::sabotage::Sabotage>>,
}

/// See the module page.
pub struct Slice {
    pub(super) parts: Parts,
    pub(super) pools: Vec<Option<ScrapePool>>,
    pool_index: HashMap<PoolId, u32>,
    pub(super) roster: Roster,
    pub(super) schedule: Schedule,
    /// Jobs for the net, handed over by the shard between its turns.
    pub(super) jobs: Vec<Job>,
    /// Tokens whose kept connection is to be closed.
    pub(super) forgotten: Vec<u32>,
    /// Cycles that wait for an errand: deadline (monotonic) and token.
    awaiting: Vec<(u64, u32)>,
    pub(super) endings: Vec<Ending>,
    /// Large scrapes on their way to the journal.
    pub(super) writings: VecDeque<Writing>,
    /// Body bytes that wait in memory, over all cycles in flight.
    held_bytes: usize,
    /// Number of the TLS settings that were made last.
    secured: u32,
}

/// A removed target whose end-of-run markers are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub token: u32,
    /// When to write them, monotonic.
    pub at_mono_ns: u64,
    /// Their timestamp.
    pub time_ms: i64,
}

impl Slice {
    /// An empty slice.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            pools: Vec::new(),
            pool_index: HashMap::new(),
            roster: Roster::default(),
            schedule: Schedule::default(),
            jobs: Vec::new(),
            forgotten: Vec::new(),
            awaiting: Vec::new(),
            endings: Vec::new(),
            writings: VecDeque::new(),
            held_bytes: 0,
            secured: 0,
        }
    }

    /// Targets with a loop, ending ones not counted.
    #[must_use]
    pub fn target_count(&self) -> usize {
        self.roster.count()
    }

    /// Inserts a pool or changes its configuration; running loops go on.
    pub fn set_pool(&mut self, spec: PoolSpec) {
        let id = spec.id;
        let job = spec.config.job_name.clone();
        let result = match self.pool_index.get(&id) {
            Some(&i) => self.change_pool(i, spec),
            None => ScrapePool::new(spec).map(|pool| {
                self.pool_index.insert(id, self.pools.len() as u32);
                self.pools.push(Some(pool));
            }),
        };
        if let Err(e) = result {
            tracing::error!(job, error = %e, "scrape pool not applied: a metric relabel rule does not compile");
        }
    }

    fn change_pool(&mut self, index: u32, spec: PoolSpec) -> Result<(), RelabelError> {
        let Some(pool) = &mut self.pools[index as usize] else { return Ok(()) };
        if pool.apply(spec)? == Applied::NewRules {
            for target in self.roster.loops_mut().filter(|l| l.pool == index) {
                target.cache.adopt(&pool.series, &target.spec.labels);
            }
        }
        Ok(())
    }

    /// Stops a pool's loops at once, without end-of-run markers. prometheus: manager.go, ApplyConfig.
    pub fn remove_pool(&mut self, id: PoolId) {
        let Some(index) = self.pool_index.remove(&id) else { return };
        let tokens: Vec<u32> = self.roster.tokens().filter(|&t| self.roster.at(t).pool == index).collect();
        for token in tokens {
            self.unlist(token);
            if matches!(self.loop_of(token).cycle, Cycle::InFlight(_) | Cycle::Writing) {
                // The net still owes an end for it, or the journal; the loop goes then, unseen.
                self.loop_mut(token).ending = true;
                self.loop_mut(token).last_start_mono_ns = None;
            } else {
                self.drop_loop(token);
            }
        }
        self.endings.retain(|e| self.roster.may_be_at(e.token).is_some());
        if !self.roster.loops_mut().any(|l| l.pool == index) {
            self.pools[index as usize] = None;
        }
    }

    /// Begins a target's loop at its next phase.
    pub fn add_target(&mut self, pool: PoolId, spec: TargetSpec) {
        let Some(&index) = self.pool_index.get(&pool) else { return };
        if self.roster.find(index, spec.hash).is_some() {
            return;
        }
        let Some(p) = &self.pools[index as usize] else { return };
        let cache = ScrapeCache::new(&p.series, &spec.labels);
        let (interval, offset) = (spec.interval_ns, spec.offset_ns);
        let token = self.roster.add(ScrapeLoop::new(index, spec, cache));
        self.schedule.add(token, interval, offset);
    }

    /// Ends a target's loop; its series get end-of-run markers later.
    pub fn remove_target(&mut self, pool: PoolId, hash: TargetHash, now: Now) {
        let Some(token) = self.token_of(pool, hash) else { return };
        self.unlist(token);
        self.loop_mut(token).ending = true;
        match self.loop_of(token).cycle {
            Cycle::InFlight(_) | Cycle::Writing => {}
            Cycle::AwaitingErrand(_) | Cycle::Resting => self.begin_ending(token, now),
        }
    }

    /// The token of a target.
    #[must_use]
    pub fn token_of(&self, pool: PoolId, hash: TargetHash) -> Option<u32> {
        self.roster.find(*self.pool_index.get(&pool)?, hash)
    }

    /// Starts everything that became due up to `now`.
    pub fn start_due(&mut self, now: Now, due: &mut Vec<Due>) {
        due.clear();
        let skipped = self.schedule.advance(now, due);
        let stats = self.parts.recorder.stats();
        stats.missed.add(skipped.missed);
        stats.clock_steps.add(skipped.steps);
        #[cfg(any(test, feature = "sim"))]
        if let Some(sabotage) = &mut self.parts.sabotage {
            sabotage.due(due, skipped);
        }
        for (i, d) in due.iter().enumerate() {
            // A fleet is larger than the cache: the state of those that follow comes while this one is started.
            due.get(i + 2 * PREFETCHED).inspect(|soon| self.roster.prefetch_place(soon.token));
            due.get(i + PREFETCHED).inspect(|soon| self.roster.prefetch(soon.token));
            self.start(*d, now);
        }
    }

    fn start(&mut self, due: Due, now: Now) {
        let target = self.roster.at_mut(due.token);
        if !matches!(target.cycle, Cycle::Resting) {
            self.parts.recorder.stats().skipped.add(1);
            return;
        }
        let Some(pool) = &mut self.pools[target.pool as usize] else { return };
        self.parts.recorder.lateness((now.wall_ns - due.due_ns).max(0) as u64);
        self.parts.recorder.stats().started.add(1);
        target.last_start_mono_ns = Some(now.mono_ns);
        target.ledger.prefetch();
        let time_ns = scrape_time_ns(due.due_ns, now.wall_ns, target.spec.interval_ns, self.parts.tolerance_ns);
        let deadline = now.mono_ns + target.spec.timeout_ns as u64;
        let mut exchange = Exchange::new(time_ns.div_euclid(1_000_000), now, deadline, &pool.spec.config);
        if let Some(text) = &pool.spec.forced_error {
            exchange.fail(ScrapeError::Forced(Arc::clone(text)));
            self.conclude(due.token, exchange);
            return;
        }
        if pool.should_ask_authorization(now.mono_ns) {
            let auth = &pool.spec.config.http.auth;
            match errands::at_hand(auth) {
                Some(result) => pool.on_authorized(result),
                None => {
                    let errand = Errand::Authorize { pool: pool.spec.id, auth: auth.clone() };
                    if !self.parts.errands.send(errand, &self.parts.mailer) {
                        pool.not_asked();
                    }
                }
            }
        }
        self.dial(due.token, Box::new(exchange), now);
    }

    /// Hands a cycle to the net, or lets it wait for what must be known first.
    fn dial(&mut self, token: u32, mut exchange: Box<Exchange>, now: Now) {
        let target = self.roster.at_mut(token);
        let Some(pool) = &self.pools[target.pool as usize] else { return };
        if let (None, Host::Nowhere(text)) = (&exchange.place, &target.spec.host) {
            exchange.fail(ScrapeError::Nowhere(text.clone()));
            return self.conclude(token, *exchange);
        }
        match &pool.authorization {
            Authorization::Awaited => return self.await_errand(token, exchange),
            Authorization::Unreadable(text) => {
                exchange.fail(ScrapeError::Authorization(text.clone()));
                return self.conclude(token, *exchange);
            }
            Authorization::Absent | Authorization::Known(_) => {}
        }
        let (link, tls) = match self.security_of(token, &exchange, now) {
            Ok(known) => known,
            Err(None) => return self.await_errand(token, exchange),
            Err(Some(text)) => {
                exchange.fail(ScrapeError::TlsSettings(text));
                return self.conclude(token, *exchange);
            }
        };
        let target = self.roster.at_mut(token);
        let whereto = match &exchange.place {
            None => target.whereto(exchange.address_index, now.mono_ns),
            Some(place) => match (&place.host, exchange.place_address) {
                (Host::Addr(a), _) => Whereto::Known(*a),
                (Host::Name { .. }, Some(a)) => Whereto::Known(a),
                (Host::Name { .. }, None) => Whereto::Lookup,
                (Host::Nowhere(_), _) => Whereto::Exhausted,
            },
        };
        match whereto {
            Whereto::Known(addr) => {
                self.jobs.push(Job { token, addr, link, tls, deadline_mono_ns: exchange.deadline_mono_ns });
                target.cycle = Cycle::InFlight(exchange);
            }
            Whereto::Lookup => self.look_up(token, exchange),
            Whereto::Exhausted => self.conclude(token, *exchange),
        }
    }

    fn look_up(&mut self, token: u32, mut exchange: Box<Exchange>) {
        let target = self.roster.at_mut(token);
        let host = exchange.place.as_ref().map_or(&target.spec.host, |p| &p.host);
        let Host::Name { name, port } = host.clone() else { unreachable!("only names are looked up") };
        let url = url_of(target, &exchange);
        if exchange.place.is_some() || target.should_ask_name() {
            let errand = Errand::Resolve { token, name, port };
            if !self.parts.errands.send(errand, &self.parts.mailer) {
                target.name_not_asked();
                exchange.fail(ScrapeError::Name { url, text: "too many name look-ups are waiting".into() });
                return self.conclude(token, *exchange);
            }
        }
        self.await_errand(token, exchange);
    }

    fn await_errand(&mut self, token: u32, exchange: Box<Exchange>) {
        self.awaiting.push((exchange.deadline_mono_ns, token));
        self.loop_mut(token).cycle = Cycle::AwaitingErrand(exchange);
    }

    /// Takes the answer of an errand and lets the cycles that waited for it go on.
    pub fn on_answer(&mut self, answer: Answer, now: Now) {
        match answer {
            Answer::Authorized { pool, result } => {
                let Some(&index) = self.pool_index.get(&pool) else { return };
                let Some(p) = &mut self.pools[index as usize] else { return };
                p.on_authorized(result);
                self.go_on_with(index, now);
            }
            Answer::Secured { pool, result } => {
                let Some(&index) = self.pool_index.get(&pool) else { return };
                let Some(p) = &mut self.pools[index as usize] else { return };
                self.secured = self.secured.wrapping_add(1).max(1);
                p.on_secured(result, Secured(NonZeroU32::new(self.secured).unwrap_or(NonZeroU32::MIN)));
                self.go_on_with(index, now);
            }
            Answer::Resolved { token, result } => {
                let Some(target) = self.roster.may_be_at_mut(token) else { return };
                let url = target.url();
                let Cycle::AwaitingErrand(exchange) = &mut target.cycle else {
                    return target.on_resolved(result.unwrap_or_default(), now.mono_ns);
                };
                match result {
                    Ok(found) if exchange.place.is_some() => exchange.place_address = found.first().copied(),
                    Ok(found) => target.on_resolved(found, now.mono_ns),
                    Err(text) => {
                        let hop = exchange.place.as_ref().map(Place::url);
                        exchange.fail(ScrapeError::Name { url: hop.unwrap_or(url), text });
                        target.on_resolved(Vec::new(), now.mono_ns);
                    }
                }
                self.go_on(token, now);
            }
        }
    }

    /// Takes the waiting cycles of a pool up again.
    fn go_on_with(&mut self, pool: u32, now: Now) {
        let tokens: Vec<u32> = self.awaiting.iter().map(|&(_, t)| t).collect();
        for token in tokens {
            if self.roster.may_be_at(token).is_some_and(|l| l.pool == pool) {
                self.go_on(token, now);
            }
        }
    }

    /// Takes a waiting cycle up again.
    fn go_on(&mut self, token: u32, now: Now) {
        self.awaiting.retain(|&(_, t)| t != token);
        let cycle = std::mem::replace(&mut self.loop_mut(token).cycle, Cycle::Resting);
        match cycle {
            Cycle::AwaitingErrand(exchange) if exchange.has_failed() => self.conclude(token, *exchange),
            Cycle::AwaitingErrand(exchange) => self.dial(token, exchange, now),
            other => self.loop_mut(token).cycle = other,
        }
    }

    /// Fails the cycles whose errand did not return in time.
    pub fn expire_awaiting(&mut self, now: Now) {
        if self.awaiting.is_empty() {
            return;
        }
        let late: Vec<u32> = self.awaiting.iter().filter(|&&(at, _)| at <= now.mono_ns).map(|&(_, t)| t).collect();
        for token in late {
            let target = self.loop_mut(token);
            let url = target.url();
            if let Cycle::AwaitingErrand(exchange) = &mut target.cycle {
                let text =
                    "context deadline exceeded while looking up the host or reading credentials or TLS files".into();
                exchange.fail(ScrapeError::Name { url, text });
                self.go_on(token, now);
            }
        }
    }

    /// The next instant at which something other than the net wants a turn, monotonic.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Option<u64> {
        let due = self.schedule.next_due_ns().map(|wall| now.mono_ns + (wall - now.wall_ns).max(0) as u64);
        let awaiting = self.awaiting.iter().map(|&(at, _)| at).min();
        let ending = self.endings.iter().map(|e| e.at_mono_ns).min();
        [due, awaiting, ending].into_iter().flatten().min()
    }

    /// Whether the same target (labels and URL) runs in another pool and has already written this instant: while a target
    /// moves between jobs both run for a moment, on one phase. prometheus: tsdb/agent, Append: out of order.
    pub(super) fn is_written(&self, token: u32, time_ms: i64) -> bool {
        let target = self.loop_of(token);
        if !target.has_twins {
            return false;
        }
        let same = self.roster.of_labels(&target.spec.labels);
        let twins = same.filter(|&t| t != token).map(|t| self.roster.at(t));
        twins.filter(|l| l.spec.hash == target.spec.hash).any(|l| l.written_ms >= time_ms)
    }

    pub(super) fn loop_of(&self, token: u32) -> &ScrapeLoop {
        self.roster.at(token)
    }

    pub(super) fn loop_mut(&mut self, token: u32) -> &mut ScrapeLoop {
        self.roster.at_mut(token)
    }

    /// Takes a target out of the schedule and the tables; its loop lives on until it is dropped.
    fn unlist(&mut self, token: u32) {
        let target = self.roster.at(token);
        let (spec, pool) = (&target.spec, target.pool as usize);
        if let Some(p) = &mut self.pools[pool] {
            p.count(target.status.health, Health::Unknown);
        }
        self.schedule.remove(token, spec.interval_ns, spec.offset_ns);
        self.roster.unlist(token);
    }

    pub(super) fn drop_loop(&mut self, token: u32) {
        self.awaiting.retain(|&(_, t)| t != token);
        self.forgotten.push(token);
        self.roster.drop_loop(token);
    }
}

/// prometheus: scrape.go, run: within the tolerance (at most 1 % of the interval) the aligned time is written.
fn scrape_time_ns(due_ns: i64, wall_ns: i64, interval_ns: i64, tolerance_ns: i64) -> i64 {
    if wall_ns - due_ns <= tolerance_ns.min(interval_ns / 100) { due_ns } else { wall_ns }
}

fn url_of(target: &ScrapeLoop, exchange: &Exchange) -> String {
    match &exchange.place {
        Some(p) => p.url(),
        None => target.url(),
    }
}

impl Sink for Slice {
    fn request(&mut self, token: u32, out: &mut Vec<u8>) {
        let target = self.loop_of(token);
        let Cycle::InFlight(exchange) = &target.cycle else { unreachable!("a request belongs to a cycle in flight") };
        let pool = self.pools[target.pool as usize].as_ref();
        let Some(pool) = pool else { return };
        let secret = match &pool.authorization {
            Authorization::Known(s) => Some(s.reveal()),
            _ => None,
        };
        let timeout_ns = target.spec.timeout_ns;
        let scheme = exchange.place.as_ref().map_or(target.spec.scheme, |p| p.scheme);
        let is_last = self.parts.keep_alive.link(target.spec.interval_ns, scheme) == Link::Fresh;
        let line = match &exchange.place {
            None => RequestLine {
                path: &target.spec.path,
                authority: &target.spec.authority,
                timeout_ns,
                authorization: secret,
                referer: None,
                is_last,
            },
            Some(p) => RequestLine {
                path: &p.path,
                authority: &p.authority,
                timeout_ns,
                authorization: secret.filter(|_| exchange.may_carry_credentials),
                referer: exchange.referer.as_deref(),
                is_last,
            },
        };
        pool.frame.write(&line, out);
    }

    fn session(&mut self, token: u32) -> Result<Session, Fault> {
        let target = self.loop_of(token);
        let Cycle::InFlight(exchange) = &target.cycle else { unreachable!("a session belongs to a cycle in flight") };
        let host = exchange.place.as_ref().map_or(&target.spec.host, |p| &p.host);
        match self.pools[target.pool as usize].as_ref().map(|p| &p.security) {
            Some(Security::Known(client, _)) => client.session(&host.name()),
            _ => Err(Fault::NotConfigured),
        }
    }

    fn head(&mut self, token: u32, head: &ResponseHead<'_>) -> Flow {
        let target = self.roster.at_mut(token);
        let Cycle::InFlight(exchange) = &mut target.cycle else { unreachable!("an answer belongs to a cycle") };
        let Some(pool) = &self.pools[target.pool as usize] else { return Flow::Stop };
        let parse = self.parts.tools.store.begin(&pool.series, &target.cache);
        flow(exchange.on_head(head, &pool.spec.config, &mut self.parts.tools, parse))
    }

    fn bytes(&mut self, token: u32, chunk: &[u8]) -> Flow {
        let target = self.roster.at_mut(token);
        let Cycle::InFlight(exchange) = &mut target.cycle else { unreachable!("an answer belongs to a cycle") };
        let before = exchange.held_bytes();
        let piece = self.parts.recorder.stopwatch.begin(Stage::Parse, &self.parts.clock);
        let wanted = exchange.on_bytes(chunk, &mut self.parts.tools);
        piece.end(&self.parts.recorder.stats().stage_times, &self.parts.clock);
        self.held_bytes = self.held_bytes + exchange.held_bytes() - before;
        flow(wanted)
    }

    fn admits(&self) -> bool {
        self.held_bytes < BODY_BYTES_IN_FLIGHT
    }

    fn end(&mut self, token: u32, outcome: Outcome) {
        let target = self.loop_mut(token);
        let cycle = std::mem::replace(&mut target.cycle, Cycle::Resting);
        let Cycle::InFlight(mut exchange) = cycle else { unreachable!("an end belongs to a cycle in flight") };
        self.held_bytes -= exchange.held_bytes();
        let (Outcome::Done(phases) | Outcome::Stopped(phases) | Outcome::Failed(_, phases)) = &outcome;
        self.parts.recorder.phases.record(phases);
        match outcome {
            Outcome::Done(_) | Outcome::Stopped(_) => {
                if let Some(location) = exchange.location.take() {
                    return self.redirected(token, exchange, &location);
                }
                exchange.on_end(&mut self.parts.tools);
            }
            Outcome::Failed(error, _) => {
                // prometheus: net/http does not mind what becomes of the body of a redirect.
                if let (Some(location), NetError::Response(_) | NetError::Reset) = (&exchange.location, error) {
                    let location = location.clone();
                    exchange.location = None;
                    return self.redirected(token, exchange, &location);
                }
                let url = url_of(self.loop_of(token), &exchange);
                if error.is_connect() && exchange.place.is_none() {
                    // All addresses of a name are tried inside the deadline.
                    let now = (self.parts.clock)();
                    let next = self.loop_of(token).whereto(exchange.address_index + 1, now.mono_ns);
                    if matches!(next, Whereto::Known(_)) && now.mono_ns < exchange.deadline_mono_ns {
                        exchange.address_index += 1;
                        return self.dial(token, exchange, now);
                    }
                }
                let host = exchange.place.as_ref().map_or(&self.loop_of(token).spec.host, |p| &p.host);
                exchange.fail(match error {
                    NetError::Tls(fault) => ScrapeError::Tls { url, name: self.name_of(token, host), fault },
                    error => ScrapeError::Net { url, error },
                });
            }
        }
        self.conclude(token, *exchange);
    }
}

impl Slice {
    /// The name that a certificate should be valid for.
    fn name_of(&self, token: u32, host: &Host) -> String {
        let pool = self.pools[self.loop_of(token).pool as usize].as_ref();
        let configured = pool.map(|p| p.spec.config.http.tls.server_name.clone()).unwrap_or_default();
        if configured.is_empty() { host.name().into_owned() } else { configured }
    }

    fn redirected(&mut self, token: u32, mut exchange: Box<Exchange>, location: &str) {
        let target = self.loop_of(token);
        let url = url_of(target, &exchange);
        let followed = redirect::follow(&url, location);
        let first = target.spec.authority.to_string();
        if exchange.hops >= REDIRECTS_MAX {
            exchange.fail(ScrapeError::TooManyRedirects { url });
            return self.conclude(token, *exchange);
        }
        match followed {
            Ok(place) => {
                exchange.may_carry_credentials &= redirect::may_carry_credentials(&first, &place.authority);
                exchange.hop(url, place);
                let now = (self.parts.clock)();
                self.dial(token, exchange, now);
            }
            Err(error) => {
                exchange.fail(ScrapeError::Redirect { url, error });
                self.conclude(token, *exchange);
            }
        }
    }
}

fn flow(wanted: Wanted) -> Flow {
    match wanted {
        Wanted::More => Flow::More,
        Wanted::Nothing => Flow::Stop,
    }
}
