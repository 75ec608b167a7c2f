use std::path::{Path, PathBuf};
use std::sync::Arc;

use discovery::file::FilePattern;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
};
use tempfile::TempDir;

use super::test_pki::{Authority, FUTURE, LONGER, PAST, Wanted, named, put};
use super::*;
use crate::config::{ClientAuthConfig, ClientAuthMode, MinTlsVersion, TlsConfig};

fn folder() -> TempDir {
    TempDir::with_prefix("sluice-test-").unwrap()
}

fn patterns(folder: &Path) -> Vec<FilePattern> {
    vec![FilePattern::parse(folder, "*.pem").unwrap()]
}

fn tls(folder: &Path) -> TlsConfig {
    TlsConfig {
        certificates: patterns(folder),
        from_registry: true,
        min_version: MinTlsVersion::Tls12,
        client_auth: None,
    }
}

fn trusting(authority: &Authority) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    builder.unwrap().with_root_certificates(roots).with_no_client_auth()
}

/// A client that shows a certificate of `issuer`.
fn showing(authority: &Authority, issuer: &Authority) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let (chain, key) = issuer.issue(&Wanted { subject: "client", ..named(&["client.test"]) });
    let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    builder.unwrap().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap()
}

/// Both ends after a handshake in memory, with a byte sent each way so that tickets have arrived.
fn shake(
    client: &Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut client = ClientConnection::new(client.clone(), name.to_owned().try_into().unwrap())?;
    let mut server = ServerConnection::new(server)?;
    let mut bytes = Vec::new();
    for _ in 0..10 {
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut sent = &bytes[..];
        while !sent.is_empty() {
            server.read_tls(&mut sent).unwrap();
            server.process_new_packets()?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut sent = &bytes[..];
        while !sent.is_empty() {
            client.read_tls(&mut sent).unwrap();
            client.process_new_packets()?;
        }
        bytes.clear();
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

/// The certificate that a client gets which asks for `name` and verifies only these kinds of signature.
fn served(certificates: &Certificates, name: &str, schemes: &[SignatureScheme]) -> Vec<u8> {
    certificates.chosen(Some(name), schemes).expect("one is always served")
}

const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

/// The first certificate of a file.
fn leaf(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

#[test]
fn certificates_are_chosen_by_name_then_kind_of_key_then_end() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    let write = |name: &str, wanted: &Wanted<'_>| ca.write(folder.path(), name, wanted);
    let a = &["a.test"][..];
    let short = write("a1.pem", &named(a));
    let long = write("a2.pem", &Wanted { years: LONGER, ..named(a) });
    let rsa = write("a3.pem", &Wanted { is_rsa: true, years: LONGER, ..named(a) });
    let wild = write("w.pem", &named(&["*.w.test", "w.test"]));
    let exact = write("x.pem", &named(&["x.w.test"]));
    write("y-old.pem", &Wanted { years: PAST, ..named(&["y.w.test"]) });
    let old = write("z-old.pem", &Wanted { years: PAST, ..named(&["z.test"]) });
    let certificates = Certificates::load(&patterns(folder.path()), None).unwrap();
    for (name, schemes, wanted) in [
        ("a.test", &[RSA, ECDSA][..], &long),
        ("a.test", &[ECDSA], &long),
        ("a.test", &[RSA], &rsa),
        ("w.test", &[ECDSA], &wild),
        ("b.w.test", &[ECDSA], &wild),
        ("x.w.test", &[ECDSA], &exact),
        // An expired one loses against a wildcard that holds, and is better than a wrong name.
        ("y.w.test", &[ECDSA], &wild),
        ("z.test", &[ECDSA], &old),
        // A wildcard is for one label; nobody has these names.
        ("c.b.w.test", &[ECDSA], &short),
        ("elsewhere.test", &[ECDSA], &short),
        ("elsewhere.test", &[RSA], &rsa),
    ] {
        assert_eq!(served(&certificates, name, schemes), leaf(wanted), "{name} {schemes:?}");
    }
}

#[test]
fn a_certificate_that_expires_while_we_serve_gives_way() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    let early = ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let late = ca.write(folder.path(), "b.pem", &Wanted { years: (2089, 2099), ..named(&["a.test"]) });
    // In the middle of 2085, of 2089 and of 2092.
    let middle_of = |year: i64| (year - 1970) * 31_556_952 + 15_000_000;
    let certificates = Certificates::load_at(&patterns(folder.path()), None, middle_of(2085)).unwrap();
    assert_eq!(served(&certificates, "a.test", &[ECDSA]), leaf(&early));
    for (year, wanted) in [(2085, &early), (2089, &late), (2092, &late)] {
        assert!(!certificates.refresh_at(middle_of(year)));
        assert_eq!(served(&certificates, "a.test", &[ECDSA]), leaf(wanted), "{year}");
    }
}

/// What makes a file unusable, with the words that say it.
fn bad_files(ca: &Authority) -> Vec<(String, &'static str)> {
    let (chain, key) = ca.issue(&named(&["a.test"]));
    let (_, other_key) = ca.issue(&named(&["a.test"]));
    let (other_chain, _) = Authority::new("other").issue(&named(&["a.test"]));
    let impostor = Authority::new("ca");
    let (nameless, nameless_key) = ca.issue(&named(&[]));
    let broken = chain.replacen("MII", "MIA", 1);
    vec![
        (format!("{chain}{other_key}"), "the key is not the first certificate's"),
        (chain.clone(), "no usable private key"),
        (key.clone(), "has no certificate"),
        (String::new(), "no usable private key"),
        (format!("{chain}{other_chain}{key}"), "certificate 1 of the chain was not issued by certificate 2"),
        (format!("{chain}{}{key}", impostor.pem), "signature is of another key"),
        (
            format!("{chain}{}{}{key}", ca.pem, ca.issue(&named(&["b.test"])).0),
            "certificate 2 of the chain was not",
        ),
        (format!("{nameless}{nameless_key}"), "no subject alternative name"),
        (format!("{broken}{key}"), "parsed"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_owned(), "cannot be decoded"),
    ]
}

#[test]
fn files_that_cannot_serve_are_refused_with_what_is_wrong() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    for (text, words) in bad_files(&ca) {
        let path = put(folder.path(), "a.pem", &text);
        let error = Certificates::load(&patterns(folder.path()), None).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains(&path.display().to_string()),
            "{words:?} in {error:?}"
        );
        assert_eq!(inspect(&patterns(folder.path())).len(), 1, "{words}");
    }
}

