//! A whole answer written once; what each target sends of it is a copy with the holes filled.

use super::body::{Body, Filling, Plan};
use super::{Churn, Vary, hash};

/// Whom an answer is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) target: u32,
    pub(super) scrape: u32,
    /// Since the start of the farm.
    pub(super) at_ms: u64,
    pub(super) page: u32,
}

/// An answer, or a page of one, with holes.
#[derive(Debug)]
pub(super) struct Template {
    text: Vec<u8>,
    plan: Plan,
    vary: Vary,
}

impl Template {
    pub(super) fn new(body: &Body, vary: Vary, version: u64) -> Self {
        let mut text = Vec::new();
        let plan = body.write(vary, None, version, &mut text);
        Self { text, plan, vary }
    }

    /// One page of a streamed body.
    pub(super) fn page(body: &Body, vary: Vary, version: u64) -> Self {
        let mut text = Vec::new();
        let plan = body.write(vary, Some(Filling::Page), version, &mut text);
        Self { text, plan, vary }
    }

    /// The length of every print of it.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Appends what the target sends.
    pub(super) fn print(&self, asked: Asked, out: &mut Vec<u8>) {
        let start = out.len();
        if self.vary == Vary::RandomOrder {
            return self.print_shuffled(asked, out);
        }
        out.extend_from_slice(&self.text);
        let churn = if let Vary::SeriesChurn(churn) = self.vary { churn } else { Churn { percent: 0.0, every_s: 1 } };
        let (target, page) = (digits8(asked.target), digits8(asked.page));
        let scrape = digits8(asked.scrape);
        for hole in &self.plan.holes {
            let to = &mut out[start + hole.at as usize..][..hole.filling.width()];
            match hole.filling {
                Filling::Target => to.copy_from_slice(&target),
                Filling::Scrape => to.copy_from_slice(&scrape),
                Filling::Page => to.copy_from_slice(&page),
                Filling::Line => hexadecimal(line_hash(asked.target, hole.line), to),
                Filling::Generation => {
                    let generation = churn.generation(line_hash(asked.target, hole.line), asked.at_ms);
                    to.copy_from_slice(&digits8((generation % 10_000) as u32)[4..]);
                }
            }
        }
    }

    fn print_shuffled(&self, asked: Asked, out: &mut Vec<u8>) {
        let families = &self.plan.families;
        let mut order: Vec<u32> = (0..families.len() as u32).collect();
        let mut state = u64::from(asked.target) << 32 | u64::from(asked.scrape);
        for i in (1..order.len()).rev() {
            state = hash(state.wrapping_add(1));
            order.swap(i, (state % (i as u64 + 1)) as usize);
        }
        for family in order {
            out.extend_from_slice(&self.text[families[family as usize].clone()]);
        }
    }
}

/// The number of a line of a target.
fn line_hash(target: u32, line: u32) -> u64 {
    hash(u64::from(target) << 32 | u64::from(line))
}

/// The last 8 decimal digits.
fn digits8(mut n: u32) -> [u8; 8] {
    let mut out = [b'0'; 8];
    for digit in out.iter_mut().rev() {
        *digit += (n % 10) as u8;
        n /= 10;
    }
    out
}

