//! One run of one scraper on one scenario: start, wait until it is steady, warm up, measure while things happen.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringscrape::farm::Farm;

use crate::cgroup::Cgroup;
use crate::host::{self, Host};
use crate::networks::Networks;
use crate::own::Own;
use crate::peer::{self, Kind, Peer, Run, Running, Scheme};
use crate::record::{RATE_SHARE, Row};
use crate::scenario::{Act, Event, Scenario};
use crate::sink::Sink;

/// Longest time a scraper may take until it scrapes all targets, beside three intervals.
const STEADY_WITHIN: Duration = Duration::from_secs(60);
/// How often the list of targets follows a farm whose targets come and go.
const CHURN_EVERY_S: u64 = 5;
/// How often a long run says how it is going.
const PROGRESS_EVERY_S: u64 = 10;
/// How long the CPU time after an event is counted to it.
const EVENT_CPU_S: u64 = 10;
const MIB: f64 = 1_048_576.0;

/// How runs are done.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Scratch directory.
    pub scratch: PathBuf,
    /// Instead of the scenario's.
    pub window_s: Option<u64>,
    /// Instead of the scenario's.
    pub warmup_s: Option<u64>,
    /// More for our own command line.
    pub flags: Vec<String>,
}

/// A run under way.
struct Bench<'a> {
    scenario: &'a Scenario,
    peer: &'a Peer,
    /// Ends before the farm: a scraper whose million targets fall silent has much to do.
    running: Running,
    farm: Farm,
    sink: Arc<Sink>,
    run: Run,
    begun: Instant,
    /// Percent of the list that carries another label.
    relabelled: f64,
    /// What ended processes counted, and the counters that the present one began the window with.
    counted: Own,
    base: Own,
    /// Sink up again at this second of the window.
    accept_at_s: Option<u64>,
    /// Events whose CPU is still being counted: when it is over, and CPU time at the beginning.
    event_ends: Option<(u64, f64)>,
    event_cpu_s: Vec<f64>,
    page_ms: Vec<f64>,
}

/// Runs `peer` on `scenario` and tells what it used.
pub fn measure(scenario: &Scenario, peer: &Peer, host: &Host, manner: &Manner) -> Result<Row, String> {
    let kernel_before = host::kernel_bytes();
    let group = Cgroup::new(&peer.name, scenario.cpu_quota);
    if scenario.cpu_quota.is_some() && group.is_none() {
        return Err("a CPU quota needs a cgroup, and this host does not let us make one".to_owned());
    }
    let networks = scenario.netns.then(Networks::new).transpose()?;
    let mut bench = Bench::start(scenario, peer, (group.as_ref(), networks.as_ref()), manner)?;
    let log = bench.run.dir.join("log");
    let seen = |e: String| format!("{e}; see {}", log.display());
    let neighbours = Neighbours::start(scenario.busy_neighbours)?;
    let start_s = bench.await_steady().map_err(seen)?;
    let warmup_s = manner.warmup_s.unwrap_or(scenario.warmup_s).max(scenario.interval_ms * 2 / 1000);
    bench.wait(warmup_s);
    let window_s = manner.window_s.unwrap_or(scenario.window_s).max(scenario.interval_ms * 2 / 1000);
    let mut row = bench.window(window_s).map_err(seen)?;
    drop(neighbours);
    let charge = group.as_ref().and_then(Cgroup::charge);
    row.date.clone_from(&host.date);
    row.machine.clone_from(&host.machine);
    row.kernel.clone_from(&host.kernel);
    row.cpus = Some(host.cpus);
    row.commit.clone_from(&host.commit);
    row.start_s = start_s;
    row.cgroup_mib = charge.map(|c| c.all_bytes as f64 / MIB);
    row.kernel_mib = charge.map(|c| c.kernel_bytes as f64 / MIB);
    row.host_kernel_mib = Some(host::kernel_bytes().saturating_sub(kernel_before) as f64 / MIB);
    Ok(row)
}

