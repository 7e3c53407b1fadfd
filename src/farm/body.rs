//! Bodies of the farm: what each population of exporters answers.
//!
//! A body is kept as runs of text between values; rendering a scrape copies the runs and prints fresh values. Counters
//! move by the scrape number, about a third of the values stand still, as on real hosts.

use std::fmt::Write;

use super::{Vary, hash};

/// One sample line, cut at its value.
#[derive(Clone, Debug)]
struct Line {
    /// HELP, TYPE and comment lines before it.
    header: String,
    /// Metric name.
    name: String,
    /// Labels without braces, maybe empty.
    labels: String,
    /// Value as first read.
    value: f64,
}

/// A template body.
#[derive(Clone, Debug)]
pub struct Body {
    families: Vec<Vec<Line>>,
}

impl Body {
    /// A small synthetic exporter body of `samples` samples.
    #[must_use]
    pub fn synthetic(samples: usize) -> Self {
        let mut text = String::new();
        let mut left = samples;
        let mut family = 0;
        while left > 0 {
            let series = [1, 1, 4, 2, 8, 1, 12][family % 7].min(left);
            let _ = writeln!(text, "# HELP app_metric_{family}_total What this exporter counts, number {family}.");
            let _ = writeln!(text, "# TYPE app_metric_{family}_total counter");
            for s in 0..series {
                let value = (family * 7919 + s * 104_729) as f64 * if family % 3 == 0 { 0.25 } else { 1.0 };
                let labels = if series == 1 {
                    String::new()
                } else {
                    format!("{{code=\"{}\",path=\"/api/v1/item{s}\"}}", 200 + s)
                };
                let _ = writeln!(text, "app_metric_{family}_total{labels} {value}");
            }
            left -= series;
            family += 1;
        }
        Self::parse(&text)
    }

    /// Takes a real exporter's body apart. Lines without a value are taken as comments.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut families: Vec<Vec<Line>> = Vec::new();
        let mut header = String::new();
        for line in text.lines() {
            let split = line.rsplit_once(' ').and_then(|(s, v)| v.parse::<f64>().ok().map(|v| (s, v)));
            match split {
                Some((series, value)) if !line.starts_with('#') => {
                    if !header.is_empty() || families.is_empty() {
                        families.push(Vec::new());
                    }
                    let (name, labels) = match series.split_once('{') {
                        Some((n, rest)) => (n, rest.strip_suffix('}').unwrap_or(rest)),
                        None => (series, ""),
                    };
                    let line =
                        Line { header: std::mem::take(&mut header), name: name.into(), labels: labels.into(), value };
                    families.last_mut().expect("a family was pushed").push(line);
                }
                _ => {
                    header.push_str(line);
                    header.push('\n');
                }
            }
        }
        Self { families }
    }

    /// Samples in the body.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.families.iter().map(Vec::len).sum()
    }

    /// The body of target `target` at its scrape number `scrape`.
    pub fn render(&self, vary: Vary, target: u32, scrape: u64, out: &mut String) {
        out.clear();
        let count = self.families.len();
        let mut order: Vec<usize> = (0..count).collect();
        if vary == Vary::RandomOrder {
            shuffle(&mut order, u64::from(target) << 32 | scrape);
        }
        let mut n = 0u64;
        for f in order {
            for line in &self.families[f] {
                render_line(line, vary, target, scrape, out);
                n += 1;
                // Two of three values move; by how much differs, so that deltas are not all of one size.
                let moved = if n % 3 == 0 { 0.0 } else { (scrape % 1_000_000) as f64 * (1 + n % 97) as f64 };
                let _ = writeln!(out, " {}", line.value + moved);
            }
        }
    }
}

fn render_line(line: &Line, vary: Vary, target: u32, scrape: u64, out: &mut String) {
    out.push_str(&line.header);
    out.push_str(&line.name);
    let extra = match vary {
        Vary::TargetLabel => format!("node=\"n-{target}\""),
        Vary::Unshared => format!("id=\"{:016x}\"", hash(u64::from(target) << 20 | line.value.to_bits() >> 44)),
        Vary::AllLabelsChange => format!("scrape=\"{scrape}\""),
        Vary::OneLabelChanges if line.name.ends_with("_info") || line.header.contains("number 0.") => {
            format!("scrape=\"{scrape}\"")
        }
        _ => String::new(),
    };
    if vary == Vary::Unshared {
        let _ = write!(out, "_{target}");
    }
    match (line.labels.is_empty(), extra.is_empty()) {
        (true, true) => {}
        (true, false) => drop(write!(out, "{{{extra}}}")),
        (false, true) => drop(write!(out, "{{{}}}", line.labels)),
        (false, false) => drop(write!(out, "{{{},{extra}}}", line.labels)),
    }
}

fn shuffle(order: &mut [usize], seed: u64) {
    let mut state = hash(seed);
    for i in (1..order.len()).rev() {
        state = hash(state);
        order.swap(i, (state % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(p: Vary, target: u32, scrape: u64) -> String {
        let mut out = String::new();
        Body::synthetic(18).render(p, target, scrape, &mut out);
        out
    }

    fn series(text: &str) -> Vec<&str> {
        text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0).collect()
    }

    #[test]
    fn bodies_differ_as_they_say() {
        let a = rendered(Vary::Identical, 1, 1);
        assert_eq!(series(&a).len(), 18);
        assert_eq!(series(&a), series(&rendered(Vary::Identical, 2, 9)));
        assert_ne!(a, rendered(Vary::Identical, 1, 2));
        assert!(series(&rendered(Vary::TargetLabel, 7, 1)).iter().all(|s| s.contains("node=\"n-7\"")));
        let changed = |p| {
            let (x, y) = (rendered(p, 1, 1), rendered(p, 1, 2));
            series(&x).iter().zip(series(&y)).filter(|(a, b)| *a != b).count()
        };
        assert_eq!(changed(Vary::OneLabelChanges), 1);
        assert_eq!(changed(Vary::AllLabelsChange), 18);
        let sorted = |t: &str| {
            let mut s: Vec<String> = series(t).iter().map(|x| (*x).to_owned()).collect();
            s.sort();
            s
        };
        let (x, y) = (rendered(Vary::RandomOrder, 1, 1), rendered(Vary::RandomOrder, 1, 2));
        assert_ne!(series(&x), series(&y));
        assert_eq!(sorted(&x), sorted(&y));
        let (x, y) = (rendered(Vary::Unshared, 1, 1), rendered(Vary::Unshared, 2, 1));
        assert!(series(&x).iter().all(|s| !series(&y).contains(s)));
        assert_eq!(series(&x), series(&rendered(Vary::Unshared, 1, 2)));
    }
}
