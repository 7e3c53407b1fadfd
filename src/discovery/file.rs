//! Target groups from files that somebody else writes: watched, and read again in any case from time to time.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::metrics::DiscoveryMetrics;
use super::{Discoverer, GroupSender};
use crate::base::limits::SD_FILE_BYTES_MAX;
use crate::base::time::Now;
use crate::config::glob;
use crate::config::{FileSdConfig, GroupFormat, GroupsError, TargetGroup, parse_target_groups};
use crate::model::LabelsBuilder;

/// Wait after a change before reading, so that a file written in many small pieces is not read at each.
const SETTLE: Duration = Duration::from_millis(50);
/// Label with the file's path. prometheus: discovery/file/file.go.
const FILEPATH_LABEL: &str = "__meta_filepath";

/// Why a file gave no groups.
#[derive(Debug)]
pub enum FileError {
    /// The system's.
    Io(std::io::Error),
    /// Beyond [`SD_FILE_BYTES_MAX`].
    TooLarge,
    /// Neither JSON nor YAML by its name.
    Extension,
    /// Its content.
    Content(GroupsError),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::TooLarge => write!(f, "is larger than {SD_FILE_BYTES_MAX} bytes"),
            Self::Extension => f.write_str("must end in .json, .yml or .yaml"),
            Self::Content(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for FileError {}

/// `file_sd_configs`. prometheus: discovery/file/file.go, Discovery.
#[derive(Debug)]
pub struct FileDiscoverer {
    config: FileSdConfig,
    metrics: Arc<DiscoveryMetrics>,
}

impl FileDiscoverer {
    /// For one entry of the configuration.
    #[must_use]
    pub fn new(config: FileSdConfig, metrics: Arc<DiscoveryMetrics>) -> Self {
        Self { config, metrics }
    }

    /// Watches the directories, since files are mostly replaced by renaming, also by way of a link in the same
    /// directory (Kubernetes' `..data`). Without a watcher there is still the refresh interval.
    fn watcher(&self, changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
        let changed = Arc::clone(changed);
        let told = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if !is_change(&event) => {}
            Ok(_) => changed.notify_one(),
            Err(error) => tracing::warn!(%error, "watching target files failed"),
        };
        notify::recommended_watcher(told)
            .inspect_err(|error| {
                self.metrics.file_watcher_errors.add(1);
                tracing::error!(%error, "target files cannot be watched; they are read every refresh_interval only");
            })
            .ok()
    }

    /// Again before each scan: a directory that was missing or replaced is watched from then on.
    fn watch(&self, watcher: &mut RecommendedWatcher) {
        for pattern in &self.config.files {
            let dir = glob::directory(pattern);
            if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
                tracing::warn!(dir = %dir.display(), %error, "directory of target files cannot be watched");
            }
        }
    }

    fn report(&self, scan: &Scan) {
        self.metrics.file_scans.add(1);
        let seconds = self.metrics.file_scan_seconds.read() + scan.duration_ns as f64 / 1e9;
        self.metrics.file_scan_seconds.set(seconds);
        for (path, error) in &scan.errors {
            self.metrics.file_read_errors.add(1);
            tracing::error!(path, %error, "target file is refused, its last good groups stay");
        }
        for path in &scan.gone {
            self.metrics.set_file(path, None);
        }
        for (path, file) in &scan.files {
            if let Some(content) = &file.content {
                self.metrics.set_file(path, Some(content.mtime_s));
            }
        }
    }

    async fn run(self, out: GroupSender) {
        let changed = Arc::new(Notify::new());
        let mut watcher = self.watcher(&changed);
        let mut files = Files::default();
        // An interval of 0 would spin; it means that only the watcher counts.
        let every = self.config.refresh_interval;
        let every = if every.is_zero() { Duration::from_secs(u32::MAX.into()) } else { every };
        let mut refresh = interval_at(Instant::now() + every, every);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut delivered = false;
        loop {
            if let Some(watcher) = &mut watcher {
                self.watch(watcher);
            }
            let patterns = self.config.files.clone();
            let Ok(mut scan) = tokio::task::spawn_blocking(move || scan(&patterns, &files)).await else { return };
            self.report(&scan);
            files = std::mem::take(&mut scan.files);
            if (!delivered || !scan.groups.is_empty()) && !out.send(scan.groups).await {
                return;
            }
            delivered = true;
            tokio::select! {
                () = changed.notified() => sleep(SETTLE).await,
                _ = refresh.tick() => {}
            }
        }
    }
}

