//! One simulation from its seed to the verdict.

use std::fmt;
use std::io;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::appliance::{Appliance, STEP_NS, Setting};
use super::disk::{ForgetfulFiles, Scratch};
use super::log::Log;
use super::oracle;
use super::planted::{Planted, Saboteur};
use super::receiver::{Receiver, read_whole};
use super::script::{Life, Move, SHARDS, Script};
use super::timeline::SECOND;
use super::{HashMap, Random};
use crate::scrape::{PoolId, PoolSpec};
use crate::shard::sabotage::Sabotage;
use crate::shard::{Command, HandOver, Handover};

/// How often it is looked at whether everything has been received so far.
const LOOK_NS: u64 = 120 * SECOND;
/// From the end of a scrape to the receiver in less than this: a flush, two steps of the driver, and the time that the disk
/// thread waits after a failed call before it writes what follows to another file.
const UNDER_WAY_NS: u64 = 200_000_000 + 6 * STEP_NS;

/// What is not as it must be, with what was expected near by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding(pub String);

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much a simulation covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples that the oracle expected.
    pub expected: u64,
    /// Samples in the journal.
    pub kept: u64,
    /// Samples received, those sent again included.
    pub received: u64,
    /// Bytes that the power loss tore.
    pub torn_bytes: u64,
    /// Writes and syncs that failed on purpose.
    pub failures: u64,
    /// Targets that went to another shard.
    pub moves: u64,
}

/// Runs the world of a seed, with a bug on purpose where asked, and compares its log with the oracle's.
///
/// # Errors
/// The first difference.
pub fn simulate(seed: u64, planted: Option<Planted>) -> Result<Tally, Finding> {
    let script = Rc::new(Script::new(seed));
    let mut log = Log::default();
    oracle::expect(&script, &mut log);
    let fail = |what: &str, e: &dyn fmt::Display| Finding(format!("{what}: {e}"));
    let scratch = Scratch::new().map_err(|e| fail("scratch directory", &e))?;
    let files = ForgetfulFiles::failing(seed ^ 10);
    let sabotage = || planted.map(|p| Box::new(Saboteur::new(p, &script)) as Box<dyn Sabotage>);
    let (mut torn_bytes, mut moves) = (0, 0);
    for (process, life) in (0u32..).zip(script.timeline.lives()) {
        let setting = Setting {
            script: &script,
            files: &files,
            journal: &scratch.path().join("journal"),
            boot: u128::from(seed) << 8 | u128::from(process),
            sabotage: &sabotage,
        };
        let mut world =
            World { script: &script, planted, log: &mut log, looked_at: life.0, moved: HashMap::default(), moves: 0 };
        let appliance = world.live(&setting, process, life)?;
        moves += world.moves;
        if process == 1 {
            read_whole(appliance.disk(), &mut log).map_err(|e| fail("journal at the end", &e))?;
            continue;
        }
        drop(appliance);
        if planted == Some(Planted::LoseSyncedFrame) {
            files.forget_last_synced();
        }
        torn_bytes = files.lose_power(&mut Random::new(seed ^ 9)).map_err(|e| fail("power loss", &e))?;
    }
    log.verdict(&script.timeline)?;
    let (kept, received) = (log.kept, log.received);
    Ok(Tally { expected: log.expected(), kept, received, torn_bytes, failures: files.failed(), moves })
}

/// What happens to a process from outside.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Reload,
    Step,
    Pause,
    Move(Move),
}

struct World<'a> {
    script: &'a Rc<Script>,
    planted: Option<Planted>,
    log: &'a mut Log,
    /// When what was received was last looked at.
    looked_at: u64,
    /// By hash of the public labels, where it is not the one that the script says.
    moved: HashMap<u64, usize>,
    /// Targets that went to another shard.
    moves: u64,
}

