//! Management: health, readiness, reload, quit, version, and `/metrics`. prometheus: web/web.go.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer::text;
use super::routes::Web;
use super::{Lifecycle, Readiness, RuntimeView, process};
use crate::selfmetrics::{Exposition, Kind};

const STOPPING: HeaderName = HeaderName::from_static("x-prometheus-stopping");

pub(super) async fn healthy() -> Response {
    text(StatusCode::OK, "ringscrape is Healthy.\n")
}

pub(super) async fn ready(State(web): State<Arc<Web>>) -> Response {
    refusal(&web.appliance.readiness()).unwrap_or_else(|| text(StatusCode::OK, "ringscrape is Ready.\n"))
}

/// 503 unless ready. The reason goes into a header of its own: probes compare the body.
pub(super) fn refusal(readiness: &Readiness) -> Option<Response> {
    let (stopping, reason) = match readiness {
        Readiness::Ready => return None,
        Readiness::Starting(reason) => ("false", reason.as_str()),
        Readiness::Stopping => ("true", "stopping"),
    };
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    response.headers_mut().insert(STOPPING, header::HeaderValue::from_static(stopping));
    if let Ok(reason) = header::HeaderValue::from_str(reason) {
        response.headers_mut().insert(HeaderName::from_static("x-ringscrape-reason"), reason);
    }
    Some(response)
}

pub(super) async fn reload(State(web): State<Arc<Web>>, headers: HeaderMap) -> Response {
    if let Some(refusal) = lifecycle_refusal(&web, &headers) {
        return refusal;
    }
    // A task of its own: a client that goes away takes its request with it, and half a reload would be left.
    let reloading = tokio::spawn(async move { web.appliance.reload().await });
    match reloading.await.unwrap_or_else(|e| Err(e.to_string())) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {why}\n")),
    }
}

pub(super) async fn quit(State(web): State<Arc<Web>>, headers: HeaderMap) -> Response {
    if let Some(refusal) = lifecycle_refusal(&web, &headers) {
        return refusal;
    }
    web.appliance.quit();
    text(StatusCode::OK, "Requesting termination... Goodbye!")
}

/// 403 when lifecycle calls are off, and for a browser that was sent here by another site.
fn lifecycle_refusal(web: &Web, headers: &HeaderMap) -> Option<Response> {
    if web.settings.lifecycle == Lifecycle::Disabled {
        return Some(text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled."));
    }
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let same = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    (!same).then(|| text(StatusCode::FORBIDDEN, "The request comes from another site."))
}

pub(super) async fn only_post_or_put() -> Response {
    text(StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed")
}

pub(super) async fn version() -> Response {
    axum::Json(build()).into_response()
}

/// Prometheus's keys. Revision, branch and date are set by the packager's environment at build time.
pub(super) fn build() -> serde_json::Value {
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": option_env!("RINGSCRAPE_REVISION").unwrap_or_default(),
        "branch": option_env!("RINGSCRAPE_BRANCH").unwrap_or_default(),
        "buildUser": "",
        "buildDate": option_env!("RINGSCRAPE_BUILD_DATE").unwrap_or_default(),
        "goVersion": "",
    })
}

pub(super) async fn metrics(State(web): State<Arc<Web>>) -> Response {
    let mut out = Exposition::default();
    web.appliance.collect(&mut out);
    let ready = f64::from(u8::from(web.appliance.readiness() == Readiness::Ready));
    out.sample("prometheus_ready", Kind::Gauge, "Whether we are ready (1) or starting or stopping (0).", &[], ready);
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", option_env!("RINGSCRAPE_REVISION").unwrap_or_default()),
        ("branch", option_env!("RINGSCRAPE_BRANCH").unwrap_or_default()),
        ("goarch", std::env::consts::ARCH),
        ("goos", std::env::consts::OS),
        ("goversion", ""),
    ];
    let help = "A metric with a constant '1' value labeled by what this program was built from.";
    out.sample("prometheus_build_info", Kind::Gauge, help, &labels, 1.0);
    from_runtime(&web.appliance.runtime(), &mut out);
    web.requests.collect(&mut out);
    process::collect(&mut out);
    web.in_flight.body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", out.text().into_bytes())
}

/// What the runtime view knows, as metrics.
fn from_runtime(runtime: &RuntimeView, out: &mut Exposition) {
    let labels = [("engine", runtime.engine.as_str()), ("reason", runtime.engine_reason.as_str())];
    let help = "A metric with a constant '1' value labeled by the I/O engine and why it was chosen.";
    out.sample("ringscrape_engine_info", Kind::Gauge, help, &labels, 1.0);
    let good = f64::from(u8::from(runtime.reload_error.is_none()));
    let help = "Whether the last configuration reload attempt was successful.";
    out.sample("prometheus_config_last_reload_successful", Kind::Gauge, help, &[], good);
    if let Some(ns) = runtime.last_reload_ns {
        let name = "prometheus_config_last_reload_success_timestamp_seconds";
        let help = "Timestamp of the last successful configuration reload.";
        out.sample(name, Kind::Gauge, help, &[], ns as f64 / 1e9);
    }
}
