//! Routes: listed, explained, compared, changed, and brought back.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, HeldPort, eventually, finish};

use crate::ask::{command, json, line, shown};

const SHOP: &str = "id = \"shop\"\nhosts = [\"shop.test\"]\nsplit = { v1 = 90, v2 = 10 }\n";

fn file(gateway: &Gateway, name: &str, text: &str) -> String {
    gateway.put_file(&format!("mine/{name}"), text);
    gateway.folder().join("mine").join(name).display().to_string()
}

#[test]
fn routes_are_listed_and_explained_with_what_lost() {
    let (up, other) = (Endpoint::start("up"), Endpoint::start("other"));
    let dead = HeldPort::tcp();
    let shop = App::new("shop").host("shop.test").host("*.shop.test").path("/api").probed();
    let shop = shop.endpoint("v1", "c1", up.address()).endpoint("v1", "c2", dead.address());
    let blog = App::new("blog").host("shop.test").path("/api").endpoint("v1", "c1", other.address());
    let gateway = Gateway::start(&Config::new().app(&shop).app(&blog));
    eventually(DEADLINE, "the dead one is found", || {
        shown(&gateway, 0, &["endpoints", "ls", "shop"]).contains("down")
    });
    let listed = shown(&gateway, 0, &["routes", "ls"]);
    assert_eq!(listed.lines().next().unwrap(), "HOST         PATH  APP   SPLIT  ENDPOINTS     NOTE");
    assert_eq!(line(&listed, "*.shop.test"), "*.shop.test /api shop 1 down, 1 up");
    let of_shop = json(&gateway, 0, &["routes", "ls", "shop"]);
    let routes = of_shop["routes"].as_array().unwrap();
    assert_eq!((routes.len(), &routes[1]["held_by"]), (2, &"blog".into()));
    assert!(shown(&gateway, 1, &["routes", "ls", "nobody"]).contains("there is no app nobody"));

    let told = shown(&gateway, 0, &["routes", "explain", "http://x.shop.test/api/v1?q", "-H", "X-User: 7"]);
    assert!(told.contains("goes to app shop, for /api/v1?q"), "{told}");
    assert!(line(&told, "v1/c2").contains("down 1 probe failed: "), "{told}");
    assert!(line(&told, "v1/c1").ends_with("up 1 100.0 %"), "{told}");
    let lost = json(&gateway, 0, &["routes", "explain", "shop.test/api"]);
    let verdicts: Vec<_> =
        lost["routes"].as_array().unwrap().iter().map(|step| step["verdict"].clone()).collect();
    assert_eq!((&lost["app"], verdicts), (&"blog".into(), vec!["chosen".into(), "claimed_later".into()]));
    let wrong = shown(&gateway, 1, &["routes", "explain", "ftp://shop.test", "--client", "me"]);
    assert!(wrong.contains("url: \"ftp\" is neither http nor https"), "{wrong}");
    assert!(wrong.contains("client: is no address; write one such as 192.0.2.7"), "{wrong}");
    let wrong = json(&gateway, 1, &["routes", "explain", "shop.test", "--listener", "web2"]);
    assert_eq!(wrong["error"]["code"], 1, "{wrong}");
}

