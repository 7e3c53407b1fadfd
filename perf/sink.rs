//! A remote-write receiver that accepts and counts, so that the receiver's cost is the same for every scraper.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What arrived, and what is answered.
#[derive(Default)]
pub struct Sink {
    /// Loopback port.
    pub port: u16,
    /// Answers 503 and counts nothing while set.
    is_down: AtomicBool,
    bytes: AtomicU64,
}

impl Sink {
    /// Listens on a free loopback port; serves until the process ends.
    pub fn spawn() -> std::io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let sink = Arc::new(Self { port: listener.local_addr()?.port(), ..Self::default() });
        let shared = Arc::clone(&sink);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sink = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, &sink)));
            }
        });
        Ok(sink)
    }

    /// Compressed bytes accepted so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Refuses from now on.
    pub fn refuse(&self) {
        self.is_down.store(true, Ordering::Relaxed);
    }

    /// Accepts from now on.
    pub fn accept(&self) {
        self.is_down.store(false, Ordering::Relaxed);
    }
}

fn serve(stream: TcpStream, sink: &Sink) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let mut body = Vec::new();
    loop {
        let mut length = 0usize;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        if sink.is_down.load(Ordering::Relaxed) {
            writer.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        sink.bytes.fetch_add(length as u64, Ordering::Relaxed);
        writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}
