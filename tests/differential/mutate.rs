//! Sequences of bodies mutated at random from a seed, so that the comparison goes beyond what anyone thought of.
//!
//! A group is a job of one to three targets that expose the same body. Each goes its own way: unchanged, changed, unchanged,
//! changed otherwise, changed further; now and then an answer fails, or comes compressed, in chunks, in pieces. Jobs differ in
//! limits, rules and flags. So caches, layouts shared by targets, staleness and recovery are compared, not single bodies.

use std::time::Duration;

use crate::case::{Case, case};
use crate::edits::{Dialect, Random, edited};
use crate::support::answer::{Answer, Last, gzip};

/// How the names of these cases begin.
pub const PREFIX: &str = "mutated-";

/// How many there are of what.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    pub seed: u64,
    /// Jobs.
    pub groups: usize,
    /// Scrapes of each target that are compared.
    pub rounds: usize,
    pub dialect: Dialect,
}

const SMALL: &str = "# HELP http_requests_total The total.\n# TYPE http_requests_total counter\n\
    http_requests_total{method=\"post\",code=\"200\"} 1027\nhttp_requests_total{method=\"post\",code=\"400\"} 3\n\
    # TYPE process_open_fds gauge\nprocess_open_fds 27\nprocess_cpu_seconds_total 1.25e-3\n\
    # HELP lat Latency.\n# TYPE lat histogram\nlat_bucket{le=\"0.1\"} 5\nlat_bucket{le=\"0.5\"} 9\nlat_bucket{le=\"+Inf\"} 11\n\
    lat_sum 3.75\nlat_count 11\n# TYPE rpc summary\nrpc{quantile=\"0.5\"} 0.25\nrpc{quantile=\"0.9\"} NaN\nrpc_sum 17\nrpc_count 6\n\
    build_info{version=\"1.2\",branch=\"main\"} 1\nroom{path=\"C:\\\\x\",say=\"\\\"hi\\\"\\n\"} -4\nlast 0\n";
