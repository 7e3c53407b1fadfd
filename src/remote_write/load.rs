//! What the load asks for: lanes, doubled while reading waits for them and halved after a calm while; how often to read.

use std::time::Duration;

use crate::config::Queue;

/// Seconds in a row that reading had to wait before lanes are doubled.
const PRESSED_SECONDS: u32 = 2;
/// Seconds in a row without a wait before lanes are halved.
const CALM_SECONDS: u32 = 60;
/// Seconds between two log lines about one thing.
const LOG_SECONDS: u32 = 60;

/// How often the journal is asked for more when everything was read, at least and at most.
const POLLS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// Full requests that one look at the journal brings while that is possible: the first of a row costs twice as much as the
/// others, since the thread has slept.
const REQUESTS_PER_LOOK: f64 = 8.0;

/// Looked at once a second; fed at every turn.
#[derive(Debug)]
pub struct Load {
    min: usize,
    max: usize,
    full: bool,
    caught_up: bool,
    pressed_seconds: u32,
    calm_seconds: u32,
    quiet_seconds: u32,
    /// Samples read since the last look at this.
    samples: usize,
    samples_per_look: f64,
    poll: Duration,
}

impl Load {
    /// Between `min_shards` and `max_shards`.
    #[must_use]
    pub fn new(queue: &Queue) -> Self {
        let lanes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).clamp(1, 1024);
        let min = lanes(queue.min_shards);
        Self {
            min,
            max: lanes(queue.max_shards).max(min),
            full: false,
            caught_up: false,
            pressed_seconds: 0,
            calm_seconds: 0,
            quiet_seconds: LOG_SECONDS,
            samples: 0,
            samples_per_look: REQUESTS_PER_LOOK * queue.max_samples_per_send as f64,
            poll: POLLS.0,
        }
    }

    /// So many samples were read.
    pub fn read(&mut self, samples: usize) {
        self.samples += samples;
    }

    /// So much time has passed since this was last called: how often to read now.
    pub fn reckon(&mut self, passed_ns: u64) {
        let per_second = std::mem::take(&mut self.samples) as f64 / Duration::from_nanos(passed_ns).as_secs_f64();
        let wanted = self.samples_per_look / per_second.max(1.0);
        self.poll = Duration::from_secs_f64(wanted.clamp(POLLS.0.as_secs_f64(), POLLS.1.as_secs_f64()));
    }

    /// How long to wait before the journal is asked for more.
    #[must_use]
    pub fn poll(&self) -> Duration {
        self.poll
    }

    /// How the latest turn went.
    pub fn note(&mut self, full: bool, caught_up: bool) {
        self.full |= full;
        self.caught_up = caught_up;
    }

    /// Whether there is more in the journal than was read.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.caught_up
    }

    /// One second passed. `late`: what is read is old and the receiver answers, so more lanes would help. Returns a new
    /// number of lanes, if it should change.
    pub fn lanes(&mut self, count: usize, late: bool) -> Option<usize> {
        self.quiet_seconds = self.quiet_seconds.saturating_add(1);
        let full = std::mem::take(&mut self.full);
        self.pressed_seconds = if full && late { self.pressed_seconds + 1 } else { 0 };
        self.calm_seconds = if full { 0 } else { self.calm_seconds + 1 };
        if self.pressed_seconds >= PRESSED_SECONDS && count < self.max {
            self.pressed_seconds = 0;
            return Some((count * 2).min(self.max));
        }
        if self.calm_seconds >= CALM_SECONDS && count > self.min {
            self.calm_seconds = 0;
            return Some((count / 2).max(self.min));
        }
        None
    }

    /// True at most once a minute.
    pub fn may_log(&mut self) -> bool {
        let may = self.quiet_seconds >= LOG_SECONDS;
        if may {
            self.quiet_seconds = 0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn queue(max_samples_per_send: u64) -> Queue {
        Queue {
            capacity: 1,
            max_shards: 6,
            min_shards: 1,
            max_samples_per_send,
            batch_send_deadline: Duration::ZERO,
            min_backoff: Duration::ZERO,
            max_backoff: Duration::ZERO,
            retry_on_http_429: None,
            sample_age_limit: Duration::ZERO,
        }
    }

    #[test]
    fn a_look_brings_several_requests_and_none_waits_longer_than_a_second() {
        let mut load = Load::new(&queue(1000));
        assert_eq!(load.poll(), POLLS.0, "before anything is known");
        let mut poll = |samples: usize, passed_ms: u64| {
            load.read(samples);
            load.reckon(passed_ms * 1_000_000);
            load.poll().as_millis()
        };
        assert_eq!((poll(0, 1000), poll(5, 1000), poll(7_000, 1000)), (1000, 1000, 1000));
        assert_eq!((poll(10_000, 1000), poll(40_000, 2000)), (800, 400));
        assert_eq!((poll(1_000_000, 1000), poll(1_000, 1), poll(1, 0)), (250, 250, 250));
    }

    #[test]
    fn lanes_grow_under_pressure_and_shrink_when_calm() {
        let mut load = Load::new(&queue(1));
        let mut count = 1;
        let mut seen = vec![count];
        for second in 0..200 {
            load.note(second < 10, second >= 10);
            if let Some(new) = load.lanes(count, true) {
                count = new;
                seen.push(count);
            }
        }
        assert_eq!(seen, [1, 2, 4, 6, 3, 1]);
        load.note(true, false);
        assert_eq!((0..9).find_map(|_| load.lanes(1, false)), None, "a receiver that backs off gets no more lanes");
    }
}
