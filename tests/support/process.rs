//! Scraper processes under test: found, started with an agent's command line, ended with the test.

use std::fs::File;
use std::iter;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where Debian puts Prometheus.
pub const DEBIAN_PROMETHEUS: &str = "/usr/bin/prometheus";

/// A scraper process; it is killed when this is dropped.
pub struct Scraper {
    child: Child,
    pub stderr: PathBuf,
    pub port: u16,
}

impl Scraper {
    /// Starts `binary` as a Prometheus agent on `dir/prometheus.yml`, its data in `dir/data`, its output in `dir/output`.
    pub fn start(binary: &Path, dir: &Path, more: &[String]) -> Scraper {
        Scraper::start_changed(binary, dir, more, |_| {})
    }

    /// The same with something done to the command first.
    pub fn start_changed(binary: &Path, dir: &Path, more: &[String], change: impl FnOnce(&mut Command)) -> Scraper {
        let mut arguments = vec![
            agent_flag(binary).to_owned(),
            format!("--config.file={}", dir.join("prometheus.yml").display()),
            format!("--storage.agent.path={}", dir.join("data").display()),
        ];
        arguments.extend_from_slice(more);
        Scraper::start_as(binary, dir, &arguments, change)
    }

    /// Starts `binary` with these arguments and an address to listen on, its output in `dir/output`.
    pub fn start_as(binary: &Path, dir: &Path, arguments: &[String], change: impl FnOnce(&mut Command)) -> Scraper {
        let port = free_port();
        let stderr = dir.join("output");
        let output = File::options().create(true).append(true).open(&stderr).expect("the directory is ours");
        let mut command = Command::new(binary);
        command
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file descriptor is free"))
            .stderr(output);
        change(&mut command);
        let child = command.spawn().unwrap_or_else(|e| panic!("{} does not start: {e}", binary.display()));
        Scraper { child, stderr, port }
    }

    /// Whether the process still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended by itself; gives whether it called that a success.
    pub fn ended(&mut self) -> bool {
        self.child.wait().is_ok_and(|status| status.success())
    }

    /// Sends a signal by its name, as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} cannot be sent");
    }

    /// Everything the process printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The last lines the process printed.
    pub fn last_words(&self) -> String {
        let text = self.output();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `--engine=..` when `RINGSCRAPE_ENGINE` names one: the engine ringscrape is to be tested with.
pub fn engine() -> Vec<String> {
    std::env::var("RINGSCRAPE_ENGINE").map(|name| vec![format!("--engine={name}")]).unwrap_or_default()
}

/// Prometheus 2 asks for agent mode by a feature flag, later ones and ringscrape by `--agent`.
fn agent_flag(binary: &Path) -> &'static str {
    if is_prometheus_2(binary) { "--enable-feature=agent" } else { "--agent" }
}

/// Whether it is a Prometheus before 3.
pub fn is_prometheus_2(binary: &Path) -> bool {
    let version = Command::new(binary).arg("--version").output().map(|o| o.stdout).unwrap_or_default();
    String::from_utf8_lossy(&version).contains("prometheus, version 2.")
}

/// A loopback port that was free a moment ago, below those that the kernel gives to outgoing connections meanwhile.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97) % 12_000;
    let mut candidates = iter::repeat_with(|| 20_000 + (begin + TAKEN.fetch_add(1, Ordering::Relaxed)) % 12_000);
    let free = candidates.by_ref().take(12_000).find(|port| TcpListener::bind(("127.0.0.1", *port as u16)).is_ok());
    free.expect("a port is free") as u16
}

/// Whether `RINGSCRAPE_REQUIRE` names `what`: then a test may not be skipped for the lack of it.
pub fn required(what: &str) -> bool {
    std::env::var("RINGSCRAPE_REQUIRE").is_ok_and(|list| list.split(',').any(|w| w.trim() == what))
}
