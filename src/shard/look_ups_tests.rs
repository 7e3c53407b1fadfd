//! Tests of [`LookUps`] on made-up time.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn asker(token: u32, deadline_mono_ns: u64) -> Asker {
    Asker { token, port: 80, deadline_mono_ns, mailer: Mailer::new(|_| Ok(())) }
}

fn waits(look_ups: &mut LookUps, name: &str, mono_ns: u64) {
    let asked = look_ups.ask(name, asker(0, mono_ns + 10 * SECOND), mono_ns);
    assert!(matches!(asked, Asked::Waiting), "{name}: {asked:?}");
}

fn begun(look_ups: &mut LookUps, mono_ns: u64) -> Option<Arc<str>> {
    loop {
        match look_ups.next(mono_ns) {
            Next::LookUp(name) => return Some(name),
            Next::Again => {}
            Next::Rest(_) => return None,
        }
    }
}

/// Begins whatever can begin.
fn all_begun(look_ups: &mut LookUps, mono_ns: u64) -> Vec<Arc<str>> {
    std::iter::from_fn(|| begun(look_ups, mono_ns)).collect()
}

fn good() -> Result<Vec<SocketAddr>, String> {
    Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([127, 0, 0, 2], 0))])
}

fn tokens(askers: &[Asker]) -> Vec<u32> {
    askers.iter().map(|a| a.token).collect()
}

fn is_known(look_ups: &mut LookUps, name: &str, mono_ns: u64) -> bool {
    matches!(look_ups.ask(name, asker(0, mono_ns + SECOND), mono_ns), Asked::Known(_))
}

/// Nothing waits, nothing runs, and the counts say so.
fn assert_idle(look_ups: &LookUps) {
    assert!(look_ups.pending.is_empty() && look_ups.running.is_empty(), "{look_ups:?}");
    assert!(look_ups.queues.iter().all(VecDeque::is_empty), "{look_ups:?}");
    assert_eq!(look_ups.waiting, [0, 0, 0]);
}

#[test]
fn one_look_up_serves_all_who_ask_and_those_of_the_next_half_minute() {
    let mut look_ups = LookUps::default();
    for token in 0..1_000 {
        assert!(matches!(look_ups.ask("a.b", asker(token, SECOND), 5), Asked::Waiting));
    }
    let name = begun(&mut look_ups, 6).unwrap();
    assert!(matches!(look_ups.ask("a.b", asker(1_000, SECOND), 7), Asked::Waiting), "while it runs, too");
    assert_eq!(begun(&mut look_ups, 8), None);
    let (found, askers) = look_ups.finish(&name, good(), 9);
    assert_eq!(tokens(&askers), (0..=1_000).collect::<Vec<_>>());
    assert_eq!(found.addresses(81), ["127.0.0.1:81".parse().unwrap(), "127.0.0.2:81".parse().unwrap()]);
    assert_idle(&look_ups);
    assert!(is_known(&mut look_ups, "a.b", 9 + TTL_NS - 1));
    assert!(!is_known(&mut look_ups, "a.b", 9 + TTL_NS));
}

#[test]
fn a_failure_serves_for_a_second() {
    let mut look_ups = LookUps::default();
    waits(&mut look_ups, "a.b", 0);
    let name = begun(&mut look_ups, 0).unwrap();
    let (found, _) = look_ups.finish(&name, Err("no such host".into()), 5);
    assert!(found.addresses(1).is_empty());
    let Asked::Known(known) = look_ups.ask("a.b", asker(1, SECOND), 4 + FAILED_NS) else { panic!("not known") };
    assert_eq!(known.result.unwrap_err(), "no such host".into());
    assert!(!is_known(&mut look_ups, "a.b", 5 + FAILED_NS));
}

#[test]
fn nothing_is_looked_up_for_those_whose_time_is_up() {
    let mut look_ups = LookUps::default();
    for i in 0..2 * PASSED_OVER_MAX {
        assert!(matches!(look_ups.ask(&format!("n{i}.late"), asker(0, 100), 5), Asked::Waiting));
    }
    assert!(matches!(look_ups.ask("both", asker(1, 100), 5), Asked::Waiting));
    assert!(matches!(look_ups.ask("both", asker(2, 101), 5), Asked::Waiting));
    assert!(matches!(look_ups.next(100), Next::Again), "others have the lock meanwhile");
    let name = begun(&mut look_ups, 100).unwrap();
    assert_eq!(&*name, "both");
    assert!(matches!(look_ups.ask("both", asker(3, 300), 102), Asked::Waiting));
    assert_eq!(tokens(&look_ups.finish(&name, good(), 200).1), [3], "nor answered, when it took too long");
    assert_idle(&look_ups);
}

#[test]
fn who_asks_again_and_again_is_not_kept_for_ever() {
    let mut look_ups = LookUps::default();
    waits(&mut look_ups, "hangs", 0);
    let name = begun(&mut look_ups, 0).unwrap();
    for i in 1..10_000 {
        let at = i * SECOND;
        assert!(matches!(look_ups.ask("hangs", asker(0, at + SECOND), at), Asked::Waiting));
    }
    assert!(look_ups.pending["hangs"].askers.len() < 10);
    look_ups.finish(&name, good(), 20_000 * SECOND);
    assert_idle(&look_ups);
}

