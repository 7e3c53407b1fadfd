//! Every rule is shown a pair that keeps it and planted pairs that do not.

use std::collections::BTreeSet;

use super::*;

const SLOTS: i64 = 12;
const STOPPED_MS: i64 = 15_000;

fn series(name: &str) -> Labels {
    Labels::from([("__name__".to_owned(), name.to_owned())])
}

/// A side of 16 scrapes of 20 ms from `phase` on; the value of every exposed series in a scrape.
fn stored(phase: i64, exposed: &[(&str, &dyn Fn(i64) -> Option<f64>)]) -> Stored {
    let mut stored = Stored::new();
    for n in 0..16 {
        let time = phase + n * INTERVAL_MS;
        let mut count = 0;
        for (name, value) in exposed {
            let samples = stored.entry(series(name)).or_default();
            match value(n) {
                Some(value) => {
                    samples.insert(time, value.to_bits());
                    count += 1;
                }
                None if samples.last_key_value().is_some_and(|(_, bits)| *bits != STALE) => {
                    samples.insert(time, STALE);
                }
                None => {}
            }
        }
        let reports = [
            ("up", 1.0),
            ("scrape_duration_seconds", 0.02),
            ("scrape_samples_scraped", f64::from(count)),
            ("scrape_samples_post_metric_relabeling", f64::from(count)),
        ];
        for (name, value) in reports {
            stored.entry(series(name)).or_default().insert(time, value.to_bits());
        }
    }
    stored
}

fn steady(_: i64) -> Option<f64> {
    Some(1.0)
}

/// A counter that rises by 10 each scrape, read in the middle of two by a second scraper.
fn rising(n: i64) -> Option<f64> {
    Some(n as f64 * 10.0)
}

/// The same with other bits, or nothing, at one time of one series.
fn edited(stored: &Stored, name: &str, time: i64, bits: Option<u64>) -> Stored {
    let mut stored = stored.clone();
    let samples = stored.entry(series(name)).or_default();
    match bits {
        Some(bits) => samples.insert(time, bits),
        None => samples.remove(&time),
    };
    stored
}

fn side(who: &'static str, stored: &Stored) -> Side {
    Side::new(who, stored)
}

fn judged(reference: &Side, ours: &Side) -> (Figures, Vec<String>) {
    let (slots, mut faults) = slots(reference, ours, STOPPED_MS);
    let mut figures = Figures::default();
    faults.extend(presence(reference, ours, &slots, &mut figures));
    faults.extend(counters(reference, ours, &slots, &BTreeSet::from(["c".to_owned()]), &mut figures));
    faults.extend(constants(reference, ours, |name| name == "k", &mut figures));
    (figures, faults)
}

fn assert_found(faults: &[String], matter: &str) {
    assert!(faults.iter().any(|f| f.contains(matter)), "{matter} is not among {faults:#?}");
}

#[test]
fn equal_sides_have_no_faults() {
    let later = |n: i64| Some(n as f64 * 10.0 + 4.0);
    let comes = |n: i64| (n >= 6).then_some(1.0);
    let comes_later = |n: i64| (n >= 5).then_some(1.0);
    let stock = side("stock", &stored(100, &[("s", &steady), ("c", &rising), ("p", &comes), ("k", &steady)]));
    let ours = side("ours", &stored(500, &[("s", &steady), ("c", &later), ("p", &comes_later), ("k", &steady)]));
    assert_eq!((stock.faults(), ours.faults()), (vec![], vec![]));
    let (figures, faults) = judged(&stock, &ours);
    assert_eq!(faults, Vec::<String>::new());
    let slots = usize::try_from(SLOTS).expect("few");
    assert_eq!((figures.steady, figures.passing, figures.counted, figures.constants), (3, 1, slots, 1), "{figures:?}");
    assert_eq!(figures.values.1, figures.values.0 + 1, "one came between two scrapes");
}

#[test]
fn faults_within_a_side_are_found() {
    let gone = |n: i64| (n != 7).then_some(1.0);
    let whole = stored(100, &[("s", &steady), ("g", &gone)]);
    assert_eq!(side("ours", &whole).faults(), Vec::<String>::new());
    for (name, time, bits, matter) in [
        ("g", 7_100, None, "has no marker at 7100"),
        ("g", 8_100, Some(STALE), "has a marker at 8100"),
        ("s", 3_100, Some(STALE), "1 samples at 3100, but it says [2.0, 2.0]"),
        ("s", 3_100, None, "has no marker at 3100"),
        ("s", 3_101, Some(1), "at 3101, where no scrape is"),
        ("scrape_samples_scraped", 3_100, None, "scrape_samples_scraped has not exactly one value"),
        ("up", 3_100, Some(0), "2 samples at 3100, but it says [2.0, 2.0]"),
    ] {
        assert_found(&side("ours", &edited(&whole, name, time, bits)).faults(), matter);
    }
}

