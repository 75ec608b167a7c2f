//! Python's `websockets`, client and server, over HTTP/1.1 with and without TLS.

use serde_json::{Value, json};
use tests::{App, Config, DEADLINE, Program, eventually, python};

use crate::front::{Front, HOST};
use crate::script::{ScriptServer, client, path};

const SCHEMES: [&str; 2] = ["ws", "wss"];

fn server(name: &str) -> ScriptServer {
    ScriptServer::start("websocket_server.py", &[name])
}

fn app(server: &ScriptServer) -> App {
    App::new("chat").host(HOST).endpoint("v1", "c1", server.address)
}

fn front(server: &ScriptServer) -> Front {
    Front::start(Config::new().app(&app(server)))
}

/// What the client is told: where to go, and whom to trust.
fn target(front: &Front, scheme: &str) -> [String; 2] {
    [front.url(scheme, "/chat?room=1"), front.certificate()]
}

#[track_caller]
fn play(front: &Front, scheme: &str, scenario: &str) -> Value {
    let [url, certificate] = target(front, scheme);
    client("websocket_client.py", &[scenario.to_owned(), url, certificate])
}

#[test]
fn messages_of_every_kind_come_back_as_they_were() {
    let server = server("one");
    let front = front(&server);
    for scheme in SCHEMES {
        let report = play(&front, scheme, "echo");
        assert_eq!((&report["sent"], &report["same"]), (&json!(7), &json!(7)), "{report}");
        assert_eq!(report["subprotocol"], "chat.test");
        assert_eq!(report["extensions"], json!(["permessage-deflate"]));
        // Field names are compared without regard to case.
        let headers = report["headers"].as_object().expect("the server sent its request's fields");
        let of = |name: &str| {
            let field = headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
            field.map(|(_, value)| value.clone())
        };
        let port = front.address(scheme).port();
        assert_eq!(of("host"), Some(json!(format!("{HOST}:{port}"))));
        assert_eq!(of("x-forwarded-proto"), Some(json!(if scheme == "wss" { "https" } else { "http" })));
    }
}

#[test]
fn a_message_of_a_mebibyte_comes_back_as_it_was() {
    let server = server("one");
    let front = front(&server);
    for scheme in SCHEMES {
        assert_eq!(play(&front, scheme, "large"), json!({"same": true}));
    }
}

#[test]
fn pings_are_answered_by_the_endpoint() {
    let server = server("one");
    let front = front(&server);
    for scheme in SCHEMES {
        assert_eq!(play(&front, scheme, "ping"), json!({"pongs": 3}));
    }
}

#[test]
fn whoever_closes_is_understood_by_the_other() {
    let server = server("one");
    let front = front(&server);
    for scheme in SCHEMES {
        let by_server = json!({"code": 4001, "reason": "had enough"});
        assert_eq!(play(&front, scheme, "closed_by_server"), by_server);
        server.wait_for_event("the server has closed", |event| *event == by_server);
        let by_client = json!({"code": 4002, "reason": "leaving"});
        assert_eq!(play(&front, scheme, "closed_by_client"), by_client);
        server.wait_for_event("the server was told", |event| *event == by_client);
    }
    let open = || front.gateway.metrics().count("sluice_tunnels_open", &[]);
    eventually(DEADLINE, "no tunnel is left", || open() == 0);
}

#[test]
fn fifty_connections_do_not_disturb_each_other() {
    let server = server("one");
    let front = front(&server);
    for scheme in SCHEMES {
        assert_eq!(play(&front, scheme, "crowd"), json!({"same": 50 * 20}));
    }
}

/// Sends a line over the connection that stays, and returns what came back.
#[track_caller]
fn ask(staying: &mut Program, line: &str) -> Value {
    staying.say(line);
    staying.wait_for_line("the answer comes", |text| {
        let reply: Value = serde_json::from_str(text).ok()?;
        (reply["line"] == line).then(|| reply["answer"].clone())
    })
}

#[test]
fn a_connection_outlives_every_change_of_its_route() {
    let (former, latter) = (server("former"), server("latter"));
    let front = front(&former);
    let [url, certificate] = target(&front, "wss");
    let start = || {
        let mut command = python(&path("websocket_client.py"));
        let mut staying = Program::start(command.args(["stay", &url, &certificate]));
        staying.wait_for_line("the connection is open", |line| line.contains("open").then_some(()));
        staying
    };
    let mut first = start();
    assert_eq!(ask(&mut first, "before"), "before");
    front.gateway.put_app(&app(&latter));
    // New connections go elsewhere as soon as the change is in force.
    let endpoint = latter.address.to_string();
    let in_force = || front.gateway.admin_get("/v1/endpoints?app=chat").text().contains(&endpoint);
    eventually(DEADLINE, "the change is in force", in_force);
    let mut second = start();
    assert_eq!(ask(&mut second, "who"), "latter");
    assert_eq!(ask(&mut first, "who"), "former");
    // Nor does it matter that the app is gone.
    front.gateway.remove_app("chat");
    eventually(DEADLINE, "the app is gone", || front.gateway.get(HOST, "/").status == 404);
    assert_eq!(play(&front, "wss", "refused"), json!({"status": 404, "reason": "unknown_host"}));
    assert_eq!(ask(&mut first, "after"), "after");
    assert_eq!(ask(&mut second, "after"), "after");
}

#[test]
fn an_app_that_allows_no_upgrade_refuses_one() {
    let server = server("one");
    let front = Front::start(Config::new().app(&app(&server).line("upgrades = []")));
    for scheme in SCHEMES {
        let refused = json!({"status": 403, "reason": "upgrade_not_allowed"});
        assert_eq!(play(&front, scheme, "refused"), refused);
    }
}

#[test]
fn an_endpoint_that_dies_ends_its_connections() {
    let mut server = server("one");
    let front = front(&server);
    let [url, certificate] = target(&front, "ws");
    let mut staying = Program::start(python(&path("websocket_client.py")).args(["stay", &url, &certificate]));
    staying.wait_for_line("the connection is open", |line| line.contains("open").then_some(()));
    server.program.kill();
    eventually(DEADLINE, "no tunnel is left", || {
        front.gateway.metrics().count("sluice_tunnels_open", &[]) == 0
    });
    // The client notices when it next wants something.
    staying.say("anybody there?");
    eventually(DEADLINE, "the client gives up", || staying.exited().is_some_and(|status| !status.success()));
}