const ODD: &str = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1e3\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 1\nh_count 3\n\
    # TYPE s summary\ns{quantile=\"0.50\"} 1\ns{quantile=\"1\"} NaN\nother{le=\"5\",quantile=\"1\"} 1\n# HELP t é \\n \\\\ x\n# TYPE t gauge\n\
    t{a=\"1\",b=\"2\"} 1\nt{b=\"3\",a=\"1\"} 2\nt{a=\"\",b=\"4\"} 3\nt{} 4\n{\"my.name\",x=\"1\"} 5\n{x=\"2\",\"my.name\"} 6\nm{\"l.x\"=\"\u{17e}\"} 7\n\
    \tblank{ x = \"1\" , } 8\ntight{x=\"1\"}9\n# a comment\n\n#\nm2{job=\"mine\",instance=\"i\",exported_job=\"e\"} 10\n\
    timed 1 @T0000001000@\ntimed{x=\"1\"} 2 @T0000002000@\n# TYPE late counter\nlate_total{node=\"n-17\"} 1\nlate_total{node=\"n-18\"} 2\n\
    long{text=\"a long label value that goes on and on, with spaces\"} 1e-320\nlast_without_newline -Inf";
const NODE: &str = include_str!("../data/bodies/node.txt");
const PROMETHEUS: &str = include_str!("../data/bodies/prometheus.txt");

/// YAML lines of a job that every version reads alike.
const CONFIGS: &[&str] = &[
    "",
    "",
    "honor_labels: true",
    "honor_timestamps: false",
    "label_value_length_limit: 60",
    "metric_relabel_configs:\n- {source_labels: [__name__], regex: '.*(sum|last|code)', action: drop}",
    "metric_relabel_configs:\n- {source_labels: [__name__, instance], separator: '@', target_label: from}",
];
/// YAML lines of a job that only the newest reads as we do, too.
const CURRENT_CONFIGS: &[&str] = &[
    "sample_limit: 20",
    "sample_limit: 14\nlabel_limit: 6",
    "track_timestamps_staleness: true",
    "label_name_length_limit: 9",
    "metric_name_validation_scheme: legacy",
    "metric_relabel_configs:\n- {regex: 'a|x|code|cpu|mode', action: labeldrop}",
    "metric_relabel_configs:\n- {source_labels: [__name__], regex: '([a-z]).*', target_label: __name__, replacement: '$1'}",
    "metric_relabel_configs:\n- {regex: '(x|a|device)', replacement: 'of_$1', action: labelmap}\n\
     - {source_labels: [x], regex: '2', action: drop}",
    "metric_relabel_configs:\n- {source_labels: [x, a], regex: '(.*);(.*)', target_label: __name__, replacement: '$1$2'}",
    "honor_labels: true\nsample_limit: 30\nmetric_relabel_configs:\n- {source_labels: [node], target_label: instance}\n\
     - {source_labels: [code, node], modulus: 3, target_label: shard, action: hashmod}",
    "track_timestamps_staleness: true\nmetric_relabel_configs:\n- {regex: 'b|le|quantile', action: labeldrop}",
];

/// One case for each group.
pub fn cases(campaign: Campaign) -> Vec<Case> {
    (0..campaign.groups).map(|n| group(campaign, n)).collect()
}

fn group(campaign: Campaign, n: usize) -> Case {
    let mut random = Random(campaign.seed.wrapping_mul(100_003).wrapping_add(n as u64));
    let current = campaign.dialect == Dialect::Current;
    let base = match n % 8 {
        0 => NODE.to_owned(),
        1 => PROMETHEUS.to_owned(),
        2..=4 if current => ODD.to_owned(),
        _ => SMALL.to_owned(),
    };
    // 2.42 keeps these as they are, 3 writes them as floats: a case of its own.
    let base =
        if current { base } else { base.replace("quantile=\"0\"", "quantile=\"0.0\"").replace("\"1\"", "\"1.0\"") };
    let configs = if current { [CONFIGS, CURRENT_CONFIGS].concat() } else { CONFIGS.to_vec() };
    let config = configs[n / 2 % configs.len()];
    let name = format!("{PREFIX}{n}");
    // Honoured labels may give targets the same series, whose times each target keeps for itself.
    let targets = if config.contains("honor_labels") { 1 } else { 1 + random.below(3) };
    let paths: Vec<String> = (0..targets).map(|t| format!("/{name}/{t}")).collect();
    let mut out = case(&name, Vec::new()).with(config);
    out.scripts.clear();
    for path in &paths {
        let answers = answers(base.as_bytes(), &mut random, campaign);
        out = out.script(path, answers);
    }
    let labels: Vec<String> = (0..paths.len()).map(|t| format!(", node: n-{}", 17 + t)).collect();
    let targets: Vec<(&str, &str)> = paths.iter().map(String::as_str).zip(labels.iter().map(String::as_str)).collect();
    out.rising = current;
    out.targets(&targets).scrapes(campaign.rounds)
}

/// What one target answers, round by round; the last answer, which repeats, is the unchanged body.
fn answers(base: &[u8], random: &mut Random, campaign: Campaign) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(campaign.rounds + 1);
    let mut body = base.to_vec();
    for round in 0..campaign.rounds {
        body = match round % 6 {
            0 | 2 => base.to_vec(),
            // Differences add up and go away again.
            4 | 5 => edited(&body, random, campaign.dialect, round),
            _ => edited(base, random, campaign.dialect, round),
        };
        answers.push(delivered(&body, random));
    }
    answers.push(Answer::ok(base));
    answers
}

/// A way for the body to travel, now and then one that fails. What holds times travels plainly: they are filled in later.
fn delivered(body: &[u8], random: &mut Random) -> Answer {
    if body.contains(&b'@') {
        return Answer::ok(body);
    }
    match random.below(24) {
        0 | 1 => Answer::chunked(body, 1 + random.below(body.len() + 1), "", "0\r\n\r\n"),
        2 => Answer::chunked(body, 1 + random.below(90), ";x=y", "0\r\nX-Sum: 1\r\n\r\n"),
        3 | 4 => Answer::encoded("gzip", gzip(body)),
        5 => {
            let (head, tail) = body.split_at(random.below(body.len()));
            Answer::encoded("gzip", [gzip(head), gzip(tail)].concat())
        }
        6 => Answer::ok(body).drip(1 + body.len() / 5, Duration::from_millis(2)),
        7 => Answer::until_close("HTTP/1.1", body),
        8 if random.once_in(2) => Answer::status("503 Service Unavailable", body),
        8 => Answer::lying(body.len() + 7, body).then(Last::Close),
        9 if random.once_in(2) => {
            let zipped = gzip(body);
            Answer::encoded("gzip", &zipped[..random.below(zipped.len())])
        }
        _ => Answer::ok(body),
    }
}
