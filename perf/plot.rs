//! `perf plot`: records of the scenario `scale` as SVG, logarithmic on both axes.

use std::fmt::Write as _;
use std::path::Path;

use crate::record::{self, Group, Row};

/// The scenario that is drawn.
const SCENARIO: &str = "scale";
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [80.0, 180.0, 40.0, 50.0];
const COLOURS: [&str; 6] = ["#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#a16207", "#0f766e"];

/// A drawing.
struct Plot {
    file: &'static str,
    title: &'static str,
    value: fn(&Row) -> Option<f64>,
}

const PLOTS: &[Plot] = &[
    Plot { file: "cpu.svg", title: "CPU per scrape, microseconds", value: |r| r.cpu_us_per_scrape },
    Plot {
        file: "memory.svg",
        title: "Resident and kernel memory per target, KiB",
        value: |r| Some((r.rss_mib? + r.kernel_mib.unwrap_or(0.0)) * 1_024.0 / f64::from(r.targets?)),
    },
    Plot { file: "lateness.svg", title: "Start lateness, 99.9 %, milliseconds at most", value: |r| r.lateness_p999_ms },
];

/// The points of one scraper.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Writes every drawing that the records have points for.
pub fn write(records: &Path, out: &Path) -> Result<(), String> {
    let groups = record::groups(records)?;
    std::fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    for plot in PLOTS {
        let lines = lines(&groups, plot.value);
        if lines.is_empty() {
            return Err(format!("no record of the scenario {SCENARIO} has points for {}", plot.file));
        }
        let path = out.join(plot.file);
        std::fs::write(&path, svg(plot.title, &lines)).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// The newest point of each scraper at each number of targets.
fn lines(groups: &[Group], value: fn(&Row) -> Option<f64>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in groups.iter().flat_map(|g| &g.rows).filter(|r| r.scenario == SCENARIO) {
        let Some(point) = row.targets.map(f64::from).zip(value(row)).filter(|(_, y)| *y > 0.0) else { continue };
        let at = lines.iter().position(|l| l.name == row.scraper).unwrap_or_else(|| {
            lines.push(Line { name: row.scraper.clone(), points: Vec::new() });
            lines.len() - 1
        });
        let points = &mut lines[at].points;
        points.retain(|(x, _)| *x != point.0);
        points.push(point);
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    lines
}

/// Decades that hold all values.
fn decades(values: impl Iterator<Item = f64> + Clone) -> (i32, i32) {
    let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor() as i32;
    let most = values.fold(0.0, f64::max).log10().ceil() as i32;
    (least, most.max(least + 1))
}

fn svg(title: &str, lines: &[Line]) -> String {
    let [left, right, top, bottom] = MARGINS;
    let points = || lines.iter().flat_map(|l| l.points.iter());
    let (x_decades, y_decades) = (decades(points().map(|p| p.0)), decades(points().map(|p| p.1)));
    let share = |v: f64, (from, to): (i32, i32)| (v.log10() - f64::from(from)) / f64::from(to - from);
    let x = |v: f64| left + share(v, x_decades) * (WIDTH - left - right);
    let y = |v: f64| HEIGHT - bottom - share(v, y_decades) * (HEIGHT - top - bottom);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"{left}\" y=\"24\" font-size=\"15\">{title}</text>\n"
    );
    for decade in y_decades.0..=y_decades.1 {
        let (value, at) = (10f64.powi(decade), y(10f64.powi(decade)));
        let (end, label) = (WIDTH - right, left - 8.0);
        let _ = writeln!(out, "<line x1=\"{left}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>");
        let _ = writeln!(out, "<text x=\"{label}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", at + 4.0);
    }
    for decade in x_decades.0..=x_decades.1 {
        let (value, at) = (10f64.powi(decade), x(10f64.powi(decade)));
        let end = HEIGHT - bottom;
        let _ = writeln!(out, "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{end}\" stroke=\"#ddd\"/>");
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>", end + 18.0);
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">targets</text>",
        (left + WIDTH - right) / 2.0,
        HEIGHT - 10.0
    );
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let places: Vec<String> = line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            places.join(" ")
        );
        for (a, b) in &line.points {
            let (cx, cy) = (x(*a), y(*b));
            let _ = writeln!(
                out,
                "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{}: {b:.3} at {a} targets</title></circle>",
                line.name
            );
        }
        if let Some((a, b)) = line.points.last() {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{} {b:.1}</text>",
                x(*a) + 8.0,
                y(*b) + 4.0,
                line.name
            );
        }
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_point_of_each_number_of_targets_is_drawn() {
        let row = |scraper: &str, targets: u32, cpu: f64| Row {
            scenario: SCENARIO.into(),
            scraper: scraper.into(),
            targets: Some(targets),
            cpu_us_per_scrape: Some(cpu),
            ..Row::default()
        };
        let group = |rows: Vec<Row>| Group { file: "x.csv".into(), rows };
        let groups = [
            group(vec![row("ringscrape", 1_000, 99.0), row("vmagent", 1_000, 50.0)]),
            group(vec![row("ringscrape", 100_000, 5.0)]),
            group(vec![row("ringscrape", 1_000, 10.0)]),
            group(vec![Row { scenario: "other".into(), ..row("ringscrape", 10, 1.0) }]),
        ];
        let lines = lines(&groups, |r| r.cpu_us_per_scrape);
        assert_eq!(lines[0].points, [(1_000.0, 10.0), (100_000.0, 5.0)]);
        assert_eq!((lines.len(), lines[1].points.len()), (2, 1));
        let text = svg("CPU", &lines);
        // Left edge, the middle of two decades; right edge, 0.7 decades from the bottom.
        assert!(text.contains("<polyline points=\"80.0,205.0 540.0,254.7\""), "{text}");
        assert_eq!(text.matches("<circle").count(), 3);
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
        assert_eq!(decades([1.0, 1.0].into_iter()), (0, 1));
    }
}
