//! What a process can do and has to say, for clients that ask before they do anything else. prometheus: web/api/v1/api.go.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Lifecycle;
use super::routes::Web;
use crate::base::rfc3339;

/// prometheus: util/notifications.
const RELOAD_FAILED: &str = "Configuration reload has failed.";

/// Names that Prometheus's agent answers with, as far as they mean something here; what is missing is not there.
pub(super) async fn features(State(web): State<Arc<Web>>) -> Response {
    let is_on = |flag: &str| web.appliance.flags().get(flag).is_some_and(|value| value == "true");
    let features = json!({
        "api": {
            "admin": false,
            "lifecycle": web.settings.lifecycle == Lifecycle::Enabled,
            "otlp_write_receiver": false,
            "remote_write_receiver": false,
            "search": false,
        },
        "prometheus": {
            "agent_mode": true,
            "auto_reload_config": is_on("config.auto-reload"),
            "server_mode": false,
        },
        "scrape": {
            "extra_scrape_metrics": true,
            "openmetrics2": false,
            "start_timestamp_zero_ingestion": false,
            "type_and_unit_labels": false,
        },
        "service_discovery_providers": { "file": true, "static": true },
    });
    web.in_flight.success(&features, &[])
}

/// An agent's log is not replayed in steps that could be counted.
pub(super) async fn replay(State(web): State<Arc<Web>>) -> Response {
    web.in_flight.success(&json!({ "min": 0, "max": 0, "current": 0 }), &[])
}

/// The one thing that stays wrong until somebody acts.
pub(super) async fn notifications(State(web): State<Arc<Web>>) -> Response {
    let failed_ns = web.appliance.runtime().reload_failed_ns;
    let all: Vec<_> = failed_ns
        .map(|ns| json!({ "text": RELOAD_FAILED, "date": rfc3339::text(Some(ns)), "active": true }))
        .into_iter()
        .collect();
    web.in_flight.success(&all, &[])
}

/// As Prometheus tells an event source for which it has no room: do not come back, ask the list.
pub(super) async fn no_live_notifications() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