#[test]
fn a_bad_file_costs_nobody_but_itself() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    let a = ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let former = leaf(&a);
    let b = ca.write(folder.path(), "b.pem", &named(&["b.test"]));
    put(folder.path(), "c.pem", "never good");
    let certificates = Certificates::load(&patterns(folder.path()), None).unwrap();
    for (text, words) in bad_files(&ca) {
        put(folder.path(), "a.pem", &text);
        ca.write(folder.path(), "b.pem", &named(&["b.test"]));
        assert!(certificates.refresh(), "b is new");
        assert!(!certificates.refresh(), "nothing is read twice");
        assert_eq!(served(&certificates, "a.test", &[ECDSA]), former, "{words}");
        assert_eq!(served(&certificates, "b.test", &[ECDSA]), leaf(&b));
        let report = certificates.report();
        let reject = report.iter().map(|file| file.reject.as_deref().unwrap_or("")).collect::<Vec<_>>();
        assert!(reject[0].contains(words) && reject[1].is_empty() && !reject[2].is_empty(), "{reject:?}");
    }
    let a = ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    assert!(certificates.refresh());
    assert_eq!(served(&certificates, "a.test", &[ECDSA]), leaf(&a));
    assert_eq!(certificates.report()[0].reject, None);
}

#[test]
fn nothing_out_of_date_replaces_what_is_served() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    let a = ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let former = leaf(&a);
    let certificates = Certificates::load(&patterns(folder.path()), None).unwrap();
    for (years, words) in [(PAST, "expired at 2002-01-01"), (FUTURE, "not valid before 2095-01-01")] {
        ca.write(folder.path(), "a.pem", &Wanted { years, ..named(&["a.test"]) });
        assert!(!certificates.refresh());
        assert_eq!(served(&certificates, "a.test", &[ECDSA]), former);
        let reject = certificates.report()[0].reject.clone().unwrap();
        assert!(reject.contains(words), "{reject}");
    }
    // A start makes do with it.
    Certificates::load(&patterns(folder.path()), None).unwrap();
}

