//! The other side, for tests: rustls servers with certificates that last.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use super::{Client, Material};
use crate::config::{SecretSource, Tls};

pub static BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

/// A file of `testdata`.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/tls/testdata")).join(name)
}

/// A server with this certificate of `testdata`; with `clients` it wants a certificate of its authority.
pub fn server(cert: &str, versions: &[&'static SupportedProtocolVersion], clients: Clients) -> ServerConfig {
    let cert = CertificateDer::from_pem_file(path(cert)).unwrap();
    let key = PrivateKeyDer::from_pem_file(path("leaf-key.pem")).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        Clients::Anybody => builder.with_no_client_auth(),
        Clients::Ours => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(path("ca.pem")).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder.with_single_cert(vec![cert], key).unwrap()
}

/// Whom a server lets in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    Anybody,
    /// With a certificate of our authority.
    Ours,
}

/// `tls_config` with the test authority as `ca_file`.
pub fn trusting() -> Tls {
    Tls { ca: Some(SecretSource::File(path("ca.pem"))), ..Tls::default() }
}

pub fn client(tls: &Tls) -> Client {
    Client::new(tls, &Material::read(tls).unwrap(), 10).unwrap()
}

/// Accepts connections over TLS, each with its number for `script`, on its own thread.
pub fn serve(
    config: ServerConfig,
    script: impl Fn(&mut StreamOwned<ServerConnection, TcpStream>, usize) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (config, script) = (Arc::new(config), Arc::new(script));
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let (config, script, stream) = (Arc::clone(&config), Arc::clone(&script), stream.unwrap());
            std::thread::spawn(move || {
                // As real servers do; else an answer waits for the acknowledgement of the tickets before it.
                stream.set_nodelay(true).unwrap();
                let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                script(&mut stream, n);
            });
        }
    });
    addr
}

/// Reads one request; false at the end of the stream.
pub fn request(stream: &mut impl Read) -> bool {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Says goodbye over TLS.
pub fn farewell(stream: &mut StreamOwned<ServerConnection, TcpStream>) {
    stream.conn.send_close_notify();
    let _ = stream.flush();
}
