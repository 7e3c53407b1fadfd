//! The system's root certificates, read once for the whole process.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;

/// Parsing takes milliseconds and about a megabyte, so all jobs and destinations share them; Go does the same.
static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();

/// The system's roots.
///
/// # Errors
/// Why there are none; the next call looks again.
pub(super) fn system() -> Result<Arc<RootCertStore>, String> {
    if let Some(roots) = SYSTEM.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(found.errors.first().map_or_else(|| "none found".into(), ToString::to_string));
    }
    Ok(Arc::clone(SYSTEM.get_or_init(|| Arc::new(roots))))
}
