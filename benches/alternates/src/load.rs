//! The work load, and when everything in it is due.

use std::io::Write;
use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use ringscrape::farm;

/// Opening connections goes at this pace.
const OPENED_PER_S: u64 = 8_000;
/// The first target is alone for so long, and everything rests for as long after the last connection is opened.
const REST_NS: u64 = 120_000_000;
/// How long before the end of a rest memory is read.
const READ_NS: u64 = 30_000_000;
/// The paced load runs for so long before it is measured.
const WARM_NS: u64 = 200_000_000;

/// What happens to the connection after a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Link {
    /// It is kept for the next one.
    Keep,
    /// It is closed, and a new one made for the next scrape.
    Fresh,
}

impl Link {
    /// Its name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Fresh => "fresh",
        }
    }
}

/// A paced load of one client. All times below are nanoseconds since the client's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Load {
    /// Targets, each at its own address.
    #[arg(long, default_value_t = 2_000)]
    pub targets: u32,
    /// Samples of each body.
    #[arg(long, default_value_t = 18)]
    pub samples: u32,
    /// Scrapes per second, over all targets.
    #[arg(long, default_value_t = 1_000)]
    pub rate: u64,
    /// Starts are gathered on a grid of so many milliseconds.
    #[arg(long, default_value_t = 10)]
    pub grid_ms: u64,
    /// What happens to connections.
    #[arg(long, default_value = "keep")]
    pub link: Link,
    /// Measured time.
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,
}

impl Load {
    /// When scrape `n` of all is due. Scrapes go round the targets: `n % targets` is scraped. The first round opens the
    /// connections. Never decreases with `n`.
    pub fn due_ns(&self, n: u64) -> u64 {
        let targets = u64::from(self.targets);
        if n >= targets {
            let grid_ns = self.grid_ms.max(1) * 1_000_000;
            return self.paced_ns() + ((n - targets) * 1_000_000_000 / self.rate).next_multiple_of(grid_ns);
        }
        if n == 0 { 0 } else { REST_NS + n * 1_000_000_000 / OPENED_PER_S }
    }

    fn paced_ns(&self) -> u64 {
        2 * REST_NS + u64::from(self.targets) * 1_000_000_000 / OPENED_PER_S
    }

    /// When to look: one connection and nothing to do; all connections and nothing to do; begin and end of the measured
    /// time.
    pub fn marks_ns(&self) -> [u64; 4] {
        let begin = self.paced_ns() + WARM_NS;
        [REST_NS - READ_NS, self.paced_ns() - READ_NS, begin, begin + self.seconds * 1_000_000_000]
    }

    /// Where target `n` is.
    pub fn addr(&self, target: u32, port: u16) -> SocketAddr {
        SocketAddr::from((farm::address(target), port))
    }

    /// Writes the request for a target.
    pub fn request(&self, target: u32, port: u16, out: &mut Vec<u8>) {
        out.clear();
        let close = if self.link == Link::Fresh { "Connection: close\r\n" } else { "" };
        let _ = write!(
            out,
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nUser-Agent: alternates\r\n\
             Accept: text/plain;version=0.0.4;q=0.4,*/*;q=0.1\r\n\
             X-Prometheus-Scrape-Timeout-Seconds: 10\r\n{close}\r\n",
            self.addr(target, port)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { targets: 8, samples: 18, rate: 1_000, grid_ms: 10, link: Link::Keep, seconds: 2 };

    #[test]
    fn scrapes_are_due_in_order_on_the_grid_at_the_rate() {
        assert!((0..100).all(|n| LOAD.due_ns(n) <= LOAD.due_ns(n + 1)));
        let first = LOAD.due_ns(8);
        assert_eq!([9, 18, 19, 1_008].map(|n| (LOAD.due_ns(n) - first) / 1_000_000), [10, 10, 20, 1_000]);
    }

    #[test]
    fn nothing_is_due_around_the_first_two_marks() {
        let [alone, idle, begin, end] = LOAD.marks_ns();
        assert!(LOAD.due_ns(0) < alone && alone < LOAD.due_ns(1));
        assert!(LOAD.due_ns(7) < idle && idle < LOAD.due_ns(8) && LOAD.due_ns(8) < begin);
        assert_eq!(end - begin, 2_000_000_000);
    }
}
