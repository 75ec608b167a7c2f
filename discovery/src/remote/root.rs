//! Keys of ours as paths of the registry, in both directions.

use crate::registry::Key;

/// The path below which all keys are.
#[derive(Debug)]
pub(crate) struct Root {
    /// With a leading slash and without a trailing one; empty for the registry's own root.
    prefix: String,
}

impl Root {
    pub(crate) fn new(prefix: &str) -> Self {
        let inner = prefix.trim_matches('/');
        Self { prefix: if inner.is_empty() { String::new() } else { format!("/{inner}") } }
    }

    pub(crate) fn top(&self) -> &str {
        if self.prefix.is_empty() { "/" } else { &self.prefix }
    }

    pub(crate) fn path(&self, key: &Key) -> String {
        format!("{}/{key}", self.prefix)
    }

    /// `None` for the top itself, for what is not below it, and for a path that is no key of ours (too
    /// long, or with characters that we do not take).
    pub(crate) fn key(&self, path: &str) -> Option<Key> {
        Key::parse(path.strip_prefix(&self.prefix)?.strip_prefix('/')?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_paths_are_each_others_inverse() {
        for (prefix, top, path) in
            [("/caas", "/caas", "/caas/app/shop"), ("a/b/", "/a/b", "/a/b/app/shop"), ("/", "/", "/app/shop")]
        {
            let root = Root::new(prefix);
            let key = Key::parse("app/shop").unwrap();
            assert_eq!(root.top(), top);
            assert_eq!(root.path(&key), path);
            assert_eq!(root.key(path), Some(key));
            assert_eq!(root.key(top), None);
        }
        assert_eq!(Root::new("/caas").key("/caasx/app"), None);
    }
}
