//! Every behaviour of the exchange against real loopback servers, once per backend.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::test_rig::*;
use super::*;
use crate::base::time::Now;
use crate::engine::{Backend, Epoll, Uring, UringOptions};

fn keep_alive_uses_one_connection<B: Backend>(backend: B) {
    let (addr, connections) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false);
    let mut rig = Rig::new(backend);
    for i in 0..5 {
        let p = done(rig.run(3, addr, Link::Keep));
        assert_eq!(rig.body(3), "hello");
        assert_eq!(p.dialled, if i == 0 { Dialled::Now } else { Dialled::Before });
        assert_eq!(p.connected != 0, i == 0);
        assert!(p.started <= p.sent && p.sent <= p.first_byte && p.first_byte <= p.last_byte, "{p:?}");
        assert_eq!(p.wire_bytes, 43);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert_eq!(rig.net.idle(), 1);
    rig.net.forget(3);
    done(rig.run(3, addr, Link::Keep));
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

fn fresh_dials_each_time<B: Backend>(backend: B) {
    let (addr, connections) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false);
    let mut rig = Rig::new(backend);
    done(rig.run(0, addr, Link::Keep));
    for _ in 0..3 {
        let p = done(rig.run(0, addr, Link::Fresh));
        assert_eq!((p.dialled, rig.body(0).as_str()), (Dialled::Now, "hello"));
    }
    assert_eq!((connections.load(Ordering::SeqCst), rig.net.idle()), (4, 0));
}

fn another_address_dials_anew<B: Backend>(backend: B) {
    let (one, a) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", false);
    let (two, b) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2", false);
    let mut rig = Rig::new(backend);
    for (addr, body) in [(one, "1"), (two, "2"), (one, "1")] {
        done(rig.run(0, addr, Link::Keep));
        assert_eq!(rig.body(0), body);
    }
    assert_eq!((a.load(Ordering::SeqCst), b.load(Ordering::SeqCst)), (2, 1));
}

