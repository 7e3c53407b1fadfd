//! A host that refuses io_uring, and one that stops the whole process for a while.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::fleet::{Fleet, binary, metric, until, wall_ms};
use crate::support::http;
use crate::support::process::Scraper;

/// Makes `io_uring_setup` fail with EPERM in the process to be, as Docker's default profile does.
fn without_io_uring(command: &mut Command) {
    let code = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: two system calls, allowed between fork and exec, with a program that outlives them.
        let refused = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) != 0
        };
        if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure only makes system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

#[test]
fn without_io_uring_auto_runs_on_epoll_and_says_so_once() {
    let fleet = Fleet::new(20, 500);
    let mut scraper =
        Scraper::start_changed(&binary(), fleet.dir.path(), &["--engine=auto".to_owned()], without_io_uring);
    until("every target", || fleet.sightings().len() == fleet.targets);
    let output = scraper.output();
    let said: Vec<&str> = output.lines().filter(|l| l.contains("epoll")).collect();
    assert_eq!(said.len(), 1, "{output}");
    assert!(said[0].contains("engine=epoll") && said[0].contains("seccomp"), "{}", said[0]);
    let (_, metrics) = http::fetch(scraper.port, "/metrics", Duration::from_secs(5)).expect("the web answers");
    let info = metrics.lines().find(|l| l.starts_with("ringscrape_engine_info")).expect("the engine's metric");
    assert!(info.contains("engine=\"epoll\"") && info.contains("seccomp"), "{info}");
    assert!(scraper.alive());
    println!("{}", said[0]);
}

#[test]
fn without_io_uring_uring_refuses_with_the_remedy() {
    let fleet = Fleet::new(1, 500);
    let mut scraper =
        Scraper::start_changed(&binary(), fleet.dir.path(), &["--engine=uring".to_owned()], without_io_uring);
    assert!(!scraper.ended());
    let output = scraper.output();
    assert!(output.contains("seccomp") && output.contains("--engine=auto"), "{output}");
}

/// Longer than any pause that is made up for; `RINGSCRAPE_PAUSE_SECONDS` for another one.
fn pause() -> Duration {
    let seconds = std::env::var("RINGSCRAPE_PAUSE_SECONDS").ok().and_then(|n| n.parse().ok());
    Duration::from_secs(seconds.unwrap_or(11))
}

#[test]
fn after_a_pause_each_target_is_due_once_on_its_phase() {
    let fleet = Fleet::new(200, 2000);
    let mut scraper = fleet.scraped(&[]);
    thread::sleep(Duration::from_secs(4));
    scraper.signal("STOP");
    let stopped = wall_ms();
    thread::sleep(pause());
    scraper.signal("CONT");
    let (resumed, resumed_at) = (wall_ms(), Instant::now());
    thread::sleep(Duration::from_millis(6500));
    // What is due while the process is still waking up belongs to the pause.
    let after = (resumed + 100, resumed + 6100);
    fleet.until_all_arrived(Instant::now());
    let punctuality = fleet.punctuality(after);
    println!("after the pause: {punctuality}");
    assert!(punctuality.faults.is_empty(), "{:#?}", &punctuality.faults[..punctuality.faults.len().min(20)]);
    assert!(punctuality.late_ms.len() >= fleet.targets * 2);
    // No burst: what is asked in any 200 ms after it is about a tenth of the targets.
    let mut at: Vec<Duration> =
        fleet.server.counted().iter().filter_map(|c| c.at.checked_duration_since(resumed_at)).collect();
    at.sort_unstable();
    let window = Duration::from_millis(200);
    let busiest = (0..at.len()).map(|i| at[i..].iter().take_while(|t| **t < at[i] + window).count()).max();
    println!("at most {busiest:?} of {} targets asked within {window:?}", fleet.targets);
    assert!(busiest.is_some_and(|n| n < fleet.targets / 4), "a burst of {busiest:?}");
    let given_up = metric(&scraper, "ringscrape_scrapes_missed_total");
    let due = fleet.targets as f64 * (resumed - stopped) as f64 / 2000.0;
    assert!(
        (given_up - due).abs() < fleet.targets as f64,
        "{given_up} starts are counted as missed, {due} fell into it"
    );
    assert!(scraper.alive(), "{}", scraper.last_words());
}
