//! net: to be written.
