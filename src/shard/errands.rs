//! Errands run off the shards: reading files of credentials and TLS settings, which may block. Names are in `names.rs`.
//!
//! Two threads share a bounded queue. A full one refuses the errand; the shard then asks again at the target's next start.
//! An answer is tried again while the shard's mailbox is full.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;

use crate::config::{Auth, Secret, SecretSource, Tls};
use crate::net::tls::{Client, Material};
use crate::scrape::PoolId;
use crate::shard::look_ups::Found;

/// Threads for files; a read that hangs holds one until the file system answers.
const FILE_THREADS: usize = 2;
/// Tries to post an answer, a millisecond apart; a mailbox that is full for longer belongs to a shard that is gone.
const POST_TRIES: usize = 10_000;
/// Errands waiting in the queue.
const WAITING: usize = 65_536;

/// What a shard wants done.
#[derive(Debug)]
pub enum Errand {
    /// The `Authorization` header of a pool.
    Authorize { asker: Asker, auth: Auth },
    /// What TLS connections of a pool are made from, unless its files still hold `known`; for about so many targets.
    Secure { asker: Asker, tls: Tls, known: Option<u128>, targets: usize },
}

/// A pool, under the configuration that it had when it asked: what was read for another one is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The pool.
    pub pool: PoolId,
    /// Which configuration: see [`ScrapePool::settings`](crate::scrape::pool::ScrapePool::settings).
    pub settings: u64,
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// Of a name. By then the token may be another target's, or wait for another name.
    Resolved { token: u32, name: Arc<str>, port: u16, found: Found },
    /// Header value, or the error text.
    Authorized { asker: Asker, result: Result<Option<Secret>, String> },
    /// With what the files held, nothing where that is what was known, or the error text.
    Secured { asker: Asker, result: Result<Option<(Client, u128)>, String> },
}

type Reply = Box<dyn Fn(Answer) -> Result<(), Answer> + Send>;
type Asked = (Errand, Arc<Mailer>);

