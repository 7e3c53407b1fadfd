//! Edits of exposition bodies, drawn from a seed: what becomes of a body between two scrapes.

/// A small generator (splitmix64): the same bodies from the same seed on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 for `n` 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        &list[self.below(list.len())]
    }
}

/// What the believed program reads the way the newest Prometheus does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus 3: everything.
    Current,
    /// 2.42: names and blanks never begin differently, nothing is repeated, no times, no new spelling of `le` and `quantile`.
    Old,
}

type Line = Vec<u8>;

const VALUES: &[&str] = &[
    "0",
    "-0",
    "1",
    "2.5",
    "1e10",
    "-7e-3",
    "+Inf",
    "-Inf",
    "Inf",
    "NaN",
    "nan",
    "18446744073709551616",
    "0.1",
    ".25",
    "7.",
    "1e-320",
    "9007199254740993",
    "0.30000000000000004",
    "1E+3",
    "+5",
    "123456789.123456789123456789",
];
const BAD_VALUES: &[&str] = &[
    "x", "1..2", "--1", "0x1p-2", "0x10", "1_000", "1e999", "-NaN", "+nan", "1e", ".", "", "1,5", "infinit", "0b1",
    "1p3", "\u{661}",
];
/// Lines that are fine, or not, in every version.
const LINES: &[&str] = &[
    "",
    "# note",
    "# HELP x y",
    "#",
    "# TYPE zz gauge",
    "#nothing",
    "#\t",
    "# HELP x",
    "# HELP x \\n\\\\",
    "# UNIT x y",
    "# EOF",
    "# TYPE fresh counter",
    "zz{} 1",
    "zz { a = \"1\" , b=\"2\" , } 3",
    "zz\t4",
    "zz:a:b 5",
    "#HELP a",
    "# help",
    "# TYPES a b",
];
/// Lines that only the newest reads as we do.
const CURRENT_LINES: &[&str] = &[
    "{\"a.b\",x=\"y\"} 1",
    "{\"a.b\"} 2",
    "{\"ordinary\",\"l.x\"=\"1\"} 3",
    "q{\"l x\"=\"1\",y=\"2\"} 4",
    "{x=\"1\",\"late.name\"} 5",
    "{\"\"} 6",
    "q{\"\"=\"1\"} 7",
    "# TYPE \"a.b\" counter",
    "# HELP \"a.b\" text",
    "{\"a\\\"b\",x=\"\"} 8",
    " lead 1",
    "\tlead 1",
    "h_bucket{le=\"1\"} 1",
    "h_bucket{le=\"1.0\"} 2",
    "h_bucket{le=\"1e0\"} 3",
    "s{quantile=\"0.50\"} 1",
    "s{quantile=\"5e-1\"} 1",
    "# TYPE h_bucket histogram",
    "# TYPE s summary",
    "t{a=\"1\",b=\"2\"} 1",
    "t{b=\"2\",a=\"1\"} 2",
    "t{a=\"1\",b=\"2\",} 3",
    "t{a=\"1\",b=\"2\",c=\"\"} 4",
    "e{a=\"\"} 5",
    "e 6",
    "e{} 7",
    "d{x=\"1\",x=\"2\"} 1",
    "\"a\" 1",
    "a_total 1 # {t=\"x\"} 1",
    "{\"a\",\"b\"} 1",
    "{a=\"1\"} 1",
    "q{a=\"1\" b=\"2\"} 1",
    "q{a=\"x\\",
    "\u{17e} 1",
    "{\"\u{17e}\"} 1",
    "h{le=\"0x1p3\"} 1",
    "h{le=\"1_0\"} 1",
    "h{le=\"inf\"} 1",
    "h{le=\"-0\"} 1",
    "h{le=\"1e23\"} 1",
    "job 1",
    "j{job=\"x\",exported_job=\"y\"} 1",
    "i{instance=\"\",case=\"\"} 1",
    "up 7",
    "scrape_samples_scraped{} 9",
];
const BYTES: &[u8] = b"ab_:09.{}=\",\\ +-eEnN#\t\r\0\x80\xff\xc3\xa9'/";
const OLD_BYTES: &[u8] = b"ab_:09.{}=\",\\ +-eEnN";

