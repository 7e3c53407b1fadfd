//! `perf check`: the newest records against the budgets of perf/budget.toml.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::record::{self, Group, Row};

/// A list of budgets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budgets {
    budget: Vec<Budget>,
}

/// What a figure may be at most. One of the three is given.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    scenario: String,
    /// Column of the records.
    figure: String,
    /// Of the run with so many targets; without it the newest run of the scenario.
    #[serde(default)]
    targets: Option<u32>,
    /// In the unit of the figure.
    #[serde(default)]
    at_most: Option<f64>,
    /// Times what the best peer needs, in the same run.
    #[serde(default)]
    best_peer_times: Option<f64>,
    /// Growth per target from the smallest to the largest run of one file, in the unit of the figure.
    #[serde(default)]
    per_target: Option<f64>,
    /// The figure over that of another scenario, in the newest runs of both.
    #[serde(default)]
    times_scenario: Option<(String, f64)>,
}

/// How a budget fares.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Kept(String),
    Exceeded(String),
    /// Why there is nothing to compare.
    Unknown(String),
}

/// Prints every budget with its verdict.
///
/// Fails when one is exceeded, or, if `complete`, when one has no record.
pub fn check(budgets: &Path, records: &Path, complete: bool) -> Result<(), String> {
    let text = std::fs::read_to_string(budgets).map_err(|e| format!("{}: {e}", budgets.display()))?;
    let budgets = parse(&text).map_err(|e| format!("{}: {e}", budgets.display()))?;
    let groups = record::groups(records)?;
    let (mut exceeded, mut unknown) = (String::new(), String::new());
    for budget in &budgets {
        let name = budget.name();
        match budget.verdict(&groups) {
            Verdict::Kept(figures) => println!("ok        {name}: {figures}"),
            Verdict::Exceeded(figures) => {
                println!("EXCEEDED  {name}: {figures}");
                let _ = write!(exceeded, "\n  {name}: {figures}");
            }
            Verdict::Unknown(reason) => {
                println!("unknown   {name}: {reason}");
                let _ = write!(unknown, "\n  {name}: {reason}");
            }
        }
    }
    if !exceeded.is_empty() {
        return Err(format!("exceeded:{exceeded}"));
    }
    if complete && !unknown.is_empty() {
        return Err(format!("not measured:{unknown}"));
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Budget>, String> {
    let budgets: Budgets = toml::from_str(text).map_err(|e| e.to_string())?;
    for b in &budgets.budget {
        let limits =
            [b.at_most.is_some(), b.best_peer_times.is_some(), b.per_target.is_some(), b.times_scenario.is_some()];
        if limits.iter().filter(|given| **given).count() != 1 {
            return Err(format!("{}: one of at_most, best_peer_times, per_target, times_scenario", b.name()));
        }
        if !Row::has_figure(&b.figure) {
            return Err(format!("{}: records have no figure {}", b.scenario, b.figure));
        }
    }
    Ok(budgets.budget)
}

impl Budget {
    fn name(&self) -> String {
        let at = self.targets.map(|n| format!(" at {n} targets")).unwrap_or_default();
        format!("{}{at}, {}", self.scenario, self.figure)
    }

    fn verdict(&self, groups: &[Group]) -> Verdict {
        self.compared(groups).unwrap_or_else(|reason| Verdict::Unknown(reason.to_owned()))
    }

    fn compared(&self, groups: &[Group]) -> Result<Verdict, &'static str> {
        if let Some(limit) = self.per_target {
            return Ok(within(self.slope(groups)?, limit, "per target"));
        }
        let needs_peers = self.best_peer_times.is_some();
        let (group, ours) = newest(groups, &self.scenario, self.targets, needs_peers).ok_or("no record")?;
        if !ours.keeps_up() {
            let (got, wanted) = (ours.scrapes_per_s.unwrap_or(0.0), ours.wanted_per_s.unwrap_or(0.0));
            return Ok(Verdict::Exceeded(format!("{got:.0} of {wanted:.0} scrapes/s in {}", group.file)));
        }
        let figure = ours.figure(&self.figure).ok_or("the newest record lacks the figure")?;
        if let Some(limit) = self.at_most {
            return Ok(within(figure, limit, &format!("in {}", group.file)));
        }
        if let Some((other, times)) = &self.times_scenario {
            let (_, other_row) = newest(groups, other, self.targets, false).ok_or("no record of the other scenario")?;
            let base = other_row.figure(&self.figure).ok_or("the other scenario lacks the figure")?;
            return Ok(within(figure / base, *times, &format!("times that of {other}")));
        }
        let times = self.best_peer_times.unwrap_or(f64::INFINITY);
        let (peer, theirs) = group.best_peer(&self.figure).ok_or("no peer in the newest record")?;
        Ok(within(
            figure / theirs,
            times,
            &format!("times that of {} ({figure:.2} to {theirs:.2}) in {}", peer.scraper, group.file),
        ))
    }

    /// Growth per target between the smallest and the largest run of the newest file that has several.
    fn slope(&self, groups: &[Group]) -> Result<f64, &'static str> {
        let of_scenario = |g: &&Group| g.ours().is_some_and(|r| r.scenario == self.scenario);
        let file = groups.iter().rev().find(of_scenario).map(|g| &g.file).ok_or("no record")?;
        let rows = groups.iter().filter(|g| g.file == *file).filter(of_scenario).filter_map(Group::ours);
        let points: Vec<(f64, f64)> =
            rows.filter_map(|r| Some((f64::from(r.targets?), r.figure(&self.figure)?))).collect();
        let least = points.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0)).ok_or("no figure")?;
        let most = points.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0)).ok_or("no figure")?;
        if least.0 == most.0 { Err("only one number of targets") } else { Ok((most.1 - least.1) / (most.0 - least.0)) }
    }
}

