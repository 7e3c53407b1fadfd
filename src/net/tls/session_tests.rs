//! Sessions against a rustls server in memory, the bytes cut at any place.

use std::io::{Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::UnixTime;
use rustls::{ServerConfig, ServerConnection};

use super::test_server::{BOTH, Clients, client, path, server, trusting};
use super::*;
use crate::config::{Secret, SecretSource, Tls, TlsVersion};
use crate::http::Flow;

/// Both ends of a connection.
struct Pair {
    session: Session,
    scratch: Scratch,
    server: ServerConnection,
    plain: Vec<u8>,
    /// Sizes of the pieces in which the client gets what the server sends, used in turn.
    cuts: Vec<usize>,
    turn: usize,
    /// What the client says to data.
    flow: Flow,
}

impl Pair {
    fn new(client: &Client, server: ServerConfig, cuts: Vec<usize>) -> Self {
        let session = client.session("localhost").unwrap();
        let server = ServerConnection::new(Arc::new(server)).unwrap();
        Self { session, scratch: Scratch::default(), server, plain: Vec::new(), cuts, turn: 0, flow: Flow::More }
    }

    /// What the client wants sent reaches the server.
    fn up(&mut self) {
        let out = std::mem::take(&mut self.scratch.out);
        let mut rest = &out[..];
        while !rest.is_empty() {
            self.server.read_tls(&mut rest).unwrap();
            let _ = self.server.process_new_packets();
        }
    }

    /// What the server wants sent.
    fn sent(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut all).unwrap();
        }
        all
    }

    /// Bytes reach the client in pieces.
    fn down(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let cut = self.cuts[self.turn % self.cuts.len()].clamp(1, rest.len());
            self.turn += 1;
            let mut piece = rest[..cut].to_vec();
            rest = &rest[cut..];
            let (plain, answer) = (&mut self.plain, self.flow);
            let flow = self.session.feed(&mut piece, &mut self.scratch, |bytes| {
                assert!(!bytes.is_empty());
                plain.extend_from_slice(bytes);
                answer
            })?;
            if flow == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    fn handshake(&mut self) -> Result<(), Fault> {
        self.session.hello(&mut self.scratch)?;
        for _ in 0..10 {
            self.up();
            let sent = self.sent();
            self.down(&sent)?;
            if self.session.is_established() && self.scratch.out.is_empty() {
                return Ok(());
            }
        }
        panic!("the handshake never ends");
    }

    /// The request goes out, the body comes back.
    fn exchange(&mut self, body: &[u8]) -> Result<(), Fault> {
        self.session.seal(b"GET / HTTP/1.1\r\n\r\n", &mut self.scratch)?;
        self.up();
        let mut request = [0; 100];
        assert_eq!(self.server.reader().read(&mut request).unwrap(), 18);
        self.plain.clear();
        for part in body.chunks(10_000) {
            self.server.writer().write_all(part).unwrap();
            let sent = self.sent();
            self.down(&sent)?;
        }
        assert!(self.plain == body, "the body arrives whole");
        Ok(())
    }
}

fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 % 251) as u8).collect()
}

