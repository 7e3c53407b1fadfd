//! One destination as an HTTP client: headers, credentials, TLS, redirects; one call, one answer.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::answer::{Answer, retry_after};
use crate::base::limits::{KEEPALIVE_IDLE_NS, REDIRECTS_MAX, REMOTE_ERROR_BYTES};
use crate::base::time::Now;
use crate::config::{Auth, HttpClient, RemoteWrite, Secret, SecretSource};
use crate::net::tls::{Material, TlsError, client_config, server_name, unused_config};

type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A destination that cannot be addressed.
#[derive(Debug)]
pub enum EndpointError {
    /// The URL.
    Url(String),
    /// A header's name or value.
    Header(String),
    /// TLS settings.
    Tls(TlsError),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(f, "url: {why}"),
            Self::Header(name) => write!(f, "headers: {name:?} is not a header that can be sent"),
            Self::Tls(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for EndpointError {}

/// See the file's caption. Lives on one thread.
#[derive(Debug)]
pub struct Endpoint {
    uri: Uri,
    url_auth: Option<Secret>,
    extra: HeaderMap,
    http: HttpClient,
    timeout: Duration,
    /// For plain URLs and for https ones; made at first use.
    /// With what their files held.
    clients: RefCell<[Option<(u128, HttpsClient)>; 2]>,
}

impl Endpoint {
    /// Checks everything that can be checked without the network.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn new(config: &RemoteWrite) -> Result<Self, EndpointError> {
        let (uri, url_auth) = parse_url(&config.url)?;
        let mut extra = HeaderMap::new();
        for (name, value) in &config.headers {
            let parsed = (HeaderName::try_from(name), HeaderValue::from_str(value));
            let (Ok(parsed_name), Ok(value)) = parsed else { return Err(EndpointError::Header(name.clone())) };
            extra.insert(parsed_name, value);
        }
        server_name(&config.http.tls).map_err(EndpointError::Tls)?;
        let http = config.http.clone();
        Ok(Self { uri, url_auth, extra, http, timeout: config.remote_timeout, clients: RefCell::default() })
    }

    /// Sends a body; `attempt` is 0 the first time.
    pub async fn post(&self, body: Bytes, attempt: u32) -> Answer {
        match tokio::time::timeout(self.timeout, self.exchange(body, attempt)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(what)) => Answer::Failed(what),
            Err(_) => Answer::Failed(format!("no answer within {:?}", self.timeout)),
        }
    }

    async fn exchange(&self, body: Bytes, attempt: u32) -> Result<Answer, String> {
        let mut uri = self.uri.clone();
        let mut trusted = true;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(&uri, body.clone(), attempt, trusted).await?;
            let code = response.status().as_u16();
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
            match location {
                // Only these two keep method and body; the others would turn the request into a GET.
                Some(location) if self.http.follow_redirects && matches!(code, 307 | 308) => {
                    uri = resolve(&uri, location).ok_or_else(|| format!("redirect to unusable {location:?}"))?;
                    trusted = trusted && may_have_credentials(&self.uri, &uri);
                }
                _ => return Ok(answer(response).await),
            }
        }
        Err(format!("more than {REDIRECTS_MAX} redirects"))
    }

    async fn send(&self, uri: &Uri, body: Bytes, attempt: u32, trusted: bool) -> Result<Response<Incoming>, String> {
        let mut request = hyper::Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        if trusted {
            headers.extend(self.extra.clone());
            if let Some(credentials) = self.credentials()? {
                headers.insert(header::AUTHORIZATION, credentials);
            }
        }
        let fixed = |text| HeaderValue::from_static(text);
        headers.insert(header::CONTENT_TYPE, fixed("application/x-protobuf"));
        headers.insert(header::CONTENT_ENCODING, fixed("snappy"));
        headers.insert("x-prometheus-remote-write-version", fixed("0.1.0"));
        headers.insert(header::USER_AGENT, fixed(concat!("ringscrape/", env!("CARGO_PKG_VERSION"))));
        if attempt > 0 {
            headers.insert("retry-attempt", HeaderValue::from(attempt));
        }
        let client = self.client(uri).map_err(|e| e.to_string())?;
        client.request(request).await.map_err(|e| causes(&e))
    }

    /// The client for this URL; made anew when a TLS file changed.
    fn client(&self, uri: &Uri) -> Result<HttpsClient, TlsError> {
        let https = uri.scheme_str() == Some("https");
        let material = if https { Material::read(&self.http.tls)? } else { Material::default() };
        let digest = material.digest();
        let slot = &mut self.clients.borrow_mut()[usize::from(https)];
        if let Some((_, client)) = slot.as_ref().filter(|(made_from, _)| *made_from == digest) {
            return Ok(client.clone());
        }
        // The system's roots cost milliseconds and a megabyte, so a plain destination does without.
        let tls = if https { client_config(&self.http.tls, &material)? } else { unused_config()? };
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let builder = match server_name(&self.http.tls)? {
            Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name)),
            None => builder,
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_nanos(KEEPALIVE_IDLE_NS))
            .build(builder.enable_http1().wrap_connector(tcp));
        *slot = Some((digest, client.clone()));
        Ok(client)
    }

    /// Read anew for each request, so that rotated secrets need no reload.
    fn credentials(&self) -> Result<Option<HeaderValue>, String> {
        let text = match &self.http.auth {
            Auth::None => match &self.url_auth {
                Some(pair) => format!("Basic {}", BASE64.encode(pair.reveal())),
                None => return Ok(None),
            },
            Auth::Basic { username, password } => {
                let pair = format!("{}:{}", reveal(username.as_ref())?, reveal(password.as_ref())?);
                format!("Basic {}", BASE64.encode(pair))
            }
            Auth::Header { kind, credentials } => format!("{kind} {}", reveal(credentials.as_ref())?),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| "the credentials hold control characters")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn reveal(source: Option<&SecretSource>) -> Result<String, String> {
    match source {
        None => Ok(String::new()),
        Some(SecretSource::Inline(secret)) => Ok(secret.reveal().to_owned()),
        Some(SecretSource::File(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(e) => Err(format!("cannot read credentials from {}: {e}", path.display())),
        },
    }
}

/// Status and, of an error, the first bytes of the body. The rest of a body is not waited for.
async fn answer(response: Response<Incoming>) -> Answer {
    let code = response.status().as_u16();
    let after = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok());
    let retry_after = after.and_then(|v| retry_after(v, Now::read().wall_ns / 1_000_000_000));
    let mut text = Vec::new();
    let mut body = response.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(bytes) = frame.data_ref() {
            text.extend_from_slice(&bytes[..bytes.len().min(REMOTE_ERROR_BYTES - text.len())]);
        }
        if text.len() == REMOTE_ERROR_BYTES {
            break;
        }
    }
    let text = if (200..300).contains(&code) { String::new() } else { String::from_utf8_lossy(&text).trim().into() };
    Answer::Status { code, retry_after, text }
}

