//! How a cycle's next request is secured: in clear text, or under which TLS settings, over a kept connection or not.

use std::borrow::Cow;

use crate::base::time::Now;
use crate::net::{Link, Secured};
use crate::scrape::pool::Security;
use crate::scrape::{Exchange, Scheme};
use crate::shard::errands::{Asker, Errand};
use crate::shard::slice::Slice;

impl Slice {
    /// The link of a cycle's next request, and the TLS settings if it is not in clear text. `Err(None)`: they are awaited;
    /// `Err(Some(_))`: they cannot be used.
    pub(super) fn security_of(
        &mut self,
        token: u32,
        exchange: &Exchange,
        now: Now,
    ) -> Result<(Link, Option<Secured>), Option<String>> {
        let target = self.roster.at(token);
        let (scheme, host) = match &exchange.place {
            None => (target.spec.scheme, target.host()),
            Some(place) => (place.scheme, Cow::Borrowed(&place.host)),
        };
        let link = self.parts.keep_alive.link(target.spec.interval_ns, scheme);
        if scheme == Scheme::Http {
            return Ok((link, None));
        }
        // A kept connection is used for the target's own name alone: others may live on its address.
        let is_own = target.spec.scheme == Scheme::Https && host.name() == target.host().name();
        let link = if is_own { link } else { Link::Fresh };
        let Some(pool) = &mut self.pools[target.pool as usize] else { return Err(None) };
        if let Some(known) = pool.should_ask_tls(now.mono_ns) {
            let index = target.pool;
            let scraped = (pool.counts[0] + pool.counts[1]) as usize;
            let targets = if scraped > 0 { scraped } else { self.roster.loops().filter(|l| l.pool == index).count() };
            let asker = Asker { pool: pool.spec.id, settings: pool.settings };
            let errand = Errand::Secure { asker, tls: pool.spec.config.http.tls.clone(), known, targets };
            if !self.parts.errands.send(errand, &self.parts.mailer) {
                pool.tls_not_asked();
            }
        }
        match &pool.security {
            Security::Awaited => Err(None),
            Security::Known(_, number) => Ok((link, Some(*number))),
            Security::Unusable(text) => Err(Some(text.clone())),
        }
    }
}
