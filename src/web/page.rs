//! One page, three files, nothing from elsewhere: it reads the API and never more than a page of targets.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::routes::Web;

/// Everything comes from us, nothing inline, nobody may frame us.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn asset(content_type: &'static str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (StatusCode::OK, headers, text).into_response()
}

pub(super) async fn index(State(web): State<Arc<Web>>) -> Response {
    let html = include_str!("page/index.html").replace("{{TITLE}}", &escape(&web.settings.page_title));
    asset("text/html; charset=utf-8", html)
}

pub(super) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("page/app.js").to_owned())
}

pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("page/style.css").to_owned())
}

/// To the page, as seen from outside.
pub(super) async fn home(State(web): State<Arc<Web>>) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, format!("{}/", web.outside.path))]).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
