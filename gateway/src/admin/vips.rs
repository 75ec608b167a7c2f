//! Virtual IPs: who holds them, and moving them by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use vip::driver::{CommandError, Status};
use vip::identity::GatewayId;

use super::AdminState;
use super::body::read_json;
use super::problem::Problem;
use crate::vips::VipDesk;

#[derive(Debug, Serialize)]
struct VipsView {
    /// Who says so.
    gateway: String,
    /// An operator has drained it.
    draining: bool,
    /// By check, whether it lets this gateway take addresses.
    checks: BTreeMap<&'static str, bool>,
    items: Vec<VipView>,
}

#[derive(Debug, Serialize)]
struct VipView {
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveRequest {
    gateway: String,
}

#[derive(Debug, Serialize)]
struct MovedView {
    ip: IpAddr,
    gateway: String,
}

#[derive(Debug, Serialize)]
struct DrainView {
    draining: bool,
}

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

pub async fn list(State(state): State<Arc<AdminState>>) -> Result<Response, Problem> {
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

/// Of an address that this gateway holds: under way when this answers.
pub async fn hand_over(
    State(state): State<Arc<AdminState>>,
    Path(ip): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let desk = desk(&state)?;
    let ip: IpAddr = ip.parse().map_err(|_| Problem::malformed("ip", "is no address"))?;
    let MoveRequest { gateway } = read_json(request).await?;
    let to = GatewayId::parse(&gateway).map_err(|error| Problem::malformed("gateway", error.to_string()))?;
    desk.move_to(ip, to).await?;
    Ok(axum::Json(MovedView { ip, gateway }).into_response())
}

pub async fn drain(State(state): State<Arc<AdminState>>) -> Result<Response, Problem> {
    set_draining(&state, true)
}

pub async fn undrain(State(state): State<Arc<AdminState>>) -> Result<Response, Problem> {
    set_draining(&state, false)
}

fn set_draining(state: &AdminState, draining: bool) -> Result<Response, Problem> {
    desk(state)?.set_draining(draining)?;
    Ok(axum::Json(DrainView { draining }).into_response())
}
