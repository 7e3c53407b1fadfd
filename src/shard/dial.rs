//! From a cycle that is due to a job for the net: where to, with which secrets, over which TLS settings.
//!
//! What is not at hand is an errand, and the cycle waits for it until its deadline.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::base::time::Now;
use crate::net::{Dial, Job, Link, Secured};
use crate::scrape::addresses::Whereto;
use crate::scrape::error::ScrapeError;
use crate::scrape::exchange::Exchange;
use crate::scrape::pool::Authorization;
use crate::scrape::scrape_loop::Cycle;
use crate::scrape::{Host, ScrapeLoop};
use crate::shard::errands::{self, Answer, Asker, Errand};
use crate::shard::names::{self, Asked, Found};
use crate::shard::slice::{Awaiting, Slice, url_of};

/// Least time for an address to be connected to, nanoseconds.
const CONNECT_NS_MIN: u64 = 2_000_000_000;

impl Slice {
    /// Hands a cycle to the net, or lets it wait for what must be known first.
    pub(super) fn dial(&mut self, token: u32, mut exchange: Box<Exchange>, now: Now) {
        let target = self.roster.at_mut(token);
        let Some(pool) = &self.pools[target.pool as usize] else { return };
        if let (None, Host::Nowhere(text)) = (&exchange.place, &*target.host()) {
            exchange.fail(ScrapeError::Nowhere(text.clone()));
            return self.conclude(token, *exchange);
        }
        match &pool.authorization {
            Authorization::Awaited => return self.await_secrets(token, exchange),
            Authorization::Unreadable(text) => {
                exchange.fail(ScrapeError::Authorization(text.clone()));
                return self.conclude(token, *exchange);
            }
            Authorization::Absent | Authorization::Known(_) => {}
        }
        let (link, tls) = match self.security_of(token, &exchange, now) {
            Ok(known) => known,
            Err(None) => return self.await_secrets(token, exchange),
            Err(Some(text)) => {
                exchange.fail(ScrapeError::TlsSettings(text));
                return self.conclude(token, *exchange);
            }
        };
        let whereto = self.whereto(token, &exchange, exchange.address_index, link, now.mono_ns);
        let deadline_mono_ns = exchange.deadline_mono_ns;
        let (addr, dial) = match whereto {
            Whereto::Known(addr, more) => (addr, Dial::Until(connected_by_ns(now.mono_ns, deadline_mono_ns, more))),
            Whereto::Kept(addr) => (addr, Dial::Never),
            Whereto::Lookup => return self.look_up(token, exchange, now),
            Whereto::Exhausted => return self.conclude(token, *exchange),
        };
        let target = self.roster.at_mut(token);
        let is_own = host_of(target, &exchange).is_same(&target.host());
        exchange.addr = is_own.then_some(addr);
        self.jobs.push(Job { token, addr, link, tls, dial, deadline_mono_ns });
        target.cycle = Cycle::InFlight(exchange);
    }

    /// Where to connect for attempt `index` of a cycle's current request. A redirect to the target's own host goes where the
    /// target is, maybe over the connection that just answered; of another name all addresses are tried, as of its own.
    pub(super) fn whereto(&self, token: u32, exchange: &Exchange, index: usize, link: Link, mono_ns: u64) -> Whereto {
        let target = self.loop_of(token);
        let host = host_of(target, exchange);
        if host.is_same(&target.host()) {
            return target.whereto(index, link, mono_ns);
        }
        match (&*host, &exchange.place_addresses) {
            (Host::Addr(addr), _) if index == 0 => Whereto::Known(*addr, 0),
            (Host::Name { .. }, None) if index == 0 => Whereto::Lookup,
            (Host::Name { .. }, Some(known)) => known.whereto(index, link, mono_ns),
            _ => Whereto::Exhausted,
        }
    }

