//! Which keys a running gateway takes up, and which take a restart.

use super::{Config, GatewayConfig};

impl Config {
    /// The keys whose values differ in `wanted` and that only a start takes up.
    pub fn needing_restart(&self, wanted: &Self) -> Vec<&'static str> {
        // Every field is named, so that one to come cannot be forgotten here.
        let Self { registry, registry_keys, belief, gateway, admin, deploy, apps, vip, dns: _ } = self;
        let GatewayConfig {
            id,
            workers,
            base_domain,
            trusted_proxies: _,
            access_log,
            statistics,
            tracing,
            listeners: _,
            app_ports: _,
            limits: _,
            drain_delay: _,
            drain_timeout: _,
            upstream_tls,
            tenants,
            max_buffers: _,
            handover,
            handover_drain_timeout: _,
            rate_limits,
            jwks_networks,
            zone,
            sticky_key_file,
            shared_probes,
            probe_connections,
        } = gateway;
        let differing = [
            ("registry", *registry != wanted.registry),
            ("registry.key_file", *registry_keys != wanted.registry_keys),
            ("registry.mass_loss_grace", belief.grace != wanted.belief.grace),
            ("registry.saved", belief.saved != wanted.belief.saved),
            ("gateway.id", *id != wanted.gateway.id),
            ("gateway.workers", *workers != wanted.gateway.workers),
            ("gateway.base_domain", *base_domain != wanted.gateway.base_domain),
            ("gateway.access_log", *access_log != wanted.gateway.access_log),
            ("gateway.statistics", *statistics != wanted.gateway.statistics),
            ("gateway.tracing", *tracing != wanted.gateway.tracing),
            ("gateway.upstream_tls", *upstream_tls != wanted.gateway.upstream_tls),
            ("gateway.tenant", *tenants != wanted.gateway.tenants),
            ("gateway.handover", *handover != wanted.gateway.handover),
            ("gateway.rate_limits", *rate_limits != wanted.gateway.rate_limits),
            ("gateway.jwks_networks", *jwks_networks != wanted.gateway.jwks_networks),
            ("gateway.zone", *zone != wanted.gateway.zone),
            ("gateway.sticky_key_file", *sticky_key_file != wanted.gateway.sticky_key_file),
            ("gateway.shared_probes", *shared_probes != wanted.gateway.shared_probes),
            ("gateway.probe_connections", *probe_connections != wanted.gateway.probe_connections),
            ("admin", *admin != wanted.admin),
            ("deploy", *deploy != wanted.deploy),
            ("apps.files", *apps != wanted.apps),
            ("vip", *vip != wanted.vip),
        ];
        differing.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    /// Takes up what a running gateway can: all that [`Self::needing_restart`] does not name.
    pub fn take_up(&mut self, wanted: Self) {
        let GatewayConfig {
            trusted_proxies,
            listeners,
            app_ports,
            limits,
            max_buffers,
            drain_delay,
            drain_timeout,
            handover_drain_timeout,
            ..
        } = wanted.gateway;
        self.dns = wanted.dns;
        self.gateway.trusted_proxies = trusted_proxies;
        self.gateway.listeners = listeners;
        (self.gateway.app_ports, self.gateway.limits) = (app_ports, limits);
        self.gateway.max_buffers = max_buffers;
        self.gateway.drain_delay = drain_delay;
        self.gateway.drain_timeout = drain_timeout;
        self.gateway.handover_drain_timeout = handover_drain_timeout;
    }
}