#[test]
fn files_are_compared_applied_and_rolled_back() {
    let gateway = Gateway::start(&Config::new());
    let shop = file(&gateway, "shop.toml", SHOP);
    let differs = shown(&gateway, 3, &["routes", "diff", &shop]);
    assert!(differs.starts_with("+ app/shop (create)\n") && differs.contains("+ split"), "{differs}");
    let dry = shown(&gateway, 0, &["routes", "apply", &shop, "--dry-run"]);
    assert!(dry.ends_with("nothing is written: a dry run\n"), "{dry}");
    assert_eq!(json(&gateway, 0, &["routes", "history"])["records"], serde_json::json!([]));
    let done = shown(&gateway, 0, &["routes", "apply", &shop, "-m", "opening", "--wait"]);
    assert!(done.contains("written as revision 1\napplied by 1 of 1 gateways\n"), "{done}");
    assert_eq!(gateway.get("shop.test", "/").reason(), Some("no_endpoint"));
    assert_eq!(shown(&gateway, 0, &["routes", "diff", &shop]), "nothing differs\n");
    assert!(shown(&gateway, 0, &["routes", "apply", &shop]).contains("nothing differs"));

    // A later one, of two apps at once, from standard input too.
    let entries = r#"{"app/shop": {"hosts": ["shop.test"]}, "app/blog": {"hosts": ["blog.test"]}}"#;
    let admin = format!("http://{}", gateway.admin());
    let piped = finish(&mut command(&admin, &["routes", "apply", "-", "-m", "two"]), entries, DEADLINE);
    assert_eq!(piped.code, Some(0), "{}", piped.text());
    assert!(
        piped.stdout.contains("~ app/shop (update)") && piped.stdout.contains("- split"),
        "{}",
        piped.stdout
    );
    let history = shown(&gateway, 0, &["routes", "history"]);
    assert!(
        line(&history, "2 ").ends_with("loopback update app/shop, create app/blog two")
            || line(&history, "2 ").ends_with("loopback create app/blog, update app/shop two"),
        "{history}"
    );
    let records = json(&gateway, 0, &["routes", "history", "--limit", "1"]);
    let record = &records["records"][0];
    assert_eq!(
        (&record["revision"], &record["author"], &record["message"]),
        (&2.into(), &"loopback".into(), &"two".into())
    );
    let one = shown(&gateway, 0, &["routes", "history", "2"]);
    assert!(one.starts_with("revision 2, ") && one.contains("+ app/blog (create)"), "{one}");

    // Pruned: what no file names goes, within the kinds that are named.
    let pruned = shown(&gateway, 3, &["routes", "diff", "--prune", &shop]);
    assert!(pruned.contains("- app/blog (delete)") && pruned.contains("~ app/shop"), "{pruned}");

    let dry = shown(&gateway, 0, &["routes", "rollback", "1", "--dry-run"]);
    assert!(dry.contains("- app/blog (delete)"), "{dry}");
    let back = shown(&gateway, 0, &["routes", "rollback", "1", "-m", "not ready", "--wait"]);
    assert!(back.contains("written as revision 3\napplied by 1 of 1 gateways"), "{back}");
    assert_eq!(gateway.get("blog.test", "/").reason(), Some("unknown_host"));
    let history = shown(&gateway, 0, &["routes", "history"]);
    assert!(line(&history, "3 ").ends_with("back to 1: not ready"), "{history}");
    shown(&gateway, 1, &["routes", "rollback", "77"]);
    shown(&gateway, 1, &["routes", "history", "77"]);
}

#[test]
fn mistakes_name_file_line_field_and_fix_and_change_nothing() {
    let gateway = Gateway::start(&Config::new());
    let shop = file(&gateway, "shop.toml", SHOP);
    let wrong = file(&gateway, "wrong.toml", "id = \"blog\"\nhostz = [\"x\"]\nhealth = 3\n");
    let said = shown(&gateway, 1, &["routes", "apply", &shop, &wrong]);
    assert!(
        said.contains(&format!("{wrong}:2: hostz: ")) && said.contains("did you mean \"hosts\"?"),
        "{said}"
    );
    assert!(said.contains(&format!("{wrong}:3: health: ")), "{said}");
    let listed = App::new("blog").host("x.test").endpoint("v1", "c1", ([127, 0, 0, 1], 1).into()).toml();
    let listed = file(&gateway, "listed.toml", &listed);
    assert!(shown(&gateway, 1, &["routes", "apply", &listed]).contains("take the [[endpoint]] sections out"));
    // What only the gateway knows.
    let tls =
        file(&gateway, "tls.toml", "id = \"blog\"\nhosts = [\"b.test\"]\ntls = { profile = \"nowhere\" }\n");
    let said = json(&gateway, 1, &["routes", "apply", &shop, &tls]);
    assert!(said["error"]["mistakes"][0]["message"].as_str().unwrap().contains("nowhere"), "{said}");
    assert!(
        shown(&gateway, 1, &["routes", "apply", "/nowhere.toml"]).contains("/nowhere.toml: No such file")
    );
    assert!(shown(&gateway, 1, &["routes", "apply", &shop, &shop]).contains("is in another file too"));
    assert_eq!(json(&gateway, 0, &["routes", "history"])["records"], serde_json::json!([]));
}

#[test]
fn status_tells_of_the_fleet() {
    let gateway = Gateway::start(&Config::new().id("gw-7"));
    eventually(DEADLINE, "it reports", || {
        gateway.admin_json("/v1/revisions")["gateways"].as_array().is_some_and(|all| !all.is_empty())
    });
    gateway.put_file("apps/bad.toml", "id = \"bad\"\nhostz = []\n");
    eventually(DEADLINE, "the bad file is seen", || shown(&gateway, 0, &["status"]).contains("hostz"));
    let status = json(&gateway, 0, &["status"]);
    assert_eq!((&status["registry"], &status["agrees"]), (&"connected".into(), &true.into()));
    assert_eq!(status["gateways"][0]["id"], "gw-7");
    assert!(shown(&gateway, 0, &["status"]).starts_with("registry  connected, revision "));
}
