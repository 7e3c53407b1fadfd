//! What loading tells: errors and notes with file, line and key path.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong, with the remedy in its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// 1 based; 0 when it concerns the whole file.
    pub line: u32,
    /// For example `scrape_configs[2].relabel_configs[0].regex`; empty for the whole file.
    pub path: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.what)
    }
}

/// Everything that is wrong, in file order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            e.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Why something is worth a note although the file is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// A key of Prometheus that has no meaning for a scraper.
    NoEffect,
    /// A section skipped because the operator said so with `--config.ignore`.
    Ignored,
    /// Probably not what was meant.
    Warning,
}

/// Something an operator should know about a good file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Kind.
    pub kind: NoteKind,
    /// The file.
    pub file: PathBuf,
    /// 1 based; 0 when it concerns the whole file.
    pub line: u32,
    /// Key path.
    pub path: String,
    /// A sentence; empty when kind and path say it all.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            NoteKind::NoEffect => "no effect here",
            NoteKind::Ignored => "ignored on request",
            NoteKind::Warning => "warning",
        };
        write!(f, "{}:{}: {}: {kind}", self.file.display(), self.line, self.path)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// Collects errors and notes about one file while it is decoded.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) file: PathBuf,
    pub(super) errors: RefCell<Vec<ConfigError>>,
    pub(super) notes: RefCell<Vec<Note>>,
}

impl Report {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), errors: RefCell::default(), notes: RefCell::default() }
    }
}

/// A place in a file: a chain of steps up to the root.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    report: &'a Report,
    up: Option<&'a At<'a>>,
    step: Step<'a>,
    line: u32,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(super) fn root(report: &'a Report) -> Self {
        Self { report, up: None, step: Step::Root, line: 1 }
    }

    pub(super) fn key(&'a self, key: &'a str, line: u32) -> At<'a> {
        At { report: self.report, up: Some(self), step: Step::Key(key), line }
    }

    pub(super) fn index(&'a self, index: usize, line: u32) -> At<'a> {
        At { report: self.report, up: Some(self), step: Step::Index(index), line }
    }

    pub(super) fn error(&self, what: impl Into<String>) {
        let error =
            ConfigError { file: self.report.file.clone(), line: self.line, path: self.path(), what: what.into() };
        self.report.errors.borrow_mut().push(error);
    }

    /// An error at a path further down, for example `[3].targets[0]`.
    pub(super) fn error_below(&self, path: &str, line: u32, what: impl Into<String>) {
        let path = format!("{}{path}", self.path());
        let error = ConfigError { file: self.report.file.clone(), line, path, what: what.into() };
        self.report.errors.borrow_mut().push(error);
    }

    pub(super) fn note(&self, kind: NoteKind, text: impl Into<String>) {
        let note = Note { kind, file: self.report.file.clone(), line: self.line, path: self.path(), text: text.into() };
        self.report.notes.borrow_mut().push(note);
    }

    pub(super) fn line(&self) -> u32 {
        self.line
    }

    /// Directory of the file: relative paths are joined to it.
    pub(super) fn directory(&self) -> &Path {
        self.report.file.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn path(&self) -> String {
        let mut path = self.up.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Index(i) => path.push_str(&format!("[{i}]")),
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
        }
        path
    }
}

/// `file:line, path`: how one place is named in the text about another.
impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}, {}", self.report.file.display(), self.line, self.path())
    }
}
