//! The ground floor: limits, time, CPUs, mailboxes, file calls. Knows nothing of scraping.
//!
//! Look for [`limits`] (every cap, with its reason), [`time::Now`] (time is passed in, never taken),
//! [`mailbox`] and [`queue`] (what crosses between threads), [`names`] (what this machine is called). Absent on purpose: anything that a crate of the field does better.

pub mod cpu;
pub mod file;
pub mod limits;
pub mod mailbox;
pub mod memory;
pub mod names;
pub mod prefetch;
pub mod queue;
pub mod rfc3339;
pub mod time;
