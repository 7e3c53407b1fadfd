//! Reading the configuration: at the start, when it is asked for, and when the files have changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::Signal;

use crate::app::cli::Options;
use crate::app::control::Control;
use crate::base::memory;
use crate::base::time::Now;
use crate::config::{self, ConfigErrors, LoadOptions, Loaded, NoteKind, Watch};
use crate::net::tls;

/// How long after a load what only the load needed is given back.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// The configuration in force, and how its last load went.
#[derive(Debug, Default)]
pub struct LoadState {
    /// Redacted text.
    pub yaml: String,
    /// Sections ignored on request.
    pub ignored: Vec<String>,
    /// Wall clock of the last success, nanoseconds.
    pub succeeded_ns: Option<i64>,
    /// Why the last load failed.
    pub error: Option<String>,
    /// Wall clock of the last failure, nanoseconds.
    pub failed_ns: Option<i64>,
    /// Loads so far, the first included.
    pub count: u64,
    /// Of the files of the last success, read just before them; `None` = nobody asks, or it could not be made.
    pub checksum: Option<u64>,
}

/// What was found on disk.
#[derive(Debug)]
pub struct Found {
    checksum: Option<u64>,
    loaded: Result<Loaded, String>,
}

impl Found {
    /// Reads the configuration that the command line names. The checksum comes first: a file that changes between the two
    /// is then loaded once more, instead of never.
    #[must_use]
    pub fn read(options: &Options, watch: Option<&Mutex<Watch>>) -> Self {
        let checksum = watch.and_then(|watch| sum(watch).map_err(|e| tell_no_checksum(&e)).ok());
        Self { checksum, loaded: load(options) }
    }

    /// What is wrong with it, if anything.
    ///
    /// # Errors
    /// All that is wrong, as text for an operator.
    pub fn check(&self) -> Result<&Loaded, String> {
        self.loaded.as_ref().map_err(Clone::clone)
    }
}

impl Found {
    /// The same, refused where a destination's TLS files cannot be used: a reload shall not make it worse. At the start it
    /// waits for them, and the journal keeps what it is to get.
    fn with_usable_files(mut self) -> Self {
        self.loaded = self.loaded.and_then(|loaded| {
            for destination in &loaded.config.remote_write {
                let checked = tls::check(&destination.http.tls);
                checked.map_err(|e| format!("remote_write {:?}: {e}", destination.name))?;
            }
            Ok(loaded)
        });
        self
    }
}

fn load(options: &Options) -> Result<Loaded, String> {
    let ignore: Vec<&str> = options.ignored_keys.iter().map(String::as_str).collect();
    let env = |name: &str| std::env::var(name).ok();
    config::load(
        &options.config_file,
        &LoadOptions { ignore: &ignore, env: &env, extra_scrape_metrics: options.extra_scrape_metrics },
    )
    .map_err(|e| e.to_string())
}

fn sum(watch: &Mutex<Watch>) -> Result<u64, ConfigErrors> {
    watch.lock().unwrap_or_else(PoisonError::into_inner).checksum()
}

fn tell_no_checksum(error: &ConfigErrors) {
    tracing::error!("cannot tell whether the configuration has changed: {error}");
}

/// Runs what reads files where it may take its time, and the control thread goes on meanwhile.
async fn aside<T: Send + 'static>(reading: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(reading).await.map_err(|e| e.to_string())
}

impl Control {
    /// Reads the configuration again and applies what changed.
    ///
    /// # Errors
    /// What is wrong; the old configuration then stays.
    pub async fn load_again(&self) -> Result<(), String> {
        let _one = self.reloading.lock().await;
        self.load_once_more().await
    }

    /// The same when the files are not those in force, or when the last load failed. prometheus: cmd/prometheus/main.go,
    /// where a file that does not load is tried again at every look, too. Unlike there, one that is put back as it was is
    /// loaded: otherwise the failure would stand until something else changes.
    async fn load_if_changed(&self, watch: &Arc<Mutex<Watch>>) {
        let _one = self.reloading.lock().await;
        let watch = Arc::clone(watch);
        let is_due = match aside(move || sum(&watch)).await {
            Ok(Ok(checksum)) => {
                let state = self.state();
                state.checksum != Some(checksum) || state.error.is_some()
            }
            // The load says what is wrong.
            Ok(Err(_)) | Err(_) => true,
        };
        if is_due {
            tracing::info!("the configuration has changed on disk, or did not load before: loading it");
            let _ = self.load_once_more().await;
        }
    }

    async fn load_once_more(&self) -> Result<(), String> {
        let (options, watch) = (self.options.clone(), self.watch.clone());
        let result = match aside(move || Found::read(&options, watch.as_deref()).with_usable_files()).await {
            Ok(found) => self.apply(found).await,
            Err(e) => Err(e),
        };
        if let Err(error) = &result {
            let file = self.options.config_file.display();
            tracing::error!(%file, "configuration not loaded, the old one stays in force: {error}");
            let mut state = self.state();
            state.error = Some(error.clone());
            state.failed_ns = Some(Now::read().wall_ns);
        }
        result
    }

    /// Applies a configuration and says in one line what changed.
    ///
    /// # Errors
    /// What is wrong with it, or a part that refuses it; parts before that keep the new one, as in Prometheus.
    pub async fn apply(&self, found: Found) -> Result<(), String> {
        let Found { checksum, loaded } = found;
        let Loaded { config, notes, text } = loaded?;
        self.remote.apply(&config.remote_write, &config.global.external_labels).map_err(|e| e.to_string())?;
        let diff = self.manager.apply_config(&config).await.map_err(|e| e.to_string())?;
        self.discovery.apply_config(&config);
        let count = {
            let mut state = self.state();
            state.yaml = text;
            state.ignored = notes.iter().filter(|n| n.kind == NoteKind::Ignored).map(|n| n.path.clone()).collect();
            state.succeeded_ns = Some(Now::read().wall_ns);
            state.error = None;
            state.count += 1;
            state.checksum = checksum;
            state.count
        };
        for note in &notes {
            match note.kind {
                NoteKind::NoEffect => tracing::info!("configuration: {note}"),
                NoteKind::Ignored | NoteKind::Warning => tracing::warn!("configuration: {note}"),
            }
        }
        tracing::info!("reload {count}: {diff}");
        tokio::spawn(async {
            tokio::time::sleep(SETTLED_AFTER).await;
            memory::settle();
        });
        Ok(())
    }
}

/// Reloads at every SIGHUP.
pub async fn on_hangup(control: Arc<Control>, hangups: Option<Signal>) {
    let Some(mut hangups) = hangups else { return };
    while hangups.recv().await.is_some() {
        let _ = control.load_again().await;
    }
}

/// `--config.auto-reload`: looks at the files once in each interval.
pub async fn on_change(control: Arc<Control>) {
    let (Some(interval), Some(watch)) = (control.options.auto_reload, &control.watch) else { return };
    loop {
        tokio::time::sleep(interval).await;
        control.load_if_changed(watch).await;
    }
}
