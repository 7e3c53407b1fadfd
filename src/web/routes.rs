//! Which path answers what, and what surrounds every answer: readiness, CORS, counting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use super::answer::{InFlight, text};
use super::url::Outside;
use super::{Appliance, Settings, about, api, manage, page};
use crate::selfmetrics::{Exposition, Kind};

/// The web room: settings and the process it speaks for.
pub struct Web {
    pub(super) appliance: Arc<dyn Appliance>,
    pub(super) settings: Settings,
    pub(super) outside: Outside,
    pub(super) in_flight: InFlight,
    pub(super) requests: Requests,
}

/// Answers by route and status. The only writer is the control thread; the lock is never waited for.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<BTreeMap<(String, u16), u64>>);

impl Requests {
    fn count(&self, route: &str, status: StatusCode) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((route.to_owned(), status.as_u16())).or_default() += 1;
    }

    pub(super) fn collect(&self, out: &mut Exposition) {
        for ((route, status), n) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = [("handler", route.as_str()), ("code", &status.to_string())];
            let help = "Counter of HTTP requests.";
            out.sample("prometheus_http_requests_total", Kind::Counter, help, &labels, *n as f64);
        }
    }
}

/// Query endpoints of Prometheus's server mode; 422 here.
const QUERIES: [&str; 16] = [
    "query",
    "query_range",
    "query_exemplars",
    "format_query",
    "parse_query",
    "labels",
    "label/{name}/values",
    "series",
    "alertmanagers",
    "alerts",
    "rules",
    "status/tsdb",
    "status/tsdb/blocks",
    "admin/tsdb/delete_series",
    "admin/tsdb/clean_tombstones",
    "admin/tsdb/snapshot",
];

/// Pages of Prometheus that lead to our one page.
const OLD_PAGES: [&str; 8] =
    ["/agent", "/targets", "/service-discovery", "/config", "/flags", "/status", "/graph", "/query"];

impl Web {
    /// # Panics
    /// On a route prefix that does not begin with a slash or holds braces: the command line has checked it.
    #[must_use]
    pub fn new(settings: Settings, appliance: Arc<dyn Appliance>) -> Arc<Self> {
        assert!(settings.route_prefix.starts_with('/') && !settings.route_prefix.contains(['{', '}']));
        let address = settings.listen_addresses.first().map_or("", String::as_str);
        let outside = Outside::new(&settings.external_url, address);
        Arc::new(Self { appliance, settings, outside, in_flight: InFlight::default(), requests: Requests::default() })
    }

    /// All routes, below the prefix.
    pub(super) fn router(self: &Arc<Self>) -> Router {
        let prefix = self.settings.route_prefix.trim_end_matches('/');
        let mut router = Router::new();
        let mut add = |path: &str, answers: MethodRouter<Arc<Self>>| {
            router = std::mem::take(&mut router).route(&format!("{prefix}{path}"), answers);
        };
        add("/", get(page::index));
        add("/assets/app.js", get(page::script));
        add("/assets/style.css", get(page::style));
        OLD_PAGES.iter().for_each(|path| add(path, get(page::home)));
        add("/-/healthy", get(manage::healthy));
        add("/-/ready", get(manage::ready));
        let lifecycle = || get(manage::only_post_or_put);
        add("/-/reload", lifecycle().post(manage::reload).put(manage::reload));
        add("/-/quit", lifecycle().post(manage::quit).put(manage::quit));
        add("/metrics", get(manage::metrics));
        add("/version", get(manage::version));
        if !prefix.is_empty() {
            router = router.route(prefix, get(page::home)).route("/", get(page::home));
        }
        router
            .merge(self.api(prefix))
            .merge(self.api_at_once(prefix))
            .fallback(|| async { text(StatusCode::NOT_FOUND, "404 page not found\n") })
            .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
            .layer(from_fn_with_state(Arc::clone(self), around))
            .with_state(Arc::clone(self))
    }

    fn api(self: &Arc<Self>, prefix: &str) -> Router<Arc<Self>> {
        let mut router = Router::new();
        let mut add = |path: &str, answers: MethodRouter<Arc<Self>>| {
            let answers = answers.options(api::preflight);
            router = std::mem::take(&mut router).route(&format!("{prefix}/api/v1/{path}"), answers);
        };
        add("targets", get(api::targets));
        add("targets/metadata", get(api::target_metadata));
        add("scrape_pools", get(api::scrape_pools));
        add("metadata", get(api::metadata));
        add("status/config", get(api::status_config));
        add("status/flags", get(api::status_flags));
        add("status/runtimeinfo", get(api::status_runtime));
        add("status/buildinfo", get(api::status_build));
        add("status/overview", get(api::status_overview));
        add("features", get(about::features));
        QUERIES.iter().for_each(|path| add(path, get(api::not_a_query_engine).post(api::not_a_query_engine)));
        router.layer(from_fn_with_state(Arc::clone(self), when_ready))
    }

    /// What is asked while the process still starts.
    fn api_at_once(self: &Arc<Self>, prefix: &str) -> Router<Arc<Self>> {
        let mut router = Router::new();
        let mut add = |path: &str, answers: MethodRouter<Arc<Self>>| {
            let answers = answers.options(api::preflight);
            router = std::mem::take(&mut router).route(&format!("{prefix}/api/v1/{path}"), answers);
        };
        add("status/walreplay", get(about::replay));
        add("notifications", get(about::notifications));
        add("notifications/live", get(about::no_live_notifications));
        router.layer(from_fn_with_state(Arc::clone(self), at_once))
    }
}

/// The API answers only when the process is ready, as in Prometheus.
async fn when_ready(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    match manage::refusal(&web.appliance.readiness()) {
        Some(refusal) => refusal,
        None => cors(&web, request, next).await,
    }
}

async fn at_once(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    cors(&web, request, next).await
}

/// prometheus: util/httputil/cors.go.
async fn cors(web: &Web, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let allowed = origin.as_ref().and_then(|o| o.to_str().ok()).and_then(|o| web.settings.cors_origin.allowed(o));
    if let Some(Ok(allowed)) = allowed.map(HeaderValue::from_str) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        let may = HeaderValue::from_static("Accept, Authorization, Content-Type, Origin");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, may);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
    }
    response
}

async fn around(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Paths that lead nowhere are the client's words and would be unbounded as a label.
    if let Some(route) = route {
        web.requests.count(route.as_str(), response.status());
    }
    response
}
