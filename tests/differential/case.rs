//! A case: one scripted behaviour with the scrape job that looks at it.

use std::collections::HashMap;

use crate::support::answer::Answer;

/// One behaviour. Texts may hold `@S@` (the scraper's letter), `@ADDR@` and `@PORT@` (the scripted server).
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub jobs: Vec<Job>,
    /// Path (without the scraper's letter) and the answers in order.
    pub scripts: HashMap<String, Vec<Answer>>,
    /// Scrapes of each target that are compared.
    pub scrapes: usize,
    /// How many targets write a `scrape_duration_seconds` series of their own.
    pub targets: usize,
    /// Of the believed program's samples only those count that rise in time, series by series.
    pub rising: bool,
    /// What changes after the first phase, and later; with it scrapes are compared as runs of equal scrapes, because the
    /// moment of a change is nobody's promise.
    pub changes: Vec<Change>,
}

/// What is different from one moment on.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Target files with their new contents; none: the file goes away.
    pub files: Vec<(String, Option<String>)>,
    /// The jobs of the case after a reload; none: no change of them.
    pub jobs: Option<Vec<Job>>,
}

/// One `scrape_configs` entry.
#[derive(Debug, Clone)]
pub struct Job {
    pub name: String,
    /// YAML lines at the level of `job_name`, targets included.
    pub yaml: String,
    /// Target files (name, JSON), beside the configuration file.
    pub files: Vec<(String, String)>,
}

/// A case with one target that gives these answers.
pub fn case(name: &str, answers: Vec<Answer>) -> Case {
    let scrapes = answers.len() + 1;
    let mut case = bare(name, scrapes);
    case.scripts.insert(format!("/{name}"), answers);
    case.jobs.push(Job { name: name.to_owned(), yaml: String::new(), files: Vec::new() });
    case
}

/// A case whose jobs and scripts are added by hand.
pub fn bare(name: &str, scrapes: usize) -> Case {
    Case {
        name: name.to_owned(),
        jobs: Vec::new(),
        scripts: HashMap::new(),
        scrapes,
        targets: 1,
        rising: false,
        changes: Vec::new(),
    }
}

/// Whole lines.
fn lines(yaml: &str) -> String {
    format!("{}\n", yaml.trim_matches('\n'))
}

/// Ordinary bodies as answers.
pub fn bodies<B: AsRef<[u8]>>(bodies: &[B]) -> Vec<Answer> {
    bodies.iter().map(Answer::ok).collect()
}

impl Case {
    /// YAML lines for the first job.
    pub fn with(mut self, yaml: &str) -> Case {
        self.jobs[0].yaml.push_str(&lines(yaml));
        self
    }

    /// Targets as the lines of one static group each: (path, extra labels in YAML flow form such as `, node: a`).
    pub fn targets(mut self, targets: &[(&str, &str)]) -> Case {
        let mut yaml = String::from("static_configs:\n");
        for (path, labels) in targets {
            yaml.push_str(&format!(
                "- targets: ['@ADDR@']\n  labels: {{case: '{}', __metrics_path__: '/@S@{path}'{labels}}}\n",
                self.name
            ));
        }
        self.targets = targets.len();
        self.jobs[0].yaml.push_str(&yaml);
        self
    }

    /// A further path with its answers.
    pub fn script(mut self, path: &str, answers: Vec<Answer>) -> Case {
        self.scripts.insert(path.to_owned(), answers);
        self
    }

    /// A job of its own name with these lines and, if named, a target file.
    pub fn job(mut self, name: &str, yaml: &str, file: Option<(&str, &str)>) -> Case {
        let files = file.map(|(n, c)| (n.to_owned(), c.to_owned())).into_iter().collect();
        self.jobs.push(Job { name: name.to_owned(), yaml: lines(yaml), files });
        self
    }

    /// What a target file becomes with the change.
    pub fn then_file(mut self, name: &str, contents: &str) -> Case {
        self.change().files.push((name.to_owned(), Some(contents.to_owned())));
        self
    }

    /// A target file that goes away with the change.
    pub fn then_no_file(mut self, name: &str) -> Case {
        self.change().files.push((name.to_owned(), None));
        self
    }

    /// What the jobs become with the change, by name and lines as in `with`; the configuration is loaded again.
    pub fn then_jobs(mut self, jobs: &[(&str, &str)]) -> Case {
        let job = |(name, yaml): &(&str, &str)| Job { name: (*name).to_owned(), yaml: lines(yaml), files: Vec::new() };
        self.change().jobs = Some(jobs.iter().map(job).collect());
        self
    }

    /// What comes next belongs to another change, later.
    pub fn later(mut self) -> Case {
        self.changes.push(Change::default());
        self
    }

    fn change(&mut self) -> &mut Change {
        if self.changes.is_empty() {
            self.changes.push(Change::default());
        }
        self.changes.last_mut().expect("not empty")
    }

    /// Compares this many scrapes instead of one more than there are answers.
    pub fn scrapes(mut self, scrapes: usize) -> Case {
        self.scrapes = scrapes;
        self
    }

    /// How many targets write report series.
    pub fn reporting(mut self, targets: usize) -> Case {
        self.targets = targets;
        self
    }

    /// Compared as runs of equal scrapes.
    pub fn is_changing(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Compared as histories of series.
    pub fn is_reloading(&self) -> bool {
        self.changes.iter().any(|c| c.jobs.is_some())
    }

    /// The `scrape_configs` entries of this case after so many changes, place holders unfilled.
    pub fn yaml(&self, changes: usize) -> String {
        let changed = self.changes.iter().take(changes).rev().find_map(|c| c.jobs.as_ref());
        let mut out = String::new();
        for job in changed.unwrap_or(&self.jobs) {
            out.push_str(&format!("- job_name: '{}'\n", job.name));
            let mut lines = String::new();
            if !job.yaml.contains("metrics_path:") {
                lines.push_str(&format!("metrics_path: '/@S@/{}'\n", self.name));
            }
            lines.push_str(&job.yaml);
            if !job.yaml.contains("_configs:\n- targets") && !job.yaml.contains("file_sd_configs") {
                lines.push_str(&format!(
                    "static_configs:\n- targets: ['@ADDR@']\n  labels: {{case: '{}'}}\n",
                    self.name
                ));
            }
            for line in lines.lines().filter(|l| !l.trim().is_empty()) {
                out.push_str(&format!("  {line}\n"));
            }
        }
        out
    }
}
