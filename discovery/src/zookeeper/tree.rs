//! Reading nodes: all of them, or those that events named. Many are asked for in one request, and a few requests are under way
//! at a time: a fleet that reads a large tree at one moment costs its servers thousands of requests, not millions.

use std::collections::{HashMap, HashSet};

use futures::stream::{FuturesUnordered, StreamExt};
use zookeeper_client::{Client, Error, MultiReadResult};

use super::node::{Node, child_path, parent_path};
use crate::registry::{Entry, Key};
use crate::remote::MAX_KEYS;
use crate::remote::root::Root;

/// Asked for in one request: enough that a server spends its time on nodes and not on requests, few enough that an answer of
/// specs as large as they come is no burst of its own.
const BATCH: usize = 32;
/// Requests without an answer yet. What waits in our socket stays below 128 MiB were every value at ZooKeeper's limit.
const BATCHES: usize = 4;

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

/// What to ask a server.
#[derive(Debug)]
enum Ask {
    Node(String),
    Children(String),
}

#[derive(Debug)]
enum Told {
    Node(String, Option<Node>),
    /// Names.
    Children(String, Vec<String>),
}

/// The whole tree. Not one moment of it: a change made meanwhile may be in it or not, but its event then
/// comes after the watch that the caller has set, and before the answer that showed a later change.
pub(super) async fn read_all(client: &Client, root: &Root) -> Result<Found, ReadError> {
    let mut found = Found::default();
    let mut waiting = vec![Ask::Node(root.top().to_owned())];
    let mut reading = FuturesUnordered::new();
    let mut known = 1;
    loop {
        while reading.len() < BATCHES && !waiting.is_empty() {
            let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
            reading.push(ask(client, batch));
        }
        let Some(told) = reading.next().await else { return Ok(found) };
        for told in told? {
            match told {
                Told::Node(path, node) => {
                    found.newest = found.newest.max(node.as_ref().map_or(0, Node::newest_change));
                    found.add(root, &path, node.clone());
                    if node.is_some_and(|node| node.stat.num_children > 0) {
                        waiting.push(Ask::Children(path));
                    }
                }
                Told::Children(path, names) => {
                    known += names.len();
                    if known > MAX_KEYS {
                        return Err(ReadError::TooManyNodes);
                    }
                    waiting.extend(names.iter().map(|name| Ask::Node(child_path(&path, name))));
                }
            }
        }
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
    for (path, node) in nodes(client, paths).await? {
        match &node {
            Some(node) => found.newest = found.newest.max(node.newest_change()),
            // What is gone tells nothing; its parent's list of children tells when it went. Before 3.9
            // the event does not (ZOOKEEPER-4655).
            None => _ = lists.insert(parent_path(&path).to_owned()),
        }
        found.add(root, &path, node);
    }
    // A list that has gone itself counts for nothing: its own removal has an event of its own.
    for (_, list) in nodes(client, lists).await? {
        found.newest = found.newest.max(list.as_ref().map_or(0, Node::newest_change));
    }
    Ok(found)
}

async fn nodes(client: &Client, paths: HashSet<String>) -> Result<Vec<(String, Option<Node>)>, Error> {
    let mut asks: Vec<Ask> = paths.into_iter().map(Ask::Node).collect();
    let mut found = Vec::with_capacity(asks.len());
    let mut batches = Vec::with_capacity(asks.len().div_ceil(BATCH));
    while !asks.is_empty() {
        batches.push(asks.split_off(asks.len().saturating_sub(BATCH)));
    }
    let mut reading =
        futures::stream::iter(batches).map(|batch| ask(client, batch)).buffer_unordered(BATCHES);
    while let Some(told) = reading.next().await {
        found.extend(told?.into_iter().filter_map(|told| match told {
            Told::Node(path, node) => Some((path, node)),
            Told::Children(..) => None,
        }));
    }
    Ok(found)
}

/// One request, which is one moment of what it asks for.
async fn ask(client: &Client, asks: Vec<Ask>) -> Result<Vec<Told>, Error> {
    let mut request = client.new_multi_reader();
    for ask in &asks {
        match ask {
            Ask::Node(path) => request.add_get_data(path)?,
            Ask::Children(path) => request.add_get_children(path)?,
        }
    }
    let answers = request.commit().await?;
    if answers.len() != asks.len() {
        return Err(unexpected());
    }
    let mut told = Vec::with_capacity(asks.len());
    for (ask, answer) in asks.into_iter().zip(answers) {
        told.push(match (ask, answer) {
            (Ask::Node(path), MultiReadResult::Data { data, stat }) => {
                Told::Node(path, Some(Node::new(&data, stat)))
            }
            (Ask::Node(path), MultiReadResult::Error { err: Error::NoNode }) => Told::Node(path, None),
            (Ask::Node(path), MultiReadResult::Error { err: Error::NoAuth }) => {
                let node = Node::unreadable(client, &path).await?;
                Told::Node(path, node)
            }
            (Ask::Children(path), MultiReadResult::Children { children }) => Told::Children(path, children),
            (Ask::Children(path), MultiReadResult::Error { err: Error::NoNode }) => {
                Told::Children(path, Vec::new())
            }
            // What may not be listed hides what is below it, and nothing else.
            (Ask::Children(path), MultiReadResult::Error { err: error @ Error::NoAuth }) => {
                tracing::warn!(path, %error, "cannot list a node of the registry");
                Told::Children(path, Vec::new())
            }
            (_, MultiReadResult::Error { err }) => return Err(err),
            _ => return Err(unexpected()),
        });
    }
    Ok(told)
}

fn unexpected() -> Error {
    Error::UnexpectedError("a server answered what it was not asked".to_owned())
}