fn version(tls12: bool) -> &'static [&'static rustls::SupportedProtocolVersion] {
    if tls12 { &BOTH[..1] } else { &BOTH[1..] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_cuts_any_records(
        cuts in prop::collection::vec(1usize..3000, 1..20),
        record in 64usize..17_000,
        bytes in 0usize..60_000,
        tls12 in any::<bool>(),
    ) {
        let mut config = server("good.pem", version(tls12), Clients::Anybody);
        config.max_fragment_size = Some(record.min(16_389));
        let mut pair = Pair::new(&client(&trusting()), config, cuts);
        pair.handshake().unwrap();
        pair.exchange(&body(bytes)).unwrap();
        pair.exchange(&body(100)).unwrap();
        prop_assert!(pair.session.is_quiet());
        pair.server.send_close_notify();
        let sent = pair.sent();
        pair.down(&sent).unwrap();
        prop_assert!(pair.session.is_closed() && !pair.session.is_quiet());
    }

    #[test]
    fn damage_is_never_taken_for_data(at in 0usize..6000, to in any::<u8>(), cut in 1usize..2000, tls12 in any::<bool>()) {
        damaged((at, to), cut, tls12, Flow::More);
        damaged((at, to), cut, tls12, Flow::Stop);
    }
}

/// Whatever is damaged on the way ends the session or leaves what arrived a prefix; it never panics, nor does what is said to
/// the peer in the end. `flow` is the answer to data.
fn damaged((at, to): (usize, u8), cut: usize, tls12: bool, flow: Flow) {
    let mut pair = Pair::new(&client(&trusting()), server("good.pem", version(tls12), Clients::Anybody), vec![cut]);
    pair.flow = flow;
    pair.session.hello(&mut pair.scratch).unwrap();
    let (mut seen, body) = (0, body(3000));
    let mut asked = false;
    for _ in 0..6 {
        pair.up();
        if asked {
            let _ = pair.server.writer().write_all(&body);
        }
        let mut sent = pair.sent();
        if let Some(byte) = at.checked_sub(seen).and_then(|at| sent.get_mut(at)) {
            *byte = to;
        }
        seen += sent.len();
        if pair.down(&sent).is_err() || (flow == Flow::Stop && !pair.plain.is_empty()) {
            break;
        }
        if pair.session.is_established() && !asked {
            asked = true;
            pair.session.seal(b"x", &mut pair.scratch).unwrap();
        }
    }
    assert!(body.repeat(6).starts_with(&pair.plain));
    pair.session.retire(Parting::Orderly, &mut Vec::new(), &mut pair.scratch);
}

/// A message of the handshake that is wrong and not complete: the machine wants the bytes that it has begun with, also to
/// say what was wrong.
#[test]
fn a_wrong_beginning_of_a_message() {
    for (at, to, cut) in [(6, 1, 1), (5, 1, 7), (5, 255, 100), (9, 0, 50), (132, 22, 3)] {
        for tls12 in [true, false] {
            damaged((at, to), cut, tls12, Flow::More);
        }
    }
}

#[test]
fn byte_by_byte() {
    for tls12 in [true, false] {
        let config = server("good.pem", version(tls12), Clients::Anybody);
        let mut pair = Pair::new(&client(&trusting()), config, vec![1]);
        pair.handshake().unwrap();
        pair.exchange(&body(5000)).unwrap();
        assert!(pair.session.is_quiet());
        // The buffer of the last partial record is free for others.
        assert_eq!(pair.scratch.spares(), 1);
    }
}

fn outcome(tls: &Tls, cert: &str, clients: Clients) -> Result<(), Fault> {
    let mut pair = Pair::new(&client(tls), server(cert, BOTH, clients), vec![100_000]);
    pair.handshake()?;
    pair.exchange(b"ok")
}

#[test]
fn certificates_are_judged_as_go_judges_them() {
    let trusts = |name: &str| Tls { ca: Some(SecretSource::File(path(name))), ..Tls::default() };
    let any = Tls { insecure_skip_verify: true, ..Tls::default() };
    let named = |name: &str| Tls { server_name: name.into(), ..trusting() };
    for (tls, cert, want) in [
        (trusting(), "good.pem", Ok(())),
        (trusting(), "wrong-name.pem", Err(Fault::WrongName)),
        (trusting(), "expired.pem", Err(Fault::Expired)),
        (trusting(), "not-yet.pem", Err(Fault::NotYetValid)),
        (trusting(), "self-signed.pem", Err(Fault::UnknownAuthority)),
        (trusting(), "client.pem", Err(Fault::WrongPurpose)),
        (trusts("self-signed.pem"), "self-signed.pem", Ok(())),
        (trusts("self-signed.pem"), "good.pem", Err(Fault::UnknownAuthority)),
        (named("other.test"), "wrong-name.pem", Ok(())),
        (named("other.test"), "good.pem", Err(Fault::WrongName)),
        (named("127.0.0.1"), "good.pem", Ok(())),
        (named("127.0.0.2"), "good.pem", Err(Fault::WrongName)),
        (
            Tls { server_name: "nobody.test".into(), ..trusts("self-signed.pem") },
            "self-signed.pem",
            Err(Fault::WrongName),
        ),
        (any.clone(), "good.pem", Ok(())),
        (any.clone(), "expired.pem", Ok(())),
        (any.clone(), "wrong-name.pem", Ok(())),
        (any, "self-signed.pem", Ok(())),
    ] {
        assert_eq!(outcome(&tls, cert, Clients::Anybody), want, "{cert} {tls:?}");
    }
}

#[test]
fn a_trusted_certificate_itself_is_held_against_the_time() {
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let cert = CertificateDer::from_pem_file(path("expired.pem")).unwrap();
    let tls = Tls { ca: Some(SecretSource::File(path("expired.pem"))), ..Tls::default() };
    assert_eq!(outcome(&tls, "expired.pem", Clients::Anybody), Err(Fault::Expired));
    let verdict = |year: u64| {
        let roots = Arc::new({
            let mut roots = rustls::RootCertStore::empty();
            roots.add(cert.clone()).unwrap();
            roots
        });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chains = rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
        let checked = verifier::Checked { chains, trusted: vec![cert.clone()] };
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs((year - 1970) * 31_557_600 + 1_000_000));
        let name = "localhost".try_into().unwrap();
        checked.verify_server_cert(&cert, &[], &name, &[], now).map(drop).map_err(|e| Fault::from_rustls(&e))
    };
    assert_eq!(verdict(2005), Err(Fault::NotYetValid));
    assert_eq!(verdict(2015), Ok(()));
    assert_eq!(verdict(2025), Err(Fault::Expired));
}