/// The body after one to four edits; `round` numbers the scrape, for times that rise.
pub fn edited(body: &[u8], random: &mut Random, dialect: Dialect, round: usize) -> Vec<u8> {
    let mut lines: Vec<Line> = body.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    for _ in 0..1 + random.below(4) {
        if lines.is_empty() {
            break;
        }
        match random.below(4) {
            0 => shuffle(&mut lines, random),
            1 => insert(&mut lines, random, dialect),
            2 if dialect == Dialect::Current => extra(&mut lines, random, round),
            _ => within(&mut lines, random, dialect),
        }
    }
    let mut out = lines.join(&b'\n');
    if !random.once_in(6) && !out.is_empty() {
        out.push(b'\n');
    }
    if dialect == Dialect::Current {
        whole(&mut out, random);
    }
    out
}

/// Lines taken out or put elsewhere.
fn shuffle(lines: &mut Vec<Line>, random: &mut Random) {
    let (at, other) = (random.below(lines.len()), random.below(lines.len()));
    let end = (at + 1 + random.below(40)).min(lines.len());
    match random.below(7) {
        0 | 1 => drop(lines.remove(at)),
        2 => drop(lines.drain(at..end)),
        3 => lines.swap(at, other),
        4 => {
            let block: Vec<Line> = lines.drain(at..end).collect();
            let to = random.below(lines.len() + 1);
            lines.splice(to..to, block);
        }
        5 => lines[at..end].reverse(),
        _ => lines.rotate_left(at),
    }
}

/// A line put in: odd ones, fresh series.
fn insert(lines: &mut Vec<Line>, random: &mut Random, dialect: Dialect) {
    let at = random.below(lines.len() + 1);
    let line = match random.below(4) {
        0 | 1 => {
            format!("fresh_{}{{n=\"{}\"}} {}", random.below(1_000_000), random.below(9), random.below(100))
        }
        2 if dialect == Dialect::Current => (*random.of(CURRENT_LINES)).to_owned(),
        _ => (*random.of(LINES)).to_owned(),
    };
    let repeated = lines.iter().any(|l| !l.starts_with(b"#") && !l.is_empty() && series(l) == series(line.as_bytes()));
    if dialect == Dialect::Current || !repeated {
        lines.insert(at, line.into_bytes());
    }
}

/// What the newest Prometheus is needed for: repeated lines, times, blanks, other orders of labels.
fn extra(lines: &mut Vec<Line>, random: &mut Random, round: usize) {
    let at = random.below(lines.len());
    let end = (at + 1 + random.below(20)).min(lines.len());
    match random.below(9) {
        0 => lines.insert(at, lines[at].clone()),
        1 => {
            let mut copy = lines[at].clone();
            with_value(&mut copy, random);
            lines.insert(random.below(lines.len()), copy);
        }
        2 => drop(lines.splice(at..at, lines[at..end].to_vec()).collect::<Vec<_>>()),
        3 => lines.iter_mut().filter(|l| !l.starts_with(b"#")).for_each(|l| timed(l, random, round)),
        4 => lines[at..end].iter_mut().for_each(|l| timed(l, random, round)),
        5 => lines.iter_mut().for_each(untimed),
        6 => lines.retain(|l| !l.starts_with(b"#")),
        7 => lines[at] = lines[at].iter().flat_map(|&b| if b == b' ' { b" \t ".to_vec() } else { vec![b] }).collect(),
        _ => reordered(&mut lines[at]),
    }
}

/// Something else on a line.
fn within(lines: &mut [Line], random: &mut Random, dialect: Dialect) {
    let at = random.below(lines.len());
    let line = &mut lines[at];
    match random.below(6) {
        0 | 1 => with_value(line, random),
        2 if random.once_in(3) => cut(line, random),
        3 => with_label_value(line, random, dialect),
        _ if random.once_in(3) => one_byte(line, random, dialect),
        _ => with_value(line, random),
    }
}

/// Something with the body as a whole, now and then.
fn whole(body: &mut Vec<u8>, random: &mut Random) {
    match random.below(60) {
        0 => body.truncate(random.below(body.len() + 1)),
        1 => body.extend_from_slice(b"\n\n  \n"),
        2 => *body = body.split(|&b| b == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]),
        3 => body.extend_from_slice(b"\0 anything ?? \n"),
        4 => body.clear(),
        5 => body.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        6 => body.splice(0..0, *b"\n\n").for_each(drop),
        _ => {}
    }
}

