//! What a receiver's answer means, and how long to wait before asking again.

use std::time::Duration;

use crate::config::Queue;

/// Longest `Retry-After` that is believed: a wrong clock there must not silence a destination for days.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What came back for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response.
    Status {
        /// Status code.
        code: u16,
        /// How long the receiver asks to wait.
        retry_after: Option<Duration>,
        /// First bytes of the body of an error; empty on success.
        text: String,
    },
    /// No response: the network's, TLS's or the credentials files' error.
    Failed(String),
}

/// What to do about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Stored.
    Done,
    /// Send the same again, at least this much later.
    Retry(Option<Duration>),
    /// Something in this request is refused; a part of it may not be.
    Split,
    /// Refused whatever is in it.
    Drop,
}

impl Answer {
    /// Applies the rules of the protocol. 400 and 413 are about the content, so parts may fare better.
    #[must_use]
    pub fn next(&self, queue: &Queue) -> Next {
        match self {
            Self::Failed(_) => Next::Retry(None),
            Self::Status { code, retry_after, .. } => match code {
                200..=299 => Next::Done,
                429 if queue.retry_on_http_429 != Some(false) => Next::Retry(*retry_after),
                500..=599 => Next::Retry(*retry_after),
                400 | 413 => Next::Split,
                _ => Next::Drop,
            },
        }
    }

    /// What Prometheus answers to samples that it already has newer ones of.
    #[must_use]
    pub fn is_bad_request(&self) -> bool {
        matches!(self, Self::Status { code: 400, .. })
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status { code, text, .. } if text.is_empty() => write!(f, "HTTP status {code}"),
            Self::Status { code, text, .. } => write!(f, "HTTP status {code}: {text}"),
            Self::Failed(what) => f.write_str(what),
        }
    }
}

/// Reads a `Retry-After` value: seconds, or a date (as `now_s`, seconds since the Unix epoch, sees it).
#[must_use]
pub fn retry_after(value: &str, now_s: i64) -> Option<Duration> {
    let value = value.trim();
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            let date = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
            date.saturating_sub(u64::try_from(now_s).ok()?)
        }
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Doubling waits between `min_backoff` and `max_backoff`.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// At the shortest wait.
    #[must_use]
    pub fn new(queue: &Queue) -> Self {
        // Prometheus takes 0 for both, and asks a receiver that fails without a pause.
        let least = Duration::from_millis(1);
        Self { next: queue.min_backoff.max(least), max: queue.max_backoff.max(least) }
    }

    /// The next wait: what the receiver asked for, if that is any, else double the last one; up to a tenth longer by `random`, so that
    /// senders spread, and never shorter, so that a stated interval is kept.
    pub fn wait(&mut self, asked: Option<Duration>, random: u64) -> Duration {
        // prometheus: remote/queue_manager.go: a Retry-After of nothing, or in the past, is none.
        let asked = asked.filter(|asked| !asked.is_zero());
        let base = asked.unwrap_or(self.next.min(self.max));
        if asked.is_none() {
            self.next = (self.next * 2).min(self.max);
        }
        base + base.mul_f64((random % 1024) as f64 / 10_240.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2_000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: None,
            sample_age_limit: Duration::ZERO,
        }
    }

    fn status(code: u16) -> Answer {
        Answer::Status { code, retry_after: Some(Duration::from_secs(7)), text: String::new() }
    }

    #[test]
    fn every_class_of_answer_has_its_consequence() {
        let q = queue();
        let again = Next::Retry(Some(Duration::from_secs(7)));
        for (code, want) in [
            (200, Next::Done),
            (204, Next::Done),
            (301, Next::Drop),
            (400, Next::Split),
            (401, Next::Drop),
            (404, Next::Drop),
            (409, Next::Drop),
            (413, Next::Split),
            (415, Next::Drop),
            (429, again),
            (500, again),
            (503, again),
        ] {
            assert_eq!(status(code).next(&q), want, "{code}");
        }
        assert_eq!(Answer::Failed("reset".into()).next(&q), Next::Retry(None));
        let explicit = Queue { retry_on_http_429: Some(false), ..queue() };
        assert_eq!(status(429).next(&explicit), Next::Drop);
        assert_eq!(status(429).next(&Queue { retry_on_http_429: Some(true), ..queue() }), again);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let s = |n| Some(Duration::from_secs(n));
        assert_eq!(retry_after(" 120 ", 0), s(120));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777 - 30), s(30));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777 + 30), s(0));
        assert_eq!(retry_after("99999999999", 0), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("soon", 0), None);
        assert_eq!(retry_after("-3", 0), None);
    }

    #[test]
    fn waits_double_to_the_longest_and_jitter_only_upward() {
        let mut backoff = Backoff::new(&queue());
        let mut base = 30u64;
        for random in [0, 1023, 512, 77, 1023, 0, 3, 1023, 1023, 1023] {
            let wait = backoff.wait(None, random).as_micros() as u64;
            assert!(wait >= base * 1000 && wait <= base * 1100, "{wait} us for {base} ms");
            base = (base * 2).min(5000);
        }
        assert_eq!(backoff.wait(Some(Duration::from_secs(9)), 0), Duration::from_secs(9));
        let mut fresh = Backoff::new(&queue());
        assert_eq!(fresh.wait(Some(Duration::ZERO), 0), Duration::from_millis(30));
        assert_eq!(fresh.wait(Some(Duration::ZERO), 0), Duration::from_millis(60));
    }
}