    /// Has the pool's credentials read, at most once a second.
    pub(super) fn ask_authorization(&mut self, pool: u32, now: Now) {
        let Some(pool) = self.pools[pool as usize].as_mut() else { return };
        if !pool.should_ask_authorization(now.mono_ns) {
            return;
        }
        let auth = &pool.spec.config.http.auth;
        if let Some(result) = errands::at_hand(auth) {
            return pool.on_authorized(result);
        }
        let asker = Asker { pool: pool.spec.id, settings: pool.settings };
        if !self.parts.errands.send(Errand::Authorize { asker, auth: auth.clone() }, &self.parts.mailer) {
            pool.not_asked();
        }
    }

    /// Asks for the addresses of the name that the next request goes to.
    fn look_up(&mut self, token: u32, mut exchange: Box<Exchange>, now: Now) {
        let target = self.roster.at(token);
        let Host::Name { name, port } = host_of(target, &exchange).into_owned() else {
            unreachable!("only names are looked up")
        };
        let (deadline_mono_ns, mailer) = (exchange.deadline_mono_ns, Arc::clone(&self.parts.mailer));
        match self.parts.names.ask(&name, names::Asker { token, port, deadline_mono_ns, mailer }, now) {
            Asked::Known(found) => {
                let host = Host::Name { name, port };
                self.learn(token, &host, port, &found);
                self.go_on_to(token, exchange, (port, &found), now);
            }
            Asked::Waiting => {
                self.list_awaiting(token, &exchange);
                self.loop_mut(token).cycle = Cycle::AwaitingName(exchange);
            }
            Asked::Full => {
                let url = url_of(target, &exchange);
                exchange.fail(ScrapeError::Name { url, text: "too many name look-ups are waiting".into() });
                self.conclude(token, *exchange);
            }
        }
    }

    fn await_secrets(&mut self, token: u32, exchange: Box<Exchange>) {
        self.list_awaiting(token, &exchange);
        self.loop_mut(token).cycle = Cycle::AwaitingSecrets(exchange);
    }

    fn list_awaiting(&mut self, token: u32, exchange: &Exchange) {
        let (deadline_mono_ns, pool) = (exchange.deadline_mono_ns, self.loop_of(token).pool);
        self.awaiting.push(Reverse(Awaiting { deadline_mono_ns, token, pool }));
    }

    /// Takes the answer of an errand and lets the cycles that waited for it go on.
    pub fn on_answer(&mut self, answer: Answer, now: Now) {
        match answer {
            Answer::Authorized { asker, result } => {
                let Some(&index) = self.pool_index.get(&asker.pool) else { return };
                match &mut self.pools[index as usize] {
                    Some(p) if p.settings == asker.settings => p.on_authorized(result),
                    _ => self.ask_authorization(index, now),
                }
                self.go_on_with(index, now);
            }
            Answer::Secured { asker, result } => {
                let Some(&index) = self.pool_index.get(&asker.pool) else { return };
                if let Some(p) = self.pools[index as usize].as_mut().filter(|p| p.settings == asker.settings) {
                    self.secured = self.secured.wrapping_add(1).max(1);
                    p.on_secured(result, Secured(NonZeroU32::new(self.secured).unwrap_or(NonZeroU32::MIN)));
                }
                // Those who wait ask anew where the answer was for another configuration.
                self.go_on_with(index, now);
            }
            Answer::Resolved { token, name, port, found } => {
                self.on_name(token, &Host::Name { name: (&*name).into(), port }, (port, &found), now);
            }
        }
    }

    /// Addresses of a name: a cycle that waits for it goes on.
    fn on_name(&mut self, token: u32, host: &Host, (port, found): (u16, &Found), now: Now) {
        if self.roster.may_be_at(token).is_none() {
            return;
        }
        self.learn(token, host, port, found);
        let target = self.roster.at_mut(token);
        let cycle = std::mem::replace(&mut target.cycle, Cycle::Resting);
        match cycle {
            Cycle::AwaitingName(exchange) if *host_of(target, &exchange) == *host => {
                self.go_on_to(token, exchange, (port, found), now);
            }
            other => target.cycle = other,
        }
    }