fn framings_end_where_they_should<B: Backend>(backend: B) {
    let cases: [(&'static [u8], bool, &str, bool); 7] = [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n", false, "abcde", true),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil close", true, "until close", false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "ok", false),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false, "ok", true),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false, "ok", false),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "ok", true),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", false, "ok", false),
    ];
    let mut rig = Rig::new(backend);
    for (i, (bytes, close, body, kept)) in cases.into_iter().enumerate() {
        let (addr, _) = serve_bytes(bytes, close);
        let token = i as u32;
        done(rig.run(token, addr, Link::Keep));
        assert_eq!((rig.body(token).as_str(), rig.sink.of(token).status), (body, 200), "case {i}");
        assert_eq!(rig.sink.of(token).heads, 1, "case {i}");
        let p = done(rig.run(token, addr, Link::Keep));
        assert_eq!(p.dialled == Dialled::Before, kept, "case {i}");
    }
}

fn stale_connection_is_replaced_once<B: Backend>(backend: B) {
    let addr = serve(|mut s, n| {
        request(&mut s);
        if n < 2 {
            s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").unwrap();
        }
        // The first two connections close between scrapes, the third without any answer.
    });
    let mut rig = Rig::new(backend);
    assert_eq!(done(rig.run(0, addr, Link::Keep)).dialled, Dialled::Now);
    std::thread::sleep(Duration::from_millis(20));
    let asked = rig.sink.of(0).requests;
    assert_eq!(done(rig.run(0, addr, Link::Keep)).dialled, Dialled::Again);
    assert!(rig.sink.of(0).requests > asked, "the request is asked for again");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(failed(rig.run(0, addr, Link::Keep)), NetError::Response(HttpError::Eof));
}

fn unasked_bytes_are_never_an_answer<B: Backend>(backend: B) {
    let received = Arc::new(AtomicUsize::new(0));
    let seen = received.clone();
    let addr = serve(move |mut s, n| {
        while request(&mut s) {
            let body = if n == 0 { "good" } else { "fine" };
            write!(s, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{body}").unwrap();
            if n == 0 {
                while seen.load(Ordering::SeqCst) == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").unwrap();
                seen.store(2, Ordering::SeqCst);
            }
        }
    });
    // An answer that comes before the request, on a new connection, is still the answer to it.
    let eager = serve(|mut s, _| {
        s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsoon").unwrap();
        request(&mut s);
    });
    let mut rig = Rig::new(backend);
    done(rig.run(0, addr, Link::Keep));
    assert_eq!(rig.body(0), "good");
    received.store(1, Ordering::SeqCst);
    while received.load(Ordering::SeqCst) != 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(done(rig.run(0, addr, Link::Keep)).dialled, Dialled::Again);
    assert_eq!(rig.body(0), "fine");
    done(rig.run(1, eager, Link::Keep));
    assert_eq!(rig.body(1), "soon");
}

fn deadlines_end_jobs<B: Backend>(backend: B) {
    let silent = serve(|mut s, _| {
        request(&mut s);
        std::thread::sleep(Duration::from_secs(30));
    });
    let drip = serve(|mut s, _| {
        request(&mut s);
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".iter().chain([b'x'; 1000].iter()) {
            if s.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let (good, _) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false);
    let mut rig = Rig::new(backend);
    let began = Now::read().mono_ns;
    rig.start(0, silent, Link::Keep, SECOND / 4);
    rig.start(1, drip, Link::Keep, SECOND / 2);
    rig.start(2, good, Link::Keep, SECOND);
    rig.settle();
    let took = Now::read().mono_ns - began;
    assert!((SECOND / 2..SECOND * 3 / 2).contains(&took), "{took}");
    assert_eq!(failed(rig.sink.of(0).ended[0]), NetError::DeadlineExceeded(Phase::Wait));
    assert_eq!(failed(rig.sink.of(1).ended[0]), NetError::DeadlineExceeded(Phase::Receive));
    done(rig.sink.of(2).ended[0]);
    // The tokens are usable again at once.
    done(rig.run(0, good, Link::Keep));
    done(rig.run(1, good, Link::Keep));
}

fn refusal_and_reset_have_names<B: Backend>(backend: B) {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reset = serve(|mut s, _| {
        request(&mut s);
        s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc").unwrap();
        std::thread::sleep(Duration::from_millis(30));
        // Unread bytes at close make the kernel send a reset.
        linger_zero(&s);
    });
    let cut = serve(|mut s, _| {
        request(&mut s);
        s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc").unwrap();
        s.shutdown(Shutdown::Both).unwrap();
    });
    let mut rig = Rig::new(backend);
    assert_eq!(failed(rig.run(0, nobody, Link::Keep)), NetError::ConnectRefused);
    assert_eq!(failed(rig.run(0, reset, Link::Keep)), NetError::Reset);
    assert_eq!(rig.body(0), "abc");
    assert_eq!(failed(rig.run(0, cut, Link::Fresh)), NetError::Response(HttpError::UnexpectedEof));
    assert_eq!(NetError::ConnectRefused.to_string(), "connect: connection refused");
}

fn linger_zero(s: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let fd = std::os::fd::AsRawFd::as_raw_fd(s);
    // SAFETY: a live descriptor and a valid option value.
    let r = unsafe {
        let len = size_of::<libc::linger>() as libc::socklen_t;
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len)
    };
    assert_eq!(r, 0);
}

fn hostile_bodies_are_bounded<B: Backend>(backend: B) {
    let endless = serve(|mut s, _| {
        request(&mut s);
        let _ = s.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while s.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let headers = serve(|mut s, _| {
        request(&mut s);
        let _ = s.write_all(b"HTTP/1.1 200 OK\r\n");
        while s.write_all(b"X-Header: more and more of it\r\n").is_ok() {}
    });
    let (banner, _) = serve_bytes(b"SSH-2.0-OpenSSH_9.9\r\n", false);
    let (good, _) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false);
    let mut rig = Rig::new(backend);
    rig.start(0, endless, Link::Keep, SECOND / 2);
    rig.start(1, good, Link::Keep, SECOND / 2);
    rig.settle();
    assert_eq!(failed(rig.sink.of(0).ended[0]), NetError::DeadlineExceeded(Phase::Receive));
    assert!(rig.sink.of(0).body.len() > 1 << 20);
    done(rig.sink.of(1).ended[0]);
    assert_eq!(failed(rig.run(0, headers, Link::Keep)), NetError::Response(HttpError::HeadTooLarge));
    assert_eq!(failed(rig.run(0, banner, Link::Keep)), NetError::Response(HttpError::NotHttp));
    rig.sink.stop_after = Some(1 << 20);
    assert!(matches!(rig.run(0, endless, Link::Keep), Outcome::Stopped(_)));
    assert_eq!(rig.net.idle(), 1, "only the good one is kept");
}

/// Whoever may not dial learns it before anything is sent.
fn only_a_kept_connection_will_do<B: Backend>(backend: B) {
    let addr = serve(|mut s, n| {
        while request(&mut s) {
            s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").unwrap();
            if n == 0 {
                return;
            }
        }
    });
    let mut rig = Rig::new(backend);
    let unasked = |rig: &mut Rig<B>| {
        rig.start_job(|job| Job { dial: Dial::Never, ..job }, 0, addr);
        rig.settle();
        *rig.sink.of(0).ended.last().expect("it has ended")
    };
    assert_eq!(failed(unasked(&mut rig)), NetError::NotKept);
    assert_eq!(rig.sink.of(0).requests, 0);
    done(rig.run(0, addr, Link::Keep));
    // The first connection has closed by now, which is seen before or on use.
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(failed(unasked(&mut rig)), NetError::NotKept);
    done(rig.run(0, addr, Link::Keep));
    assert_eq!(done(unasked(&mut rig)).dialled, Dialled::Before);
}

/// Connecting has a deadline of its own, which ends nothing else.
fn connecting_may_have_less_time_than_the_job<B: Backend>(backend: B) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // SAFETY: a live listening socket; the call only shortens its queue.
    assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) }, 0);
    let _filler = TcpStream::connect(addr).unwrap();
    let slow = serve(|mut s, _| {
        while request(&mut s) {
            std::thread::sleep(Duration::from_millis(400));
            let _ = s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
        }
    });
    let mut rig = Rig::new(backend);
    let briefly = |job: Job| Job { dial: Dial::Until(job.deadline_mono_ns - 5 * SECOND + SECOND / 5), ..job };
    let began = Now::read().mono_ns;
    rig.start_job(briefly, 0, addr);
    rig.start_job(briefly, 1, slow);
    rig.settle();
    assert_eq!(failed(rig.sink.of(0).ended[0]), NetError::DeadlineExceeded(Phase::Connect));
    done(rig.sink.of(1).ended[0]);
    assert!(Now::read().mono_ns < began + 4 * SECOND, "the job's deadline is five seconds away");
    // On the kept connection, too.
    rig.start_job(briefly, 1, slow);
    rig.settle();
    assert_eq!(done(rig.sink.of(1).ended[1]).dialled, Dialled::Before);
}

