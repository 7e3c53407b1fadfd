//! The exchange over the simulated network: thousands of jobs under faults, checked byte by byte, repeatable by seed.

use std::net::SocketAddr;

use super::*;
use crate::base::limits::KEEPALIVE_IDLE_NS;
use crate::base::time::Now;
use crate::engine::{Answer, Faults, Injected, Sim, SimPeer, Verdict};

const SECOND: u64 = 1_000_000_000;

/// Answers `GET /<token>` with a body that follows from the token, framed by the port it was dialled on.
#[derive(Default)]
struct World {
    ports: std::collections::HashMap<u64, u16>,
}

fn body_of(token: u32) -> Vec<u8> {
    (0..(token % 97) * 200).map(|i| ((i * 31 + token) % 256) as u8).collect()
}

impl SimPeer for World {
    fn accept(&mut self, connection: u64, addr: SocketAddr, _: u64) -> Verdict {
        self.ports.insert(connection, addr.port());
        if addr.port() == 9 { Verdict::Silence } else { Verdict::Accept(200_000) }
    }

    fn bytes(&mut self, connection: u64, _: u64, bytes: &[u8], answer: &mut Answer) {
        let text = std::str::from_utf8(bytes).unwrap();
        let token: u32 = text.strip_prefix("GET /").unwrap().split(' ').next().unwrap().parse().unwrap();
        let body = body_of(token);
        match self.ports[&connection] % 3 {
            0 => {
                answer.send(300_000, format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
                answer.send(500_000, body);
            }
            1 => {
                answer.send(100_000, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in body.chunks(5000) {
                    answer.send(200_000, [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
                }
                answer.send(200_000, "0\r\n\r\n");
            }
            _ => {
                answer.send(0, "HTTP/1.1 200 OK\r\n\r\n");
                answer.send(0, body);
                answer.fin(1_000_000);
            }
        }
    }

    fn closed(&mut self, connection: u64, _: u64) {
        assert!(self.ports.remove(&connection).is_some(), "closed once");
    }
}

#[derive(Default)]
struct Ledger {
    bodies: Vec<Vec<u8>>,
    open: Vec<bool>,
    /// Everything that ended, in order: token, and the end in words.
    log: Vec<String>,
    again: usize,
    done: usize,
    failed: usize,
}

impl Sink for Ledger {
    fn request(&mut self, token: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("GET /{token} HTTP/1.1\r\n\r\n").as_bytes());
        self.bodies[token as usize].clear();
    }
    fn head(&mut self, token: u32, head: &ResponseHead<'_>) -> Flow {
        assert!(self.open[token as usize] && head.status == 200);
        Flow::More
    }
    fn bytes(&mut self, token: u32, chunk: &[u8]) -> Flow {
        assert!(self.open[token as usize]);
        self.bodies[token as usize].extend_from_slice(chunk);
        Flow::More
    }
    fn end(&mut self, token: u32, outcome: Outcome) {
        assert!(std::mem::replace(&mut self.open[token as usize], false), "one end per job");
        match outcome {
            Outcome::Done(p) => {
                assert!(self.bodies[token as usize] == body_of(token), "the body of {token} is its own");
                self.again += usize::from(p.dialled == Dialled::Again);
                self.done += 1;
            }
            Outcome::Failed(e, _) => {
                let expected = match e {
                    NetError::ConnectRefused | NetError::Reset | NetError::DeadlineExceeded(_) => true,
                    // A stale fault can also cut the answer that its retry gets.
                    NetError::Response(HttpError::Eof | HttpError::UnexpectedEof) => true,
                    _ => false,
                };
                assert!(expected, "{e:?}");
                self.failed += 1;
            }
            Outcome::Stopped(_) => panic!("nobody stops"),
        }
        self.log.push(format!("{token} {outcome:?}"));
    }
}

struct Run {
    ledger: Ledger,
    injected: Injected,
    now: Now,
    net: Net<Sim<World>>,
}

/// Rounds of one job per token, fifteen seconds apart.
fn run(seed: u64, tokens: u32, rounds: u32, faults: Faults) -> Run {
    let mut net = Net::new(Sim::new(seed, World::default(), faults));
    let n = tokens as usize;
    let mut ledger = Ledger { bodies: vec![Vec::new(); n], open: vec![false; n], ..Ledger::default() };
    let mut now = Now { wall_ns: 1_700_000_000_000_000_000, mono_ns: SECOND };
    for round in 0..rounds {
        for token in 0..tokens {
            ledger.open[token as usize] = true;
            let addr = SocketAddr::from(([10, 0, 0, 1], 3000 + (token % 3) as u16));
            let link = if token % 10 == 9 { Link::Fresh } else { Link::Keep };
            net.start(Job::plain(token, addr, link, now.mono_ns + 5 * SECOND));
        }
        let next = SECOND + u64::from(round + 1) * 15 * SECOND;
        while now.mono_ns < next {
            now = net.turn(now, Some(next), &mut ledger);
        }
        assert_eq!(net.in_flight(), 0, "every deadline is inside its round");
    }
    let injected = net.backend().injected();
    Run { ledger, injected, now, net }
}

#[test]
fn without_faults_every_job_is_done() {
    let run = run(1, 300, 3, Faults::default());
    assert_eq!((run.ledger.done, run.ledger.failed, run.ledger.again), (900, 0, 0));
    assert_eq!(run.injected, Injected::default());
    // Ports 0 and 1 keep their connections, apart from the fresh tenth.
    assert_eq!(run.net.idle(), 180);
}

#[test]
fn faults_never_lose_a_job_or_mix_bodies() {
    let faults = Faults {
        refuse_ppm: 20_000,
        silence_ppm: 20_000,
        reset_ppm: 50_000,
        split_ppm: 200_000,
        delay_ppm: 100_000,
        stale_ppm: 100_000,
        delay_ns_max: 6 * SECOND,
    };
    for seed in 0..4 {
        let run = run(seed, 200, 6, faults);
        assert_eq!(run.ledger.done + run.ledger.failed, 1200);
        let i = run.injected;
        assert!(i.dials > 0 && i.resets > 0 && i.splits > 0 && i.delays > 0 && i.stale > 0, "{i:?}");
        assert!(run.ledger.again > 0 && run.ledger.failed > 0, "seed {seed}");
        assert!(run.ledger.done > 900, "stale connections are replaced, not reported");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let faults = Faults { reset_ppm: 100_000, split_ppm: 300_000, stale_ppm: 100_000, ..Faults::default() };
    let (a, b, c) = (run(5, 100, 5, faults), run(5, 100, 5, faults), run(6, 100, 5, faults));
    assert_eq!((&a.ledger.log, a.now), (&b.ledger.log, b.now));
    assert_ne!(a.ledger.log, c.ledger.log);
}

#[test]
fn a_stale_connection_alone_fails_nothing() {
    let run = run(3, 200, 6, Faults { stale_ppm: 500_000, ..Faults::default() });
    assert_eq!((run.ledger.done, run.ledger.failed), (1200, 0));
    assert!(run.ledger.again > 100);
}

#[test]
fn idle_connections_close_after_their_time() {
    let mut run = run(1, 30, 1, Faults::default());
    assert!(run.net.idle() > 0);
    let until = run.now.mono_ns + KEEPALIVE_IDLE_NS;
    while run.now.mono_ns < until {
        run.now = run.net.turn(run.now, Some(until), &mut run.ledger);
    }
    assert_eq!(run.net.idle(), 0);
    assert!(run.net.backend().peer().ports.is_empty());
}

#[test]
fn a_black_hole_costs_its_own_deadline_only() {
    let mut net = Net::new(Sim::new(1, World::default(), Faults::default()));
    let mut ledger = Ledger { bodies: vec![Vec::new(); 100], open: vec![true; 100], ..Ledger::default() };
    let mut now = Now { wall_ns: 0, mono_ns: SECOND };
    for token in 0..100 {
        let addr = SocketAddr::from(([10, 0, 0, 1], if token < 10 { 9 } else { 3000 }));
        net.start(Job::plain(token, addr, Link::Keep, 11 * SECOND));
    }
    while ledger.done < 90 {
        now = net.turn(now, None, &mut ledger);
    }
    assert!(now.mono_ns < SECOND + SECOND / 10);
    while net.in_flight() > 0 {
        now = net.turn(now, None, &mut ledger);
    }
    assert_eq!((ledger.failed, now.mono_ns / SECOND), (10, 11));
    assert!(ledger.log[95].contains("DeadlineExceeded(Connect)"), "{}", ledger.log[95]);
}