#[test]
fn a_dead_zone_has_the_slow_lane_and_no_more() {
    let mut look_ups = LookUps::default();
    for i in 0..1_000 {
        waits(&mut look_ups, &format!("n{i}.dead.zone"), 0);
    }
    waits(&mut look_ups, "a.fine.zone", 0);
    let dead = all_begun(&mut look_ups, 0);
    assert_eq!(dead.len(), BUSY_MAX[1]);
    assert!(matches!(look_ups.next(1), Next::Rest(Some(SLOW_NS))), "somebody looks when they are slow");
    // Then all of the zone is, and makes room; the slow lane is full with those that hang.
    assert_eq!(all_begun(&mut look_ups, SLOW_NS), ["a.fine.zone".into()]);
    look_ups.finish(&"a.fine.zone".into(), good(), SLOW_NS + 1);
    waits(&mut look_ups, "new.dead.zone", SLOW_NS + 2);
    waits(&mut look_ups, "new.fine.zone", SLOW_NS + 2);
    assert_eq!(all_begun(&mut look_ups, SLOW_NS + 2), ["new.fine.zone".into()]);
    look_ups.finish(&"new.fine.zone".into(), good(), SLOW_NS + 3);
    for name in dead {
        look_ups.finish(&name, Err("no answer".into()), 5 * SECOND);
    }
    assert_eq!(all_begun(&mut look_ups, 5 * SECOND).len(), BUSY_MAX[2]);
    let hang: Vec<_> = look_ups.running.iter().map(|r| Arc::clone(&r.name)).collect();
    for name in hang {
        look_ups.finish(&name, Err("no answer".into()), 20 * SECOND);
    }
    assert_eq!(all_begun(&mut look_ups, 20 * SECOND).len(), 0, "the time of all others is up");
    assert_idle(&look_ups);
    let hung = (BUSY_MAX[1] + BUSY_MAX[2]) as u64;
    let expected = Tallies { ended: hung + 2, failed: hung, slow: hung, refused: 0, waiting: [0, 0, 0] };
    assert_eq!(look_ups.tallies(), expected);
}

#[test]
fn proven_names_have_threads_when_all_others_hang() {
    let mut look_ups = LookUps::default();
    waits(&mut look_ups, "a.fine.zone", 0);
    assert_eq!(all_begun(&mut look_ups, 0).len(), 1);
    look_ups.finish(&"a.fine.zone".into(), good(), 1);
    let mut hang = 0;
    for zone in 0..10 {
        let at = TTL_NS + zone * SLOW_NS;
        for i in 0..100 {
            waits(&mut look_ups, &format!("n{i}.dead{zone}"), at);
        }
        hang += all_begun(&mut look_ups, at).len();
    }
    assert_eq!(hang, RUNNING_MAX[1]);
    let at = TTL_NS + 10 * SLOW_NS;
    waits(&mut look_ups, "new.fine.zone", at);
    waits(&mut look_ups, "a.fine.zone", at);
    assert_eq!(all_begun(&mut look_ups, at), ["a.fine.zone".into()]);
}

#[test]
fn a_zone_that_answers_again_leaves_the_slow_lane() {
    let mut look_ups = LookUps::default();
    let mut look_up = |name: &str, at: u64, takes_ns: u64, result: Result<Vec<SocketAddr>, String>| {
        waits(&mut look_ups, name, at);
        let begun = begun(&mut look_ups, at).unwrap();
        look_ups.finish(&begun, result, at + takes_ns);
        ["x.zone", "n0.zone"].map(|name| look_ups.lane_of(name))
    };
    let bad = || Err("no answer".into());
    for i in 0..u64::from(SLOW_OF_ZONE) - 1 {
        let lanes = look_up(&format!("n{i}.zone"), i * 10 * SECOND, 5 * SECOND, bad());
        assert_eq!(lanes, [Lane::New, Lane::Slow]);
    }
    assert_eq!(look_up("n7.zone", 200 * SECOND, SLOW_NS, good()), [Lane::Slow, Lane::Slow]);
    assert_eq!(look_up("n8.zone", 250 * SECOND, 1, bad()), [Lane::Slow, Lane::Slow], "a failure proves nothing");
    assert_eq!(look_up("x.zone", 300 * SECOND, SLOW_NS - 1, good()), [Lane::Proven, Lane::Slow]);
    assert_eq!(look_up("n0.zone", 400 * SECOND, 1, bad()), [Lane::Proven, Lane::New]);
}

#[test]
fn a_full_lane_refuses_and_the_other_does_not() {
    let mut look_ups = LookUps::default();
    waits(&mut look_ups, "slow", 0);
    let name = begun(&mut look_ups, 0).unwrap();
    look_ups.next(SLOW_NS);
    look_ups.waiting[Lane::Slow as usize] += ASKERS_MAX - 1;
    assert!(matches!(look_ups.ask("slow", asker(1, 5 * SECOND), SLOW_NS), Asked::Full));
    waits(&mut look_ups, "fresh", SLOW_NS);
    look_ups.waiting[Lane::Slow as usize] -= ASKERS_MAX - 1;
    look_ups.finish(&name, good(), 2 * SECOND);
    look_ups.waiting[Lane::New as usize] += ASKERS_MAX - 1;
    assert!(matches!(look_ups.ask("another", asker(1, 5 * SECOND), SLOW_NS), Asked::Full));
    assert!(matches!(look_ups.ask("fresh", asker(1, 5 * SECOND), SLOW_NS), Asked::Full));
    assert_eq!(look_ups.tallies().refused, 3);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut recent = Recent::default();
    for i in 0..5 * REMEMBERED {
        recent.put(i.to_string().into(), i);
        assert!(recent.young.len() + recent.old.len() <= 2 * REMEMBERED);
    }
    for i in 4 * REMEMBERED..5 * REMEMBERED {
        assert_eq!(recent.find(&i.to_string()), Some(&i));
    }
    assert_eq!(recent.find("0"), None);
}
