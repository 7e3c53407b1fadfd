//! One scrape as scripted: what the machine shows, and what goes wrong on the way.

use super::script::{Life, Script, machine_seed};
use super::{Random, hash};

/// One sample line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Metric name.
    pub name: String,
    /// In the order of writing.
    pub labels: Vec<(&'static str, String)>,
    /// As parsed.
    pub value: f64,
    /// Milliseconds.
    pub time_ms: Option<i64>,
}

impl Line {
    /// The series text as written.
    #[must_use]
    pub fn text(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        if labels.is_empty() { self.name.clone() } else { format!("{}{{{}}}", self.name, labels.join(",")) }
    }

    fn write(&self, out: &mut String) {
        out.push_str(&self.text());
        out.push(' ');
        match self.value {
            v if v.is_nan() => out.push_str("NaN"),
            v if v.is_infinite() => out.push_str("+Inf"),
            v => out.push_str(&v.to_string()),
        }
        if let Some(t) = self.time_ms {
            out.push_str(&format!(" {t}"));
        }
        out.push('\n');
    }
}

/// How a scrape goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The body arrives whole.
    Good,
    /// A good answer without body.
    Empty,
    /// After so many lines comes one that cannot be read.
    Garbled(usize),
    /// Status 503, with the same body.
    Unavailable,
    /// Nobody listens.
    Refused,
    /// Nothing comes back.
    Silent,
    /// A reset in the middle of the body.
    Reset,
    /// The connection closes before the promised length.
    Cut,
    /// The answer comes after the deadline.
    Late,
}

impl Fate {
    /// Of the scrape of a life that is due at this wall clock.
    #[must_use]
    pub fn of(script: &Script, life: &Life, due_ns: i64) -> Self {
        Self::new(seed(script, life, due_ns))
    }

    /// Whether it lasts until the deadline.
    #[must_use]
    pub fn times_out(self) -> bool {
        matches!(self, Self::Silent | Self::Late)
    }

    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 11);
        match random.below(200) {
            0..3 => Self::Empty,
            3..7 => Self::Garbled(random.below(18) as usize),
            7..10 => Self::Unavailable,
            10..12 => Self::Refused,
            12..14 => Self::Silent,
            14..17 => Self::Reset,
            17..20 => Self::Cut,
            20..22 => Self::Late,
            _ => Self::Good,
        }
    }
}

fn seed(script: &Script, life: &Life, due_ns: i64) -> u64 {
    hash(&[script.seed, life.spec.hash.0, due_ns as u64])
}

/// How a body is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// `Content-Length`.
    Length,
    /// Chunked.
    Chunked,
    /// Until the connection closes.
    UntilClose,
    /// Compressed, with `Content-Length`.
    Gzip,
}

/// One scripted scrape.
#[derive(Debug)]
pub struct Scene {
    /// How it goes.
    pub fate: Fate,
    /// What the machine shows.
    pub lines: Vec<Line>,
    /// The lines are those of another order.
    pub is_reordered: bool,
    /// How the body travels.
    pub wrapping: Wrapping,
    /// The machine closes after the answer, though it said nothing of it.
    pub closes_after: bool,
    /// Where cuts fall.
    pub seed: u64,
}

impl Scene {
    /// The scrape of a life that is due at this wall clock.
    #[must_use]
    pub fn new(script: &Script, life: &Life, due_ns: i64) -> Self {
        let seed = seed(script, life, due_ns);
        let mut random = Random::new(seed);
        let (mut lines, is_reordered) = lines(script, life, due_ns / 1_000_000, &mut random);
        let fate = Fate::new(seed);
        let wrapping = match random.below(10) {
            0..3 => Wrapping::Chunked,
            3 if fate != Fate::Cut => Wrapping::UntilClose,
            4 if fate != Fate::Cut && fate != Fate::Reset => Wrapping::Gzip,
            _ => Wrapping::Length,
        };
        if random.below(30) == 0 {
            let mut again = lines[0].clone();
            again.value += 1.0;
            lines.push(again);
        }
        Self { fate, lines, is_reordered, wrapping, closes_after: random.below(20) == 0, seed }
    }

    /// The body as text.
    #[must_use]
    pub fn body(&self) -> String {
        let mut out = String::new();
        let whole = match self.fate {
            Fate::Empty => return out,
            Fate::Garbled(n) => n.min(self.lines.len()),
            _ => self.lines.len(),
        };
        let mut typed = "";
        for line in &self.lines[..whole] {
            if line.name != typed {
                out.push_str(&format!("# HELP {} Of a machine.\n# TYPE {} gauge\n", line.name, line.name));
                typed = &line.name;
            }
            line.write(&mut out);
        }
        if matches!(self.fate, Fate::Garbled(_)) {
            out.push_str("garbled{ 1\n");
        }
        out
    }
}

/// The lines of a machine at its `time_ms`, and whether they are in another order than usual.
fn lines(script: &Script, life: &Life, time_ms: i64, random: &mut Random) -> (Vec<Line>, bool) {
    let kind = u64::from(life.machine % 5);
    let count = 3 + hash(&[script.seed, kind, 2]) % 14;
    let turn = (time_ms / (life.spec.interval_ns / 1_000_000)) as u64;
    let machine = machine_seed(script, life.machine);
    let timed = kind == 2 || life.job == 2;
    let mut all = Vec::new();
    for slot in 0..count {
        let period = 4 + slot % 9;
        let is_gone = hash(&[machine, slot, turn / period]).is_multiple_of(9);
        if slot > 0 && is_gone {
            continue;
        }
        all.push(line(slot, (script.seed, kind), life, (time_ms, turn), timed));
    }
    let is_reordered = all.len() > 1 && random.below(20) == 0;
    if is_reordered {
        let by = 1 + random.below(all.len() as u64 - 1) as usize;
        all.rotate_left(by);
    }
    (all, is_reordered)
}

fn line(slot: u64, (seed, kind): (u64, u64), life: &Life, (time_ms, turn): (i64, u64), timed: bool) -> Line {
    let look = hash(&[seed, kind, slot, 3]);
    let name = match look % 8 {
        0 => format!("drop_{}", slot / 3),
        1 => format!("up_{}", slot / 2),
        _ => format!("m{kind}_{}", slot / 3),
    };
    let mut labels: Vec<(&'static str, String)> = vec![("slot", (slot / 2).to_string())];
    match (look >> 8) % 6 {
        0 | 1 => labels.push(("mode", ["idle", "rest", "user"][(slot % 3) as usize].to_owned())),
        2 => labels.push(("debug", (slot % 2).to_string())),
        3 => labels.push(("zone", "body".to_owned())),
        _ => labels.push(("id", slot.to_string())),
    }
    if kind % 2 == 1 {
        labels.push(("node", format!("n-{}", life.machine)));
    }
    let drawn = hash(&[seed, u64::from(life.machine), slot, turn]);
    let value = match (look >> 16) % 6 {
        0 => turn as f64,
        1 => (drawn % 1_000_000) as f64 / 64.0,
        2 if drawn % 4 == 0 => f64::NAN,
        3 if drawn % 5 == 0 => f64::INFINITY,
        4 => 7.0,
        _ => drawn as f64,
    };
    // Every other timestamp repeats the one before.
    let step = 20_000 + 15_000 * (slot as i64 % 4);
    let time_ms = (timed && slot.is_multiple_of(3)).then(|| time_ms.div_euclid(step) * step);
    Line { name, labels, value, time_ms }
}
