//! series: to be written.
