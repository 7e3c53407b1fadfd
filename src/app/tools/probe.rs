//! One target scraped by hand, on the very engine, exchange and series code of a shard.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;

use url::Url;

use crate::app::cli::ScrapeArgs;
use crate::base::time::Now;
use crate::config::{ScrapeConfig, ScrapeProtocol, SecretSource};
use crate::encoding::gzip::Inflater;
use crate::engine::Backend;
use crate::model::{IdentityHasher, Labels};
use crate::net::tls::{Client, Fault, Material, Session, TlsError};
use crate::net::{Dialled, Flow, Job, Link, Net, NetError, Outcome, Phases, ResponseHead, Secured, Sink};
use crate::scrape::error::ScrapeError;
use crate::scrape::exchange::{Exchange, Tools, Wanted};
use crate::scrape::redirect::{self, Place};
use crate::scrape::request::{RequestFrame, RequestLine};
use crate::scrape::{Host, Scheme};
use crate::series::{Metadata, PoolSeries, ScrapeCache, ScrapeTime, Store, StoreStats, Tallies};

/// As many hops as Go's client follows.
const REDIRECTS_MAX: u32 = 10;
/// The only target.
const TOKEN: u32 = 0;

/// The outcome of one scrape.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Where the last request went.
    pub url: String,
    /// Address of the last request.
    pub addr: Option<SocketAddr>,
    /// Name look-ups, nanoseconds.
    pub resolve_ns: u64,
    /// From the first request to the verdict, nanoseconds.
    pub total_ns: u64,
    /// Decompression and parsing, and the series' verdict, nanoseconds.
    pub parse_ns: u64,
    /// Of the last exchange.
    pub phases: Phases,
    /// Redirects followed.
    pub hops: u32,
    /// Status code; 0 without an answer.
    pub status: u16,
    /// As the target says.
    pub content_type: String,
    /// As the target says; empty for none.
    pub encoding: String,
    /// After decompression.
    pub body_bytes: u64,
    /// Lines that were as the layout said.
    pub predicted: u64,
    /// What the series room counted.
    pub tallies: Tallies,
    /// Why the scrape failed.
    pub error: Option<ScrapeError>,
}

impl Report {
    /// Whether the request went over the connection of the scrape before.
    pub fn is_kept(&self) -> bool {
        self.phases.dialled == Dialled::Before
    }
}

/// A target and what is known of it from scrape to scrape.
pub(super) struct Probe<B: Backend> {
    net: Net<B>,
    config: ScrapeConfig,
    frame: RequestFrame,
    pool: PoolSeries,
    tools: Tools,
    cache: ScrapeCache,
    first: Place,
    /// Made when something is fetched over TLS.
    tls: Option<Client>,
}

impl<B: Backend> Probe<B> {
    /// For the address on the command line.
    ///
    /// # Errors
    /// A URL that cannot be scraped.
    pub fn new(backend: B, arguments: &ScrapeArgs) -> Result<Self, String> {
        let first = place_of(&arguments.url)?;
        let mut config = ScrapeConfig {
            job_name: "scrape".into(),
            scrape_interval: arguments.timeout,
            scrape_timeout: arguments.timeout,
            enable_compression: true,
            honor_timestamps: true,
            scrape_protocols: vec![ScrapeProtocol::Text100, ScrapeProtocol::Text004],
            ..ScrapeConfig::default()
        };
        config.http.follow_redirects = true;
        config.http.tls.ca = arguments.ca_file.clone().map(SecretSource::File);
        config.http.tls.insecure_skip_verify = arguments.insecure_skip_verify;
        let pool = PoolSeries::new(&config).map_err(|e| e.to_string())?;
        let labels = Labels::from_pairs([("instance", first.authority.as_str()), ("job", config.job_name.as_str())]);
        Ok(Self {
            net: Net::new(backend),
            frame: RequestFrame::new(&config),
            cache: ScrapeCache::new(&pool, &labels),
            tools: Tools { store: Store::new(IdentityHasher::random()), inflater: Inflater::default() },
            pool,
            config,
            first,
            tls: None,
        })
    }

    /// Layouts and bindings after the scrapes so far.
    pub fn store(&self) -> StoreStats {
        self.tools.store.stats()
    }

    /// Families of the last good body.
    pub fn families(&self) -> Vec<Metadata> {
        self.cache.metadata()
    }

