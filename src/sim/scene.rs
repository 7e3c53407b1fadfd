//! One scrape as scripted: what the machine shows, and what goes wrong on the way.

use std::fmt::{self, Write};

use super::script::{Life, Script, machine_seed};
use super::{Random, hash};

/// What a sample line is but for value and time: the same in all scrapes of a machine.
#[derive(Debug)]
pub struct Look {
    /// Metric name.
    pub name: String,
    /// In the order of writing.
    pub labels: Vec<(&'static str, String)>,
    /// The series text as written.
    text: String,
    /// Number of the first look of the machine that has the same text.
    pub text_number: usize,
    /// Decides how values go.
    drawn: u64,
}

/// One sample line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Its series.
    pub look: &'a Look,
    /// As parsed.
    pub value: f64,
    /// Milliseconds.
    pub time_ms: Option<i64>,
}

impl Line<'_> {
    fn write(&self, out: &mut String) {
        out.push_str(&self.look.text);
        out.push(' ');
        match self.value {
            v if v.is_nan() => out.push_str("NaN"),
            v if v.is_infinite() => out.push_str("+Inf"),
            v => add(out, format_args!("{v}")),
        }
        if let Some(t) = self.time_ms {
            add(out, format_args!(" {t}"));
        }
        out.push('\n');
    }
}

/// Appends.
pub fn add(out: &mut String, what: fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a text takes everything");
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

/// The seed of the scrape of a life that is due at this wall clock.
#[must_use]
pub fn seed(script: &Script, life: &Life, due_ns: i64) -> u64 {
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
pub struct Scene<'a> {
    /// How it goes.
    pub fate: Fate,
    /// What the machine shows.
    pub lines: Vec<Line<'a>>,
    /// The lines are those of another order.
    pub is_reordered: bool,
    /// How the body travels.
    pub wrapping: Wrapping,
    /// The machine closes after the answer, though it said nothing of it.
    pub closes_after: bool,
    /// Where cuts fall.
    pub seed: u64,
}

impl<'a> Scene<'a> {
    /// The scrape of a life that is due at this wall clock.
    #[must_use]
    pub fn new(script: &'a Script, life: &Life, due_ns: i64) -> Self {
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
            let mut again = lines[0];
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
            let name = &line.look.name;
            if name != typed {
                add(&mut out, format_args!("# HELP {name} Of a machine.\n# TYPE {name} gauge\n"));
                typed = name;
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
fn lines<'a>(script: &'a Script, life: &Life, time_ms: i64, random: &mut Random) -> (Vec<Line<'a>>, bool) {
    let kind = u64::from(life.machine % 5);
    let turn = (time_ms / (life.spec.interval_ns / 1_000_000)) as u64;
    let machine = machine_seed(script.seed, life.machine);
    let timed = kind == 2 || life.job == 2;
    let looks = script.looks(life.machine);
    // One more than there are looks: sometimes the first line comes again.
    let mut all = Vec::with_capacity(looks.len() + 1);
    for (slot, look) in (0..).zip(looks) {
        let period = 4 + slot % 9;
        let is_gone = hash(&[machine, slot, turn / period]).is_multiple_of(9);
        if slot > 0 && is_gone {
            continue;
        }
        let value = value(look, hash(&[script.seed, u64::from(life.machine), slot, turn]), turn);
        // Every other timestamp repeats the one before.
        let step = 20_000 + 15_000 * (slot as i64 % 4);
        let time_ms = (timed && slot.is_multiple_of(3)).then(|| time_ms.div_euclid(step) * step);
        all.push(Line { look, value, time_ms });
    }
    let is_reordered = all.len() > 1 && random.below(20) == 0;
    if is_reordered {
        let by = 1 + random.below(all.len() as u64 - 1) as usize;
        all.rotate_left(by);
    }
    (all, is_reordered)
}

fn value(look: &Look, drawn: u64, turn: u64) -> f64 {
    match (look.drawn >> 16) % 6 {
        0 => turn as f64,
        1 => (drawn % 1_000_000) as f64 / 64.0,
        2 if drawn % 4 == 0 => f64::NAN,
        3 if drawn % 5 == 0 => f64::INFINITY,
        4 => 7.0,
        _ => drawn as f64,
    }
}

/// Everything that a machine ever shows, in order.
#[must_use]
pub fn looks(seed: u64, machine: u32) -> Box<[Look]> {
    let kind = u64::from(machine % 5);
    let count = 3 + hash(&[seed, kind, 2]) % 14;
    let mut all: Vec<Look> = (0..count).map(|slot| look(slot, (seed, kind), machine)).collect();
    for i in 0..all.len() {
        all[i].text_number = all.iter().position(|l| l.text == all[i].text).unwrap_or(i);
    }
    all.into()
}

fn look(slot: u64, (seed, kind): (u64, u64), machine: u32) -> Look {
    let drawn = hash(&[seed, kind, slot, 3]);
    let name = match drawn % 8 {
        0 => format!("drop_{}", slot / 3),
        1 => format!("up_{}", slot / 2),
        _ => format!("m{kind}_{}", slot / 3),
    };
    let mut labels: Vec<(&'static str, String)> = vec![("slot", (slot / 2).to_string())];
    match (drawn >> 8) % 6 {
        0 | 1 => labels.push(("mode", ["idle", "rest", "user"][(slot % 3) as usize].to_owned())),
        2 => labels.push(("debug", (slot % 2).to_string())),
        3 => labels.push(("zone", "body".to_owned())),
        _ => labels.push(("id", slot.to_string())),
    }
    if kind % 2 == 1 {
        labels.push(("node", format!("n-{machine}")));
    }
    let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
    let text = format!("{name}{{{}}}", pairs.join(","));
    Look { name, labels, text, text_number: 0, drawn }
}
