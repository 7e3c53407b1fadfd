//! Bodies that have arrived whole and inflate to more than a turn may take.

use crate::base::time::Now;
use crate::net::{NetError, Phase};
use crate::scrape::error::ScrapeError;
use crate::scrape::exchange::Exchange;
use crate::scrape::scrape_loop::Cycle;
use crate::shard::slice::{Slice, url_of};

impl Slice {
    /// Ends a body and its cycle, or the first piece of a body that takes more turns.
    pub(super) fn end_body(&mut self, token: u32, exchange: Box<Exchange>) {
        if !self.ends(token, exchange) {
            self.inflating.push_back(token);
        }
    }

    /// Goes on with the body that came first; only when it has ended, with the next one, so that one at a time grows.
    pub fn inflate_on(&mut self, now: Now) {
        let Some(&token) = self.inflating.front() else { return };
        let cycle = std::mem::replace(&mut self.loop_mut(token).cycle, Cycle::Resting);
        let Cycle::Inflating(mut exchange) = cycle else { unreachable!("what waits here is inflating") };
        self.held_bytes -= exchange.held_bytes();
        if now.mono_ns >= exchange.deadline_mono_ns {
            let (url, error) = (url_of(self.loop_of(token), &exchange), NetError::DeadlineExceeded(Phase::Receive));
            exchange.fail(ScrapeError::Net { url, error });
            self.inflating.pop_front();
            self.conclude(token, *exchange);
        } else if self.ends(token, exchange) {
            self.inflating.pop_front();
        }
    }

    /// Inflates a piece of a body, and concludes its cycle if it was the last.
    fn ends(&mut self, token: u32, mut exchange: Box<Exchange>) -> bool {
        if exchange.on_end(&mut self.parts.tools) {
            self.conclude(token, *exchange);
            return true;
        }
        self.held_bytes += exchange.held_bytes();
        self.loop_mut(token).cycle = Cycle::Inflating(exchange);
        false
    }

    /// Whether a body is being inflated.
    #[must_use]
    pub fn is_inflating(&self) -> bool {
        !self.inflating.is_empty()
    }
}
