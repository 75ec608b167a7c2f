//! Users, passwords, certificates, and what they may.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use discovery::registry::{Expect, Link, Registry, RegistryError};
use discovery::remote::{Access, Tls, User};
use discovery::zookeeper::Acl;
use discovery::{etcd, zookeeper};
use tempfile::TempDir;
use tests::{DEADLINE, EtcdServer, Kazoo, ZooKeeperServer, eventually, finish};

use crate::fixture::{
    SESSION_TIMEOUT, await_link, await_state, await_value, connect_as, connect_to_etcd_as, read, state,
    write, write_for_session,
};

const PASSWORD: &str = "open sesame";

/// An authority with certificates of its own, and passwords.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made"));
        files.openssl(
            &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test CA"]
                .into_iter()
                .chain(["-keyout", "ca.key", "-out", "ca.crt"])
                .collect::<Vec<_>>(),
        );
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("the folder is ours");
        self.path(name)
    }

    #[track_caller]
    fn openssl(&self, arguments: &[&str]) {
        let report = finish(Command::new("openssl").current_dir(self.0.path()).args(arguments), "", DEADLINE);
        assert_eq!(report.code, Some(0), "openssl {arguments:?}: {}", report.text());
    }

    /// `{name}.crt` and `{name}.key` for 127.0.0.1, and both in `{name}.pem`.
    fn issue(&self, name: &str) -> PathBuf {
        let (key, request, chain) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        self.openssl(&[
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        let extensions = self.put("extensions", "subjectAltName=IP:127.0.0.1\n");
        self.openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-in",
            &request,
            "-out",
            &chain,
            "-extfile",
            text(&extensions),
        ]);
        let read = |name: &str| fs::read_to_string(self.path(name)).expect("openssl wrote it");
        self.put(&format!("{name}.pem"), &(read(&chain) + &read(&key)))
    }

    fn tls(&self, certificate: Option<&Path>) -> Tls {
        Tls { ca: Some(self.path("ca.crt")), certificate: certificate.map(Path::to_owned), server_name: None }
    }

    fn user(&self, name: &str, password: &str) -> User {
        let password_file = self.put(&format!("{name}.password"), &format!("{password}\n"));
        User { name: name.to_owned(), password_file }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// Waits until the link says that it does not come up, and why.
#[track_caller]
fn await_refusal(registry: &dyn Registry, reason: &str) {
    let told = || match state(registry).link {
        Link::Connecting { why } => why.unwrap_or_default().to_string(),
        other => panic!("{other:?}"),
    };
    let mut last = String::new();
    eventually(DEADLINE, reason, || {
        let told = told();
        if told != last {
            println!("{told}");
            last.clone_from(&told);
        }
        told.contains(reason)
    });
}

struct SecureEtcd {
    server: EtcdServer,
    files: Files,
}

impl SecureEtcd {
    /// With TLS both ways, and a user who may do everything below /caas and nothing else.
    fn start() -> Self {
        let files = Files::new();
        files.issue("server");
        files.issue("client");
        let (ca, path) = (files.path("ca.crt"), |name: &str| text(&files.path(name)).to_owned());
        let server = EtcdServer::start_as(
            "https",
            &["--cert-file", &path("server.crt"), "--key-file", &path("server.key"), "--client-cert-auth"]
                .into_iter()
                .chain(["--trusted-ca-file", text(&ca), "--auth-token-ttl", "1"])
                .collect::<Vec<_>>(),
            &["--cacert", text(&ca), "--cert", &path("client.crt"), "--key", &path("client.key")],
        );
        let root = ["--user", "root:root"];
        server.ctl(&["user", "add", "root:root"]);
        server.ctl(&["user", "grant-role", "root", "root"]);
        server.ctl(&["user", "add", &format!("sluice:{PASSWORD}")]);
        server.ctl(&["role", "add", "edge"]);
        server.ctl(&["role", "grant-permission", "--prefix=true", "edge", "readwrite", "/caas/"]);
        server.ctl(&["user", "grant-role", "sluice", "edge"]);
        server.ctl(&["auth", "enable"]);
        server.ctl(&[&root[..], &["put", "/elsewhere/app/shop", "1"]].concat());
        Self { server, files }
    }

    fn connect(&self, access: Access) -> std::sync::Arc<etcd::Etcd> {
        connect_to_etcd_as(etcd::Settings {
            session_timeout: SESSION_TIMEOUT,
            access,
            ..etcd::Settings::new(vec![self.server.address().to_string()])
        })
    }

    fn access(&self) -> Access {
        let tls = self.files.tls(Some(&self.files.path("client.pem")));
        Access { user: Some(self.files.user("sluice", PASSWORD)), tls: Some(tls) }
    }
}

#[test]
fn etcd_lets_in_who_has_certificate_and_password() {
    let etcd = SecureEtcd::start();
    let registry = etcd.connect(etcd.access());
    await_link(&*registry);
    write(&*registry, "app/shop", "1", Expect::Any).unwrap();
    write_for_session(&*registry, "gateway/gw-1", "here").unwrap();
    await_value(&*registry, "gateway/gw-1", Some("here"));
    assert_eq!(state(&*registry).entries.len(), 2);
    // Tokens live for a second without use; whoever writes seldom has an expired one.
    let written = std::time::Instant::now();
    eventually(DEADLINE, "the token has expired", || written.elapsed().as_secs() >= 3);
    write(&*registry, "app/shop", "2", Expect::Any).unwrap();
    await_value(&*registry, "app/shop", Some("2"));
    assert!(read(&*registry, "gateway/gw-1").unwrap().ephemeral);
}

#[test]
fn etcd_refuses_everybody_else_and_a_repaired_file_is_taken_up() {
    let etcd = SecureEtcd::start();
    let files = &etcd.files;
    let no_certificate = Access { tls: Some(files.tls(None)), ..etcd.access() };
    let (other, own) = (Files::new(), files.path("client.pem"));
    let wrong_ca = Access {
        tls: Some(Tls { ca: Some(other.path("ca.crt")), ..files.tls(Some(&own)) }),
        ..etcd.access()
    };
    let wrong_name = Access {
        tls: Some(Tls { server_name: Some("etcd.internal".to_owned()), ..files.tls(Some(&own)) }),
        ..etcd.access()
    };
    let wrong_password = Access { user: Some(files.user("mallory", "guess")), ..etcd.access() };
    let clear_text = Access { tls: None, ..etcd.access() };
    for (access, reason) in [
        // TLS 1.3 has the client's certificate refused after its handshake is done.
        (no_certificate, "cannot connect"),
        (wrong_ca, "invalid peer certificate"),
        (wrong_name, "invalid peer certificate"),
        (wrong_password, "authentication failed"),
        (clear_text, "cannot connect"),
    ] {
        let registry = etcd.connect(access);
        await_refusal(&*registry, reason);
        let refused = write(&*registry, "app/shop", "1", Expect::Any);
        assert!(matches!(refused, Err(RegistryError::Failed { may_have_happened: false, .. })));
    }

    let late = Access { user: Some(files.user("late", PASSWORD)), ..etcd.access() };
    let registry = etcd.connect(late);
    etcd.server.ctl(&["--user", "root:root", "user", "add", "late:another"]);
    etcd.server.ctl(&["--user", "root:root", "user", "grant-role", "late", "edge"]);
    await_refusal(&*registry, "authentication failed");
    files.user("late", "another");
    await_link(&*registry);
}

#[test]
fn etcd_says_what_a_user_may_not() {
    let etcd = SecureEtcd::start();
    let registry = connect_to_etcd_as(etcd::Settings {
        prefix: "/elsewhere".to_owned(),
        session_timeout: SESSION_TIMEOUT,
        access: etcd.access(),
        ..etcd::Settings::new(vec![etcd.server.address().to_string()])
    });
    await_refusal(&*registry, "permission denied");

    let admin = ["--user", "root:root"];
    for command in [
        &["user", "add", "reader:guess"][..],
        &["role", "add", "reader"],
        &["role", "grant-permission", "--prefix=true", "reader", "read", "/caas/"],
        &["user", "grant-role", "reader", "reader"],
    ] {
        etcd.server.ctl(&[&admin[..], command].concat());
    }
    let reader = etcd.connect(Access { user: Some(etcd.files.user("reader", "guess")), ..etcd.access() });
    await_link(&*reader);
    let refused = write(&*reader, "app/shop", "1", Expect::Any);
    let Err(RegistryError::Failed { may_have_happened: false, source, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(source.to_string().contains("permission denied"), "{source}");
    etcd.server.ctl(&[&admin[..], &["put", "/caas/app/shop", "1"]].concat());
    await_value(&*reader, "app/shop", Some("1"));
}

fn zookeeper(server: &ZooKeeperServer, access: Access, acl: Acl, prefix: &str) -> zookeeper::Settings {
    zookeeper::Settings {
        prefix: prefix.to_owned(),
        session_timeout: SESSION_TIMEOUT,
        access,
        acl,
        ..zookeeper::Settings::new(vec![server.address().to_string()])
    }
}

#[test]
fn nodes_of_a_zookeeper_user_are_its_own() {
    let (server, files) = (ZooKeeperServer::start(), Files::new());
    let access = || Access { user: Some(files.user("sluice", PASSWORD)), tls: None };
    for (acl, prefix, wanted, readable) in [
        (Acl::Private, "/private", &["digest ALL"][..], false),
        (Acl::Readable, "/readable", &["digest ALL", "world READ"], true),
        (Acl::Open, "/open", &["world ALL"], true),
    ] {
        let registry = connect_as(zookeeper(&server, access(), acl, prefix));
        await_link(&*registry);
        write(&*registry, "app/shop", "1", Expect::Absent).unwrap();
        write_for_session(&*registry, "gateway/gw-1", "here").unwrap();
        // Deleted and made again, to become ephemeral.
        write(&*registry, "app/blog", "1", Expect::Absent).unwrap();
        write_for_session(&*registry, "app/blog", "2").unwrap();
        await_value(&*registry, "app/blog", Some("2"));

        let mut owner = Kazoo::connect(&server, SESSION_TIMEOUT);
        owner.authenticate(&format!("sluice:{PASSWORD}")).unwrap();
        for path in ["", "/app", "/app/shop", "/gateway", "/gateway/gw-1", "/app/blog"] {
            assert_eq!(owner.acls(&format!("{prefix}{path}")).unwrap(), wanted, "{prefix}{path}");
        }
        let mut stranger = Kazoo::connect(&server, SESSION_TIMEOUT);
        stranger.authenticate("sluice:guess").unwrap();
        let path = format!("{prefix}/app/shop");
        assert_eq!(stranger.get(&path).is_ok(), readable, "{prefix}");
        assert_eq!(stranger.set(&path, b"stolen").is_ok(), acl == Acl::Open, "{prefix}");
        assert_eq!(stranger.create(&format!("{prefix}/app/x"), b"1", false).is_ok(), acl == Acl::Open);

        let other = connect_as(zookeeper(&server, Access::default(), Acl::Open, prefix));
        await_link(&*other);
        if acl == Acl::Readable {
            await_value(&*other, "app/shop", Some("1"));
            let refused = write(&*other, "app/shop", "2", Expect::Any);
            assert!(matches!(refused, Err(RegistryError::Failed { may_have_happened: false, .. })));
        }
    }
}

#[test]
fn a_prefix_below_what_a_user_may_not_change_is_enough() {
    let (server, files) = (ZooKeeperServer::start(), Files::new());
    let mut admin = Kazoo::connect(&server, SESSION_TIMEOUT);
    admin.create("/eu/edge/caas", b"", false).unwrap();
    admin.forbid("/eu").unwrap();
    let access = Access { user: Some(files.user("sluice", PASSWORD)), tls: None };
    let registry = connect_as(zookeeper(&server, access, Acl::Private, "/eu/edge/caas"));
    await_link(&*registry);
    write(&*registry, "app/shop", "1", Expect::Absent).unwrap();
    await_value(&*registry, "app/shop", Some("1"));
}

#[test]
fn zookeeper_is_spoken_to_in_tls_and_proves_who_it_is() {
    let files = Files::new();
    let pem = fs::read_to_string(files.issue("server")).unwrap();
    let client = files.issue("client");
    let server = ZooKeeperServer::start_with_tls(&pem, &files.path("ca.crt"));
    let connect = |tls: Tls| {
        connect_as(zookeeper::Settings {
            session_timeout: SESSION_TIMEOUT,
            access: Access { user: None, tls: Some(tls) },
            ..zookeeper::Settings::new(vec![server.tls_address().to_string()])
        })
    };
    let registry = connect(files.tls(Some(&client)));
    await_link(&*registry);
    write(&*registry, "app/shop", "1", Expect::Any).unwrap();
    await_value(&*registry, "app/shop", Some("1"));
    let mut kazoo = Kazoo::connect(&server, SESSION_TIMEOUT);
    kazoo.set("/caas/app/shop", b"2").unwrap();
    await_state(&*registry, "what comes in clear text elsewhere", |state| {
        state.entries.get("app/shop").is_some_and(|entry| &entry.value[..] == b"2")
    });

    let other = Files::new();
    let unproven = Tls { ca: Some(other.path("ca.crt")), ..files.tls(Some(&client)) };
    await_refusal(&*connect(unproven), "cannot connect");
    await_refusal(&*connect(files.tls(None)), "cannot connect");
}
