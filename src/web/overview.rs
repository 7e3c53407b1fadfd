//! The page's first question: one sentence of health, pools and destinations in numbers.

use serde::Serialize;

use super::{Appliance, PoolView, RemoteWriteView};
use crate::base::rfc3339;
use crate::base::time::Now;

/// A destination is behind when its oldest unsent sample is older than this, seconds.
const LAG_WARN_S: f64 = 60.0;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    state: State,
    sentence: String,
    version: &'static str,
    hostname: String,
    engine: String,
    shards: usize,
    uptime_seconds: f64,
    reload_error: Option<String>,
    pools: Vec<Pool>,
    remote_write: Vec<Destination>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    Warn,
    Bad,
}

#[derive(Debug, Serialize)]
struct Pool {
    name: String,
    up: u64,
    down: u64,
    unknown: u64,
    dropped: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Destination {
    name: String,
    url: String,
    lag_seconds: f64,
    samples_pending: u64,
    last_error: Option<String>,
    failing_since: Option<String>,
}

pub(super) fn overview(appliance: &dyn Appliance, now: Now) -> Overview {
    let (pools, remotes, runtime) = (appliance.pools(), appliance.remote_write(), appliance.runtime());
    let (state, sentence) = sentence(&pools, &remotes, runtime.reload_error.as_deref());
    Overview {
        state,
        sentence,
        version: env!("CARGO_PKG_VERSION"),
        hostname: runtime.hostname,
        engine: runtime.engine,
        shards: runtime.shards,
        uptime_seconds: (now.wall_ns - runtime.start_ns).max(0) as f64 / 1e9,
        reload_error: runtime.reload_error,
        pools: pools
            .into_iter()
            .map(|p| Pool { name: p.name, up: p.up, down: p.down, unknown: p.unknown, dropped: p.dropped })
            .collect(),
        remote_write: remotes
            .into_iter()
            .map(|r| Destination {
                name: r.name,
                url: r.url,
                lag_seconds: r.lag_s,
                samples_pending: r.samples_pending,
                last_error: r.last_error,
                failing_since: r.failing_since_ns.map(|ns| rfc3339::text(Some(ns))),
            })
            .collect(),
    }
}

/// What an operator wants to know first; the worst thing names the state.
fn sentence(pools: &[PoolView], remotes: &[RemoteWriteView], reload_error: Option<&str>) -> (State, String) {
    let sum = |of: fn(&PoolView) -> u64| pools.iter().map(of).sum::<u64>();
    let (up, down, unknown) = (sum(|p| p.up), sum(|p| p.down), sum(|p| p.unknown));
    let all = up + down + unknown;
    let mut state = State::Good;
    let mut parts = vec![match (all, down, unknown) {
        (0, ..) => "No targets".to_owned(),
        (_, 0, 0) => format!("All {all} targets are up"),
        (_, 0, _) => format!("{up} of {all} targets are up, {unknown} not scraped yet"),
        _ => format!("{down} of {all} targets are down"),
    }];
    if down > 0 || all == 0 {
        state = State::Warn;
    }
    // More than half of the fleet down is rarely the fleet's fault.
    if down * 2 > all {
        state = State::Bad;
    }
    for remote in remotes {
        if remote.last_error.is_some() {
            state = State::Bad;
            parts.push(format!("remote write to {} is failing", remote.name));
        } else if remote.lag_s > LAG_WARN_S {
            state = state.max(State::Warn);
            parts.push(format!("remote write to {} is {:.0} s behind", remote.name, remote.lag_s));
        }
    }
    if reload_error.is_some() {
        state = State::Bad;
        parts.push("the last reload failed and the old configuration is running".to_owned());
    }
    (state, format!("{}.", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(up: u64, down: u64, unknown: u64) -> PoolView {
        PoolView { name: "p".to_owned(), up, down, unknown, dropped: 0 }
    }

    fn remote(lag_s: f64, last_error: Option<&str>) -> RemoteWriteView {
        let last_error = last_error.map(str::to_owned);
        RemoteWriteView { name: "far".to_owned(), lag_s, last_error, ..RemoteWriteView::default() }
    }

    #[test]
    fn the_worst_thing_names_the_state() {
        let said = |pools: &[PoolView], remotes: &[RemoteWriteView], reload| sentence(pools, remotes, reload);
        assert_eq!(said(&[pool(3, 0, 0)], &[], None), (State::Good, "All 3 targets are up.".to_owned()));
        assert_eq!(said(&[], &[], None).0, State::Warn);
        let some = said(&[pool(3, 1, 0), pool(0, 0, 1)], &[], None);
        assert_eq!(some, (State::Warn, "1 of 5 targets are down.".to_owned()));
        assert_eq!(said(&[pool(1, 3, 0)], &[], None).0, State::Bad);
        let behind = said(&[pool(1, 0, 0)], &[remote(90.0, None)], None);
        assert_eq!(behind, (State::Warn, "All 1 targets are up; remote write to far is 90 s behind.".to_owned()));
        assert_eq!(said(&[pool(1, 0, 0)], &[remote(0.0, Some("503"))], None).0, State::Bad);
        assert_eq!(said(&[pool(1, 0, 0)], &[], Some("line 3")).0, State::Bad);
    }
}
