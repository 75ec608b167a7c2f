//! Open tunnels are listed, and closed by hand without the others.

use serde_json::Value;
use tests::{App, Config, DEADLINE, Gateway, RawClient, RawEndpoint, Response, eventually};

/// Answers every upgrade, and echoes.
fn echoing() -> RawEndpoint {
    RawEndpoint::start_unrecorded(|wire, _| {
        let first = wire.some()?;
        if first.starts_with(b"GET") {
            wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")?;
        } else {
            wire.send(&first)?;
        }
        loop {
            let bytes = wire.some()?;
            if bytes.is_empty() {
                return Ok(());
            }
            wire.send(&bytes)?;
        }
    })
}

#[track_caller]
fn echoes(client: &mut RawClient, text: &[u8]) {
    client.send(text);
    assert_eq!(client.wire.exactly(text.len()).expect("the echo comes"), text);
}

fn upgraded(gateway: &Gateway) -> RawClient {
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(client.receive_head().status, 101);
    client
}

fn close(gateway: &Gateway, query: &str) -> Response {
    let mut admin = RawClient::connect(gateway.admin());
    admin.send(format!("DELETE /v1/tunnels{query} HTTP/1.1\r\nHost: admin\r\n\r\n"));
    admin.receive_for("DELETE")
}

#[track_caller]
fn closed(gateway: &Gateway, query: &str) -> u64 {
    let response = close(gateway, query);
    assert_eq!(response.status, 200, "{}", response.text());
    let answer: Value = serde_json::from_slice(&response.body).expect("an admin answer is JSON");
    answer["closed"].as_u64().expect("a number")
}

fn listed(gateway: &Gateway, query: &str) -> Vec<Value> {
    let answer = gateway.admin_json(&format!("/v1/tunnels{query}"));
    let items = answer["items"].as_array().expect("a list").clone();
    assert_eq!(answer["total"].as_u64(), Some(items.len() as u64));
    items
}

#[test]
fn tunnels_of_every_kind_are_listed_and_closed_without_the_others() {
    let endpoints = [echoing(), echoing()];
    let web = App::new("web").host("web.test").line("connect = true");
    let web = web.endpoint("v1", "c1", endpoints[0].address());
    let db = App::new("db").tcp_endpoint("v1", "d1", endpoints[0].address());
    let db = db.tcp_endpoint("v1", "d2", endpoints[1].address());
    let tcp = ["protocol = \"tcp\"", "app = \"db\""];
    let gateway = Gateway::start(&Config::new().app(&web).app(&db).listener("db", &tcp));
    let mut chat = upgraded(&gateway);
    let mut connect = gateway.connect();
    connect.send("CONNECT web.test:443 HTTP/1.1\r\nHost: web.test:443\r\n\r\n");
    assert_eq!(connect.receive_head().status, 200);
    let mut raw: Vec<_> = (0..4).map(|_| RawClient::connect(gateway.listener("db"))).collect();
    for client in raw.iter_mut().chain([&mut chat, &mut connect]) {
        echoes(client, b"one");
    }

    let all = listed(&gateway, "");
    assert_eq!(all.len(), 6);
    let kinds = |app: &str| {
        let items = listed(&gateway, &format!("?app={app}"));
        let mut kinds: Vec<_> =
            items.iter().map(|item| item["kind"].as_str().expect("text").to_owned()).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(
        (kinds("web"), kinds("db")),
        (vec!["chat".into(), "connect".into()], vec!["tcp".to_owned(); 4])
    );
    let of_d1 = listed(&gateway, "?app=db&instance=d1");
    // Each worker takes turns for itself.
    let count = of_d1.len();
    assert!((1..4).contains(&count), "{count} of 4");
    assert_eq!((of_d1[0]["listener"].as_str(), of_d1[0]["version"].as_str()), (Some("db"), Some("v1")));
    let address = endpoints[0].address().to_string();
    assert!(of_d1.iter().all(|item| item["address"].as_str() == Some(&address)));

    assert_eq!(closed(&gateway, "?app=db&instance=d1"), count as u64);
    eventually(DEADLINE, "they are gone", || listed(&gateway, "?app=db").len() == 4 - count);
    let ended = raw.iter_mut().filter_map(|client| {
        let alive = client.wire.send(b"two").and_then(|()| client.wire.exactly(3)).is_ok();
        (!alive).then_some(())
    });
    assert_eq!(ended.count(), count);
    echoes(&mut chat, b"still there");
    let id = |kind: &str| {
        let items = listed(&gateway, "?app=web");
        let item = items.into_iter().find(|item| item["kind"].as_str() == Some(kind)).expect("it is open");
        item["id"].as_str().expect("text").to_owned()
    };
    assert_eq!(closed(&gateway, &format!("?id={}", id("chat"))), 1);
    assert!(chat.is_ended());
    echoes(&mut connect, b"not me");
    let reasons = |app| {
        let labels = [("app", app), ("reason", "tunnel_closed")];
        gateway.metrics().count("sluice_requests_total", &labels)
    };
    eventually(DEADLINE, "they are counted", || (reasons("db"), reasons("web")) == (count as u64, 1));
}

#[test]
fn what_is_to_be_closed_has_to_be_said() {
    let endpoint = echoing();
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut chat = upgraded(&gateway);
    for query in ["", "?id=abc", "?app=..", "?application=all"] {
        assert_eq!(close(&gateway, query).status, 400, "{query}");
    }
    assert_eq!(closed(&gateway, "?app=other"), 0);
    assert_eq!(closed(&gateway, "?id=0-4000"), 0);
    echoes(&mut chat, b"still there");
}

#[test]
fn a_tunnel_of_a_removed_app_is_still_counted_listed_and_closed() {
    let endpoint = echoing();
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut chat = upgraded(&gateway);
    let open = || gateway.metrics().sum("sluice_tunnels_open", &[("app", "all"), ("version", "v1")]);
    assert_eq!(open(), Some(1.0));
    gateway.remove_app("all");
    eventually(DEADLINE, "the app is gone", || gateway.metrics().count("sluice_table_apps", &[]) == 0);
    assert_eq!(open(), Some(1.0));
    echoes(&mut chat, b"still there");
    // An app of the same name adds to it.
    gateway.put_app(&App::everything(endpoint.address()));
    eventually(DEADLINE, "the app is back", || gateway.metrics().count("sluice_table_apps", &[]) == 1);
    let _second = upgraded(&gateway);
    assert_eq!(open(), Some(2.0));
    gateway.remove_app("all");
    assert_eq!(closed(&gateway, "?app=all"), 2);
    assert!(chat.is_ended());
    eventually(DEADLINE, "nothing is left of it", || open().is_none());
}