    /// Addresses of the target's own host are remembered, whether its cycle still waits for them or not.
    fn learn(&mut self, token: u32, host: &Host, port: u16, found: &Found) {
        let target = self.roster.at_mut(token);
        let is_own = target.host().is_same(host);
        if let Some(addresses) = target.addresses().filter(|_| is_own) {
            addresses.on_resolved(found.addresses(port), found.at_mono_ns);
        }
    }

    /// Takes up a cycle that wanted to know a name.
    fn go_on_to(&mut self, token: u32, mut exchange: Box<Exchange>, (port, found): (u16, &Found), now: Now) {
        if let Err(text) = &found.result {
            let url = url_of(self.loop_of(token), &exchange);
            exchange.fail(ScrapeError::Name { url, text: text.to_string() });
            return self.conclude(token, *exchange);
        }
        let target = self.loop_of(token);
        if !host_of(target, &exchange).is_same(&target.host()) {
            let known = exchange.place_addresses.get_or_insert_default();
            known.on_resolved(found.addresses(port), found.at_mono_ns);
        }
        self.dial(token, exchange, now);
    }

    /// Takes up again the cycles that wait for what a pool's files hold. Those that wait for names look at it when they go on.
    fn go_on_with(&mut self, pool: u32, now: Now) {
        let listed = self.awaiting.iter().map(|Reverse(a)| a).filter(|a| a.pool == pool).map(|a| a.token);
        let tokens: Vec<u32> = listed.filter(|&t| self.awaits_secrets(t, pool)).collect();
        for token in tokens {
            // One that was listed twice may have gone on by now.
            if self.awaits_secrets(token, pool) {
                self.go_on(token, now);
            }
        }
    }

    fn awaits_secrets(&self, token: u32, pool: u32) -> bool {
        self.roster.may_be_at(token).is_some_and(|l| l.pool == pool && matches!(l.cycle, Cycle::AwaitingSecrets(_)))
    }

    /// Takes a waiting cycle up again.
    fn go_on(&mut self, token: u32, now: Now) {
        let cycle = std::mem::replace(&mut self.loop_mut(token).cycle, Cycle::Resting);
        match cycle {
            Cycle::AwaitingName(exchange) | Cycle::AwaitingSecrets(exchange) if exchange.has_failed() => {
                self.conclude(token, *exchange);
            }
            Cycle::AwaitingName(exchange) | Cycle::AwaitingSecrets(exchange) => self.dial(token, exchange, now),
            other => self.loop_mut(token).cycle = other,
        }
    }

    /// Fails the cycles for which nothing returned in time.
    pub fn expire_awaiting(&mut self, now: Now) {
        while let Some(&Reverse(listed)) = self.awaiting.peek().filter(|Reverse(a)| a.deadline_mono_ns <= now.mono_ns) {
            self.awaiting.pop();
            // The token may be another target's by now, and the cycle another one.
            let Some(target) = self.roster.may_be_at_mut(listed.token) else { continue };
            let url = target.url();
            if let Cycle::AwaitingName(exchange) | Cycle::AwaitingSecrets(exchange) = &mut target.cycle
                && exchange.deadline_mono_ns <= now.mono_ns
            {
                let text =
                    "context deadline exceeded while looking up the host or reading credentials or TLS files".into();
                exchange.fail(ScrapeError::Name { url, text });
                self.go_on(listed.token, now);
            }
        }
    }
}

/// Whom a cycle's current request is for.
pub(super) fn host_of<'a>(target: &'a ScrapeLoop, exchange: &'a Exchange) -> Cow<'a, Host> {
    exchange.place.as_ref().map_or_else(|| target.host(), |p| Cow::Borrowed(&p.host))
}

/// When a connection must stand, so that as many more addresses have their turn before the deadline, monotonic ns.
/// prometheus: net, partialDeadline.
fn connected_by_ns(now_ns: u64, deadline_ns: u64, more: usize) -> u64 {
    let left_ns = deadline_ns.saturating_sub(now_ns);
    now_ns + left_ns.min((left_ns / (more as u64 + 1)).max(CONNECT_NS_MIN))
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
