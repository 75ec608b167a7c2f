//! Certificates: when they expire, and which files are not in force.

use prometheus::proto::MetricFamily;

use super::families::Family;
use crate::listener::tls::TlsRegistry;

pub fn certificates(tls: &TlsRegistry, families: &mut Vec<MetricFamily>) {
    let mut expiry = Family::gauge(
        "sluice_certificate_expiry_timestamp_seconds",
        "When the certificate in force expires, in seconds since 1970, by file.",
    );
    let mut rejects = Family::gauge(
        "sluice_certificate_rejects",
        "Certificate, OCSP and client CA files that are not in force as they are now.",
    );
    for listener in tls.report() {
        let mut rejected = u32::from(listener.client_ca_reject.is_some());
        for file in &listener.certificates {
            rejected += u32::from(file.reject.is_some()) + u32::from(file.staple_reject.is_some());
            if let Some(until) = file.not_after {
                let path = file.path.display().to_string();
                let labels = [("listener", &*listener.listener), ("certificate", path.as_str())];
                expiry.sample(&labels, until as f64);
            }
        }
        rejects.sample(&[("listener", &listener.listener)], f64::from(rejected));
    }
    let mut upstream_expiry = Family::gauge(
        "sluice_upstream_certificate_expiry_timestamp_seconds",
        "When the certificate that is shown to endpoints expires, in seconds since 1970, by profile.",
    );
    let mut upstream_rejects = Family::gauge(
        "sluice_upstream_tls_rejects",
        "Whether the files of a profile are not in force as they are now (1).",
    );
    for profile in tls.upstreams().iter() {
        let labels = [("profile", &*profile.name)];
        if let Some((_, until)) = profile.certificate_expiry() {
            upstream_expiry.sample(&labels, until as f64);
        }
        upstream_rejects.sample(&labels, f64::from(u8::from(profile.reject().is_some())));
    }
    families
        .extend([expiry, rejects, upstream_expiry, upstream_rejects].into_iter().filter_map(Family::finish));
}
