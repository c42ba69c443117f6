//! Whether the server's certificate is one to trust, as libpq's `sslmode` has it.
//!
//! As there, the common name counts only in certificates without any alternative name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{ServerTls, SslMode, TlsError, der, files};

/// Checks certificates of servers.
#[derive(Debug)]
pub(super) struct ServerCheck {
    provider: Arc<CryptoProvider>,
    /// None: whatever the server shows is taken.
    roots: Option<Roots>,
    checks_name: bool,
}

#[derive(Debug)]
struct Roots {
    anchors: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCheck {
    pub fn new(settings: &ServerTls, provider: Arc<CryptoProvider>) -> Result<ServerCheck, TlsError> {
        let checks = match settings.mode {
            SslMode::Disable | SslMode::Allow | SslMode::Prefer => false,
            // As in libpq: with a root `require` is `verify-ca`.
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => true,
        };
        let roots = match &settings.root_certificate {
            Some(path) if checks => {
                let (anchors, certificates) = files::roots(path)?;
                Some(Roots { anchors, certificates })
            }
            _ => None,
        };
        Ok(ServerCheck { provider, roots, checks_name: settings.mode == SslMode::VerifyFull })
    }
}

impl Roots {
    fn check(
        &self,
        parsed: &ParsedCertificate<'_>,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error> {
        let algorithms = provider.signature_verification_algorithms.all;
        let checked = verify_server_cert_signed_by_trust_anchor(parsed, &self.anchors, intermediates, now, algorithms);
        match checked {
            // PostgreSQL's documentation makes certificates that sign themselves: root and server in one. A chain is not
            // made of these, but one that is in the file to the last byte is trusted, unless its time is over.
            Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer))
                if self.certificates.iter().any(|certificate| certificate == shown) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

fn check_name(
    parsed: &ParsedCertificate<'_>,
    shown: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
) -> Result<(), Error> {
    let error = match verify_server_name(parsed, server_name) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) = &error else {
        return Err(error);
    };
    let common_name = der::common_name(shown).filter(|_| presented.is_empty());
    match common_name {
        Some(name) if der::names_host(name, &server_name.to_str()) => Ok(()),
        _ => Err(error),
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            roots.check(&parsed, end_entity, intermediates, now, &self.provider)?;
            if self.checks_name {
                check_name(&parsed, end_entity, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
