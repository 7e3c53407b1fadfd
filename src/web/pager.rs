//! One page of the fleet: filter, order, limit, and a token for the next page.
//!
//! A page costs memory for the page only. The order is total (rank, pool, hash) and a token names the last entry
//! shown, so pages do not shift when targets come and go; with an order that follows changing values (duration, last scrape)
//! an entry that moves between two pages may be shown twice or not at all.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Health, TargetView};

/// Order of targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By pool.
    #[default]
    Pool,
    /// Down first, then not yet scraped, then up.
    Health,
    /// Slowest first.
    Duration,
    /// Longest ago first; never scraped before all.
    LastScrape,
}

impl Sort {
    /// From the query parameter.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "pool" => Self::Pool,
            "health" => Self::Health,
            "duration" => Self::Duration,
            "lastScrape" => Self::LastScrape,
            _ => return None,
        })
    }
}

/// Which targets are asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetQuery {
    /// Of this pool only.
    pub pool: Option<String>,
    /// With this health only.
    pub health: Option<Health>,
    /// With this text, in lower case, somewhere in the URL, a label value or the last error; empty = all.
    pub search: String,
    /// Order.
    pub sort: Sort,
    /// After this entry: [`TargetPage::next`] of the page before.
    pub after: Option<Position>,
    /// At most this many.
    pub limit: usize,
}

impl TargetQuery {
    /// Whether targets of this pool are asked for.
    #[must_use]
    pub fn is_of_pool(&self, pool: &str) -> bool {
        self.pool.as_deref().is_none_or(|p| p == pool)
    }
}

/// Place of a target in an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    rank: u64,
    pool: String,
    hash: u64,
}

impl Position {
    /// A target's place in the order of pools.
    #[must_use]
    pub fn by_pool(pool: &str, hash: u64) -> Self {
        Self { rank: 0, pool: pool.to_owned(), hash }
    }

    /// Pool and hash, where this is a place in the order of pools.
    #[must_use]
    pub fn in_pools(&self) -> Option<(&str, u64)> {
        (self.rank == 0).then_some((self.pool.as_str(), self.hash))
    }

    /// Opaque text for a URL.
    #[must_use]
    pub fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{:x}:{:x}:{}", self.rank, self.hash, self.pool))
    }

    /// From [`Position::token`]; `None` for any other text.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let mut parts = text.splitn(3, ':');
        let rank = u64::from_str_radix(parts.next()?, 16).ok()?;
        let hash = u64::from_str_radix(parts.next()?, 16).ok()?;
        Some(Self { rank, hash, pool: parts.next()?.to_owned() })
    }
}

/// A target as its owner stores it; only targets that reach the page are turned into a view.
pub trait Row {
    /// What the page holds of it.
    type View;
    /// Job name.
    fn pool(&self) -> &str;
    /// Prometheus's target hash.
    fn hash(&self) -> u64;
    /// Outcome of the last scrape.
    fn health(&self) -> Health;
    /// Wall clock of the last start, nanoseconds.
    fn last_scrape_ns(&self) -> Option<i64>;
    /// Of the last scrape, nanoseconds.
    fn last_duration_ns(&self) -> u64;
    /// Whether URL, a label value or the last error contains the text (lower case, not empty) in any case.
    fn contains(&self, text: &str) -> bool;
    /// For the page.
    fn view(&self) -> Self::View;
}

impl Row for TargetView {
    type View = Self;

    fn pool(&self) -> &str {
        &self.pool
    }

    fn hash(&self) -> u64 {
        self.hash
    }

    fn health(&self) -> Health {
        self.health
    }

    fn last_scrape_ns(&self) -> Option<i64> {
        self.last_scrape_ns
    }

    fn last_duration_ns(&self) -> u64 {
        self.last_duration_ns
    }

    fn contains(&self, text: &str) -> bool {
        let has = |s: &str| s.to_lowercase().contains(text);
        has(&self.scrape_url) || has(&self.last_error) || self.labels.iter().any(|(_, v)| has(v))
    }

    fn view(&self) -> TargetView {
        self.clone()
    }
}

/// One page of targets with everything that is shown.
pub type TargetPage = Page<TargetView>;

/// One page of targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<V> {
    /// In the order asked for.
    pub targets: Vec<V>,
    /// Where the next page starts; `None` when this is the last.
    pub next: Option<Position>,
    /// Targets that match on all pages.
    pub matched: u64,
}

impl<V> Default for Page<V> {
    fn default() -> Self {
        Self { targets: Vec::new(), next: None, matched: 0 }
    }
}

/// Collects a page: offer every target in any order, then take the page.
#[derive(Debug)]
pub struct Pager<V> {
    query: TargetQuery,
    page: BTreeMap<Position, V>,
    matched: u64,
    more: bool,
}

impl<V> Pager<V> {
    /// An empty page for this query.
    #[must_use]
    pub fn new(query: TargetQuery) -> Self {
        Self { query, page: BTreeMap::new(), matched: 0, more: false }
    }