#[test]
fn a_file_is_gone_when_it_is_missing_twice() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    let a = ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let b = ca.write(folder.path(), "b.pem", &named(&["b.test"]));
    let certificates = Certificates::load(&patterns(folder.path()), None).unwrap();
    std::fs::remove_file(&b).unwrap();
    assert!(!certificates.refresh());
    assert_eq!(certificates.report().len(), 2);
    assert!(certificates.refresh());
    assert_eq!(served(&certificates, "b.test", &[ECDSA]), leaf(&a));
    // The last ones stay: a listener without any serves nobody.
    let former = leaf(&a);
    std::fs::remove_file(&a).unwrap();
    for _ in 0..3 {
        assert!(!certificates.refresh());
    }
    assert_eq!(served(&certificates, "a.test", &[ECDSA]), former);
}

#[test]
fn hosts_belong_together_when_one_certificate_covers_them() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    ca.write(folder.path(), "a.pem", &named(&["a.test", "b.test"]));
    ca.write(folder.path(), "w.pem", &named(&["*.w.test"]));
    ca.write(folder.path(), "x.pem", &named(&["x.w.test"]));
    let certificates = Certificates::load(&patterns(folder.path()), None).unwrap();
    for (sni, host, wanted) in [
        ("a.test", "a.test", true),
        ("a.test", "b.test", true),
        ("a.test", "x.w.test", false),
        ("y.w.test", "z.w.test", true),
        // The wildcard that y was proved with covers x as well, although x has one of its own.
        ("y.w.test", "x.w.test", true),
        ("y.w.test", "w.test", false),
        ("y.w.test", "z.y.w.test", false),
        // Both get the fallback, which is a's.
        ("unknown.test", "other.test", true),
        ("unknown.test", "a.test", true),
        ("unknown.test", "x.w.test", false),
        ("a.test", "unknown.test", false),
        ("a.test", "10.0.0.1", false),
    ] {
        assert_eq!(certificates.same_identity(sni, host), wanted, "{sni} {host}");
    }
}

#[test]
fn a_client_that_offers_it_gets_the_post_quantum_exchange_and_others_what_they_know() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let server = TlsRegistry::default().listen(&"web".into(), &tls(folder.path()), Inside::Http1).unwrap();
    let (client, _) = shake(&Arc::new(trusting(&ca)), server.config(), "a.test").unwrap();
    let group = |client: &ClientConnection| client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group(&client), NamedGroup::X25519MLKEM768);
    assert_eq!(client.alpn_protocol(), None);
    let classic = rustls::crypto::CryptoProvider {
        kx_groups: vec![rustls::crypto::aws_lc_rs::kx_group::SECP256R1],
        ..(*provider()).clone()
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(classic.into()).with_safe_default_protocol_versions();
    let classic = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    let (client, _) = shake(&Arc::new(classic), server.config(), "a.test").unwrap();
    assert_eq!(group(&client), NamedGroup::secp256r1);
}

#[test]
fn h2_is_offered_where_it_is_switched_on() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let mut client = trusting(&ca);
    client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let client = Arc::new(client);
    for (inside, wanted) in [(Inside::Http1, &b"http/1.1"[..]), (Inside::Http2OrHttp1, b"h2")] {
        let server = TlsRegistry::default().listen(&"web".into(), &tls(folder.path()), inside).unwrap();
        let (client, _) = shake(&client, server.config(), "a.test").unwrap();
        assert_eq!(client.alpn_protocol(), Some(wanted));
    }
}

#[test]
fn the_least_version_is_kept() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let config = TlsConfig { min_version: MinTlsVersion::Tls13, ..tls(folder.path()) };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap();
    let old = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let registry = TlsRegistry::default();
    let server = registry.listen(&"new".into(), &config, Inside::Http1).unwrap();
    assert!(shake(&old, server.config(), "a.test").is_err());
    let server = registry.listen(&"both".into(), &tls(folder.path()), Inside::Http1).unwrap();
    let (client, _) = shake(&old, server.config(), "a.test").unwrap();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
}

fn kind(client: &Arc<ClientConfig>, server: &ServerTls) -> Option<HandshakeKind> {
    shake(client, server.config(), "a.test").ok().and_then(|(client, _)| client.handshake_kind())
}