impl Discoverer for FileDiscoverer {
    fn run(self: Box<Self>, out: GroupSender) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin((*self).run(out))
    }
}

/// Everything but a change of rights and our own reading. An overflow of the kernel's queue counts as a change.
fn is_change(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => event.need_rescan(),
        _ => true,
    }
}

/// What the last scan saw, by path.
type Files = BTreeMap<String, File>;

#[derive(Clone, Debug, Default)]
struct File {
    /// Groups that it last gave.
    groups: usize,
    /// Of the last good reading; `None` when the last reading failed.
    content: Option<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    /// xxHash64.
    hash: u64,
    bytes: usize,
    /// Seconds since the epoch.
    mtime_s: i64,
}

#[derive(Debug, Default)]
struct Scan {
    files: Files,
    /// Changed groups, and empty ones for those that are gone.
    groups: Vec<TargetGroup>,
    errors: Vec<(String, FileError)>,
    gone: Vec<String>,
    duration_ns: u64,
}

/// Reads all files. A file whose bytes did not change gives nothing; one that fails keeps what it gave.
/// prometheus: discovery/file/file.go, refresh.
fn scan(patterns: &[String], before: &Files) -> Scan {
    let start = Now::read();
    let mut scan = Scan::default();
    for pattern in patterns {
        let Ok(paths) = glob::glob(pattern) else {
            tracing::error!(pattern, "malformed pattern for target files");
            continue;
        };
        for path in paths {
            if !scan.files.contains_key(&path) {
                scan.read(path, before);
            }
        }
    }
    for (path, old) in before {
        let left = scan.files.get(path).map(|f| f.groups);
        if left.is_none() {
            scan.gone.push(path.clone());
        }
        for index in left.unwrap_or(0)..old.groups {
            scan.groups.push(TargetGroup { source: source(path, index), ..TargetGroup::default() });
        }
    }
    scan.duration_ns = Now::read().mono_ns - start.mono_ns;
    scan
}

impl Scan {
    fn read(&mut self, path: String, before: &Files) {
        let old = before.get(&path);
        let file = match read(&path, old.and_then(|f| f.content.as_ref())) {
            Ok((content, Some(groups))) => {
                let file = File { groups: groups.len(), content: Some(content) };
                self.groups.extend(groups);
                file
            }
            Ok((content, None)) => File { groups: old.map_or(0, |f| f.groups), content: Some(content) },
            Err(error) => {
                self.errors.push((path.clone(), error));
                File { groups: old.map_or(0, |f| f.groups), content: None }
            }
        };
        self.files.insert(path, file);
    }
}

/// The groups, or `None` when the bytes are those of the last good reading.
fn read(path: &str, last: Option<&Content>) -> Result<(Content, Option<Vec<TargetGroup>>), FileError> {
    let format = GroupFormat::of(Path::new(path)).ok_or(FileError::Extension)?;
    let file = std::fs::File::open(path).map_err(FileError::Io)?;
    let mut bytes = Vec::new();
    (&file).take(SD_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(FileError::Io)?;
    if bytes.len() as u64 > SD_FILE_BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    let mtime_s = std::os::unix::fs::MetadataExt::mtime(&file.metadata().map_err(FileError::Io)?);
    let content = Content { hash: xxhash_rust::xxh64::xxh64(&bytes, 0), bytes: bytes.len(), mtime_s };
    if last.is_some_and(|l| l.hash == content.hash && l.bytes == content.bytes) {
        return Ok((content, None));
    }
    let mut groups = parse_target_groups(Path::new(path), &bytes, format).map_err(FileError::Content)?;
    for (index, group) in groups.iter_mut().enumerate() {
        group.source = source(path, index);
        let mut labels = LabelsBuilder::new(&group.labels);
        labels.set(FILEPATH_LABEL, path);
        group.labels = labels.labels();
    }
    Ok((content, Some(groups)))
}

/// prometheus: discovery/file/file.go, fileSource.
fn source(path: &str, index: usize) -> String {
    format!("{path}:{index}")
}
