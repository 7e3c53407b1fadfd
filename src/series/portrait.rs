//! What a target shows, as a body that shows the same: how it goes to another shard, which has other layouts and bindings.
//!
//! A portrait has the lines of the target's last body with a value of no meaning, so whoever reads it knows the same series
//! and texts as the one that painted it. Only of targets after a good body without anything special: nothing else can be
//! told by a body.

use std::rc::Rc;

use super::ScrapeCache;
use super::chunk::Layout;
use super::kept::KeptCache;
use super::outcome::ScrapeTime;
use super::pool::PoolSeries;
use super::store::Store;

/// Longer bodies stay where they are, bytes: reading one where all of it is new takes some 10 ms.
const BYTES_MAX: usize = 1 << 20;
/// The value of every line.
const VALUE: &[u8] = b"0\n";

/// See the file's caption. It may cross threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portrait {
    /// In the text format.
    body: Vec<u8>,
    /// Time of the samples that were written last, milliseconds.
    written_ms: i64,
}

impl Portrait {
    /// What nothing is known of: a planted bug.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn blank(&self) -> Self {
        Self { body: Vec::new(), written_ms: self.written_ms }
    }
}

impl KeptCache {
    /// A portrait of the target; `None` where a body does not tell all that is known of it, or would be too long.
    #[must_use]
    pub fn portrait(&self) -> Option<Portrait> {
        self.look(ScrapeCache::portrait)
    }

    /// Whether a portrait may be had; looks at no text.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.look(|c| c.is_plain())
    }

    /// Takes a portrait for what the target has shown, before its first body here. `false` when there was no room for it:
    /// then its series count as new ones, and those that the next body lacks get no markers.
    pub fn recall(&mut self, store: &mut Store, pool: &PoolSeries, portrait: &Portrait, now_ms: i64) -> bool {
        let Portrait { body, written_ms } = portrait;
        let mut parse = self.look(|c| store.begin(pool, c));
        parse.feed(body);
        let time = ScrapeTime { time_ms: *written_ms, now_ms };
        let scraped = self.open(|c| c.finish(store, pool, parse, time));
        let is_known = scraped.error.is_none();
        store.recycle(scraped);
        is_known
    }
}

impl ScrapeCache {
    fn is_plain(&self) -> bool {
        self.last.is_none() && self.before.is_none() && self.former.is_none()
    }

    fn portrait(&self) -> Option<Portrait> {
        if !self.is_plain() {
            return None;
        }
        let (layout, fill) = match (&self.plan, self.resting()) {
            (None, Some(resting)) => (resting.layout(), Vec::new()),
            (Some(shown), _) => {
                let same = [self.live.plan.as_ref(), self.known.only_base()];
                let is_all = self.live.is_all() && same.iter().all(|p| p.is_some_and(|p| p.is(shown)));
                (Rc::clone(&shown.layout), is_all.then(|| shown.fill().collect::<Vec<_>>())?)
            }
            (None, None) => return None,
        };
        // The limit may have been lowered since: then the next scrape is to end what is shown.
        let limit = self.terms.rules.sample_limit.get();
        let is_within = limit == 0 || layout.slot_count() as u64 <= limit;
        let written_ms = self.reported_ms.filter(|&ms| is_within && ms == self.live.written_ms)?;
        Some(Portrait { body: body(&layout, &fill)?, written_ms })
    }
}

/// Every line of a layout; `None` when that is too much, or when reading it would not give the same layout.
fn body(layout: &Layout, fill: &[&str]) -> Option<Vec<u8>> {
    let is_plain = !layout.is_odd() && layout.chunks.iter().all(|c| c.slots.iter().all(|s| !s.glued));
    let bytes: usize = layout.chunks.iter().map(|c| c.text.len() + VALUE.len() * c.count()).sum();
    if !is_plain || layout.slot_count() == 0 || bytes > BYTES_MAX {
        return None;
    }
    let mut body = Vec::with_capacity(bytes + layout.trailer.len());
    for chunk in &layout.chunks {
        for slot in 0..chunk.count() {
            body.extend_from_slice(&chunk.line(slot, fill).0);
            body.extend_from_slice(VALUE);
        }
    }
    body.extend_from_slice(&layout.trailer);
    Some(body)
}
