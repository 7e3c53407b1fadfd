//! The slice as the net's [`Sink`]: requests out, answers in, redirects followed.

use crate::base::limits::{BODY_BYTES_IN_FLIGHT, BODY_BYTES_SMALL, REDIRECTS_MAX};
use crate::http::{Flow, ResponseHead};
use crate::net::tls::{Fault, Session};
use crate::net::{Arrival, Link, NetError, Outcome, Sink, Steps};
use crate::scrape::Host;
use crate::scrape::addresses::Whereto;
use crate::scrape::error::ScrapeError;
use crate::scrape::exchange::{Exchange, Wanted};
use crate::scrape::pool::{Authorization, Security};
use crate::scrape::redirect;
use crate::scrape::request::RequestLine;
use crate::scrape::scrape_loop::Cycle;
use crate::shard::dial::host_of;
use crate::shard::slice::{Slice, url_of};
use crate::shard::stages::Stage;

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
                authority: target.authority(),
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
        let host = host_of(target, exchange);
        match self.pools[target.pool as usize].as_ref().map(|p| &p.security) {
            Some(Security::Known(client, _)) => client.session(&host.name()),
            _ => Err(Fault::NotConfigured),
        }
    }

    fn head(&mut self, token: u32, head: &ResponseHead<'_>) -> Flow {
        let target = self.roster.at_mut(token);
        let Cycle::InFlight(exchange) = &mut target.cycle else { unreachable!("an answer belongs to a cycle") };
        let Some(pool) = &self.pools[target.pool as usize] else { return Flow::Stop };
        let parse = target.cache.look(|c| self.parts.tools.store.begin(&pool.series, c));
        flow(exchange.on_head(head, &pool.spec.config, &mut self.parts.tools, parse))
    }

    fn bytes(&mut self, token: u32, chunk: &[u8]) -> Flow {
        let target = self.roster.at_mut(token);
        let Cycle::InFlight(exchange) = &mut target.cycle else { unreachable!("an answer belongs to a cycle") };
        let before = exchange.held_bytes();
        let piece = self.parts.recorder.stopwatch.begin(Stage::Parse, &self.parts.clock);
        let wanted = exchange.on_bytes(chunk, &mut self.parts.tools);
        piece.end(&self.parts.recorder.stats().stage_times, &self.parts.clock);
        let held_bytes = exchange.held_bytes();
        self.held_bytes = self.held_bytes + held_bytes - before;
        if exchange.admitted_bytes > 0 && held_bytes > exchange.admitted_bytes {
            self.admitted_bytes += held_bytes - exchange.admitted_bytes;
            exchange.admitted_bytes = held_bytes;
        }
        flow(wanted)
    }

    fn admits(&mut self, token: u32, arrival: Arrival) -> bool {
        if arrival == Arrival::Beginning {
            // Large ones that have their turn are bounded by it, and must not hold up everybody else.
            return self.held_bytes.saturating_sub(self.admitted_bytes) < 2 * BODY_BYTES_IN_FLIGHT;
        }
        let target = self.roster.at_mut(token);
        let Cycle::InFlight(exchange) = &mut target.cycle else { unreachable!("an answer belongs to a cycle") };
        if exchange.admitted_bytes > 0 {
            return true;
        }
        let expected_bytes = expected_bytes(target.cache.expected_bytes(), exchange.held_bytes());
        if expected_bytes <= BODY_BYTES_SMALL {
            return true;
        }
        if !is_admitted(self.admitted_bytes, expected_bytes) {
            return false;
        }
        exchange.admitted_bytes = expected_bytes;
        self.admitted_bytes += expected_bytes;
        true
    }

    fn prefetch(&self, token: u32, steps: Steps) {
        match steps {
            Steps::Three => self.roster.prefetch_place(token),
            Steps::Two => self.roster.prefetch(token),
            Steps::One => {
                if let Some(target) = self.roster.may_be_at(token) {
                    target.prefetch_rest();
                }
            }
        }
    }

    fn end(&mut self, token: u32, outcome: Outcome) {
        let target = self.loop_mut(token);
        let cycle = std::mem::replace(&mut target.cycle, Cycle::Resting);
        let Cycle::InFlight(mut exchange) = cycle else { unreachable!("an end belongs to a cycle in flight") };
        if let Some(addresses) = target.addresses() {
            addresses.on_answered(exchange.addr.filter(|_| matches!(outcome, Outcome::Done(_))));
        }
        self.held_bytes -= exchange.held_bytes();
        self.admitted_bytes -= std::mem::take(&mut exchange.admitted_bytes);
        if matches!(outcome, Outcome::Failed(NetError::NotKept, _)) {
            let now = (self.parts.clock)();
            return self.dial(token, exchange, now);
        }
        let (Outcome::Done(phases) | Outcome::Stopped(phases) | Outcome::Failed(_, phases)) = &outcome;
        self.parts.recorder.phases.record(phases);
        match outcome {
            Outcome::Done(_) | Outcome::Stopped(_) => {
                if let Some(location) = exchange.location.take() {
                    return self.redirected(token, exchange, &location);
                }
                return self.end_body(token, exchange);
            }
            Outcome::Failed(error, _) => {
                // prometheus: net/http does not mind what becomes of the body of a redirect.
                if let (Some(location), NetError::Response(_) | NetError::Reset) = (&exchange.location, error) {
                    let location = location.clone();
                    exchange.location = None;
                    return self.redirected(token, exchange, &location);
                }
                let url = url_of(self.loop_of(token), &exchange);
                if error.is_connect() {
                    // All addresses of a name are tried inside the deadline.
                    let now = (self.parts.clock)();
                    let next = self.whereto(token, &exchange, exchange.address_index + 1, Link::Fresh, now.mono_ns);
                    if matches!(next, Whereto::Known(..)) && now.mono_ns < exchange.deadline_mono_ns {
                        exchange.address_index += 1;
                        return self.dial(token, exchange, now);
                    }
                }
                let error = match error {
                    NetError::Tls(fault) => {
                        let name = self.name_of(token, &host_of(self.loop_of(token), &exchange));
                        ScrapeError::Tls { url, name, fault }
                    }
                    error => ScrapeError::Net { url, error },
                };
                exchange.fail(error);
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
        let first = target.authority().to_owned();
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

/// What an answer will hold: as much as the last one, or, of one that is larger, twice what it holds by now.
fn expected_bytes(remembered_bytes: usize, held_bytes: usize) -> usize {
    if held_bytes <= remembered_bytes.max(BODY_BYTES_SMALL) { remembered_bytes } else { 2 * held_bytes }
}

/// Whether a large answer may go on beside others: giants take turns, and one goes on however large it is.
fn is_admitted(admitted_bytes: usize, expected_bytes: usize) -> bool {
    admitted_bytes == 0 || admitted_bytes + expected_bytes <= BODY_BYTES_IN_FLIGHT
}

fn flow(wanted: Wanted) -> Flow {
    match wanted {
        Wanted::More => Flow::More,
        Wanted::Nothing => Flow::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giants_take_turns() {
        let bound = BODY_BYTES_IN_FLIGHT;
        for (admitted, expected, is_so) in [
            (0, 2 * bound, true),
            (1, bound, false),
            (bound / 2, bound / 2, true),
            (bound / 2, bound / 2 + 1, false),
            (2 * bound, BODY_BYTES_SMALL + 1, false),
        ] {
            assert_eq!(is_admitted(admitted, expected), is_so, "{expected} beside {admitted}");
        }
    }

    #[test]
    fn an_answer_is_expected_to_be_like_the_last_one_until_it_is_larger() {
        let small = BODY_BYTES_SMALL;
        for (remembered, held, expected) in [
            (0, small, 0),
            (0, small + 1, 2 * small + 2),
            (1_000_000, small + 1, 1_000_000),
            (1_000_000, 1_000_001, 2_000_002),
        ] {
            assert_eq!(expected_bytes(remembered, held), expected, "{held} of {remembered}");
        }
    }
}
