//! An authority, by openssl.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tests::{DEADLINE, finish};

pub struct Authority {
    folder: TempDir,
}

/// When a certificate holds, as `openssl ca` writes it.
pub const NOW: (&str, &str) = ("20200101000000Z", "20900101000000Z");
pub const PAST: (&str, &str) = ("20010101000000Z", "20020101000000Z");

impl Authority {
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
        let authority = Self { folder };
        authority.run(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "3650",
            "-subj",
            "/CN=Test CA",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ]);
        authority.put("index.txt", "");
        authority.put("serial", "1000\n");
        authority.put(
            "ca.cnf",
            "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ncertificate=ca.crt\n\
             private_key=ca.key\ndefault_md=sha256\npolicy=any\nunique_subject=no\ncopy_extensions=copy\n\
             [any]\ncommonName=supplied\n",
        );
        authority
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub fn pem(&self) -> String {
        self.read("ca.crt")
    }

    /// Chain and key of a certificate for `host` in one PEM, as operators keep them.
    pub fn issue(&self, host: &str) -> String {
        self.issue_for(host, host, NOW, "ec")
    }

    /// `kind` is `ec` or `rsa`; `name` only tells files apart.
    pub fn issue_for(&self, name: &str, host: &str, (start, end): (&str, &str), kind: &str) -> String {
        let (key, request, chain) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        let key_of: &[&str] = match kind {
            "ec" => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
            _ => &["-newkey", "rsa:2048"],
        };
        let (subject, names) = (format!("/CN={host}"), format!("subjectAltName=DNS:{host}"));
        let making = [
            "req", "-new", "-nodes", "-subj", &subject, "-addext", &names, "-keyout", &key, "-out", &request,
        ];
        self.run(&[&making[..], key_of].concat());
        self.run(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            "ca.cnf",
            "-startdate",
            start,
            "-enddate",
            end,
            "-in",
            &request,
            "-out",
            &chain,
        ]);
        self.read(&chain) + &self.read(&key)
    }

    /// Certificate and key of an issued one, for clients that want a file each.
    pub fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        let path = |suffix: &str| self.folder.path().join(format!("{name}.{suffix}"));
        (path("crt"), path("key"))
    }

    /// What the authority says of an issued one, in DER.
    pub fn ocsp(&self, name: &str) -> Vec<u8> {
        let chain = format!("{name}.crt");
        self.run(&["ocsp", "-issuer", "ca.crt", "-cert", &chain, "-no_nonce", "-reqout", "request.der"]);
        self.run(&[
            "ocsp",
            "-index",
            "index.txt",
            "-rsigner",
            "ca.crt",
            "-rkey",
            "ca.key",
            "-CA",
            "ca.crt",
            "-reqin",
            "request.der",
            "-respout",
            "response.der",
            "-ndays",
            "7",
        ]);
        std::fs::read(self.folder.path().join("response.der")).expect("openssl wrote it")
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let report = finish(command.current_dir(self.folder.path()).args(arguments), "", DEADLINE);
        assert_eq!(report.code, Some(0), "openssl {arguments:?}: {}", report.text());
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("the folder is ours");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).expect("openssl wrote it")
    }
}