/// A listener whose queue is full drops the handshake: the dial hangs until its deadline.
fn a_hanging_dial_is_given_up<B: Backend>(backend: B) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // SAFETY: a live listening socket; the call only shortens its queue.
    assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) }, 0);
    let _filler = TcpStream::connect(addr).unwrap();
    let (good, _) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false);
    let mut rig = Rig::new(backend);
    for token in 0..3 {
        rig.start(token, addr, Link::Keep, SECOND / 4);
    }
    rig.settle();
    for token in 0..3 {
        assert_eq!(failed(rig.sink.of(token).ended[0]), NetError::DeadlineExceeded(Phase::Connect));
        // The place is free for another dial at once.
        done(rig.run(token, good, Link::Keep));
    }
}

fn ipv6_works<B: Backend>(backend: B) {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return println!("SKIP ipv6_works: no IPv6 loopback");
    };
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut s = listener.accept().unwrap().0;
        while request(&mut s) {
            s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n6").unwrap();
        }
    });
    let mut rig = Rig::new(backend);
    done(rig.run(0, addr, Link::Keep));
    assert_eq!(done(rig.run(0, addr, Link::Keep)).dialled, Dialled::Before);
    assert_eq!(rig.body(0), "6");
}

/// A turn that always finds work must still see time pass.
fn deadlines_hold_under_constant_work<B: Backend>(backend: B) {
    let (good, _) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", true);
    let mut rig = Rig::new(backend);
    let (began, mut jobs) = (Now::read().mono_ns, 0);
    while rig.now.mono_ns < began + SECOND / 4 {
        assert!(Now::read().mono_ns < began + 5 * SECOND, "time stands still");
        for token in 0..4 {
            if rig.sink.of(token).ended.len() == rig.sink.of(token).requests {
                rig.net.start(Job::plain(token, good, Link::Fresh, began + 10 * SECOND));
                jobs += 1;
            }
        }
        rig.now = rig.net.turn(rig.now, Some(rig.now.mono_ns + 1), &mut rig.sink);
    }
    rig.settle();
    assert!(jobs >= 4);
}

