//! What a farm is, as a description that can be read from a file: populations of targets, their bodies and their manners.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::{FIRST, hash};

/// Most targets of a farm: what 127/8 holds behind [`FIRST`].
const TARGETS_MAX: u64 = 0x00fe_0000;
/// Most populations: a connection notes its own in a byte.
const POPULATIONS_MAX: usize = 256;
/// Most ports per address: each is a listener per ring.
const PORTS_MAX: u16 = 256;

/// A farm: targets are numbered through its populations in order, from 0.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// First port of every address; 0: the kernel chooses.
    #[serde(default)]
    pub port: u16,
    /// Ports per address. Target `i` is address `i / ports`, port `port + i % ports`.
    #[serde(default = "one")]
    pub ports: u16,
    /// Address of target 0. Outside 127/8 the host must have routes to it that are local (`ip route add local ..`).
    #[serde(default = "first")]
    pub first_address: Ipv4Addr,
    /// Network namespace that the farm's sockets live in, as a file: below /run/netns or /proc. Entering one needs rights.
    #[serde(default)]
    pub namespace: Option<PathBuf>,
    /// Which way the farm's sockets are driven.
    #[serde(default)]
    pub engine: Engine,
    /// Who lives here.
    #[serde(rename = "population")]
    pub populations: Vec<Population>,
}

/// Which way the farm's sockets are driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The ring, or epoll where it is refused.
    #[default]
    Auto,
    /// The ring or nothing.
    Uring,
    /// Epoll: each connection is a descriptor.
    Epoll,
}

/// Targets that are alike.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// For people.
    pub name: String,
    /// How many are listed at any time.
    pub targets: u32,
    /// What each answers.
    pub body: Source,
    /// How answers differ between targets and from one scrape to the next.
    #[serde(default)]
    pub vary: Vary,
    /// How each answers.
    #[serde(default)]
    pub manner: Manner,
    /// Compress when asked.
    #[serde(default)]
    pub gzip: bool,
    /// Asked over TLS. The certificate is self-signed and nobody's: scrapers must not verify it.
    #[serde(default)]
    pub tls: bool,
    /// Each answer ends its connection, and says so.
    #[serde(default)]
    pub closes: bool,
    /// Targets that leave for good while others come; see [`Spec::listed`].
    #[serde(default)]
    pub churn: Option<Churn>,
}

/// A share that is replaced in each period, spread over it evenly.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// Of all, 0 to 100.
    pub percent: f64,
    /// The period.
    pub every_s: u32,
}

impl Churn {
    /// How often the thing of this hash has been replaced so far.
    #[must_use]
    pub fn generation(self, hash: u64, at_ms: u64) -> u64 {
        let phase = (hash >> 11) as f64 / (1u64 << 53) as f64;
        let periods = at_ms as f64 / (f64::from(self.every_s) * 1e3);
        (periods * self.percent / 100.0 + phase) as u64
    }
}

/// Where a body comes from. The values of counters move from scrape to scrape.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Synthetic, so many samples. From [`Source::STREAMED_SAMPLES`] on it is made while it is sent and never held.
    Samples(u32),
    /// Synthetic, sizes spread over the targets between the two: as many targets in each doubling.
    SamplesBetween([u32; 2]),
    /// One answer of Debian's node_exporter. Whoever starts the farm replaces it by [`Source::Text`].
    NodeExporter,
    /// One exporter's answer in a file.
    File(PathBuf),
    /// One exporter's answer.
    #[serde(skip)]
    Text(Arc<str>),
}

impl Source {
    /// Synthetic bodies of so many samples are streamed.
    pub const STREAMED_SAMPLES: u32 = 200_000;
}

/// How the targets' bodies relate to one another and to time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vary {
    /// Every target runs the same exporter.
    #[default]
    Identical,
    /// A label on every line carries the target's number.
    TargetLabel,
    /// One label value changes at each scrape.
    OneLabelChanges,
    /// A label on every line changes at each scrape.
    AllLabelsChange,
    /// Families come in another order at each scrape.
    RandomOrder,
    /// No line is shared between two targets.
    Unshared,
    /// A label on every line changes now and then, each line of each target at its own time.
    SeriesChurn(Churn),
}

impl Vary {
    /// The name in a file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::TargetLabel => "target-label",
            Self::OneLabelChanges => "one-label-changes",
            Self::AllLabelsChange => "all-labels-change",
            Self::RandomOrder => "random-order",
            Self::Unshared => "unshared",
            Self::SeriesChurn(_) => "series-churn",
        }
    }
}