#[test]
fn client_certificates_and_versions() {
    let own = Tls {
        cert: Some(SecretSource::File(path("client.pem"))),
        key: Some(SecretSource::File(path("leaf-key.pem"))),
        ..trusting()
    };
    assert_eq!(outcome(&own, "good.pem", Clients::Ours), Ok(()));
    let mut refused = Pair::new(&client(&trusting()), server("good.pem", BOTH, Clients::Ours), vec![100_000]);
    // TLS 1.3 lets the client finish before it learns.
    let verdict = refused.handshake().and_then(|()| {
        refused.session.seal(b"GET", &mut refused.scratch)?;
        refused.up();
        let sent = refused.sent();
        refused.down(&sent)
    });
    assert_eq!(verdict, Err(Fault::Alert(116)));
    assert_eq!(Fault::Alert(116).to_string(), "remote error: tls: certificate required");
    let only = |least, most| Tls { min_version: least, max_version: most, ..trusting() };
    let meet = |tls: Tls, tls12: bool| {
        Pair::new(&client(&tls), server("good.pem", version(tls12), Clients::Anybody), vec![9]).handshake()
    };
    assert_eq!(meet(only(None, Some(TlsVersion::Tls12)), true), Ok(()));
    assert_eq!(meet(only(Some(TlsVersion::Tls13), None), false), Ok(()));
    let low = meet(only(Some(TlsVersion::Tls13), None), true).unwrap_err();
    assert!(matches!(low, Fault::Incompatible | Fault::Alert(70 | 40)), "{low:?}");
}

#[test]
fn what_is_not_tls_is_said_so() {
    let mut scratch = Scratch::default();
    for (bytes, want) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Fault::PlainHttp),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Fault::NotTls),
        (&[0; 64], Fault::NotTls),
        (&[22, 3, 3, 255, 255], Fault::TooLarge),
    ] {
        let mut session = client(&trusting()).session("localhost").unwrap();
        session.hello(&mut scratch).unwrap();
        let got = session.feed(&mut bytes.to_vec(), &mut scratch, |_| Flow::More);
        assert_eq!(got, Err(want));
    }
    assert_eq!(client(&trusting()).session("no name").map(drop), Err(Fault::BadName));
}

#[test]
fn sessions_are_resumed() {
    let client = client(&trusting());
    let config = Arc::new(server("good.pem", BOTH, Clients::Anybody));
    let kind = |client: &Client| {
        let mut pair = Pair::new(client, (*config).clone(), vec![100_000]);
        pair.server = ServerConnection::new(Arc::clone(&config)).unwrap();
        pair.handshake().unwrap();
        pair.exchange(b"ok").unwrap();
        pair.server.handshake_kind().unwrap()
    };
    assert_eq!(kind(&client), rustls::HandshakeKind::Full);
    assert_eq!(kind(&client), rustls::HandshakeKind::Resumed);
}

#[test]
fn material_is_told_apart_by_what_it_holds_and_never_printed() {
    let inline = |text: &str| Tls { key: Some(SecretSource::Inline(Secret::new(text))), ..trusting() };
    let digest = |tls: &Tls| Material::read(tls).unwrap().digest();
    assert_eq!(digest(&inline("a")), digest(&inline("a")));
    assert_ne!(digest(&inline("a")), digest(&inline("b")));
    assert!(!format!("{:?} {:?}", Material::read(&inline("hunter2")).unwrap(), inline("hunter2")).contains("hunter2"));
    let missing = Tls { ca: Some(SecretSource::File("/nowhere/ca.pem".into())), ..Tls::default() };
    assert!(Material::read(&missing).unwrap_err().to_string().contains("/nowhere/ca.pem"));
    let bad = Tls { ca: Some(SecretSource::Inline(Secret::new("x"))), ..Tls::default() };
    let why = Client::new(&bad, &Material::read(&bad).unwrap(), 1).unwrap_err().to_string();
    assert_eq!(why, "tls_config: ca: no certificate in it");
}
