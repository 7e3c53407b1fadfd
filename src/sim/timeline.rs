//! When what happens, and how the two clocks go together.

use crate::base::time::Now;

/// A second, nanoseconds.
pub const SECOND: u64 = 1_000_000_000;
/// Start of every simulation on the monotonic clock.
pub const BEGIN: u64 = 1_000 * SECOND;
/// Start on the wall clock; on the start grid.
const BEGIN_WALL_NS: i64 = 1_700_000_000_000_000_000;

/// A span of monotonic time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First instant.
    pub from: u64,
    /// Length.
    pub ns: u64,
}

impl Span {
    /// One that never comes.
    pub const NEVER: Self = Self { from: u64::MAX / 2, ns: 0 };

    /// The first instant after it.
    #[must_use]
    pub fn until(self) -> u64 {
        self.from + self.ns
    }

    /// Whether an instant lies in it.
    #[must_use]
    pub fn holds(self, t: u64) -> bool {
        (self.from..self.until()).contains(&t)
    }
}

/// The events of a simulation, monotonic nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// Targets and rules change.
    pub reload: u64,
    /// The wall clock steps: when, by how much.
    pub step: (u64, i64),
    /// The process stands still.
    pub pause: Span,
    /// Power loss and the time until the restart.
    pub crash: Span,
    /// The receiver does not answer.
    pub dead: Span,
    /// End of the simulation.
    pub end: u64,
}

impl Timeline {
    /// The wall clock at an instant.
    #[must_use]
    pub fn wall_ns(&self, t: u64) -> i64 {
        let step = if t >= self.step.0 { self.step.1 } else { 0 };
        BEGIN_WALL_NS + (t - BEGIN) as i64 + step
    }

    /// Both clocks at an instant.
    #[must_use]
    pub fn at(&self, t: u64) -> Now {
        Now { wall_ns: self.wall_ns(t), mono_ns: t }
    }

    /// The process's lives: first instant and end.
    #[must_use]
    pub fn lives(&self) -> [(u64, u64); 2] {
        [(BEGIN, self.crash.from.min(self.end)), (self.crash.until(), self.end)]
    }

    /// Instants in `(from, to]` at which a target of this interval and phase is due, with the wall clock that they are on.
    #[must_use]
    pub fn dues(&self, (from, to): (u64, u64), interval: i64, phase: i64) -> Vec<(u64, i64)> {
        let mut all = Vec::new();
        let cut = self.step.0.clamp(from, to.max(from));
        for (low, high) in [(from, cut), (cut, to)] {
            if low >= high {
                continue;
            }
            let wall = self.wall_ns(low);
            let mut due = wall.div_euclid(interval) * interval + phase;
            while due <= wall {
                due += interval;
            }
            let mut t = low + (due - wall) as u64;
            while t <= high {
                all.push((t, due));
                t += interval as u64;
                due += interval;
            }
        }
        all
    }
}
