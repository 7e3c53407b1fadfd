//! Behaviours of the exchange: status, length, encoding, connection, time.

use std::time::Duration;

use crate::case::{Case, case};
use crate::cases_text::series;
use crate::support::answer::{Answer, Last, TEXT, gzip};

const OK: &str = "# TYPE a gauge\na 1\nb{x=\"y\"} 2\n";

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [statuses(), types(), encodings(), framing(), connections(), slowness(), redirects(), requests()].concat()
}

fn ok() -> Answer {
    Answer::ok(OK)
}

fn statuses() -> Vec<Case> {
    let between = |status: &str| vec![ok(), Answer::status(status, OK), ok()];
    vec![
        case("status-500", between("500 Internal Server Error")),
        case("status-404", between("404 Not Found")),
        case("status-206", between("206 Partial Content")),
        case("status-203", between("203 Non-Authoritative Information")),
        case("status-204", vec![ok(), Answer::raw("HTTP/1.1 204 No Content\r\n\r\n"), ok()]),
        case("status-304", vec![ok(), Answer::raw("HTTP/1.1 304 Not Modified\r\n\r\n"), ok()]),
        case("status-401", between("401 Unauthorized")),
        case("status-first", vec![Answer::status("503 Service Unavailable", ""), ok(), ok()]),
        case(
            "status-odd-reason",
            vec![
                ok(),
                Answer::status("200 Whatever You Like", OK),
                Answer::status("200 ", OK),
                Answer::status("200", OK),
                ok(),
            ],
        ),
        case(
            "informational-first",
            vec![
                ok(),
                Answer::raw(format!(
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: 4\r\n\r\na 7\n"
                )),
                Answer::raw(format!(
                    "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: 4\r\n\r\na 8\n"
                )),
                ok(),
            ],
        ),
        case(
            "not-http",
            vec![
                ok(),
                Answer::raw("SSH-2.0-OpenSSH_9\r\n\r\n").then(Last::Close),
                Answer::raw("\0\0\0\0\r\n\r\n").then(Last::Close),
                ok(),
            ],
        ),
        case(
            "http-2-preface-line",
            vec![
                ok(),
                Answer::raw("HTTP/2.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\na 1\n")
                    .then(Last::Close),
                ok(),
            ],
        ),
    ]
}

fn types() -> Vec<Case> {
    vec![
        case("type-blank-header", vec![ok(), Answer::with("200 OK", &[], OK), Answer::typed("", OK), ok()]),
        case(
            "type-foreign",
            vec![ok(), Answer::typed("text/html", OK), Answer::typed("application/json; charset=utf-8", OK), ok()],
        ),
        case(
            "type-foreign-cut",
            vec![
                ok(),
                Answer::raw("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 40\r\n\r\n")
                    .then(Last::Close),
                ok(),
                Answer::raw(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\na 1\n",
                ),
                ok(),
            ],
        ),
        case("type-unparsable", vec![ok(), Answer::typed("text/plain; =", OK), Answer::typed(";;;", OK), ok()]),
        case(
            "type-plain-variants",
            vec![
                Answer::typed("text/plain", OK),
                Answer::typed("TEXT/PLAIN;charset=iso-8859-1", OK),
                Answer::typed("text/plain; version=9.9.9", OK),
                Answer::typed("  text/plain ; version=0.0.4 ", OK),
            ],
        ),
        case(
            "type-twice",
            vec![ok(), Answer::with("200 OK", &[("Content-Type", TEXT), ("Content-Type", "text/html")], OK), ok()],
        ),
        case(
            "type-blank-empty-body",
            vec![ok(), Answer::with("200 OK", &[], ""), Answer::typed("text/html", ""), ok()],
        ),
        case(
            "header-case",
            vec![Answer::raw(format!(
                "HTTP/1.1 200 OK\r\ncontent-TYPE: {TEXT}\r\ncontent-LENGTH:4\r\nX-Y:\tz\t\r\n\r\na 1\n"
            ))],
        ),
        case("header-many", vec![ok(), Answer::raw(many_headers(90)), ok()]),
    ]
}