/// Name and labels of a line, nearly.
fn series(line: &[u8]) -> &[u8] {
    line.rsplitn(2, |&b| b == b' ').last().unwrap_or(line)
}

/// Another value behind the last blank that is not before a time.
fn with_value(line: &mut Line, random: &mut Random) {
    let end = line.windows(3).position(|w| w == b" @T").unwrap_or(line.len());
    let Some(blank) = line[..end].iter().rposition(|&b| b == b' ').filter(|_| !line.starts_with(b"#")) else { return };
    let value = match random.below(12) {
        0 => *random.of(BAD_VALUES),
        _ => *random.of(VALUES),
    };
    line.splice(blank + 1..end, value.bytes()).for_each(drop);
}

/// A time at the end of a line: rising from round to round, always the same, falling, far ahead.
fn timed(line: &mut Line, random: &mut Random, round: usize) {
    if line.is_empty() || line.ends_with(b"@") || line.starts_with(b"#") {
        return;
    }
    let offset = match random.below(8) {
        0 => 5_000,
        1 => 100_000 - round * 1_000,
        2 => 900_000_000,
        3 => random.below(100_000),
        _ => 1_000 * round + random.below(3),
    };
    line.extend_from_slice(format!(" @T{offset:010}@").as_bytes());
}

fn untimed(line: &mut Line) {
    if let Some(at) = line.windows(3).position(|w| w == b" @T") {
        line.truncate(at);
    }
}

/// First and last label change places, if there are two plain ones.
fn reordered(line: &mut Line) {
    let (Some(open), Some(close)) = (line.iter().position(|&b| b == b'{'), line.iter().rposition(|&b| b == b'}'))
    else {
        return;
    };
    if open < close {
        let mut parts: Vec<&[u8]> = line[open + 1..close].split(|&b| b == b',').collect();
        parts.reverse();
        let turned = parts.join(&b","[..]);
        line.splice(open + 1..close, turned).for_each(drop);
    }
}

/// Another text in front of a label's value.
fn with_label_value(line: &mut Line, random: &mut Random, dialect: Dialect) {
    let values = ["v1", "v2", "x y", "\u{17e}", "\\\\", "\\\"", "\\n", "\\q", "{", "}", ",", "=", "#", ""];
    let places: Vec<usize> = (0..line.len().saturating_sub(1)).filter(|&i| line[i..].starts_with(b"=\"")).collect();
    if places.is_empty() || (dialect == Dialect::Old && is_bound(line)) {
        return;
    }
    let at = random.of(&places) + 2;
    let text = random.of(&values).bytes().chain(random.once_in(3).then_some(b'7'));
    line.splice(at..at, text.collect::<Vec<u8>>()).for_each(drop);
}

/// One byte of a line replaced, put in or taken out, but not in a time.
fn one_byte(line: &mut Line, random: &mut Random, dialect: Dialect) {
    let (first, alphabet) = match dialect {
        Dialect::Current => (0, BYTES),
        Dialect::Old => (1, OLD_BYTES),
    };
    let end = line.windows(3).position(|w| w == b" @T").unwrap_or(line.len());
    if end < 2 || (dialect == Dialect::Old && is_bound(line)) {
        return;
    }
    let at = first + random.below(end - first);
    let byte = *random.of(alphabet);
    match random.below(3) {
        0 => line.insert(at, byte),
        1 => drop(line.remove(at)),
        _ => line[at] = byte,
    }
}

/// Whether a line has a label that 3 spells anew.
fn is_bound(line: &[u8]) -> bool {
    line.windows(3).any(|w| w == b"le=")
}

fn cut(line: &mut Line, random: &mut Random) {
    let keep = 1 + random.below(line.len());
    line.truncate(keep);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_edits_alike_and_another_one_differently() {
        let body = b"a 1\nb{x=\"1\"} 2\nc 3\n";
        let many = |seed| -> Vec<Vec<u8>> {
            let mut random = Random(seed);
            (0..50).map(|round| edited(body, &mut random, Dialect::Current, round)).collect()
        };
        assert_eq!(many(1), many(1));
        assert_ne!(many(1), many(2));
        assert!(many(3).iter().filter(|b| b.as_slice() != body).count() > 40);
    }
}