fn big_bodies_arrive_whole<B: Backend>(backend: B) {
    let addr = serve(|mut s, _| {
        while request(&mut s) {
            let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
            write!(s, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
            s.write_all(&body).unwrap();
        }
    });
    let mut rig = Rig::new(backend);
    for token in 0..40 {
        rig.start(token, addr, Link::Keep, 10 * SECOND);
    }
    rig.settle();
    for token in 0..40 {
        let seen = rig.sink.of(token);
        done(seen.ended[0]);
        assert!(seen.body.len() == 3_000_000 && seen.body.iter().zip(0u32..).all(|(b, i)| u32::from(*b) == i % 251));
    }
}

fn cancel_and_policy_end_jobs<B: Backend>(backend: B) {
    struct NoToken7;
    impl ConnectPolicy for NoToken7 {
        fn permission(&mut self, token: u32, _: &SocketAddr) -> Permission {
            if token == 7 { Permission::Deny("seven") } else { Permission::Allow }
        }
    }
    let silent = serve(|mut s, _| {
        request(&mut s);
        std::thread::sleep(Duration::from_secs(30));
    });
    let (good, connections) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false);
    let mut rig = Rig::new(backend);
    rig.net.set_policy(Box::new(NoToken7));
    rig.start(0, silent, Link::Keep, 5 * SECOND);
    rig.start(1, silent, Link::Keep, 5 * SECOND);
    rig.net.cancel(1);
    rig.start(7, good, Link::Keep, 5 * SECOND);
    for _ in 0..5 {
        rig.turn();
    }
    rig.net.cancel(0);
    rig.net.cancel(0);
    rig.settle();
    assert_eq!(failed(rig.sink.of(0).ended[0]), NetError::Cancelled);
    assert_eq!(failed(rig.sink.of(1).ended[0]), NetError::Cancelled);
    assert_eq!(failed(rig.sink.of(7).ended[0]), NetError::Blocked("seven"));
    assert_eq!((rig.sink.of(1).requests, connections.load(Ordering::SeqCst)), (0, 0));
    for token in [0, 1] {
        assert_eq!(rig.sink.of(token).ended.len(), 1);
        done(rig.run(token, good, Link::Keep));
    }
}

fn a_closed_gate_holds_answers<B: Backend>(backend: B) {
    let (addr, _) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false);
    let mut rig = Rig::new(backend);
    rig.sink.closed_gate = Some(Arrival::Beginning);
    rig.start(0, addr, Link::Keep, SECOND / 5);
    rig.settle();
    assert_eq!(failed(rig.sink.of(0).ended[0]), NetError::DeadlineExceeded(Phase::Wait));
    rig.start(0, addr, Link::Keep, 5 * SECOND);
    for _ in 0..20 {
        rig.turn();
    }
    assert!(rig.sink.of(0).ended.len() == 1 && rig.sink.of(0).heads == 0);
    rig.sink.closed_gate = None;
    rig.settle();
    done(rig.sink.of(0).ended[1]);
}

fn an_answer_that_has_begun_may_have_to_wait<B: Backend>(backend: B) {
    let addr = serve(|mut s, _| {
        while request(&mut s) {
            let _ = s.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "a".repeat(1_000_000)).as_bytes(),
            );
        }
    });
    let mut rig = Rig::new(backend);
    rig.sink.closed_gate = Some(Arrival::Going);
    rig.start(0, addr, Link::Keep, 5 * SECOND);
    for _ in 0..20 {
        rig.turn();
    }
    let begun = rig.sink.of(0).body.len();
    assert!(rig.sink.of(0).heads == 1 && begun <= 64 << 10, "one buffer at most, got {begun}");
    rig.sink.closed_gate = None;
    rig.settle();
    done(rig.sink.of(0).ended[0]);
    assert_eq!(rig.sink.of(0).body.len(), 1_000_000);
}

fn a_watched_descriptor_ends_the_wait<B: Backend>(backend: B) {
    let waker = crate::base::mailbox::Waker::new().unwrap();
    let mut rig = Rig::new(backend);
    rig.net.watch(waker.fd());
    let other = waker.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        other.wake();
    });
    let began = Now::read();
    let after = rig.net.turn(began, Some(began.mono_ns + 10 * SECOND), &mut rig.sink);
    assert!(after.mono_ns - began.mono_ns < SECOND);
    thread.join().unwrap();
    waker.clear();
    let began = Now::read();
    let after = rig.net.turn(began, Some(began.mono_ns + SECOND / 20), &mut rig.sink);
    assert!(after.mono_ns - began.mono_ns >= SECOND / 20, "a cleared waker does not wake");
}

