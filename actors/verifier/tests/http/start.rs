//! What is found out before the first question; and TLS.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use counterpoint_verifier::{Home, HttpOptions, Judge, TruncatedPolicy, Verdict, Verifier, VoidReason};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::server::{Act, Server};
use crate::*;

/// A certificate authority of our own, its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A server that finds everything right, with a certificate for this name.
    async fn server(&self, name: &str) -> Server {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Server::start_tls(TlsAcceptor::from(Arc::new(config)), |_, request| Act::all_right(request)).await
    }
}

fn secure(server: &Server, authority: Option<&Authority>) -> HttpOptions {
    let url = format!("https://{}/judge", server.address);
    HttpOptions { ca_file: authority.map(Authority::file), check_at_start: true, ..options(url) }
}

/// The error of a start under a judge, as the user sees it.
async fn refused(options: HttpOptions) -> String {
    let judge = Judge::new("graders", verifier(options), TruncatedPolicy::Judge);
    let error = judge.start(&Home::default()).await.unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[tokio::test]
async fn a_server_with_a_certificate_of_the_given_authority_is_trusted() {
    let authority = Authority::new("ours");
    let server = authority.server("127.0.0.1").await;
    let verifier = verifier(secure(&server, Some(&authority)));
    verifier.start(&Home::default()).await.unwrap();
    assert_eq!(ask(&verifier, LONG).await, [Verdict::Correct, Verdict::Correct]);
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_for_another_name_is_refused_at_the_start_and_in_judging() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let strange = other.server("127.0.0.1").await;
    let misnamed = authority.server("graders.example").await;
    for (server, why) in [(strange, "UnknownIssuer"), (misnamed, "not valid for name \"127.0.0.1\"")] {
        let error = refused(secure(&server, Some(&authority))).await;
        let begin = format!("verifier `graders`: url: no TLS with {}: invalid peer certificate", server.address);
        assert!(error.starts_with(&begin) && error.contains(why), "{error}");
        assert!(error.ends_with("name its authority in ca_file"), "{error}");
        let (verdict, _) = both(secure(&server, Some(&authority)), LONG).await;
        let Verdict::Void(VoidReason::Verifier(reason)) = verdict else { panic!("{verdict:?}") };
        assert!(reason.starts_with("TLS: ") && reason.contains(why), "{reason}");
        assert_eq!((server.connections(), server.seen()), (2, 0), "no request, and no second attempt");
    }
}

#[tokio::test]
async fn a_server_without_tls_behind_an_https_address_is_a_tls_error() {
    let (authority, server) = (Authority::new("ours"), Server::start(|_, _| Act::status("400 Bad Request")).await);
    // It waits for the end of a request's head, which the client's hello does not have; the test's server reads on.
    let options = HttpOptions { deadline_seconds: Some(0.2), ..secure(&server, Some(&authority)) };
    let (verdict, _) = both(options, LONG).await;
    assert_eq!((verdict, server.seen()), (TIMEOUT, 0));
    let answers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = answers.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = answers.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let options = HttpOptions { url: format!("https://{address}/").into(), ..secure(&server, Some(&authority)) };
    let error = refused(options).await;
    assert!(error.contains(&format!("url: no TLS with {address}: ")), "{error}");
}

/// Runs one test of this program again, in a process with another environment.
pub(crate) fn again(test: &str, environment: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).envs(environment.iter().copied());
    command.output().unwrap()
}

#[tokio::test]
async fn without_a_file_the_systems_authorities_are_trusted() {
    const NAME: &str = "start::without_a_file_the_systems_authorities_are_trusted";
    if std::env::var_os("COUNTERPOINT_TEST_SYSTEM_ROOTS").is_none() {
        let authority = Authority::new("ours");
        // On Linux the system's authorities are where this variable says, if it is set.
        let server = authority.server("127.0.0.1").await;
        let url = format!("https://{}/judge", server.address);
        let file = authority.file();
        let environment = [("SSL_CERT_FILE", file.to_str().unwrap()), ("COUNTERPOINT_TEST_SYSTEM_ROOTS", &url)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let child = tokio::task::spawn_blocking(move || {
            let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            again(NAME, &environment)
        });
        let output = child.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(server.seen(), 1);
        return;
    }
    let url = std::env::var("COUNTERPOINT_TEST_SYSTEM_ROOTS").unwrap();
    let verifier = verifier(HttpOptions { check_at_start: true, ..options(url) });
    verifier.start(&Home::default()).await.unwrap();
    assert_eq!(ask(&verifier, LONG).await, [Verdict::Correct, Verdict::Correct]);
}

#[tokio::test]
async fn a_file_without_certificates_is_named() {
    let authority = Authority::new("ours");
    let server = authority.server("127.0.0.1").await;
    let missing = authority.directory.path().join("missing.pem");
    let error = refused(HttpOptions { ca_file: Some(missing.clone()), ..secure(&server, None) }).await;
    assert!(error.starts_with(&format!("verifier `graders`: ca_file: {}: No such file", missing.display())), "{error}");
    let empty = authority.directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let error = refused(HttpOptions { ca_file: Some(empty), ..secure(&server, None) }).await;
    assert!(error.ends_with("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"), "{error}");
}

#[tokio::test]
async fn a_start_without_a_server_says_where_it_looked_and_can_be_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let options = HttpOptions { check_at_start: true, ..options(format!("http://user:pw@{address}/judge?key=pw")) };
    let refused = refused(options.clone()).await;
    let begin = format!("verifier `graders`: url: no connection to {address}: Connection refused");
    assert!(refused.starts_with(&begin), "{refused}");
    assert!(refused.ends_with("start the server, correct the address, or set check_at_start = false"), "{refused}");
    assert!(!refused.contains("pw"), "{refused}");
    let verifier = verifier(options.clone());
    for _ in 0..2 {
        assert!(verifier.start(&Home::default()).await.is_err(), "a failed start is not remembered as a good one");
    }
    let unchecked = crate::verifier(HttpOptions { check_at_start: false, ..options });
    unchecked.start(&Home::default()).await.unwrap();
}

#[tokio::test]
async fn a_variable_that_is_not_set_is_named_with_its_header() {
    let headers = [("Authorization".to_owned(), "Bearer ${COUNTERPOINT_TEST_NO_SUCH_TOKEN}".into())].into();
    let options = HttpOptions { headers, ..options("http://127.0.0.1:1/") };
    let error = refused(options.clone()).await;
    let why = "the environment variable COUNTERPOINT_TEST_NO_SUCH_TOKEN is not set (or is not UTF-8)";
    assert_eq!(error, format!("verifier `graders`: headers.Authorization: {why}"));
    // A judgement that was never started does not panic either.
    assert_eq!(both(options, LONG).await.0, UNAVAILABLE);
}
