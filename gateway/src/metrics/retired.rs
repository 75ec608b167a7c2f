//! Services that no table has any more and that something still holds: a tunnel, a request under way.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::ServiceMetrics;

/// Only the control plane and scrapes come by. As long as the number of what is held: everything else is
/// forgotten whenever one is added or read.
#[derive(Debug, Default)]
pub struct RetiredServices(Mutex<Vec<Weak<ServiceMetrics>>>);

impl RetiredServices {
    pub fn add<'s>(&self, services: impl Iterator<Item = &'s Arc<ServiceMetrics>>) {
        let mut retired = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|service| service.strong_count() > 0);
        retired.extend(services.map(Arc::downgrade));
    }

    /// Those that are still held.
    pub fn held(&self) -> Vec<Arc<ServiceMetrics>> {
        let mut retired = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|service| service.strong_count() > 0);
        retired.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use topology::AppId;

    use super::*;

    #[test]
    fn a_service_is_kept_for_as_long_as_somebody_holds_it() {
        let service = Arc::new(ServiceMetrics::new(&AppId::parse("a").unwrap(), None, 1));
        let retired = RetiredServices::default();
        retired.add([&service].into_iter());
        assert!(Arc::ptr_eq(&retired.held()[0], &service));
        drop(service);
        assert!(retired.held().is_empty());
    }
}
