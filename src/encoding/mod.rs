//! encoding: to be written.
