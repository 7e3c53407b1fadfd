//! The farm over real sockets, on both engines.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use super::*;
use crate::config::{Tls, TlsVersion};
use crate::net::tls::{Material, client_config};

/// Runs a check on a farm of each engine.
fn on_both(populations: impl Fn() -> Vec<Population>, check: impl Fn(&Farm)) {
    for engine in [Engine::Uring, Engine::Epoll] {
        match Farm::spawn(Spec { engine, ..Spec::new(populations()) }) {
            Ok(farm) => check(&farm),
            Err(e) if engine == Engine::Uring => println!("SKIP farm on rings: {e}"),
            Err(e) => panic!("{e}"),
        }
    }
}

fn population(targets: u32, change: impl Fn(&mut Population)) -> Population {
    let mut population = Population::new("p", targets, Source::Samples(18));
    change(&mut population);
    population
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn ask(stream: &mut impl Write, at: SocketAddr, more: &str) {
    // In one write, so that over TLS it is one record, as scrapers do it.
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\n{more}\r\n").as_bytes()).unwrap();
    stream.flush().unwrap();
}

/// One whole answer: head and body.
fn answer(stream: &mut impl Read) -> (String, Vec<u8>) {
    let (mut got, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "the answer ends after {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&chunk[..n]);
        let Some(end) = memchr::memmem::find(&got, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&got[..end]).into_owned();
        let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap().parse::<usize>().unwrap();
        assert!(got.len() <= end + 4 + length);
        if got.len() == end + 4 + length {
            return (head, got.split_off(end + 4));
        }
    }
}

fn scrape(stream: &mut (impl Read + Write), at: SocketAddr) -> String {
    ask(stream, at, "");
    String::from_utf8(answer(stream).1).unwrap()
}

#[test]
fn targets_answer_by_their_address_and_keep_alive() {
    let labelled =
        || vec![population(9, |p| p.vary = Vary::TargetLabel), population(1, |p| p.manner = Manner::Status(503))];
    on_both(labelled, |farm| {
        let mut s = connect(farm.addr(7));
        let (first, second) = (scrape(&mut s, farm.addr(7)), scrape(&mut s, farm.addr(7)));
        assert!(first.contains("node=\"n-00000007\"") && second.contains("node=\"n-00000007\""));
        assert_ne!(first, second, "counters move");
        let mut s = connect(farm.addr(9));
        ask(&mut s, farm.addr(9), "");
        assert!(answer(&mut s).0.starts_with("HTTP/1.1 503"));
        assert_eq!(farm.served(), 3);
        let mut s = connect(farm.addr(3));
        ask(&mut s, SocketAddr::from(([127, 0, 0, 1], 1)), "");
        assert!(answer(&mut s).0.starts_with("HTTP/1.1 404"));
    });
}

#[test]
fn requests_may_come_in_pieces_or_ahead() {
    on_both(
        || vec![population(1, |p| p.vary = Vary::AllLabelsChange)],
        |farm| {
            let mut s = connect(farm.addr(0));
            let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", farm.addr(0));
            for byte in request.as_bytes() {
                s.write_all(&[*byte]).unwrap();
            }
            assert!(answer(&mut s).0.starts_with("HTTP/1.1 200"));
            s.write_all(request.repeat(3).as_bytes()).unwrap();
            let mut text = Vec::new();
            while memchr::memmem::find_iter(&text, b"scrape=\"00000004\"").count() < 18 {
                let mut chunk = [0; 4096];
                let n = s.read(&mut chunk).unwrap();
                assert!(n > 0);
                text.extend_from_slice(&chunk[..n]);
            }
            let at = |n: u32| memchr::memmem::find(&text, format!("scrape=\"{n:08}\"").as_bytes()).unwrap();
            assert!(at(2) < at(3) && at(3) < at(4));
        },
    );
}

#[test]
fn a_connection_that_shall_end_ends_after_the_answer() {
    on_both(
        || vec![population(1, |_| ())],
        |farm| {
            for _ in 0..3 {
                let mut s = connect(farm.addr(0));
                ask(&mut s, farm.addr(0), "Connection: close\r\n");
                assert!(answer(&mut s).0.starts_with("HTTP/1.1 200"));
                assert_eq!(s.read(&mut [0; 10]).unwrap(), 0);
            }
        },
    );
}

#[test]
fn compressed_answers_hold_the_same_text() {
    let both =
        || vec![population(1, |p| p.gzip = true), population(1, |p| (p.gzip, p.vary) = (true, Vary::TargetLabel))];
    on_both(both, |farm| {
        for target in 0..2 {
            let mut s = connect(farm.addr(target));
            ask(&mut s, farm.addr(target), "Accept-Encoding: gzip\r\n");
            let (head, body) = answer(&mut s);
            assert!(head.contains("Content-Encoding: gzip"), "{head}");
            let mut text = vec![0; 1 << 16];
            let n = libdeflater::Decompressor::new().gzip_decompress(&body, &mut text).unwrap();
            assert_eq!(String::from_utf8_lossy(&text[..n]).lines().filter(|l| !l.starts_with('#')).count(), 18);
            assert!(scrape(&mut s, farm.addr(target)).starts_with("# HELP"));
        }
    });
}

#[test]
fn troublemakers_do_as_they_say() {
    let of = |manner| population(1, |p| p.manner = manner);
    let all = || {
        let manners = [
            Manner::Reset,
            Manner::Garbage,
            Manner::Truncated,
            Manner::Stall,
            Manner::Silent,
            Manner::BlackHole,
            Manner::Refusing,
            Manner::DelayMs([60, 70]),
        ];
        manners.map(of).to_vec()
    };
    on_both(all, |farm| {
        let asked = |target| {
            let mut s = connect(farm.addr(target));
            s.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            ask(&mut s, farm.addr(target), "");
            s
        };
        let rest = |s: &mut TcpStream| {
            let mut got = Vec::new();
            (s.read_to_end(&mut got).map_err(|e| e.kind()), got)
        };
        assert_eq!(rest(&mut asked(0)).0, Err(ErrorKind::ConnectionReset));
        let (end, got) = rest(&mut asked(1));
        assert!(end.is_ok() && !got.is_empty() && !got.starts_with(b"HTTP"));
        let (end, truncated) = rest(&mut asked(2));
        assert!(end.is_ok() && truncated.starts_with(b"HTTP/1.1 200"));
        let (end, stalled) = rest(&mut asked(3));
        assert!(end == Err(ErrorKind::WouldBlock) && stalled.len() == truncated.len());
        assert_eq!(rest(&mut asked(4)), (Err(ErrorKind::WouldBlock), Vec::new()));
        let dial = |target| TcpStream::connect_timeout(&farm.addr(target), Duration::from_millis(200));
        assert_eq!(dial(5).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(dial(6).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let begun = std::time::Instant::now();
        let mut s = connect(farm.addr(7));
        assert!(scrape(&mut s, farm.addr(7)).starts_with("# HELP"));
        assert!((60..250).contains(&(begun.elapsed().as_millis() as u64)));
    });
}

#[test]
fn giants_come_in_pages_and_hold_what_they_promise() {
    let giant = || {
        let mut giant = Population::new("giant", 2, Source::Samples(Source::STREAMED_SAMPLES + 1));
        giant.vary = Vary::TargetLabel;
        vec![giant]
    };
    on_both(giant, |farm| {
        let mut s = connect(farm.addr(1));
        for _ in 0..2 {
            let text = scrape(&mut s, farm.addr(1));
            let series: std::collections::HashSet<&str> =
                text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0).collect();
            assert_eq!(series.len(), Source::STREAMED_SAMPLES as usize + 1);
            assert!(series.iter().all(|s| s.contains("node=\"n-00000001\"")));
        }
    });
}

#[test]
fn sizes_are_spread_between_the_two() {
    on_both(
        || vec![Population::new("mixed", 200, Source::SamplesBetween([5, 500]))],
        |farm| {
            let mut sizes: Vec<usize> = (0..200)
                .map(|t| {
                    scrape(&mut connect(farm.addr(t)), farm.addr(t)).lines().filter(|l| !l.starts_with('#')).count()
                })
                .collect();
            sizes.sort_unstable();
            assert_eq!((sizes[0], sizes[199]), (5, 500));
            assert!((30..=80).contains(&sizes[100]), "{}", sizes[100]);
        },
    );
}

#[test]
fn ports_and_addresses_make_the_targets_of_a_block() {
    let spec = Spec { ports: 3, ..Spec::new(vec![population(7, |p| p.vary = Vary::TargetLabel)]) };
    let farm = Farm::spawn(spec).unwrap();
    for target in 0..7 {
        let text = scrape(&mut connect(farm.addr(target)), farm.addr(target));
        assert!(text.contains(&format!("node=\"n-{target:08}\"")));
    }
    let second = Spec { port: farm.port, ..farm.spec().clone() };
    assert_eq!(Farm::spawn(second).err().unwrap().kind(), ErrorKind::AddrInUse);
}

type Sealed = StreamOwned<ClientConnection, TcpStream>;

/// What scrapers are told to be: clients that verify nothing.
fn unverified(most: TlsVersion) -> Arc<ClientConfig> {
    let tls = Tls { insecure_skip_verify: true, max_version: Some(most), ..Tls::default() };
    Arc::new(client_config(&tls, &Material::default()).unwrap())
}

/// Clients of one configuration remember the sessions of an address.
fn sealed(config: &Arc<ClientConfig>, at: SocketAddr) -> Sealed {
    StreamOwned::new(ClientConnection::new(Arc::clone(config), at.ip().into()).unwrap(), connect(at))
}

fn over_tls(targets: u32, change: impl Fn(&mut Population)) -> Population {
    population(targets, |p| {
        p.tls = true;
        change(p);
    })
}

#[test]
fn over_tls_connections_are_kept_and_sessions_resumed() {
    on_both(
        || vec![population(3, |_| ()), over_tls(5, |p| p.vary = Vary::TargetLabel)],
        |farm| {
            for most in [TlsVersion::Tls12, TlsVersion::Tls13] {
                let config = unverified(most);
                for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
                    let mut s = sealed(&config, farm.addr(7));
                    for _ in 0..3 {
                        assert!(scrape(&mut s, farm.addr(7)).contains("node=\"n-00000007\""));
                    }
                    assert_eq!(s.conn.handshake_kind(), Some(expected), "{most:?}");
                }
            }
            assert_eq!(farm.served(), 12);
        },
    );
}

#[test]
fn over_tls_requests_may_come_in_pieces_or_ahead() {
    on_both(
        || vec![over_tls(1, |p| p.vary = Vary::AllLabelsChange)],
        |farm| {
            let mut s = sealed(&unverified(TlsVersion::Tls13), farm.addr(0));
            let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", farm.addr(0));
            // The bytes of the handshake come one by one as well.
            while s.conn.is_handshaking() {
                let mut bytes = Vec::new();
                while s.conn.wants_write() {
                    s.conn.write_tls(&mut bytes).unwrap();
                }
                for byte in bytes {
                    s.sock.write_all(&[byte]).unwrap();
                }
                if s.conn.wants_read() {
                    s.conn.read_tls(&mut s.sock).unwrap();
                    s.conn.process_new_packets().unwrap();
                }
            }
            for byte in request.as_bytes() {
                s.write_all(&[*byte]).unwrap();
            }
            assert!(answer(&mut s).0.starts_with("HTTP/1.1 200"));
            s.write_all(request.repeat(3).as_bytes()).unwrap();
            let mut text = Vec::new();
            while memchr::memmem::find_iter(&text, b"scrape=\"00000004\"").count() < 18 {
                let mut chunk = [0; 4096];
                let n = s.read(&mut chunk).unwrap();
                assert!(n > 0);
                text.extend_from_slice(&chunk[..n]);
            }
            let at = |n: u32| memchr::memmem::find(&text, format!("scrape=\"{n:08}\"").as_bytes()).unwrap();
            assert!(at(2) < at(3) && at(3) < at(4));
        },
    );
}

#[test]
fn a_target_is_asked_plainly_or_over_tls_and_not_the_other_way() {
    on_both(
        || vec![population(1, |_| ()), over_tls(1, |_| ())],
        |farm| {
            let mut plain = connect(farm.addr(1));
            ask(&mut plain, farm.addr(1), "");
            assert!(answer(&mut plain).0.starts_with("HTTP/1.1 400"));
            let mut s = sealed(&unverified(TlsVersion::Tls13), farm.addr(0));
            ask(&mut s, farm.addr(0), "");
            assert!(answer(&mut s).0.starts_with("HTTP/1.1 400"));
            let mut odd = connect(farm.addr(1));
            // A record of the handshake that holds a ServerHello of nothing.
            odd.write_all(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00").unwrap();
            let mut said = Vec::new();
            odd.read_to_end(&mut said).unwrap();
            assert_eq!(said[0], 21, "an alert, then the end: {said:?}");
            assert_eq!(farm.served(), 0);
        },
    );
}

#[test]
fn answers_of_any_size_come_over_tls() {
    let large = || {
        let sizes = [50_000, Source::STREAMED_SAMPLES + 1];
        sizes.map(|n| over_tls(1, |p| (p.body, p.vary) = (Source::Samples(n), Vary::TargetLabel))).to_vec()
    };
    on_both(large, |farm| {
        let config = unverified(TlsVersion::Tls13);
        for (target, samples) in [50_000, Source::STREAMED_SAMPLES as usize + 1].into_iter().enumerate() {
            let at = farm.addr(target as u32);
            let mut s = sealed(&config, at);
            for _ in 0..2 {
                let text = scrape(&mut s, at);
                let all_own = text.lines().filter(|l| l.contains(&format!("node=\"n-{target:08}\""))).count();
                assert_eq!(all_own, samples);
            }
        }
    });
}

#[test]
fn troublemakers_do_as_they_say_over_tls() {
    let of = |manner| over_tls(1, |p| p.manner = manner);
    let all = || {
        let manners = [Manner::Reset, Manner::Truncated, Manner::Stall, Manner::Status(503), Manner::DelayMs([60, 70])];
        manners.map(of).to_vec()
    };
    on_both(all, |farm| {
        let config = unverified(TlsVersion::Tls13);
        let rest = |target| {
            let mut s = sealed(&config, farm.addr(target));
            s.sock.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            ask(&mut s, farm.addr(target), "");
            let mut got = Vec::new();
            (s.read_to_end(&mut got).map_err(|e| e.kind()), got)
        };
        assert_eq!(rest(0).0, Err(ErrorKind::ConnectionReset));
        let (end, truncated) = rest(1);
        assert!(end.is_ok() && truncated.starts_with(b"HTTP/1.1 200"));
        let (end, stalled) = rest(2);
        assert_eq!((end, stalled.len()), (Err(ErrorKind::WouldBlock), truncated.len()));
        let (end, refused) = rest(3);
        assert!(end == Err(ErrorKind::WouldBlock) && refused.starts_with(b"HTTP/1.1 503"));
        let begun = std::time::Instant::now();
        let (_, late) = rest(4);
        assert!(late.starts_with(b"HTTP/1.1 200") && begun.elapsed() >= Duration::from_millis(60));
    });
}

#[test]
fn targets_that_close_say_so_and_end_in_order() {
    let closing = |tls| population(1, move |p| (p.closes, p.tls, p.gzip) = (true, tls, true));
    on_both(
        || vec![closing(false), closing(true)],
        |farm| {
            for more in ["", "Accept-Encoding: gzip\r\n"] {
                let mut s = connect(farm.addr(0));
                ask(&mut s, farm.addr(0), more);
                assert!(answer(&mut s).0.contains("Connection: close"));
                assert_eq!(s.read(&mut [0; 10]).unwrap(), 0);
                let mut s = sealed(&unverified(TlsVersion::Tls13), farm.addr(1));
                ask(&mut s, farm.addr(1), more);
                assert!(answer(&mut s).0.contains("Connection: close"));
                // Without a close_notify this were an error.
                assert_eq!(s.read(&mut [0; 10]).unwrap(), 0);
            }
        },
    );
}
