//! `tls_config` made ready: files read, roots, client certificate, versions.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use md5::{Digest, Md5};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::verifier::{Checked, Unverified};
use super::{Fault, Session, roots};
use crate::base::limits::TLS_RESUMED_TARGETS_MAX;
use crate::config::{SecretSource, Tls, TlsVersion};

/// Tickets that rustls keeps of one server.
const TICKETS_PER_SERVER: usize = 8;

/// Settings that cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Unreadable(PathBuf, std::io::Error),
    /// Not what it should be: which key, and why.
    Unusable(&'static str, String),
    /// The system has no root certificates and the configuration names none.
    NoRoots(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, e) => write!(f, "tls_config: cannot read {}: {e}", path.display()),
            Self::Unusable(key, why) => write!(f, "tls_config: {key}: {why}"),
            Self::NoRoots(why) => {
                write!(
                    f,
                    "no root certificates on this system ({why}): install ca-certificates or set tls_config.ca_file"
                )
            }
        }
    }
}

impl std::error::Error for TlsError {}

/// What the settings point to, as it was read.
#[derive(Default)]
pub struct Material {
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material")
    }
}

impl Material {
    /// Reads the files now. Blocks.
    ///
    /// # Errors
    /// [`TlsError::Unreadable`].
    pub fn read(tls: &Tls) -> Result<Self, TlsError> {
        let pem = |source: &Option<SecretSource>| match source {
            None => Ok(None),
            Some(SecretSource::Inline(text)) => Ok(Some(text.reveal().as_bytes().to_vec())),
            Some(SecretSource::File(path)) => match std::fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) => Err(TlsError::Unreadable(path.clone(), e)),
            },
        };
        Ok(Self { ca: pem(&tls.ca)?, cert: pem(&tls.cert)?, key: pem(&tls.key)? })
    }

    /// Tells contents apart: when it changes, connections must be made anew.
    #[must_use]
    pub fn digest(&self) -> u128 {
        let mut all = Md5::new();
        for part in [&self.ca, &self.cert, &self.key].into_iter().flatten() {
            all.update(part.len().to_le_bytes());
            all.update(part);
        }
        u128::from_le_bytes(all.finalize().into())
    }
}

/// Whether the files that the settings name, if they name any, can be used as they are now.
///
/// # Errors
/// See [`TlsError`].
pub fn check(tls: &Tls) -> Result<(), TlsError> {
    if tls.ca.is_none() && tls.cert.is_none() && tls.key.is_none() {
        return Ok(());
    }
    client_config(tls, &Material::read(tls)?).map(drop)
}

/// What the sessions of a job share. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// For about so many targets: sessions of that many, within a limit, are remembered and resumed.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(tls: &Tls, material: &Material, targets: usize) -> Result<Self, TlsError> {
        let mut config = client_config(tls, material)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let sessions = targets.clamp(1, TLS_RESUMED_TARGETS_MAX) * TICKETS_PER_SERVER;
        config.resumption = Resumption::in_memory_sessions(sessions);
        Ok(Self { config: Arc::new(config), name: server_name(tls)? })
    }

    /// A session with a host: a name or an address, without port and brackets.
    ///
    /// # Errors
    /// [`Fault::BadName`], [`Fault::Host`].
    pub fn session(&self, host: &str) -> Result<Session, Fault> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|_| Fault::BadName)?,
        };
        Session::new(Arc::clone(&self.config), name)
    }
}

/// Builds the client configuration.
///
/// # Errors
/// See [`TlsError`].
pub fn client_config(tls: &Tls, material: &Material) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(tls))
        .map_err(|e| TlsError::Unusable("min_version", e.to_string()))?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        let (roots, trusted) = match &material.ca {
            Some(pem) => own_roots(pem)?,
            None => (roots::system().map_err(TlsError::NoRoots)?, Vec::new()),
        };
        let chains = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let chains = chains.map_err(|e| TlsError::Unusable("ca", e.to_string()))?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Checked { chains, trusted }))
    };
    let (Some(cert), Some(key)) = (&material.cert, &material.key) else { return Ok(builder.with_no_client_auth()) };
    let certs = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::Unusable("cert", e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| TlsError::Unusable("key", e.to_string()))?;
    builder.with_client_auth_cert(certs, key).map_err(|e| TlsError::Unusable("cert and key", e.to_string()))
}

/// For connections without TLS: trusts nobody.
///
/// # Errors
/// None in practice.
pub fn unused_config() -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Unusable("protocol", e.to_string()))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The name to verify and to send, when it is not the host of the URL.
///
/// # Errors
/// When it is neither a DNS name nor an address.
pub fn server_name(tls: &Tls) -> Result<Option<ServerName<'static>>, TlsError> {
    if tls.server_name.is_empty() {
        return Ok(None);
    }
    let name = ServerName::try_from(tls.server_name.clone());
    name.map(Some).map_err(|e| TlsError::Unusable("server_name", e.to_string()))
}

fn versions(tls: &Tls) -> Vec<&'static SupportedProtocolVersion> {
    let least = tls.min_version.unwrap_or(TlsVersion::Tls12);
    let most = tls.max_version.unwrap_or(TlsVersion::Tls13);
    let all = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
    all.into_iter().filter(|(v, _)| (least..=most).contains(v)).map(|(_, known)| known).collect()
}

/// The roots of `ca`, and its certificates as they are. Those that cannot be read are passed over while one can be.
/// go: crypto/x509, AppendCertsFromPEM.
fn own_roots(pem: &[u8]) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsError> {
    let mut roots = RootCertStore::empty();
    let mut trusted = Vec::new();
    let mut damage = None;
    for cert in CertificateDer::pem_slice_iter(pem) {
        let added = cert.map_err(|e| e.to_string()).and_then(|cert| {
            roots.add(cert.clone()).map_err(|e| e.to_string())?;
            trusted.push(cert);
            Ok(())
        });
        damage = damage.or(added.err());
    }
    if roots.is_empty() {
        return Err(TlsError::Unusable("ca", damage.unwrap_or_else(|| "no certificate in it".into())));
    }
    Ok((Arc::new(roots), trusted))
}
