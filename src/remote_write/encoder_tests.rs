//! The encoder against its naive twin: whatever road an event takes, its samples arrive as they are.

use std::sync::Arc;

use proptest::prelude::*;

use super::encoder::{Encoded, Encoder};
use super::rewrite::Rewrite;
use super::test_wire::{Flat, samples};
use crate::config::{NameValidation, RelabelAction, RelabelConfig};
use crate::encoding::snappy::put_header;
use crate::model::{ABSENT, LabelValue, Labels, LabelsBuilder, STALE_NAN, is_absent};
use crate::relabel::{Rules, Verdict};
use crate::storage::journal::{Event, ReadSchema, ReadShape, ReadTarget, Samples};

const NOW_MS: i64 = 1_795_000_000_000;
const TEMPLATE_BYTES: usize = 1 << 20;

fn target(variables: &[&str]) -> ReadTarget {
    ReadTarget { key: 1, variables: variables.iter().collect(), fingerprint: 1 }
}

/// A schema from `name=text` and `name=$n` pairs.
fn schema(series: &[Vec<(&str, &str)>]) -> Arc<ReadSchema> {
    let value = |v| match str::strip_prefix(v, "$") {
        Some(n) => LabelValue::Var(n.parse().expect("a number")),
        None => LabelValue::Text(v),
    };
    let series: Vec<Vec<_>> = series.iter().map(|s| s.iter().map(|(n, v)| (*n, value(v))).collect()).collect();
    Arc::new(ReadSchema::new(series.iter().map(Vec::as_slice)))
}

/// So many targets have shown it.
fn shape(targets: usize, schemas: Vec<Arc<ReadSchema>>) -> Arc<ReadShape> {
    let shape = ReadShape::new(3, schemas);
    (0..targets).for_each(|_| shape.join());
    Arc::new(shape)
}

/// The naive twin, for destinations without rules.
fn expected(event: &Event<'_>, external: &[(&str, &str)]) -> Vec<Flat> {
    expected_after(event, external, &Rules::default())
}

/// The naive twin: every variable replaced by its text, then every rule applied to every series.
fn expected_after(event: &Event<'_>, external: &[(&str, &str)], rules: &Rules) -> Vec<Flat> {
    let mut flat = Vec::new();
    event.shape.for_each(|slot, labels| {
        let (value, time) = match &event.samples {
            Samples::Values { values, times } => {
                let time = times.iter().find(|t| t.0 as usize == slot).map_or(event.time_ms, |t| t.1);
                (values[slot], time)
            }
            Samples::Stale { slots } if slots.contains(&(slot as u32)) => (STALE_NAN, event.time_ms),
            Samples::Stale { .. } => return,
        };
        if is_absent(value) {
            return;
        }
        let mut map: std::collections::BTreeMap<String, String> =
            external.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        for (n, v) in labels.iter() {
            let v = event.target.text(v);
            if !v.is_empty() {
                map.insert(n.to_string(), v.to_owned());
            }
        }
        let mut builder = LabelsBuilder::new(&Labels::from_pairs(map));
        if rules.apply(&mut builder) == Verdict::Keep && !builder.is_empty() {
            let labels = builder.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            flat.push((labels, value.to_bits(), time));
        }
    });
    flat.sort();
    flat
}

/// Encodes one event as a request of its own and decodes it.
fn sent(encoder: &mut Encoder, event: &Event<'_>) -> (Encoded, Vec<Flat>) {
    let mut piece = Vec::new();
    let encoded = encoder.append(0, event, &mut piece);
    let mut body = Vec::new();
    put_header(&mut body, encoded.raw_bytes);
    body.extend_from_slice(&piece);
    let mut flat = samples(&body);
    flat.sort();
    assert_eq!(flat.len(), encoded.samples);
    (encoded, flat)
}

fn encoder(external: &[(&str, &str)], rules: &[RelabelConfig], template_bytes: usize) -> Encoder {
    let external = Labels::from_pairs(external.iter().copied());
    Encoder::new(Rewrite::new(&external, rules).expect("valid rules"), template_bytes)
}

/// A text, or `$n` for a variable.
fn label_value() -> impl Strategy<Value = String> {
    prop_oneof![2 => "[a-c]{1,12}", 1 => (0u16..3).prop_map(|n| format!("${n}"))]
}

fn schemas() -> impl Strategy<Value = Vec<Arc<ReadSchema>>> {
    let labels = prop::collection::btree_map("[a-e]{1,2}", label_value(), 1..6);
    let series = prop::collection::vec(labels, 1..8);
    prop::collection::vec(series, 1..4).prop_map(|all| {
        let one = |series: &Vec<std::collections::BTreeMap<String, String>>| {
            let views: Vec<Vec<(&str, &str)>> =
                series.iter().map(|s| s.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()).collect();
            schema(&views)
        };
        all.iter().map(one).collect()
    })
}

