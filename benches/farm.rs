//! The farm alone: CPU per answer and memory per connection, asked by the engine's own exchanges from another process.
//!
//! `cargo bench --bench farm -- [--targets N] [--rate N] [--secs N] [--link keep|fresh] [--samples N] [--vary NAME]
//! [--engine uring|epoll]`. Without arguments it prints a table. The farm is a process of its own, so its CPU time and memory are
//! the kernel's account of it; the connections' kernel memory is the growth of slab, both ends. Every answer's status and
//! length is checked. `--rate 0` means saturated with 256 in flight.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use ringscrape::base::{cpu, time::Now};
use ringscrape::engine::{Uring, UringOptions};
use ringscrape::farm::{Engine, FIRST, Farm, Population, Source, Spec, Vary};
use ringscrape::net::{Flow, Job, Link, Net, Outcome, ResponseHead, Sink};

const GRID_NS: u64 = 5_000_000;

#[derive(Clone, Copy)]
struct Load {
    targets: u32,
    rate: u64,
    secs: u64,
    link: Link,
    samples: u32,
    vary: Vary,
    engine: Engine,
}

/// The farm's process; killed when dropped.
struct Served {
    child: Child,
    port: u16,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn vary(name: &str) -> Vary {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).expect("a way to vary")
}

fn engine(name: &str) -> Engine {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).expect("an engine")
}

/// The other process: a farm until it is killed.
fn serve(words: &[String]) -> ! {
    let _ = ringscrape::app::descriptors::raise();
    cpu::pin(1);
    let number = |i: usize| words[i].parse().expect("a number");
    let mut population = Population::new("bench", number(0), Source::Samples(number(1)));
    population.vary = vary(&words[2]);
    let farm = Farm::spawn(Spec { engine: engine(&words[3]), ..Spec::new(vec![population]) }).expect("a farm");
    println!("{}", farm.port);
    loop {
        std::thread::park();
    }
}

fn start(load: Load) -> Served {
    let program = std::env::current_exe().expect("own path");
    let engine = if load.engine == Engine::Epoll { "epoll" } else { "uring" };
    let words = [load.targets.to_string(), load.samples.to_string(), load.vary.name().into(), engine.into()];
    let mut child =
        Command::new(program).arg("serve").args(words).stdout(Stdio::piped()).spawn().expect("the farm's process");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the farm's port");
    Served { child, port: line.trim().parse().expect("the farm's port") }
}

struct Client {
    port: u16,
    head: Vec<u8>,
    ended: Vec<u32>,
    bytes: u64,
    done: u64,
    latency_ns: u64,
    failed: u64,
}

impl Sink for Client {
    fn request(&mut self, token: u32, out: &mut Vec<u8>) {
        let _ = write!(out, "GET /metrics HTTP/1.1\r\nHost: {}:{}\r\n", Ipv4Addr::from(FIRST + token), self.port);
        out.extend_from_slice(&self.head);
    }
    fn head(&mut self, _: u32, head: &ResponseHead<'_>) -> Flow {
        assert_eq!(head.status, 200);
        Flow::More
    }
    fn bytes(&mut self, _: u32, chunk: &[u8]) -> Flow {
        self.bytes += chunk.len() as u64;
        Flow::More
    }
    fn end(&mut self, token: u32, outcome: Outcome) {
        if let Outcome::Done(phases) = outcome {
            self.done += 1;
            self.latency_ns += phases.last_byte - phases.started;
        } else {
            if self.failed == 0 {
                eprintln!("first failure: {outcome:?}");
            }
            self.failed += 1;
        }
        self.ended.push(token);
    }
}

