//! A server of scripted targets: the n-th request of a scraper to a path gets the n-th answer of that path's script.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Instant, SystemTime};

use super::answer::{Answer, Last, Step, TEXT};
use super::http::{self, Request};
use super::secure;

/// Scripts by path. The path of a request starts with the scraper's letter: `/x/some-case` asks for `/some-case`.
pub type Scripts = HashMap<String, Vec<Answer>>;

/// A running server on 127.0.0.1 and, at the same port, 127.0.0.2 (another host as far as redirects are concerned).
pub struct TargetServer {
    pub addr: SocketAddr,
    inner: Arc<Inner>,
}

/// What a connection asks for answers.
pub trait Script: Send + Sync {
    /// The next answer of that path, and its number.
    fn next(&self, path: &str) -> (usize, Answer);
    /// Gives it.
    fn play(&self, answer: &Answer, number: usize, request: &Request, stream: &mut dyn Write) -> std::io::Result<()>;
}

struct Inner {
    addr: SocketAddr,
    /// Listeners over TLS, by name.
    secure: OnceLock<Vec<(&'static str, SocketAddr)>>,
    scripts: Scripts,
    asked: Mutex<HashMap<String, usize>>,
    counted: Mutex<Vec<Counted>>,
}

/// A counting answer that was sent whole.
#[derive(Debug, Clone)]
pub struct Counted {
    /// As `/x/path`.
    pub path: String,
    /// Number of the request on that path, from 0: the value of every sample.
    pub number: usize,
    /// When the last byte had been handed to the kernel.
    pub at: Instant,
    pub wall: SystemTime,
}

impl TargetServer {
    /// Starts serving. After a script's last answer that answer repeats.
    pub fn start(scripts: Scripts) -> TargetServer {
        let (first, second) = listeners();
        let addr = first.local_addr().expect("a bound listener has an address");
        let inner = Arc::new(Inner {
            addr,
            secure: OnceLock::new(),
            scripts,
            asked: Mutex::new(HashMap::new()),
            counted: Mutex::default(),
        });
        for listener in [first, second] {
            let inner = inner.clone();
            thread::spawn(move || accept(&inner, &listener));
        }
        TargetServer { addr, inner }
    }

    /// Serves the same over TLS too: the listeners by name. In texts `@TLS:name@` is one's address.
    pub fn secure(&self) -> &[(&'static str, SocketAddr)] {
        let listen = |name| (name, secure::listen(name, self.inner.clone()));
        self.inner.secure.get_or_init(|| secure::NAMES.map(listen).to_vec())
    }

    /// The counting answers sent so far.
    pub fn counted(&self) -> Vec<Counted> {
        self.inner.counted.lock().expect("no holder panics").clone()
    }

    /// Requests so far by a scraper to a path, as `/x/path`.
    pub fn asked(&self, path: &str) -> usize {
        self.inner.asked.lock().expect("no holder panics").get(path).copied().unwrap_or(0)
    }
}

/// Two listeners on one port of two loopback addresses.
fn listeners() -> (TcpListener, TcpListener) {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = first.local_addr().expect("bound").port();
        if let Ok(second) = TcpListener::bind(("127.0.0.2", port)) {
            return (first, second);
        }
    }
    panic!("no port is free on both 127.0.0.1 and 127.0.0.2");
}

fn accept(inner: &Arc<Inner>, listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        let inner = inner.clone();
        thread::spawn(move || converse(&inner, stream));
    }
}

/// One connection; any error simply ends it, as the scraper may leave at any moment.
fn converse(inner: &Inner, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    while let Ok(Some(request)) = http::peek_request(&stream) {
        let (number, answer) = inner.next(request.path());
        if answer.last != Last::Reset && http::consume(&mut stream, request.head_bytes).is_err() {
            return;
        }
        if inner.play(&answer, number, &request, &mut stream).is_err() || answer.last != Last::Keep {
            return;
        }
    }
}

impl Script for Inner {
    fn next(&self, path: &str) -> (usize, Answer) {
        let mut asked = self.asked.lock().expect("no holder panics");
        let count = asked.entry(path.to_owned()).or_insert(0);
        let n = *count;
        *count += 1;
        let script = path.get(2..).and_then(|p| self.scripts.get(p));
        let answer = match script {
            Some(script) => script[n.min(script.len() - 1)].clone(),
            None => Answer::status("404 Not Found", ""),
        };
        (n, answer)
    }

    fn play(&self, answer: &Answer, number: usize, request: &Request, stream: &mut dyn Write) -> std::io::Result<()> {
        for step in &answer.steps {
            match step {
                Step::Wait(pause) => thread::sleep(*pause),
                Step::Send(bytes) => stream.write_all(&self.filled(bytes, request))?,
                Step::Echo(names) => stream.write_all(&echo(names, request))?,
                Step::Count(samples) | Step::Shuffle(samples) => {
                    let stride = if matches!(step, Step::Count(_)) { 1 } else { stride(*samples, number) };
                    stream.write_all(&count(*samples, number, stride))?;
                    let path = request.path().to_owned();
                    self.counted.lock().expect("no holder panics").push(Counted {
                        path,
                        number,
                        at: Instant::now(),
                        wall: SystemTime::now(),
                    });
                }
            }
        }
        stream.flush()
    }
}

impl Inner {
    /// The bytes with the place holders of redirects filled in.
    fn filled(&self, bytes: &[u8], request: &Request) -> Vec<u8> {
        if http::find(bytes, b"@").is_none() || !bytes.starts_with(b"HTTP/1.1 3") {
            return bytes.to_vec();
        }
        let letter = request.path().get(1..2).unwrap_or("x");
        let port = self.addr.port().to_string();
        with_listeners(&String::from_utf8_lossy(bytes), self.secure.get().map_or(&[], Vec::as_slice))
            .replace("@S@", letter)
            .replace("@ADDR@", &self.addr.to_string())
            .replace("@PORT@", &port)
            .into_bytes()
    }
}

/// A text with the addresses of listeners over TLS filled in.
pub fn with_listeners(text: &str, listeners: &[(&str, SocketAddr)]) -> String {
    listeners.iter().fold(text.to_owned(), |t, (name, addr)| t.replace(&format!("@TLS:{name}@"), &addr.to_string()))
}

fn echo(names: &[&str], request: &Request) -> Vec<u8> {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut body = format!("echo_query{{query=\"{}\"}} 1\n", quote(request.query()));
    body.push_str(&format!("echo_path{{path=\"{}\"}} 1\n", quote(request.path().get(2..).unwrap_or(""))));
    for name in names {
        // A URL of this server has the scraper's letter in it.
        let letter = request.path().get(..3).unwrap_or("/");
        let value = request.header(name).unwrap_or("(absent)").replacen(letter, "/", 1);
        body.push_str(&format!("echo_header{{name=\"{name}\",value=\"{}\"}} 1\n", quote(&value)));
    }
    whole(&body)
}

/// Every `stride`-th sample, round and round: each comes once.
fn count(samples: usize, number: usize, stride: usize) -> Vec<u8> {
    let line = |place: usize| format!("counted{{sample=\"{}\"}} {number}\n", place * stride % samples);
    whole(&(0..samples).map(line).collect::<String>())
}

/// A number without a common factor with `samples`, another one for each number.
fn stride(samples: usize, number: usize) -> usize {
    let divides = |a: usize, b: usize| (2..=a).any(|d| a % d == 0 && b % d == 0);
    (7 + 13 * (number + 1)..).find(|&s| !divides(s, samples)).expect("there are primes enough")
}

fn whole(body: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body.as_bytes()].concat()
}