fn with_client_ca(folder: &Path, ca: &Path) -> TlsConfig {
    let mode = ClientAuthMode::Required;
    TlsConfig { client_auth: Some(ClientAuthConfig { ca: ca.to_owned(), mode }), ..tls(folder) }
}

#[test]
fn listeners_of_one_policy_resume_each_others_sessions_and_no_other() {
    let (folder, ca, other_ca) = (folder(), Authority::new("ca"), Authority::new("other"));
    ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let first_ca = put(folder.path(), "first.crt", &ca.pem);
    let both_cas = put(folder.path(), "both.crt", &format!("{}{}", ca.pem, other_ca.pem));
    let registry = TlsRegistry::default();
    let listen =
        |name: &str, config: &TlsConfig| registry.listen(&name.into(), config, Inside::Http1).unwrap();
    let plain = [listen("p1", &tls(folder.path())), listen("p2", &tls(folder.path()))];
    let strict = [
        listen("s1", &with_client_ca(folder.path(), &first_ca)),
        listen("s2", &with_client_ca(folder.path(), &first_ca)),
    ];
    let lenient = listen("l", &with_client_ca(folder.path(), &both_cas));
    let client = Arc::new(trusting(&ca));
    assert_eq!(kind(&client, &plain[0]), Some(HandshakeKind::Full));
    assert_eq!(kind(&client, &plain[1]), Some(HandshakeKind::Resumed));
    // Whoever came without a certificate stays outside.
    assert_eq!(kind(&client, &strict[0]), None);
    let member = Arc::new(showing(&ca, &ca));
    assert_eq!(kind(&member, &strict[0]), Some(HandshakeKind::Full));
    assert_eq!(kind(&member, &strict[1]), Some(HandshakeKind::Resumed));
    // Admitted by the wider authority only: its ticket opens nothing elsewhere.
    let guest = Arc::new(showing(&ca, &other_ca));
    assert_eq!(kind(&guest, &lenient), Some(HandshakeKind::Full));
    assert_eq!(kind(&guest, &lenient), Some(HandshakeKind::Resumed));
    assert_eq!(kind(&guest, &strict[0]), None);
}

#[test]
fn what_is_prepared_together_is_shared_and_watched_once_it_is_adopted() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    let a = ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let registry = TlsRegistry::default();
    let prepared = [(), ()].map(|()| registry.prepare(&tls(folder.path()), Inside::Http1).unwrap());
    assert!(Arc::ptr_eq(prepared[0].certificates(), prepared[1].certificates()));
    let former = leaf(&a);
    ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    registry.refresh();
    assert_eq!(served(prepared[0].certificates(), "a.test", &[ECDSA]), former);
    registry.adopt(vec![("web".into(), prepared[0].clone())]);
    registry.refresh();
    assert_eq!(served(prepared[1].certificates(), "a.test", &[ECDSA]), leaf(&a));
    assert_eq!(registry.report().len(), 1);
}

#[test]
fn a_resumed_session_still_says_who_the_client_is() {
    let (folder, ca) = (folder(), Authority::new("ca"));
    ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let client_ca = put(folder.path(), "ca.crt", &ca.pem);
    let server = TlsRegistry::default()
        .listen(&"web".into(), &with_client_ca(folder.path(), &client_ca), Inside::Http1)
        .unwrap();
    let client = Arc::new(showing(&ca, &ca));
    for wanted in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (client, server) = shake(&client, server.config(), "a.test").unwrap();
        assert_eq!(client.handshake_kind(), Some(wanted));
        let identity = ClientIdentity::of(server.peer_certificates().unwrap()).unwrap();
        assert_eq!(identity.subject(), "CN=client");
        assert_eq!(server.server_name(), Some("a.test"));
    }
}

