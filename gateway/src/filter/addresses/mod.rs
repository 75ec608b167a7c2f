//! Lists of client addresses that may ask, and that may not.

mod set;

use std::net::IpAddr;
use std::sync::Arc;

use topology::filters::{Addresses as Settings, FilePath};

pub use set::AddressSet;

use super::compile::{Compiling, Keeps};
use super::sources::Source;
use super::{Asked, Decision, RequestFilter};
use crate::reason::Reason;

/// A denied address is refused even where it is allowed too.
#[derive(Debug)]
pub struct Addresses {
    settings: Settings,
    /// `None`: everybody who is not denied.
    allow: Option<List>,
    deny: List,
}

#[derive(Debug, Default)]
struct List {
    inline: AddressSet,
    file: Option<Arc<Source<AddressSet>>>,
}

impl List {
    /// `None`: the list's file was never read.
    fn contains(&self, address: IpAddr) -> Option<bool> {
        match &self.file {
            _ if self.inline.contains(address) => Some(true),
            Some(file) => file.load().as_ref().map(|list| list.contains(address)),
            None => Some(false),
        }
    }

    fn networks(&self) -> usize {
        let listed = |file: &Arc<Source<AddressSet>>| file.load().as_ref().map_or(0, |list| list.networks());
        self.inline.networks() + self.file.as_ref().map_or(0, listed)
    }

    fn in_force(&self) -> Option<Arc<AddressSet>> {
        self.file.as_ref()?.load_full()
    }
}

impl Keeps for Addresses {
    type Settings = Settings;

    fn among(filter: &RequestFilter) -> Option<&Arc<Self>> {
        if let RequestFilter::Addresses(addresses) = filter { Some(addresses) } else { None }
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn compile(settings: &Settings, former: Option<&Self>, with: Compiling<'_>) -> Self {
        let open = |file: &Option<FilePath>, former: Option<&List>| {
            let former = former.and_then(List::in_force);
            file.as_ref().map(|file| with.sources.open(with.app, file, read_list, former))
        };
        let allow_file = open(&settings.allow_file, former.and_then(|former| former.allow.as_ref()));
        let deny_file = open(&settings.deny_file, former.map(|former| &former.deny));
        let is_closed = !settings.allow.is_empty() || allow_file.is_some();
        let allow = List { inline: AddressSet::new(&settings.allow), file: allow_file };
        Self {
            settings: settings.clone(),
            allow: is_closed.then_some(allow),
            deny: List { inline: AddressSet::new(&settings.deny), file: deny_file },
        }
    }
}

impl Addresses {
    pub(super) fn decide(&self, asked: &Asked<'_>) -> Decision {
        let client = asked.client();
        let is_allowed = self.allow.as_ref().map_or(Some(true), |allow| allow.contains(client));
        match (is_allowed, self.deny.contains(client)) {
            (Some(true), Some(false)) => Decision::Pass,
            (None, _) | (_, None) => Decision::Refuse(Reason::FilterUnavailable),
            _ => Decision::Refuse(Reason::AddressDenied),
        }
    }

    pub(super) fn describe(&self) -> String {
        let allowed = self.allow.as_ref().map_or("all".to_owned(), |allow| allow.networks().to_string());
        format!("allow {allowed}, deny {}", self.deny.networks())
    }

    /// What is wrong with the files as they are now.
    pub(super) fn problems(&self) -> Vec<String> {
        let lists = self.allow.iter().chain([&self.deny]);
        lists.filter_map(|list| list.file.as_ref()?.problem()).collect()
    }
}

/// A network or an address per line; `#` begins a comment.
fn read_list(text: &[u8]) -> Result<AddressSet, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is no UTF-8".to_owned())?;
    let mut networks = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if !entry.is_empty() {
            let network = discovery::spec::filters::network(entry);
            networks.push(network.map_err(|why| format!("line {}: {why}", at + 1))?);
        }
    }
    Ok(AddressSet::new(&networks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_comments_and_one_bad_line_spoils_it() {
        let set = read_list(b"# bad people\n10.0.0.0/8 # a network\n\n2001:db8::1\r\n").unwrap();
        assert_eq!(set.networks(), 2);
        let why = read_list(b"10.0.0.1\n10.0.0\n").unwrap_err();
        assert!(why.starts_with("line 2: \"10.0.0\" is no network; write"), "{why}");
    }
}
