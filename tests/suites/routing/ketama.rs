//! The same keys at the same endpoints as a real nginx has them.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, Program};

const KEYS: usize = 300;
const WEIGHTS: [u16; 5] = [3, 1, 2, 1, 6];
/// Of the gateway, of nginx; apps are named by the former's first word.
const HASHED: [(&str, &str); 4] = [
    ("uri", "$request_uri"),
    ("client", "$remote_addr"),
    ("header:X-Key", "$http_x_key"),
    ("cookie:session", "$cookie_session"),
];

fn host(key: &str) -> String {
    format!("{}.test", key.split(':').next().unwrap_or_default())
}

/// A request that has `number` in all places that are hashed.
fn request(host: &str, number: usize) -> String {
    let client = format!("198.51.{}.{}", number / 200, number % 200 + 1);
    format!(
        "GET /{number}?a=/../b%20c HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Key: key {number}\r\n\
         Cookie: a=b; session=s{number}\r\nX-Forwarded-For: {client}\r\n\r\n"
    )
}

struct Nginx {
    socket: PathBuf,
    _program: Program,
    folder: TempDir,
}

impl Nginx {
    /// Says so past the test runner's capture where there is none: what was skipped must not look as if it had passed.
    fn is_installed() -> bool {
        let found = Command::new("nginx").arg("-v").output();
        let Err(why) = found else { return true };
        writeln!(std::io::stderr(), "SKIPPED keys_are_where_nginx_has_them: no nginx: {why}").ok();
        false
    }

    fn in_front_of(servers: &[(SocketAddr, u16)]) -> Self {
        let folder = TempDir::with_prefix("sluice-nginx-").expect("a folder can be made");
        let servers: String = servers
            .iter()
            .map(|(address, weight)| format!("    server {address} weight={weight} max_fails=0;\n"))
            .collect();
        let sites: String = HASHED
            .iter()
            .map(|(key, variable)| {
                let host = host(key);
                format!(
                    "  upstream {host} {{\n    hash {variable} consistent;\n{servers}  }}\n  server {{\n    listen unix:web;\n    \
                     server_name {host};\n    location / {{ proxy_pass http://{host}; }}\n  }}\n"
                )
            })
            .collect();
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("  {name}_temp_path temp;\n"))
            .collect();
        let socket = folder.path().join("web");
        let sites = sites.replace("unix:web", &format!("unix:{}", socket.display()));
        let text = format!(
            "daemon off;\nmaster_process off;\npid pid;\nerror_log errors;\nevents {{}}\nhttp {{\n  access_log off;\n\
             {folders}  set_real_ip_from unix:;\n  real_ip_header X-Forwarded-For;\n  proxy_http_version 1.1;\n{sites}}}\n"
        );
        fs::write(folder.path().join("nginx.conf"), text).expect("the folder is ours");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
        let mut program = Program::start(&mut command);
        program.wait_for("nginx listens", |_| UnixStream::connect(&socket).ok());
        Self { socket, _program: program, folder }
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("errors")).unwrap_or_default()
    }

    /// Who answers.
    fn ask(&self, host: &str, number: usize) -> String {
        let mut wire = UnixStream::connect(&self.socket).expect("nginx listens");
        wire.set_read_timeout(Some(DEADLINE)).expect("the socket is ours");
        wire.write_all(request(host, number).as_bytes()).expect("nginx reads");
        let mut answer = String::new();
        wire.read_to_string(&mut answer).expect("nginx answers and closes");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a response");
        assert!(head.starts_with("HTTP/1.1 200"), "{number}: {head}: {}", self.errors());
        body.to_owned()
    }
}

fn of_gateway(gateway: &Gateway, host: &str, number: usize) -> String {
    let mut client = gateway.connect();
    client.send(request(host, number));
    let response = client.receive();
    assert_eq!(response.status, 200, "{}", response.text());
    response.text()
}

#[track_caller]
fn assert_same(gateway: &Gateway, nginx: &Nginx, gone: Option<&str>) {
    for (key, _) in HASHED {
        let host = host(key);
        let mut counts = [0; WEIGHTS.len()];
        for number in 0..KEYS {
            let (ours, theirs) = (of_gateway(gateway, &host, number), nginx.ask(&host, number));
            assert_eq!(ours, theirs, "{key}, key {number}, without {gone:?}");
            counts[ours[1..].parse::<usize>().expect("a number")] += 1;
        }
        for (number, count) in counts.into_iter().enumerate() {
            assert_eq!(count > 0, gone != Some(&format!("c{number}")), "{key}: {counts:?}");
        }
    }
}

#[test]
fn keys_are_where_nginx_has_them() {
    if !Nginx::is_installed() {
        return;
    }
    let names: Vec<_> = (0..WEIGHTS.len()).map(|number| format!("c{number}")).collect();
    let endpoints: Vec<_> = names.iter().map(|name| Endpoint::start(name)).collect();
    let servers: Vec<_> = endpoints.iter().map(Endpoint::address).zip(WEIGHTS).collect();
    let config = HASHED.iter().fold(Config::new().trusting("127.0.0.1"), |config, (key, _)| {
        let app = App::new(key.split(':').next().unwrap_or_default()).host(&host(key));
        let app =
            app.line(&format!("balance = {{ kind = \"hash\", key = {key:?}, algorithm = \"ketama\" }}"));
        let app = names
            .iter()
            .zip(&servers)
            .fold(app, |app, (name, (address, weight))| app.weighted("v1", name, *address, *weight));
        config.app(&app)
    });
    let (gateway, nginx) = (Gateway::start(&config), Nginx::in_front_of(&servers));
    assert_same(&gateway, &nginx, None);
    // Who stands in for one that refuses connections is the same one, too.
    endpoints[0].stop();
    assert_same(&gateway, &nginx, Some("c0"));
}
