//! `/api/v1`: Prometheus's shapes; ours add paging, search and sort. prometheus: web/api/v1/api.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::answer::ApiError;
use super::overview::overview;
use super::pager::Position;
use super::routes::Web;
use super::{DroppedView, Health, MetadataQuery, MetadataRow, MetadataScope, Selector, Sort, TargetQuery, TargetView};
use crate::base::limits::{WEB_METADATA_PER_ANSWER_MAX, WEB_TARGETS_PER_ANSWER_MAX};
use crate::base::rfc3339;
use crate::base::time::Now;
use crate::model::Labels;

type Parameters = Query<Vec<(String, String)>>;
type Outcome = Result<Response, ApiError>;

/// Of a parameter given more than once the first counts. go: net/url, Values.Get.
fn firsts(given: Vec<(String, String)>) -> BTreeMap<String, String> {
    let mut firsts = BTreeMap::new();
    for (name, value) in given {
        firsts.entry(name).or_insert(value);
    }
    firsts
}

fn labels<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (name, value) in labels.iter() {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

fn is_empty(labels: &&Labels) -> bool {
    labels.is_empty()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTarget<'a> {
    #[serde(serialize_with = "labels")]
    discovered_labels: &'a Labels,
    #[serde(serialize_with = "labels")]
    labels: &'a Labels,
    scrape_pool: &'a str,
    scrape_url: &'a str,
    global_url: String,
    last_error: &'a str,
    last_scrape: String,
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: &'a str,
    scrape_timeout: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DroppedTarget<'a> {
    #[serde(serialize_with = "labels")]
    discovered_labels: &'a Labels,
    scrape_pool: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Targets<'a> {
    active_targets: Vec<ActiveTarget<'a>>,
    dropped_targets: Vec<DroppedTarget<'a>>,
    /// `null` when dropped targets were not asked for, as in Prometheus.
    dropped_target_counts: Option<BTreeMap<&'a str, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
    /// Ours; only beside a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_targets: Option<u64>,
}

fn active_target<'a>(web: &Web, view: &'a TargetView) -> ActiveTarget<'a> {
    ActiveTarget {
        discovered_labels: &view.discovered_labels,
        labels: &view.labels,
        scrape_pool: &view.pool,
        scrape_url: &view.scrape_url,
        global_url: web.outside.global_url(&view.scrape_url),
        last_error: &view.last_error,
        last_scrape: rfc3339::text(view.last_scrape_ns),
        last_scrape_duration: view.last_duration_ns as f64 / 1e9,
        health: view.health.word(),
        scrape_interval: &view.interval,
        scrape_timeout: &view.timeout,
    }
}

fn target_query(parameters: &BTreeMap<String, String>) -> Result<TargetQuery, ApiError> {
    let given = |name: &str| parameters.get(name).filter(|v| !v.is_empty());
    let health = match given("health").map(String::as_str) {
        None | Some("any") => None,
        Some("up") => Some(Health::Up),
        Some("down") => Some(Health::Down),
        Some("unknown") => Some(Health::Unknown),
        Some(_) => return Err(ApiError::BadData("health must be up, down, unknown or any".to_owned())),
    };
    let sort = Sort::parse(given("sort").map_or("", String::as_str));
    let sort = sort.ok_or_else(|| ApiError::BadData("sort must be pool, health, duration or lastScrape".to_owned()))?;
    let after = match given("page_token") {
        None => None,
        Some(token) => {
            let stale = || ApiError::BadData("page_token is not one of ours; start again without it".to_owned());
            Some(Position::parse(token).ok_or_else(stale)?)
        }
    };
    Ok(TargetQuery {
        pool: given("scrapePool").cloned(),
        health,
        search: given("search").map(|s| s.to_lowercase()).unwrap_or_default(),
        sort,
        after,
        limit: count(parameters, "limit")?.map_or(WEB_TARGETS_PER_ANSWER_MAX, |n| n.min(WEB_TARGETS_PER_ANSWER_MAX)),
    })
}

/// A count parameter; below zero means none, as in Prometheus.
fn count(parameters: &BTreeMap<String, String>, name: &str) -> Result<Option<usize>, ApiError> {
    match parameters.get(name).filter(|v| !v.is_empty()) {
        None => Ok(None),
        Some(text) => {
            let n: i64 = text.parse().map_err(|_| ApiError::BadData(format!("{name} must be a number")))?;
            Ok(usize::try_from(n).ok())
        }
    }
}

pub(super) async fn targets(State(web): State<Arc<Web>>, Query(parameters): Parameters) -> Outcome {
    let parameters = firsts(parameters);
    let state = parameters.get("state").map(|s| s.to_lowercase()).unwrap_or_default();
    let wants = |one: &str| matches!(state.as_str(), "" | "any") || state == one;
    let query = target_query(&parameters)?;
    let (pool, limited) = (query.pool.clone(), parameters.contains_key("limit"));
    let mut page = super::TargetPage::default();
    if wants("active") {
        page = web.appliance.active_targets(query).await.map_err(ApiError::Timeout)?;
    }
    let mut dropped: Vec<DroppedView> = Vec::new();
    if wants("dropped") {
        let dropped_max = WEB_TARGETS_PER_ANSWER_MAX;
        dropped = web.appliance.dropped_targets(pool, dropped_max).await.map_err(ApiError::Timeout)?;
    }
    let pools = web.appliance.pools();
    let mut warnings = Vec::new();
    if page.next.is_some() && !limited {
        let (shown, all) = (page.targets.len(), page.matched);
        warnings.push(format!("{shown} of {all} targets; pass nextPageToken as page_token for more"));
    }
    let answer = Targets {
        active_targets: page.targets.iter().map(|t| active_target(&web, t)).collect(),
        dropped_targets: dropped
            .iter()
            .map(|d| DroppedTarget { discovered_labels: &d.discovered_labels, scrape_pool: &d.pool })
            .collect(),
        dropped_target_counts: wants("dropped").then(|| pools.iter().map(|p| (p.name.as_str(), p.dropped)).collect()),
        next_page_token: page.next.map(|p| p.token()),
        matched_targets: (limited && wants("active")).then_some(page.matched),
    };
    Ok(web.in_flight.success(&answer, &warnings))
}

