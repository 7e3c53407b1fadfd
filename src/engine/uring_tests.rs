//! Hosts that refuse the ring, each played in a process of its own: the refusal must name the layer.

use std::process::Command;

use super::*;
use crate::base::limits::REAP_TICK_NS;

const PART: &str = "RINGSCRAPE_TEST_PART";

/// Runs `part` in a child of this test binary and gives what it printed.
fn child(part: &str) -> String {
    let exe = std::env::current_exe().unwrap();
    let args = ["--exact", "engine::uring::tests::plays_its_part", "--nocapture", "--test-threads=1"];
    let out = Command::new(exe).args(args).env(PART, part).output().unwrap();
    assert!(out.status.success(), "{part}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Not a test by itself: what the children run.
#[test]
fn plays_its_part() {
    let Ok(part) = std::env::var(PART) else { return };
    match part.as_str() {
        "seccomp" => refuse_setup(),
        "descriptors" => {
            let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
            // SAFETY: a valid limit; this process exists for this test only.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        }
        other => panic!("{other}"),
    }
    match Uring::new(UringOptions::default()) {
        Ok(ring) => println!("RING of {}", ring.per_ring),
        Err(refusal) => println!("REFUSED {refusal}"),
    }
}

/// Makes `io_uring_setup` fail with EPERM in this thread, as Docker's default profile does.
fn refuse_setup() {
    let code = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a valid program that outlives the call; it binds this process only.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

#[test]
fn a_seccomp_profile_is_named() {
    let said = child("seccomp");
    assert!(said.contains("REFUSED io_uring_setup: refused"), "{said}");
}

#[test]
fn a_small_descriptor_limit_makes_small_rings() {
    if let Err(refusal) = Uring::probe() {
        return println!("SKIP a_small_descriptor_limit_makes_small_rings: {refusal}");
    }
    assert!(child("descriptors").contains("RING of 64"));
}

#[test]
fn refusals_name_their_layer() {
    for (refusal, word) in [
        (Refusal::Setup(libc::ENOSYS), "no io_uring"),
        (Refusal::Setup(libc::EINVAL), "older than 6.1"),
        (Refusal::Setup(libc::ENOMEM), "MEMLOCK"),
        (Refusal::SlotTable(9, libc::EMFILE), "NOFILE"),
        (Refusal::BufferRing(libc::ENOMEM), "MEMLOCK"),
        (Refusal::Missing("SOCKET"), "lacks SOCKET"),
    ] {
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
}

#[test]
fn one_round_takes_all_that_came() {
    use std::io::{Read, Write};
    const MANY: u32 = 200;
    let mut ring = match Uring::new(UringOptions::default()) {
        Ok(ring) => ring,
        Err(refusal) => return println!("SKIP one_round_takes_all_that_came: {refusal}"),
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let round = |ring: &mut Uring| {
        ring.begin(Now::read());
        std::iter::from_fn(|| ring.next()).filter(|e| matches!(e.what, What::Bytes(_))).count()
    };
    let mut peers = Vec::new();
    for conn in 0..MANY {
        ring.dial(conn, addr, Span::Kept, &mut b"x".to_vec());
        round(&mut ring);
        peers.push(listener.accept().unwrap().0);
    }
    for peer in &mut peers {
        peer.read_exact(&mut [0]).unwrap();
    }
    (0..MANY).for_each(|conn| ring.recv(conn));
    // All receives are under way before the first byte comes.
    assert_eq!(round(&mut ring), 0);
    for peer in &mut peers {
        peer.write_all(b"y").unwrap();
    }
    assert_eq!(round(&mut ring), MANY as usize);
}

/// All rings list the same buffers, so what one of them brought is read before another is entered, also where waiting
/// entered it.
#[test]
fn answers_on_several_rings_are_not_mixed_up() {
    use std::io::{Read, Write};
    const RINGS: u32 = 6;
    let mut rings = match Uring::new(UringOptions { connections_per_ring: 1, ..UringOptions::default() }) {
        Ok(rings) => rings,
        Err(refusal) => return println!("SKIP answers_on_several_rings_are_not_mixed_up: {refusal}"),
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut peers = Vec::new();
    for conn in 0..RINGS {
        rings.dial(conn, addr, Span::Kept, &mut b"x".to_vec());
        rings.begin(Now::read());
        while rings.next().is_some() {}
        peers.push(listener.accept().unwrap().0);
    }
    for peer in &mut peers {
        peer.read_exact(&mut [0]).unwrap();
    }
    for _ in 0..20 {
        // All receives are under way before the first byte comes.
        (0..RINGS).for_each(|conn| rings.recv(conn));
        rings.begin(Now::read());
        assert!(rings.next().is_none());
        for (conn, peer) in peers.iter_mut().enumerate() {
            peer.write_all(&vec![conn as u8; 100 * (conn + 1)]).unwrap();
        }
        let mut left = RINGS;
        while left > 0 {
            let now = Now::read();
            rings.wait(now, Some(now.mono_ns + 500_000_000), REAP_TICK_NS);
            rings.begin(now);
            while let Some(Event { conn, what }) = rings.next() {
                let What::Bytes(chunk) = what else { panic!("{conn}: {what:?}") };
                assert_eq!(rings.chunk(chunk), vec![conn as u8; 100 * (conn as usize + 1)], "ring {conn}");
                left -= 1;
            }
        }
    }
}
