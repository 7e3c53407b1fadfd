//! The ground plan of the process: command line, start from the ground up, stop from the top down.

pub mod cli;