    /// Takes a target into account.
    pub fn offer(&mut self, row: &impl Row<View = V>) {
        let query = &self.query;
        let wanted = query.is_of_pool(row.pool())
            && query.health.is_none_or(|health| health == row.health())
            && (query.search.is_empty() || row.contains(&query.search));
        if !wanted {
            return;
        }
        self.matched += 1;
        let key = (rank(query.sort, row), row.pool(), row.hash());
        if query.after.as_ref().is_some_and(|after| key <= (after.rank, after.pool.as_str(), after.hash)) {
            return;
        }
        if self.page.len() >= query.limit {
            self.more = true;
            match self.page.last_key_value() {
                Some((last, _)) if key < (last.rank, last.pool.as_str(), last.hash) => self.page.pop_last(),
                _ => return,
            };
        }
        let position = Position { rank: key.0, pool: key.1.to_owned(), hash: key.2 };
        self.page.insert(position, row.view());
    }

    /// The page.
    #[must_use]
    pub fn finish(self) -> Page<V> {
        let next = self.page.last_key_value().map(|(last, _)| last.clone()).filter(|_| self.more);
        Page { targets: self.page.into_values().collect(), next, matched: self.matched }
    }
}

fn rank(sort: Sort, row: &impl Row) -> u64 {
    match sort {
        Sort::Pool => 0,
        Sort::Health => row.health() as u64,
        Sort::Duration => u64::MAX - row.last_duration_ns(),
        Sort::LastScrape => row.last_scrape_ns().map_or(0, |ns| ns.max(0) as u64 + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use proptest::prelude::*;

    fn target(pool: u8, hash: u64, duration_ns: u64, health: Health) -> TargetView {
        TargetView {
            pool: format!("p{pool}"),
            hash,
            discovered_labels: Labels::default(),
            labels: Labels::from_pairs([("instance", format!("Host-{hash}"))]),
            scrape_url: format!("http://h{hash}/metrics"),
            last_error: String::new(),
            last_scrape_ns: (duration_ns != 0).then_some(duration_ns as i64),
            last_duration_ns: duration_ns,
            health,
            interval: "15s".to_owned(),
            timeout: "10s".to_owned(),
        }
    }

    fn page(fleet: &[TargetView], query: &TargetQuery) -> TargetPage {
        let mut pager = Pager::new(query.clone());
        fleet.iter().for_each(|t| pager.offer(t));
        pager.finish()
    }

    proptest! {
        /// Walking the pages shows exactly what sorting the whole fleet shows.
        #[test]
        fn pages_are_the_sorted_fleet(
            raw in prop::collection::btree_map((0u8..3, 0u64..50), (0u64..5, 0u8..3), 0..60),
            limit in 1usize..9,
            sort in 0usize..4,
            health in 0usize..4,
        ) {
            let healths = [Health::Down, Health::Unknown, Health::Up];
            let sort = [Sort::Pool, Sort::Health, Sort::Duration, Sort::LastScrape][sort];
            let health = healths.get(health).copied();
            let fleet: Vec<_> =
                raw.iter().map(|((p, h), (d, s))| target(*p, *h, *d, healths[usize::from(*s)])).collect();
            let mut naive: Vec<_> = fleet.iter().filter(|t| health.is_none_or(|h| h == t.health)).cloned().collect();
            naive.sort_by_key(|t| (rank(sort, t), t.pool.clone(), t.hash));
            let mut query = TargetQuery { limit, sort, health, ..TargetQuery::default() };
            let mut walked = Vec::new();
            loop {
                let page = page(&fleet, &query);
                prop_assert!(page.targets.len() <= limit);
                prop_assert_eq!(page.matched as usize, naive.len());
                walked.extend(page.targets);
                let Some(next) = page.next else { break };
                query.after = Some(Position::parse(&next.token()).unwrap());
            }
            prop_assert_eq!(walked, naive);
        }

        #[test]
        fn any_token_is_read_or_refused(token in ".{0,40}") {
            if let Some(p) = Position::parse(&token) {
                prop_assert_eq!(Position::parse(&p.token()), Some(p));
            }
        }
    }

    #[test]
    fn search_finds_labels_urls_and_errors_in_any_case() {
        let mut fleet: Vec<_> = (0..20).map(|h| target(0, h, 1, Health::Up)).collect();
        fleet[3].last_error = "Connection refused".to_owned();
        let found = |text: &str| {
            let query = TargetQuery { search: text.to_owned(), limit: 100, ..TargetQuery::default() };
            page(&fleet, &query).targets.iter().map(|t| t.hash).collect::<Vec<_>>()
        };
        assert_eq!(found("host-19"), [19]);
        assert_eq!(found("refused"), [3]);
        assert_eq!(found("http://h7/"), [7]);
        assert_eq!(found("nothing of the kind"), [0u64; 0]);
    }

    #[test]
    fn a_limit_of_zero_shows_nothing_and_says_so() {
        let fleet = [target(0, 1, 1, Health::Up)];
        let page = page(&fleet, &TargetQuery::default());
        assert_eq!((page.targets.len(), page.matched, page.next), (0, 1, None));
    }
}
