//! What stands in the registry and in app files was written by anybody.

use std::time::Duration;

use discovery::document::{MAX_REPORTED, Mistakes};
use discovery::layout::{self, EndpointRegistration, Place};
use discovery::registry::Key;
use discovery::spec;
use topology::{
    App, AppId, AppSpec, Condition, Endpoint, InstanceId, InstanceKey, PathMatch, RequestMatch, VersionId,
};

/// What `discovery::spec` documents as its bounds.
const MAX_HOSTS: usize = 1_000;
const MAX_PATHS: usize = 1_000;
const MAX_LISTENERS: usize = 100;
const MAX_PROFILE_NAME_BYTES: usize = 64;
const MAX_SPLIT: usize = 100;
const MAX_ENDPOINTS: usize = 10_000;
const MAX_PROBES_IN_A_ROW: u32 = 100;
const MAX_MATCHES: usize = 64;
const MAX_NAMED: usize = 8;

/// One line of the log: a place, a key path, and a message that quotes a part of the input.
const MAX_SHOWN_BYTES: usize = 4 << 10;

const NAME: &str = "source";

/// `input` as every kind of value and name that the registry and app files hold.
///
/// # Panics
/// When something is accepted that breaks a documented bound or is not read back as it was written, or
/// when what is said of a mistake is as large as the mistake.
pub fn registry_values(input: &[u8]) {
    address(input);
    word(input);
    spec_value(input);
    if let Ok(text) = std::str::from_utf8(input) {
        key(text);
        app_file(text);
    }
}

fn address(value: &[u8]) {
    let key = InstanceKey {
        version: VersionId::parse("v1").expect("a name"),
        instance: InstanceId::parse("c1").expect("a name"),
    };
    match layout::parse_address_value(NAME, key, value) {
        Ok(endpoint) => address_is_written_back(&endpoint),
        Err(mistakes) => are_short(&mistakes),
    }
}

fn address_is_written_back(endpoint: &Endpoint) {
    let registration = EndpointRegistration {
        address: endpoint.address,
        weight: endpoint.weight,
        zone: endpoint.zone.clone(),
        is_backup: endpoint.is_backup,
        protocol: endpoint.protocol,
    };
    assert!(endpoint.address.port() > 0 && !endpoint.address.ip().is_unspecified());
    let written = layout::address_value(&registration);
    let read = layout::parse_address_value(NAME, endpoint.key.clone(), &written).expect("we wrote it");
    assert_eq!(Endpoint { origin: endpoint.origin, ..read }, *endpoint);
}

fn word(value: &[u8]) {
    match layout::parse_word_value(NAME, value) {
        Ok(word) => {
            let written = layout::word_value(word);
            assert_eq!(written.is_none(), word.says_nothing());
            let read = written.map(|value| layout::parse_word_value(NAME, &value).expect("we wrote it"));
            assert_eq!(read.unwrap_or_default(), word);
        }
        Err(mistakes) => are_short(&mistakes),
    }
}

fn spec_value(value: &[u8]) {
    let app = AppId::parse("shop").expect("a name");
    match spec::parse_app_value(NAME, value, &app) {
        Ok(spec) => is_within_bounds(&spec),
        Err(mistakes) => are_short(&mistakes),
    }
    match spec::parse_route_value(NAME, value) {
        Ok(spec) => is_within_bounds(&spec),
        Err(mistakes) => are_short(&mistakes),
    }
}

fn app_file(text: &str) {
    let App { spec, endpoints, claimed, .. } = match spec::parse_app_file(NAME, text) {
        Ok(app) => app,
        Err(mistakes) => return are_short(&mistakes),
    };
    is_within_bounds(&spec);
    assert_eq!(claimed, 0);
    assert!(endpoints.len() <= MAX_ENDPOINTS);
    assert!(endpoints.windows(2).all(|pair| pair[0].key < pair[1].key), "ordered by key, each once");
    endpoints.iter().for_each(address_is_written_back);
}

