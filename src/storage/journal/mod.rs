//! storage/journal: to be written.