impl World<'_> {
    /// One process from its start to its end, however that comes.
    fn live(&mut self, setting: &Setting<'_>, process: u32, (begin, end): (u64, u64)) -> Result<Appliance, Finding> {
        let timeline = &self.script.timeline;
        let fail = |e: io::Error| Finding(format!("process: {e}"));
        let mut appliance = Appliance::start(setting, timeline.at(begin)).map_err(fail)?;
        let skips = u32::from(process > 0 && self.planted == Some(Planted::ResendFromWrongOffset));
        let mut receiver = Receiver::new(appliance.disk(), self.script, process, skips).map_err(fail)?;
        self.configure(&appliance, begin);
        let mut t = begin;
        for (at, what) in happenings(self.script, (begin, end)) {
            self.run(&mut appliance, &mut receiver, (t, at))?;
            t = at;
            match what {
                Some(Happening::Reload) => self.reload(&appliance),
                Some(Happening::Step) => appliance.jump(timeline.at(t)),
                Some(Happening::Pause) => {
                    t = timeline.pause.until();
                    appliance.jump(timeline.at(t));
                }
                Some(Happening::Move(wish)) => {
                    let answer = self.ask(&appliance, wish);
                    self.run(&mut appliance, &mut receiver, (t, t + STEP_NS))?;
                    t += STEP_NS;
                    self.take_over(&appliance, wish, answer);
                }
                None => {}
            }
        }
        Ok(appliance)
    }

    fn run(
        &mut self,
        appliance: &mut Appliance,
        receiver: &mut Receiver,
        (from, to): (u64, u64),
    ) -> Result<(), Finding> {
        let timeline = &self.script.timeline;
        let mut t = from;
        while t < to {
            t = (t + STEP_NS).min(to);
            appliance.run_to(t);
            // At a step of the clock, the disk still goes by the clock from before.
            appliance.turn_disk(timeline.at(t));
            if !timeline.dead.holds(t) {
                receiver.poll(appliance.disk(), self.log).map_err(|e| Finding(format!("receiver: {e}")))?;
                self.look(t)?;
            }
        }
        Ok(())
    }

    /// What is wrong already need not wait for the end.
    fn look(&mut self, t: u64) -> Result<(), Finding> {
        let timeline = &self.script.timeline;
        self.log.no_surprise(timeline)?;
        if t >= self.looked_at + LOOK_NS && !timeline.dead.holds(t.saturating_sub(UNDER_WAY_NS)) {
            self.looked_at = t;
            self.log.all_received(timeline, t - UNDER_WAY_NS)?;
        }
        Ok(())
    }

    fn pool(&self, job: usize, is_reloaded: bool) -> Command {
        let config = Planted::config(self.planted, &self.script.jobs[job].configs[usize::from(is_reloaded)]);
        Command::Pool(PoolSpec { id: PoolId(job as u32), config, forced_error: None })
    }

    /// Pools and targets as of now.
    fn configure(&self, appliance: &Appliance, now: u64) {
        let timeline = &self.script.timeline;
        for job in 0..self.script.jobs.len() {
            (0..SHARDS as usize).for_each(|s| appliance.post(s, self.pool(job, now >= timeline.reload)));
        }
        for life in &self.script.lives {
            let (from, until) = life.span(timeline);
            if (from..until).contains(&now) {
                let target = Box::new(life.spec.clone());
                appliance.post(self.shard(life), Command::Add { pool: PoolId(life.job as u32), target });
            }
        }
    }

    /// Where a life's labels are.
    fn shard(&self, life: &Life) -> usize {
        self.moved.get(&life.public_hash).copied().unwrap_or(life.shard())
    }

    fn ask(&self, appliance: &Appliance, wish: Move) -> Answer {
        let life = &self.script.lives[wish.life];
        let (reply, answer) = oneshot::channel();
        let wanted = HandOver { pool: PoolId(life.job as u32), hash: life.spec.hash, reply };
        appliance.post(self.shard(life), Command::HandOver(wanted));
        answer
    }

    fn take_over(&mut self, appliance: &Appliance, wish: Move, mut answer: Answer) {
        let life = &self.script.lives[wish.life];
        let Ok(Some(mut handover)) = answer.try_recv() else { return };
        if self.planted == Some(Planted::ForgetOnMove) {
            handover.portrait = handover.portrait.blank();
        }
        let to = (self.shard(life) + wish.by) % SHARDS as usize;
        self.moved.insert(life.public_hash, to);
        self.moves += 1;
        let (pool, target) = (PoolId(life.job as u32), Box::new(life.spec.clone()));
        let (done, _) = oneshot::channel();
        appliance.post(to, Command::TakeOver { pool, target, handover, done });
    }

    fn reload(&self, appliance: &Appliance) {
        for job in 0..self.script.jobs.len() {
            (0..SHARDS as usize).for_each(|s| appliance.post(s, self.pool(job, true)));
        }
        for life in self.script.lives.iter().filter(|l| !l.is_old) {
            let target = Box::new(life.spec.clone());
            appliance.post(self.shard(life), Command::Add { pool: PoolId(life.job as u32), target });
        }
        for life in self.script.lives.iter().filter(|l| !l.stays) {
            appliance.post(self.shard(life), Command::Remove { pool: PoolId(life.job as u32), hash: life.spec.hash });
        }
    }
}

/// A shard's answer to a wish.
type Answer = oneshot::Receiver<Option<Box<Handover>>>;

/// What falls into a process's life, in order; its end is the last, as `None`.
fn happenings(script: &Script, (begin, end): (u64, u64)) -> Vec<(u64, Option<Happening>)> {
    let timeline = &script.timeline;
    let once = [
        (timeline.reload, Happening::Reload),
        (timeline.step.0, Happening::Step),
        (timeline.pause.from, Happening::Pause),
    ];
    let all = once.into_iter().chain(script.moves.iter().map(|m| (m.at, Happening::Move(*m))));
    let mut own: Vec<_> = all.filter(|h| (begin..end).contains(&h.0)).map(|(t, h)| (t, Some(h))).collect();
    own.push((end, None));
    own.sort_by_key(|h| h.0);
    own
}
