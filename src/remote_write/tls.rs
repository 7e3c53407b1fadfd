//! TLS settings of a destination: roots, client certificate, and what to do without verification.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::{SecretSource, Tls};

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

/// Identity of the files behind the settings: when it changes, connections must be made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Vec<Option<(SystemTime, u64)>>);

impl Stamp {
    /// Looks at the files now. A missing file is a stamp too.
    #[must_use]
    pub fn of(tls: &Tls) -> Self {
        let look = |source: &SecretSource| match source {
            SecretSource::Inline(_) => None,
            SecretSource::File(path) => std::fs::metadata(path).ok().and_then(|m| Some((m.modified().ok()?, m.len()))),
        };
        Self([&tls.ca, &tls.cert, &tls.key].into_iter().flatten().map(look).collect())
    }
}

/// Builds the client configuration.
///
/// # Errors
/// See [`TlsError`].
pub fn client_config(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Unusable("protocol", e.to_string()))?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        builder.with_root_certificates(roots(tls)?)
    };
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else { return Ok(builder.with_no_client_auth()) };
    let certs = CertificateDer::pem_slice_iter(&pem(cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::Unusable("cert", e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|e| TlsError::Unusable("key", e.to_string()))?;
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

/// Those of the configuration, else the system's.
fn roots(tls: &Tls) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(source) => {
            for cert in CertificateDer::pem_slice_iter(&pem(source)?) {
                let cert = cert.map_err(|e| TlsError::Unusable("ca", e.to_string()))?;
                roots.add(cert).map_err(|e| TlsError::Unusable("ca", e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(TlsError::Unusable("ca", "no certificate in it".into()));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map_or_else(|| "none found".into(), ToString::to_string);
                return Err(TlsError::NoRoots(why));
            }
        }
    }
    Ok(roots)
}

fn pem(source: &SecretSource) -> Result<Vec<u8>, TlsError> {
    match source {
        SecretSource::Inline(text) => Ok(text.reveal().as_bytes().to_vec()),
        SecretSource::File(path) => std::fs::read(path).map_err(|e| TlsError::Unreadable(path.clone(), e)),
    }
}

/// `insecure_skip_verify`: any certificate will do; signatures of the handshake are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
