//! Sockets that serve one connection after the other: what the peers and the next connection see of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::base::limits::{REAP_TICK_NS, RECV_BUFFER_BYTES, RING_SPARES};

/// A ring and a listener; `None` where the host refuses the ring.
fn rig(test: &str, at: &str) -> Option<(Uring, TcpListener, SocketAddr)> {
    let ring = Uring::new(UringOptions::default()).inspect_err(|refusal| println!("SKIP {test}: {refusal}")).ok()?;
    let listener = TcpListener::bind(at).inspect_err(|e| println!("SKIP {test}: {e}")).ok()?;
    let addr = listener.local_addr().unwrap();
    Some((ring, listener, addr))
}

/// So many events, of whole rounds.
fn events(ring: &mut Uring, count: usize) -> Vec<(Conn, Said)> {
    let mut said = Vec::new();
    for _ in 0..1000 {
        let now = Now::read();
        ring.begin(now);
        while let Some(Event { conn, what }) = ring.next() {
            let what = match what {
                What::Bytes(chunk) => Said::Bytes(ring.chunk(chunk).to_vec()),
                other => Said::Other(format!("{other:?}")),
            };
            said.push((conn, what));
        }
        if said.len() >= count {
            return said;
        }
        ring.wait(now, Some(now.mono_ns + 10_000_000), REAP_TICK_NS);
    }
    panic!("no more than {said:?}");
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Bytes(Vec<u8>),
    Other(String),
}

fn other(what: What) -> Said {
    Said::Other(format!("{what:?}"))
}

/// Works off what is queued.
fn flush(ring: &mut Uring) {
    ring.begin(Now::read());
    assert!(ring.next().is_none());
}

fn dial(ring: &mut Uring, listener: &TcpListener, conn: Conn, span: Span) -> TcpStream {
    ring.dial(conn, listener.local_addr().unwrap(), span, &mut b"ask".to_vec());
    assert_eq!(events(ring, 2), [(conn, other(What::Connected)), (conn, other(What::Sent))]);
    let mut peer = listener.accept().unwrap().0;
    let mut asked = [0; 3];
    peer.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"ask");
    peer
}

/// One receive.
fn read(ring: &mut Uring, conn: Conn) -> Vec<u8> {
    ring.recv(conn);
    match events(ring, 1).as_mut_slice() {
        [(from, Said::Bytes(bytes))] if *from == conn => std::mem::take(bytes),
        more => panic!("{more:?}"),
    }
}

fn idle(ring: &Uring) -> usize {
    ring.rings[0].as_ref().unwrap().spares().idle()
}

#[test]
fn a_socket_serves_one_connection_after_the_other() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let Some((mut ring, listener, _)) = rig("a_socket_serves_one_connection_after_the_other", at) else { return };
        for conn in [3, 7, 3, 9000] {
            let mut peer = dial(&mut ring, &listener, conn, Span::Once);
            assert_eq!(idle(&ring), 0, "{conn}");
            let answer = format!("for {conn}").into_bytes();
            peer.write_all(&answer).unwrap();
            drop(peer);
            assert_eq!(read(&mut ring, conn), answer);
            ring.close(conn, Close::Fin);
            flush(&mut ring);
            assert_eq!(idle(&ring), 1, "{conn}");
        }
    }
}

#[test]
fn a_peer_that_has_not_closed_sees_an_orderly_end() {
    let Some((mut ring, listener, _)) = rig("a_peer_that_has_not_closed_sees_an_orderly_end", "127.0.0.1:0") else {
        return;
    };
    for (span, len) in [(Span::Once, 6), (Span::Once, RECV_BUFFER_BYTES + 6), (Span::Kept, 6)] {
        let mut peer = dial(&mut ring, &listener, 5, span);
        peer.write_all(&vec![b'x'; len]).unwrap();
        let mut got = 0;
        while got < len {
            got += read(&mut ring, 5).len();
        }
        ring.close(5, Close::Fin);
        flush(&mut ring);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "{span:?}, {len}: no reset");
        assert_eq!(idle(&ring), 0);
    }
}

#[test]
fn a_kept_connection_that_its_peer_has_closed_ends_in_order() {
    let test = "a_kept_connection_that_its_peer_has_closed_ends_in_order";
    let Some((mut ring, listener, _)) = rig(test, "127.0.0.1:0") else { return };
    for (span, end) in [(Span::Kept, Ok(0)), (Span::Once, Err(ErrorKind::ConnectionReset))] {
        let mut peer = dial(&mut ring, &listener, 5, span);
        peer.write_all(b"answer").unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read(&mut ring, 5), b"answer");
        ring.close(5, Close::Fin);
        flush(&mut ring);
        assert_eq!(peer.read(&mut [0]).map_err(|e| e.kind()), end, "{span:?}");
    }
}

#[test]
fn what_nobody_read_of_one_answer_is_not_in_the_next() {
    let test = "what_nobody_read_of_one_answer_is_not_in_the_next";
    let Some((mut ring, listener, _)) = rig(test, "127.0.0.1:0") else { return };
    let mut peer = dial(&mut ring, &listener, 0, Span::Once);
    peer.write_all(&vec![b'x'; RECV_BUFFER_BYTES + 1000]).unwrap();
    drop(peer);
    assert!(read(&mut ring, 0).iter().all(|b| *b == b'x'));
    ring.close(0, Close::Fin);
    flush(&mut ring);
    assert_eq!(idle(&ring), 1);
    let mut peer = dial(&mut ring, &listener, 1, Span::Once);
    assert_eq!(idle(&ring), 0, "the same socket");
    peer.write_all(b"mine").unwrap();
    assert_eq!(read(&mut ring, 1), b"mine");
}

#[test]
fn a_connection_that_was_refused_or_broken_off_leaves_its_place() {
    let test = "a_connection_that_was_refused_or_broken_off_leaves_its_place";
    let Some((mut ring, listener, _)) = rig(test, "127.0.0.1:0") else { return };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..2 * RING_SPARES {
        ring.dial(0, nobody, Span::Once, &mut b"ask".to_vec());
        let refused = (0, other(What::Failed(Stage::Dial, libc::ECONNREFUSED)));
        assert_eq!(events(&mut ring, 2), [refused, (0, other(What::Failed(Stage::Send, libc::ECANCELED)))]);
        ring.close(0, Close::Reset);
        flush(&mut ring);
        // A receive is under way when it ends.
        let peer = dial(&mut ring, &listener, 1, Span::Once);
        ring.recv(1);
        flush(&mut ring);
        ring.close(1, Close::Reset);
        flush(&mut ring);
        drop(peer);
    }
    assert_eq!(idle(&ring), 0);
    dial(&mut ring, &listener, 1, Span::Once);
}

#[test]
fn more_connections_than_places_have_sockets_of_their_own() {
    let test = "more_connections_than_places_have_sockets_of_their_own";
    let Some((mut ring, listener, _)) = rig(test, "127.0.0.1:0") else { return };
    let many = u32::from(RING_SPARES) + 40;
    for _ in 0..2 {
        let mut peers: Vec<_> = (0..many).map(|conn| dial(&mut ring, &listener, conn, Span::Once)).collect();
        for (conn, peer) in peers.drain(..).enumerate() {
            (&peer).write_all(&(conn as u32).to_le_bytes()).unwrap();
        }
        for conn in 0..many {
            assert_eq!(read(&mut ring, conn), conn.to_le_bytes());
            ring.close(conn, Close::Fin);
        }
        flush(&mut ring);
        assert_eq!(idle(&ring), usize::from(RING_SPARES));
    }
}
