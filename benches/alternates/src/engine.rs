//! The engines, in the order of the tables.

use clap::ValueEnum;

/// What drives the sockets of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// ringscrape's `net::Net` on its io_uring backend.
    Ring,
    /// ringscrape's `net::Net` on its epoll backend.
    Epoll,
    /// tokio's current-thread runtime, a task per target.
    Tokio,
    /// tokio-uring, a task per target.
    TokioUring,
    /// glommio's local executor, a task per target.
    Glommio,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ring, Self::Epoll, Self::Tokio, Self::TokioUring, Self::Glommio];

    /// Its name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Epoll => "epoll",
            Self::Tokio => "tokio",
            Self::TokioUring => "tokio-uring",
            Self::Glommio => "glommio",
        }
    }

    /// The package it comes from and its locked version.
    pub fn version(self) -> String {
        let package = if matches!(self, Self::Ring | Self::Epoll) { "ringscrape" } else { self.name() };
        format!("{package} {}", locked(include_str!("../Cargo.lock"), package).unwrap_or("of unknown version"))
    }
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_a_locked_version() {
        for engine in Engine::ALL {
            assert!(engine.version().ends_with(|c: char| c.is_ascii_digit()), "{}", engine.version());
        }
        assert_eq!(locked("name = \"ab\"\nversion = \"2.0\"\n\nname = \"a\"\nversion = \"1.0\"\n", "a"), Some("1.0"));
    }
}
