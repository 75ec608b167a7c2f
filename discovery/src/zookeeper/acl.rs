//! Who may do what with the nodes that we create.
//!
//! ZooKeeper's digest scheme verifies nobody: it makes an identity of whatever name and password a session
//! gives, and each node's list says which identities it serves.

use zookeeper_client::{Acls, CreateMode, CreateOptions, Permission};

use crate::registry::Lifetime;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acl {
    /// Everybody may do everything, as with registrars that know no lists.
    Open,
    /// Our user may do everything, everybody may read.
    Readable,
    /// Our user may do everything, nobody else anything.
    Private,
}

static READABLE: [zookeeper_client::Acl; 2] = [
    zookeeper_client::Acl::new_const(Permission::ALL, "auth", ""),
    zookeeper_client::Acl::new_const(Permission::READ, "world", "anyone"),
];

impl Acl {
    pub(super) fn options(self, lifetime: Lifetime) -> CreateOptions<'static> {
        let mode = match lifetime {
            Lifetime::Persistent => CreateMode::Persistent,
            Lifetime::Session => CreateMode::Ephemeral,
        };
        mode.with_acls(match self {
            Self::Open => Acls::anyone_all(),
            Self::Readable => Acls::new(&READABLE),
            Self::Private => Acls::creator_all(),
        })
    }
}
