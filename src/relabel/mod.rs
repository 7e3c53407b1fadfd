//! relabel: to be written.
