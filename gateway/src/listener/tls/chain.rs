//! Whether each certificate of a chain was issued by the one that follows it.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::provider;

/// TLS 1.2 demands this order (RFC 5246 section 7.4.2), and a certificate that is no part of the chain is
/// mostly one of the renewal before.
///
/// # Errors
/// In words, with the positions counted from 1.
pub(super) fn check_order(chain: &[CertificateDer<'_>]) -> Result<(), String> {
    let mut parsed = Vec::with_capacity(chain.len());
    for (at, der) in chain.iter().enumerate() {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| format!("certificate {} of the chain cannot be parsed: {error}", at + 1))?;
        parsed.push(certificate);
    }
    for (at, pair) in parsed.windows(2).enumerate() {
        issued(&pair[0], &pair[1], &chain[at + 1]).map_err(|why| {
            let (this, next) = (at + 1, at + 2);
            format!(
                "certificate {this} of the chain was not issued by certificate {next}: {why}; \
                 write the leaf first, then each one's issuer"
            )
        })?;
    }
    Ok(())
}

fn issued(
    child: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    issuer_der: &CertificateDer<'_>,
) -> Result<(), String> {
    if child.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(format!("its issuer is \"{}\", not \"{}\"", child.issuer(), issuer.subject()));
    }
    if signature_fits(child, issuer_der) == Some(false) {
        return Err("the signature is of another key".to_owned());
    }
    Ok(())
}

/// `None` where we cannot tell: an algorithm that we do not verify. Names have to do then.
fn signature_fits(child: &X509Certificate<'_>, issuer: &CertificateDer<'_>) -> Option<bool> {
    let issuer = webpki::EndEntityCert::try_from(issuer).ok()?;
    let provider = provider();
    let given = child.signature_algorithm.algorithm.as_bytes();
    let is_given = |id: &[u8]| matches!(id, [0x06, length, rest @ ..] if usize::from(*length) == given.len() && rest.starts_with(given));
    let candidates = provider.signature_verification_algorithms.all.iter();
    let mut results = candidates
        .filter(|algorithm| is_given(algorithm.signature_alg_id().as_ref()))
        .filter_map(|algorithm| {
            let (message, signature) = (child.tbs_certificate.as_ref(), &child.signature_value.data);
            match issuer.verify_signature(*algorithm, message, signature) {
                Ok(()) => Some(true),
                Err(webpki::Error::InvalidSignatureForPublicKey) => Some(false),
                // Meant for another kind of key.
                Err(_) => None,
            }
        });
    results.try_fold(None, |_, fits| if fits { Err(true) } else { Ok(Some(false)) }).unwrap_or_else(Some)
}
