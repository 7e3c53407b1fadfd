//! Journal: nanoseconds and bytes a sample, encoding and decoding, for columns like those of a node and of a small app.
//!
//! `cargo bench --bench journal`. What is decoded is compared with what was encoded, bit for bit.

use ringscrape::base::time::Now;
use ringscrape::model::{LabelValue, Schema, Shape, next_key};
use ringscrape::storage::journal::{Column, Cursor, Disk, Options, Reader, Row, Samples, SyncMode, boot_id};
use std::rc::Rc;

#[derive(Debug)]
struct Plain {
    key: u64,
    slots: usize,
}

impl Schema for Plain {
    fn key(&self) -> u64 {
        self.key
    }

    fn series_count(&self) -> usize {
        self.slots
    }

    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)])) {
        for i in 0..self.slots {
            let (name, device) = (format!("node_some_family_{}_total", i / 8), format!("sd{}", i % 8));
            each(&[
                ("__name__", LabelValue::Text(&name)),
                ("device", LabelValue::Text(&device)),
                ("instance", LabelValue::Var(0)),
                ("job", LabelValue::Text("node")),
            ]);
        }
    }
}

/// A small generator (xorshift), so that runs are alike.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// How a series moves.
#[derive(Clone, Copy)]
enum Kind {
    Constant,
    /// Counter in whole steps below this.
    Steps(u64),
    /// Counter of hundredths.
    Hundredths,
    /// Gauge in bytes, a multiple of 4096.
    Pages,
    /// Any float each time.
    Noise,
}

/// A node exporter's body as measured on real ones: most series stand still, counters step, few are noise.
fn node(slot: usize) -> Kind {
    match slot % 50 {
        0..30 => Kind::Constant,
        30..36 => Kind::Steps(200),
        36..40 => Kind::Steps(20_000),
        40..45 => Kind::Hundredths,
        45..48 => Kind::Pages,
        _ => Kind::Noise,
    }
}

/// A small application: a few counters, a histogram, and the report series (duration is noise).
fn app(slot: usize) -> Kind {
    match slot {
        0..3 => Kind::Steps(100),
        3..11 => Kind::Steps(10),
        11 => Kind::Hundredths,
        17 => Kind::Noise,
        _ => Kind::Constant,
    }
}

fn step(values: &mut [f64], kind: fn(usize) -> Kind, random: &mut Random) {
    for (slot, v) in values.iter_mut().enumerate() {
        let r = random.next();
        *v = match kind(slot) {
            Kind::Constant => *v,
            Kind::Steps(n) => *v + (r % n) as f64,
            Kind::Hundredths => ((*v * 100.0).round() + (r % 1500) as f64) / 100.0,
            Kind::Pages => (1 << 30) as f64 + ((r % 10_000) * 4096) as f64,
            Kind::Noise => (r >> 11) as f64 / (1u64 << 53) as f64,
        };
    }
}

/// Sum that depends on every bit and on the order.
fn fold(sum: u64, values: &[f64]) -> u64 {
    values.iter().fold(sum, |s, v| (s ^ v.to_bits()).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17))
}

fn run(name: &str, (targets, slots, scrapes): (usize, usize, usize), kind: fn(usize) -> Kind) {
    let tmp = tempfile::tempdir().expect("tempdir");
    let schemas: Vec<Rc<dyn Schema>> = (0..slots.div_ceil(32))
        .map(|i| Rc::new(Plain { key: next_key(), slots: 32.min(slots - 32 * i) }) as Rc<dyn Schema>)
        .collect();
    let shape = Rc::new(Shape::new(schemas));
    let options =
        Options { sync: SyncMode::Os, waiting_bytes_max: 1 << 30, ..Options::new(tmp.path().into(), 1, boot_id()) };
    let (disk, mut ends) = Disk::spawn(options).expect("disk");
    let (mut writer, mut feed) = ends.remove(0);
    let mut random = Random(88_172_645_463_325_252);
    let mut columns: Vec<Column> = (0..targets).map(|_| Column::default()).collect();
    let mut values: Vec<Vec<f64>> = vec![vec![1000.0; slots]; targets];
    let names: Vec<String> = (0..targets).map(|t| format!("10.0.{}.{}:9100", t / 256, t % 256)).collect();
    let (mut sum, mut busy_ns, mut first_ns) = (0, 0, 0);
    let mut steady = writer.tally();
    for scrape in 0..scrapes {
        values.iter_mut().for_each(|v| step(v, kind, &mut random));
        sum = values.iter().fold(sum, |s, v| fold(s, v));
        let start = Now::read();
        for (t, v) in values.iter().enumerate() {
            let time_ms = 1_700_000_000_000 + scrape as i64 * 15_000 + (t * 15_000 / targets) as i64;
            let row = Row { shape: &shape, time_ms, values: v, times: &[] };
            writer.scrape(&mut columns[t], std::iter::once(names[t].as_str()), &row);
            if writer.due_at() == Some(0) {
                feed.turn(&mut writer, start);
            }
        }
        let spent = Now::read().mono_ns - start.mono_ns;
        // The first scrape is dictionary and columns against zero: told apart.
        if scrape == 0 {
            first_ns = spent;
            steady = writer.tally();
        } else {
            busy_ns += spent;
        }
    }
    feed.finish(&mut writer, Now::read());
    assert!(disk.stop());
    let tally = writer.tally();
    assert_eq!(tally.frames_lost, 0);
    let samples = (tally.slots - steady.slots) as f64;
    let bytes = (tally.sample_bytes - steady.sample_bytes) as f64 / samples;
    let encode_ns = busy_ns as f64 / samples;

    let (mut read_sum, mut events, mut decode_ns) = (0, 0u64, f64::MAX);
    for round in 0..3 {
        let start = Now::read().mono_ns;
        let mut reader = Reader::open(&tmp.path().join("0"), Cursor::default()).expect("reader");
        while let Some(event) = reader.next().expect("intact") {
            let Samples::Values { values, .. } = event.samples else { panic!("no markers were written") };
            if round == 0 {
                read_sum = fold(read_sum, values);
                events += 1;
            }
            std::hint::black_box(values);
        }
        if round > 0 {
            decode_ns = decode_ns.min((Now::read().mono_ns - start) as f64 / tally.slots as f64);
        }
    }
    assert_eq!((read_sum, events), (sum, tally.frames), "what is read is what was written");
    println!(
        "{name:<22} encode {encode_ns:6.2} ns/sample  {bytes:5.2} B/sample   decode {decode_ns:6.2} ns/sample   first scrape {:.0} ns/sample, dictionary {:.1} B/target",
        first_ns as f64 / (targets * slots) as f64,
        tally.dictionary_bytes as f64 / targets as f64,
    );
}

fn main() {
    // `cargo test --benches` runs this too: small then.
    let scrapes = if std::env::args().any(|a| a == "--bench") { 100 } else { 3 };
    run("node, 500 samples", (200, 500, scrapes), node);
    run("app, 18 samples", (5_000, 18, scrapes), app);
    run("all noise, 500", (100, 500, scrapes), |_| Kind::Noise);
    run("all constant, 500", (200, 500, scrapes), |_| Kind::Constant);
}
