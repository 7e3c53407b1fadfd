//! Bad weather on the real kernel: a disk that stalls or is full, a host without io_uring, a stopped process, a dead receiver, a busy shard.
//!
//! Each test runs the real binary against scripted targets and a receiver, and judges by what the receiver got and what the
//! appliance said about itself. What needs root and loop devices says `SKIP` without them; `RINGSCRAPE_REQUIRE=root` makes
//! that a failure. `RINGSCRAPE_QUIET=1` says that the machine does nothing else: then bounds on lateness are the real ones.

#[path = "../support/mod.rs"]
mod support;

mod balance;
mod disk;
mod fleet;
mod host;
mod mount;
mod outage;
