//! A receiver that answers from a script, for tests: one thread per connection, plain HTTP/1.1 with keep-alive.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::test_wire::{Flat, samples};

/// What arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Instant,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub samples: Vec<Flat>,
    /// Status that was answered; 0 without an answer.
    pub code: u16,
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    /// Status, header lines, body.
    Full(u16, Vec<(String, String)>, String),
    /// Close without an answer.
    Reset,
    /// Answer 204 after a while.
    Slow(Duration),
}

type Script = Box<dyn FnMut(&Arrival) -> Reply + Send>;

pub struct Receiver {
    pub address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

impl Receiver {
    pub fn start(script: impl FnMut(&Arrival) -> Reply + Send + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port"), script)
    }

    pub fn on(listener: TcpListener, script: impl FnMut(&Arrival) -> Reply + Send + 'static) -> Self {
        Self::with(listener, |stream| stream, script)
    }

    /// The same behind TLS, with the certificate of `receiver.test`.
    pub fn tls(script: impl FnMut(&Arrival) -> Reply + Send + 'static) -> Self {
        let cert =
            CertificateDer::from_pem_slice(include_bytes!("../net/tls/testdata/receiver.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../net/tls/testdata/receiver-key.pem")).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![cert], key);
        let config = Arc::new(config.expect("cert and key match"));
        let wrap =
            move |stream| StreamOwned::new(ServerConnection::new(Arc::clone(&config)).expect("a session"), stream);
        Self::with(TcpListener::bind("127.0.0.1:0").expect("a port"), wrap, script)
    }

    fn with<T: Read + Write + Send + 'static>(
        listener: TcpListener,
        wrap: impl Fn(TcpStream) -> T + Send + 'static,
        script: impl FnMut(&Arrival) -> Reply + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let theirs = Arc::clone(&arrivals);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (arrivals, script) = (Arc::clone(&theirs), Arc::clone(&script));
                let stream = wrap(stream.expect("a connection"));
                std::thread::spawn(move || serve(stream, &arrivals, &script));
            }
        });
        Self { address, arrivals }
    }

    pub fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().expect("no panic").clone()
    }

    /// Samples of all requests that were answered with 2xx, in order.
    pub fn stored(&self) -> Vec<Flat> {
        self.arrivals().into_iter().filter(|a| a.code / 100 == 2).flat_map(|a| a.samples).collect()
    }
}

fn serve(mut stream: impl Read + Write, arrivals: &Mutex<Vec<Arrival>>, script: &Mutex<Script>) {
    let mut buffer = Vec::new();
    while let Some((mut arrival, used)) = next_request(&mut stream, &mut buffer) {
        buffer.drain(..used);
        // The record is complete before the answer leaves, so that a sender's next step cannot overtake it.
        let reply = {
            let mut script = script.lock().expect("no panic");
            let reply = script(&arrival);
            arrival.code = match &reply {
                Reply::Status(code) | Reply::Full(code, ..) => *code,
                Reply::Reset => 0,
                Reply::Slow(_) => 204,
            };
            arrivals.lock().expect("no panic").push(arrival);
            reply
        };
        let (code, headers, body) = match reply {
            Reply::Status(code) => (code, Vec::new(), String::new()),
            Reply::Full(code, headers, body) => (code, headers, body),
            Reply::Reset => return,
            Reply::Slow(wait) => {
                std::thread::sleep(wait);
                (204, Vec::new(), String::new())
            }
        };
        let mut head = format!("HTTP/1.1 {code} X\r\n");
        if code != 204 {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if stream.write_all(format!("{head}\r\n{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn next_request(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Option<(Arrival, usize)> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(head_bytes) = head.parse(buffer).expect("a valid head") {
            assert_eq!(head.method, Some("POST"));
            let path = head.path.expect("a path").to_owned();
            let text = |v: &[u8]| String::from_utf8(v.to_vec()).expect("text");
            let headers: BTreeMap<_, _> =
                head.headers.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect();
            let length: usize = headers["content-length"].parse().expect("a length");
            if buffer.len() >= head_bytes + length {
                let samples = samples(&buffer[head_bytes..head_bytes + length]);
                let arrival = Arrival { at: Instant::now(), path, headers, samples, code: 0 };
                return Some((arrival, head_bytes + length));
            }
        }
        let mut chunk = [0; 16384];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
        }
    }
}
