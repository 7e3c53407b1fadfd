//! The farm's listening sockets: groups that share a port and place connections by address, black holes, refusals.
//!
//! Several rings listen at one port (`SO_REUSEPORT`). A filter in the kernel gives each connection to the ring that its
//! destination address belongs to, so a ring's slot table is filled by its own targets only and never by chance.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{Manner, Spec, hash};

/// Connections that wait to be accepted: a scraper dials thousands of targets at once. The kernel cuts it to `somaxconn`.
const BACKLOG: i32 = 16_384;
/// Attempts at finding as many free ports in a row as are needed.
const ATTEMPTS: u32 = 64;

/// All sockets of a farm that listen, or are there to be in the way.
#[derive(Debug)]
pub(super) struct Listeners {
    /// First port.
    pub(super) port: u16,
    /// By group, then by port; a group is what one ring accepts from.
    pub(super) groups: Vec<Vec<TcpListener>>,
    /// Kept open; never read.
    _in_the_way: Vec<OwnedFd>,
    _fill: Vec<TcpStream>,
}

impl Listeners {
    /// Listens. Targets are spread over so many groups, in order.
    ///
    /// # Errors
    /// The system's: a port is taken, no descriptors.
    pub(super) fn open(spec: &Spec, groups: u32) -> io::Result<Self> {
        let mut last = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let lone = spec.ports == 1 && !spec.populations.iter().any(|p| p.manner.has_own_port());
        for attempt in 0..if spec.port == 0 && !lone { ATTEMPTS } else { 1 } {
            let port = if spec.port == 0 && !lone { below_ephemeral(attempt) } else { spec.port };
            match Self::open_once(spec, port, groups) {
                Ok(all) => return Ok(all),
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }

    fn open_once(spec: &Spec, port: u16, groups: u32) -> io::Result<Self> {
        // A port whose users all share it does not say that it is taken, so one that does not share asks first.
        let asked = bound(port)?;
        let port = local_port(&asked)?;
        drop(asked);
        let mut all = Self { port, groups: Vec::new(), _in_the_way: Vec::new(), _fill: Vec::new() };
        let last_port = u32::from(port) + u32::from(spec.ports) + 1;
        if last_port > u32::from(u16::MAX) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        for i in 1..spec.ports {
            drop(bound(port + i)?);
        }
        let each = spec.numbers().div_ceil(u32::from(spec.ports)).div_ceil(groups);
        for _ in 0..groups {
            all.groups.push((0..spec.ports).map(|i| shared(port + i)).collect::<io::Result<_>>()?);
        }
        for listener in all.groups[0].iter().filter(|_| groups > 1) {
            place_by_address(listener, u32::from(spec.first_address), each)?;
        }
        let lives = |m| spec.populations.iter().any(|p| p.manner == m);
        if lives(Manner::BlackHole) {
            all.open_hole(port + spec.ports)?;
        }
        if lives(Manner::Refusing) {
            all._in_the_way.push(bound(port + spec.ports + 1)?);
        }
        Ok(all)
    }

    /// A listener that accepts nobody and whose queue is full: the kernel drops every further SYN.
    fn open_hole(&mut self, port: u16) -> io::Result<()> {
        let hole = bound(port)?;
        listen(hole.as_raw_fd(), 0)?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // A queue of none holds one; the second waits in vain and shows that it is full.
        while let Ok(filled) = TcpStream::connect_timeout(&at, Duration::from_millis(50)) {
            self._fill.push(filled);
        }
        self._in_the_way.push(hole);
        Ok(())
    }
}

/// A port to try: several in a row are rarely free where the kernel takes those of outgoing connections from.
fn below_ephemeral(attempt: u32) -> u16 {
    let luck = hash(u64::from(std::process::id()) << 32 | u64::from(attempt));
    10_000 + (luck % 20_000) as u16
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; what it returns is a descriptor that is ours alone.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?)) }
}

fn set(fd: &OwnedFd, name: libc::c_int) -> io::Result<()> {
    set_of(fd, libc::SOL_SOCKET, name)
}

fn set_of(fd: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (at, len) = ((&raw const on).cast(), size_of_val(&on) as libc::socklen_t);
    // SAFETY: the value is readable for its length.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, at, len) }).map(drop)
}

fn bind(fd: &OwnedFd, port: u16) -> io::Result<()> {
    let any = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: libc::INADDR_ANY },
        sin_zero: [0; 8],
    };
    // SAFETY: the address is valid for its length.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const any).cast(), size_of_val(&any) as libc::socklen_t) })
        .map(drop)
}

fn listen(fd: i32, backlog: i32) -> io::Result<()> {
    // SAFETY: a plain system call on a descriptor of the caller.
    check(unsafe { libc::listen(fd, backlog) }).map(drop)
}

/// A socket that has a port for itself, and does not listen.
fn bound(port: u16) -> io::Result<OwnedFd> {
    let fd = socket()?;
    set(&fd, libc::SO_REUSEADDR)?;
    bind(&fd, port)?;
    Ok(fd)
}

/// A listener at a port that others of this process share.
fn shared(port: u16) -> io::Result<TcpListener> {
    let fd = socket()?;
    set(&fd, libc::SO_REUSEADDR)?;
    set(&fd, libc::SO_REUSEPORT)?;
    // Accepted connections inherit it: the tail of an answer does not wait for the peer's acknowledgement.
    set_of(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    bind(&fd, port)?;
    listen(fd.as_raw_fd(), BACKLOG)?;
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn local_port(fd: &OwnedFd) -> io::Result<u16> {
    Ok(TcpListener::from(fd.try_clone()?).local_addr()?.port())
}

/// Gives connections to the listener of the group whose number is (destination address - first) / each.
fn place_by_address(listener: &TcpListener, first: u32, each: u32) -> io::Result<()> {
    /// Where the filter finds the IP header, and the destination in it.
    const DESTINATION: u32 = (libc::SKF_NET_OFF + 16) as u32;
    let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, DESTINATION),
        step(libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K, first),
        step(libc::BPF_ALU | libc::BPF_DIV | libc::BPF_K, each),
        step(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let (at, len) = ((&raw const filter).cast(), size_of_val(&filter) as libc::socklen_t);
    let name = libc::SO_ATTACH_REUSEPORT_CBPF;
    // SAFETY: the program is valid for its length during the call; the kernel copies it.
    check(unsafe { libc::setsockopt(listener.as_raw_fd(), libc::SOL_SOCKET, name, at, len) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::{Population, Source};

    #[test]
    fn every_group_gets_its_own_addresses() {
        let spec = Spec { ports: 2, ..Spec::new(vec![Population::new("p", 30, Source::Samples(1))]) };
        let all = Listeners::open(&spec, 3).unwrap();
        // 30 targets are 15 addresses: five to a group.
        for target in (0..30).rev() {
            let client = TcpStream::connect(spec.addr(target, all.port)).unwrap();
            let (own, port) = (target as usize / 10, target as usize % 2);
            let (_, peer) = all.groups[own][port].accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap(), "target {target}");
        }
    }
}
