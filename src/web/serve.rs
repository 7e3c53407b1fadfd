//! Listening sockets and connections: how many, how long they may idle, how they end.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};

use super::Web;

/// Answers under way when the server stops get this long to be read.
const GOODBYE: Duration = Duration::from_secs(2);
/// After a failed accept (no descriptors left), wait this long instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bound sockets, not yet served: binding fails early and with a remedy, before anything else starts.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
}

/// An address that could not be bound.
#[derive(Debug)]
pub struct BindError {
    address: String,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        write!(f, "cannot listen on {address}: {source}; ")?;
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                let port = address.rsplit(':').next().unwrap_or_default();
                write!(f, "see who has it with `ss -ltnp sport = :{port}`, or choose another --web.listen-address")
            }
            io::ErrorKind::PermissionDenied => {
                f.write_str("ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one with --web.listen-address")
            }
            io::ErrorKind::AddrNotAvailable => {
                f.write_str("this host has no such address; see `ip addr`, or use :PORT for all addresses")
            }
            _ => f.write_str("write --web.listen-address as host:port, for example 127.0.0.1:9099"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Server {
    /// Binds every address; an empty host means all addresses of both families where the host has both.
    ///
    /// # Errors
    /// The first address that fails.
    pub fn bind(addresses: &[String]) -> Result<Self, BindError> {
        let listeners = addresses.iter().map(|a| bind_one(a)).collect::<Result<_, _>>()?;
        Ok(Self { listeners })
    }

    /// The addresses as bound; port 0 has become a number.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|l| l.local_addr().ok()).collect()
    }

    /// Serves until `stop` ends, then lets answers under way finish for a moment. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// When the runtime refuses a listening socket.
    pub async fn run(self, web: Arc<Web>, stop: impl Future<Output = ()>) -> io::Result<()> {
        let (stopping, stopped) = watch::channel(());
        let shared = Arc::new(Shared {
            router: web.router(),
            connections: Arc::new(Semaphore::new(web.settings.connections_max)),
            read_timeout: web.settings.read_timeout,
            stopped,
        });
        let mut accepting = tokio::task::JoinSet::new();
        for listener in self.listeners {
            listener.set_nonblocking(true)?;
            accepting.spawn(accept(tokio::net::TcpListener::from_std(listener)?, Arc::clone(&shared)));
        }
        stop.await;
        // Dropping the sender tells every connection; each holds a permit until it is gone.
        accepting.shutdown().await;
        drop(stopping);
        let all = u32::try_from(web.settings.connections_max).unwrap_or(u32::MAX);
        let _ = timeout(GOODBYE, shared.connections.acquire_many(all)).await;
        Ok(())
    }
}

fn bind_one(address: &str) -> Result<TcpListener, BindError> {
    let bound = match address.strip_prefix(':') {
        Some(port) => TcpListener::bind(format!("[::]:{port}")).or_else(|e| match e.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(e),
            _ => TcpListener::bind(format!("0.0.0.0:{port}")),
        }),
        None => TcpListener::bind(address),
    };
    bound.map_err(|source| BindError { address: address.to_owned(), source })
}

struct Shared {
    router: axum::Router,
    connections: Arc<Semaphore>,
    read_timeout: Duration,
    stopped: watch::Receiver<()>,
}

/// Takes one connection beyond the limit and holds it; the rest wait in the kernel's queue.
async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!(error = %e, "web: cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&shared.connections).acquire_owned().await else { return };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            serve(stream, &shared).await;
            drop(permit);
        });
    }
}

/// One connection until it ends. Its errors are the client's and nobody's business.
async fn serve(stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Impatient { stream, patience: shared.read_timeout, stalled: None });
    let service = TowerToHyperService::new(shared.router.clone());
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.read_timeout)
            .max_buf_size(64 << 10)
            .serve_connection(io, service)
    );
    let mut stopped = shared.stopped.clone();
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(GOODBYE, connection).await;
        }
    }
}

/// A stream whose peer must go on reading: a write that makes no progress for `patience` is an error.
struct Impatient {
    stream: TcpStream,
    patience: Duration,
    /// Set exactly while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn judge<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
