//! Socket addresses as the kernel wants them, and the few socket calls of the epoll backend.

use std::net::SocketAddr;

/// A kernel socket address of either family, with its length.
#[derive(Clone, Copy)]
pub(super) struct RawAddr {
    storage: libc::sockaddr_in6,
    len: libc::socklen_t,
}

impl RawAddr {
    pub(super) fn new(addr: SocketAddr) -> Self {
        // SAFETY: an all-zero sockaddr_in6 is valid.
        let mut storage: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        match addr {
            SocketAddr::V4(a) => {
                let v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: a.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(a.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: sockaddr_in is smaller than sockaddr_in6 and needs no stricter alignment.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(v4) };
                Self { storage, len: size_of::<libc::sockaddr_in>() as libc::socklen_t }
            }
            SocketAddr::V6(a) => {
                storage.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                storage.sin6_port = a.port().to_be();
                storage.sin6_addr = libc::in6_addr { s6_addr: a.ip().octets() };
                storage.sin6_scope_id = a.scope_id();
                Self { storage, len: size_of::<libc::sockaddr_in6>() as libc::socklen_t }
            }
        }
    }

    /// The address that dissolves a connection.
    pub(super) fn unspecified() -> Self {
        // SAFETY: an all-zero sockaddr_in6 is valid and reads as AF_UNSPEC.
        Self { storage: unsafe { std::mem::zeroed() }, len: size_of::<libc::sockaddr_in>() as libc::socklen_t }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(super) fn len(&self) -> libc::socklen_t {
        self.len
    }
}

/// The address family of a socket for `addr`.
pub(super) fn family(addr: &SocketAddr) -> i32 {
    if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// The result of a system call: its value, or errno.
pub(super) fn check(result: libc::c_int) -> Result<libc::c_int, i32> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// errno of the last failed call of this thread.
pub(super) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// A stream socket that never blocks.
pub(super) fn stream(family: i32) -> Result<i32, i32> {
    // SAFETY: plain system call.
    check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) })
}

pub(super) fn connect(fd: i32, addr: &RawAddr) -> Result<(), i32> {
    // SAFETY: the address is valid for its length during the call.
    check(unsafe { libc::connect(fd, addr.as_ptr(), addr.len()) }).map(|_| ())
}

/// Sends what the socket takes now.
pub(super) fn send(fd: i32, bytes: &[u8]) -> Result<usize, i32> {
    // SAFETY: the slice is readable for its length.
    let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| errno())
}

/// Receives what is there; zero is the end of the stream.
pub(super) fn recv(fd: i32, into: &mut [u8], flags: i32) -> Result<usize, i32> {
    // SAFETY: the slice is writable for its length.
    let n = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT | flags) };
    usize::try_from(n).map_err(|_| errno())
}

/// The pending error of a socket, zero if none.
pub(super) fn pending_error(fd: i32) -> i32 {
    let (mut error, mut len) = (0i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: `error` and `len` are valid to write to.
    let r = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &raw mut len) };
    if r < 0 { errno() } else { error }
}

pub(super) fn close(fd: i32) {
    // SAFETY: the caller owns the descriptor and forgets it.
    unsafe { libc::close(fd) };
}

/// Soft limit on open descriptors of this process.
pub(super) fn descriptors_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid to write to.
    let r = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if r < 0 { 1024 } else { limit.rlim_cur }
}
