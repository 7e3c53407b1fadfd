//! Bodies mutated at random from a seed, so that the comparison goes beyond what anyone thought of.

use crate::case::{Case, bodies, case};

/// How the names of these cases begin.
pub const PREFIX: &str = "mutated-";
/// Mutated bodies per case: each case is one target whose body goes through them.
const PER_CASE: usize = 6;

const BASE: &str = "# HELP http_requests_total The total.\n# TYPE http_requests_total counter\n\
    http_requests_total{method=\"post\",code=\"200\"} 1027\nhttp_requests_total{method=\"post\",code=\"400\"} 3\n\
    # TYPE process_open_fds gauge\nprocess_open_fds 27\nprocess_cpu_seconds_total 1.25e-3\n\
    # HELP lat Latency.\n# TYPE lat histogram\nlat_bucket{le=\"0.1\"} 5\nlat_bucket{le=\"0.5\"} 9\nlat_bucket{le=\"+Inf\"} 11\n\
    lat_sum 3.75\nlat_count 11\n# TYPE rpc summary\nrpc{quantile=\"0.5\"} 0.25\nrpc{quantile=\"0.9\"} NaN\nrpc_sum 17\nrpc_count 6\n\
    build_info{version=\"1.2\",branch=\"main\"} 1\nroom{path=\"C:\\\\x\",say=\"\\\"hi\\\"\\n\"} -4\nlast 0\n";

/// A small generator (splitmix64): the same bodies from the same seed on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// `count` mutated bodies, spread over cases of one target each.
pub fn cases(seed: u64, count: usize) -> Vec<Case> {
    (0..count / PER_CASE)
        .map(|n| {
            let mut random = Random(seed.wrapping_mul(1_000).wrapping_add(n as u64));
            let mut texts = vec![BASE.to_owned()];
            for step in 0..PER_CASE {
                // Every other body is mutated from the one before, so that differences add up and go away again.
                let from = if step % 2 == 0 { BASE } else { texts.last().map_or(BASE, |t| t.as_str()) };
                let text = mutated(from, &mut random);
                texts.push(text);
            }
            texts.push(BASE.to_owned());
            case(&format!("{PREFIX}{n}"), bodies(&texts))
        })
        .collect()
}

/// One to three edits. A name or line is never repeated and never begins with a blank: what 2.42 and 3 make of those differs
/// and has cases of its own.
fn mutated(body: &str, random: &mut Random) -> String {
    let mut lines: Vec<String> = body.lines().map(str::to_owned).collect();
    for _ in 0..1 + random.below(3) {
        edit(&mut lines, random);
    }
    let mut text = lines.join("\n");
    if random.below(4) != 0 {
        text.push('\n');
    }
    text
}

fn edit(lines: &mut Vec<String>, random: &mut Random) {
    let at = random.below(lines.len());
    let other = random.below(lines.len());
    match random.below(10) {
        0 => drop(lines.remove(at)),
        1 => lines.swap(at, other),
        2 => lines.insert(
            at,
            format!("fresh_{}{{n=\"{}\"}} {}", random.below(1_000_000), random.below(9), random.below(100)),
        ),
        3 => lines.insert(at, ["", "# note", "# HELP x y", "#", "# TYPE zz gauge"][random.below(5)].to_owned()),
        4 => with_value(&mut lines[at], random),
        5 => one_byte(&mut lines[at], random),
        6 => cut(&mut lines[at], random),
        7 => with_value(&mut lines[at], random),
        8 => lines[at] = lines[at].replacen("=\"", &format!("=\"v{}", random.below(100)), 1),
        _ => lines.rotate_left(at),
    }
}

/// Another value behind the last blank of a sample line.
fn with_value(line: &mut String, random: &mut Random) {
    let values = [
        "0",
        "-0",
        "1",
        "2.5",
        "1e10",
        "-7e-3",
        "+Inf",
        "-Inf",
        "NaN",
        "18446744073709551616",
        "0.1",
        ".25",
        "7.",
        "x",
        "1..2",
        "--1",
    ];
    if let Some(blank) = line.rfind(' ').filter(|_| !line.starts_with('#')) {
        line.truncate(blank + 1);
        line.push_str(values[random.below(values.len())]);
    }
}

/// One byte of a line replaced, put in or taken out, not at its beginning, nor where `le` might get another spelling.
fn one_byte(line: &mut String, random: &mut Random) {
    let alphabet = b"ab_:09.{}=\",\\ +-eEnN";
    if line.len() < 2 || line.contains("le=") {
        return;
    }
    let at = 1 + random.below(line.len() - 1);
    let byte = alphabet[random.below(alphabet.len())] as char;
    match random.below(3) {
        0 => line.insert(at, byte),
        1 => drop(line.remove(at)),
        _ => line.replace_range(at..=at, &byte.to_string()),
    }
}

fn cut(line: &mut String, random: &mut Random) {
    let keep = random.below(line.len().max(1));
    line.truncate(keep.max(1).min(line.len()));
}
