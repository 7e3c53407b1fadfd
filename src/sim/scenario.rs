//! One trouble in an otherwise calm world: when scrapes start, against when they are due.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::appliance::{Appliance, STEP_NS, Setting};
use super::disk::{ForgetfulFiles, Scratch};
use super::script::{SHARDS, Script};
use super::timeline::{BEGIN, SECOND, Span, Timeline};
use crate::base::limits::{COMMANDS_WAITING, START_GRIDS_NS};
use crate::scrape::{PoolId, PoolSpec};
use crate::shard::{Command, StatusRequest};

/// When the trouble comes.
const AT: u64 = BEGIN + 200 * SECOND + 2_500_000;
/// Starts of one target this close are one scrape that dialled again.
const SAME_NS: u64 = 100_000_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The wall clock steps by so many nanoseconds.
    Step(i64),
    /// The process stands still for so many nanoseconds.
    Pause(u64),
    /// The disk does nothing for so many nanoseconds.
    Stall(u64),
    /// Mailboxes are full of questions for a minute.
    Flood,
}

/// How scrapes started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// Scrapes due, those in a pause not counted.
    pub due: u64,
    /// Of those, not started within 20 ms.
    pub missed: u64,
    /// Starts that were not due.
    pub extra: u64,
    /// Latest start after its due time, nanoseconds.
    pub lateness_ns_max: u64,
    /// Most starts in one tick of the start grid.
    pub in_tick_max: u64,
    /// Most targets that are due in one tick.
    pub due_in_tick_max: u64,
}

/// Runs ten virtual minutes with one trouble.
///
/// # Errors
/// The system's.
pub fn starts_under(trouble: Trouble) -> io::Result<Starts> {
    let never = u64::MAX / 2;
    let (step, pause) = match trouble {
        Trouble::Step(by) => ((AT, by), Span::NEVER),
        Trouble::Pause(ns) => ((never, 0), Span { from: AT, ns }),
        Trouble::Stall(_) | Trouble::Flood => ((never, 0), Span::NEVER),
    };
    let end = BEGIN + 900 * SECOND;
    let timeline = Timeline { reload: never, step, pause, crash: Span::NEVER, dead: Span::NEVER, end };
    let script = Rc::new(Script::new(1).with(timeline));
    let (scratch, files) = (Scratch::new()?, ForgetfulFiles::default());
    let journal = scratch.path().join("journal");
    let setting = Setting { script: &script, files: &files, journal: &journal, boot: 1, sabotage: &|| None };
    let mut appliance = Appliance::start(&setting, timeline.at(BEGIN))?;
    configure(&script, &appliance);
    let mut t = BEGIN;
    while t < end {
        let stop = if t < AT { AT } else { end };
        t = (t + STEP_NS).min(stop);
        appliance.run_to(t);
        let is_stalled = matches!(trouble, Trouble::Stall(ns) if (AT..AT + ns).contains(&t));
        if !is_stalled {
            appliance.turn_disk(timeline.at(t));
        }
        if trouble == Trouble::Flood && (AT..AT + 60 * SECOND).contains(&t) {
            flood(&appliance);
        }
        if t == AT {
            t = if pause.from == AT { pause.until() } else { t };
            appliance.jump(timeline.at(t));
        }
    }
    Ok(measure(&script, &appliance.starts.borrow()))
}

fn configure(script: &Script, appliance: &Appliance) {
    for (job, id) in script.jobs.iter().zip(0u32..) {
        for shard in 0..SHARDS as usize {
            let spec = PoolSpec { id: PoolId(id), config: job.configs[0].clone(), forced_error: None };
            appliance.post(shard, Command::Pool(spec));
        }
    }
    for life in script.lives.iter().filter(|l| l.is_old) {
        let target = Box::new(life.spec.clone());
        appliance.post(life.shard(), Command::Add { pool: PoolId(life.job as u32), target });
    }
}

/// Questions for each shard, many times more than anybody asks.
fn flood(appliance: &Appliance) {
    for shard in 0..SHARDS as usize {
        for _ in 0..COMMANDS_WAITING / 64 {
            let (reply, _) = oneshot::channel();
            appliance.post(shard, Command::Status(StatusRequest { targets: Vec::new(), reply }));
        }
    }
}

fn measure(script: &Script, starts: &[(usize, u64)]) -> Starts {
    let timeline = &script.timeline;
    let mut by_life: HashMap<usize, Vec<u64>> = HashMap::new();
    let mut ticks: HashMap<u64, u64> = HashMap::new();
    for &(life, t) in starts {
        let own = by_life.entry(life).or_default();
        if own.last().is_none_or(|&last| t > last + SAME_NS) {
            own.push(t);
            *ticks.entry(t / START_GRIDS_NS[0] as u64).or_default() += 1;
        }
    }
    let mut measured = Starts { in_tick_max: ticks.into_values().max().unwrap_or(0), ..Starts::default() };
    let mut due_ticks: HashMap<u64, u64> = HashMap::new();
    for (l, life) in script.lives.iter().enumerate().filter(|(_, l)| l.is_old) {
        let none = Vec::new();
        let own = by_life.get(&l).unwrap_or(&none);
        let mut used = 0;
        for (t, _) in timeline.dues((BEGIN, timeline.end - SECOND), life.spec.interval_ns, life.phase_ns) {
            *due_ticks.entry(t / START_GRIDS_NS[0] as u64).or_default() += 1;
            if timeline.pause.holds(t) {
                continue;
            }
            measured.due += 1;
            match own.iter().find(|&&s| s >= t && s <= t + 20_000_000) {
                Some(s) => {
                    used += 1;
                    measured.lateness_ns_max = measured.lateness_ns_max.max(s - t);
                }
                None => measured.missed += 1,
            }
        }
        let counted = own.iter().filter(|&&s| s < timeline.end - SECOND).count() as u64;
        measured.extra += counted.saturating_sub(used);
    }
    measured.due_in_tick_max = due_ticks.into_values().max().unwrap_or(0);
    measured
}
