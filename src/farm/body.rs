//! Bodies of the farm: an exporter's answer taken apart into lines, and written again with other values and labels.
//!
//! What differs between targets or scrapes is written as a hole of fixed width, so that a body is written once and then
//! only copied and patched ([`super::template`]). Counters move by the version, about a third of the values stand still, as
//! on real hosts.

use std::fmt::Write;
use std::ops::Range;

use super::Vary;

/// One sample line, cut at its value.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// HELP, TYPE and comment lines before it.
    pub(super) header: String,
    /// Metric name.
    pub(super) name: String,
    /// Labels without braces, maybe empty.
    pub(super) labels: String,
    /// Value as first read.
    pub(super) value: f64,
}

/// What fills a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filling {
    /// The target's number, 8 digits.
    Target,
    /// The number of the scrape, its last 8 digits.
    Scrape,
    /// The number of the page of a streamed body, 8 digits.
    Page,
    /// A number of this line of this target, 16 hexadecimal digits.
    Line,
    /// How often this line of this target was replaced, 4 digits.
    Generation,
}

impl Filling {
    pub(super) const fn width(self) -> usize {
        match self {
            Self::Target | Self::Scrape | Self::Page => 8,
            Self::Line => 16,
            Self::Generation => 4,
        }
    }
}

/// A hole in a written body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    /// Offset of its first byte.
    pub(super) at: u32,
    /// Number of the sample line it is in or before.
    pub(super) line: u32,
    pub(super) filling: Filling,
}

/// Where the parts of a written body are.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) holes: Vec<Hole>,
    /// Bytes of each family, in order.
    pub(super) families: Vec<Range<usize>>,
}

/// A body in parts.
#[derive(Clone, Debug)]
pub struct Body {
    pub(super) families: Vec<Vec<Line>>,
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

    /// Appends the body with the values of a version. Names begin with the page's number where it is one of many.
    pub(super) fn write(&self, vary: Vary, of_pages: Option<Filling>, version: u64, out: &mut Vec<u8>) -> Plan {
        let mut plan = Plan::default();
        let prefix = if vary == Vary::Unshared { Some(Filling::Target) } else { of_pages };
        let changing = self.changing_line();
        let mut at = 0u32;
        for family in &self.families {
            let start = out.len();
            for line in family {
                let mut cut = Cut { out, plan: &mut plan, line: at };
                cut.header(&line.header, prefix);
                cut.named(prefix, &line.name);
                let label = match vary {
                    Vary::TargetLabel => Some(("node=\"n-", Filling::Target)),
                    Vary::Unshared => Some(("farm_id=\"", Filling::Line)),
                    Vary::AllLabelsChange => Some(("scrape=\"", Filling::Scrape)),
                    Vary::OneLabelChanges if at == changing => Some(("scrape=\"", Filling::Scrape)),
                    Vary::SeriesChurn(_) => Some(("rev=\"", Filling::Generation)),
                    Vary::Identical | Vary::RandomOrder | Vary::OneLabelChanges => None,
                };
                cut.labels(&line.labels, label);
                let value = line.value + moved(at, version);
                out.extend_from_slice(format!(" {value}\n").as_bytes());
                at += 1;
            }
            plan.families.push(start..out.len());
        }
        plan
    }

    /// The line whose label changes where only one does: the first `_info`, else the first.
    pub(super) fn changing_line(&self) -> u32 {
        self.families.iter().flatten().position(|l| l.name.ends_with("_info")).unwrap_or(0) as u32
    }
}

/// By how much a value has moved. Two of three do, not all by the same, so that deltas are of many sizes.
pub(super) fn moved(line: u32, version: u64) -> f64 {
    let n = u64::from(line) + 1;
    if n.is_multiple_of(3) { 0.0 } else { (version * (1 + n % 97)) as f64 }
}

/// Writes one line and notes its holes.
struct Cut<'a> {
    out: &'a mut Vec<u8>,
    plan: &'a mut Plan,
    line: u32,
}

impl Cut<'_> {
    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn hole(&mut self, filling: Filling) {
        self.plan.holes.push(Hole { at: self.out.len() as u32, line: self.line, filling });
        self.out.resize(self.out.len() + filling.width(), b'0');
    }

    fn named(&mut self, prefix: Option<Filling>, name: &str) {
        if let Some(filling) = prefix {
            self.text("x");
            self.hole(filling);
            self.text("_");
        }
        self.text(name);
    }

    fn header(&mut self, header: &str, prefix: Option<Filling>) {
        for line in header.lines() {
            let named = ["# HELP ", "# TYPE "].iter().find_map(|k| Some((*k, line.strip_prefix(k)?)));
            match named {
                Some((keyword, rest)) => {
                    self.text(keyword);
                    self.named(prefix, rest);
                }
                None => self.text(line),
            }
            self.text("\n");
        }
    }

    fn labels(&mut self, labels: &str, extra: Option<(&str, Filling)>) {
        if labels.is_empty() && extra.is_none() {
            return;
        }
        self.text("{");
        self.text(labels);
        if let Some((begin, filling)) = extra {
            if !labels.is_empty() && !labels.ends_with(',') {
                self.text(",");
            }
            self.text(begin);
            self.hole(filling);
            self.text("\"");
        }
        self.text("}");
    }
}
