//! From an entry of a target group to a target: default labels, relabelling, checks, URL, hash. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Host, Scheme, TargetHash, TargetSpec, go_url};
use crate::config::{ScrapeConfig, duration};
use crate::model::{Labels, LabelsBuilder, TEXT_BYTES_MAX};
use crate::relabel::{RelabelError, Rules, Verdict};

/// Labels of discovery; they end with relabelling.
const META_PREFIX: &str = "__meta_";
/// Labels that no sample carries.
const RESERVED_PREFIX: &str = "__";
/// Query parameters as labels.
const PARAM_PREFIX: &str = "__param_";
/// Labels that switch histogram features, with their names in messages.
const SWITCHES: [(&str, &str); 3] = [
    ("__convert_classic_histograms_to_nhcb__", "convert classic histograms to nhcb"),
    ("__always_scrape_classic_histograms__", "always scrape classic histograms"),
    ("__scrape_native_histograms__", "scrape native histograms"),
];

/// What became of an entry.
#[derive(Debug)]
pub enum Made {
    /// A target.
    Active(Target),
    /// Relabelling dropped it.
    Dropped,
    /// It cannot be a target; skipped, counted and logged.
    Failed(TargetError),
}

/// A target: what a shard needs, and what the pages show beyond that.
#[derive(Clone, Debug)]
pub struct Target {
    /// For the shard.
    pub spec: TargetSpec,
    /// Hash of the public labels: decides the shard, so that targets of equal labels meet.
    pub public_hash: u64,
    /// As Prometheus prints it.
    pub url: String,
    /// Label `__scrape_interval__` as written.
    pub interval: Box<str>,
    /// Label `__scrape_timeout__` as written.
    pub timeout: Box<str>,
}

/// Why an entry cannot be a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// `__address__` is empty after relabelling.
    AddressMissing,
    /// `__address__` contains a slash.
    AddressInvalid(String),
    /// The label's duration cannot be read, or is zero.
    Duration {
        /// `interval` or `timeout`.
        which: &'static str,
        /// What is wrong.
        error: String,
    },
    /// Texts of timeout and interval.
    TimeoutAboveInterval(String, String),
    /// A histogram switch is not a boolean.
    Switch {
        /// Name in messages.
        which: &'static str,
        /// As written.
        text: String,
    },
    /// Name of a label whose name or value is 16 MiB long or longer.
    LabelTooLong(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressMissing => f.write_str("no address"),
            Self::AddressInvalid(address) => write!(f, "{address:?} is not a valid hostname"),
            Self::Duration { which, error } => write!(f, "error parsing scrape {which}: {error}"),
            Self::TimeoutAboveInterval(timeout, interval) => {
                write!(f, "scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})")
            }
            Self::Switch { which, text } => write!(f, "error parsing {which}: {text:?} is not true or false"),
            Self::LabelTooLong(name) => write!(f, "label {name:?}: name or value reaches 16 MiB"),
        }
    }
}

impl std::error::Error for TargetError {}

/// Makes the targets of one job.
#[derive(Clone, Debug)]
pub struct TargetMaker {
    config: Arc<ScrapeConfig>,
    rules: Rules,
    seed: u64,
    /// In name order.
    defaults: Vec<(String, String)>,
    /// Path and query where relabelling changes neither.
    usual_path: Arc<str>,
}

impl TargetMaker {
    /// For a job; `seed` is the pool's jitter seed.
    ///
    /// # Errors
    /// A relabelling rule that does not compile.
    pub fn new(config: Arc<ScrapeConfig>, seed: u64) -> Result<Self, RelabelError> {
        let rules = Rules::compile(&config.relabel_configs)?;
        let mut defaults = vec![
            ("job".to_owned(), config.job_name.clone()),
            ("__scrape_interval__".to_owned(), duration::print(config.scrape_interval)),
            ("__scrape_timeout__".to_owned(), duration::print(config.scrape_timeout)),
            ("__metrics_path__".to_owned(), config.metrics_path.clone()),
            ("__scheme__".to_owned(), config.scheme.clone()),
        ];
        defaults.extend(SWITCHES.iter().map(|(name, _)| ((*name).to_owned(), "false".to_owned())));
        for (key, values) in &config.params {
            if let Some(first) = values.first() {
                defaults.push((format!("{PARAM_PREFIX}{key}"), first.clone()));
            }
        }
        defaults.retain(|(_, value)| !value.is_empty());
        defaults.sort();
        let params = config.params.iter().map(|(k, v)| (k.as_str(), v.iter().map(String::as_str).collect())).collect();
        let usual_path = go_url::request_path(&config.metrics_path, &go_url::query(&params)).into();
        Ok(Self { config, rules, seed, defaults, usual_path })
    }

    /// The job.
    #[must_use]
    pub fn config(&self) -> &Arc<ScrapeConfig> {
        &self.config
    }

    /// The seed of phases.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The entry's labels before relabelling: what the pages call discovered labels.
    /// prometheus: scrape/target.go, PopulateDiscoveredLabels.
    #[must_use]
    pub fn discovered(&self, entry: &Labels, group: &Labels) -> Labels {
        self.populate(entry, group).labels()
    }

    /// The target that an entry of a group makes. prometheus: scrape/target.go, PopulateLabels.
    #[must_use]
    pub fn make(&self, entry: &Labels, group: &Labels) -> Made {
        let mut labels = self.populate(entry, group);
        if self.rules.apply(&mut labels) == Verdict::Drop {
            return Made::Dropped;
        }
        match self.finish(labels) {
            Ok(target) => Made::Active(target),
            Err(error) => Made::Failed(error),
        }
    }