fn a_slow_answer_wakes_a_quiet_engine<B: Backend>(backend: B) {
    let slow = serve(|mut s, _| {
        while request(&mut s) {
            std::thread::sleep(Duration::from_millis(300));
            s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").unwrap();
        }
    });
    let mut rig = Rig::new(backend);
    for _ in 0..2 {
        rig.start(0, slow, Link::Keep, 10 * SECOND);
        let (began, mut turns) = (rig.now.mono_ns, 0);
        while rig.net.in_flight() > 0 {
            rig.now = rig.net.turn(rig.now, None, &mut rig.sink);
            turns += 1;
        }
        let took = rig.now.mono_ns - began;
        assert!((SECOND * 3 / 10..SECOND * 3).contains(&took), "{took}");
        assert!(turns < 30, "{turns} turns for one answer");
    }
    assert_eq!(rig.sink.of(0).ended.len(), 2);
}

fn many_targets_share_the_engine<B: Backend>(backend: B) {
    let (addr, connections) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false);
    let mut rig = Rig::new(backend);
    for round in 1..=3 {
        for token in 0..200 {
            rig.start(token, addr, Link::Keep, 10 * SECOND);
        }
        rig.settle();
        for token in 0..200 {
            let seen = rig.sink.of(token);
            assert_eq!(seen.ended.len(), round);
            done(seen.ended[round - 1]);
            assert_eq!(seen.body.len(), round * 5);
        }
    }
    assert_eq!(connections.load(Ordering::SeqCst), 200);
}

fn time_passes_in_turns_that_do_not_wait<B: Backend>(backend: B) {
    let mut rig = Rig::new(backend);
    let before = rig.now;
    std::thread::sleep(Duration::from_millis(2));
    let after = rig.net.turn(before, Some(before.mono_ns), &mut rig.sink);
    assert!(after.mono_ns >= before.mono_ns + 2_000_000, "{before:?} {after:?}");
}

macro_rules! on_both {
    ($($name:ident,)*) => {
        mod uring {
            $(#[test] fn $name() {
                for options in super::uring_variants() {
                    match super::Uring::new(options) {
                        Ok(backend) => super::$name(backend),
                        Err(refusal) => println!("SKIP {}: {refusal}", stringify!($name)),
                    }
                }
            })*
        }
        mod epoll {
            $(#[test] fn $name() { super::$name(super::Epoll::new().unwrap()) })*
        }
    };
}

on_both! {
    time_passes_in_turns_that_do_not_wait,
    keep_alive_uses_one_connection,
    fresh_dials_each_time,
    another_address_dials_anew,
    framings_end_where_they_should,
    stale_connection_is_replaced_once,
    unasked_bytes_are_never_an_answer,
    deadlines_end_jobs,
    a_hanging_dial_is_given_up,
    only_a_kept_connection_will_do,
    connecting_may_have_less_time_than_the_job,
    ipv6_works,
    refusal_and_reset_have_names,
    hostile_bodies_are_bounded,
    deadlines_hold_under_constant_work,
    big_bodies_arrive_whole,
    cancel_and_policy_end_jobs,
    a_closed_gate_holds_answers,
    an_answer_that_has_begun_may_have_to_wait,
    a_watched_descriptor_ends_the_wait,
    a_slow_answer_wakes_a_quiet_engine,
    many_targets_share_the_engine,
}

#[test]
fn epoll_gives_up_idle_connections_before_failing_a_job() {
    let (addr, connections) = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false);
    let silent = serve(|mut s, _| {
        request(&mut s);
        std::thread::sleep(Duration::from_secs(30));
    });
    let mut rig = Rig::new(Epoll::with_connections_max(20).unwrap());
    for token in 0..60 {
        done(rig.run(token, addr, Link::Keep));
        assert!(rig.net.idle() <= 20);
    }
    // The most recent connections survived.
    assert_eq!(done(rig.run(59, addr, Link::Keep)).dialled, Dialled::Before);
    assert_eq!(connections.load(Ordering::SeqCst), 60);
    // Without anything idle left, the job that finds no descriptor says so.
    for token in 0..21 {
        rig.start(100 + token, silent, Link::Keep, SECOND / 2);
    }
    rig.settle();
    let ends: Vec<NetError> = (100..121).map(|t| failed(rig.sink.of(t).ended[0])).collect();
    assert_eq!(ends.iter().filter(|e| **e == NetError::NoDescriptors).count(), 1, "{ends:?}");
    assert!(ends.iter().filter(|e| e.is_timeout()).count() == 20);
}

/// The ring as shipped; many small rings; and with everything optional forced off.
fn uring_variants() -> [UringOptions; 3] {
    let shipped = UringOptions::default();
    [
        shipped,
        UringOptions { connections_per_ring: 7, ..shipped },
        UringOptions { defer_taskrun: false, taskrun_flag: false, ..shipped },
    ]
}
