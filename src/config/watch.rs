//! Whether what is on disk is still what was loaded: a checksum over the configuration file and the files that it names.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh64::{Xxh64, xxh64};

use super::errors::{At, ConfigErrors, Report};
use super::fields::Fields;
use super::glob;
use super::load::{bytes_of, parsed, wrong};

/// Keys whose files belong to the configuration. prometheus: config/reload.go, ExternalFilesConfig.
const NAMING_KEYS: [&str; 2] = ["rule_files", "scrape_config_files"];

/// A configuration file that is looked at again and again.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    /// What the file named when it had this checksum: a file that has not changed is not parsed again.
    named: Option<(u64, Vec<Named>)>,
}

#[derive(Clone, Debug)]
struct Named {
    key: &'static str,
    /// Joined to the file's directory.
    pattern: String,
}

impl Watch {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), named: None }
    }

    /// Of everything that a load would read, names of the files included. prometheus: config/reload.go, GenerateChecksum.
    ///
    /// # Errors
    /// A file that cannot be read, or a main file that is no YAML: what it names is then not known.
    pub fn checksum(&mut self) -> Result<u64, ConfigErrors> {
        let alone = |e| ConfigErrors(vec![e]);
        let main = bytes_of(&self.path).map_err(alone)?;
        let of_main = xxh64(&main, 0);
        if self.named.as_ref().is_none_or(|(sum, _)| *sum != of_main) {
            self.named = Some((of_main, self.names(main)?));
        }
        let mut sum = Xxh64::new(of_main);
        for Named { key, pattern } in self.named.iter().flat_map(|(_, named)| named) {
            let files =
                glob::glob(pattern).map_err(|e| alone(wrong(&self.path, 0, format!("{key}: {pattern:?}: {e}"))))?;
            for file in files {
                let content = bytes_of(Path::new(&file)).map_err(alone)?;
                // Lengths stand before what they measure, so that no two lists of files read the same.
                for piece in [key.as_bytes(), file.as_bytes(), &content] {
                    sum.update(&(piece.len() as u64).to_le_bytes());
                    sum.update(piece);
                }
            }
        }
        Ok(sum.digest())
    }

    fn names(&self, main: Vec<u8>) -> Result<Vec<Named>, ConfigErrors> {
        let root = parsed(&self.path, main).map_err(ConfigErrors)?;
        let report = Report::new(&self.path);
        let mut named = Vec::new();
        {
            let at = At::root(&report);
            // What else is wrong with the file is for the load to say.
            if let Some(f) = Fields::new(&at, &root) {
                for key in NAMING_KEYS {
                    let texts = f.texts(key).unwrap_or_default().into_iter();
                    named.extend(
                        texts.map(|text| Named {
                            key,
                            pattern: at.directory().join(text).to_string_lossy().into_owned(),
                        }),
                    );
                }
            }
        }
        let errors = report.errors.into_inner();
        if errors.is_empty() { Ok(named) } else { Err(ConfigErrors(errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_configuration_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        write("main.yml", "scrape_config_files: ['jobs*.yml']\nrule_files: [rules.yml]\n");
        let mut watch = Watch::new(&dir.path().join("main.yml"));
        let mut seen = vec![watch.checksum().expect("a sum")];
        let mut next = |what: &str, watch: &mut Watch| {
            let sum = watch.checksum().expect("a sum");
            assert!(!seen.contains(&sum), "{what}");
            assert_eq!(sum, watch.checksum().expect("a sum"), "{what}: the same files again");
            assert_eq!(sum, Watch::new(&watch.path).checksum().expect("a sum"), "{what}: nothing depends on the past");
            seen.push(sum);
        };
        write("jobs1.yml", "scrape_configs: []");
        next("a file more", &mut watch);
        write("jobs1.yml", "scrape_configs: [] ");
        next("another content", &mut watch);
        std::fs::rename(dir.path().join("jobs1.yml"), dir.path().join("jobs2.yml")).expect("renamed");
        next("another name", &mut watch);
        write("rules.yml", "groups: []");
        next("a file of rules", &mut watch);
        write("main.yml", "scrape_config_files: ['jobs*.yml']\nrule_files: [rules.yml]\n# Said again.\n");
        next("the file itself", &mut watch);
        write("main.yml", "scrape_config_files: ['rules.yml']\nrule_files: ['jobs*.yml']\n");
        next("files that change places", &mut watch);
    }

    #[test]
    fn what_cannot_be_read_has_no_checksum() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("main.yml");
        let mut watch = Watch::new(&path);
        let mut check = |text: Option<&str>, want: &str| {
            if let Some(text) = text {
                std::fs::write(&path, text).expect("written");
            }
            let error = watch.checksum().expect_err("no sum").to_string();
            assert!(error.contains(want), "{error}");
        };
        check(None, "main.yml: cannot be read");
        check(Some("{"), "main.yml:");
        check(Some("rule_files: 7"), "rule_files: must be a list");
        std::fs::create_dir(dir.path().join("rules")).expect("made");
        check(Some("rule_files: [rules]"), "rules: cannot be read");
    }
}