impl<'a> Bench<'a> {
    fn start(
        scenario: &'a Scenario,
        peer: &'a Peer,
        (group, networks): (Option<&Cgroup>, Option<&Networks>),
        manner: &Manner,
    ) -> Result<Self, String> {
        let farm = scenario.farm(0, networks)?;
        let sink = Sink::spawn().map_err(|e| format!("sink: {e}"))?;
        let scratch = std::path::absolute(&manner.scratch).map_err(|e| e.to_string())?;
        let lists = lists(&farm, 0, 0.0);
        let forwards = scenario.remote_write || peer.kind == Kind::Vmagent;
        let run = Run {
            dir: scratch.join(format!("{}-{}", scenario.name, peer.name)),
            web: peer::free_address()?,
            sink_port: if forwards { sink.port } else { 0 },
            interval_ms: scenario.interval_ms,
            timeout_ms: scenario.timeout_ms.unwrap_or(scenario.interval_ms),
            schemes: lists.iter().map(|(scheme, _)| *scheme).collect(),
            doors: group.map(Cgroup::doors).unwrap_or_default(),
            flags: if peer.kind == Kind::Ringscrape { [&*scenario.flags, &*manner.flags].concat() } else { Vec::new() },
        };
        let begun = Instant::now();
        let running = peer.start(&run, &lists)?;
        Ok(Self {
            scenario,
            peer,
            farm,
            sink,
            run,
            running,
            begun,
            relabelled: 0.0,
            counted: Own::default(),
            base: Own::default(),
            accept_at_s: None,
            event_ends: None,
            event_cpu_s: Vec::new(),
            page_ms: Vec::new(),
        })
    }

    /// Waits until the scraper has found all targets: discovery delays and spread first scrapes differ from one to
    /// another. One that never gets there is measured as it is, and its row says so. Returns how long it took until all
    /// were scheduled, where the scraper tells.
    fn await_steady(&mut self) -> Result<Option<f64>, String> {
        let interval = Duration::from_millis(self.scenario.interval_ms);
        let within = STEADY_WITHIN.max(interval * 3);
        let mut start_s = None;
        let (mut before, mut looked) = (self.farm.served(), Instant::now());
        while self.begun.elapsed() < within {
            std::thread::sleep(Duration::from_millis(100));
            if !self.running.is_alive() {
                return Err("it ended by itself".into());
            }
            if start_s.is_none() && self.own().is_some_and(|o| o.targets >= f64::from(self.scenario.targets())) {
                start_s = Some(self.begun.elapsed().as_secs_f64());
            }
            if looked.elapsed() < interval {
                continue;
            }
            let now = self.farm.served();
            if (now - before) as f64 >= f64::from(self.scenario.answering()) * RATE_SHARE {
                return Ok(start_s);
            }
            (before, looked) = (now, Instant::now());
        }
        if self.farm.served() == 0 { Err("it scraped nothing".into()) } else { Ok(start_s) }
    }

