//! What is stored, read back: our journal by `export`, Prometheus by remote read, VictoriaMetrics by its export.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use prost::Message;
use serde_json::Value;

use crate::support::peer::Peer;
use crate::support::receiver::TimeSeries;

/// Bits of values by time in ms.
pub type Samples = BTreeMap<i64, u64>;
/// Names and values.
pub type Labels = BTreeMap<String, String>;
/// Everything of one scraper, without the label that tells the scrapers apart.
pub type Stored = BTreeMap<Labels, Samples>;

/// The label that tells the scrapers apart.
pub const BY: &str = "by";

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<Query>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(int64, tag = "1")]
    start_ms: i64,
    #[prost(int64, tag = "2")]
    end_ms: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<Matcher>,
}

/// Equality; the kind that has number 0.
#[derive(Clone, PartialEq, Message)]
struct Matcher {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
}

/// Remote read because a query would hide staleness markers.
pub fn of_prometheus(peer: &Peer, by: &str, until_ms: i64) -> Stored {
    let matchers = vec![Matcher { name: BY.to_owned(), value: by.to_owned() }];
    let request = ReadRequest { queries: vec![Query { start_ms: 0, end_ms: until_ms, matchers }] };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("a small request");
    let headers = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Read-Version", "0.1.0"),
    ];
    let answer = peer.posted("/api/v1/read", &headers, &body);
    let raw = snap::raw::Decoder::new().decompress_vec(&answer).expect("snappy");
    let response = ReadResponse::decode(&raw[..]).expect("a ReadResponse");
    let mut stored = Stored::new();
    for series in response.results.into_iter().flat_map(|r| r.series) {
        let labels = series.labels.into_iter().map(|l| (l.name, l.value)).collect();
        let samples = series.samples.iter().map(|s| (s.timestamp, s.value.to_bits()));
        put(&mut stored, without(labels, by), samples);
    }
    stored
}

/// Prometheus 2 keeps `quantile` as exposed, later ones and ringscrape print it as a float
/// (`tests/data/since-2.42.tsv`, `le-quantile-spelling`). Of an exporter without histograms this is all the difference.
pub fn since_2(stored: Stored) -> Stored {
    let spelled = |(mut labels, samples): (Labels, Samples)| {
        if let Some(quantile) = labels.get_mut("quantile").filter(|q| q.bytes().all(|b| b.is_ascii_digit())) {
            quantile.push_str(".0");
        }
        (labels, samples)
    };
    stored.into_iter().map(spelled).collect()
}

/// Any NaN, staleness markers too, comes as a staleness marker: the export says null for all of them.
pub fn of_victoria(peer: &Peer, by: &str) -> Stored {
    peer.text("/internal/force_flush");
    let body = peer.text(&format!("/api/v1/export?match[]={}", encoded(&format!("{{{BY}=\"{by}\"}}"))));
    let mut stored = Stored::new();
    for line in body.lines() {
        let series: Value = serde_json::from_str(line).expect("JSON");
        let times = series["timestamps"].as_array().expect("a list").iter().map(|t| t.as_i64().expect("a time"));
        let values = series["values"].as_array().expect("a list").iter().map(|v| match v {
            Value::Null => crate::rules::STALE,
            v => v.as_f64().expect("a number").to_bits(),
        });
        put(&mut stored, without(labels_of(&series["metric"]), by), times.zip(values));
    }
    stored
}

/// The journal of a data directory as `ringscrape export` prints it; any NaN comes as a staleness marker.
pub fn of_journal(data: &Path) -> Stored {
    let out = Command::new(env!("CARGO_BIN_EXE_ringscrape"))
        .args(["export", "--format=openmetrics", &format!("--storage.path={}", data.display())])
        .output()
        .expect("the binary was built for this test");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    assert!(text.ends_with("# EOF\n"), "the export is whole");
    let mut stored = Stored::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (labels, time_ms, bits) = sample(line).unwrap_or_else(|| panic!("not a sample: {line}"));
        put(&mut stored, labels, [(time_ms, bits)]);
    }
    stored
}

/// `name{label="value",..} value seconds`.
fn sample(line: &str) -> Option<(Labels, i64, u64)> {
    let (series, numbers) = line.split_at(line.rfind('}').map_or_else(|| line.find(' '), |at| Some(at + 1))?);
    let (value, seconds) = numbers.trim_start().split_once(' ')?;
    let (name, pairs) = series.split_once('{').map_or((series, ""), |(n, p)| (n, p.trim_end_matches('}')));
    let mut labels = Labels::from([("__name__".to_owned(), name.to_owned())]);
    let mut rest = pairs;
    while !rest.is_empty() {
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, length) = unquoted(quoted)?;
        labels.insert(name.to_owned(), value);
        rest = quoted[length..].strip_prefix(',').unwrap_or(&quoted[length..]);
    }
    let bits = if value == "NaN" { crate::rules::STALE } else { value.parse::<f64>().ok()?.to_bits() };
    Some((labels, (seconds.parse::<f64>().ok()? * 1e3).round() as i64, bits))
}

/// The text up to its closing quote, and the bytes up to and with that.
fn unquoted(quoted: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, at + 1)),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                c => c,
            }),
            (_, c) => value.push(c),
        }
    }
}

/// Values as text by series, as an instant query answers them.
pub fn instant(peer: &Peer, by: &str, time_ms: i64) -> BTreeMap<Labels, String> {
    let time = format!("{}.{:03}", time_ms / 1000, time_ms % 1000);
    let body = peer.text(&format!("/api/v1/query?time={time}&query={}", encoded(&format!("{{{BY}=\"{by}\"}}"))));
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let series = answer["data"]["result"].as_array().expect("a list").iter();
    let one = |s: &Value| (without(labels_of(&s["metric"]), by), s["value"][1].as_str().expect("text").to_owned());
    series.map(one).collect()
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn labels_of(value: &Value) -> Labels {
    let object = value.as_object().expect("labels");
    object.iter().map(|(n, v)| (n.clone(), v.as_str().expect("text").to_owned())).collect()
}

fn without(mut labels: Labels, by: &str) -> Labels {
    assert_eq!(labels.remove(BY).as_deref(), Some(by), "{labels:?}");
    labels
}

/// One time holds one sample: nothing here is sent twice.
fn put(stored: &mut Stored, labels: Labels, samples: impl IntoIterator<Item = (i64, u64)>) {
    let series = stored.entry(labels).or_default();
    for (time_ms, bits) in samples {
        assert!(series.insert(time_ms, bits).is_none(), "two samples at {time_ms}");
    }
}

#[test]
fn an_exported_line_is_read() {
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let want = (labels(&[("__name__", "a"), ("b", "c\"} \\\n"), ("d", "")]), 1_700_000_000_123, 1.5f64.to_bits());
    assert_eq!(sample(r#"a{b="c\"} \\\n",d=""} 1.5 1700000000.123"#), Some(want));
    assert_eq!(sample("a:b 2 3"), Some((labels(&[("__name__", "a:b")]), 3000, 2f64.to_bits())));
    assert_eq!(sample("a{b=\"c\"} NaN 3").map(|s| s.2), Some(crate::rules::STALE));
    assert_eq!(sample("a{b=\"c} 2 3"), None);
}