    /// Scrapes once, redirects included.
    pub fn scrape(&mut self) -> Report {
        let started = Now::read();
        let deadline_ns = started.mono_ns + self.config.scrape_timeout.as_nanos() as u64;
        let mut report = Report::default();
        let mut exchange = Exchange::new(started.wall_ms(), started, deadline_ns, &self.config);
        let mut place = self.first.clone();
        loop {
            report.url = place.url();
            let addresses = match resolve(&place.host, &mut report.resolve_ns) {
                Ok(addresses) => addresses,
                Err(text) => {
                    exchange.fail(ScrapeError::Name { url: report.url.clone(), text });
                    break;
                }
            };
            if let (Scheme::Https, None) = (place.scheme, &self.tls) {
                match client(&self.config) {
                    Ok(client) => self.tls = Some(client),
                    Err(e) => {
                        exchange.fail(ScrapeError::TlsSettings(e.to_string()));
                        break;
                    }
                }
            }
            exchange = self.fetch(exchange, &place, &addresses, &mut report);
            let Some(location) = exchange.location.take() else { break };
            let url = report.url.clone();
            if exchange.hops >= REDIRECTS_MAX {
                exchange.fail(ScrapeError::TooManyRedirects { url });
                break;
            }
            match redirect::follow(&url, &location) {
                Ok(next) => {
                    exchange.hop(url, next.clone());
                    place = next;
                }
                Err(error) => {
                    exchange.fail(ScrapeError::Redirect { url, error });
                    break;
                }
            }
        }
        report.hops = exchange.hops;
        self.settle(exchange, &mut report);
        report.total_ns = Now::read().mono_ns - started.mono_ns;
        report
    }

    /// One request; the addresses of a name are tried in turn as long as none connects.
    fn fetch(&mut self, exchange: Exchange, place: &Place, addresses: &[SocketAddr], report: &mut Report) -> Exchange {
        let line = RequestLine {
            path: &place.path,
            authority: &place.authority,
            timeout_ns: self.config.scrape_timeout.as_nanos() as i64,
            authorization: None,
            referer: exchange.referer.as_deref(),
            is_last: false,
        };
        let mut request = Vec::new();
        self.frame.write(&line, &mut request);
        let deadline_mono_ns = exchange.deadline_mono_ns;
        let Self { net, config, tools, cache, pool, tls: client, first, .. } = self;
        let is_own = place.host == first.host;
        let link = if is_own || place.scheme == Scheme::Http { Link::Keep } else { Link::Fresh };
        let tls = (place.scheme == Scheme::Https).then_some(Secured(NonZeroU32::MIN));
        let name = place.host.name().into_owned();
        let client = client.as_ref();
        let mut ear = Ear { request, config, tools, cache, pool, client, name, exchange, report, outcome: None };
        for (i, &addr) in addresses.iter().enumerate() {
            let mut now = Now::read();
            net.start(Job { tls, ..Job::plain(TOKEN, addr, link, deadline_mono_ns) });
            ear.outcome = None;
            while ear.outcome.is_none() {
                now = net.turn(now, Some(deadline_mono_ns), &mut ear);
            }
            ear.report.addr = Some(addr);
            match ear.outcome {
                Some(Outcome::Failed(error, phases)) => {
                    ear.report.phases = phases;
                    if !error.is_connect() || i + 1 == addresses.len() {
                        let url = ear.report.url.clone();
                        ear.exchange.fail(match error {
                            NetError::Tls(fault) => ScrapeError::Tls { url, name: ear.name.clone(), fault },
                            error => ScrapeError::Net { url, error },
                        });
                        break;
                    }
                }
                Some(Outcome::Done(phases) | Outcome::Stopped(phases)) => {
                    ear.report.phases = phases;
                    if ear.exchange.location.is_none() {
                        let before = Now::read();
                        while !ear.exchange.on_end(ear.tools) {}
                        ear.report.parse_ns += Now::read().mono_ns - before.mono_ns;
                    }
                    break;
                }
                None => unreachable!("the loop above waits for it"),
            }
        }
        ear.exchange
    }

