//! What one seed decides: jobs, targets, and when things happen.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::scene::{Look, looks};
use super::timeline::{BEGIN, SECOND, Span, Timeline};
use super::{Random, hash};
use crate::config::{NameValidation, RelabelAction, RelabelConfig, ScrapeConfig, ScrapeProtocol};
use crate::model::Labels;
use crate::scrape::schedule::phase_ns;
use crate::scrape::target::{Made, TargetMaker};
use crate::scrape::{TargetHash, TargetSpec};

/// Shards of the appliance.
pub const SHARDS: u32 = 3;
/// Targets at the start.
const TARGETS: u32 = 200;
/// Targets that the reload brings beside successors.
const TARGETS_NEW: u32 = 20;
/// Longest time a good answer takes.
pub const ANSWER_NS: u64 = 80_000_000;

/// What the oracle knows of a job's rules; the configuration says the same in the product's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Exposed labels win.
    pub honor_labels: bool,
    /// Exposed timestamps count.
    pub honor_timestamps: bool,
    /// 0 is none.
    pub sample_limit: u64,
    /// Metrics called `drop_*` go.
    pub drops: bool,
    /// `mode="idle"` becomes `mode="rest"`, which makes twins.
    pub rests: bool,
    /// Label `debug` goes, which makes twins.
    pub forgets_debug: bool,
    /// Label `place` becomes zone and mode.
    pub places: bool,
}

impl Terms {
    /// In the product's words.
    fn config(self, job: usize, interval: u64) -> ScrapeConfig {
        let rule = |action, source: &[&str], regex: &str, target: &str, replacement: &str| RelabelConfig {
            source_labels: source.iter().map(|s| (*s).to_owned()).collect(),
            separator: ";".into(),
            regex: regex.into(),
            modulus: 0,
            target_label: target.into(),
            replacement: replacement.into(),
            action,
            name_validation: NameValidation::Utf8,
        };
        let mut rules = Vec::new();
        if self.drops {
            rules.push(rule(RelabelAction::Drop, &["__name__"], "drop_.*", "", "$1"));
        }
        if self.rests {
            rules.push(rule(RelabelAction::Replace, &["mode"], "idle", "mode", "rest"));
        }
        if self.forgets_debug {
            rules.push(rule(RelabelAction::LabelDrop, &[], "debug", "", "$1"));
        }
        if self.places {
            rules.push(rule(RelabelAction::Replace, &["zone", "mode"], "(.+);(.+)", "place", "$1-$2"));
        }
        ScrapeConfig {
            job_name: format!("job-{job}"),
            scrape_interval: Duration::from_secs(interval),
            scrape_timeout: Duration::from_secs(interval / 3),
            metrics_path: "/metrics".into(),
            scheme: "http".into(),
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps,
            sample_limit: self.sample_limit,
            enable_compression: true,
            scrape_protocols: vec![ScrapeProtocol::Text004],
            metric_relabel_configs: rules,
            ..ScrapeConfig::default()
        }
    }
}

/// A job before and after the reload.
#[derive(Debug)]
pub struct Job {
    /// For the oracle.
    pub terms: [Terms; 2],
    /// For the product.
    pub configs: [Arc<ScrapeConfig>; 2],
}

/// One target from the time it is added to the time it is removed.
#[derive(Debug)]
pub struct Life {
    /// As the manager would send it.
    pub spec: TargetSpec,
    /// Decides the shard.
    pub public_hash: u64,
    /// Index.
    pub job: usize,
    /// What is behind the address; a successor shows the same machine.
    pub machine: u32,
    /// Since the start, as against: since the reload.
    pub is_old: bool,
    /// Until the end, as against: until the reload.
    pub stays: bool,
    /// On the start grid.
    pub phase_ns: i64,
}

impl Life {
    /// Its shard.
    #[must_use]
    pub fn shard(&self) -> usize {
        (self.public_hash % u64::from(SHARDS)) as usize
    }

    /// When it is among the targets.
    #[must_use]
    pub fn span(&self, timeline: &Timeline) -> (u64, u64) {
        (if self.is_old { BEGIN } else { timeline.reload }, if self.stays { timeline.end } else { timeline.reload })
    }
}

