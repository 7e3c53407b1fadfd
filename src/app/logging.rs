//! Log lines: logfmt as Prometheus 3 writes them, or JSON, to standard error.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::app::cli::{LogFormat, LogLevel, LogOptions};
use crate::base::rfc3339;
use crate::base::time::Now;

/// Starts logging for the whole process. Called once, by `main`.
pub fn start(options: LogOptions) {
    let level = match options.level {
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
    };
    // Libraries only speak up when something is wrong with them.
    let filter = format!("warn,ringscrape={}", level.as_str().to_lowercase());
    let filter = tracing_subscriber::EnvFilter::new(filter);
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match options.format {
        LogFormat::Logfmt => tracing::subscriber::set_global_default(base.event_format(Logfmt).finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(base.json().flatten_event(true).finish()),
    };
    assert!(started.is_ok(), "logging is started once");
}

/// `time=2026-11-23T01:02:03.004Z level=INFO source=shard msg="..." key=value`
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        let source = meta.target().split("::").nth(1).unwrap_or(meta.target());
        write!(
            out,
            "time={} level={} source={source}",
            rfc3339::text(Some(Now::read().wall_ms() * 1_000_000)),
            meta.level()
        )?;
        let mut fields = Fields { message: String::new(), rest: String::new() };
        event.record(&mut fields);
        write!(out, " msg={}{}", quoted(&fields.message), fields.rest)?;
        if let Some(span) = context.lookup_current()
            && let Some(text) = span.extensions().get::<FormattedFields<N>>()
        {
            write!(out, " {text}")?;
        }
        writeln!(out)
    }
}

struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            let _ = write!(self.rest, " {}={}", field.name(), quoted(&text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            let _ = write!(self.rest, " {}={}", field.name(), quoted(value));
        }
    }
}

fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && text.bytes().all(|b| b > b' ' && b != b'"' && b != b'=' && b != 0x7f);
    if plain { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_when_they_must_be() {
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("a"), "a");
        assert_eq!(quoted(""), "\"\"");
    }
}
