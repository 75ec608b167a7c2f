//! What paths name.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use topology::{AppId, HostId, InstanceId};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::admin::problem::Problem;

/// What ids of apps, hosts and instances look like.
const PATTERN: &str = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$";

/// The app that a path names.
#[derive(Debug)]
pub(super) struct ByApp(pub AppId);

/// An app, and the id of one of its operations.
#[derive(Debug)]
pub(super) struct ByOperation(pub AppId, pub String);

#[derive(Debug)]
pub(super) struct ByHost(pub HostId);

#[derive(Debug)]
pub(super) struct ByInstance(pub InstanceId);

async fn named<T: DeserializeOwned + Send>(parts: &mut Parts) -> Result<T, Problem> {
    let read = Path::<T>::from_request_parts(parts, &()).await;
    read.map(|Path(names)| names).map_err(|error| Problem::malformed("path", error.body_text()))
}

fn app(text: &str) -> Result<AppId, Problem> {
    AppId::parse(text).map_err(|error| Problem::malformed("app", error.to_string()))
}

impl<S: Send + Sync> FromRequestParts<S> for ByApp {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let name: String = named(parts).await?;
        app(&name).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ByOperation {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let (name, operation): (String, String) = named(parts).await?;
        Ok(Self(app(&name)?, operation))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ByHost {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let name: String = named(parts).await?;
        HostId::parse(&name).map(Self).map_err(|error| Problem::malformed("host", error.to_string()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ByInstance {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let name: String = named(parts).await?;
        InstanceId::parse(&name).map(Self).map_err(|error| Problem::malformed("instance", error.to_string()))
    }
}

fn parameter(name: &str, example: &str, pattern: &str) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(schema))
        .example(Some(example.into()))
        .build()
}

impl IntoParams for ByApp {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("app", "shop", PATTERN)]
    }
}

impl IntoParams for ByOperation {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("app", "shop", PATTERN), parameter("operation", "00c0ffee00c0ffee", "^[0-9a-f]{16}$")]
    }
}

impl IntoParams for ByHost {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("host", "host-1", PATTERN)]
    }
}

impl IntoParams for ByInstance {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("instance", "00c0ffee00c0ffee", PATTERN)]
    }
}
