//! Two network namespaces with a pair of veth devices between: the scraper and its sink in one, the farm in the other.
//!
//! Neither has a name: the kernel removes both, devices and routes included, when the last process and descriptor of a
//! run is gone, however it ended. What a device receives is worked off by a kernel thread of its own, as a network
//! card's would be, so neither end is billed for the other's input.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

use ringscrape::farm::Spec;

/// Address of the first target, and how many are routed to the farm.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
const ADDRESSES: u32 = 1 << 23;
/// Namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Makes the pair of devices; `$1` is the farm's namespace.
const DEVICES: &str = r#"
ip link set lo up
ip link add perf0 type veth peer name farm0 netns "$1"
"#;

/// Addresses, routes, and kernel threads for what is received: settings of a device are files where its own namespace has
/// a mount of them.
const ROUTES: &str = r#"
threads='mount -t sysfs none /sys; echo 1 > /sys/class/net/$0/threaded'
ip addr add 10.77.0.1/30 dev perf0
ip link set perf0 up
unshare --mount sh -ec "$threads" perf0
nsenter --net="$1" sh -ec '
    ip link set lo up
    ip addr add 10.77.0.2/30 dev farm0
    ip link set farm0 up
    unshare --mount sh -ec "$1" farm0
    ip route add local 10.128.0.0/9 dev lo
' sh "$threads"
ip route add 10.128.0.0/9 via 10.77.0.2
"#;

/// The namespaces of a run. The thread that made them is in the scraper's until they are dropped.
#[derive(Debug)]
pub struct Networks {
    home: File,
    farm: File,
}

impl Networks {
    /// Makes them and enters the scraper's, where threads and processes that are started from now on will live.
    ///
    /// # Errors
    /// What is not allowed here, or missing.
    pub fn new() -> Result<Self, String> {
        let failed = |what: &'static str| {
            move |e: io::Error| {
                format!("network namespaces: {what}: {e}; they need root, or CAP_SYS_ADMIN and CAP_NET_ADMIN")
            }
        };
        let home = File::open(OWN).map_err(failed(OWN))?;
        // The thread ends; its namespace lives as long as the descriptors.
        let made = std::thread::spawn(|| {
            unshare()?;
            Ok((File::open(OWN)?, UdpSocket::bind("0.0.0.0:0")?))
        });
        let made = made.join().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
        let (farm, in_farm) = made.map_err(failed("unshare"))?;
        unshare().map_err(failed("unshare"))?;
        let networks = Self { home, farm };
        let in_scraper = UdpSocket::bind("0.0.0.0:0").map_err(failed("socket"))?;
        networks.run(DEVICES)?;
        // Only a device that gathers packets has something that a kernel thread could do.
        gather(&in_scraper, "perf0").and_then(|()| gather(&in_farm, "farm0")).map_err(failed("GRO"))?;
        networks.run(ROUTES)?;
        Ok(networks)
    }

    /// The farm of this description, moved to its namespace.
    pub fn with_farm(&self, spec: &Spec) -> Result<Spec, String> {
        if spec.numbers().div_ceil(u32::from(spec.ports.max(1))) > ADDRESSES {
            return Err(format!("at most {ADDRESSES} addresses are routed to a farm in its own namespace"));
        }
        Ok(Spec { first_address: FIRST, namespace: Some(self.farm_path()), ..spec.clone() })
    }

    fn farm_path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.farm.as_raw_fd()).into()
    }

    fn run(&self, script: &str) -> Result<(), String> {
        let output = Command::new("sh").args(["-ec", script, "sh"]).arg(self.farm_path()).output();
        let output = output.map_err(|e| format!("sh: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("network namespaces: {}; they need iproute2, util-linux and a kernel with veth", said.trim()))
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        // SAFETY: a plain system call on an open descriptor. A failure leaves this thread where nothing is.
        unsafe { libc::setns(self.home.as_raw_fd(), libc::CLONE_NEWNET) };
    }
}

/// The calling thread gets a network of its own.
fn unshare() -> io::Result<()> {
    // SAFETY: a plain system call.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a device of the socket's namespace gather packets (`ethtool -K NAME gro on`).
fn gather(socket: &UdpSocket, name: &str) -> io::Result<()> {
    // `ETHTOOL_SGRO` of linux/ethtool.h, with its value.
    let mut on: [u32; 2] = [0x2c, 1];
    // SAFETY: all zeros is a valid request; the union's one field in use is set below.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = on.as_mut_ptr().cast();
    // SAFETY: the request and what it points to live through the call and are as large as the command says.
    let r = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use ringscrape::farm::{Farm, Population, Source};

    use super::*;

    #[test]
    fn a_farm_is_reached_over_the_pair_and_nothing_else_is() {
        let at_home = TcpListener::bind("127.0.0.1:0").unwrap();
        let home = at_home.local_addr().unwrap();
        let networks = match Networks::new() {
            Ok(networks) => networks,
            Err(e) => return println!("SKIP {e}"),
        };
        let spec = networks.with_farm(&Spec::new(vec![Population::new("p", 300, Source::Samples(1))])).unwrap();
        let farm = Farm::spawn(spec).unwrap();
        assert_eq!(farm.addr(299).ip(), Ipv4Addr::new(10, 128, 1, 43));
        let connected = TcpStream::connect(farm.addr(299)).unwrap();
        assert_eq!(connected.local_addr().unwrap().ip(), Ipv4Addr::new(10, 77, 0, 1));
        assert!(TcpStream::connect(("127.0.0.1", farm.port)).is_err(), "the farm is not on the scraper's loopback");
        assert!(TcpStream::connect(home).is_err(), "nor is anything of the host");
        drop(networks);
        TcpStream::connect(home).unwrap();
        let many = Spec::new(vec![Population::new("p", ADDRESSES + 1, Source::Samples(1))]);
        assert!(Networks::new().unwrap().with_farm(&many).is_err());
    }
}
