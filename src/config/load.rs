//! Loading: from a path to a checked configuration, or to everything that is wrong with it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::errors::{At, ConfigError, ConfigErrors, Note, NoteKind, Report};
use super::expanded::expanded;
use super::fields::{Fields, suggestion};
use super::glob;
use super::global::{Inherited, global};
use super::node::{Kind, Node};
use super::remote::remote_write;
use super::scrape::{has_one_star_at_most, scrape_config};
use super::types::{Config, ScrapeConfig};

/// Sections that only a server with rules and queries can serve; `--config.ignore` takes these names.
pub const IGNORABLE: [&str; 3] = ["alerting", "remote_read", "rule_files"];
/// Keys of sections that are checked and otherwise passed over. prometheus: config.go.
const RUNTIME_KEYS: &[&str] = &["gogc", "log_level"];
const TRACING_KEYS: &[&str] =
    &["client_type", "compression", "endpoint", "headers", "insecure", "sampling_fraction", "timeout", "tls_config"];
const OTLP_KEYS: &[&str] = &[
    "convert_histograms_to_nhcb",
    "ignore_resource_attributes",
    "keep_identifying_resource_attributes",
    "label_name_preserve_multiple_underscores",
    "label_name_underscore_sanitization",
    "promote_all_resource_attributes",
    "promote_resource_attributes",
    "promote_scope_metadata",
    "translation_strategy",
];
/// Bytes of one configuration file.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// How to load.
pub struct LoadOptions<'a> {
    /// Sections to skip with a note instead of an error; see [`IGNORABLE`].
    pub ignore: &'a [&'a str],
    /// Value of an environment variable, for external labels.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// What `extra_scrape_metrics` is where the file does not say.
    pub extra_scrape_metrics: bool,
}

impl fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions").field("ignore", &self.ignore).finish_non_exhaustive()
    }
}

/// A good file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// After defaults and checks.
    pub config: Config,
    /// Sorted by kind, file and line.
    pub notes: Vec<Note>,
    /// The main file with defaults and without its secrets, as YAML.
    pub text: String,
}

/// Reads `prometheus.yml` and the files it names in `scrape_config_files`. prometheus: config.go, LoadFile.
///
/// # Errors
/// Everything that is wrong, as far as one pass can tell.
pub fn load(path: &Path, options: &LoadOptions<'_>) -> Result<Loaded, ConfigErrors> {
    let mut loader = Loader { errors: Vec::new(), notes: Vec::new(), config: Config::default(), jobs: HashMap::new() };
    let text = loader.main_file(path, options);
    let Loader { mut errors, mut notes, config, .. } = loader;
    if !errors.is_empty() {
        errors.sort();
        errors.dedup();
        return Err(ConfigErrors(errors));
    }
    notes.sort();
    let notes = gathered(notes);
    Ok(Loaded { config, notes, text })
}

/// Warnings of one text are one, at their first place: ten thousand jobs of one template would fill the log.
fn gathered(notes: Vec<Note>) -> Vec<Note> {
    let mut out: Vec<Note> = Vec::new();
    let mut firsts: HashMap<String, (usize, usize)> = HashMap::new();
    for note in notes {
        if note.kind != NoteKind::Warning {
            out.push(note);
            continue;
        }
        match firsts.get_mut(&note.text) {
            Some((_, more)) => *more += 1,
            None => {
                firsts.insert(note.text.clone(), (out.len(), 0));
                out.push(note);
            }
        }
    }
    for (at, more) in firsts.into_values().filter(|(_, more)| *more > 0) {
        let s = if more == 1 { "" } else { "s" };
        out[at].text += &format!(" (and at {more} more place{s})");
    }
    out
}

struct Loader {
    errors: Vec<ConfigError>,
    notes: Vec<Note>,
    config: Config,
    /// Job names with the place where each was seen first.
    jobs: HashMap<String, String>,
}