fn many_headers(count: usize) -> String {
    let headers: String = (0..count).map(|i| format!("X-{i}: {i}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\n{headers}Content-Type: {TEXT}\r\nContent-Length: {}\r\n\r\n{OK}", OK.len())
}

fn encodings() -> Vec<Case> {
    let zipped = gzip(OK);
    let mut corrupt = zipped.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    let mut wrong_sum = zipped.clone();
    let end = wrong_sum.len();
    wrong_sum[end - 6] ^= 0xff;
    let big = series(3_000, |_| true);
    vec![
        case("gzip", vec![Answer::encoded("gzip", &zipped), ok(), Answer::encoded("gzip", gzip(&big))]),
        case(
            "gzip-corrupt",
            vec![
                ok(),
                Answer::encoded("gzip", &corrupt),
                Answer::encoded("gzip", &wrong_sum),
                Answer::encoded("gzip", OK),
                ok(),
            ],
        ),
        case(
            "gzip-truncated",
            vec![
                ok(),
                Answer::encoded("gzip", &zipped[..zipped.len() - 9]),
                Answer::encoded("gzip", &zipped[..5]),
                ok(),
            ],
        ),
        case("gzip-trailing", vec![ok(), Answer::encoded("gzip", [zipped.as_slice(), b"garbage"].concat()), ok()]),
        case("gzip-two-members", vec![ok(), Answer::encoded("gzip", [gzip("a 1\n"), gzip("b 2\n")].concat()), ok()]),
        case("gzip-empty", vec![ok(), Answer::encoded("gzip", gzip("")), Answer::encoded("gzip", ""), ok()]),
        case(
            "encoding-other-name",
            vec![
                ok(),
                Answer::encoded("GZIP", &zipped),
                Answer::encoded("x-gzip", OK),
                Answer::encoded("identity", OK),
                Answer::encoded("deflate", OK),
                ok(),
            ],
        ),
        case("gzip-a-thousandfold", vec![Answer::encoded("gzip", gzip(&thousandfold())), ok()]),
        case("gzip-chunked", vec![Answer::raw(chunked_gzip(&zipped))]),
    ]
}

/// A body that takes many turns to inflate: 17 MiB of comments between two samples.
fn thousandfold() -> String {
    format!("a 1\n{}b 2\n", format!("#{}\n", "-".repeat(1022)).repeat(17 << 10))
}

fn chunked_gzip(zipped: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut out = head.into_bytes();
    for chunk in zipped.chunks(7) {
        out.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn framing() -> Vec<Case> {
    let both = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 1\n\r\n0\r\n\r\n"
    );
    let twice = |a: usize, b: usize| {
        Answer::raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: {a}\r\nContent-Length: {b}\r\n\r\na 1\n"
        ))
        .then(Last::Close)
    };
    vec![
        case("chunked", vec![Answer::chunked(OK, 3, "", "0\r\n\r\n"), Answer::chunked(OK, 1, "", "0\r\n\r\n"), ok()]),
        case("chunked-extensions", vec![Answer::chunked(OK, 5, ";ext=\"1\";y", "0;last\r\n\r\n"), ok()]),
        case("chunked-trailers", vec![Answer::chunked(OK, 5, "", "0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n"), ok(), ok()]),
        case(
            "chunked-truncated",
            vec![
                ok(),
                Answer::chunked(OK, 5, "", "").then(Last::Close),
                Answer::chunked(OK, 5, "", "0\r\n").then(Last::Close),
                ok(),
            ],
        ),
        case(
            "chunked-bad-length",
            vec![
                ok(),
                Answer::chunked(OK, 5, "", "xyz\r\n").then(Last::Close),
                Answer::chunked(OK, 5, "", "-1\r\n").then(Last::Close),
                ok(),
            ],
        ),
        case("length-and-chunked", vec![ok(), Answer::raw(&both), ok()]),
        case("length-twice", vec![ok(), twice(4, 4), twice(4, 3), ok()]),
        case(
            "length-garbage",
            vec![
                ok(),
                Answer::raw(format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: x\r\n\r\na 1\n"))
                    .then(Last::Close),
                Answer::raw(format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: -4\r\n\r\na 1\n"))
                    .then(Last::Close),
                ok(),
            ],
        ),
        case("length-zero", vec![ok(), Answer::lying(0, ""), ok()]),
        case("length-too-long", vec![ok(), Answer::lying(OK.len() + 5, OK).then(Last::Close), ok()]),
        case("length-too-short", vec![ok(), Answer::lying(4, "a 1\nb 2\n").then(Last::Close), ok()]),
        case("until-close", vec![Answer::until_close("HTTP/1.1", OK), ok(), Answer::until_close("HTTP/1.1", "")]),
        case("http-1.0", vec![Answer::until_close("HTTP/1.0", OK), Answer::until_close("HTTP/1.0", OK), ok()]),
        case(
            "http-1.0-keep",
            vec![
                Answer::raw(format!(
                    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Type: {TEXT}\r\nContent-Length: 4\r\n\r\na 1\n"
                )),
                ok(),
            ],
        ),
        case(
            "bare-newlines",
            vec![ok(), Answer::raw(format!("HTTP/1.1 200 OK\nContent-Type: {TEXT}\nContent-Length: 4\n\na 5\n")), ok()],
        ),
        case("head-cut", vec![ok(), Answer::ok(OK).cut(20, Last::Close), Answer::ok(OK).cut(40, Last::Close), ok()]),
    ]
}

fn connections() -> Vec<Case> {
    let closing =
        |body: &str| Answer::with("200 OK", &[("Content-Type", TEXT), ("Connection", "close")], body).then(Last::Close);
    vec![
        case("close-each", vec![closing(OK), closing(OK), closing("a 1\n")]),
        case("close-unannounced", vec![ok().then(Last::Close), ok().then(Last::Close), Answer::ok("a 2\n"), ok()]),
        case(
            "stale-keep-alive",
            vec![ok(), Answer::nothing(Last::Close), ok(), Answer::nothing(Last::Reset), Answer::ok("a 9\n"), ok()],
        ),
        case("closed-on-fresh", vec![closing(OK), Answer::nothing(Last::Close), ok()]),
        case("reset-on-fresh", vec![closing(OK), Answer::nothing(Last::Reset), ok()]),
        case("reset-in-body", vec![ok(), ok().cut(110, Last::Reset), ok()]),
        case(
            "truncated",
            vec![ok(), ok().cut(130, Last::Close), Answer::ok("a 1\n"), ok().cut(100, Last::Close), ok()],
        ),
        case("refused", vec![ok()])
            .with("static_configs:\n- targets: ['127.0.0.1:1']\n  labels: {case: refused, instance: i}")
            .scrapes(3),
        case("no-such-name", vec![ok()])
            .with("static_configs:\n- targets: ['no-such-host.invalid:80']\n  labels: {case: no-such-name}")
            .scrapes(3),
        case("by-name", vec![ok(), ok()])
            .with("static_configs:\n- targets: ['localhost:@PORT@']\n  labels: {case: by-name, instance: i}"),
    ]
}

fn slowness() -> Vec<Case> {
    let long = Duration::from_millis(2_300);
    vec![
        case("slow-head", vec![ok(), ok().after(long).then(Last::Close), ok(), ok()]),
        case("slow-body", vec![ok(), ok().drip(40, Duration::from_millis(500)).then(Last::Close), ok(), ok()]),
        case("drip", vec![ok().drip(7, Duration::from_millis(5)), ok().drip(1, Duration::from_millis(1)), ok()]),
        case(
            "endless-silence",
            vec![ok(), Answer::lying(1_000_000, "a 1\n").drip(4_000, long).then(Last::Close), ok(), ok()],
        ),
        case("short-timeout", vec![ok(), ok().after(Duration::from_millis(900)).then(Last::Close), ok()])
            .with("scrape_timeout: 300ms"),
        case("own-interval", vec![ok(), Answer::ok("a 2\n"), Answer::ok("a 3\n")])
            .with("scrape_interval: 2s\nscrape_timeout: 1500ms"),
    ]
}

fn redirects() -> Vec<Case> {
    let to = |status: &str, place: &str| Answer::redirect(status, place);
    vec![
        case(
            "redirect-followed",
            vec![
                to("302 Found", "/@S@/redirect-followed/end"),
                to("301 Moved Permanently", "http://@ADDR@/@S@/redirect-followed/end"),
                to("307 Temporary Redirect", "redirect-followed/end"),
                to("308 Permanent Redirect", "//@ADDR@/@S@/redirect-followed/end?q=1#f"),
                to("303 See Other", "/@S@/redirect-followed/once"),
            ],
        )
        .script("/redirect-followed/end", vec![Answer::echo(&[])])
        .script("/redirect-followed/once", vec![to("302 Found", "/@S@/redirect-followed/end")]),
        case("redirect-not-followed", vec![ok(), to("302 Found", "/@S@/redirect-not-followed"), ok()])
            .with("follow_redirects: false"),
        case("redirect-loop", vec![to("302 Found", "/@S@/redirect-loop")]).scrapes(2),
        case(
            "redirect-nowhere",
            vec![
                ok(),
                Answer::with("302 Found", &[], OK),
                to("302 Found", "gopher://x/"),
                to("302 Found", "http://[::bad/"),
                to("304 Not Modified", "/"),
                ok(),
            ],
        ),
        case("redirect-other-host", vec![to("302 Found", "http://127.0.0.2:@PORT@/@S@/redirect-other-host/end")])
            .with("basic_auth: {username: u, password: p}")
            .script("/redirect-other-host/end", vec![Answer::echo(&["authorization", "host"])])
            .scrapes(2),
        case("redirect-same-host", vec![to("302 Found", "/@S@/redirect-same-host/end")])
            .with("basic_auth: {username: u, password: p}")
            .script("/redirect-same-host/end", vec![Answer::echo(&["authorization"])])
            .scrapes(2),
    ]
}

fn requests() -> Vec<Case> {
    vec![
        case("request-headers", vec![Answer::echo(&["accept-encoding", "x-prometheus-scrape-timeout-seconds", "authorization"])]).with("scrape_timeout: 750ms"),
        case("request-accept", vec![Answer::echo(&["accept"])]),
        case("basic-auth", vec![Answer::echo(&["authorization"])]).with("basic_auth: {username: user, password: 'p:ä'}"),
        case("bearer", vec![Answer::echo(&["authorization"])]).with("authorization: {credentials: abc}"),
        case("authorization-type", vec![Answer::echo(&["authorization"])]).with("authorization: {type: ' Token ', credentials: abc}"),
        case("bearer-token-old", vec![Answer::echo(&["authorization"])]).with("bearer_token: old"),
        case("params", vec![Answer::echo(&[])]).with("params: {module: [http_2xx, second], 'a b': ['c&d', 'e'], empty: [''], 'match[]': ['{a=\"b\"}', x]}"),
        case("params-label", vec![Answer::echo(&[])])
            .with("params: {module: [one, two]}\nrelabel_configs:\n- {target_label: __param_module, replacement: 'x y'}\n- {target_label: __param_target, replacement: 'h:1/ü'}"),
    ]
}
