//! The `global` section and what jobs inherit from it.

use std::time::Duration;

use super::errors::{At, NoteKind};
use super::fields::Fields;
use super::load::LoadOptions;
use super::node::{Kind, Node};
use super::types::{Global, NameValidation, ScrapeProtocol};
use crate::model::{Labels, TEXT_BYTES_MAX};
use crate::relabel::is_valid_label_name;

pub(super) const PROTOCOLS: [(&str, ScrapeProtocol); 5] = [
    ("OpenMetricsText0.0.1", ScrapeProtocol::OpenMetrics001),
    ("OpenMetricsText1.0.0", ScrapeProtocol::OpenMetrics100),
    ("PrometheusProto", ScrapeProtocol::Proto),
    ("PrometheusText0.0.4", ScrapeProtocol::Text004),
    ("PrometheusText1.0.0", ScrapeProtocol::Text100),
];

/// Limits that jobs inherit; `None` and 0 both mean none.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pub(super) body_size: Option<u64>,
    pub(super) samples: Option<u64>,
    pub(super) targets: Option<u64>,
    pub(super) labels: Option<u64>,
    pub(super) label_name_length: Option<u64>,
    pub(super) label_value_length: Option<u64>,
    pub(super) dropped_targets: Option<u64>,
}

impl Limits {
    /// Zero means inherit, so a job cannot lift a global limit. prometheus: config.go, ScrapeConfig.Validate.
    pub(super) fn read(f: &Fields<'_>) -> Self {
        Self {
            body_size: f.size("body_size_limit").filter(|n| *n > 0),
            samples: f.limit("sample_limit"),
            targets: f.limit("target_limit"),
            labels: f.limit("label_limit"),
            label_name_length: f.limit("label_name_length_limit"),
            label_value_length: f.limit("label_value_length_limit"),
            dropped_targets: f.limit("keep_dropped_targets"),
        }
    }
}

/// What jobs inherit, beside what the rest of the program sees of `global`.
#[derive(Clone, Debug)]
pub(super) struct Inherited {
    pub(super) global: Global,
    pub(super) limits: Limits,
    pub(super) protocols: Option<Vec<ScrapeProtocol>>,
    pub(super) validation: NameValidation,
    pub(super) extra_scrape_metrics: bool,
}

/// Reads `global`; an empty section gives the defaults. prometheus: config.go, GlobalConfig.UnmarshalYAML.
pub(super) fn global(at: &At<'_>, node: &Node, options: &LoadOptions<'_>) -> Inherited {
    let mut inherited = Inherited {
        global: Global {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::from_secs(10),
            external_labels: Labels::default(),
        },
        limits: Limits::default(),
        protocols: None,
        validation: NameValidation::Utf8,
        extra_scrape_metrics: options.extra_scrape_metrics,
    };
    let Some(f) = Fields::new(at, node) else { return inherited };
    inherited.validation = name_validation(&f).unwrap_or_default();
    let interval = f.duration("scrape_interval").filter(|d| !d.is_zero()).unwrap_or(inherited.global.scrape_interval);
    let timeout = f.duration("scrape_timeout").filter(|d| !d.is_zero());
    if timeout.is_some_and(|t| t > interval) {
        f.error("scrape_timeout", "is longer than the scrape_interval; make it equal or shorter");
    }
    inherited.global.scrape_timeout = timeout.unwrap_or(inherited.global.scrape_timeout.min(interval));
    inherited.global.scrape_interval = interval;
    inherited.global.external_labels = external_labels(&f, inherited.validation, options.env);
    inherited.limits = Limits::read(&f);
    inherited.protocols = protocols(&f);
    inherited.extra_scrape_metrics = f.flag("extra_scrape_metrics").unwrap_or(options.extra_scrape_metrics);
    escaping(&f, inherited.validation);
    histograms(&f);
    queries(&f);
    f.finish(|_| None);
    inherited
}

/// Keys about rules and queries: without effect, but not without sense.
fn queries(f: &Fields<'_>) {
    for key in ["evaluation_interval", "rule_query_offset", "query_max_duration"] {
        let _ = f.duration(key);
    }
    for key in ["query_max_series", "query_max_samples_read"] {
        let _ = f.count(key);
    }
    let _ = f.text("query_log_file");
    f.no_effect(&["evaluation_interval", "rule_query_offset", "query_log_file"]);
    f.no_effect(&["query_max_series", "query_max_samples_read", "query_max_duration"]);
}

pub(super) fn name_validation(f: &Fields<'_>) -> Option<NameValidation> {
    let text = f.text("metric_name_validation_scheme")?;
    match text.as_str() {
        "" => None,
        "utf8" => Some(NameValidation::Utf8),
        "legacy" => Some(NameValidation::Legacy),
        _ => {
            f.error("metric_name_validation_scheme", format!("must be utf8 or legacy, found {text:?}"));
            None
        }
    }
}

/// The escaping that goes with the validation is what is negotiated; another one is not.
pub(super) fn escaping(f: &Fields<'_>, validation: NameValidation) {
    let Some(text) = f.text("metric_name_escaping_scheme") else { return };
    let ours = match validation {
        NameValidation::Utf8 => "allow-utf-8",
        NameValidation::Legacy => "underscores",
    };
    let key = "metric_name_escaping_scheme";
    match text.as_str() {
        "" => {}
        t if t == ours => {}
        "allow-utf-8" => f.error(key, "allow-utf-8 needs metric_name_validation_scheme: utf8"),
        "underscores" | "dots" | "values" => f.error(key, format!("unsupported: only {ours} with this validation")),
        _ => f.error(key, format!("must be one of allow-utf-8, underscores, dots, values; found {text:?}")),
    }
}