/// An error with its causes, outermost first.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The address without user and password, and those two.
fn parse_url(url: &str) -> Result<(Uri, Option<Secret>), EndpointError> {
    let bad = |why: &str| EndpointError::Url(why.to_owned());
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
    if !matches!(scheme, "http" | "https") {
        return Err(bad("the scheme must be http or https"));
    }
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (auth, rest) = match rest[..host_end].rfind('@') {
        Some(at) => (Some(Secret::new(percent_decoded(&rest[..at]))), &rest[at + 1..]),
        None => (None, rest),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let uri: Uri = format!("{scheme}://{rest}").parse().map_err(|e| EndpointError::Url(format!("{e}")))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("it has no host"));
    }
    Ok((uri, auth))
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The URL as it may be shown: a password in it becomes `xxxxx`. Go: url.URL, Redacted.
#[must_use]
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..host_end].rfind('@') else { return url.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:xxxxx{}", &rest[at..]),
        None => url.to_owned(),
    }
}

fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        return parse_url(location).ok().map(|u| u.0);
    }
    let root = format!("{}://{}", base.scheme_str()?, base.authority()?);
    if location.starts_with("//") {
        return parse_url(&format!("{}:{location}", base.scheme_str()?)).ok().map(|u| u.0);
    }
    let path = if location.starts_with('/') {
        location.to_owned()
    } else {
        let directory = base.path().rfind('/').map_or("/", |at| &base.path()[..=at]);
        format!("{directory}{location}")
    };
    parse_url(&format!("{root}{path}")).ok().map(|u| u.0)
}

/// Only the host that the operator gave them for, and never from TLS to plain text.
fn may_have_credentials(configured: &Uri, uri: &Uri) -> bool {
    let downgraded = configured.scheme_str() == Some("https") && uri.scheme_str() != Some("https");
    configured.host().is_some_and(|h| uri.host().is_some_and(|u| h.eq_ignore_ascii_case(u))) && !downgraded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_used_but_not_shown() {
        let (uri, auth) = parse_url("https://me:p%40ss@host:1/api?x=@#f").expect("a good url");
        assert_eq!(uri.to_string(), "https://host:1/api?x=@");
        assert_eq!(auth.expect("user and password").reveal(), "me:p@ss");
        assert_eq!(redacted("https://me:p%40ss@host:1/api?x=@"), "https://me:xxxxx@host:1/api?x=@");
        assert_eq!(redacted("http://host/a@b:c@d"), "http://host/a@b:c@d");
        assert!(parse_url("ftp://host/").is_err() && parse_url("host/x").is_err() && parse_url("http://").is_err());
    }

    #[test]
    fn redirects_keep_secrets_at_home() {
        let base: Uri = "https://a.example/v1/push?t=1".parse().expect("a uri");
        for (location, want, trusted) in [
            ("/other", "https://a.example/other", true),
            ("other?u=2", "https://a.example/v1/other?u=2", true),
            ("//b.example/x", "https://b.example/x", false),
            ("https://A.example:8443/x", "https://A.example:8443/x", true),
            ("http://a.example/x", "http://a.example/x", false),
            ("https://a.example.evil/x", "https://a.example.evil/x", false),
        ] {
            let got = resolve(&base, location).expect("resolvable");
            assert_eq!(got.to_string(), want);
            assert_eq!(may_have_credentials(&base, &got), trusted, "{location}");
        }
    }
}