/// A wish that a target goes to another shard. Nothing of it may show.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// When, monotonic.
    pub at: u64,
    /// Index.
    pub life: usize,
    /// Shards further on, at least 1.
    pub by: usize,
}

/// Everything about one seed.
#[derive(Debug)]
pub struct Script {
    /// Where it all comes from.
    pub seed: u64,
    /// By index.
    pub jobs: Vec<Job>,
    /// In no order.
    pub lives: Vec<Life>,
    /// When what happens.
    pub timeline: Timeline,
    /// In order of time.
    pub moves: Vec<Move>,
    by_address: HashMap<SocketAddr, Vec<usize>>,
    /// By machine.
    looks: Vec<Box<[Look]>>,
}

impl Script {
    /// The script of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let intervals = [15, 20, 30, 60].map(|i| if random.below(3) == 0 { 30 } else { i });
        let terms = terms();
        let jobs: Vec<Job> = terms
            .into_iter()
            .enumerate()
            .map(|(i, t)| Job { terms: t, configs: t.map(|t| Arc::new(t.config(i, intervals[i]))) })
            .collect();
        let mut lives = Vec::new();
        for machine in 0..TARGETS + TARGETS_NEW {
            let job = random.below(jobs.len() as u64) as usize;
            let is_old = machine < TARGETS;
            let fate = if is_old { random.below(10) } else { 9 };
            lives.push(life(&jobs[job], (job, machine), is_old, fate > 1, "/metrics"));
            if fate == 1 {
                lives.push(life(&jobs[job], (job, machine), false, true, "/next"));
            }
        }
        let mut by_address: HashMap<SocketAddr, Vec<usize>> = HashMap::new();
        for (i, life) in lives.iter().enumerate() {
            by_address.entry(address(life.machine)).or_default().push(i);
        }
        let timeline = timeline(&mut random, &lives);
        let looks = (0..TARGETS + TARGETS_NEW).map(|m| looks(seed, m)).collect();
        let moves = moves(&mut random, &timeline, lives.len());
        Self { seed, jobs, lives, timeline, moves, by_address, looks }
    }

    /// The same world with other events.
    #[must_use]
    pub fn with(self, timeline: Timeline) -> Self {
        Self { timeline, ..self }
    }

    /// Everything that a machine ever shows, in order.
    #[must_use]
    pub fn looks(&self, machine: u32) -> &[Look] {
        &self.looks[machine as usize]
    }

    /// The life that a request for this path at this address belongs to.
    #[must_use]
    pub fn life_at(&self, address: SocketAddr, path: &str) -> Option<usize> {
        self.by_address.get(&address)?.iter().copied().find(|&l| &*self.lives[l].spec.path == path)
    }

    /// The life that somebody who dials this address belongs to.
    #[must_use]
    pub fn life_dialled(&self, address: SocketAddr, t: u64) -> Option<usize> {
        let all = self.by_address.get(&address)?;
        all.iter().copied().find(|&l| (t >= self.timeline.reload) == (!self.lives[l].is_old) || all.len() == 1)
    }

    /// The life of a target.
    #[must_use]
    pub fn life_of(&self, hash: TargetHash) -> Option<&Life> {
        self.lives.iter().find(|l| l.spec.hash == hash)
    }

    /// The rules of a job at an instant.
    #[must_use]
    pub fn terms(&self, job: usize, t: u64) -> &Terms {
        &self.jobs[job].terms[usize::from(t >= self.timeline.reload)]
    }
}

/// The jobs' rules before and after the reload.
fn terms() -> [[Terms; 2]; 4] {
    let plain = Terms::default();
    let ruled = Terms { drops: true, rests: true, ..plain };
    let timed = Terms { honor_timestamps: true, ..plain };
    let limited = Terms { honor_labels: true, sample_limit: 9, ..plain };
    [
        [plain; 2],
        [ruled, Terms { drops: true, forgets_debug: true, places: true, ..plain }],
        [timed; 2],
        [limited, Terms { sample_limit: 11, ..limited }],
    ]
}