/// How a target behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// Answers at once.
    #[default]
    Prompt,
    /// Answers after so many milliseconds.
    SlowMs(u32),
    /// Answers after a time between the two, another one each time, milliseconds.
    DelayMs([u32; 2]),
    /// Answers with this status and no body.
    Status(u16),
    /// Resets the connection when asked.
    Reset,
    /// Answers with bytes that are not HTTP, then closes.
    Garbage,
    /// Promises the whole body, sends half of it and closes.
    Truncated,
    /// Sends half of the body, then nothing more.
    Stall,
    /// Accepts, never answers.
    Silent,
    /// Never answers the SYN: its port is that of a listener whose queue is full.
    BlackHole,
    /// Refuses connections: nobody listens at its port.
    Refusing,
}

impl Manner {
    /// Whether it shows at a port where nothing else is.
    pub(super) fn has_own_port(self) -> bool {
        matches!(self, Self::BlackHole | Self::Refusing)
    }
}

impl Population {
    /// Prompt, identical targets.
    #[must_use]
    pub fn new(name: &str, targets: u32, body: Source) -> Self {
        let (vary, manner) = (Vary::default(), Manner::default());
        let (gzip, tls, closes) = (false, false, false);
        Self { name: name.to_owned(), targets, body, vary, manner, gzip, tls, closes, churn: None }
    }

    /// The line of an answer's head that says that the connection ends with it.
    pub(super) fn farewell(&self) -> &'static str {
        if self.closes { "Connection: close\r\n" } else { "" }
    }

    /// How many numbers its targets take: those that churn need room for successors.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        if self.churn.is_some() { self.targets.saturating_mul(2) } else { self.targets }
    }
}

impl Spec {
    /// A farm of these populations, at a port that the kernel chooses.
    #[must_use]
    pub fn new(populations: Vec<Population>) -> Self {
        Self { port: 0, ports: 1, first_address: first(), namespace: None, engine: Engine::Auto, populations }
    }

    /// Whether the farm can be.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let numbers: u64 = self.populations.iter().map(|p| u64::from(p.numbers())).sum();
        if numbers == 0 || numbers > TARGETS_MAX {
            return Err(format!("{numbers} targets: a farm has 1 to {TARGETS_MAX}"));
        }
        if self.ports == 0 || self.ports > PORTS_MAX {
            return Err(format!("{} ports per address: a farm has 1 to {PORTS_MAX}", self.ports));
        }
        if self.populations.len() > POPULATIONS_MAX {
            return Err(format!("{} populations: a farm has at most {POPULATIONS_MAX}", self.populations.len()));
        }
        for p in &self.populations {
            let wrong = |what: &str| Err(format!("population {}: {what}", p.name));
            match &p.body {
                Source::Samples(0) | Source::SamplesBetween([0, _]) => return wrong("a body has at least one sample"),
                Source::SamplesBetween([least, most]) if least > most => return wrong("sizes go from small to large"),
                _ => {}
            }
            let streamed = match p.body {
                Source::Samples(n) | Source::SamplesBetween([_, n]) => n >= Source::STREAMED_SAMPLES,
                _ => false,
            };
            if streamed && (p.gzip || !matches!(p.vary, Vary::Identical | Vary::TargetLabel)) {
                return wrong("a streamed body is neither compressed nor varied other than by target-label");
            }
            if streamed && matches!(p.manner, Manner::Truncated | Manner::Stall) {
                return wrong("a streamed body is sent whole");
            }
            match p.manner {
                Manner::DelayMs([least, most]) if least > most => return wrong("delays go from short to long"),
                Manner::Status(code) if !(200..=599).contains(&code) => return wrong("a status is 200 to 599"),
                _ => {}
            }
            let series = if let Vary::SeriesChurn(churn) = p.vary { Some(churn) } else { None };
            let is_churn = |c: Churn| c.every_s > 0 && (0.0..=100.0).contains(&c.percent);
            if !series.into_iter().chain(p.churn).all(is_churn) {
                return wrong("churn is 0 to 100 percent in at least a second");
            }
        }
        Ok(())
    }

    /// Numbers of all targets that are ever listed.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        self.populations.iter().map(Population::numbers).sum()
    }

    /// Targets listed at any one time.
    #[must_use]
    pub fn targets(&self) -> u32 {
        self.populations.iter().map(|p| p.targets).sum()
    }

    /// The population of a target, as an index, and the target's number within it.
    #[must_use]
    pub fn population(&self, target: u32) -> Option<(usize, u32)> {
        let mut first = 0;
        self.populations.iter().enumerate().find_map(|(at, p)| {
            let within = target - first;
            first += p.numbers();
            (target < first).then_some((at, within))
        })
    }

    /// The targets that a scraper should know so long after the start, in order.
    pub fn listed(&self, at_ms: u64) -> impl Iterator<Item = u32> + '_ {
        let firsts = self.populations.iter().scan(0, |next, p| {
            let first = *next;
            *next += p.numbers();
            Some((first, p))
        });
        firsts.flat_map(move |(first, p)| {
            (0..p.targets).map(move |i| {
                let gone = p.churn.map_or(0, |c| c.generation(hash(u64::from(first + i)), at_ms) % 2);
                first + i + gone as u32 * p.targets
            })
        })
    }

    /// Where a target is scraped, when the first port is `port`. The two ports behind the last one are those of black
    /// holes and of refusing targets.
    #[must_use]
    pub fn addr(&self, target: u32, port: u16) -> SocketAddr {
        let (at, within) = (target / u32::from(self.ports), target % u32::from(self.ports));
        let offset = match self.population(target).map(|(p, _)| self.populations[p].manner) {
            Some(Manner::BlackHole) => u32::from(self.ports),
            Some(Manner::Refusing) => u32::from(self.ports) + 1,
            _ => within,
        };
        SocketAddr::from((Ipv4Addr::from(u32::from(self.first_address).wrapping_add(at)), port + offset as u16))
    }
}

