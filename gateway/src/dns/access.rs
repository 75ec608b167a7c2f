//! Who may have the whole zone.

use std::net::{IpAddr, SocketAddr};

use super::tsig::{Signed, TsigKey};

/// One other server of the zone.
#[derive(Debug, Clone)]
pub struct Secondary {
    /// `None`: wherever it is, its key says who it is.
    pub ip: Option<IpAddr>,
    pub key: Option<TsigKey>,
    /// Where it hears of changes.
    pub notify: Option<SocketAddr>,
}

#[derive(Debug, Clone, Default)]
pub struct Access {
    pub secondaries: Vec<Secondary>,
}

impl Access {
    pub fn key_of(&self, signed: &Signed) -> Option<&TsigKey> {
        self.secondaries
            .iter()
            .filter_map(|secondary| secondary.key.as_ref())
            .find(|key| key.is_named_by(signed))
    }

    /// `key`: of a signature that was right.
    pub fn permits(&self, peer: IpAddr, key: Option<&str>) -> bool {
        let peer = peer.to_canonical();
        self.secondaries.iter().any(|secondary| {
            let is_there = secondary.ip.is_none_or(|ip| ip == peer);
            // One that has a key has to use it.
            let is_it = secondary.key.as_ref().is_none_or(|wanted| key == Some(wanted.name()));
            is_there && is_it
        })
    }
}