/// The queue's writing end; cheap to clone, one for each shard. Errands are counted here because a channel with a bound takes
/// its memory (6 MB) beforehand.
#[derive(Clone, Debug)]
pub struct Errands {
    waiting: Sender<Asked>,
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
    /// `reply` posts to the shard's mailbox; it must not block, and gives the answer back when there is no room.
    pub fn new(reply: impl Fn(Answer) -> Result<(), Answer> + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Box::new(reply))))
    }

    /// `false` when the shard is gone.
    pub(super) fn post(&self, mut answer: Answer) -> bool {
        for _ in 0..POST_TRIES {
            let Ok(reply) = self.0.lock() else { return false };
            match reply(answer) {
                Ok(()) => return true,
                Err(refused) => answer = refused,
            }
            drop(reply);
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

impl Errands {
    /// Starts the threads; they end when the last [`Errands`] is dropped.
    ///
    /// # Errors
    /// The system's, when no thread can be had.
    pub fn spawn() -> std::io::Result<Self> {
        let (waiting, asked) = channel();
        let (asked, count) = (Arc::new(Mutex::new(asked)), Arc::new(AtomicUsize::new(0)));
        for n in 0..FILE_THREADS {
            let (asked, count) = (Arc::clone(&asked), Arc::clone(&count));
            std::thread::Builder::new().name(format!("file-{n}")).spawn(move || run(&asked, &count))?;
        }
        Ok(Self { waiting, count })
    }

    /// Queues an errand. `false` when the queue is full.
    #[must_use]
    pub fn send(&self, errand: Errand, mailer: &Arc<Mailer>) -> bool {
        if self.count.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.waiting.send((errand, Arc::clone(mailer))).is_ok()
    }
}

fn run(waiting: &Mutex<Receiver<Asked>>, count: &AtomicUsize) {
    loop {
        let next = match waiting.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((errand, mailer)) = next else { return };
        count.fetch_sub(1, Ordering::Relaxed);
        let answer = match errand {
            Errand::Authorize { asker, auth } => Answer::Authorized { asker, result: authorize(&auth) },
            Errand::Secure { asker, tls, known, targets } => {
                Answer::Secured { asker, result: secure(&tls, known, targets) }
            }
        };
        let _ = mailer.post(answer);
    }
}

/// prometheus/common: http_config.go, tlsRoundTripper: the files count by what they hold, not by their times.
fn secure(tls: &Tls, known: Option<u128>, targets: usize) -> Result<Option<(Client, u128)>, String> {
    let material = Material::read(tls).map_err(|e| e.to_string())?;
    let digest = material.digest();
    if known == Some(digest) {
        return Ok(None);
    }
    let client = Client::new(tls, &material, targets).map_err(|e| e.to_string())?;
    Ok(Some((client, digest)))
}

/// What [`Errand::Authorize`] would answer, where no file is to be read for it.
pub fn at_hand(auth: &Auth) -> Option<Result<Option<Secret>, String>> {
    let is_file = |source: &Option<SecretSource>| matches!(source, Some(SecretSource::File(_)));
    let reads = match auth {
        Auth::None => false,
        Auth::Basic { username, password } => is_file(username) || is_file(password),
        Auth::Header { credentials, .. } => is_file(credentials),
    };
    (!reads).then(|| authorize(auth))
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
            let value = format!("{kind} {text}");
            // Wherever it comes from, a line break would begin another header.
            if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
                return Err("net/http: invalid header field value for \"Authorization\"".to_owned());
            }
            // go: net/textproto, TrimString.
            Ok(Some(Secret::new(value.trim_matches([' ', '\t']))))
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
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_what_go_sends() {
        let inline = |s: &str| Some(SecretSource::Inline(Secret::new(s)));
        let basic = authorize(&Auth::Basic { username: inline("user"), password: inline("pass") });
        assert_eq!(basic.unwrap().unwrap().reveal(), "Basic dXNlcjpwYXNz");
        let bearer = authorize(&Auth::Header { kind: "Bearer".into(), credentials: inline("t") });
        assert_eq!(bearer.unwrap().unwrap().reveal(), "Bearer t");
    }

    #[test]
    fn an_answer_is_tried_again_while_the_mailbox_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "abc").unwrap();
        let (answers, inbox) = std::sync::mpsc::channel();
        // The first post meets a full mailbox.
        let refusals = std::cell::Cell::new(1);
        let mailer = Mailer::new(move |answer| match refusals.take() {
            0 => answers.send(answer).map_err(|e| e.0),
            n => Err(answer).inspect_err(|_| refusals.set(n - 1)),
        });
        let errands = Errands::spawn().unwrap();
        let auth = Auth::Header { kind: "Bearer".into(), credentials: Some(SecretSource::File(path)) };
        let asker = Asker { pool: PoolId(7), settings: 1 };
        assert!(errands.send(Errand::Authorize { asker, auth }, &mailer));
        let answer = inbox.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(answer, Answer::Authorized { result: Ok(Some(_)), .. }), "{answer:?}");
    }

    #[test]
    fn what_needs_no_file_is_at_hand() {
        let inline = Some(SecretSource::Inline(Secret::new("t")));
        let header = Auth::Header { kind: "Bearer".into(), credentials: inline.clone() };
        assert_eq!(at_hand(&header).unwrap().unwrap().unwrap().reveal(), "Bearer t");
        let file = Some(SecretSource::File("/nowhere".into()));
        assert!(at_hand(&Auth::Basic { username: inline, password: file }).is_none());
    }

    #[test]
    fn a_line_break_is_no_header_and_a_password_may_have_one() {
        let inline = |s: &str| Some(SecretSource::Inline(Secret::new(s)));
        for (kind, text) in [("Bearer", "a\r\nX-Evil: 1"), ("Bearer", "abc\n"), ("T\r\nX: y", "a"), ("Bearer", "a\x7f")]
        {
            let refused = authorize(&Auth::Header { kind: kind.into(), credentials: inline(text) });
            assert!(refused.unwrap_err().contains("invalid header field value"), "{kind:?} {text:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "a\nb").unwrap();
        let file = Some(SecretSource::File(path));
        assert!(authorize(&Auth::Header { kind: "Bearer".into(), credentials: file.clone() }).is_err());
        let basic = authorize(&Auth::Basic { username: inline("u"), password: file });
        assert_eq!(basic.unwrap().unwrap().reveal(), "Basic dTphCmI=");
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