impl Loader {
    fn main_file(&mut self, path: &Path, options: &LoadOptions<'_>) -> String {
        let report = Report::new(path);
        for name in options.ignore.iter().filter(|name| !IGNORABLE.contains(name)) {
            let hint = suggestion(name, &IGNORABLE);
            let what = format!("--config.ignore={name}: only {} can be ignored{hint}", IGNORABLE.join(", "));
            At::root(&report).error(what);
        }
        let Some(root) = self.read(path) else {
            self.absorb(report);
            return String::new();
        };
        let mut text = String::new();
        let at = At::root(&report);
        if let Some(f) = Fields::new(&at, &root) {
            let empty = Node::null();
            let place = at.key("global", 1);
            let inherited = match f.item("global") {
                Some(item) => global(&item.at, item.node, options),
                None => global(&place, &empty, options),
            };
            self.config.global = inherited.global.clone();
            self.jobs_of(&f, &inherited);
            self.config.remote_write = remote_write(&f, inherited.validation);
            self.config.out_of_order_window = storage(&f);
            server_sections(&f, options.ignore);
            other_sections(&f);
            let files = job_files(&f);
            f.finish(|_| None);
            if report.errors.borrow().is_empty() {
                text = expanded(&root, &self.config, &inherited, &files);
            }
            for pattern in &files {
                match glob::glob(pattern) {
                    Ok(found) => found.iter().for_each(|file| self.job_file(Path::new(file), &inherited)),
                    Err(error) => {
                        self.errors.push(wrong(path, 0, format!("scrape_config_files: {pattern:?}: {error}")))
                    }
                }
            }
        }
        self.absorb(report);
        text
    }

    /// A file of `scrape_config_files`: a list of jobs and nothing else.
    fn job_file(&mut self, path: &Path, inherited: &Inherited) {
        let Some(root) = self.read(path) else { return };
        let report = Report::new(path);
        let at = At::root(&report);
        if let Some(f) = Fields::new(&at, &root) {
            self.jobs_of(&f, inherited);
            f.finish(|key| {
                let known = ["global", "remote_write", "rule_files", "alerting", "storage", "scrape_config_files"];
                known.contains(&key).then(|| "a scrape config file has scrape_configs only".to_owned())
            });
        }
        self.absorb(report);
    }

    fn jobs_of(&mut self, f: &Fields<'_>, inherited: &Inherited) {
        let Some((at, list)) = f.list("scrape_configs") else { return };
        for (i, node) in list.iter().enumerate() {
            let at = at.index(i, node.line);
            let Some(job) = scrape_config(&at, node, inherited) else { continue };
            self.unique(&at, &job);
            self.config.scrape_configs.push(job);
        }
    }

    fn unique(&mut self, at: &At<'_>, job: &ScrapeConfig) {
        if job.job_name.is_empty() {
            return;
        }
        match self.jobs.get(&job.job_name) {
            Some(first) => at.error(format!("job_name {:?} is taken by {first}", job.job_name)),
            None => {
                self.jobs.insert(job.job_name.clone(), at.to_string());
            }
        }
    }

    fn read(&mut self, path: &Path) -> Option<Node> {
        let node = bytes_of(path).map_err(|e| vec![e]).and_then(|bytes| parsed(path, bytes));
        node.map_err(|errors| self.errors.extend(errors)).ok()
    }

    fn absorb(&mut self, report: Report) {
        self.errors.extend(report.errors.into_inner());
        self.notes.extend(report.notes.into_inner());
    }
}

pub(super) fn wrong(path: &Path, line: u32, what: String) -> ConfigError {
    ConfigError { file: path.to_owned(), line, path: String::new(), what }
}

/// A file of the configuration.
pub(super) fn bytes_of(path: &Path) -> Result<Vec<u8>, ConfigError> {
    match std::fs::metadata(path).and_then(|m| Ok((m.len(), std::fs::read(path)?))) {
        Ok((len, _)) if len > FILE_BYTES_MAX => {
            Err(wrong(path, 0, format!("is larger than {} MiB", FILE_BYTES_MAX >> 20)))
        }
        Ok((_, bytes)) => Ok(bytes),
        Err(e) => Err(wrong(path, 0, format!("cannot be read: {e}"))),
    }
}