    /// Lets time pass before the window.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            std::thread::sleep(Duration::from_secs(1));
            let _ = self.follow_churn();
        }
    }

    fn window(&mut self, window_s: u64) -> Result<Row, String> {
        let start = Instant::now();
        self.base = self.own().unwrap_or_default();
        let (cpu_s, served, sent) = (self.running.cpu_s(), self.farm.served(), self.sink.bytes());
        let mut progress = (cpu_s, served);
        for second in 1..=window_s {
            std::thread::sleep((start + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
            if !self.running.is_alive() {
                return Err("it ended by itself".into());
            }
            let mean_cores = (self.running.cpu_s() - cpu_s) / second as f64;
            self.turn(second, mean_cores)?;
            if second % PROGRESS_EVERY_S == 0 && second < window_s {
                progress = self.tell(second, window_s, progress);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let (cpu_s, scrapes) = (self.running.cpu_s() - cpu_s, (self.farm.served() - served) as f64);
        let sent = (self.sink.bytes() - sent) as f64;
        if scrapes == 0.0 {
            return Err("it scraped nothing in the measured time".into());
        }
        if self.run.sink_port != 0 && sent == 0.0 {
            return Err("it wrote nothing to the sink".into());
        }
        let mut row = self.own_figures(seconds);
        row.seconds = Some(seconds);
        row.scrapes_per_s = Some(scrapes / seconds);
        row.cpu_us_per_scrape = Some(cpu_s * 1e6 / scrapes);
        row.cores = Some(cpu_s / seconds);
        row.wire_bytes_per_scrape = (self.run.sink_port != 0).then_some(sent / scrapes);
        Ok(row)
    }

    /// What does not need the window's differences, and what ringscrape tells of itself.
    fn own_figures(&self, seconds: f64) -> Row {
        let own = self.own().map(|now| self.counted.clone().plus(&now.since(&self.base)));
        Row {
            scenario: self.scenario.name.clone(),
            scraper: self.peer.name.clone(),
            version: self.peer.version.clone(),
            targets: Some(self.scenario.targets()),
            wanted_per_s: Some(self.scenario.rate()),
            rss_mib: Some(self.running.memory_bytes("VmRSS") as f64 / MIB),
            peak_rss_mib: Some(self.running.memory_bytes("VmHWM") as f64 / MIB),
            samples_per_s: own.as_ref().map(|o| o.samples / seconds),
            lateness_p50_ms: own.as_ref().and_then(|o| o.lateness_ms(0.5)),
            lateness_p999_ms: own.as_ref().and_then(|o| o.lateness_ms(0.999)),
            lateness_max_ms: own.as_ref().and_then(|o| o.lateness_ms(1.0)),
            missed: own.as_ref().map(|o| o.missed),
            failed: own.as_ref().map(|o| o.failed),
            event_cpu_s: self.event_cpu_s.iter().copied().reduce(f64::max),
            targets_page_p99_ms: p99(&self.page_ms),
            ..Row::default()
        }
    }

    /// What happens at a second of the window.
    fn turn(&mut self, second: u64, mean_cores: f64) -> Result<(), String> {
        if self.accept_at_s.is_some_and(|at| second >= at) {
            self.sink.accept();
            self.accept_at_s = None;
        }
        if let Some((end, before)) = self.event_ends.filter(|(end, _)| second >= *end) {
            let since = EVENT_CPU_S + (second - end);
            self.event_cpu_s.push((self.running.cpu_s() - before - mean_cores * since as f64).max(0.0));
            self.event_ends = None;
        }
        let due: Vec<Event> = self.scenario.events.iter().copied().filter(|e| e.at_s.max(1) == second).collect();
        for event in due {
            println!("    {second:>5} s  {:?}", event.act);
            self.event_ends = Some((second + EVENT_CPU_S, self.running.cpu_s()));
            self.act(event.act, second)?;
        }
        if self.scenario.ask_targets && self.peer.kind == Kind::Ringscrape {
            let asked = Instant::now();
            peer::page(&self.run.web, "/api/v1/targets?state=active&limit=100")?;
            self.page_ms.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        self.follow_churn()
    }

    fn act(&mut self, act: Act, second: u64) -> Result<(), String> {
        match act {
            Act::Reload => {
                let job = format!("- job_name: empty-{second}\n  static_configs: []\n");
                self.run.configure(self.peer, &job)?;
                self.running.signal(libc::SIGHUP);
            }
            Act::Restart | Act::Kill => {
                let now = self.own().unwrap_or_default();
                self.counted = std::mem::take(&mut self.counted).plus(&now.since(&self.base));
                self.base = Own::default();
                let signal = if act == Act::Kill { libc::SIGKILL } else { libc::SIGTERM };
                self.running.restart(self.peer, &self.run, signal)?;
            }
            Act::RelabelPercent(percent) => {
                self.relabelled = percent;
                self.list()?;
            }
            Act::ReceiverDownS(seconds) => {
                self.sink.refuse();
                self.accept_at_s = Some(second + seconds);
            }
        }
        Ok(())
    }

    fn follow_churn(&mut self) -> Result<(), String> {
        let churns = self.scenario.farm.populations.iter().any(|p| p.churn.is_some());
        if churns && self.begun.elapsed().as_secs() % CHURN_EVERY_S == 0 { self.list() } else { Ok(()) }
    }

    fn list(&self) -> Result<(), String> {
        let lists = lists(&self.farm, self.begun.elapsed().as_millis() as u64, self.relabelled);
        lists.iter().try_for_each(|(scheme, json)| self.run.list(*scheme, json))
    }

    /// Ringscrape's counters now; `None` for peers and while it does not answer.
    fn own(&self) -> Option<Own> {
        let asks = self.peer.kind == Kind::Ringscrape;
        asks.then(|| peer::page(&self.run.web, "/metrics").ok()).flatten().map(|text| Own::parse(&text))
    }

    /// One line for whoever waits; returns what the next one is counted from.
    fn tell(&self, second: u64, window_s: u64, (cpu_before, served_before): (f64, u64)) -> (f64, u64) {
        let (cpu_s, served) = (self.running.cpu_s(), self.farm.served());
        let scrapes = (served - served_before) as f64;
        let own = self.own().map(|o| o.since(&self.base)).unwrap_or_default();
        println!(
            "    {second:>5} of {window_s} s  {:>8.0} scrapes/s  {:>8.1} us/scrape  {:>7.0} MiB  late p99.9 {} ms  missed {:.0}  failed {:.0}",
            scrapes / PROGRESS_EVERY_S as f64,
            (cpu_s - cpu_before) * 1e6 / scrapes.max(1.0),
            self.running.memory_bytes("VmRSS") as f64 / MIB,
            own.lateness_ms(0.999).map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
            own.missed,
            own.failed,
        );
        (cpu_s, served)
    }
}

/// The lists of targets so long after the start, one for each scheme that there is.
fn lists(farm: &Farm, at_ms: u64, relabelled: f64) -> Vec<(Scheme, String)> {
    let is_tls = |target: &u32| farm.spec().population(*target).is_some_and(|(p, _)| farm.spec().populations[p].tls);
    let (tls, plain): (Vec<u32>, Vec<u32>) = farm.spec().listed(at_ms).partition(is_tls);
    let some = [(Scheme::Http, plain), (Scheme::Https, tls)].into_iter().filter(|(_, targets)| !targets.is_empty());
    some.map(|(scheme, targets)| (scheme, targets_json(farm, &targets, relabelled))).collect()
}

/// A list of targets, the first `relabelled` percent with one label more.
fn targets_json(farm: &Farm, listed: &[u32], relabelled: f64) -> String {
    let (changed, rest) = listed.split_at((listed.len() as f64 * relabelled / 100.0) as usize);
    let texts =
        |targets: &[u32]| targets.iter().map(|t| format!("\"{}\"", farm.addr(*t))).collect::<Vec<_>>().join(",");
    let (changed, rest) = (texts(changed), texts(rest));
    format!("[{{\"targets\":[{rest}]}},{{\"targets\":[{changed}],\"labels\":{{\"changed\":\"yes\"}}}}]")
}

fn p99(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * 0.99).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied()
}

/// Processes that do nothing but burn CPU; ended when dropped.
struct Neighbours(Vec<Child>);

impl Neighbours {
    fn start(count: u32) -> Result<Self, String> {
        let mut all = Self(Vec::new());
        for _ in 0..count {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            all.0.push(command.spawn().map_err(|e| format!("sh: {e}"))?);
        }
        Ok(all)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use ringscrape::farm::{Population, Source, Spec};

    use super::*;

    #[test]
    fn a_share_of_each_list_is_relabelled() {
        let mut sealed = Population::new("q", 8, Source::Samples(1));
        sealed.tls = true;
        let farm = Farm::spawn(Spec::new(vec![Population::new("p", 4, Source::Samples(1)), sealed])).unwrap();
        let lists = lists(&farm, 0, 25.0);
        let expected = [(Scheme::Http, [3, 1], 0), (Scheme::Https, [6, 2], 4)];
        assert_eq!(lists.len(), expected.len());
        for ((scheme, json), (expected, counts, first)) in lists.iter().zip(expected) {
            assert_eq!(*scheme, expected);
            let list: serde_json::Value = serde_json::from_str(json).unwrap();
            let groups = list.as_array().unwrap();
            assert_eq!(groups.iter().map(|g| g["targets"].as_array().unwrap().len()).collect::<Vec<_>>(), counts);
            assert_eq!(list[1]["labels"]["changed"], "yes");
            assert_eq!(list[1]["targets"][0], format!("127.1.0.{first}:{}", farm.port));
        }
        let plain = Farm::spawn(Spec::new(vec![Population::new("p", 4, Source::Samples(1))])).unwrap();
        assert_eq!(super::lists(&plain, 0, 0.0).len(), 1, "no job without targets");
    }

    #[test]
    fn p99_is_the_value_that_99_of_100_do_not_exceed() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!((p99(&values), p99(&[7.0]), p99(&[])), (Some(198.0), Some(7.0), None));
    }
}
