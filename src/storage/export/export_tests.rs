//! OpenMetrics text of small journals, against what was written.

use super::{Exported, Options, Selector, open_metrics};
use crate::base::time::Now;
use crate::model::{ABSENT, Shape};
use crate::storage::inspect::inspect;
use crate::storage::journal::testing::schema_of;
use crate::storage::journal::{Column, Disk, Options as DiskOptions, Row, SegmentState, Slots};
use std::path::Path;
use std::rc::Rc;

/// Two targets of shard 0, one of shard 1; counters, an absent slot, an explicit time, markers, odd names.
fn write_journal(journal: &Path) {
    let shape = Rc::new(Shape::new(vec![
        schema_of(&[
            &[("__name__", "b_total"), ("instance", "$0"), ("q", "a\"b\\c\nd")],
            &[("__name__", "a"), ("instance", "$0"), ("zone", "$1")],
        ]),
        schema_of(&[&[("__name__", "my.metric"), ("la.bel", "x")], &[("no_name", "x")]]),
    ]));
    let (disk, ends) = Disk::spawn(DiskOptions::new(journal.to_owned(), 2, 5)).expect("disk");
    for ((mut writer, mut feed), hosts) in ends.into_iter().zip([&["h1", "h2"][..], &["h3"]]) {
        for host in hosts {
            let mut column = Column::default();
            let variables = [*host, ""];
            for i in 0..3i64 {
                let values = [i as f64, if i == 1 { ABSENT } else { 0.1 * i as f64 }, f64::INFINITY, 1e300];
                let times: &[(u32, i64)] = if i == 2 { &[(0, 5)] } else { &[] };
                let row = Row { shape: &shape, time_ms: 1000 * i + 1, values: &values, times };
                writer.scrape(&mut column, variables.into_iter(), &row);
            }
            writer.stale(&mut column, variables.into_iter(), (&shape, 4000), Slots::Some(&[1]));
        }
        feed.finish(&mut writer, Now::read());
    }
    assert!(disk.stop());
}

fn export(journal: &Path, change: impl FnOnce(&mut Options)) -> (String, Exported) {
    let scratch = tempfile::tempdir().expect("tempdir");
    let mut options = Options::new(scratch.path().to_owned());
    change(&mut options);
    let mut text = vec![];
    let exported = open_metrics(journal, &options, &mut text).expect("export");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("scratch").count(), 0, "no file of the sort is left");
    (String::from_utf8(text).expect("text"), exported)
}

#[test]
fn the_text_is_grouped_by_family_and_series_and_sorted_by_time() {
    let tmp = tempfile::tempdir().expect("tempdir");
    write_journal(tmp.path());
    let a = |h: &str| {
        format!("a{{instance=\"{h}\"}} 0 0.001\na{{instance=\"{h}\"}} 0.2 2.001\na{{instance=\"{h}\"}} NaN 4\n")
    };
    let b = |h: &str| {
        let s = format!("b_total{{instance=\"{h}\",q=\"a\\\"b\\\\c\\nd\"}}");
        format!("{s} 0 0.001\n{s} 2 0.005\n{s} 1 1.001\n")
    };
    // One series for all targets: it has no label of theirs. Of equal times the first stays.
    let odd = "{\"my.metric\",\"la.bel\"=\"x\"}";
    let m = format!("{odd} +Inf 0.001\n{odd} +Inf 1.001\n{odd} +Inf 2.001\n");
    let want = format!(
        "# TYPE a unknown\n{}{}{}# TYPE b_total unknown\n{}{}{}# TYPE \"my.metric\" unknown\n{m}# EOF\n",
        a("h1"),
        a("h2"),
        a("h3"),
        b("h1"),
        b("h2"),
        b("h3")
    );
    let (text, exported) = export(tmp.path(), |_| {});
    assert_eq!(text, want);
    assert_eq!((exported.series, exported.samples, exported.damage.len()), (7, 21, 0));
    // The same with every sample spilled, and merges of merges.
    assert_eq!(export(tmp.path(), |o| o.buffer_bytes = 1).0, want);
}

#[test]
fn selectors_and_times_choose() {
    let tmp = tempfile::tempdir().expect("tempdir");
    write_journal(tmp.path());
    let (text, _) = export(tmp.path(), |o| {
        o.selectors = vec![Selector::parse("a{instance=~\"h[12]\",instance!=\"h2\"}").expect("selector")];
        o.from_ms = 2000;
        o.until_ms = 4000;
    });
    assert_eq!(text, "# TYPE a unknown\na{instance=\"h1\"} 0.2 2.001\n# EOF\n");
    let (text, exported) = export(tmp.path(), |o| o.selectors = vec![Selector::parse("nothing").expect("selector")]);
    assert_eq!((text.as_str(), exported), ("# EOF\n", Exported::default()));
}

#[test]
fn damage_is_reported_and_the_rest_exported_and_inspected() {
    let tmp = tempfile::tempdir().expect("tempdir");
    write_journal(tmp.path());
    let whole = inspect(tmp.path()).expect("inspect");
    let one = &whole.segments[&(0, 1)];
    assert_eq!((one.scrapes, one.stales, one.samples, one.targets, one.series, one.schemas), (6, 2, 24, 2, 8, 2));
    assert_eq!((one.state, one.times_ms), (Some(SegmentState::Sealed), Some((1, 4000))));
    assert_eq!(one.dictionary_bytes + one.sample_bytes + 64 + 2 * 20, one.bytes, "every byte is accounted for");
    assert!(whole.to_string().lines().count() == 3);

    let path = tmp.path().join("0").join("000001.seg");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).expect("write");
    let (text, exported) = export(tmp.path(), |_| {});
    assert!(text.contains("h3") && !text.contains("h1") && text.ends_with("# EOF\n"));
    assert_eq!(exported.damage.len(), 1, "{:?}", exported.damage);
    let report = inspect(tmp.path()).expect("inspect");
    assert_eq!(report.segments[&(0, 1)].damage.len(), 1);
    assert_eq!(report.segments[&(1, 1)], whole.segments[&(1, 1)]);
}