fn one() -> u16 {
    1
}

fn first() -> Ipv4Addr {
    Ipv4Addr::from(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Spec, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_farm_is_read_from_a_description() {
        let spec = read(
            r#"{"ports": 2, "population": [
                {"name": "small", "targets": 10, "body": {"samples": 18}},
                {"name": "node", "targets": 4, "body": "node_exporter", "vary": "target-label", "gzip": true, "tls": true,
                 "manner": {"delay_ms": [20, 80]}, "churn": {"percent": 1, "every_s": 600}},
                {"name": "gone", "targets": 3, "body": {"samples_between": [5, 50]}, "manner": "black_hole",
                 "vary": {"series-churn": {"percent": 5, "every_s": 600}}},
                {"name": "closed", "targets": 1, "body": {"file": "/x"}, "manner": "refusing"}]}"#,
        )
        .unwrap();
        spec.check().unwrap();
        assert_eq!((spec.targets(), spec.numbers()), (18, 22));
        assert_eq!(spec.populations[1].manner, Manner::DelayMs([20, 80]));
        assert_eq!(spec.populations.iter().map(|p| p.tls).collect::<Vec<_>>(), [false, true, false, false]);
        assert_eq!([9, 10, 17, 18, 21].map(|t| spec.population(t).unwrap()), [(0, 9), (1, 0), (1, 7), (2, 0), (3, 0)]);
        assert_eq!(spec.population(22), None);
        let text = |t| spec.addr(t, 9100).to_string();
        assert_eq!(
            [0, 1, 2, 18, 21].map(text),
            ["127.1.0.0:9100", "127.1.0.0:9101", "127.1.0.1:9100", "127.1.0.9:9102", "127.1.0.10:9103"]
        );
        assert!(
            read(r#"{"population": [{"name": "x", "targets": 1, "body": {"samples": 1}, "mannner": "reset"}]}"#)
                .is_err()
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let with = |change: fn(&mut Population)| {
            let mut population = Population::new("p", 10, Source::Samples(18));
            change(&mut population);
            Spec::new(vec![population]).check()
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert!(with(|p| p.targets = 0).is_err());
        assert!(with(|p| p.targets = 17_000_000).is_err());
        assert!(with(|p| p.body = Source::Samples(0)).is_err());
        assert!(with(|p| p.body = Source::SamplesBetween([9, 8])).is_err());
        assert!(with(|p| p.manner = Manner::DelayMs([80, 20])).is_err());
        assert!(with(|p| p.manner = Manner::Status(99)).is_err());
        assert!(with(|p| p.churn = Some(Churn { percent: 101.0, every_s: 1 })).is_err());
        assert!(with(|p| p.vary = Vary::SeriesChurn(Churn { percent: 1.0, every_s: 0 })).is_err());
        let many = |count| Spec::new(vec![Population::new("p", 1, Source::Samples(1)); count]).check();
        assert!(many(256).is_ok() && many(257).is_err());
        let giant = |p: &mut Population| (p.body, p.gzip) = (Source::Samples(5_000_000), true);
        assert!(with(giant).is_err());
    }

    #[test]
    fn the_share_that_is_asked_for_is_replaced_and_nobody_is_listed_twice() {
        let mut population = Population::new("p", 10_000, Source::Samples(18));
        population.churn = Some(Churn { percent: 1.0, every_s: 600 });
        let spec = Spec::new(vec![Population::new("q", 5, Source::Samples(1)), population]);
        let (before, after): (Vec<u32>, Vec<u32>) = (spec.listed(0).collect(), spec.listed(600_000).collect());
        assert_eq!((before.len(), before[0], before[5]), (10_005, 0, 5));
        let replaced = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!((60..=140).contains(&replaced), "{replaced} of 10,000");
        let half = before.iter().zip(spec.listed(300_000)).filter(|(a, b)| **a != *b).count();
        assert!(half > 20 && half < replaced, "{half} after half the time, {replaced} after all of it");
        let mut sorted = after.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), after.len());
    }
}
