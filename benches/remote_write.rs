//! Cost of a sample in a remote write body: patched into kept bytes, and compressed afresh. Answers are checked first.
//!
//! `cargo bench --bench remote_write`. Budgets (not asserted: machines differ): patched <= 5 ns with the copy, afresh
//! <= 70 ns. Values are counters, gauges and constants in the mix of a node_exporter.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use ringscrape::config::RelabelConfig;
use ringscrape::encoding::snappy::put_header;
use ringscrape::model::LabelValue;
use ringscrape::model::Labels;
use ringscrape::remote_write::encoder::{Encoded, Encoder};
use ringscrape::remote_write::rewrite::Rewrite;
use ringscrape::storage::journal::{Event, ReadSchema, ReadShape, ReadTarget, Samples};

const NOW_MS: i64 = 1_795_000_000_000;
const CHUNK_SERIES: usize = 32;
const ROUNDS: usize = 200;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

struct Fleet {
    shape: Arc<ReadShape>,
    targets: Vec<ReadTarget>,
    values: Vec<Vec<f64>>,
}

impl Fleet {
    fn new(series: usize, targets: usize) -> Self {
        let texts: Vec<[String; 3]> = (0..series)
            .map(|i| {
                let name = format!("node_filesystem_metric_{}_bytes", i / 12);
                [name, format!("/dev/nvme{}n1", i % 12), format!("/var/lib/volumes/{}", i % 12)]
            })
            .collect();
        let all: Vec<[(&str, LabelValue<'_>); 6]> = texts
            .iter()
            .map(|[name, device, mountpoint]| {
                [
                    ("__name__", LabelValue::Text(name)),
                    ("device", LabelValue::Text(device)),
                    ("fstype", LabelValue::Text("ext4")),
                    ("instance", LabelValue::Var(0)),
                    ("job", LabelValue::Var(1)),
                    ("mountpoint", LabelValue::Text(mountpoint)),
                ]
            })
            .collect();
        let schema = |c: &[[_; 6]]| Arc::new(ReadSchema::new(c.iter().map(<[_; 6]>::as_slice)));
        let schemas: Vec<_> = all.chunks(CHUNK_SERIES).map(schema).collect();
        let shape = ReadShape::new(1, schemas);
        // All targets have shown it.
        (0..targets).for_each(|_| shape.join());
        let target = |i: usize| {
            let address = format!("10.1.{}.{}:9100", 100 + i / 100, 100 + i % 100);
            ReadTarget { key: i as u64, variables: [&*address, "node"].into_iter().collect(), fingerprint: i as u64 }
        };
        let value = |t: usize, s: usize| match s % 20 {
            0..8 => (s * 7919 + t * 104_729) as f64,
            8..13 => 1.0,
            13..16 => (s + t) as f64 * 0.1,
            _ => (s * t) as f64 + 0.5,
        };
        Self {
            shape: Arc::new(shape),
            targets: (0..targets).map(target).collect(),
            values: (0..targets).map(|t| (0..series).map(|s| value(t, s)).collect()).collect(),
        }
    }

    fn event<'e>(&'e self, target: usize, round: usize, times: &'e [(u32, i64)]) -> Event<'e> {
        let samples = Samples::Values { values: &self.values[target], times };
        let time_ms = NOW_MS + round as i64 * 15_000;
        Event { target: &self.targets[target], shape: &self.shape, time_ms, samples }
    }
}

fn encoder(rules: &[RelabelConfig]) -> Encoder {
    let external = Labels::from_pairs([("cluster", "eu-1")]);
    Encoder::new(Rewrite::new(&external, rules).expect("valid rules"), 64 << 20)
}

/// Decodes one event's piece and compares it with the event.
fn check(fleet: &Fleet, encoder: &mut Encoder, target: usize, round: usize, times: &[(u32, i64)]) {
    let mut piece = Vec::new();
    let Encoded { samples, raw_bytes, .. } = encoder.append(0, &fleet.event(target, round, times), &mut piece);
    let mut body = Vec::new();
    put_header(&mut body, raw_bytes);
    body.extend_from_slice(&piece);
    let raw = snap::raw::Decoder::new().decompress_vec(&body).expect("valid snappy");
    let request = WriteRequest::decode(raw.as_slice()).expect("a valid message");
    assert_eq!((request.timeseries.len(), samples), (fleet.shape.series_count, fleet.shape.series_count));
    for (slot, series) in request.timeseries.iter().enumerate() {
        assert_eq!(series.labels.len(), 7);
        assert_eq!(
            (&*series.labels[0].name, &*series.labels[0].value),
            ("__name__", &*format!("node_filesystem_metric_{}_bytes", slot / 12))
        );
        assert_eq!((&*series.labels[1].name, &*series.labels[1].value), ("cluster", "eu-1"));
        assert_eq!(series.labels[4].value, *fleet.targets[target].variables.get(0).unwrap());
        assert_eq!(series.samples[0].value.to_bits(), fleet.values[target][slot].to_bits());
        let time = times.iter().find(|t| t.0 as usize == slot).map_or(NOW_MS + round as i64 * 15_000, |t| t.1);
        assert_eq!(series.samples[0].timestamp, time);
    }
}

fn measure(what: &str, fleet: &Fleet, times: &[(u32, i64)]) {
    let mut encoder = encoder(&[]);
    for target in 0..fleet.targets.len() {
        check(fleet, &mut encoder, target, target, times);
    }
    let mut best = f64::INFINITY;
    let mut body = Vec::new();
    let mut bytes = 0;
    for round in 0..ROUNDS {
        let start = Instant::now();
        let mut samples = 0;
        bytes = 0;
        for target in 0..fleet.targets.len() {
            body.clear();
            samples += encoder.append(0, &fleet.event(target, round, times), &mut body).samples;
            bytes += black_box(&body).len();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / samples as f64);
    }
    let total = fleet.targets.len() * fleet.shape.series_count;
    println!("{what:<44} {best:>7.2} ns/sample {:>7.2} B/sample", bytes as f64 / total as f64);
}

fn main() {
    for (series, targets) in [(507, 40), (18, 1000)] {
        let fleet = Fleet::new(series, targets);
        measure(&format!("patched, {series} samples, {targets} targets"), &fleet, &[]);
        // One explicit timestamp sends the whole scrape along the ordinary road.
        measure(&format!("afresh, {series} samples, {targets} targets"), &fleet, &[(0, NOW_MS - 1)]);
    }
}
