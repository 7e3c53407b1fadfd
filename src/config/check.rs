//! `check config`: loads files and looks at what they point to.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::errors::{ConfigError, Note, NoteKind};
use super::glob;
use super::groups::{GroupFormat, parse_target_groups};
use super::load::{LoadOptions, Loaded, load};
use super::types::{Auth, HttpClient, ScrapeConfig, SecretSource};

/// How far a check goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The files themselves, and those of `scrape_config_files`: where there are no credentials, as in CI.
    Syntax,
    /// Also the files of `file_sd_configs` (a missing one is a warning) and of credentials.
    Files,
}

/// Checks files. Returns the report and the exit code: 0 when there is no error, else 1. prometheus: promtool, CheckConfig.
#[must_use]
pub fn check(files: &[PathBuf], options: &LoadOptions<'_>, depth: Depth) -> (String, i32) {
    let mut report = String::new();
    let mut code = 0;
    for file in files {
        let (errors, notes, summary) = match load(file, options) {
            Err(errors) => (errors.0, Vec::new(), String::new()),
            Ok(loaded) => {
                let (errors, notes) = match depth {
                    Depth::Syntax => (Vec::new(), warnings(&loaded)),
                    Depth::Files => pointed_to(file, &loaded),
                };
                (errors, notes, summary(&loaded))
            }
        };
        for note in &notes {
            let _ = writeln!(report, "{note}");
        }
        if errors.is_empty() {
            let _ = writeln!(report, "{}: OK  {summary}", file.display());
            continue;
        }
        code = 1;
        for e in &errors {
            let _ = writeln!(report, "{e}");
        }
        let s = if errors.len() == 1 { "" } else { "s" };
        let _ = writeln!(report, "{}: FAILED  {} error{s}", file.display(), errors.len());
    }
    (report, code)
}

fn summary(loaded: &Loaded) -> String {
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let mut out = count(loaded.config.scrape_configs.len(), "job");
    if !loaded.config.remote_write.is_empty() {
        let _ = write!(out, ", {}", count(loaded.config.remote_write.len(), "destination"));
    }
    out.push('.');
    for (kind, name) in [(NoteKind::Ignored, "ignored on request"), (NoteKind::NoEffect, "no effect here")] {
        let mut paths: Vec<_> = loaded.notes.iter().filter(|n| n.kind == kind).map(|n| n.path.as_str()).collect();
        paths.dedup();
        if !paths.is_empty() {
            let _ = write!(out, " {name}: {};", paths.join(", "));
        }
    }
    out.trim_end_matches([';', '.']).to_owned() + "."
}

fn warnings(loaded: &Loaded) -> Vec<Note> {
    loaded.notes.iter().filter(|n| n.kind == NoteKind::Warning).cloned().collect()
}

/// Errors and warnings about other files.
fn pointed_to(file: &Path, loaded: &Loaded) -> (Vec<ConfigError>, Vec<Note>) {
    let mut errors = Vec::new();
    let mut notes = warnings(loaded);
    for job in &loaded.config.scrape_configs {
        let path = format!("job {:?}", job.job_name);
        credentials(file, &path, &job.http, &mut errors);
        for pattern in job.file_sd_configs.iter().flat_map(|c| &c.files) {
            let found = match glob::glob(pattern) {
                Ok(found) => found,
                Err(error) => {
                    let what = format!("file_sd_configs: {pattern:?}: {error}");
                    errors.push(ConfigError { file: file.to_owned(), line: 0, path: path.clone(), what });
                    continue;
                }
            };
            if found.is_empty() {
                let text = format!("file_sd_configs: {pattern} does not exist (yet)");
                notes.push(Note { kind: NoteKind::Warning, file: file.to_owned(), line: 0, path: path.clone(), text });
            }
            errors.extend(found.iter().filter_map(|f| group_file(Path::new(f), job)));
        }
    }
    for destination in &loaded.config.remote_write {
        credentials(file, &format!("remote_write {:?}", destination.name), &destination.http, &mut errors);
    }
    (errors, notes)
}

fn group_file(path: &Path, job: &ScrapeConfig) -> Option<ConfigError> {
    let fail = |line, below: String, what: String| Some(ConfigError { file: path.to_owned(), line, path: below, what });
    let format = GroupFormat::of(path)?;
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) => return fail(0, String::new(), format!("cannot be read: {e}")),
    };
    let groups = match parse_target_groups(path, &bytes, format) {
        Ok(groups) => groups,
        Err(e) => return fail(e.line, e.path, e.what),
    };
    if !job.relabel_configs.is_empty() {
        return None;
    }
    for (i, group) in groups.iter().enumerate() {
        for (n, target) in group.targets.iter().enumerate() {
            let address = target.get("__address__").unwrap_or_default();
            if address.contains('/') {
                return fail(0, format!("[{i}].targets[{n}]"), format!("{address:?} is not host:port"));
            }
        }
    }
    None
}

fn credentials(file: &Path, path: &str, http: &HttpClient, errors: &mut Vec<ConfigError>) {
    let auth = match &http.auth {
        Auth::None => [None, None],
        Auth::Basic { username, password } => [username.as_ref(), password.as_ref()],
        Auth::Header { credentials, .. } => [credentials.as_ref(), None],
    };
    let tls = [http.tls.ca.as_ref(), http.tls.cert.as_ref(), http.tls.key.as_ref()];
    for source in auth.into_iter().chain(tls).flatten() {
        let SecretSource::File(secret) = source else { continue };
        if let Err(e) = std::fs::metadata(secret) {
            let what = format!("{}: {e}", secret.display());
            errors.push(ConfigError { file: file.to_owned(), line: 0, path: path.to_owned(), what });
        }
    }
}
