//! CPU per exchange of the engine against a loopback farm: paced and saturated, kept and fresh, ring and epoll.
//!
//! `cargo bench --bench engine -- [--targets N] [--rate N] [--secs N] [--lines N] [--backend uring|epoll|floor] [--link keep|fresh]`
//! Without arguments it prints the whole table. The figure is user + system time of the client's thread per exchange;
//! the farm runs on a thread of its own. Every body is checked. `--rate 0` means saturated with 64 in flight.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use ringscrape::base::time::Now;
use ringscrape::engine::{Backend, Epoll, Uring, UringOptions};
use ringscrape::net::{Flow, Job, Link, Net, Outcome, ResponseHead, Sink};

const GRID_NS: u64 = 5_000_000;

#[derive(Clone, Copy, Debug)]
struct Load {
    targets: u32,
    rate: u64,
    secs: u64,
    lines: usize,
    link: Link,
}

struct Counter {
    lines: usize,
    expected: usize,
    ended: Vec<u32>,
    done: u64,
    failed: u64,
    port: u16,
    latency_ns: u64,
    seen: Vec<usize>,
}

impl Sink for Counter {
    fn request(&mut self, token: u32, out: &mut Vec<u8>) {
        let _ = write!(out, "GET /metrics HTTP/1.1\r\nHost: {}:{}\r\nUser-Agent: bench\r\n", ip(token), self.port);
        out.extend_from_slice(
            b"Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1\r\n\
              Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n",
        );
    }
    fn head(&mut self, _: u32, head: &ResponseHead<'_>) -> Flow {
        assert_eq!(head.status, 200);
        Flow::More
    }
    fn bytes(&mut self, token: u32, chunk: &[u8]) -> Flow {
        let n = memchr::memchr_iter(b'\n', chunk).count();
        self.lines += n;
        self.seen[token as usize] += n;
        Flow::More
    }
    fn end(&mut self, token: u32, outcome: Outcome) {
        let seen = std::mem::take(&mut self.seen[token as usize]);
        match outcome {
            Outcome::Done(p) => {
                assert_eq!(seen, self.expected);
                self.done += 1;
                self.latency_ns += p.last_byte - p.started;
            }
            other => {
                if self.failed == 0 {
                    eprintln!("first failure: {other:?}");
                }
                self.failed += 1;
            }
        }
        self.ended.push(token);
    }
}

fn ip(token: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x7f00_0100u32 + token)
}

/// Answers every request on one port with `lines` samples. One thread, level-triggered epoll.
fn farm(lines: usize) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let mut body = String::new();
    for i in 0..lines {
        body += &format!(
            "http_requests_total{{method=\"get\",code=\"200\",handler=\"/api/item{i:03}\"}} {}\n",
            1234567 + i * 7919
        );
    }
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        pin(1);
        serve(&listener, response.as_bytes());
    });
    port
}

fn serve(listener: &TcpListener, response: &[u8]) {
    listener.set_nonblocking(true).expect("nonblocking");
    // SAFETY: plain system calls on descriptors that live as long as this function.
    let epoll = unsafe { libc::epoll_create1(0) };
    let add = |fd: i32| {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: as above; the event is valid.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    };
    add(listener.as_raw_fd());
    let mut open: HashMap<i32, TcpStream> = HashMap::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
    let mut buffer = [0; 4096];
    loop {
        // SAFETY: the array is valid for its length.
        let n = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 256, -1) };
        for event in &events[..n.max(0) as usize] {
            let fd = event.u64 as i32;
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    add(stream.as_raw_fd());
                    open.insert(stream.as_raw_fd(), stream);
                }
                continue;
            }
            let Some(stream) = open.get_mut(&fd) else { continue };
            match stream.read(&mut buffer) {
                Ok(1..) => {
                    let _ = stream.write_all(response);
                }
                _ => drop(open.remove(&fd)),
            }
        }
    }
}

