//! Discovery: providers find groups of targets, the manager here passes on what changed.
//!
//! [`Discovery`] runs one [`Discoverer`] per distinct provider configuration and sends [`Update`]s, each with only the
//! groups that changed since the last. Invariants: a provider's group is stored once however many jobs use it; every
//! job is announced once even when nothing was found; a provider that fails keeps its groups. Everything runs on the
//! control thread. Deliberately absent: what becomes of an entry (see `manager`), providers other than static and file.

mod backoff;
mod file;
mod metrics;
mod providers;
mod update;

#[cfg(test)]
mod discovery_tests;
#[cfg(test)]
mod file_tests;

pub use file::FileDiscoverer;
pub use metrics::DiscoveryMetrics;
pub use providers::{Discoverer, Discovery, GroupSender, StaticDiscoverer};
pub use update::{GroupChange, JobUpdate, ProviderId, Update};
