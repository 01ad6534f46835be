//! Whom to trust, and whether the server is there at all.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::secret::authority;
use crate::VerifierError;

/// How long a connection may take to come about, TLS included.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// What a connection to this address trusts: the authorities of a file, or the system's.
///
/// # Errors
/// If there is no authority to trust.
pub(super) fn config(url: &Url, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, VerifierError> {
    let roots = match ca_file {
        // Without TLS nothing is trusted, and nothing need be read: redirects stay with the scheme.
        _ if url.scheme() != "https" => RootCertStore::empty(),
        Some(file) => file_roots(file).map_err(|error| setup(format!("{}: {error}", file.display())).at("ca_file"))?,
        None => system_roots().map_err(setup)?,
    };
    // Named here, since the process may have another provider installed, or none.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| setup(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn file_roots(file: &Path) -> Result<RootCertStore, String> {
    let pem = std::fs::read(file).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".into());
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry some that rustls does not read; what matters is that others remain.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let error = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "the system has no certificate authorities{error}; install its package ca-certificates, or name a ca_file"
        ));
    }
    Ok(roots)
}

/// Connects once, with TLS if the address says so, and hangs up.
///
/// # Errors
/// If nobody is there, or nobody to trust.
pub(super) async fn reach(url: &Url, config: &Arc<ClientConfig>) -> Result<(), VerifierError> {
    let server = authority(url);
    let absent = |error: &str| {
        let remedy = "start the server, correct the address, or set check_at_start = false";
        setup(format!("no connection to {server}: {error}; {remedy}")).at("url")
    };
    let connected = async {
        let tcp = TcpStream::connect(&server).await.map_err(|error| absent(&error.to_string()))?;
        if url.scheme() != "https" {
            return Ok(());
        }
        let distrust = |error: String| {
            let remedy = "if the certificate is right, name its authority in ca_file";
            setup(format!("no TLS with {server}: {error}; {remedy}")).at("url")
        };
        // A URL's IPv6 host stands in brackets.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| distrust(error.to_string()))?;
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
        handshake.map(drop).map_err(|error| distrust(error.to_string()))
    };
    let late = |_| Err(absent(&format!("nothing within {} s", CONNECT_DEADLINE.as_secs())));
    timeout(CONNECT_DEADLINE, connected).await.unwrap_or_else(late)
}

fn setup(error: String) -> VerifierError {
    VerifierError::Setup(error)
}
