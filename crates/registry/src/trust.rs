//! Whom we believe: the system's certificates, those that the user adds, and Mozilla's where the system has none (an
//! image made of one binary).

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use skycap_image::{Kind, SourceError};

use crate::ClientCertificate;

/// Whose certificates are believed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Trust {
    /// Those that a trusted authority signed.
    Certificates,
    /// Everybody's.
    Anybody,
}

/// The certificates that every connection starts from. Reading them takes milliseconds, so a process does it once, however
/// many clients it has.
pub(crate) fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots
    })
}

/// Reads a list of PEM texts; each must hold at least one certificate.
pub(crate) fn certificates(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let mut found = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let broken = |why: String| {
            let what = format!("failed to append registry certificate: ca_certs entry {}: {why}", at + 1);
            SourceError::new(Kind::Other, what)
        };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| broken(format!("not a PEM certificate: {error}")))?;
        if certificates.is_empty() {
            return Err(broken("no PEM certificate in it (expected -----BEGIN CERTIFICATE-----)".to_owned()));
        }
        found.extend(certificates);
    }
    Ok(found)
}

/// Whether each of these texts holds certificates in PEM.
pub fn check_certificates(texts: &[String]) -> Result<(), SourceError> {
    client_config(RootCertStore::empty(), texts, None, Trust::Certificates).map(drop)
}

/// What TLS needs for one set of trusted certificates.
pub(crate) fn client_config(
    mut roots: RootCertStore,
    extra: &[String],
    identity: Option<&ClientCertificate>,
    trust: Trust,
) -> Result<ClientConfig, SourceError> {
    for (at, certificate) in certificates(extra)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            let what = format!("failed to append registry certificate: certificate {} is not usable", at + 1);
            SourceError::caused(Kind::Other, what, error)
        })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SourceError::caused(Kind::Other, "cannot set up TLS", error))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = own_certificate(&identity.certificate, identity.key.reveal(), "client certificate")?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| SourceError::caused(Kind::Other, "the client certificate is not usable", error))?
        }
    };
    if trust == Trust::Anybody {
        let algorithms = config.crypto_provider().signature_verification_algorithms;
        config.dangerous().set_certificate_verifier(Arc::new(Believer { algorithms }));
    }
    Ok(config)
}

/// Takes any certificate; only that the other side holds its key is checked.
#[derive(Debug)]
struct Believer {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Reads a chain and its private key from PEM.
pub(crate) fn own_certificate(
    certificate: &str,
    key: &str,
    what: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SourceError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| SourceError::new(Kind::Other, format!("the {what} is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(SourceError::new(Kind::Other, format!("the {what} holds no certificate")));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| SourceError::new(Kind::Other, format!("the key of the {what} is not PEM: {error}")))?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_certificate_is_named() {
        for (text, expected) in [
            ("nonsense", "ca_certs entry 2: no PEM certificate in it"),
            (
                "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
                "ca_certs entry 2: not a PEM certificate",
            ),
        ] {
            let good = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n".to_owned();
            let error = certificates(&[good, text.to_owned()]).unwrap_err().to_string();
            assert!(error.starts_with("failed to append registry certificate") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn without_a_system_store_there_are_still_roots() {
        assert!(!system_roots().is_empty());
    }
}
