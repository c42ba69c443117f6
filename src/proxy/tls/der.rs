//! The two things of a certificate that neither rustls nor webpki tells: its common name, and what its hash is made with.
//!
//! Total: whatever the bytes are, the answer is a value or nothing.

use ring::digest;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// The version of a certificate, which may be absent.
const VERSION: u8 = 0xa0;

/// `id-at-commonName`.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// `pkcs-1` without its last number, which names the algorithm.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
/// `ecdsa-with-SHA2` without its last number.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3];

/// The contents of the element at the beginning, and what is behind it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => rest.split_first_chunk::<1>().map(|(&[length], rest)| (usize::from(length), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        // Nothing in a certificate that we read is longer.
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// What is behind the element at the beginning, whatever it is.
fn after(bytes: &[u8]) -> Option<&[u8]> {
    element(*bytes.first()?, bytes).map(|(_, rest)| rest)
}

/// The certificate's own hash, as channel binding `tls-server-end-point` has it (RFC 5929): by the algorithm that it is
/// signed with, and SHA-256 for those that are weaker. None for algorithms for which nobody has said what it is.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (parts, _) = element(SEQUENCE, certificate)?;
    let (algorithm, _) = element(SEQUENCE, after(parts)?)?;
    let (identifier, _) = element(OBJECT_IDENTIFIER, algorithm)?;
    let (last, family) = identifier.split_last()?;
    let by = match (family, last) {
        (RSA, 4 | 5 | 11) | (ECDSA, 2) => &digest::SHA256,
        (RSA, 12) | (ECDSA, 3) => &digest::SHA384,
        (RSA, 13) | (ECDSA, 4) => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(by, certificate).as_ref().to_vec())
}

/// The subject's common name: the last one, where there are several.
pub(super) fn common_name(certificate: &[u8]) -> Option<&str> {
    let (parts, _) = element(SEQUENCE, certificate)?;
    let (mut signed, _) = element(SEQUENCE, parts)?;
    if signed.first() == Some(&VERSION) {
        signed = after(signed)?;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        signed = after(signed)?;
    }
    let (mut subject, _) = element(SEQUENCE, signed)?;
    let mut found = None;
    while !subject.is_empty() {
        let (attribute, rest) = element(SET, subject)?;
        subject = rest;
        let (attribute, _) = element(SEQUENCE, attribute)?;
        let (identifier, value) = element(OBJECT_IDENTIFIER, attribute)?;
        if identifier == COMMON_NAME {
            let (name, _) = element(*value.first()?, value)?;
            found = std::str::from_utf8(name).ok();
        }
    }
    found.filter(|name| !name.contains('\0'))
}

/// Whether a common name is this host, as libpq takes it: in any case, and with `*` for the first part of it.
pub(super) fn names_host(common_name: &str, host: &str) -> bool {
    if common_name.eq_ignore_ascii_case(host) {
        return true;
    }
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    match (common_name.strip_prefix('*'), host.find('.')) {
        (Some(domain), Some(dot)) if !is_address && dot > 0 && domain.len() > 2 => {
            domain.starts_with('.') && domain.eq_ignore_ascii_case(&host[dot..])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "somebody");
        params.distinguished_name.push(rcgen::DnType::CommonName, "db.example.org");
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn certificates_are_read() {
        let made = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(common_name(&made), Some("db.example.org"));
        assert_eq!(end_point(&made).unwrap(), digest::digest(&digest::SHA256, &made).as_ref());
        let made = certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point(&made).unwrap(), digest::digest(&digest::SHA384, &made).as_ref());
        assert_eq!(end_point(&certificate(&rcgen::PKCS_ED25519)), None);
    }

    #[test]
    fn a_star_stands_for_one_part() {
        for (name, host, expected) in [
            ("db.example.org", "DB.example.org", true),
            ("*.example.org", "db.example.org", true),
            ("*.example.org", "a.db.example.org", false),
            ("*.example.org", "example.org", false),
            ("*", "localhost", false),
            ("*.0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("d*.example.org", "db.example.org", false),
        ] {
            assert_eq!(names_host(name, host), expected, "{name} {host}");
        }
    }

    proptest! {
        #[test]
        fn what_is_no_certificate_is_nothing(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
            let at = at.index(bytes.len());
            bytes[at] = with;
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = (common_name(&bytes), end_point(&bytes));
        }
    }
}
