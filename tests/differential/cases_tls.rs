//! Behaviours of targets over TLS: certificates, ends, redirects between the schemes.

use crate::case::{Case, case};
use crate::cases_text::series;
use crate::support::answer::{Answer, Last, gzip};

const OK: &str = "# TYPE a gauge\na 1\nb{x=\"y\"} 2\n";

/// A case on the listener of that name, with these lines below `tls_config`.
fn secure(name: &str, listener: &str, tls: &str, answers: Vec<Answer>) -> Case {
    let tls = if tls.is_empty() { String::new() } else { format!("tls_config: {{{tls}}}\n") };
    case(name, answers).with(&format!("scheme: https\n{tls}{}", on(name, listener, "")))
}

fn on(name: &str, listener: &str, labels: &str) -> String {
    format!(
        "static_configs:\n- targets: ['@TLS:{listener}@']\n  labels: {{case: '{name}', instance: '@ADDR@'{labels}}}"
    )
}

fn ok() -> Answer {
    Answer::ok(OK)
}

const CA: &str = "ca_file: '@CERTS@/ca.pem'";

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [certificates(), ends(), schemes()].concat()
}

fn certificates() -> Vec<Case> {
    let twice = || vec![ok(), Answer::ok("a 2\n")];
    let named = "server_name: other.test";
    vec![
        secure(
            "tls-good",
            "good",
            CA,
            vec![
                ok(),
                Answer::ok(series(3_000, |_| true)),
                Answer::encoded("gzip", gzip(OK)),
                Answer::status("500 Internal Server Error", OK),
                Answer::chunked(OK, 3, "", "0\r\n\r\n"),
                ok(),
            ],
        ),
        secure("tls-wrong-name", "wrong-name", CA, twice()),
        secure("tls-server-name", "wrong-name", &format!("{CA}, {named}"), twice()),
        secure("tls-wrong-server-name", "good", &format!("{CA}, {named}"), twice()),
        secure("tls-expired", "expired", CA, twice()),
        secure("tls-self-signed", "self-signed", "", twice()),
        secure("tls-self-signed-trusted", "self-signed", "ca_file: '@CERTS@/self-signed.pem'", twice()),
        secure("tls-unverified", "expired", "insecure_skip_verify: true", twice()),
        secure("tls-unverified-name", "wrong-name", "insecure_skip_verify: true", twice()),
        secure(
            "tls-client",
            "client",
            &format!("{CA}, cert_file: '@CERTS@/client.pem', key_file: '@CERTS@/leaf-key.pem'"),
            twice(),
        ),
        secure("tls-client-missing", "client", CA, twice()),
        secure("tls-min-version", "good", &format!("{CA}, min_version: TLS13"), twice()),
    ]
}

fn ends() -> Vec<Case> {
    let until = |last| Answer::until_close("HTTP/1.1", OK).then(last);
    vec![
        secure("tls-until-close", "good", CA, vec![until(Last::Close), ok(), until(Last::Close), ok()]),
        secure("tls-until-cut", "good", CA, vec![ok(), until(Last::Cut), ok(), until(Last::Cut)]),
        secure("tls-cut-in-record", "good", CA, vec![ok(), until(Last::CutInRecord), ok()]),
        secure(
            "tls-truncated",
            "good",
            CA,
            vec![ok(), ok().cut(130, Last::Close), ok(), ok().cut(100, Last::Cut), ok()],
        ),
        secure("tls-whole-then-cut", "good", CA, vec![ok().then(Last::Cut), ok().then(Last::Cut), ok()]),
        secure(
            "tls-stale",
            "good",
            CA,
            vec![ok(), Answer::nothing(Last::Close), ok(), Answer::nothing(Last::Cut), Answer::ok("a 9\n"), ok()],
        ),
    ]
}

fn schemes() -> Vec<Case> {
    let to = |place: &str| Answer::redirect("302 Found", place);
    let tls = format!("tls_config: {{{CA}}}");
    vec![
        case("tls-by-label", vec![ok(), ok()])
            .with(&format!("{tls}\n{}", on("tls-by-label", "good", ", __scheme__: https"))),
        case("tls-by-relabel", vec![ok(), ok()]).with(&format!(
            "{tls}\nrelabel_configs:\n- {{target_label: __scheme__, replacement: https}}\n{}",
            on("tls-by-relabel", "good", "")
        )),
        case("tls-redirect-to", vec![to("https://@TLS:good@/@S@/tls-redirect-to/end")])
            .with(&format!("{tls}\nbasic_auth: {{username: u, password: p}}"))
            .script("/tls-redirect-to/end", vec![Answer::echo(&["authorization"])])
            .scrapes(3),
        secure("tls-redirect-from", "good", CA, vec![to("http://@ADDR@/@S@/tls-redirect-from/end")])
            .with("basic_auth: {username: u, password: p}")
            .script("/tls-redirect-from/end", vec![Answer::echo(&["authorization"])])
            .scrapes(3),
        secure("tls-redirect-self", "good", CA, vec![to("/@S@/tls-redirect-self/end")])
            .script("/tls-redirect-self/end", vec![ok()])
            .scrapes(3),
        case("tls-redirect-untrusted", vec![to("https://@TLS:self-signed@/@S@/tls-redirect-untrusted/end")])
            .with(&tls)
            .script("/tls-redirect-untrusted/end", vec![ok()])
            .scrapes(2),
        // The listener speaks the other scheme.
        case("tls-to-plain", vec![ok()]).with(&format!("scheme: https\n{tls}")).scrapes(2),
        case("tls-from-plain", vec![ok()]).with(&on("tls-from-plain", "good", "")).scrapes(2),
    ]
}
