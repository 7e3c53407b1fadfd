//! What the black-box tests share: scripted targets, a remote-write receiver, child processes, Debian's peers.
//!
//! Nothing here uses ringscrape's own code: the decoder is prost's, the HTTP is spelled out byte by byte.
#![allow(dead_code)] // Each test binary uses its own part.

pub mod answer;
pub mod http;
pub mod peer;
pub mod process;
pub mod receiver;
pub mod secure;
pub mod target;
