//! Who the client is, as far back as those who are believed say.

use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use super::fields::list_items;
use super::{FieldKind, RequestHead};

/// X-Forwarded-For from the end: the first address that is no trusted proxy's.
pub fn client(request: &RequestHead, head: &[u8], trusts: &dyn Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let fields: SmallVec<[_; 2]> = request.fields.all(FieldKind::XForwardedFor).collect();
    let mut furthest = None;
    for field in fields.iter().rev() {
        let items: SmallVec<[&[u8]; 8]> = list_items(field.value.within(head)).collect();
        for item in items.iter().rev() {
            let Some(address) = parse_hop(item) else { return furthest };
            furthest = Some(address);
            if !trusts(address) {
                return furthest;
            }
        }
    }
    furthest
}

/// An address, with or without a port.
fn parse_hop(item: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(item).ok()?;
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|hop| hop.ip()))
}