#[test]
fn another_client_ca_ends_the_tickets_of_the_former_one_and_a_bad_one_changes_nothing() {
    let (folder, ca, other_ca) = (folder(), Authority::new("ca"), Authority::new("other"));
    ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let client_ca = put(folder.path(), "ca.crt", &ca.pem);
    let registry = TlsRegistry::default();
    let config = with_client_ca(folder.path(), &client_ca);
    let server = registry.listen(&"web".into(), &config, Inside::Http1).unwrap();
    let client = Arc::new(showing(&ca, &ca));
    assert_eq!(kind(&client, &server), Some(HandshakeKind::Full));
    put(folder.path(), "ca.crt", "nothing of use");
    registry.refresh();
    assert_eq!(kind(&client, &server), Some(HandshakeKind::Resumed));
    let (path, why) = registry.report()[0].client_ca_reject.clone().unwrap();
    assert!(path == client_ca && why.contains("has no certificate"), "{why}");
    put(folder.path(), "ca.crt", &other_ca.pem);
    registry.refresh();
    assert_eq!(kind(&client, &server), None, "neither its certificate nor its ticket counts");
    assert!(registry.report()[0].client_ca_reject.is_none());
    assert_eq!(kind(&Arc::new(showing(&ca, &other_ca)), &server), Some(HandshakeKind::Full));
}

#[test]
fn an_optional_certificate_may_be_absent_and_not_wrong() {
    let (folder, ca, other_ca) = (folder(), Authority::new("ca"), Authority::new("other"));
    ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let client_ca = put(folder.path(), "ca.crt", &ca.pem);
    let mut config = with_client_ca(folder.path(), &client_ca);
    config.client_auth =
        config.client_auth.map(|auth| ClientAuthConfig { mode: ClientAuthMode::Optional, ..auth });
    let server = TlsRegistry::default().listen(&"web".into(), &config, Inside::Http1).unwrap();
    assert_eq!(kind(&Arc::new(trusting(&ca)), &server), Some(HandshakeKind::Full));
    assert_eq!(kind(&Arc::new(showing(&ca, &ca)), &server), Some(HandshakeKind::Full));
    assert_eq!(kind(&Arc::new(showing(&ca, &other_ca)), &server), None);
}

#[test]
fn a_profile_verifies_endpoints_follows_its_files_and_keeps_good_ones() {
    let (folder, ca, other_ca) = (folder(), Authority::new("ca"), Authority::new("other"));
    ca.write(folder.path(), "a.pem", &named(&["a.test"]));
    let roots = put(folder.path(), "roots.crt", &ca.pem);
    let certificate: PathBuf =
        ca.write(folder.path(), "client", &Wanted { subject: "gw", ..named(&["gw.test"]) });
    let config = with_client_ca(folder.path(), &roots);
    let server = TlsRegistry::default().listen(&"web".into(), &config, Inside::Http1).unwrap();
    let section = crate::config::UpstreamTlsConfig {
        name: "internal".into(),
        ca: Some(roots.clone()),
        server_name: None,
        certificate: Some(certificate),
    };
    let profiles = UpstreamProfiles::load(std::slice::from_ref(&section)).unwrap();
    let profile = profiles.find("internal").unwrap();
    let kind = || kind(&profile.config(Alpn::Http1), &server);
    assert_eq!(kind(), Some(HandshakeKind::Full));
    assert_eq!(kind(), Some(HandshakeKind::Resumed));
    put(folder.path(), "roots.crt", "nothing of use");
    profiles.refresh();
    assert!(profile.reject().unwrap().contains("has no certificate") && kind().is_some());
    put(folder.path(), "roots.crt", &other_ca.pem);
    profiles.refresh();
    assert_eq!((profile.reject(), kind()), (None, None), "the endpoint is no longer believed");
    let (path, _) = profile.certificate_expiry().unwrap();
    assert_eq!(path, folder.path().join("client"));
    for (alpn, wanted) in
        [(Alpn::Http1, &[b"http/1.1".to_vec()][..]), (Alpn::H2, &[b"h2".to_vec()]), (Alpn::None, &[])]
    {
        assert_eq!(profile.config(alpn).alpn_protocols, wanted);
    }
    let missing = crate::config::UpstreamTlsConfig { ca: Some(folder.path().join("nowhere")), ..section };
    assert!(UpstreamProfiles::load(&[missing]).unwrap_err().to_string().contains("nowhere"));
}

#[test]
fn the_systems_roots_are_found() {
    let section = crate::config::UpstreamTlsConfig {
        name: "public".into(),
        ca: None,
        server_name: None,
        certificate: None,
    };
    match UpstreamProfiles::load(&[section]) {
        Ok(profiles) => assert_eq!(profiles.names().collect::<Vec<_>>(), ["public"]),
        // A machine without any says so.
        Err(error) => assert!(matches!(error, TlsError::NoSystemRoots(_)), "{error}"),
    }
}
