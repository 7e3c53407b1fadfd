//! Answers: Prometheus's JSON envelope, plain texts, and the bound on bytes that slow readers may hold.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::limits::WEB_ANSWER_BYTES_IN_FLIGHT;

/// Bytes per permit of [`InFlight`].
const PERMIT_BYTES: usize = 1024;

/// Bytes of answers that have been made and not yet been read by their clients. When full, further answers are 503.
#[derive(Clone, Debug)]
pub(super) struct InFlight(Arc<Semaphore>);

impl Default for InFlight {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WEB_ANSWER_BYTES_IN_FLIGHT / PERMIT_BYTES)))
    }
}

/// A body together with its share of the bound, given back when the last byte is with the kernel.
struct Held {
    bytes: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl InFlight {
    /// A whole answer of this type, or 503 when too much is in flight.
    pub(super) fn body(&self, status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Response {
        let permits = u32::try_from(bytes.len().div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        match Arc::clone(&self.0).try_acquire_many_owned(permits) {
            Ok(share) => {
                let body = Body::from(Bytes::from_owner(Held { bytes, _share: share }));
                (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
            }
            Err(_) => {
                let why = "too many unread answers are in flight; ask for a page (limit=1000) or try again";
                text(StatusCode::SERVICE_UNAVAILABLE, why)
            }
        }
    }

    /// `{"status":"success","data":..}`
    pub(super) fn success(&self, value: &impl Serialize, warnings: &[String]) -> Response {
        #[derive(Serialize)]
        struct Envelope<'a, T> {
            status: &'static str,
            data: &'a T,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            warnings: &'a [String],
        }
        let envelope = Envelope { status: "success", data: value, warnings };
        match serde_json::to_vec(&envelope) {
            Ok(bytes) => self.body(StatusCode::OK, "application/json", bytes),
            Err(e) => ApiError::Internal(e.to_string()).into_response(),
        }
    }
}

/// Why an API call has no answer; status and type are Prometheus's. prometheus: api.go, getDefaultErrorCode.
#[derive(Debug)]
pub(super) enum ApiError {
    /// A parameter.
    BadData(String),
    /// This process does not do that.
    Execution(String),
    /// A shard did not answer in time.
    Timeout(String),
    /// Ours.
    Internal(String),
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, why) = match self {
            Self::BadData(why) => (StatusCode::BAD_REQUEST, "bad_data", why),
            Self::Execution(why) => (StatusCode::UNPROCESSABLE_ENTITY, "execution", why),
            Self::Timeout(why) => (StatusCode::SERVICE_UNAVAILABLE, "timeout", why),
            Self::Internal(why) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", why),
        };
        let envelope = serde_json::json!({ "status": "error", "errorType": kind, "error": why });
        (status, axum::Json(envelope)).into_response()
    }
}

/// A short plain text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_answers_are_bounded_and_reading_them_frees_the_bound() {
        let bound = InFlight::default();
        let large = || vec![0; WEB_ANSWER_BYTES_IN_FLIGHT / 2];
        let first = bound.body(StatusCode::OK, "text/plain", large());
        let second = bound.body(StatusCode::OK, "text/plain", large());
        assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
        let third = bound.body(StatusCode::OK, "text/plain", vec![0]);
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert_eq!(bound.body(StatusCode::OK, "text/plain", large()).status(), StatusCode::OK);
    }
}
