//! Other people's programs from Debian's packages: started on a free loopback port, asked over HTTP, ended with the test.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{fetch, fetch_with, post};
use super::process::{free_port, required};

/// Longest wait for a peer to be ready.
const STARTING: Duration = Duration::from_secs(60);
/// Longest silence within an answer.
const ANSWERING: Duration = Duration::from_secs(60);

/// A peer's process; it is killed when this is dropped.
pub struct Peer {
    child: Child,
    name: String,
    pub port: u16,
    /// Where it listens, as `127.0.0.1:9100`.
    pub address: String,
}

impl Peer {
    /// `None`, after a `SKIP` line, when it is not installed. `arguments` gets the address to listen on.
    pub fn start(name: &str, arguments: impl Fn(&str) -> Vec<String>) -> Option<Peer> {
        Peer::start_at(free_port(), name, arguments)
    }

    /// The same on that port.
    pub fn start_at(port: u16, name: &str, arguments: impl Fn(&str) -> Vec<String>) -> Option<Peer> {
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(name);
        command.args(arguments(&address)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => Some(Peer { child, name: name.to_owned(), port, address }),
            Err(error) => {
                assert!(!required("peers"), "{name} is required but cannot be started: {error}");
                println!("SKIP {name}: {error}");
                None
            }
        }
    }

    /// Waits until that path is answered with 200.
    pub fn wait_until_ready(&mut self, path: &str) {
        let start = Instant::now();
        while !fetch(self.port, path, ANSWERING).is_ok_and(|(status, _)| status.contains(" 200 ")) {
            let ended = self.child.try_wait().ok().flatten();
            assert!(ended.is_none(), "{} ended by itself: {ended:?}", self.name);
            assert!(start.elapsed() < STARTING, "{} is not ready", self.name);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The body of a good answer to a GET.
    pub fn text(&self, path: &str) -> String {
        let (head, body) = fetch_with(self.port, path, &[], ANSWERING).unwrap_or_else(|e| self.no_answer(path, &e));
        String::from_utf8(self.good(path, &head, body)).expect("UTF-8")
    }

    /// The body of a good answer to a POST.
    pub fn posted(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let (head, body) = post(self.port, path, headers, body, ANSWERING).unwrap_or_else(|e| self.no_answer(path, &e));
        self.good(path, &head, body)
    }

    fn no_answer(&self, path: &str, error: &std::io::Error) -> ! {
        panic!("{} does not answer {path}: {error}", self.name)
    }

    fn good(&self, path: &str, head: &str, body: Vec<u8>) -> Vec<u8> {
        let status = head.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('2'), "{} {path}: {head}\n{}", self.name, String::from_utf8_lossy(&body));
        body
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}