fn address(machine: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, (machine >> 8) as u8, machine as u8), 9100))
}

fn life(job: &Job, (number, machine): (usize, u32), is_old: bool, stays: bool, path: &str) -> Life {
    let maker = TargetMaker::new(Arc::clone(&job.configs[0]), 7).expect("the script's rules compile");
    let zone = format!("z{}", machine % 3);
    let address = address(machine).to_string();
    let entry = [("__address__", address.as_str()), ("__metrics_path__", path), ("zone", &zone)];
    let Made::Active(target) = maker.make(&Labels::from_pairs(entry), &Labels::default()) else {
        unreachable!("the script's targets are valid")
    };
    let phase_ns = phase_ns(target.spec.offset_ns, target.spec.interval_ns);
    let public_hash = target.public_hash;
    Life { spec: target.spec, public_hash, job: number, machine, is_old, stays, phase_ns }
}

/// Events far enough apart that the aftermath of one is over before the next, each at a quiet instant.
fn timeline(random: &mut Random, lives: &[Life]) -> Timeline {
    let never = (u64::MAX / 2, 0);
    let end = BEGIN + 1_800 * SECOND;
    let mut t =
        Timeline { reload: never.0, step: never, pause: Span::NEVER, crash: Span::NEVER, dead: Span::NEVER, end };
    let mut order = [0, 1, 2, 3];
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    for (place, what) in order.into_iter().enumerate() {
        let near = BEGIN + (180 + 400 * place as u64 + random.below(200)) * SECOND;
        let at = quiet(&t, lives, near);
        match what {
            0 => t.reload = at,
            1 => t.step = (at, 500_000_000 + 5_000_000 * random.below(720_000) as i64 + 5_000_000),
            2 => t.pause = Span { from: at, ns: 100_000_000 + 1_000_000 * random.below(4_000) },
            _ => t.crash = Span { from: at, ns: SECOND + 1_000_000 * random.below(20_000) },
        }
    }
    let near = if random.below(2) == 0 { t.crash.from - 60 * SECOND } else { BEGIN + 300 * SECOND };
    let from = near + random.below(50) * SECOND;
    // It is back before the end, with time to take what it has missed.
    let ns = ((20 + random.below(300)) * SECOND).min(end - 30 * SECOND - from);
    t.dead = Span { from, ns };
    t
}

/// Wishes all along, but for the seconds around what else happens.
fn moves(random: &mut Random, timeline: &Timeline, lives: usize) -> Vec<Move> {
    let events = [timeline.reload, timeline.step.0, timeline.pause.from, timeline.pause.until()];
    let crash = [timeline.crash.from, timeline.crash.until()];
    let is_calm = |at: u64| events.iter().chain(&crash).all(|e| at.abs_diff(*e) > 3 * SECOND);
    let wish = |i: u64, random: &mut Random| Move {
        at: BEGIN + i * 5 * SECOND + random.below(4_000) * 1_000_000,
        life: random.below(lives as u64) as usize,
        by: 1 + random.below(u64::from(SHARDS) - 1) as usize,
    };
    let all = (1..(timeline.end - BEGIN) / (5 * SECOND)).map(|i| wish(i, random));
    all.filter(|m| is_calm(m.at)).collect()
}

/// The first instant from `near` on, off the start grid, before which nothing has started for as long as an answer takes.
fn quiet(timeline: &Timeline, lives: &[Life], near: u64) -> u64 {
    let mut at = near + 2_500_000;
    let window = (near - ANSWER_NS, near + 20 * SECOND);
    let due = |l: &Life| timeline.dues(window, l.spec.interval_ns, l.phase_ns);
    let mut dues: Vec<u64> = lives.iter().flat_map(due).map(|d| d.0).collect();
    dues.sort_unstable();
    for due in dues {
        if due > at {
            break;
        }
        at = at.max(due + ANSWER_NS + 2_500_000);
    }
    at
}

/// The texts of a machine are drawn from this.
#[must_use]
pub fn machine_seed(seed: u64, machine: u32) -> u64 {
    hash(&[seed, u64::from(machine), 1])
}
