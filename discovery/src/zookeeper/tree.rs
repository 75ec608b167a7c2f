//! Reading nodes: all of them, or those that events named. Requests are pipelined.

use std::collections::{HashMap, HashSet};

use futures::stream::{FuturesUnordered, StreamExt};
use zookeeper_client::{Client, Error};

use super::node::{Node, child_path, newest_change, parent_path};
use crate::registry::{Entry, Key};
use crate::remote::root::Root;
use crate::remote::{IN_FLIGHT, MAX_KEYS};

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("there are more than {MAX_KEYS} nodes below the prefix")]
    TooManyNodes,
}

/// What a read found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What was asked for, or met, by key: the entry with its owner's session, or `None` for none.
    pub(super) nodes: HashMap<Key, Option<(Entry, i64)>>,
    /// The latest change that any of them told of.
    pub(super) newest: u64,
    /// Entries without a usable value, and nodes whose path is no key.
    pub(super) unusable: usize,
}

impl Found {
    fn add(&mut self, root: &Root, path: &str, node: Option<Node>) {
        let Some(key) = root.key(path) else {
            self.unusable += usize::from(path != root.top());
            return;
        };
        let entry = node.and_then(|node| {
            let owner = node.stat.ephemeral_owner;
            node.entry().map(|entry| (entry, owner))
        });
        self.unusable += usize::from(entry.as_ref().is_some_and(|(entry, _)| entry.value.is_empty()));
        self.nodes.insert(key, entry);
    }
}

/// The whole tree. Not one moment of it: a change made meanwhile may be in it or not, but its event then
/// comes after the watch that the caller has set, and before the answer that showed a later change.
pub(super) async fn read_all(client: &Client, root: &Root) -> Result<Found, ReadError> {
    let mut found = Found::default();
    let mut waiting = vec![root.top().to_owned()];
    let mut reading = FuturesUnordered::new();
    let mut visited = 0;
    loop {
        while reading.len() < IN_FLIGHT
            && let Some(path) = waiting.pop()
        {
            reading.push(visit(client, path));
        }
        let Some(result) = reading.next().await else { return Ok(found) };
        let (path, node, children) = result?;
        visited += 1;
        if visited + waiting.len() + children.len() > MAX_KEYS {
            return Err(ReadError::TooManyNodes);
        }
        waiting.extend(children.iter().map(|name| child_path(&path, name)));
        found.newest = found.newest.max(node.as_ref().map_or(0, Node::newest_change));
        found.add(root, &path, node);
    }
}

type Visited = (String, Option<Node>, Vec<String>);

async fn visit(client: &Client, path: String) -> Result<Visited, Error> {
    let node = Node::read(client, &path).await?;
    let children = match &node {
        Some(node) if node.stat.num_children > 0 => children(client, &path).await?,
        _ => Vec::new(),
    };
    Ok((path, node, children))
}

/// What may not be listed hides what is below it, and nothing else.
async fn children(client: &Client, path: &str) -> Result<Vec<String>, Error> {
    match client.list_children(path).await {
        Err(Error::NoNode) => Ok(Vec::new()),
        Err(error @ Error::NoAuth) => {
            tracing::warn!(path, %error, "cannot list a node of the registry");
            Ok(Vec::new())
        }
        result => result,
    }
}

/// The nodes at `paths`, as they are now.
pub(super) async fn read_some(
    client: &Client,
    root: &Root,
    paths: HashSet<String>,
) -> Result<Found, ReadError> {
    let mut found = Found::default();
    let mut lists = HashSet::new();
    let mut nodes = futures::stream::iter(paths)
        .map(|path| async move {
            let node = Node::read(client, &path).await;
            (path, node)
        })
        .buffer_unordered(IN_FLIGHT);
    while let Some((path, node)) = nodes.next().await {
        let node = node?;
        match &node {
            Some(node) => found.newest = found.newest.max(node.newest_change()),
            // What is gone tells nothing; its parent's list of children tells when it went. Before 3.9
            // the event does not (ZOOKEEPER-4655).
            None => _ = lists.insert(parent_path(&path).to_owned()),
        }
        found.add(root, &path, node);
    }
    drop(nodes);
    found.newest = found.newest.max(newest_of(client, lists).await?);
    Ok(found)
}

/// A list that has gone itself counts for nothing: its own removal has an event of its own.
async fn newest_of(client: &Client, paths: HashSet<String>) -> Result<u64, Error> {
    let mut stats = futures::stream::iter(paths)
        .map(|path| async move { client.check_stat(&path).await })
        .buffer_unordered(IN_FLIGHT);
    let mut newest = 0;
    while let Some(stat) = stats.next().await {
        newest = newest.max(stat?.as_ref().map_or(0, newest_change));
    }
    Ok(newest)
}
