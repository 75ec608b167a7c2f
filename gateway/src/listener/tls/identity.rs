//! Who a client with a verified certificate is, as fields for the endpoint.

use std::fmt::Write as _;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

/// Endpoints commonly accept heads of 8 KiB, and a certificate's base64 is a third longer than it is.
/// Usual ones have 1 to 2 KiB.
const MAX_CERTIFICATE_BYTES: usize = 4 << 10;
/// A name longer than this is no name but a document.
const MAX_NAME_BYTES: usize = 1 << 10;

/// Made once per connection, whatever the number of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    lines: Box<[u8]>,
    subject: Box<str>,
}

impl ClientIdentity {
    /// The fields that say it, in lower case. Received ones are passed on from
    /// trusted proxies only, and where this connection proved nothing itself.
    pub const FIELDS: [&str; 3] = ["client-cert", "x-client-cert-subject", "x-client-cert-san"];

    /// Of a chain that was verified, leaf first. `None` without one, and for one too large to be passed
    /// on: whoever asks for an identity then finds none.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let leaf = chain.first().filter(|leaf| leaf.len() <= MAX_CERTIFICATE_BYTES)?;
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let subject = distinguished_name(parsed.subject());
        if subject.len() > MAX_NAME_BYTES {
            return None;
        }
        // RFC 9440 section 2.1: a byte sequence of RFC 8941.
        let mut lines = format!("Client-Cert: :{}:\r\n", STANDARD.encode(leaf));
        let _ = write!(lines, "X-Client-Cert-Subject: {subject}\r\n");
        if let Some(name) = first_alternative_name(&parsed) {
            let _ = write!(lines, "X-Client-Cert-San: {name}\r\n");
        }
        Some(Self { lines: lines.into_bytes().into(), subject: subject.into() })
    }

    /// `Client-Cert`, `X-Client-Cert-Subject` and, where there is one, `X-Client-Cert-San`, each with its
    /// line's end.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// RFC 4514, in visible ASCII and spaces.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// RFC 4514: the most specific part first. Whatever is not visible ASCII stands as `\XX`, so that the
/// text is unambiguous and fits into a field.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let shown: Vec<String> = parts.into_iter().rev().map(relative_name).collect();
    shown.join(",")
}

fn relative_name(part: &RelativeDistinguishedName<'_>) -> String {
    let shown: Vec<String> = part.iter().map(attribute).collect();
    shown.join("+")
}

/// RFC 4514 section 3, and the one that old authorities use.
const SHORT_NAMES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let id = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == id).map(|(_, name)| *name);
    let value = match attribute.as_str() {
        Ok(text) => escape(text),
        Err(_) => attribute.as_slice().iter().map(|byte| format!("\\{byte:02X}")).collect(),
    };
    format!("{}={value}", short.unwrap_or(&id))
}

/// RFC 4514 section 2.4.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let is_edge = (at == 0 && matches!(byte, b' ' | b'#')) || (at == last && byte == b' ');
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' if !is_edge => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
    out
}

/// With its kind, as OpenSSL shows it.
fn first_alternative_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => visible("DNS", name),
        GeneralName::URI(name) => visible("URI", name),
        GeneralName::RFC822Name(name) => visible("email", name),
        GeneralName::IPAddress(bytes) => {
            let v4 = || <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from);
            v4().or_else(v6).map(|address| format!("IP:{address}"))
        }
        _ => None,
    })
}

fn visible(kind: &str, name: &str) -> Option<String> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| format!("{kind}:{name}"))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::super::test_pki::{Authority, Wanted, named};
    use super::*;

    fn identity(subject: &str, names: &[&str]) -> (ClientIdentity, CertificateDer<'static>) {
        let (chain, _) = Authority::new("ca").issue(&Wanted { subject, ..named(names) });
        let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        (ClientIdentity::of(std::slice::from_ref(&leaf)).unwrap(), leaf)
    }

    #[test]
    fn the_fields_say_who_the_client_is() {
        let (identity, leaf) = identity("device 7", &["device.test", "other.test"]);
        let text = std::str::from_utf8(identity.lines()).unwrap();
        let lines: Vec<_> = text.split_terminator("\r\n").collect();
        let encoded =
            lines[0].strip_prefix("Client-Cert: :").and_then(|rest| rest.strip_suffix(':')).unwrap();
        assert_eq!(STANDARD.decode(encoded).unwrap(), leaf.to_vec());
        assert_eq!(lines[1..], ["X-Client-Cert-Subject: CN=device 7", "X-Client-Cert-San: DNS:device.test"]);
        let names = lines.iter().map(|line| line.split(':').next().unwrap().to_ascii_lowercase());
        assert_eq!(names.collect::<Vec<_>>(), ClientIdentity::FIELDS);
    }

    #[test]
    fn a_subject_can_neither_forge_another_nor_break_the_field() {
        for (subject, wanted) in [
            ("a,CN=admin", "CN=a\\,CN\\=admin"),
            ("a\r\nX-Admin: 1", "CN=a\\0D\\0AX-Admin: 1"),
            (" a ", "CN=\\20a\\20"),
            ("#a+b", "CN=\\23a\\+b"),
            ("M\u{fc}ller", "CN=M\\C3\\BCller"),
            ("\"<a>;\\", "CN=\\\"\\<a\\>\\;\\\\"),
        ] {
            let (identity, _) = identity(subject, &[]);
            assert_eq!(identity.subject(), wanted, "{subject:?}");
            let lines = identity.lines();
            assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 2, "{subject:?}");
            assert!(lines.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n')));
        }
    }

    /// An authority may sign anything: whatever the parser takes makes whole lines of visible text.
    #[test]
    fn no_changed_certificate_panics_or_breaks_the_fields() {
        let (_, leaf) = identity("device 7", &["device.test"]);
        let mut taken = 0;
        for at in 0..leaf.len() {
            for byte in [0, b'\n', b'\r', 0x16, 0x1e, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = leaf.to_vec();
                changed[at] = byte;
                let Some(identity) = ClientIdentity::of(&[changed.into()]) else { continue };
                taken += 1;
                let text = std::str::from_utf8(identity.lines()).unwrap();
                for line in text.strip_suffix("\r\n").unwrap().split("\r\n") {
                    let (name, value) = line.split_once(": ").unwrap();
                    assert!(ClientIdentity::FIELDS.contains(&&*name.to_ascii_lowercase()), "{line:?}");
                    assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
                }
            }
        }
        assert!(taken > 100, "{taken}");
    }

    #[test]
    fn what_is_too_large_to_be_passed_on_is_no_identity() {
        let names: Vec<String> =
            (0..200).map(|at| format!("name-{at}.very-long-name.example.test")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (chain, _) = Authority::new("ca").issue(&named(&names));
        let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        assert!(leaf.len() > MAX_CERTIFICATE_BYTES);
        assert_eq!(ClientIdentity::of(&[leaf]), None);
        assert_eq!(ClientIdentity::of(&[]), None);
    }
}