/// User and system time of a process, ns.
fn cpu_ns(pid: u32) -> u64 {
    let (mut clock, mut t) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both calls only write to the variables above.
    unsafe {
        libc::clock_getcpuclockid(pid as i32, &raw mut clock);
        libc::clock_gettime(clock, &raw mut t);
    }
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// A figure of a file of /proc that counts in kB, in bytes.
fn kilobytes(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    line.unwrap_or(0) * 1024
}

#[derive(Clone, Copy)]
struct Mark {
    farm_ns: u64,
    own_ns: u64,
    done: u64,
    latency_ns: u64,
    at_ns: u64,
}

/// One sweep to open the connections, as fast as 20,000 a second, and a second more.
fn warm_ns(targets: u32) -> u64 {
    u64::from(targets) * 1_000_000_000 / 20_000 + 1_000_000_000
}

fn measure(load: Load) {
    let slab_before = kilobytes("/proc/meminfo", "Slab:");
    let farm = start(load);
    let (pid, status) = (farm.child.id(), format!("/proc/{}/status", farm.child.id()));
    let rss_before = kilobytes(&status, "VmRSS:");
    let mut net = Net::new(Uring::new(UringOptions::default()).expect("io_uring"));
    let close = if load.link == Link::Fresh { "Connection: close\r\n" } else { "" };
    let head =
        format!("User-Agent: bench\r\nAccept: text/plain;version=0.0.4;q=0.4,*/*;q=0.1\r\n{close}\r\n").into_bytes();
    let mut client = Client { port: farm.port, head, ended: Vec::new(), bytes: 0, done: 0, latency_ns: 0, failed: 0 };
    let mut busy = vec![false; load.targets as usize];
    let (mut now, mut next, mut skipped, mut owed) = (Now::read(), 0u32, 0u64, 0f64);
    let warm_until = now.mono_ns + warm_ns(load.targets);
    let (end, mut due) = (warm_until + load.secs * 1_000_000_000, now.mono_ns);
    let mut mark: Option<Mark> = None;
    let note = |client: &Client, at_ns| Mark {
        farm_ns: cpu_ns(pid),
        own_ns: cpu::thread_time_ns(),
        done: client.done,
        latency_ns: client.latency_ns,
        at_ns,
    };
    while now.mono_ns < end {
        if mark.is_none() && now.mono_ns >= warm_until {
            mark = Some(note(&client, now.mono_ns));
        }
        let rate = if mark.is_none() { 20_000 } else { load.rate };
        let mut starts = 0;
        if rate == 0 {
            starts = 256 - net.in_flight().min(256);
        } else if now.mono_ns >= due {
            owed += (rate * GRID_NS) as f64 / 1e9;
            starts = owed as usize;
            owed -= starts as f64;
            due += GRID_NS;
        }
        for _ in 0..starts {
            let token = next;
            next = (next + 1) % load.targets;
            if std::mem::replace(&mut busy[token as usize], true) {
                skipped += 1;
                continue;
            }
            let addr = SocketAddr::from((Ipv4Addr::from(FIRST + token), farm.port));
            net.start(Job::plain(token, addr, load.link, now.mono_ns + 10_000_000_000));
        }
        now = net.turn(now, Some(if rate == 0 { now.mono_ns + 1_000_000 } else { due }), &mut client);
        for token in client.ended.drain(..) {
            busy[token as usize] = false;
        }
    }
    let (then, after) = (mark.expect("the warm-up ended"), note(&client, now.mono_ns));
    let (count, targets) = ((after.done - then.done) as f64, f64::from(load.targets));
    let grown = |now: u64, before: u64| now.saturating_sub(before) as f64 / targets;
    println!(
        "{:<6} {:<5} {:<18} {:>5} samples {:>7} targets | {:>7.0}/s | farm {:>6.2} us client {:>6.2} us | mean {:>6.2} ms | farm RSS {:>5.0} B, slab {:>6.0} B a target | failed {} skipped {skipped}",
        if load.engine == Engine::Epoll { "epoll" } else { "rings" },
        if load.link == Link::Keep { "keep" } else { "fresh" },
        load.vary.name(),
        load.samples,
        load.targets,
        count * 1e9 / (after.at_ns - then.at_ns) as f64,
        (after.farm_ns - then.farm_ns) as f64 / 1e3 / count,
        (after.own_ns - then.own_ns) as f64 / 1e3 / count,
        (after.latency_ns - then.latency_ns) as f64 / 1e6 / count,
        grown(kilobytes(&status, "VmRSS:"), rss_before),
        grown(kilobytes("/proc/meminfo", "Slab:"), slab_before),
        client.failed,
    );
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if words.first().is_some_and(|w| w == "serve") {
        serve(&words[1..]);
    }
    let given: HashMap<&str, &str> =
        words.chunks(2).filter_map(|p| Some((p[0].strip_prefix("--")?, p.get(1)?.as_str()))).collect();
    let number = |key: &str, or: u64| given.get(key).map_or(or, |v| v.parse().expect("a number"));
    let _ = ringscrape::app::descriptors::raise();
    cpu::pin(0);
    let base = Load {
        targets: number("targets", 8_000) as u32,
        rate: number("rate", 10_000),
        secs: number("secs", 3),
        link: if given.get("link") == Some(&"fresh") { Link::Fresh } else { Link::Keep },
        samples: number("samples", 20) as u32,
        vary: given.get("vary").map_or(Vary::Identical, |v| vary(v)),
        engine: given.get("engine").map_or(Engine::Uring, |e| engine(e)),
    };
    if !given.keys().all(|k| *k == "secs") {
        return measure(base);
    }
    for engine in [Engine::Uring, Engine::Epoll] {
        for link in [Link::Keep, Link::Fresh] {
            measure(Load { engine, link, ..base });
            measure(Load { engine, link, rate: 0, ..base });
        }
        measure(Load { engine, vary: Vary::TargetLabel, ..base });
        measure(Load { engine, samples: 500, rate: 5_000, ..base });
        measure(Load { engine, samples: 500, rate: 5_000, vary: Vary::TargetLabel, ..base });
    }
}
