//! `/v1/certificates`: what every TLS listener and profile has in force, and what not, and why.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::BuildProblems;
use super::problem::Problem;
use super::query::{Nothing, Queried};
use super::{AdminState, build};
use crate::listener::tls::{CertificateReport, TlsRegistry, show_time};

/// Certificates that are shown to clients and to endpoints.
#[derive(Debug, Serialize, ToSchema)]
struct CertificatesView {
    listeners: Vec<ListenerView>,
    upstream_tls: Vec<ProfileView>,
}

/// A listener with TLS.
#[derive(Debug, Serialize, ToSchema)]
struct ListenerView {
    listener: String,
    certificates: Vec<CertificateView>,
    /// Why the client CA's file is not in force as it is now; the former one is.
    client_ca_rejected: Option<String>,
}

/// A certificate of a listener.
#[derive(Debug, Serialize, ToSchema)]
struct CertificateView {
    file: String,
    names: Vec<String>,
    /// Of the certificate in force; absent where the file never held a good one.
    not_before: Option<String>,
    not_after: Option<String>,
    ocsp_stapled: bool,
    /// Why the file is not in force as it is now; the former certificate is, where there is one.
    rejected: Option<String>,
    ocsp_rejected: Option<String>,
}

/// A profile of TLS to endpoints.
#[derive(Debug, Serialize, ToSchema)]
struct ProfileView {
    name: String,
    certificate: Option<String>,
    not_after: Option<String>,
    rejected: Option<String>,
}

/// What every TLS listener and profile has in force, and what not, and why.
#[utoipa::path(
    get, path = "/v1/certificates", tag = "gateway", operation_id = "list_certificates",
    responses((status = 200, body = CertificatesView), BuildProblems),
)]
pub async fn show(
    State(state): State<Arc<AdminState>>,
    query: Queried<Nothing>,
) -> Result<Response, Problem> {
    query?;
    let tls = state.sources.tls.clone();
    build(move || view(&tls)).await
}

fn view(tls: &TlsRegistry) -> CertificatesView {
    let listener = |report: crate::listener::tls::ListenerCertificates| ListenerView {
        listener: report.listener.to_string(),
        certificates: report.certificates.into_iter().map(certificate).collect(),
        client_ca_rejected: report.client_ca_reject.map(|(_, why)| why),
    };
    let profile = |profile: &std::sync::Arc<crate::listener::tls::UpstreamTls>| {
        let (certificate, not_after) = profile.certificate_expiry().unzip();
        ProfileView {
            name: profile.name.to_string(),
            certificate: certificate.map(|path| path.display().to_string()),
            not_after: not_after.map(show_time),
            rejected: profile.reject(),
        }
    };
    CertificatesView {
        listeners: tls.report().into_iter().map(listener).collect(),
        upstream_tls: tls.upstreams().iter().map(profile).collect(),
    }
}

fn certificate(report: CertificateReport) -> CertificateView {
    CertificateView {
        file: report.path.display().to_string(),
        names: report.names,
        not_before: report.not_before.map(show_time),
        not_after: report.not_after.map(show_time),
        ocsp_stapled: report.is_stapled,
        rejected: report.reject,
        ocsp_rejected: report.staple_reject,
    }
}
