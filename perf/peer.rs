//! The scrapers that are compared: how each is started, and what its process has used.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
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

/// A scraper to measure.
#[derive(Clone, Debug)]
pub struct Peer {
    /// In the report.
    pub name: String,
    /// How to drive it.
    pub kind: Kind,
    /// Binary.
    pub path: PathBuf,
}

impl Peer {
    /// A peer by its binary's name: `vmagent...` and `prometheus...` are told apart by it.
    pub fn new(name: &str, path: &str) -> Result<Self, String> {
        let file = Path::new(path).file_name().and_then(|f| f.to_str()).unwrap_or_default();
        let kind = match file {
            f if f.starts_with("ringscrape") => Kind::Ringscrape,
            f if f.starts_with("vmagent") => Kind::Vmagent,
            f if f.starts_with("prometheus") => Kind::PrometheusAgent,
            f => return Err(format!("{f}: a peer's file name must begin with ringscrape, vmagent or prometheus")),
        };
        Ok(Self { name: name.to_owned(), kind, path: path.into() })
    }

    /// First line of what the binary says of its version; of the Debian package where it says nothing.
    pub fn version(&self) -> String {
        let said = |command: &mut Command| {
            let output = command.output();
            let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            text.lines().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned)
        };
        let packaged = || {
            let owner = said(Command::new("dpkg").arg("-S").arg(&self.path))?;
            let package = owner.split_once(": ")?.0;
            said(Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}", package]))
        };
        said(Command::new(&self.path).arg("--version")).or_else(packaged).unwrap_or_else(|| "unknown".into())
    }

    /// Starts the scraper in `dir` on the farm's targets, writing to the sink.
    pub fn start(&self, run: &Run<'_>) -> Result<Running, String> {
        let _ = fs::remove_dir_all(run.dir);
        fs::create_dir_all(run.dir).map_err(|e| format!("{}: {e}", run.dir.display()))?;
        let config = run.dir.join("prometheus.yml");
        let write = |p: &Path, t: &str| fs::write(p, t).map_err(|e| format!("{}: {e}", p.display()));
        write(&run.dir.join("targets.json"), &run.targets_json())?;
        write(&config, &run.config(self.kind))?;
        let log = fs::File::create(run.dir.join("log")).map_err(|e| e.to_string())?;
        let mut command = self.command(run.door.as_deref());
        command.args(self.arguments(run, &config)).current_dir(run.dir).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(|e| e.to_string())?).stderr(log);
        let child = command.spawn().map_err(|e| format!("{}: {e}", self.path.display()))?;
        Ok(Running { child })
    }

    /// The binary, entered into its cgroup before it allocates anything.
    fn command(&self, door: Option<&Path>) -> Command {
        let Some(door) = door else { return Command::new(&self.path) };
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(door).arg(&self.path);
        command
    }

    fn arguments(&self, run: &Run<'_>, config: &Path) -> Vec<String> {
        let (config, dir) = (config.display(), run.dir.display());
        let url = format!("http://127.0.0.1:{}/api/v1/write", run.sink_port);
        match self.kind {
            Kind::Ringscrape => vec![
                format!("--config.file={config}"),
                format!("--storage.path={dir}/data"),
                "--web.listen-address=127.0.0.1:19190".into(),
            ],
            Kind::PrometheusAgent => vec![
                "--enable-feature=agent".into(),
                format!("--config.file={config}"),
                format!("--storage.agent.path={dir}/data"),
                "--web.listen-address=127.0.0.1:19190".into(),
            ],
            Kind::Vmagent => vec![
                format!("-promscrape.config={config}"),
                format!("-remoteWrite.url={url}"),
                format!("-remoteWrite.tmpDataPath={dir}/data"),
                "-httpListenAddr=127.0.0.1:19190".into(),
            ],
        }
    }
}

/// One run's surroundings.
pub struct Run<'a> {
    /// Scratch, emptied at the start.
    pub dir: &'a Path,
    /// Distinct targets.
    pub targets: u32,
    /// Port of the farm.
    pub farm_port: u16,
    /// Port of the sink.
    pub sink_port: u16,
    /// Milliseconds.
    pub interval_ms: u64,
    /// See [`crate::cgroup::Cgroup::door`].
    pub door: Option<PathBuf>,
}

impl Run<'_> {
    fn targets_json(&self) -> String {
        let all: Vec<String> =
            (0..self.targets).map(|i| format!("\"{}:{}\"", ringscrape::farm::address(i), self.farm_port)).collect();
        format!("[{{\"targets\": [{}]}}]", all.join(","))
    }

    fn config(&self, kind: Kind) -> String {
        let ms = self.interval_ms;
        let scrape = format!(
            "global:\n  scrape_interval: {ms}ms\n  scrape_timeout: {ms}ms\nscrape_configs:\n- job_name: farm\n  \
             file_sd_configs:\n  - files: [\"{}/targets.json\"]\n",
            self.dir.display()
        );
        if kind == Kind::Vmagent {
            return scrape;
        }
        format!("{scrape}remote_write:\n- url: http://127.0.0.1:{}/api/v1/write\n", self.sink_port)
    }
}

/// A started scraper; killed when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// Process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// CPU time so far, microseconds.
    pub fn cpu_us(&self) -> f64 {
        cpu::time_ns(self.pid()).unwrap_or(0) as f64 / 1e3
    }

    /// Resident bytes.
    pub fn rss_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let kib =
            text.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain HTTP GET.
pub fn get(address: &str, path: &str) -> Result<String, String> {
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