/// What a file of the configuration says.
pub(super) fn parsed(path: &Path, bytes: Vec<u8>) -> Result<Node, Vec<ConfigError>> {
    let text = String::from_utf8(bytes).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() as u32 + 1;
        vec![wrong(path, line, "is not UTF-8".to_owned())]
    })?;
    Node::parse(&text).map_err(|errors| errors.into_iter().map(|e| wrong(path, e.line, e.what)).collect())
}

/// Patterns joined to the file's directory.
fn job_files(f: &Fields<'_>) -> Vec<String> {
    let files = f.texts("scrape_config_files").unwrap_or_default();
    for file in files.iter().filter(|file| !has_one_star_at_most(file)) {
        f.error("scrape_config_files", format!("{file:?}: at most one *, in the last path element"));
    }
    files.iter().map(|file| f.at.directory().join(file).to_string_lossy().into_owned()).collect()
}

/// `storage` speaks of a database that is not here; the out-of-order window is kept for those who ask.
fn storage(f: &Fields<'_>) -> Duration {
    f.no_effect(&["storage"]);
    let Some(item) = f.value("storage") else { return Duration::ZERO };
    let Some(f) = Fields::new(&item.at, item.node) else { return Duration::ZERO };
    let exemplars = f.value("exemplars");
    if let Some(f) = exemplars.as_ref().and_then(|item| Fields::new(&item.at, item.node)) {
        let _ = f.item("max_exemplars");
        f.finish(|_| None);
    }
    let window = f.value("tsdb").and_then(|item| {
        let tsdb = Fields::new(&item.at, item.node)?;
        let window = tsdb.duration("out_of_order_time_window");
        for key in ["retention", "stale_series_compaction_threshold"] {
            let _ = tsdb.item(key);
        }
        tsdb.finish(|_| None);
        window
    });
    f.finish(|_| None);
    window.unwrap_or_default()
}

/// Sections without a meaning here; what Prometheus would not know in them is an error all the same.
fn other_sections(f: &Fields<'_>) {
    f.no_effect(&["runtime", "otlp", "tracing"]);
    for (section, keys) in [("runtime", RUNTIME_KEYS), ("otlp", OTLP_KEYS), ("tracing", TRACING_KEYS)] {
        let Some(item) = f.value(section) else { continue };
        let Some(fields) = Fields::new(&item.at, item.node) else { continue };
        for key in keys {
            let _ = fields.item(key);
        }
        if section == "tracing" && fields.text("endpoint").is_none_or(|e| e.is_empty()) {
            fields.error("endpoint", "is missing");
        }
        fields.finish(|_| None);
    }
}

/// Sections that an agent refuses when they say something. prometheus: config.go, LoadFile.
fn server_sections(f: &Fields<'_>, ignore: &[&str]) {
    let found: Vec<_> = IGNORABLE.into_iter().filter_map(|key| Some((key, f.item(key)?))).collect();
    let speaking: Vec<_> = found.iter().filter(|(_, item)| says_something(item.node)).map(|(key, _)| *key).collect();
    for (key, item) in found {
        if !speaking.contains(&key) {
            continue;
        }
        if ignore.contains(&key) {
            item.at.note(NoteKind::Ignored, "");
            continue;
        }
        let why = match key {
            "remote_read" => "queries are not served from elsewhere",
            _ => "rules are not evaluated",
        };
        item.at.error(format!(
            "not possible here: {why}, as with prometheus --agent. Remove it, or start with --config.ignore={}",
            speaking.join(",")
        ));
    }
}

/// Whether anything but nothing, empty lists and empty maps is there.
fn says_something(node: &Node) -> bool {
    match &node.kind {
        Kind::Null => false,
        Kind::Scalar { .. } => true,
        Kind::List(list) => !list.is_empty(),
        Kind::Map(map) => map.iter().any(|e| says_something(&e.value)),
    }
}