#[derive(Clone, Debug)]
struct Step {
    variables: Vec<String>,
    time_ms: i64,
    values: Vec<f64>,
    times: bool,
    stale: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![8 => any::<f64>(), 1 => Just(ABSENT), 4 => Just(1.0)];
    let time = prop_oneof![20 => NOW_MS..NOW_MS + 100_000, 1 => -5i64..5, 1 => (1i64 << 35) - 2..(1 << 35) + 2];
    // Mostly without absent values, so that the patched road is taken.
    let values = prop_oneof![
        1 => prop::collection::vec(value, 32),
        4 => prop::collection::vec(any::<f64>().prop_filter("a present value", |v| !is_absent(*v)), 32)
    ];
    (prop::collection::vec("[a-c]{0,2}", 3), time, values, prop::bool::weighted(0.1), prop::bool::weighted(0.1))
        .prop_map(|(variables, time_ms, values, times, stale)| Step { variables, time_ms, values, times, stale })
}

fn rule() -> impl Strategy<Value = RelabelConfig> {
    use RelabelAction as A;
    let make = |action, source: &[&str], regex: &str, target: &str, replacement: &str| RelabelConfig {
        source_labels: source.iter().map(|s| (*s).to_owned()).collect(),
        separator: ";".into(),
        regex: regex.into(),
        modulus: if action == A::HashMod { 3 } else { 0 },
        target_label: target.into(),
        replacement: replacement.into(),
        action,
        name_validation: NameValidation::Utf8,
    };
    prop::sample::select(vec![
        make(A::Drop, &["a"], "a+", "", "$1"),
        make(A::Keep, &["b"], "|.*b.*", "", "$1"),
        make(A::Replace, &["a", "b"], "(.*);(.*)", "c", "$2-$1"),
        make(A::Replace, &["c"], "b(.*)", "a", "$1"),
        make(A::Replace, &[], "(.*)", "d", "fixed"),
        make(A::Replace, &["e"], "(.+)", "dd", "$1"),
        make(A::LabelMap, &[], "([ab])", "", "e$1"),
        make(A::LabelMap, &[], "c(.*)", "", "a$1"),
        make(A::LabelDrop, &[], "b|cc", "", "$1"),
        make(A::LabelKeep, &[], "a.?|d.?|e", "", "$1"),
        make(A::HashMod, &["d"], "(.*)", "h", "$1"),
        make(A::Lowercase, &["ee"], "(.*)", "ee", "$1"),
        make(A::Uppercase, &["c"], "(.*)", "c", "$1"),
        make(A::DropEqual, &["a"], "(.*)", "b", "$1"),
        make(A::KeepEqual, &["cc"], "(.*)", "dd", "$1"),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rules_see_what_they_would_see_without_sharing(
        schemas in schemas(),
        rules in prop::collection::vec(rule(), 1..4),
        targets in prop::collection::vec(prop::collection::vec("[ab]{0,2}", 3), 1..8),
        external in prop_oneof![Just(vec![]), Just(vec![("a", "ext"), ("cluster", "x")])],
    ) {
        let shape = shape(8, schemas);
        let mut encoder = encoder(&external, &rules, TEMPLATE_BYTES);
        let rules = Rules::compile(&rules).expect("valid rules");
        let values: Vec<f64> = (0..shape.series_count).map(|s| s as f64 + 0.5).collect();
        for turn in 0..5 {
            for variables in &targets {
                let target = target(&variables.iter().map(String::as_str).collect::<Vec<_>>());
                let samples = Samples::Values { values: &values, times: &[] };
                let event = Event { target: &target, shape: &shape, time_ms: NOW_MS + turn, samples };
                let (encoded, flat) = sent(&mut encoder, &event);
                prop_assert_eq!(&flat, &expected_after(&event, &external, &rules));
                prop_assert_eq!(encoded.dropped + flat.len(), shape.series_count);
            }
        }
    }

}

proptest! {
    #[test]
    fn every_road_gives_the_same_samples(
        schemas in schemas(),
        steps in prop::collection::vec(step(), 1..60),
        template_bytes in prop_oneof![Just(TEMPLATE_BYTES), Just(4000usize), Just(0)],
        sharers in 1usize..3,
        external in prop_oneof![Just(vec![]), Just(vec![("a", "ext"), ("cluster", "x")])],
        before_ms in prop_oneof![Just(i64::MIN), Just(NOW_MS - 5)],
    ) {
        let shape = shape(sharers, schemas);
        let mut encoder = encoder(&external, &[], template_bytes);
        encoder.leave_out(before_ms);
        for step in &steps {
            let target = target(&step.variables.iter().map(String::as_str).collect::<Vec<_>>());
            let values = &step.values[..shape.series_count];
            let slots: Vec<u32> = (0..shape.series_count as u32).filter(|s| s % 3 != 1).collect();
            let times: Vec<(u32, i64)> =
                slots.iter().filter(|_| step.times).map(|s| (*s, NOW_MS - i64::from(*s))).collect();
            let samples =
                if step.stale { Samples::Stale { slots: &slots } } else { Samples::Values { values, times: &times } };
            let event = Event { target: &target, shape: &shape, time_ms: step.time_ms, samples };
            let mut all = expected(&event, &external);
            let (encoded, sent) = sent(&mut encoder, &event);
            let all_count = all.len();
            // Times of a scrape are never left out, whatever they are.
            all.retain(|flat| flat.2 > before_ms || flat.2 == step.time_ms);
            prop_assert!(encoded.old >= all_count - all.len(), "series without labels count too");
            prop_assert_eq!(sent, all);
            prop_assert!(encoder.template_bytes() <= template_bytes + 64 * 1024);
        }
    }
}

#[test]
fn the_third_scrape_is_patched_for_every_target_of_equal_lengths() {
    let series: Vec<[(String, String); 3]> = (0..40)
        .map(|i| [("__name__".into(), format!("m{i}")), ("instance".into(), "$0".into()), ("job".into(), "$1".into())])
        .collect();
    let series: Vec<Vec<(&str, &str)>> =
        series.iter().map(|s| s.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()).collect();
    let shape = shape(10, vec![schema(&series)]);
    let mut encoder = encoder(&[], &[], TEMPLATE_BYTES);
    let mut sizes = Vec::new();
    for i in 0..9 {
        let instance = format!("10.0.0.{i}:9100");
        let target = target(&[&instance, "node"]);
        let values: Vec<f64> = (0..40).map(|s| f64::from(s * 1000 + i) * 1.7).collect();
        let samples = Samples::Values { values: &values, times: &[] };
        let event = Event { target: &target, shape: &shape, time_ms: NOW_MS + i64::from(i), samples };
        let mut piece = Vec::new();
        encoder.append(0, &event, &mut piece);
        sizes.push(piece.len());
        assert_eq!(sent(&mut encoder, &event).1, expected(&event, &[]));
    }
    // Two uses each turn: from the second turn on the piece is the fragment's, whatever the target and the values.
    assert!(sizes[2..].iter().all(|s| *s == sizes[2]), "{sizes:?}");
    assert!(sizes[2] / 40 < 24, "bytes a sample: {}", sizes[2] / 40);
}

#[test]
fn lengths_past_the_cap_are_compressed_afresh_and_still_right() {
    let series = ["up", "x"].map(|name| vec![("__name__", name), ("pod", "$0")]);
    let shape = shape(9, vec![schema(&series)]);
    let mut encoder = encoder(&[("cluster", "c")], &[], TEMPLATE_BYTES);
    for turn in 0..4 {
        for len in 1..100 {
            let pod = "p".repeat(len);
            let target = target(&[&pod]);
            let values = [f64::from(turn), len as f64];
            let samples = Samples::Values { values: &values, times: &[] };
            let event = Event { target: &target, shape: &shape, time_ms: NOW_MS, samples };
            assert_eq!(sent(&mut encoder, &event).1, expected(&event, &[("cluster", "c")]));
        }
    }
}

#[test]
fn a_shape_of_several_schemas_is_one_piece_once_it_is_shared() {
    let schemas = |n: usize| -> Vec<Arc<ReadSchema>> {
        let texts: Vec<String> = (0..32 * n).map(|i| format!("node_filesystem_{i}_bytes")).collect();
        let series: Vec<_> = texts.iter().map(|t| vec![("__name__", t.as_str()), ("instance", "$0")]).collect();
        series.chunks(32).map(schema).collect()
    };
    let shape = shape(2, schemas(8));
    let mut encoder = encoder(&[("cluster", "c")], &[], TEMPLATE_BYTES);
    let mut sizes = Vec::new();
    for i in 0..24u32 {
        let target = target(&[&format!("10.0.0.{}:9100", i % 10)]);
        // An absent slot now and then takes the road of single schemas, and no value is left behind from it.
        let values: Vec<f64> = (0..256).map(|s| if i == 20 && s == 70 { ABSENT } else { f64::from(s * i) }).collect();
        let samples = Samples::Values { values: &values, times: &[] };
        let event = Event { target: &target, shape: &shape, time_ms: NOW_MS + i64::from(i), samples };
        let mut piece = Vec::new();
        encoder.append(0, &event, &mut piece);
        sizes.push(piece.len());
        assert_eq!(sent(&mut encoder, &event).1, expected(&event, &[("cluster", "c")]));
    }
    assert!(sizes[23] * 10 < sizes[3] * 9, "joining the schemas saves bytes: {sizes:?}");
}
