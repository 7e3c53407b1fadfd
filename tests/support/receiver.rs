//! A remote-write 1.0 receiver that keeps every sample by series, decoded by prost and snap.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use prost::Message;

use super::http;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

/// A series as remote write sends and remote read answers it.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// A label set in the order it was sent.
pub type Labels = Vec<(String, String)>;

/// One received sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub time_ms: i64,
    pub bits: u64,
}

/// Everything received so far: samples by series in the order of arrival.
pub type Log = BTreeMap<Labels, Vec<Point>>;

/// A running receiver.
pub struct Receiver {
    pub addr: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    log: Mutex<Log>,
    faults: Mutex<Vec<String>>,
    requests: AtomicU64,
    failing: AtomicBool,
    /// Nobody listens, and conversations have ended.
    gone: AtomicBool,
}

impl Receiver {
    /// Starts receiving on a free loopback port; the write path is any.
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let inner = Arc::new(Inner::default());
        listen(&inner, listener);
        Receiver { addr, inner }
    }

    /// Closes the port and every connection, as a process that died; requests not yet taken are forgotten.
    pub fn die(&self) {
        self.inner.gone.store(true, Ordering::SeqCst);
        // The listening thread is in accept; it looks when something comes.
        let _ = TcpStream::connect(self.addr);
        while TcpStream::connect(self.addr).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Listens again at the same address, after [`Receiver::die`].
    pub fn come_back(&self) {
        self.inner.gone.store(false, Ordering::SeqCst);
        listen(&self.inner, TcpListener::bind(self.addr).expect("the port is still ours"));
    }

    /// A look at what has come so far.
    pub fn with_log<T>(&self, look: impl FnOnce(&Log) -> T) -> T {
        look(&self.inner.log.lock().expect("no holder panics"))
    }

    /// What was wrong with requests: not snappy, not protobuf, unsorted or repeated labels.
    pub fn faults(&self) -> Vec<String> {
        self.inner.faults.lock().expect("no holder panics").clone()
    }

    /// Requests taken.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// From now on every request is answered 503 (`true`) or taken (`false`).
    pub fn fail(&self, failing: bool) {
        self.inner.failing.store(failing, Ordering::Relaxed);
    }
}

fn listen(inner: &Arc<Inner>, listener: TcpListener) {
    let inner = inner.clone();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if inner.gone.load(Ordering::SeqCst) {
                return;
            }
            let inner = inner.clone();
            thread::spawn(move || converse(&inner, stream));
        }
    });
}

fn converse(inner: &Inner, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    while let Ok(Some(request)) = http::peek_request(&stream) {
        let length = request.header("content-length").and_then(|v| v.parse::<usize>().ok()).unwrap_or(0);
        if http::consume(&mut stream, request.head_bytes).is_err() {
            return;
        }
        let Ok(body) = http::consume(&mut stream, length) else { return };
        if inner.gone.load(Ordering::SeqCst) {
            return;
        }
        let status = if inner.failing.load(Ordering::Relaxed) {
            "503 Service Unavailable"
        } else {
            inner.take(&body);
            "204 No Content"
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl Inner {
    fn take(&self, body: &[u8]) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let decoded = snap::raw::Decoder::new()
            .decompress_vec(body)
            .map_err(|e| format!("not snappy: {e}"))
            .and_then(|raw| WriteRequest::decode(&raw[..]).map_err(|e| format!("not a WriteRequest: {e}")));
        let request = match decoded {
            Ok(request) => request,
            Err(fault) => return self.fault(fault),
        };
        let mut log = self.log.lock().expect("no holder panics");
        for series in request.timeseries {
            let labels: Labels = series.labels.into_iter().map(|l| (l.name, l.value)).collect();
            if labels.windows(2).any(|w| w[0].0 >= w[1].0) {
                self.fault(format!("labels unsorted or repeated: {labels:?}"));
            }
            let points = series.samples.iter().map(|s| Point { time_ms: s.timestamp, bits: s.value.to_bits() });
            log.entry(labels).or_default().extend(points);
        }
    }

    fn fault(&self, fault: String) {
        self.faults.lock().expect("no holder panics").push(fault);
    }
}