#[test]
fn a_slot_wants_one_good_scrape_of_each() {
    let (stock, whole) = (side("stock", &stored(900, &[("s", &steady)])), stored(100, &[("s", &steady)]));
    let (pairs, faults) = slots(&stock, &side("ours", &whole), STOPPED_MS);
    assert_eq!((pairs.len(), faults), (11, vec![]));
    // The phases are 900 and 100, so the cuts are at 500: none, two, a failed one.
    for (time, up) in [(7_100, None), (7_499, Some(1f64.to_bits())), (7_100, Some(0))] {
        let (_, faults) = slots(&stock, &side("ours", &edited(&whole, "up", time, up)), STOPPED_MS);
        assert_found(&faults, "slot from 6500: not one good scrape each");
    }
}

#[test]
fn faults_between_the_sides_are_found() {
    let stock = side("stock", &stored(100, &[("s", &steady), ("c", &rising)]));
    let against =
        |exposed: &[(&str, &dyn Fn(i64) -> Option<f64>)]| judged(&stock, &side("ours", &stored(500, exposed)));
    let gap = |n: i64| (n != 7).then_some(1.0);
    let (_, faults) = against(&[("s", &gap), ("c", &rising)]);
    assert_found(&faults, "is missing at 7500, stock has it around");
    let (_, faults) = against(&[("c", &rising)]);
    assert_found(&faults, "on one side only, and its family too");
    let twice = |n: i64| (n == 7 || n == 8).then_some(1.0);
    let (_, faults) = against(&[("s", &steady), ("c", &rising), ("s2", &twice)]);
    assert_found(&faults, "stock: {\"__name__\": \"s2\"} is missing at 8100, ours has it around");
    for (off, is_found) in [(-1.0, true), (0.0, false), (10.0, false), (11.0, true)] {
        let counter = move |n: i64| Some(n as f64 * 10.0 + if n == 7 { off } else { 5.0 });
        let (_, faults) = against(&[("s", &steady), ("c", &counter)]);
        assert_eq!(!faults.is_empty(), is_found, "{off}: {faults:?}");
    }
    let stock = side("stock", &stored(100, &[("k", &steady)]));
    let (_, faults) = judged(&stock, &side("ours", &stored(500, &[("k", &|_| Some(2.0))])));
    assert_found(&faults, "has [[1.0], [2.0]]");
}

#[test]
fn a_glimpse_is_no_fault_where_the_family_is_known() {
    let stock = side("stock", &stored(100, &[("s", &steady)]));
    let mut with_glimpse = stored(500, &[("s", &steady)]);
    let mut labels = series("s");
    labels.insert("a".to_owned(), "b".to_owned());
    with_glimpse.insert(labels, Samples::from([(7_500, 1), (8_500, STALE)]));
    let (figures, faults) = judged(&stock, &side("ours", &with_glimpse));
    assert_eq!((figures.glimpsed.len(), faults), (1, vec![]));
}

#[test]
fn overlapping_scrapes_are_not_compared() {
    // The second begins before the first has ended: which of the two was answered first nobody knows.
    let stock = side("stock", &stored(100, &[("s", &steady)]));
    let scrape = Scrape { begin_ms: 5_110, end_ms: 5_140, good: true };
    assert_eq!(stock.around(&scrape).map(|s| s.map(|s| s.begin_ms)), Some([4_100, 6_100]));
    let scrape = Scrape { begin_ms: 5_130, end_ms: 5_160, good: true };
    assert_eq!(stock.around(&scrape).map(|s| s.map(|s| s.begin_ms)), Some([5_100, 6_100]));
}

#[test]
fn stores_are_compared_sample_by_sample() {
    let want = stored(100, &[("s", &steady)]);
    assert_eq!(differences(&want, &want, same_bits), Vec::<String>::new());
    for (name, time, bits, matter) in [
        ("s", 5_100, None, "at 5100: wanted Some(1.0), got None"),
        ("s", 5_101, Some(0), "at 5101: wanted None, got Some(0.0)"),
        ("s", 5_100, Some(1f64.to_bits() + 1), "at 5100: wanted Some(1.0), got Some(1.0000000000000002)"),
        ("t", 5_100, Some(0), "is there, unwanted"),
    ] {
        assert_found(&differences(&want, &edited(&want, name, time, bits), same_bits), matter);
    }
    assert_found(&differences(&edited(&want, "t", 5_100, Some(0)), &want, same_bits), "is missing");
}

#[test]
fn decimals_are_exact_as_far_as_they_reach() {
    let same = |want: f64, got: f64, largest: f64| same_decimal(want.to_bits(), got.to_bits(), largest);
    assert!(same(4.0, 4.0, 4.0) && !same(4.0, 4.000000000000002, 4.0) && !same(0.0, f64::MIN_POSITIVE, 4.0));
    assert!(same(24145457655.0, 24145457655.000004, 3e10) && !same(24145457655.0, 24145457655.00001, 3e10));
    assert!(same(0.1, 0.1 + 5e-14, 1.0) && !same(0.1, 0.1 + 5e-13, 1.0));
    assert!(same(1.8446744073709552e19, 1.844674407370955e19, 1.9e19));
    assert!(same(f64::from_bits(STALE), f64::NAN, 0.0) && !same(f64::NAN, 0.0, 0.0) && !same(0.0, f64::NAN, 0.0));
    assert!(same(f64::INFINITY, f64::INFINITY, 0.0) && !same(f64::INFINITY, 1e308, 0.0));
}
