//! The registry's layout: which key means what, in both directions.
//!
//! | key | value |
//! | --- | --- |
//! | `service/address/{appId}/{version}/{containerId}` | `10.0.0.1:8080`, or JSON with `address` and, if wanted, `weight`, `zone`, `protocol`, `backup` |
//! | `app/{appId}` | JSON app spec |
//! | `operator/{appId}/{version}/{containerId}` | JSON with `state` and `weight`, both if wanted: an operator's word |
//! | `route/{id}` | JSON: a redirect or a fixed response, of no app |
//! | `certificate/{name}` | chain and key in PEM, sealed |
//!
//! Keys of other families (`host`, `vip`, …) are somebody else's and pass unread.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use topology::{
    AdminState, AppId, CertificateName, Endpoint, InstanceId, InstanceKey, OperatorWord, Origin, Protocol,
    RouteId, VersionId,
};

use crate::document::{Document, Mistakes, pick};
use crate::registry::{Key, MAX_VALUE_BYTES};
use crate::spec;

const ADDRESS_FAMILY: &str = "service/address";
const SPEC_FAMILY: &str = "app";
const WORD_FAMILY: &str = "operator";
const ROUTE_FAMILY: &str = "route";

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The address of one instance.
    Address { app: AppId, key: InstanceKey },
    /// The spec of an app.
    Spec(AppId),
    /// What an operator says of one instance.
    Word { app: AppId, key: InstanceKey },
    /// A route of no app.
    Route(RouteId),
    /// A certificate with its key.
    Certificate(CertificateName),
    /// Nothing of ours: another family, or a node that only stands above others. Those may hold a
    /// value all the same: Curator writes the client's own address into the parents that it creates.
    Other,
}

/// A key in one of our families that cannot be one of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misplaced {
    /// The app that it names, when that much is clear.
    pub app: Option<AppId>,
    /// What is wrong with it.
    pub reason: String,
}

impl Place {
    /// What `key` stands for.
    ///
    /// # Errors
    /// [`Misplaced`] for a key below `service`, `app`, `operator`, `route` or `certificate` with a wrong name or number of segments.
    pub fn of(key: &Key) -> Result<Self, Misplaced> {
        let mut segments = key.segments();
        // No place has more than five segments; the sixth tells that there are too many.
        let path: [Option<&str>; 6] = std::array::from_fn(|_| segments.next());
        match path {
            [Some("app"), Some(app), None, ..] => Ok(Self::Spec(app_id(app)?)),
            [Some("app"), Some(app), ..] => {
                Err(misplaced(AppId::parse(app).ok(), "no key belongs below app/{appId}"))
            }
            [Some("route"), Some(id), None, ..] => {
                let id = RouteId::parse(id).map_err(|error| misplaced(None, &error.to_string()))?;
                Ok(Self::Route(id))
            }
            [Some("route"), Some(_), ..] => Err(misplaced(None, "no key belongs below route/{id}")),
            [Some("certificate"), Some(name), None, ..] => {
                let name =
                    CertificateName::parse(name).map_err(|error| misplaced(None, &error.to_string()))?;
                Ok(Self::Certificate(name))
            }
            [Some("certificate"), Some(_), ..] => {
                Err(misplaced(None, "no key belongs below certificate/{name}"))
            }
            [Some("service"), Some("address"), Some(app), Some(version), Some(instance), None] => {
                let (app, key) = instance_of(app, version, instance)?;
                Ok(Self::Address { app, key })
            }
            [Some("service"), Some("address"), Some(app), _, _, Some(_)] => {
                let reason = "no key belongs below service/address/{appId}/{version}/{containerId}";
                Err(misplaced(AppId::parse(app).ok(), reason))
            }
            [Some("operator"), Some(app), Some(version), Some(instance), None, ..] => {
                let (app, key) = instance_of(app, version, instance)?;
                Ok(Self::Word { app, key })
            }
            [Some("operator"), Some(app), _, _, Some(_), ..] => {
                let reason = "no key belongs below operator/{appId}/{version}/{containerId}";
                Err(misplaced(AppId::parse(app).ok(), reason))
            }
            [Some("service"), Some(family), ..] if family != "address" => {
                Err(misplaced(None, "only service/address/{appId}/{version}/{containerId} belongs here"))
            }
            _ => Ok(Self::Other),
        }
    }
}

fn instance_of(app: &str, version: &str, instance: &str) -> Result<(AppId, InstanceKey), Misplaced> {
    let app = app_id(app)?;
    let blame = |reason: String| Misplaced { app: Some(app.clone()), reason };
    let version = VersionId::parse(version).map_err(|error| blame(error.to_string()))?;
    let instance = InstanceId::parse(instance).map_err(|error| blame(error.to_string()))?;
    Ok((app, InstanceKey { version, instance }))
}

fn app_id(text: &str) -> Result<AppId, Misplaced> {
    AppId::parse(text).map_err(|error| Misplaced { app: None, reason: error.to_string() })
}

fn misplaced(app: Option<AppId>, reason: &str) -> Misplaced {
    Misplaced { app, reason: reason.to_owned() }
}

