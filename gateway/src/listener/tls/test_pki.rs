//! Certificates made on the spot.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SanType, date_time_ymd,
};

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// What a certificate is to be; the years are those of its first days.
pub(super) struct Wanted<'a> {
    pub(super) names: &'a [&'a str],
    pub(super) years: (i32, i32),
    pub(super) is_rsa: bool,
    pub(super) subject: &'a str,
}

/// Long over, now, and long to come, whenever this runs within the next decades.
pub(super) const PAST: (i32, i32) = (2001, 2002);
pub(super) const PRESENT: (i32, i32) = (2020, 2090);
pub(super) const LONGER: (i32, i32) = (2020, 2091);
pub(super) const FUTURE: (i32, i32) = (2095, 2099);

pub(super) fn named<'a>(names: &'a [&'a str]) -> Wanted<'a> {
    Wanted { names, years: PRESENT, is_rsa: false, subject: "leaf" }
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2095, 1, 1));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Chain, without the authority itself, and key.
    pub(super) fn issue(&self, wanted: &Wanted<'_>) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, wanted.subject);
        let dns = |name: &&str| SanType::DnsName((*name).try_into().unwrap());
        params.subject_alt_names = wanted.names.iter().map(dns).collect();
        params.not_before = date_time_ymd(wanted.years.0, 1, 1);
        params.not_after = date_time_ymd(wanted.years.1, 1, 1);
        let kind = if wanted.is_rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 };
        let key = KeyPair::generate_for(kind).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A file as operators keep it.
    pub(super) fn write(&self, folder: &Path, name: &str, wanted: &Wanted<'_>) -> PathBuf {
        let (chain, key) = self.issue(wanted);
        put(folder, name, &(chain + &key))
    }
}

/// Replaces a file as renewals do.
pub(super) fn put(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    let staged = folder.join(".staged");
    std::fs::write(&staged, text).unwrap();
    std::fs::rename(&staged, &path).unwrap();
    path
}