pub(super) async fn scrape_pools(State(web): State<Arc<Web>>) -> Response {
    let names: Vec<String> = web.appliance.pools().into_iter().map(|p| p.name).collect();
    web.in_flight.success(&serde_json::json!({ "scrapePools": names }), &[])
}

#[derive(Serialize)]
struct TargetMetadata<'a> {
    #[serde(serialize_with = "labels", skip_serializing_if = "is_empty")]
    target: &'a Labels,
    /// Absent when the metric was named in the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<&'a str>,
    r#type: &'a str,
    help: &'a str,
    unit: &'a str,
}

fn row<'a>(row: &'a MetadataRow, metric: Option<&'a str>) -> TargetMetadata<'a> {
    TargetMetadata { target: &row.target, metric, r#type: &row.kind, help: &row.help, unit: &row.unit }
}

pub(super) async fn target_metadata(State(web): State<Arc<Web>>, Query(parameters): Parameters) -> Outcome {
    let parameters = firsts(parameters);
    let given = |name: &str| parameters.get(name).filter(|v| !v.is_empty());
    let targets = match given("match_target") {
        None => Selector::default(),
        Some(text) => {
            Selector::parse(text).map_err(|e| ApiError::BadData(format!("invalid parameter \"match_target\": {e}")))?
        }
    };
    let metric = given("metric").cloned();
    let count_max = count(&parameters, "limit")?.unwrap_or(usize::MAX).min(WEB_METADATA_PER_ANSWER_MAX);
    let query = MetadataQuery { targets, metric: metric.clone(), scope: MetadataScope::PerTarget, count_max };
    let rows = web.appliance.metadata(query).await.map_err(ApiError::Timeout)?;
    let answer: Vec<_> = rows.iter().map(|r| row(r, metric.is_none().then_some(r.metric.as_str()))).collect();
    Ok(web.in_flight.success(&answer, &[]))
}

pub(super) async fn metadata(State(web): State<Arc<Web>>, Query(parameters): Parameters) -> Outcome {
    let parameters = firsts(parameters);
    let limit = count(&parameters, "limit")?.unwrap_or(usize::MAX);
    // Prometheus takes 0 for "no limit" here and only here.
    let per_metric = count(&parameters, "limit_per_metric")?.filter(|n| *n > 0).unwrap_or(usize::MAX);
    let query = MetadataQuery {
        targets: Selector::default(),
        metric: parameters.get("metric").filter(|v| !v.is_empty()).cloned(),
        scope: MetadataScope::Distinct,
        count_max: WEB_METADATA_PER_ANSWER_MAX,
    };
    let rows = web.appliance.metadata(query).await.map_err(ApiError::Timeout)?;
    let mut answer: BTreeMap<&str, Vec<TargetMetadata<'_>>> = BTreeMap::new();
    for r in &rows {
        if !answer.contains_key(r.metric.as_str()) && answer.len() >= limit {
            continue;
        }
        let of_metric = answer.entry(&r.metric).or_default();
        if of_metric.len() < per_metric {
            of_metric.push(row(r, None));
        }
    }
    Ok(web.in_flight.success(&answer, &[]))
}

pub(super) async fn status_config(State(web): State<Arc<Web>>) -> Response {
    web.in_flight.success(&serde_json::json!({ "yaml": web.appliance.config_yaml() }), &[])
}

pub(super) async fn status_flags(State(web): State<Arc<Web>>) -> Response {
    web.in_flight.success(&web.appliance.flags(), &[])
}

pub(super) async fn status_runtime(State(web): State<Arc<Web>>) -> Response {
    let view = web.appliance.runtime();
    // The Go runtime's keys stay, since clients read them by name; what we do not have is zero or empty.
    let answer = serde_json::json!({
        "startTime": rfc3339::text(Some(view.start_ns)),
        "CWD": view.cwd,
        "hostname": view.hostname,
        "serverTime": rfc3339::text(Some(Now::read().wall_ns)),
        "reloadConfigSuccess": view.reload_error.is_none(),
        "lastConfigTime": rfc3339::text(view.last_reload_ns),
        "corruptionCount": view.corruptions,
        "goroutineCount": 0,
        "GOMAXPROCS": view.shards,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": view.storage_retention,
        "shards": view.shards,
        "engine": view.engine,
        "engineReason": view.engine_reason,
    });
    web.in_flight.success(&answer, &[])
}

pub(super) async fn status_build(State(web): State<Arc<Web>>) -> Response {
    web.in_flight.success(&super::manage::build(), &[])
}

/// Ours: one question for the page.
pub(super) async fn status_overview(State(web): State<Arc<Web>>) -> Response {
    web.in_flight.success(&overview(web.appliance.as_ref(), Now::read()), &[])
}

/// Query endpoints answer as Prometheus's agent does.
pub(super) async fn not_a_query_engine() -> ApiError {
    ApiError::Execution("unavailable with ringscrape: query the receiver of its remote write".to_owned())
}

/// CORS preflight.
pub(super) async fn preflight() -> Response {
    axum::http::StatusCode::NO_CONTENT.into_response()
}
