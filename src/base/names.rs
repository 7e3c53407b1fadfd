//! What this machine is called: its host name, and names of addresses. May block on the system's resolver.

use std::ffi::CStr;
use std::net::SocketAddr;

/// The host name as the kernel knows it.
///
/// # Errors
/// The system's; a name that is not UTF-8 is an error too.
pub fn hostname() -> std::io::Result<String> {
    let mut name = [0u8; 256];
    // SAFETY: the buffer is writable for the given length, which leaves room for a final zero.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    text(&name).ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "host name is not UTF-8"))
}

/// The name of an address by reverse lookup (hosts file, then DNS, as the system is set up).
#[must_use]
pub fn reverse(address: SocketAddr) -> Option<String> {
    let mut name = [0u8; 1025];
    let len = name.len() as libc::socklen_t;
    let flags = libc::NI_NAMEREQD;
    let out = name.as_mut_ptr().cast();
    let result = match address {
        SocketAddr::V4(a) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: 0,
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(a.ip().octets()) },
                sin_zero: [0; 8],
            };
            let size = size_of_val(&raw) as libc::socklen_t;
            // SAFETY: an IPv4 address of its size, a writable buffer of its length, and no buffer for the service.
            unsafe { libc::getnameinfo((&raw const raw).cast(), size, out, len, std::ptr::null_mut(), 0, flags) }
        }
        SocketAddr::V6(a) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: a.ip().octets() },
                sin6_scope_id: a.scope_id(),
            };
            let size = size_of_val(&raw) as libc::socklen_t;
            // SAFETY: as above, with an IPv6 address.
            unsafe { libc::getnameinfo((&raw const raw).cast(), size, out, len, std::ptr::null_mut(), 0, flags) }
        }
    };
    if result == 0 { text(&name) } else { None }
}

fn text(bytes: &[u8]) -> Option<String> {
    CStr::from_bytes_until_nul(bytes).ok()?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_the_name_the_kernel_tells() {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(hostname().unwrap(), kernel.trim_end());
    }

    #[test]
    fn the_loopback_address_has_a_name_where_the_hosts_file_says_so() {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        if !hosts.lines().any(|l| l.starts_with("127.0.0.1")) {
            println!("SKIP the_loopback_address_has_a_name: the hosts file does not name it");
            return;
        }
        assert!(reverse("127.0.0.1:0".parse().unwrap()).is_some_and(|name| !name.is_empty()));
    }
}
