//! Who depends on whom, and in which order they start and stop. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use topology::AppId;

/// App → what it depends on.
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    edges: BTreeMap<AppId, Vec<AppId>>,
}

/// Apps that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Cycle {
    /// The first one stands at the end again.
    pub path: Vec<AppId>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.path.iter().map(AppId::as_str).collect();
        write!(formatter, "apps depend on each other: {}", names.join(" → "))
    }
}

impl Dependencies {
    pub fn new(edges: impl IntoIterator<Item = (AppId, Vec<AppId>)>) -> Self {
        Self { edges: edges.into_iter().collect() }
    }

    /// As if `app` depended on `on`: for judging a change before it is made.
    pub fn with(mut self, app: AppId, on: Vec<AppId>) -> Self {
        self.edges.insert(app, on);
        self
    }

    pub fn of(&self, app: &AppId) -> &[AppId] {
        self.edges.get(app).map_or(&[], Vec::as_slice)
    }

    /// Those that name `app` themselves.
    pub fn dependents<'d>(&'d self, app: &'d AppId) -> impl Iterator<Item = &'d AppId> {
        self.edges.iter().filter(move |(_, on)| on.contains(app)).map(|(dependent, _)| dependent)
    }

    /// What has to be healthy before each: what `app` depends on, leaves first, and `app` last.
    ///
    /// # Errors
    /// [`Cycle`].
    pub fn start_order(&self, app: &AppId) -> Result<Vec<AppId>, Cycle> {
        self.walk(app, |app| self.of(app).iter().collect())
    }

    /// What has to be stopped before each: what depends on `app`, outermost first, and `app` last.
    ///
    /// # Errors
    /// [`Cycle`].
    pub fn stop_order(&self, app: &AppId) -> Result<Vec<AppId>, Cycle> {
        self.walk(app, |app| self.dependents(app).collect())
    }

    /// # Errors
    /// The first cycle that `app` is on, or leads to.
    pub fn check(&self, app: &AppId) -> Result<(), Cycle> {
        self.start_order(app).map(drop)
    }

    /// Depth first, each app after those that it leads to. Without recursion: chains may be as long as there are apps.
    fn walk<'d>(
        &'d self,
        from: &'d AppId,
        next: impl Fn(&'d AppId) -> Vec<&'d AppId>,
    ) -> Result<Vec<AppId>, Cycle> {
        let mut order = Vec::new();
        let mut done: BTreeSet<&AppId> = BTreeSet::new();
        let mut path: Vec<(&AppId, Vec<&AppId>)> = vec![(from, next(from))];
        while let Some((app, ahead)) = path.last_mut() {
            let Some(following) = ahead.pop() else {
                if done.insert(app) {
                    order.push((*app).clone());
                }
                path.pop();
                continue;
            };
            if let Some(at) = path.iter().position(|(on_path, _)| *on_path == following) {
                let mut cycle: Vec<_> = path[at..].iter().map(|(app, _)| (*app).clone()).collect();
                cycle.push(following.clone());
                return Err(Cycle { path: cycle });
            }
            if !done.contains(following) {
                path.push((following, next(following)));
            }
        }
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn app(id: &str) -> AppId {
        AppId::parse(id).unwrap()
    }

    fn tree(edges: &[(&str, &[&str])]) -> Dependencies {
        Dependencies::new(edges.iter().map(|(from, on)| (app(from), on.iter().map(|id| app(id)).collect())))
    }

    fn names(order: &[AppId]) -> String {
        order.iter().map(AppId::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn leaves_start_first_and_stop_last() {
        let tree = tree(&[("shop", &["cart", "login"]), ("cart", &["db"]), ("login", &["db", "cache"])]);
        let order = names(&tree.start_order(&app("shop")).unwrap());
        assert!(order.ends_with("shop") && order.find("db") < order.find("cart"), "{order}");
        assert!(order.find("cache") < order.find("login"), "{order}");
        assert_eq!(order.matches("db").count(), 1);
        let order = names(&tree.stop_order(&app("db")).unwrap());
        assert!(order.starts_with("shop") && order.ends_with("db"), "{order}");
        assert_eq!(names(&tree.stop_order(&app("shop")).unwrap()), "shop");
    }

    #[test]
    fn a_cycle_is_named() {
        let tree = tree(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]);
        let cycle = tree.check(&app("a")).unwrap_err();
        assert_eq!(cycle.to_string(), "apps depend on each other: b → c → b");
        let itself = Dependencies::default().with(app("a"), vec![app("a")]);
        assert_eq!(itself.check(&app("a")).unwrap_err().to_string(), "apps depend on each other: a → a");
    }

    #[test]
    fn a_chain_as_long_as_the_fleet_is_walked() {
        let name = |at: usize| app(&format!("a{at}"));
        let chain = Dependencies::new((0..20_000).map(|at| (name(at), vec![name(at + 1)])));
        assert_eq!(chain.start_order(&name(0)).map(|order| order.len()), Ok(20_001));
    }

    proptest! {
        #[test]
        fn everything_comes_after_what_it_needs_or_a_real_cycle_is_named(
            edges in prop::collection::vec((0..8_u8, 0..8_u8), 0..20),
        ) {
            let name = |at: u8| app(&format!("a{at}"));
            let mut map: BTreeMap<AppId, Vec<AppId>> = BTreeMap::new();
            for (from, to) in edges {
                map.entry(name(from)).or_default().push(name(to));
            }
            let tree = Dependencies::new(map);
            match tree.start_order(&name(0)) {
                Ok(order) => for (at, app) in order.iter().enumerate() {
                    prop_assert!(tree.of(app).iter().all(|on| order[..at].contains(on)));
                },
                Err(Cycle { path }) => {
                    prop_assert_eq!(path.first(), path.last());
                    prop_assert!(path.windows(2).all(|pair| tree.of(&pair[0]).contains(&pair[1])));
                }
            }
        }
    }
}