/// The newest run of a scenario, with peers beside it if that matters.
fn newest<'a>(
    groups: &'a [Group],
    scenario: &str,
    targets: Option<u32>,
    needs_peers: bool,
) -> Option<(&'a Group, &'a Row)> {
    let fits = |r: &Row| r.scenario == scenario && targets.is_none_or(|n| r.targets == Some(n));
    let mut candidates = groups.iter().rev().filter(|g| !needs_peers || g.peers().next().is_some());
    candidates.find_map(|g| Some((g, g.ours().filter(|r| fits(r))?)))
}

fn within(figure: f64, limit: f64, what: &str) -> Verdict {
    let text = format!("{figure:.5} {what}, at most {limit}");
    if figure <= limit { Verdict::Kept(text) } else { Verdict::Exceeded(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::OURS;

    fn group(file: &str, scenario: &str, targets: u32, cpu: &[(&str, f64)]) -> Group {
        let row = |(scraper, cpu): &(&str, f64)| Row {
            scenario: scenario.into(),
            scraper: (*scraper).into(),
            targets: Some(targets),
            cpu_us_per_scrape: Some(*cpu),
            rss_mib: Some(10.0 + f64::from(targets) / 1_000.0),
            wanted_per_s: Some(100.0),
            scrapes_per_s: Some(if *cpu > 50.0 { 50.0 } else { 100.0 }),
            ..Row::default()
        };
        Group { file: file.into(), rows: cpu.iter().map(row).collect() }
    }

    fn verdict(budget: &str, groups: &[Group]) -> Verdict {
        parse(&format!("[[budget]]\nscenario = 's'\n{budget}\n")).unwrap()[0].verdict(groups)
    }

    #[test]
    fn budgets_are_kept_exceeded_or_unknown() {
        let groups = [
            group("1.csv", "s", 100, &[(OURS, 9.0), ("vmagent", 10.0)]),
            group("2.csv", "s", 100, &[(OURS, 2.0), ("vmagent", 10.0), ("prometheus-agent", 20.0)]),
            group("3.csv", "s", 1_100, &[(OURS, 3.0)]),
            group("3.csv", "s", 100, &[(OURS, 3.0)]),
            group("3.csv", "t", 100, &[(OURS, 1.0)]),
        ];
        let cpu = |limit: &str| verdict(&format!("figure = 'cpu_us_per_scrape'\n{limit}"), &groups);
        let kept = |v: Verdict| matches!(v, Verdict::Kept(_));
        let exceeded = |v: Verdict| matches!(v, Verdict::Exceeded(_));
        // The newest run counts, and for a ratio the newest one with a peer.
        assert!(kept(cpu("at_most = 3.0")) && exceeded(cpu("at_most = 2.9")));
        assert!(kept(cpu("best_peer_times = 0.2")) && exceeded(cpu("best_peer_times = 0.19")));
        assert!(kept(cpu("times_scenario = ['t', 3.0]")) && exceeded(cpu("times_scenario = ['t', 2.9]")));
        let rss = |limit: &str| verdict(&format!("figure = 'rss_mib'\n{limit}"), &groups);
        assert!(kept(rss("per_target = 0.0011")) && exceeded(rss("per_target = 0.0009")));
        assert_eq!(cpu("at_most = 1\ntargets = 5"), Verdict::Unknown("no record".into()));
        assert!(matches!(verdict("figure = 'cores'\nat_most = 1", &groups), Verdict::Unknown(_)));
    }

    #[test]
    fn a_scraper_that_does_not_keep_up_keeps_no_budget() {
        let groups = [group("1.csv", "s", 100, &[(OURS, 60.0)])];
        let Verdict::Exceeded(text) = verdict("figure = 'rss_mib'\nat_most = 100", &groups) else { panic!() };
        assert!(text.contains("50 of 100 scrapes/s"), "{text}");
    }

    #[test]
    fn the_budgets_of_the_tree_are_about_scenarios_that_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let budgets = parse(&std::fs::read_to_string(root.join("perf/budget.toml")).unwrap()).unwrap();
        assert!(budgets.len() > 20);
        for b in budgets {
            let others = b.times_scenario.iter().map(|(other, _)| other);
            for name in others.chain([&b.scenario]) {
                assert!(root.join(format!("perf/scenarios/{name}.toml")).exists(), "{name}");
            }
        }
        assert!(parse("[[budget]]\nscenario = 's'\nfigure = 'rss'\nat_most = 1\n").is_err());
        assert!(parse("[[budget]]\nscenario = 's'\nfigure = 'rss_mib'\n").is_err());
    }
}
