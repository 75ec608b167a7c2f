//! What the kernel shows of the fence, in a form that changes only when somebody changes it.

use std::io;
use std::net::IpAddr;

use super::super::netlink::{Attributes, Message, Requests, Socket, be64, text};
use super::batch::{
    GETCHAIN, GETRULE, GETSET, GETSETELEM, GETTABLE, SUBSYSTEM, Set, TABLES, generic, sets_of,
};
use super::{Hold, Instant};

/// `struct nfgenmsg`.
const GENERIC: usize = 4;

/// Which attributes of an object say what it is: their numbers, with which table it belongs to first. Counts of uses and
/// elements are left out.
struct Kind {
    get: u16,
    table: u16,
    identity: &'static [u16],
}

const KINDS: [Kind; 4] = [
    // Name, flags (a dormant table does nothing), handle.
    Kind { get: GETTABLE, table: 1, identity: &[1, 2, 4] },
    // Handle, name, hook, policy, type.
    Kind { get: GETCHAIN, table: 1, identity: &[2, 3, 4, 5, 7] },
    // Chain, handle, expressions.
    Kind { get: GETRULE, table: 1, identity: &[2, 3, 4] },
    // Name, flags, key type, key length, timeout of all elements, handle.
    Kind { get: GETSET, table: 1, identity: &[2, 3, 4, 5, 11, 16] },
];

/// Tables, chains, rules and sets as bytes; elements as addresses. Equal where the fence is the same one: the kernel
/// gives whatever is made anew another handle. What is held does not count for that.
#[derive(Debug)]
pub(super) struct Contents {
    objects: Vec<Vec<u8>>,
    fenced: Vec<IpAddr>,
    /// Element, and whether it expires.
    held: Vec<(IpAddr, bool)>,
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        self.objects == other.objects && self.fenced == other.fenced
    }
}

impl Contents {
    /// Whether nothing is let through but `holds`, and all of that in both tables while its time has not come.
    pub fn holds_only(&self, holds: &[Hold]) -> bool {
        let held = |ip: IpAddr| holds.iter().find(|hold| hold.0 == ip);
        let now = Instant::now() + super::FRESHNESS * 2;
        let missing = |(ip, until): &&Hold| {
            // The arp table has no IPv6.
            let tables = if ip.is_ipv4() { 2 } else { 1 };
            *until > now && self.held.iter().filter(|(found, _)| found == ip).count() != tables
        };
        self.held.iter().all(|(ip, expires)| *expires && held(*ip).is_some())
            && !holds.iter().any(|hold| missing(&hold))
    }
}

pub(super) fn read(socket: &mut Socket, table: &str) -> io::Result<Contents> {
    let mut contents = Contents { objects: Vec::new(), fenced: Vec::new(), held: Vec::new() };
    for family in TABLES {
        for kind in &KINDS {
            let make = |request: &mut Requests| {
                request.begin(SUBSYSTEM << 8 | kind.get, libc::NLM_F_DUMP, &generic(family, 0));
                request.end();
            };
            contents.objects.extend(socket.dump(make, |message| identify(message, kind, table))?);
        }
        for set in sets_of(family) {
            let found = elements(socket, family, table, *set)?;
            if set.timeout {
                contents.held.extend(found);
            } else {
                contents.fenced.extend(found.into_iter().map(|(ip, _)| ip));
            }
        }
    }
    contents.fenced.sort_unstable();
    Ok(contents)
}

/// The attributes by which an object of `table` is known. `None`: of another table.
fn identify(message: &Message<'_>, kind: &Kind, table: &str) -> Option<Vec<u8>> {
    let attributes = message.attributes(GENERIC);
    (attributes.find(kind.table).map(text) == Some(table)).then_some(())?;
    let mut bytes = vec![message.kind as u8];
    for (number, value) in attributes.filter(|(number, _)| kind.identity.contains(number)) {
        bytes.extend_from_slice(&number.to_ne_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(value);
    }
    Some(bytes)
}

fn elements(socket: &mut Socket, family: u8, table: &str, set: Set) -> io::Result<Vec<(IpAddr, bool)>> {
    let make = |request: &mut Requests| {
        request.begin(SUBSYSTEM << 8 | GETSETELEM, libc::NLM_F_DUMP, &generic(family, 0));
        request.put_text(1, table).put_text(2, set.name).end();
    };
    let lists = socket.dump(make, |message| message.attributes(GENERIC).find(3).map(read_elements));
    match lists {
        Ok(lists) => Ok(lists.into_iter().flatten().collect()),
        // No such set: the objects tell.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read_elements(list: &[u8]) -> Vec<(IpAddr, bool)> {
    let element = |(_, element): (u16, &[u8])| {
        let element = Attributes(element);
        let key = Attributes(element.find(1)?).find(1)?;
        let ip = match key.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(key).ok()?),
            16 => IpAddr::from(<[u8; 16]>::try_from(key).ok()?),
            _ => return None,
        };
        Some((ip, element.find(4).and_then(be64).is_some_and(|timeout| timeout > 0)))
    };
    Attributes(list).filter_map(element).collect()
}
