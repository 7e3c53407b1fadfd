//! One core: commands in, reports out.

mod command;
pub mod errands;
pub mod stats;
pub use command::{Command, Health, StatusRequest, TargetStatus};
