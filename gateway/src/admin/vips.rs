//! Virtual IPs: who holds them, and moving them by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vip::driver::{CommandError, Status};
use vip::identity::GatewayId;

use super::AdminState;
use super::body::read_json;
use super::openapi::problems;
use super::problem::Problem;
use super::query::{Nothing, Queried};
use crate::vips::VipDesk;

/// Virtual IPs, as one gateway sees them.
#[derive(Debug, Serialize, ToSchema)]
struct VipsView {
    /// Who says so.
    gateway: String,
    /// An operator has drained it.
    draining: bool,
    /// By check, whether it lets this gateway take addresses.
    checks: BTreeMap<&'static str, bool>,
    items: Vec<VipView>,
}

/// A virtual IP.
#[derive(Debug, Serialize, ToSchema)]
struct VipView {
    #[schema(value_type = String)]
    ip: IpAddr,
    /// As the register has it; absent: nobody yet, or unknown.
    holder: Option<String>,
    epoch: u64,
    /// The holder has let go, and nobody has taken it.
    released: bool,
    grantors: Vec<String>,
    /// This gateway answers for it.
    holding: bool,
    lease_remaining_seconds: Option<f64>,
    /// Gateways that could hold it, the best first.
    order: Vec<String>,
}

/// Where a virtual IP is to go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MoveRequest {
    /// The gateway that takes it.
    gateway: String,
}

/// What is under way.
#[derive(Debug, Serialize, ToSchema)]
struct MovedView {
    #[schema(value_type = String)]
    ip: IpAddr,
    gateway: String,
}

/// Whether the gateway gives its addresses away.
#[derive(Debug, Serialize, ToSchema)]
struct DrainView {
    draining: bool,
}

problems!(
    /// Where there are no virtual IPs, or nobody who holds them.
    VipProblems, 400, 401, 403, 404, 429, 503
);
problems!(
    /// Of an address that cannot go there.
    MoveProblems, 400, 401, 403, 404, 408, 409, 413, 415, 429, 503
);

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        match error {
            CommandError::UnknownAddress(_) => Self::not_found(detail),
            CommandError::NotHolder { .. } => Self::new(StatusCode::CONFLICT, "not-holder", detail),
            CommandError::NotEligible { .. } => Self::new(StatusCode::CONFLICT, "not-eligible", detail),
            CommandError::Ended => {
                let detail = "this gateway takes no part in holding virtual IPs at the moment: it waits for the process \
                              before it, or ends";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-running", detail)
            }
        }
    }
}

fn desk(state: &AdminState) -> Result<&Arc<VipDesk>, Problem> {
    let none = || Problem::not_found("this gateway has no virtual IPs: its configuration has no [vip]");
    state.sources.vips.as_ref().ok_or_else(none)
}

fn names(gateways: &[GatewayId]) -> Vec<String> {
    gateways.iter().map(ToString::to_string).collect()
}

impl From<Status> for VipView {
    fn from(status: Status) -> Self {
        Self {
            ip: status.ip,
            holder: status.holder.map(|holder| holder.to_string()),
            epoch: status.epoch,
            released: status.released,
            grantors: names(&status.grantors),
            holding: status.holding.is_some(),
            lease_remaining_seconds: status.holding.map(|left| left.as_secs_f64()),
            order: names(&status.order),
        }
    }
}

/// Virtual IPs and who holds them, as this gateway sees it.
#[utoipa::path(
    get, path = "/v1/vips", tag = "vips", operation_id = "list_vips",
    responses((status = 200, body = VipsView), VipProblems),
)]
pub async fn list(
    State(state): State<Arc<AdminState>>,
    query: Queried<Nothing>,
) -> Result<Response, Problem> {
    query?;
    let desk = desk(&state)?;
    let items = desk.list().await?.into_iter().map(VipView::from).collect();
    let checks = desk.running().map(|driver| {
        driver.metrics().eligible().map(|(check, is_good)| (check.as_str(), is_good)).collect()
    });
    let view = VipsView {
        gateway: state.gateway_id.clone(),
        draining: desk.is_draining(),
        checks: checks.unwrap_or_default(),
        items,
    };
    Ok(axum::Json(view).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Address {
    /// The virtual IP.
    #[param(example = "192.0.2.10")]
    ip: String,
}

/// Moves an address that this gateway holds to another one: under way when this answers.
#[utoipa::path(
    post, path = "/v1/vips/{ip}/move", tag = "vips", operation_id = "move_vip", params(Address),
    request_body(content = MoveRequest, content_type = "application/json"),
    responses((status = 200, body = MovedView), MoveProblems),
)]
pub async fn hand_over(
    State(state): State<Arc<AdminState>>,
    address: Result<Path<Address>, PathRejection>,
    query: Queried<Nothing>,
    request: Request,
) -> Result<Response, Problem> {
    query?;
    let Path(Address { ip }) = address.map_err(|error| Problem::malformed("ip", error.body_text()))?;
    let desk = desk(&state)?;
    let no_address = |_| Problem::malformed("ip", "is no address; write one of the list, such as 192.0.2.10");
    let ip: IpAddr = ip.parse().map_err(no_address)?;
    let MoveRequest { gateway } = read_json(request).await?;
    let to = GatewayId::parse(&gateway).map_err(|error| Problem::malformed("gateway", error.to_string()))?;
    desk.move_to(ip, to).await?;
    Ok(axum::Json(MovedView { ip, gateway }).into_response())
}

/// Gives this gateway's addresses away and takes none, until it is undrained.
#[utoipa::path(
    post, path = "/v1/vips/drain", tag = "vips", operation_id = "drain_vips",
    responses((status = 200, body = DrainView), VipProblems),
)]
pub async fn drain(
    State(state): State<Arc<AdminState>>,
    query: Queried<Nothing>,
) -> Result<Response, Problem> {
    query?;
    set_draining(&state, true)
}

/// Lets this gateway take addresses again.
#[utoipa::path(
    post, path = "/v1/vips/undrain", tag = "vips", operation_id = "undrain_vips",
    responses((status = 200, body = DrainView), VipProblems),
)]
pub async fn undrain(
    State(state): State<Arc<AdminState>>,
    query: Queried<Nothing>,
) -> Result<Response, Problem> {
    query?;
    set_draining(&state, false)
}

fn set_draining(state: &AdminState, draining: bool) -> Result<Response, Problem> {
    desk(state)?.set_draining(draining)?;
    Ok(axum::Json(DrainView { draining }).into_response())
}