fn hexadecimal(n: u64, to: &mut [u8]) {
    for (i, digit) in to.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(n >> (60 - 4 * i)) as usize & 15];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::body::moved;
    use super::*;

    /// The naive twin: every line of a target formatted afresh, families in order.
    fn naive(body: &Body, vary: Vary, version: u64, asked: Asked) -> String {
        let mut out = String::new();
        for (at, line) in (0u32..).zip(body.families.iter().flatten()) {
            let prefix = if vary == Vary::Unshared { format!("x{:08}_", asked.target) } else { String::new() };
            for h in line.header.lines() {
                match h.strip_prefix("# HELP ").or_else(|| h.strip_prefix("# TYPE ")) {
                    Some(rest) => out += &format!("{}{prefix}{rest}\n", &h[..7]),
                    None => out += &format!("{h}\n"),
                }
            }
            let extra = match vary {
                Vary::TargetLabel => format!("node=\"n-{:08}\"", asked.target),
                Vary::Unshared => format!("farm_id=\"{:016x}\"", line_hash(asked.target, at)),
                Vary::AllLabelsChange => format!("scrape=\"{:08}\"", asked.scrape % 100_000_000),
                Vary::OneLabelChanges if at == body.changing_line() => {
                    format!("scrape=\"{:08}\"", asked.scrape % 100_000_000)
                }
                Vary::SeriesChurn(c) => {
                    format!("rev=\"{:04}\"", c.generation(line_hash(asked.target, at), asked.at_ms) % 10_000)
                }
                _ => String::new(),
            };
            let labels: Vec<&str> =
                [line.labels.as_str(), extra.as_str()].into_iter().filter(|l| !l.is_empty()).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            out += &format!("{prefix}{}{labels} {}\n", line.name, line.value + moved(at, version));
        }
        out
    }

    fn vary() -> impl Strategy<Value = Vary> {
        prop_oneof![
            Just(Vary::Identical),
            Just(Vary::TargetLabel),
            Just(Vary::OneLabelChanges),
            Just(Vary::AllLabelsChange),
            Just(Vary::RandomOrder),
            Just(Vary::Unshared),
            (0.0..100.0, 1u32..1000).prop_map(|(percent, every_s)| Vary::SeriesChurn(Churn { percent, every_s })),
        ]
    }

    fn printed(body: &Body, vary: Vary, version: u64, asked: Asked) -> String {
        let mut out = b"before".to_vec();
        let template = Template::new(body, vary, version);
        template.print(asked, &mut out);
        assert_eq!(out.len(), 6 + template.len());
        String::from_utf8(out.split_off(6)).unwrap()
    }

    proptest! {
        #[test]
        fn a_print_is_what_formatting_gives(
            vary in vary(), samples in 1usize..80, version in 0u64..64, target in any::<u32>().prop_map(|t| t % 16_000_000),
            scrape in any::<u32>(), at_ms in 0u64..100_000_000,
        ) {
            let body = Body::synthetic(samples);
            let asked = Asked { target, scrape, at_ms, page: 0 };
            let (got, want) = (printed(&body, vary, version, asked), naive(&body, vary, version, asked));
            if vary == Vary::RandomOrder {
                let sorted = |t: &str| { let mut l: Vec<String> = t.lines().map(Into::into).collect(); l.sort(); l };
                prop_assert_eq!(sorted(&got), sorted(&want));
            } else {
                prop_assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn bodies_differ_as_they_say() {
        let body = Body::synthetic(18);
        let print =
            |vary, target, scrape| printed(&body, vary, u64::from(scrape), Asked { target, scrape, at_ms: 0, page: 0 });
        let series = |text: &str| -> Vec<String> {
            text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0.to_owned()).collect()
        };
        let a = print(Vary::Identical, 1, 1);
        assert_eq!(series(&a).len(), 18);
        assert_eq!(series(&a), series(&print(Vary::Identical, 2, 9)));
        assert_ne!(a, print(Vary::Identical, 1, 2));
        assert!(series(&print(Vary::TargetLabel, 7, 1)).iter().all(|s| s.contains("node=\"n-00000007\"")));
        let changed = |vary| {
            let (x, y) = (series(&print(vary, 1, 1)), series(&print(vary, 1, 2)));
            x.iter().zip(&y).filter(|(a, b)| a != b).count()
        };
        assert_eq!([changed(Vary::OneLabelChanges), changed(Vary::AllLabelsChange)], [1, 18]);
        assert!(changed(Vary::RandomOrder) > 0);
        let (x, y) = (series(&print(Vary::Unshared, 1, 1)), series(&print(Vary::Unshared, 2, 1)));
        assert!(x.iter().all(|s| !y.contains(s)));
        assert_eq!(x, series(&print(Vary::Unshared, 1, 2)));
        let churn = Vary::SeriesChurn(Churn { percent: 50.0, every_s: 600 });
        let at = |at_ms| series(&printed(&body, churn, 0, Asked { target: 1, scrape: 1, at_ms, page: 0 }));
        let (before, after) = (at(0), at(600_000));
        let replaced = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!((3..=15).contains(&replaced), "{replaced} of 18");
    }
}
