//! manager: to be written.