/// Reads the value of an address key: `IP:port`, with white space around it or not, or a JSON object.
/// Unknown members of the object are somebody else's notes and pass unread: registrars of many kinds
/// write here.
///
/// # Errors
/// Everything that is wrong with it; `source`, the registry key, is named as the place.
pub fn parse_address_value(source: &str, key: InstanceKey, value: &[u8]) -> Result<Endpoint, Mistakes> {
    let endpoint = |registered: EndpointRegistration| Endpoint {
        key,
        address: registered.address,
        weight: registered.weight,
        protocol: registered.protocol,
        zone: registered.zone,
        is_backup: registered.is_backup,
        origin: Origin::Registry,
        word: OperatorWord::default(),
    };
    if value.trim_ascii_start().starts_with(b"{") {
        return parse_json_address(source, value).map(endpoint);
    }
    let mistake = |message: String| Mistakes::one(&Arc::from(source), None, message);
    if value.len() > MAX_VALUE_BYTES {
        return Err(mistake(format!("has {} bytes; the limit is {MAX_VALUE_BYTES}", value.len())));
    }
    let text = std::str::from_utf8(value.trim_ascii()).map_err(|error| mistake(error.to_string()))?;
    let address = spec::parse_address(text).map_err(|error| mistake(error.to_string()))?;
    Ok(endpoint(EndpointRegistration::at(address)))
}

fn parse_json_address(source: &str, value: &[u8]) -> Result<EndpointRegistration, Mistakes> {
    Document::json(source, value)?.read(|table| {
        let weight = spec::read_weight(&table).unwrap_or(Endpoint::DEFAULT_WEIGHT);
        let protocol = spec::read_protocol(&table).unwrap_or_default();
        let (zone, is_backup) = (spec::read_zone(&table), spec::read_backup(&table));
        let address = spec::read_address(&table)?;
        Some(EndpointRegistration { address, weight, zone, protocol, is_backup })
    })
}

/// Reads the value of an operator's word: JSON with `state` (`ready`, `drain` or `maintenance`; default `ready`) and
/// `weight` (0 to 65535; default: the registrar's). `source`, the registry key, is named as the place.
///
/// # Errors
/// Everything that is wrong with it, unknown members included: operators write these themselves.
pub fn parse_word_value(source: &str, value: &[u8]) -> Result<OperatorWord, Mistakes> {
    Document::json(source, value)?.read(|table| {
        let known = AdminState::ALL.map(|state| (state.as_str(), state));
        let state = table.parsed("state", |given| pick(given, &known));
        let weight = spec::read_weight(&table);
        table.finish();
        Some(OperatorWord { state: state.unwrap_or_default(), weight })
    })
}

/// What a registrar says of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRegistration {
    pub address: SocketAddr,
    /// Default: [`Endpoint::DEFAULT_WEIGHT`].
    pub weight: u16,
    pub zone: Option<Arc<str>>,
    pub protocol: Protocol,
    /// See [`Endpoint::is_backup`].
    pub is_backup: bool,
}

impl EndpointRegistration {
    /// With the default weight and protocol, in no zone, no backup.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            weight: Endpoint::DEFAULT_WEIGHT,
            zone: None,
            protocol: Protocol::default(),
            is_backup: false,
        }
    }
}

/// Where an instance's address stands.
pub fn address_key(app: &AppId, version: &VersionId, instance: &InstanceId) -> Key {
    Key::parse(&format!("{ADDRESS_FAMILY}/{app}/{version}/{instance}"))
        .expect("ids are path segments, and four of their length fit into a key")
}

/// What the keys of an app's addresses begin with.
pub(crate) fn addresses_of(app: &AppId) -> String {
    format!("{ADDRESS_FAMILY}/{app}/")
}

/// Where an app's spec stands.
pub fn app_key(app: &AppId) -> Key {
    Key::parse(&format!("{SPEC_FAMILY}/{app}")).expect("an id is a path segment and fits into a key")
}

/// Where an operator's word on an instance stands.
pub fn word_key(app: &AppId, key: &InstanceKey) -> Key {
    Key::parse(&format!("{WORD_FAMILY}/{app}/{}/{}", key.version, key.instance))
        .expect("ids are path segments, and four of their length fit into a key")
}

/// What to write at [`word_key`]; `None` where the word says nothing and its key is to go.
pub fn word_value(word: OperatorWord) -> Option<Bytes> {
    if word.says_nothing() {
        return None;
    }
    let mut value = serde_json::json!({ "state": word.state.as_str() });
    if let Some(weight) = word.weight {
        value["weight"] = weight.into();
    }
    Some(Bytes::from(value.to_string()))
}

/// Where the spec of what is served as `app` stands: an app's, or a route's.
pub fn spec_key(app: &AppId) -> Key {
    match app.route() {
        Some(route) => Key::parse(&format!("{ROUTE_FAMILY}/{route}")).expect("an id is a path segment"),
        None => app_key(app),
    }
}

/// What to write at [`address_key`]: the plain form where it says everything, since every reader of this
/// layout understands that; JSON otherwise.
pub fn address_value(endpoint: &EndpointRegistration) -> Bytes {
    let address = endpoint.address.to_string();
    if *endpoint == EndpointRegistration::at(endpoint.address) {
        return Bytes::from(address);
    }
    let protocol = match endpoint.protocol {
        Protocol::Http1 => "http1",
        Protocol::Http2 => "h2",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let mut value = serde_json::json!({
        "address": address,
        "weight": endpoint.weight,
        "protocol": protocol,
    });
    if let Some(zone) = &endpoint.zone {
        value["zone"] = serde_json::Value::from(&**zone);
    }
    if endpoint.is_backup {
        value["backup"] = true.into();
    }
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests;
