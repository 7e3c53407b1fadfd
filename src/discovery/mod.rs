//! discovery: to be written.
