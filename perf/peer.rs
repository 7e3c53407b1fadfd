//! The scrapers that are measured: how each is started, tuned and told, and what its process has used.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cpu;

/// How a binary is to be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ourselves.
    Ringscrape,
    /// `prometheus` in agent mode.
    PrometheusAgent,
    /// VictoriaMetrics' agent.
    Vmagent,
}

/// Whose settings a peer runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// None given.
    Defaults,
    /// What its own documentation recommends for many targets.
    Documented,
}

/// How targets are asked; those of each are a job of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plainly.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    fn job(self) -> &'static str {
        match self {
            Self::Http => "farm",
            Self::Https => "farm-tls",
        }
    }

    /// Settings of the job. The farm's certificate has no authority and names none of its addresses.
    fn lines(self) -> &'static str {
        match self {
            Self::Http => "",
            Self::Https => "  scheme: https\n  tls_config: {insecure_skip_verify: true}\n",
        }
    }
}

/// A scraper to measure.
#[derive(Clone, Debug)]
pub struct Peer {
    /// In the report.
    pub name: String,
    /// How to drive it.
    pub kind: Kind,
    /// With which settings.
    pub tuning: Tuning,
    /// Binary.
    path: PathBuf,
    /// First line of what the binary says of its version; of the Debian package where it says nothing.
    pub version: String,
}

impl Peer {
    /// A peer by its binary's name: `vmagent...` and `prometheus...` are told apart by it.
    pub fn new(name: &str, path: &str) -> Result<Self, String> {
        let path = std::path::absolute(path).map_err(|e| format!("{path}: {e}"))?;
        let file = path.file_name().and_then(|f| f.to_str()).unwrap_or_default();
        let kind = match file {
            f if f.starts_with("ringscrape") => Kind::Ringscrape,
            f if f.starts_with("vmagent") => Kind::Vmagent,
            f if f.starts_with("prometheus") => Kind::PrometheusAgent,
            f => return Err(format!("{f}: a peer's file name must begin with ringscrape, vmagent or prometheus")),
        };
        if !path.exists() {
            return Err(format!("{}: no such file", path.display()));
        }
        let version = version(&path);
        Ok(Self { name: name.to_owned(), kind, tuning: Tuning::Defaults, path, version })
    }

    /// The same scraper with the settings of its documentation.
    pub fn tuned(&self) -> Self {
        Self { name: format!("{}-tuned", self.name), tuning: Tuning::Documented, ..self.clone() }
    }

    /// Starts the scraper in an emptied directory on lists of targets (see [`Run::list`]), writing to the sink.
    pub fn start(&self, run: &Run, lists: &[(Scheme, String)]) -> Result<Running, String> {
        let _ = fs::remove_dir_all(&run.dir);
        fs::create_dir_all(&run.dir).map_err(|e| format!("{}: {e}", run.dir.display()))?;
        for (scheme, targets) in lists {
            run.list(*scheme, targets)?;
        }
        run.configure(self, "")?;
        Ok(Running { child: self.spawn(run)?, ended_ns: 0 })
    }

    fn spawn(&self, run: &Run) -> Result<Child, String> {
        let log = fs::File::options().create(true).append(true).open(run.dir.join("log")).map_err(|e| e.to_string())?;
        let mut command = entered(&run.doors, &self.path);
        command.args(self.arguments(run)).args(&run.flags).current_dir(&run.dir).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(|e| e.to_string())?).stderr(log);
        command.spawn().map_err(|e| format!("{}: {e}", self.path.display()))
    }

    fn arguments(&self, run: &Run) -> Vec<String> {
        let (dir, web) = (run.dir.display(), &run.web);
        let mut arguments = match self.kind {
            Kind::Ringscrape => vec![
                format!("--config.file={dir}/prometheus.yml"),
                format!("--storage.path={dir}/data"),
                format!("--web.listen-address={web}"),
            ],
            Kind::PrometheusAgent => vec![
                // Prometheus 2 asks for agent mode by a feature flag.
                if self.version.contains("version 2.") { "--enable-feature=agent" } else { "--agent" }.to_owned(),
                format!("--config.file={dir}/prometheus.yml"),
                format!("--storage.agent.path={dir}/data"),
                format!("--web.listen-address={web}"),
            ],
            Kind::Vmagent => vec![
                format!("-promscrape.config={dir}/prometheus.yml"),
                format!("-remoteWrite.url=http://127.0.0.1:{}/api/v1/write", run.sink_port),
                format!("-remoteWrite.tmpDataPath={dir}/data"),
                format!("-httpListenAddr={web}"),
            ],
        };
        // vmagent's documentation offers these for many targets, each at a price: no debugging of relabelling, no stale
        // markers. Prometheus's guide to remote write is in the file of the run.
        if self.kind == Kind::Vmagent && self.tuning == Tuning::Documented {
            arguments.extend(["-promscrape.dropOriginalLabels", "-promscrape.noStaleMarkers"].map(str::to_owned));
        }
        arguments
    }

    /// Settings below `remote_write` that the documentation recommends: fewer and larger requests.
    fn queue_lines(&self) -> &'static str {
        match (self.kind, self.tuning) {
            (Kind::PrometheusAgent, Tuning::Documented) => {
                "  queue_config: {max_samples_per_send: 10000, capacity: 50000, max_shards: 10}\n"
            }
            _ => "",
        }
    }
}

