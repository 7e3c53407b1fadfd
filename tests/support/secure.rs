//! The scripted targets over TLS: one listener per certificate, on rustls.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::answer::{Answer, Last};
use super::http::{self, Request};
use super::target::Script;

/// Names of listeners; each is the name of a certificate, but `client` is `good` for those who show a certificate.
pub const NAMES: [&str; 5] = ["good", "wrong-name", "expired", "self-signed", "client"];

/// Where the certificates lie.
pub fn certificates() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/tls/testdata").into()
}

/// Serves a script on a free loopback port.
pub fn listen(name: &str, script: Arc<dyn Script>) -> SocketAddr {
    let config = Arc::new(config(name));
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let addr = listener.local_addr().expect("a bound listener has an address");
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let (config, script) = (config.clone(), script.clone());
            thread::spawn(move || converse(config, script.as_ref(), stream));
        }
    });
    addr
}

fn config(name: &str) -> ServerConfig {
    let file = |name: &str| certificates().join(name);
    let cert = if name == "client" { "good" } else { name };
    let cert = CertificateDer::from_pem_file(file(&format!("{cert}.pem"))).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(file("leaf-key.pem")).expect("a key");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = if name == "client" {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file("ca.pem")).expect("a certificate")).expect("an authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.expect("roots"))
    } else {
        builder.with_no_client_auth()
    };
    builder.with_single_cert(vec![cert], key).expect("cert and key match")
}

/// One connection; any error simply ends it.
fn converse(config: Arc<ServerConfig>, script: &dyn Script, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(session) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(session, stream);
    while let Ok(Some(request)) = read_request(&mut stream) {
        let (number, answer) = script.next(request.path());
        if script.play(&answer, number, &request, &mut stream).is_err() || end(&answer, &mut stream) {
            return;
        }
    }
}

/// Whether the connection ends here, and how.
fn end(answer: &Answer, stream: &mut StreamOwned<ServerConnection, TcpStream>) -> bool {
    match answer.last {
        Last::Keep => return false,
        Last::Close => {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        Last::Cut => {}
        Last::CutInRecord => {
            let _ = stream.sock.write_all(&[23, 3, 3, 1, 0, 1, 2, 3]);
        }
        // Bytes that nobody reads make the close a reset; there are none here, so what is left is a plain end.
        Last::Reset => {}
    }
    true
}

fn read_request(stream: &mut impl Read) -> io::Result<Option<Request>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(http::parse(&head)))
}