fn is_within_bounds(spec: &AppSpec) {
    assert!(spec.hosts.len() <= MAX_HOSTS);
    assert!((1..=MAX_PATHS).contains(&spec.paths.len()));
    assert!(spec.listeners.as_ref().is_none_or(|names| (1..=MAX_LISTENERS).contains(&names.len())));
    if let Some(split) = &spec.split {
        assert!((1..=MAX_SPLIT).contains(&split.shares().len()));
        assert!(split.shares().iter().any(|(_, share)| *share > 0), "somebody gets the traffic");
    }
    if let Some(health) = &spec.health {
        assert!(health.path.starts_with('/'));
        assert!((Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&health.interval));
        assert!(
            (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&health.unhealthy_interval)
        );
        assert!((Duration::from_millis(1)..=health.interval).contains(&health.timeout));
        assert!(health.timeout <= health.unhealthy_interval);
        assert!(
            health.http.status.iter().all(|(first, last)| 200 <= *first && first <= last && *last <= 599)
        );
        assert!(!health.http.status.is_empty() && health.panic_threshold <= 100);
        assert!((1..=MAX_PROBES_IN_A_ROW).contains(&health.rise));
        assert!((1..=MAX_PROBES_IN_A_ROW).contains(&health.fall));
    }
    if let Some(tls) = &spec.tls {
        assert!((1..=MAX_PROFILE_NAME_BYTES).contains(&tls.profile.len()));
        let name = tls.server_name.as_deref().map(topology::HostPattern::parse);
        assert!(matches!(name, None | Some(Ok(topology::HostPattern::Exact(_)))));
    }
    if let Some(matches) = &spec.matches {
        matches_are_written_back(matches);
    }
    for host in &spec.hosts {
        let shown = host.to_string();
        assert_eq!(topology::HostPattern::parse(&shown).as_ref(), Ok(host), "{shown:?}");
    }
    for path in &spec.paths {
        let shown = path.to_string();
        assert_eq!(PathMatch::parse(&shown).as_ref(), Ok(path), "{shown:?}");
    }
}

fn matches_are_written_back(matches: &[RequestMatch]) {
    assert!((1..=MAX_MATCHES).contains(&matches.len()));
    let mut text = "id = \"shop\"\n".to_owned();
    for entry in matches {
        assert!(!entry.conditions.is_empty() && entry.conditions.len() <= 4 + 3 * MAX_NAMED);
        text.push_str(&format!("[[match]]\nname = {:?}\n", &*entry.name));
        // A key may stand once: what came in a list goes back into one.
        for key in ["header", "cookie", "query"] {
            let shown = entry.conditions.iter().map(ToString::to_string);
            let tables: Vec<_> = shown
                .filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = ").map(str::to_owned))
                .collect();
            if !tables.is_empty() {
                text.push_str(&format!("{key} = [{}]\n", tables.join(", ")));
            }
        }
        let is_named = |condition: &&Condition| {
            matches!(condition, Condition::Header(_) | Condition::Cookie(_) | Condition::Query(_))
        };
        for condition in entry.conditions.iter().filter(|condition| !is_named(condition)) {
            text.push_str(&format!("{condition}\n"));
        }
        let effect = entry.effect.to_string();
        text.push_str(&effect.replace(", strict = true", "\nstrict = true"));
        text.push('\n');
    }
    let read = spec::parse_app_file(NAME, &text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
    assert_eq!(read.spec.matches.as_deref(), Some(matches), "{text}");
}

fn key(text: &str) {
    let Ok(key) = Key::parse(text) else { return };
    assert_eq!(key.as_str(), text);
    match Place::of(&key) {
        Ok(Place::Address { app, key: InstanceKey { version, instance } }) => {
            assert_eq!(layout::address_key(&app, &version, &instance), key);
        }
        Ok(Place::Word { app, key: instance }) => assert_eq!(layout::word_key(&app, &instance), key),
        Ok(Place::Spec(app)) => assert_eq!(layout::app_key(&app), key),
        Ok(Place::Route(route)) => assert_eq!(layout::spec_key(&AppId::of_route(&route)), key),
        Ok(Place::Certificate(name)) => assert_eq!(format!("certificate/{name}"), key.as_str()),
        Ok(Place::Other) => {}
        Err(misplaced) => assert!(misplaced.reason.len() <= MAX_SHOWN_BYTES),
    }
}

fn are_short(mistakes: &Mistakes) {
    assert!(!mistakes.is_empty() && mistakes.iter().count() <= MAX_REPORTED);
    for mistake in mistakes.iter() {
        let shown = mistake.to_string();
        assert!(shown.len() <= MAX_SHOWN_BYTES, "{} bytes: {shown}", shown.len());
    }
}