fn pin(core: usize) {
    // SAFETY: an all-zero set is valid; failure on a smaller host is harmless.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// User and system time of this thread, ns.
fn cpu_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is valid to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn measure<B: Backend>(name: &str, backend: B, load: Load, port: u16) {
    let mut net = Net::new(backend);
    let n = load.targets as usize;
    let mut sink = Counter {
        lines: 0,
        expected: load.lines,
        ended: Vec::new(),
        done: 0,
        failed: 0,
        port,
        latency_ns: 0,
        seen: vec![0; n],
    };
    let mut busy = vec![false; n];
    let (mut now, mut next, mut skipped) = (Now::read(), 0u32, 0u64);
    let warm_until = now.mono_ns + 1_000_000_000 + if load.rate > 0 { n as u64 * 1_000_000_000 / load.rate } else { 0 };
    let end = warm_until + load.secs * 1_000_000_000;
    let (mut mark, mut due, mut turns) = (None, now.mono_ns, 0u64);
    let mut owed = 0f64;
    while now.mono_ns < end {
        if mark.is_none() && now.mono_ns >= warm_until {
            mark = Some((cpu_ns(), sink.done, now.mono_ns, sink.latency_ns));
            turns = 0;
        }
        let mut starts = 0;
        if load.rate == 0 {
            starts = 64 - net.in_flight().min(64);
        } else if now.mono_ns >= due {
            owed += (load.rate * GRID_NS) as f64 / 1e9;
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
            let addr = SocketAddr::from((ip(token), port));
            net.start(Job::plain(token, addr, load.link, now.mono_ns + 10_000_000_000));
        }
        now = net.turn(now, Some(if load.rate == 0 { now.mono_ns + 1_000_000 } else { due }), &mut sink);
        turns += 1;
        for token in sink.ended.drain(..) {
            busy[token as usize] = false;
        }
    }
    let (cpu, done, at, latency) = mark.expect("the warm-up ended");
    let count = (sink.done - done) as f64;
    let wall = (now.mono_ns - at) as f64;
    println!(
        "{name:<6} {:<5} rate {:>6} targets {:>6} lines {:>4} | {:>6.2} us/scrape | {:>7.0}/s | {:>5.2} turns/scrape | mean latency {:>5.2} ms | failed {} skipped {skipped}",
        if load.link == Link::Keep { "keep" } else { "fresh" },
        load.rate,
        load.targets,
        load.lines,
        (cpu_ns() - cpu) as f64 / 1e3 / count,
        count * 1e9 / wall,
        turns as f64 / count,
        (sink.latency_ns - latency) as f64 / 1e6 / count,
        sink.failed,
    );
}

/// The least that any engine could pay at this pace: blocking calls, a burst of sends each 5 ms, a burst of reads 1 ms later.
fn floor(load: Load, port: u16) {
    let pause = |ns: u64| std::thread::sleep(std::time::Duration::from_nanos(ns));
    let connect = |t| TcpStream::connect((ip(t), port)).expect("connect");
    let mut open: Vec<TcpStream> = (0..load.targets).map(connect).collect();
    let mut sink = Counter {
        lines: 0,
        expected: load.lines,
        ended: Vec::new(),
        done: 0,
        failed: 0,
        port,
        latency_ns: 0,
        seen: vec![0; 1],
    };
    let (mut buffer, mut request, mut next, mut done) = (vec![0; 65536], Vec::new(), 0usize, 0u64);
    let burst = (load.rate * GRID_NS / 1_000_000_000).max(1) as usize;
    let (began, cpu) = (Now::read().mono_ns, cpu_ns());
    while Now::read().mono_ns < began + load.secs * 1_000_000_000 {
        for i in 0..burst {
            request.clear();
            let at = (next + i) % open.len();
            sink.request(at as u32, &mut request);
            open[at].write_all(&request).expect("send");
        }
        pause(1_000_000);
        for i in 0..burst {
            let at = (next + i) % open.len();
            let mut lines = 0;
            while lines < load.lines + 4 {
                let n = open[at].read(&mut buffer).expect("receive");
                lines += memchr::memchr_iter(b'\n', &buffer[..n]).count();
            }
            done += 1;
        }
        next += burst;
        pause(GRID_NS - 1_100_000);
    }
    println!(
        "floor  keep  rate {:>6} targets {:>6} lines {:>4} | {:>6.2} us/scrape",
        load.rate,
        load.targets,
        load.lines,
        (cpu_ns() - cpu) as f64 / 1e3 / done as f64
    );
}

fn run(only: Option<&str>, load: Load, port: u16) {
    if only.is_none_or(|o| o == "uring") {
        match Uring::new(UringOptions::default()) {
            Ok(backend) => measure("uring", backend, load, port),
            Err(refusal) => println!("SKIP uring: {refusal}"),
        }
    }
    if only.is_none_or(|o| o == "floor") && load.rate > 0 && load.link == Link::Keep {
        floor(load, port);
    }
    if only.is_none_or(|o| o == "epoll") {
        measure("epoll", Epoll::new().expect("epoll"), load, port);
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let given: HashMap<&str, &str> =
        words.chunks(2).filter_map(|p| Some((p[0].strip_prefix("--")?, p.get(1)?.as_str()))).collect();
    let number = |key: &str, or: u64| given.get(key).map_or(or, |v| v.parse().expect("a number"));
    let only = given.get("backend").copied();
    pin(0);
    let secs = number("secs", 2);
    if !given.keys().all(|k| ["secs", "backend"].contains(k)) {
        let link = if given.get("link") == Some(&"fresh") { Link::Fresh } else { Link::Keep };
        let lines = number("lines", 20) as usize;
        let load = Load { targets: number("targets", 2000) as u32, rate: number("rate", 1000), secs, lines, link };
        return run(only, load, farm(lines));
    }
    let (small, large) = (farm(20), farm(500));
    for (rate, targets) in [(1000, 1000), (5000, 5000), (0, 5000)] {
        run(only, Load { targets, rate, secs, lines: 20, link: Link::Keep }, small);
    }
    run(only, Load { targets: 2000, rate: 0, secs, lines: 500, link: Link::Keep }, large);
    run(only, Load { targets: 1000, rate: 1000, secs, lines: 20, link: Link::Fresh }, small);
}
