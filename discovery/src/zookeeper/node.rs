//! What a node of the ensemble is to us.

use bytes::Bytes;
use zookeeper_client::{Client, Error, Stat};

use crate::registry::{Entry, MAX_VALUE_BYTES};

pub(super) fn child_path(parent: &str, name: &str) -> String {
    format!("{}/{name}", parent.strip_suffix('/').unwrap_or(parent))
}

pub(super) fn parent_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

/// A node as it was when it was read.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) stat: Stat,
    /// Empty too when the value is above the limit or may not be read.
    value: Bytes,
}

impl Node {
    /// Sends at once, so that calls made one after the other are pipelined.
    pub(super) fn read<'a>(
        client: &'a Client,
        path: &'a str,
    ) -> impl Future<Output = Result<Option<Self>, Error>> + Send + 'a {
        let data = client.get_data(path);
        async move {
            match data.await {
                Ok((data, stat)) => Ok(Some(Self::new(&data, stat))),
                Err(Error::NoNode) => Ok(None),
                Err(Error::NoAuth) => Self::unreadable(client, path).await,
                Err(error) => Err(error),
            }
        }
    }

    /// One that we may not read: its stat needs no permission.
    pub(super) async fn unreadable(client: &Client, path: &str) -> Result<Option<Self>, Error> {
        Ok(client.check_stat(path).await?.map(|stat| Self::new(&[], stat)))
    }

    pub(super) fn new(data: &[u8], stat: Stat) -> Self {
        let value = if data.len() <= MAX_VALUE_BYTES { Bytes::copy_from_slice(data) } else { Bytes::new() };
        Self { stat, value }
    }

    /// `None` for structure: a persistent node without a value.
    pub(super) fn entry(self) -> Option<Entry> {
        is_entry(&self.stat).then(|| Entry {
            value: self.value,
            version: unsigned(self.stat.mzxid),
            created: unsigned(self.stat.czxid),
            ephemeral: self.stat.ephemeral_owner != 0,
        })
    }

    /// The latest change that this node tells of, those of its list of children included.
    pub(super) fn newest_change(&self) -> u64 {
        newest_change(&self.stat)
    }
}

pub(super) fn is_entry(stat: &Stat) -> bool {
    stat.data_length > 0 || stat.ephemeral_owner != 0
}

pub(super) fn newest_change(stat: &Stat) -> u64 {
    unsigned(stat.mzxid.max(stat.pzxid).max(stat.czxid))
}

/// Transaction ids are positive; the client marks an absent one by -1.
pub(super) fn unsigned(zxid: i64) -> u64 {
    u64::try_from(zxid).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(data_length: i32, ephemeral_owner: i64) -> Stat {
        Stat {
            czxid: 5,
            mzxid: 7,
            pzxid: 9,
            ctime: 0,
            mtime: 0,
            version: 1,
            cversion: 0,
            aversion: 0,
            ephemeral_owner,
            data_length,
            num_children: 0,
        }
    }

    #[test]
    fn a_path_is_its_parents_child() {
        assert_eq!(child_path("/", "a"), "/a");
        assert_eq!(child_path("/a", "b"), "/a/b");
        assert_eq!((parent_path("/a/b"), parent_path("/a")), ("/a", "/"));
    }

    #[test]
    fn only_a_persistent_node_without_a_value_is_no_entry() {
        assert_eq!(Node::new(b"", stat(0, 0)).entry(), None);
        let entry = Node::new(b"v", stat(1, 0)).entry().unwrap();
        assert_eq!(
            (&entry.value[..], entry.version, entry.created, entry.ephemeral),
            (&b"v"[..], 7, 5, false)
        );
        let left_empty = Node::new(b"", stat(0, 3)).entry().unwrap();
        assert!(left_empty.value.is_empty() && left_empty.ephemeral);
    }

    #[test]
    fn a_value_above_the_limit_leaves_an_entry_without_one() {
        let data = vec![b'x'; MAX_VALUE_BYTES + 1];
        let length = i32::try_from(data.len()).unwrap();
        assert!(Node::new(&data, stat(length, 0)).entry().unwrap().value.is_empty());
    }
}
