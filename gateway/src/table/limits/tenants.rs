//! Who owns apps, and what all of them together may use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::meter::Meter;

/// The name of the section for tenants that have none of their own.
const ANYBODY: &str = "*";

/// `None` in a field: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Requests in the gateway, waiting ones too: what a tenant's dead backends can hold of it.
    pub in_flight: Option<u32>,
    /// To endpoints of the tenant's apps, idle ones too.
    pub connections: Option<u32>,
    /// Requests that wait for room, of all its apps.
    pub queue: Option<u32>,
}

/// A tenant that is limited. One object for all of its apps, as long as it has any.
#[derive(Debug)]
pub struct Tenant {
    pub name: Arc<str>,
    pub limits: TenantLimits,
    pub in_flight: Meter,
    pub connections: Meter,
    pub waiting: Meter,
}

/// What the configuration says of tenants, and those that have apps.
#[derive(Debug, Default)]
pub struct Tenants {
    configured: HashMap<Arc<str>, TenantLimits>,
    /// Touched by the control plane only.
    present: Mutex<HashMap<Arc<str>, Weak<Tenant>>>,
}

impl Tenants {
    pub fn new(configured: impl IntoIterator<Item = (Arc<str>, TenantLimits)>) -> Self {
        Self { configured: configured.into_iter().collect(), present: Mutex::default() }
    }

    /// The tenant of that name, if it is limited. Each name has counts of its own, also below `"*"`.
    pub fn find(&self, name: &str) -> Option<Arc<Tenant>> {
        let limits = *self.configured.get(name).or_else(|| self.configured.get(ANYBODY))?;
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = present.get(name).and_then(Weak::upgrade) {
            return Some(tenant);
        }
        let tenant = Arc::new(Tenant {
            name: name.into(),
            limits,
            in_flight: Meter::default(),
            connections: Meter::default(),
            waiting: Meter::default(),
        });
        present.insert(tenant.name.clone(), Arc::downgrade(&tenant));
        Some(tenant)
    }

    /// Those that are limited and have apps, by name.
    pub fn present(&self) -> Vec<Arc<Tenant>> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.retain(|_, tenant| tenant.strong_count() > 0);
        let mut tenants: Vec<_> = present.values().filter_map(Weak::upgrade).collect();
        tenants.sort_by(|a, b| a.name.cmp(&b.name));
        tenants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_of_a_tenant_share_its_counts_and_other_tenants_have_their_own() {
        let limited = |count| TenantLimits { in_flight: Some(count), ..TenantLimits::default() };
        let tenants = Tenants::new([("acme".into(), limited(5)), ("*".into(), limited(2))]);
        let acme = tenants.find("acme").unwrap();
        assert!(Arc::ptr_eq(&acme, &tenants.find("acme").unwrap()));
        assert_eq!(acme.limits.in_flight, Some(5));
        let (one, other) = (tenants.find("one").unwrap(), tenants.find("other").unwrap());
        assert!(!Arc::ptr_eq(&one, &other) && one.limits.in_flight == Some(2));
        drop((one, acme));
        assert_eq!(tenants.present().iter().map(|tenant| &*tenant.name).collect::<Vec<_>>(), ["other"]);
        assert!(Tenants::new([("acme".into(), limited(5))]).find("shop").is_none());
    }
}