/// Keys about native histograms and log files, common to `global` and jobs.
pub(super) fn histograms(f: &Fields<'_>) {
    let native = "native histograms are not scraped";
    f.unsupported(
        &["scrape_native_histograms", "convert_classic_histograms_to_nhcb", "always_scrape_classic_histograms"],
        native,
    );
    f.unsupported(&["scrape_failure_log_file"], "failures are in the log and in the targets API");
}

/// An explicit list. prometheus: config.go, validateAcceptScrapeProtocols.
pub(super) fn protocols(f: &Fields<'_>) -> Option<Vec<ScrapeProtocol>> {
    f.value("scrape_protocols")?;
    let names = f.texts("scrape_protocols")?;
    if names.is_empty() {
        f.error("scrape_protocols", "cannot be empty; remove the key for the default");
    }
    let mut all = Vec::new();
    for name in &names {
        match protocol(name) {
            Some(p) if all.contains(&p) => f.error("scrape_protocols", format!("{name} is there twice")),
            Some(p) => all.push(p),
            None => f.error("scrape_protocols", unknown_protocol(name)),
        }
    }
    let unspoken: Vec<_> = PROTOCOLS.iter().filter(|(_, p)| all.contains(p) && !p.is_text()).map(|p| p.0).collect();
    if !unspoken.is_empty() {
        let text = format!("scrape_protocols: {} not spoken yet: the text format is asked for", unspoken.join(", "));
        f.at.note(NoteKind::Warning, text);
    }
    Some(all)
}

pub(super) fn protocol(name: &str) -> Option<ScrapeProtocol> {
    PROTOCOLS.iter().find(|(n, _)| *n == name).map(|(_, p)| *p)
}

pub(super) fn unknown_protocol(name: &str) -> String {
    format!("unknown scrape protocol {name:?}, one of {}", PROTOCOLS.map(|(n, _)| n).join(", "))
}

fn external_labels(f: &Fields<'_>, validation: NameValidation, env: &dyn Fn(&str) -> Option<String>) -> Labels {
    let Some(item) = f.item("external_labels") else { return Labels::default() };
    if let Kind::Map(entries) = &item.node.kind {
        for e in entries.iter().filter(|e| !is_valid_label_name(&e.key, validation)) {
            item.at.key(&e.key, e.line).error(format!("{:?} is not a valid label name", e.key));
        }
    }
    let mut pairs = Vec::new();
    for (name, value) in f.text_map("external_labels") {
        let mut unset = Vec::new();
        let value = expand(&value, &mut |variable| {
            env(variable).filter(|v| !v.is_empty()).unwrap_or_else(|| {
                unset.push(variable.to_owned());
                String::new()
            })
        });
        for variable in unset {
            let at = item.at.key(&name, item.node.line);
            at.note(NoteKind::Warning, format!("environment variable {variable} is not set"));
        }
        if name.len().max(value.len()) > TEXT_BYTES_MAX {
            let shown = if name.len() > TEXT_BYTES_MAX { "..." } else { &name };
            item.at.key(shown, item.node.line).error("a name or text of 16 MiB or more");
            continue;
        }
        pairs.push((name, value));
    }
    Labels::from_pairs(pairs)
}

/// `$VAR` and `${VAR}`; `$$` is a dollar. go: os.Expand, with its treatment of malformed references.
fn expand(text: &str, value: &mut dyn FnMut(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if after.is_empty() {
            out.push('$');
        }
        let (name, len) = shell_name(after);
        match name {
            "" if len == 0 && !after.is_empty() => out.push('$'),
            "" => {}
            "$" => out.push('$'),
            name => out.push_str(&value(name)),
        }
        rest = &after[len..];
    }
    out.push_str(rest);
    out
}

/// The name after a dollar and how many bytes it takes; an empty name with a length is malformed and vanishes.
fn shell_name(text: &str) -> (&str, usize) {
    let special = |b: Option<&u8>| b.is_some_and(|b| b"*#$@!?-0123456789".contains(b));
    let bytes = text.as_bytes();
    if bytes.first() == Some(&b'{') {
        return match text.find('}') {
            None => ("", 1),
            Some(1) => ("", 2),
            Some(end) => (&text[1..end], end + 1),
        };
    }
    if special(bytes.first()) {
        return (&text[..1], 1);
    }
    let len = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    (&text[..len], len)
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn expands_like_go() {
        for (text, want) in [
            ("plain", "plain"),
            ("$A", "[A]"),
            ("${A}b", "[A]b"),
            ("$A-$B", "[A]-[B]"),
            ("$$A", "$A"),
            ("a$", "a$"),
            ("a$ b", "a$ b"),
            ("${}x", "x"),
            ("${A", "A"),
            ("$1x", "[1]x"),
            ("é$é", "é$é"),
        ] {
            assert_eq!(expand(text, &mut |name| format!("[{name}]")), want, "{text}");
        }
    }
}