/// One run's surroundings.
pub struct Run {
    /// Scratch, emptied at the start.
    pub dir: PathBuf,
    /// Where the scraper's own pages are to be.
    pub web: String,
    /// Port of the sink; 0: nothing is forwarded, where the scraper can do without.
    pub sink_port: u16,
    /// Milliseconds.
    pub interval_ms: u64,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// Of the targets: a job for each.
    pub schemes: Vec<Scheme>,
    /// See [`crate::cgroup::Cgroup::doors`].
    pub doors: Vec<PathBuf>,
    /// More for the scraper's command line.
    pub flags: Vec<String>,
}

impl Run {
    /// Replaces a job's list of targets, file_sd JSON, in one step.
    pub fn list(&self, scheme: Scheme, json: &str) -> Result<(), String> {
        let path = self.dir.join(format!("{}.json", scheme.job()));
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, json).and_then(|()| fs::rename(&fresh, &path)).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Writes the configuration; `more_jobs` is YAML below `scrape_configs`.
    pub fn configure(&self, peer: &Peer, more_jobs: &str) -> Result<(), String> {
        let path = self.dir.join("prometheus.yml");
        fs::write(&path, self.configuration(peer, more_jobs)).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn configuration(&self, peer: &Peer, more_jobs: &str) -> String {
        let (interval, timeout, dir) = (self.interval_ms, self.timeout_ms, self.dir.display());
        let mut text =
            format!("global:\n  scrape_interval: {interval}ms\n  scrape_timeout: {timeout}ms\nscrape_configs:\n");
        for (job, lines) in self.schemes.iter().map(|s| (s.job(), s.lines())) {
            text.push_str(&format!(
                "- job_name: {job}\n{lines}  file_sd_configs:\n  - files: [\"{dir}/{job}.json\"]\n"
            ));
        }
        text.push_str(more_jobs);
        if peer.kind != Kind::Vmagent && self.sink_port != 0 {
            text.push_str(&format!("remote_write:\n- url: http://127.0.0.1:{}/api/v1/write\n", self.sink_port));
            text.push_str(peer.queue_lines());
        }
        text
    }
}

/// A started scraper; killed when dropped.
pub struct Running {
    child: Child,
    /// CPU time of predecessors that ended.
    ended_ns: u64,
}

impl Running {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// CPU time so far, seconds.
    pub fn cpu_s(&self) -> f64 {
        (cpu::time_ns(self.pid()).unwrap_or(0) + self.ended_ns) as f64 / 1e9
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: the child is not waited for before it is replaced or dropped, so the number is still its own.
        unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
    }

    /// Ends it by a signal and starts it again on the same directory.
    pub fn restart(&mut self, peer: &Peer, run: &Run, signal: libc::c_int) -> Result<(), String> {
        self.signal(signal);
        self.ended_ns += cpu::time_of_ended_ns(self.pid()).unwrap_or(0);
        let _ = self.child.wait();
        self.child = peer.spawn(run)?;
        Ok(())
    }

    /// A field of /proc/PID/status in bytes: `VmRSS` now, `VmHWM` at most.
    pub fn memory_bytes(&self, field: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let kib = text.lines().find_map(|l| {
            l.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        });
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that enters cgroups before the binary allocates anything.
fn entered(doors: &[PathBuf], path: &Path) -> Command {
    if doors.is_empty() {
        return Command::new(path);
    }
    let mut command = Command::new("sh");
    let script = "while [ \"$1\" != -- ]; do echo $$ > \"$1\" || exit 1; shift; done; shift; exec \"$@\"";
    command.args(["-c", script, "sh"]).args(doors).arg("--").arg(path);
    command
}

fn version(path: &Path) -> String {
    let said = |command: &mut Command| {
        let output = command.output();
        let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned)
    };
    let packaged = || {
        let owner = said(Command::new("dpkg").arg("-S").arg(path))?;
        let package = owner.split_once(": ")?.0;
        said(Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}", package]))
    };
    said(Command::new(path).arg("--version")).or_else(packaged).unwrap_or_else(|| "unknown".into())
}

/// A loopback address whose port was free a moment ago.
pub fn free_address() -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.to_string())
}

/// The body that a plain HTTP GET answers.
pub fn page(address: &str, path: &str) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|e| format!("{address}: {e}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no end of head")?;
    if head.contains(" 200 ") { Ok(body.to_owned()) } else { Err(head.lines().next().unwrap_or_default().to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_over_tls_are_a_job_of_their_own() {
        let run = Run {
            dir: "/d".into(),
            web: String::new(),
            sink_port: 7,
            interval_ms: 2_000,
            timeout_ms: 1_000,
            schemes: vec![Scheme::Http, Scheme::Https],
            doors: Vec::new(),
            flags: Vec::new(),
        };
        let peer = Peer {
            name: "x".into(),
            kind: Kind::Ringscrape,
            tuning: Tuning::Defaults,
            path: PathBuf::new(),
            version: String::new(),
        };
        let text = run.configuration(&peer, "- job_name: empty\n  static_configs: []\n");
        let expected = "global:\n  scrape_interval: 2000ms\n  scrape_timeout: 1000ms\nscrape_configs:\n\
                        - job_name: farm\n  file_sd_configs:\n  - files: [\"/d/farm.json\"]\n\
                        - job_name: farm-tls\n  scheme: https\n  tls_config: {insecure_skip_verify: true}\n  \
                        file_sd_configs:\n  - files: [\"/d/farm-tls.json\"]\n\
                        - job_name: empty\n  static_configs: []\n\
                        remote_write:\n- url: http://127.0.0.1:7/api/v1/write\n";
        assert_eq!(text, expected);
    }
}
