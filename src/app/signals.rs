//! Signals to the process: taken from the first moment on, kept until somebody asks for them.
//!
//! Without that a SIGHUP during the start would end the process, a SIGTERM would end it without a word, and the first process
//! of a container, for which the kernel has no default, would not hear it at all.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals to stop that come within this of the first are the same wish.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// All that are listened to.
#[derive(Debug)]
pub struct Signals {
    /// Wishes for a reload; `None` when the system refuses.
    pub hangups: Option<Signal>,
    /// Wishes for the end.
    pub stops: Stops,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Stops(Option<(Signal, Signal)>);

impl Signals {
    /// From now on no signal is lost. Inside a runtime, before anything that takes time.
    pub fn listen() -> Self {
        Self { hangups: signal(SignalKind::hangup()).ok(), stops: Stops::listen() }
    }
}

impl Stops {
    fn listen() -> Self {
        Self(signal(SignalKind::terminate()).ok().zip(signal(SignalKind::interrupt()).ok()))
    }

    /// Comes back when the process shall end, also for a signal from before this call.
    pub async fn wish(&mut self) {
        let Some((term, int)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

/// Ends the process at a second signal to stop.
pub async fn end_on_second() {
    // Supervisors signal the process and its group: what comes with the first is no second one.
    tokio::time::sleep(SAME_SIGNAL).await;
    Stops::listen().wish().await;
    tracing::warn!("second signal: leaving at once; what was not sent stays in the journal");
    std::process::exit(1);
}