    fn settle(&mut self, exchange: Exchange, report: &mut Report) {
        report.body_bytes = exchange.body_bytes;
        let now = Now::read();
        let time = ScrapeTime { time_ms: exchange.time_ms, now_ms: now.wall_ms() };
        let store = &mut self.tools.store;
        let mut scraped = match exchange.into_parse() {
            Ok(Some(parse)) => {
                report.predicted = parse.predicted_count();
                self.cache.finish(store, &self.pool, parse, time)
            }
            Ok(None) => self.cache.fail(store, time),
            Err(error) => {
                report.error = Some(error);
                self.cache.fail(store, time)
            }
        };
        report.parse_ns += Now::read().mono_ns - now.mono_ns;
        report.tallies = scraped.tallies;
        if let Some(error) = scraped.error.take() {
            report.error.get_or_insert(ScrapeError::Series(error));
        }
        store.recycle(scraped);
    }
}

/// Hears an answer.
struct Ear<'a> {
    request: Vec<u8>,
    config: &'a ScrapeConfig,
    tools: &'a mut Tools,
    cache: &'a ScrapeCache,
    pool: &'a PoolSeries,
    client: Option<&'a Client>,
    /// That a certificate should be valid for.
    name: String,
    exchange: Exchange,
    report: &'a mut Report,
    outcome: Option<Outcome>,
}

impl Sink for Ear<'_> {
    fn request(&mut self, _token: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn session(&mut self, _token: u32) -> Result<Session, Fault> {
        self.client.ok_or(Fault::NotConfigured)?.session(&self.name)
    }

    fn head(&mut self, _token: u32, head: &ResponseHead<'_>) -> Flow {
        let text = |t: Option<&[u8]>| String::from_utf8_lossy(t.unwrap_or_default()).into_owned();
        self.report.status = head.status;
        self.report.content_type = text(head.content_type());
        self.report.encoding = text(head.content_encoding());
        let parse = self.tools.store.begin(self.pool, self.cache);
        flow(self.exchange.on_head(head, self.config, self.tools, parse))
    }

    fn bytes(&mut self, _token: u32, chunk: &[u8]) -> Flow {
        let before = Now::read();
        let wanted = self.exchange.on_bytes(chunk, self.tools);
        self.report.parse_ns += Now::read().mono_ns - before.mono_ns;
        flow(wanted)
    }

    fn end(&mut self, _token: u32, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

fn client(config: &ScrapeConfig) -> Result<Client, TlsError> {
    let tls = &config.http.tls;
    Client::new(tls, &Material::read(tls)?, 1)
}

fn flow(wanted: Wanted) -> Flow {
    match wanted {
        Wanted::More => Flow::More,
        Wanted::Nothing => Flow::Stop,
    }
}

fn place_of(text: &str) -> Result<Place, String> {
    let written = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url =
        Url::parse(&written).map_err(|e| format!("{text:?}: {e}; write for example http://127.0.0.1:9100/metrics"))?;
    if Scheme::of(url.scheme()).is_none() {
        return Err(format!("{text}: scheme {:?}; only http and https are spoken", url.scheme()));
    }
    let path = match (url.path(), url.query()) {
        // Somebody who leaves the path out means the usual one.
        ("/" | "", None) => "/metrics".to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(query)) => format!("{path}?{query}"),
    };
    redirect::follow(url.as_str(), &path).map_err(|e| format!("{text}: {e}"))
}

fn resolve(host: &Host, spent_ns: &mut u64) -> Result<Vec<SocketAddr>, String> {
    let (name, port) = match host {
        Host::Addr(addr) => return Ok(vec![*addr]),
        Host::Name { name, port } => (name, *port),
        Host::Nowhere(text) => return Err(text.to_string()),
    };
    let before = Now::read();
    let found = (&**name, port).to_socket_addrs();
    *spent_ns += Now::read().mono_ns - before.mono_ns;
    match found.map(Iterator::collect::<Vec<_>>) {
        Ok(all) if all.is_empty() => Err(format!("lookup {name}: no such host")),
        Ok(all) => Ok(all),
        Err(e) => Err(format!("lookup {name}: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_and_other_schemes_refused() {
        let place = |t| place_of(t).unwrap();
        assert_eq!(place("127.0.0.1:9100").path, "/metrics");
        assert_eq!(place("http://127.0.0.1:9100/a?b=c").path, "/a?b=c");
        assert_eq!(place("http://[::1]:80/x").host, Host::Addr("[::1]:80".parse().unwrap()));
        assert_eq!(place("http://node/").authority, "node");
        assert_eq!(place("https://x").host, Host::Name { name: "x".into(), port: 443 });
        assert_eq!(place("https://x/a").url(), "https://x/a");
        assert!(place_of("ftp://x/").is_err());
        assert!(place_of("http://").is_err());
    }
}