    fn populate(&self, entry: &Labels, group: &Labels) -> LabelsBuilder {
        let mut labels = LabelsBuilder::new(group);
        for (name, value) in entry.iter() {
            labels.set(name, value);
        }
        labels.set_absent(&self.defaults);
        labels
    }

    fn finish(&self, mut labels: LabelsBuilder) -> Result<Target, TargetError> {
        let address = labels.get("__address__").to_owned();
        check_address(&address)?;
        let (interval_ns, timeout_ns) = times(&labels)?;
        for (name, which) in SWITCHES {
            check_switch(which, labels.get(name))?;
        }
        labels.retain(|name, _| !name.starts_with(META_PREFIX));
        if labels.get("instance").is_empty() {
            labels.set("instance", &address);
        }
        if let Some((name, _)) = labels.iter().find(|(n, v)| n.len().max(v.len()) > TEXT_BYTES_MAX) {
            return Err(TargetError::LabelTooLong(name.chars().take(64).collect()));
        }
        let written = labels.get("__scheme__").to_owned();
        let query = go_url::query(&self.params(&labels));
        let path = labels.get("__metrics_path__");
        let url = go_url::url(&written, &address, path, &query);
        let hash = target_hash(labels.labels().prometheus_hash(), &url);
        let path = go_url::request_path(path, &query);
        let path = if path == *self.usual_path { Arc::clone(&self.usual_path) } else { path.into() };
        let interval = labels.get("__scrape_interval__").into();
        let timeout = labels.get("__scrape_timeout__").into();
        labels.retain(|name, _| !name.starts_with(RESERVED_PREFIX));
        let labels = labels.labels();
        let public_hash = labels.prometheus_hash();
        // prometheus: such a target exists, and is down.
        let unspoken = || format!("Get {url:?}: unsupported protocol scheme {written:?}").into_boxed_str();
        let (scheme, host) = match Scheme::of(&written) {
            Some(scheme) => (scheme, go_url::host(&address, scheme.port())),
            None => (Scheme::default(), Host::Nowhere(unspoken())),
        };
        let spec = TargetSpec {
            hash,
            labels,
            scheme,
            host,
            authority: go_url::authority(&address),
            path,
            interval_ns,
            timeout_ns,
            offset_ns: offset_ns(hash, self.seed, interval_ns),
        };
        Ok(Target { spec, public_hash, url, interval, timeout })
    }

    /// The job's parameters with the first value of each overridden by its label.
    fn params<'a>(&'a self, labels: &'a LabelsBuilder) -> BTreeMap<&'a str, Vec<&'a str>> {
        let mut params: BTreeMap<&str, Vec<&str>> =
            self.config.params.iter().map(|(k, v)| (k.as_str(), v.iter().map(String::as_str).collect())).collect();
        for (name, value) in labels.iter() {
            if let Some(key) = name.strip_prefix(PARAM_PREFIX) {
                let values = params.entry(key).or_default();
                match values.first_mut() {
                    Some(first) => *first = value,
                    None => values.push(value),
                }
            }
        }
        params
    }
}

fn check_address(address: &str) -> Result<(), TargetError> {
    if address.is_empty() {
        return Err(TargetError::AddressMissing);
    }
    if address.contains('/') {
        return Err(TargetError::AddressInvalid(address.to_owned()));
    }
    Ok(())
}

fn times(labels: &LabelsBuilder) -> Result<(i64, i64), TargetError> {
    let interval = labels.get("__scrape_interval__");
    let timeout = labels.get("__scrape_timeout__");
    let interval_ns = duration_ns("interval", interval)?;
    let timeout_ns = duration_ns("timeout", timeout)?;
    if timeout_ns > interval_ns {
        return Err(TargetError::TimeoutAboveInterval(timeout.to_owned(), interval.to_owned()));
    }
    Ok((interval_ns, timeout_ns))
}

fn duration_ns(which: &'static str, text: &str) -> Result<i64, TargetError> {
    let fail = |error| TargetError::Duration { which, error };
    let parsed = duration::parse(text).map_err(|e| fail(format!("{text:?} {e}")))?;
    match i64::try_from(parsed.as_nanos()) {
        Ok(0) => Err(fail("cannot be 0".to_owned())),
        Ok(ns) => Ok(ns),
        Err(_) => Err(fail(format!("{text:?} is beyond 292 years"))),
    }
}

/// go: strconv, ParseBool.
fn check_switch(which: &'static str, text: &str) -> Result<(), TargetError> {
    match text {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(()),
        _ => Err(TargetError::Switch { which, text: text.to_owned() }),
    }
}

/// FNV-1a over the label set's hash in decimal, zero-padded to 16 digits, and the URL.
/// prometheus: scrape/target.go, hash.
fn target_hash(labels_hash: u64, url: &str) -> TargetHash {
    let h = fnv1a(FNV_START, format!("{labels_hash:016}").as_bytes());
    TargetHash(fnv1a(h, url.as_bytes()))
}

/// Phase within the interval. prometheus: scrape/target.go, offset.
fn offset_ns(hash: TargetHash, seed: u64, interval_ns: i64) -> i64 {
    assert!(interval_ns > 0, "intervals are checked");
    ((hash.0 ^ seed) % interval_ns as u64) as i64
}

/// Start value of [`fnv1a`].
pub const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Continues a 64-bit FNV-1a hash.
#[must_use]
pub fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}
