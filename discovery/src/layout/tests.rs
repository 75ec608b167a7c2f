use super::*;

fn key(path: &str) -> Key {
    Key::parse(path).unwrap()
}

fn instance_key() -> InstanceKey {
    InstanceKey { version: VersionId::parse("v1").unwrap(), instance: InstanceId::parse("c1").unwrap() }
}

fn read(value: &[u8]) -> Result<Endpoint, String> {
    parse_address_value("service/address/shop/v1/c1", instance_key(), value)
        .map_err(|mistakes| mistakes.to_string())
}

#[test]
fn keys_mean_addresses_specs_or_nothing_of_ours() {
    let app = AppId::parse("shop").unwrap();
    assert_eq!(Place::of(&key("app/shop")), Ok(Place::Spec(app.clone())));
    let address = Place::Address { app: app.clone(), key: instance_key() };
    assert_eq!(Place::of(&key("service/address/shop/v1/c1")), Ok(address));
    let word = Place::Word { app: app.clone(), key: instance_key() };
    assert_eq!(Place::of(&key("operator/shop/v1/c1")), Ok(word));
    assert_eq!(Place::of(&key("route/x")), Ok(Place::Route(RouteId::parse("x").unwrap())));
    let route = AppId::of_route(&RouteId::parse("x").unwrap());
    assert_eq!((spec_key(&route), spec_key(&app)), (key("route/x"), key("app/shop")));
    assert!(AppId::parse(route.as_str()).is_err(), "no app can have its name");
    for other in [
        "operator/shop/v1",
        "service",
        "service/address",
        "service/address/shop",
        "service/address/shop/v1",
        "app",
        "route",
        "vip/10.0.0.1",
        "unheard/of",
    ] {
        assert_eq!(Place::of(&key(other)), Ok(Place::Other), "{other}");
    }
    for (wrong, names) in [
        ("service/address/shop/v1/c1/x", Some(&app)),
        ("service/address/shop/v 1/c1", Some(&app)),
        ("service/address/sh op/v1/c1", None),
        ("service/addresses/shop", None),
        ("app/shop/x", Some(&app)),
        ("operator/shop/v1/c1/x", Some(&app)),
        ("operator/shop/v 1/c1", Some(&app)),
        ("app/sh op", None),
        ("route/x/y", None),
        ("route/x y", None),
    ] {
        let misplaced = Place::of(&key(wrong)).unwrap_err();
        assert_eq!(misplaced.app.as_ref(), names, "{wrong}: {}", misplaced.reason);
    }
}

#[test]
fn plain_and_json_values_read_alike() {
    let plain = read(b" 10.10.10.101:25701\n").unwrap();
    assert_eq!(plain.address, "10.10.10.101:25701".parse().unwrap());
    assert_eq!((plain.weight, plain.origin, plain.protocol), (1, Origin::Registry, Protocol::Http1));
    assert_eq!(read(br#"{"address": "10.10.10.101:25701"}"#).unwrap(), plain);
    let full = read(
        br#" {"address": "[::1]:1", "weight": 100, "zone": "a", "protocol": "tcp", "pid": 7, "tags": []}"#,
    );
    let full = full.unwrap();
    assert_eq!((full.weight, full.zone.as_deref(), full.protocol), (100, Some("a"), Protocol::Tcp));
}

#[test]
fn bad_values_say_why() {
    let at = "service/address/shop/v1/c1";
    for (value, wanted) in [
        (&b""[..], "\"\" is no address; write IP:port, such as 10.0.0.1:8080 or [2001:db8::1]:8080"),
        (
            b"shop:80",
            "\"shop:80\" is no address: host names are not looked up; write IP:port, such as 10.0.0.1:8080 or [2001:db8::1]:8080",
        ),
        (b"\xff", "invalid utf-8 sequence of 1 bytes from index 0"),
        (b"{\"weight\": 1}", "address: is missing; write address = \"10.0.0.1:8080\""),
        (
            b"{\"address\": \"10.0.0.1:80\", \"weight\": -1}",
            "weight: must be an integer from 0 to 65535, not the integer -1",
        ),
        (
            b"{\"address\": \"10.0.0.1:80\", \"protocol\": \"h3\"}",
            "protocol: \"h3\" is none of http1, h2, tcp, udp; did you mean \"h2\"?",
        ),
    ] {
        assert_eq!(read(value).unwrap_err(), format!("{at}: {wanted}"));
    }
}

#[test]
fn what_a_registrar_writes_reads_back() {
    let plain = EndpointRegistration::at("10.0.0.1:80".parse().unwrap());
    assert_eq!(address_value(&plain), "10.0.0.1:80");
    let full = EndpointRegistration {
        address: "[2001:db8::1]:80".parse().unwrap(),
        weight: 0,
        zone: Some("b\"".into()),
        is_backup: true,
        protocol: Protocol::Tcp,
    };
    for registration in [plain, full] {
        let endpoint = read(&address_value(&registration)).unwrap();
        let EndpointRegistration { address, weight, zone, protocol, is_backup } = registration;
        assert_eq!(
            (endpoint.address, endpoint.weight, endpoint.zone, endpoint.protocol, endpoint.is_backup),
            (address, weight, zone, protocol, is_backup)
        );
    }
}

#[test]
fn keys_of_a_registrar_mean_what_it_registered() {
    // The longest ids that there are.
    let name = "x".repeat(128);
    let app = AppId::parse(&name).unwrap();
    let key = InstanceKey {
        version: VersionId::parse(&name).unwrap(),
        instance: InstanceId::parse(&name).unwrap(),
    };
    let written = address_key(&app, &key.version, &key.instance);
    assert_eq!(Place::of(&written), Ok(Place::Address { app: app.clone(), key }));
    assert_eq!(Place::of(&app_key(&app)), Ok(Place::Spec(app)));
}

#[test]
fn an_operators_word_is_read_as_it_was_written() {
    let at = "operator/shop/v1/c1";
    let read = |value: &[u8]| parse_word_value(at, value).map_err(|mistakes| mistakes.to_string());
    for state in AdminState::ALL {
        for weight in [None, Some(0), Some(u16::MAX)] {
            let word = OperatorWord { state, weight };
            match word_value(word) {
                Some(value) => assert_eq!(read(&value), Ok(word)),
                None => assert!(word.says_nothing()),
            }
        }
    }
    let app = AppId::parse("shop").unwrap();
    assert_eq!(word_key(&app, &instance_key()).as_str(), at);
    for (value, wanted) in [
        (
            &br#"{"state": "drian"}"#[..],
            "state: \"drian\" is none of ready, drain, maintenance; did you mean \"drain\"?",
        ),
        (br#"{"weight": 65536}"#, "weight: must be an integer from 0 to 65535, not the integer 65536"),
    ] {
        assert_eq!(read(value).unwrap_err(), format!("{at}: {wanted}"));
    }
    assert!(read(br#"{"wieght": 1}"#).unwrap_err().contains("did you mean \"weight\"?"));
}
