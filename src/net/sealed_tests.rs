//! Exchanges over TLS against real servers, on both engines.

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;

use super::test_rig::*;
use super::tls::Fault;
use super::tls::test_server::{BOTH, Clients, client, farewell, request, serve, server, trusting};
use super::*;
use crate::config::Tls;
use crate::engine::{Backend, Epoll, Uring, UringOptions};

fn first() -> Secured {
    Secured(NonZeroU32::MIN)
}

fn good() -> ServerConfig {
    server("good.pem", BOTH, Clients::Anybody)
}

fn rig<B: Backend>(backend: B, tls: &Tls) -> Rig<B> {
    let mut rig = Rig::new(backend);
    (rig.tls, rig.sink.client) = (Some(first()), Some(client(tls)));
    rig
}

/// Answers every request with `body` and counts connections.
fn serve_body(body: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let addr = serve(good(), move |s, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        while request(s) {
            write!(s, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
            s.write_all(body).unwrap();
        }
    });
    (addr, connections)
}

fn bodies_arrive_and_connections_are_kept<B: Backend>(backend: B) {
    static LARGE: [u8; 300_000] = [b'x'; 300_000];
    let (addr, connections) = serve_body(&LARGE);
    let mut rig = rig(backend, &trusting());
    let phases = done(rig.run(0, addr, Link::Keep));
    assert!(phases.connected <= phases.secured && phases.secured <= phases.sent && phases.sent <= phases.first_byte);
    assert_eq!(rig.body(0).len(), LARGE.len());
    for _ in 0..3 {
        let phases = done(rig.run(0, addr, Link::Keep));
        assert_eq!((phases.dialled, phases.secured), (Dialled::Before, 0));
        assert_eq!(rig.body(0).len(), LARGE.len());
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // Other settings: another connection.
    rig.tls = Some(Secured(NonZeroU32::new(2).unwrap()));
    assert_eq!(done(rig.run(0, addr, Link::Keep)).dialled, Dialled::Now);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    // In clear text the kept one is of no use either.
    rig.tls = None;
    assert!(matches!(failed(rig.run(0, addr, Link::Keep)), NetError::Response(_) | NetError::Reset));
    assert_eq!(rig.net.idle(), 0);
}

fn a_stale_connection_is_replaced_once<B: Backend>(backend: B) {
    let mut rig = rig(backend, &trusting());
    for (token, says_goodbye) in [(0, true), (1, false)] {
        let addr = serve(good(), move |s, n| {
            request(s);
            if n < 2 {
                s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").unwrap();
            }
            // Later than the answer is read, so that the connection is kept.
            std::thread::sleep(Duration::from_millis(10));
            if says_goodbye {
                farewell(s);
            }
        });
        assert_eq!(done(rig.run(token, addr, Link::Keep)).dialled, Dialled::Now);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(done(rig.run(token, addr, Link::Keep)).dialled, Dialled::Again);
        std::thread::sleep(Duration::from_millis(20));
        let last = failed(rig.run(token, addr, Link::Keep));
        assert_eq!(last, NetError::Response(HttpError::Eof));
    }
}

fn ends_without_goodbye_are_judged_by_the_record<B: Backend>(backend: B) {
    // Between two records: whole, as Go has it. Within one, or before what the length promised: cut.
    let whole = serve(good(), |s, _| {
        request(s);
        s.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil close").unwrap();
    });
    let goodbye = serve(good(), |s, _| {
        request(s);
        s.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil goodbye").unwrap();
        farewell(s);
        std::thread::sleep(Duration::from_secs(20));
    });
    let short = serve(good(), |s, _| {
        request(s);
        s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntoo short").unwrap();
        farewell(s);
    });
    let within = serve(good(), |s, _| {
        request(s);
        s.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil").unwrap();
        s.sock.write_all(&[23, 3, 3, 0, 100, 1, 2, 3]).unwrap();
    });
    let mut rig = rig(backend, &trusting());
    done(rig.run(0, whole, Link::Keep));
    assert_eq!(rig.body(0), "until close");
    done(rig.run(1, goodbye, Link::Keep));
    assert_eq!(rig.body(1), "until goodbye");
    assert_eq!(failed(rig.run(2, short, Link::Keep)), NetError::Response(HttpError::UnexpectedEof));
    assert_eq!(failed(rig.run(3, within, Link::Keep)), NetError::Response(HttpError::UnexpectedEof));
    assert_eq!(rig.net.idle(), 0);
}

fn handshakes_fail_precisely<B: Backend>(backend: B) {
    let served =
        |cert: &str| serve(server(cert, BOTH, Clients::Anybody), |s, _| assert!(!request(s), "nobody gets that far"));
    let mut rig = rig(backend, &trusting());
    for (cert, fault) in [
        ("wrong-name.pem", Fault::WrongName),
        ("expired.pem", Fault::Expired),
        ("self-signed.pem", Fault::UnknownAuthority),
    ] {
        assert_eq!(failed(rig.run(0, served(cert), Link::Keep)), NetError::Tls(fault), "{cert}");
    }
    let (plain, _) = serve_bytes(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", false);
    rig.start(1, plain, Link::Keep, SECOND / 5);
    rig.settle();
    // Its request never ends: a hello is no HTTP.
    assert_eq!(failed(rig.sink.of(1).ended[0]), NetError::DeadlineExceeded(Phase::Handshake));
    let polite = super::test_rig::serve(|mut s, _| {
        let _ = s.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        std::thread::sleep(Duration::from_millis(50));
    });
    assert_eq!(failed(rig.run(2, polite, Link::Keep)), NetError::Tls(Fault::PlainHttp));
    let rude = super::test_rig::serve(|s, _| drop(s));
    let error = failed(rig.run(3, rude, Link::Keep));
    assert!(matches!(error, NetError::Tls(Fault::HungUp) | NetError::Reset), "{error:?}");
    rig.sink.client = None;
    assert_eq!(failed(rig.run(4, polite, Link::Keep)), NetError::Tls(Fault::NotConfigured));
    assert!(rig.sink.tokens.iter().all(|t| t.requests == 0), "no request before the handshake is over");
}

fn clients_that_are_not_let_in_hear_why<B: Backend>(backend: B) {
    let addr = serve(server("good.pem", BOTH, Clients::Ours), |s, _| assert!(!request(s), "nobody gets that far"));
    let mut rig = rig(backend, &trusting());
    let error = failed(rig.run(0, addr, Link::Keep));
    // The alert may be lost to the reset that follows it.
    assert!(matches!(error, NetError::Tls(Fault::Alert(116)) | NetError::Reset), "{error:?}");
}

/// What a server's session hears after its answer: the end in order, or an alert.
fn servers_hear_why_a_connection_ends<B: Backend>(backend: B) {
    let (tell, heard) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let listen = move |s: &mut rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>, _| {
        let mut end = "nothing".to_owned();
        if request(s) {
            s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").unwrap();
        }
        // Zero is close_notify; without it rustls calls the end unexpected.
        match std::io::Read::read(s, &mut [0]) {
            Ok(0) => end = "goodbye".to_owned(),
            Ok(_) => {}
            Err(e) => end = e.to_string(),
        }
        tell.lock().unwrap().send(end).unwrap();
    };
    let listen = Arc::new(listen);
    let (first, second) = (Arc::clone(&listen), listen);
    let good = serve(good(), move |s, n| first(s, n));
    let expired = serve(server("expired.pem", BOTH, Clients::Anybody), move |s, n| second(s, n));
    let mut rig = rig(backend, &trusting());
    let patience = Duration::from_secs(5);
    done(rig.run(0, good, Link::Fresh));
    rig.turn();
    assert_eq!(heard.recv_timeout(patience).unwrap(), "goodbye");
    done(rig.run(1, good, Link::Keep));
    rig.net.forget(1);
    rig.turn();
    assert_eq!(heard.recv_timeout(patience).unwrap(), "goodbye");
    // The place is free for another connection at once.
    done(rig.run(1, good, Link::Fresh));
    rig.turn();
    assert_eq!(heard.recv_timeout(patience).unwrap(), "goodbye");
    assert_eq!(failed(rig.run(2, expired, Link::Keep)), NetError::Tls(Fault::Expired));
    rig.turn();
    let end = heard.recv_timeout(patience).unwrap();
    assert!(end.contains("CertificateExpired"), "{end}");
}

fn the_gate_holds_answers_but_no_handshakes<B: Backend>(backend: B) {
    let (addr, _) = serve_body(b"ok");
    let mut rig = rig(backend, &trusting());
    rig.sink.closed_gate = Some(Arrival::Beginning);
    rig.start(0, addr, Link::Keep, SECOND / 2);
    rig.settle();
    assert_eq!(failed(rig.sink.of(0).ended[0]), NetError::DeadlineExceeded(Phase::Wait));
    assert_eq!(rig.sink.of(0).requests, 1);
}

macro_rules! on_both_engines {
    ($($case:ident),*) => {
        mod epoll {
            use super::*;
            $(#[test] fn $case() { super::$case(Epoll::new().unwrap()); })*
        }
        mod uring {
            use super::*;
            $(#[test] fn $case() {
                match Uring::new(UringOptions::default()) {
                    Ok(backend) => super::$case(backend),
                    Err(refusal) => println!("SKIP {}: {refusal}", stringify!($case)),
                }
            })*
        }
    };
}

on_both_engines!(
    bodies_arrive_and_connections_are_kept,
    a_stale_connection_is_replaced_once,
    ends_without_goodbye_are_judged_by_the_record,
    handshakes_fail_precisely,
    clients_that_are_not_let_in_hear_why,
    servers_hear_why_a_connection_ends,
    the_gate_holds_answers_but_no_handshakes
);
