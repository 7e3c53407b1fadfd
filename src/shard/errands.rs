//! Errands run off the shards: looking up host names and reading credential files, both of which may block.
//!
//! A few threads share one bounded queue. A full queue refuses the errand; the shard then asks again at the target's
//! next start, and the scrape that needed it fails with a message that says so.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use base64::Engine as _;

use crate::config::{Auth, Secret, SecretSource};
use crate::scrape::PoolId;

/// Threads; a lookup that hangs in the system's resolver holds one for some seconds.
const THREADS: usize = 4;
/// Errands waiting.
const WAITING: usize = 65_536;

/// What a shard wants done.
#[derive(Debug)]
pub enum Errand {
    /// Addresses of a host name.
    Resolve { token: u32, name: Box<str>, port: u16 },
    /// The `Authorization` header of a pool.
    Authorize { pool: PoolId, auth: Auth },
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// At least one address, or the error text.
    Resolved { token: u32, result: Result<Vec<SocketAddr>, String> },
    /// Header value, or the error text.
    Authorized { pool: PoolId, result: Result<Option<Secret>, String> },
}

type Reply = Box<dyn Fn(Answer) + Send>;

/// The queue's writing end; cheap to clone, one for each shard.
#[derive(Clone, Debug)]
pub struct Errands {
    queue: Sender<(Errand, Arc<Mailer>)>,
    /// Errands in the queue. Counted here because a channel with a bound takes its memory (6 MB) beforehand.
    count: Arc<AtomicUsize>,
}

/// How answers get back to one shard.
pub struct Mailer(Mutex<Reply>);

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailer")
    }
}

impl Mailer {
    /// `reply` posts to the shard's mailbox; it must not block.
    pub fn new(reply: impl Fn(Answer) + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Box::new(reply))))
    }
}

impl Errands {
    /// Starts the threads; they end when the last [`Errands`] is dropped.
    ///
    /// # Errors
    /// The system's, when no thread can be had.
    pub fn spawn() -> std::io::Result<Self> {
        let (queue, waiting) = channel();
        let (waiting, count) = (Arc::new(Mutex::new(waiting)), Arc::new(AtomicUsize::new(0)));
        for n in 0..THREADS {
            let (waiting, count) = (Arc::clone(&waiting), Arc::clone(&count));
            std::thread::Builder::new().name(format!("errand-{n}")).spawn(move || run(&waiting, &count))?;
        }
        Ok(Self { queue, count })
    }

    /// Queues an errand. `false` when the queue is full.
    #[must_use]
    pub fn send(&self, errand: Errand, mailer: &Arc<Mailer>) -> bool {
        if self.count.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.queue.send((errand, Arc::clone(mailer))).is_ok()
    }
}

fn run(waiting: &Mutex<Receiver<(Errand, Arc<Mailer>)>>, count: &AtomicUsize) {
    loop {
        let next = match waiting.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((errand, mailer)) = next else { return };
        count.fetch_sub(1, Ordering::Relaxed);
        let answer = match errand {
            Errand::Resolve { token, name, port } => Answer::Resolved { token, result: resolve(&name, port) },
            Errand::Authorize { pool, auth } => Answer::Authorized { pool, result: authorize(&auth) },
        };
        if let Ok(reply) = mailer.0.lock() {
            reply(answer);
        }
    }
}

fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match (name, port).to_socket_addrs() {
        Ok(found) => {
            let mut all: Vec<SocketAddr> = found.collect();
            all.dedup();
            if all.is_empty() { Err(format!("lookup {name}: no such host")) } else { Ok(all) }
        }
        Err(e) => Err(format!("lookup {name}: {e}")),
    }
}

/// The value of the `Authorization` header. prometheus/common: http_config.go, basicAuthRoundTripper and
/// authorizationCredentialsRoundTripper; files are read anew and trimmed.
fn authorize(auth: &Auth) -> Result<Option<Secret>, String> {
    match auth {
        Auth::None => Ok(None),
        Auth::Basic { username, password } => {
            let user = read(username.as_ref())?;
            let word = read(password.as_ref())?;
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{word}"));
            Ok(Some(Secret::new(format!("Basic {pair}"))))
        }
        Auth::Header { kind, credentials } => {
            let text = read(credentials.as_ref())?;
            Ok(Some(Secret::new(format!("{kind} {text}"))))
        }
    }
}

fn read(source: Option<&SecretSource>) -> Result<String, String> {
    let text = match source {
        None => return Ok(String::new()),
        Some(SecretSource::Inline(s)) => return Ok(s.reveal().to_owned()),
        Some(SecretSource::File(path)) => std::fs::read_to_string(path)
            .map_err(|e| format!("unable to read authorization credentials file {}: {e}", path.display()))?,
    };
    let text = text.trim().to_owned();
    if text.bytes().any(|b| b == b'\r' || b == b'\n') {
        return Err("a credential may not contain a line break".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_names_resolve_and_unknown_ones_say_so() {
        assert_eq!(resolve("127.0.0.1", 80).unwrap(), vec!["127.0.0.1:80".parse().unwrap()]);
        assert!(resolve("no-such-host.invalid", 80).unwrap_err().contains("lookup no-such-host.invalid"));
    }

    #[test]
    fn headers_are_what_go_sends() {
        let inline = |s: &str| Some(SecretSource::Inline(Secret::new(s)));
        let basic = authorize(&Auth::Basic { username: inline("user"), password: inline("pass") });
        assert_eq!(basic.unwrap().unwrap().reveal(), "Basic dXNlcjpwYXNz");
        let bearer = authorize(&Auth::Header { kind: "Bearer".into(), credentials: inline("t") });
        assert_eq!(bearer.unwrap().unwrap().reveal(), "Bearer t");
    }

    #[test]
    fn files_are_trimmed_and_missing_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, " abc\n").unwrap();
        let auth = Auth::Header { kind: "Bearer".into(), credentials: Some(SecretSource::File(path.clone())) };
        assert_eq!(authorize(&auth).unwrap().unwrap().reveal(), "Bearer abc");
        std::fs::remove_file(&path).unwrap();
        assert!(authorize(&auth).unwrap_err().contains("token"));
    }
}
