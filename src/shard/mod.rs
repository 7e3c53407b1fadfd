//! One core: commands in, reports out.

pub mod errands;
pub mod stats;
