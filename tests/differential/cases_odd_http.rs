//! Behaviours of answers nobody should send: heads, lengths and redirects out of the ordinary.

use crate::case::{Case, case};
use crate::support::answer::{Answer, Last, TEXT, gzip};

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [heads(), lengths(), chunks(), encodings(), places(), redirects()].concat()
}

const OK: &str = "a 1\n";

/// A head of these lines with a body, then the end of the connection.
fn head(lines: &str, body: &str) -> Answer {
    Answer::raw(format!("{}\r\n\r\n{body}", lines.replace('\n', "\r\n"))).then(Last::Close)
}

/// The status line and these header lines, beside type and length.
fn with(status: &str, lines: &str) -> Answer {
    head(&format!("{status}\nContent-Type: {TEXT}\nContent-Length: 4{lines}"), OK)
}

fn heads() -> Vec<Case> {
    let line = |status: &str| with(status, "");
    let extra = |lines: &str| with("HTTP/1.1 200 OK", lines);
    vec![
        case(
            "odd-status-lines",
            [
                "HTTP/1.1  200 OK",
                "HTTP/1.2 200 OK",
                "HTTP/1.9 200 OK",
                "HTTP/3.0 200 OK",
                "HTTP/0.9 200 OK",
                "HTTP/1 200 OK",
                "HTTP/11 200 OK",
                "http/1.1 200 OK",
                "HTTP/1.1\t200\tOK",
                "HTTP/1.1 20 OK",
                "HTTP/1.1 2000 OK",
                "HTTP/1.1 +20 OK",
                "HTTP/1.1 0200 OK",
                "HTTP/1.1 200OK",
                "HTTP/1.1 200 O\u{e9}K",
                " HTTP/1.1 200 OK",
                "HTTP/1.1",
            ]
            .map(line)
            .to_vec(),
        ),
        case(
            "odd-codes",
            [
                "HTTP/1.1 201 Created",
                "HTTP/1.1 202 Accepted",
                "HTTP/1.1 205 Reset",
                "HTTP/1.1 207 Multi",
                "HTTP/1.1 299 X",
                "HTTP/1.1 300 Choices",
                "HTTP/1.1 305 Proxy",
                "HTTP/1.1 306 Old",
                "HTTP/1.1 399 X",
                "HTTP/1.1 418 T",
                "HTTP/1.1 429 Many",
                "HTTP/1.1 599 X",
                "HTTP/1.1 600 X",
                "HTTP/1.1 999 X",
                "HTTP/1.1 000 X",
                "HTTP/1.1 -20 X",
                "HTTP/1.1 2 X",
            ]
            .map(line)
            .to_vec(),
        ),
        case(
            "odd-headers",
            [
                "\nX : y",
                "\nX: a\n b",
                "\nX",
                "\n: y",
                "\nX:",
                "\nX\u{e9}: y",
                "\nX: \u{e9}",
                "\nX: \u{1}",
                "\nX: a\tb",
                "\nX:y:z",
                "\n(): y",
                "\nX: a\n\tb",
                "\nSet-Cookie: a=b",
                "\nTrailer: X",
                "\nX: a\u{7f}",
            ]
            .map(extra)
            .to_vec(),
        ),
        case(
            "odd-reasons",
            ["O\u{1}K", "O\0K", "O\u{7f}K", "O\rK", "\u{1b}[31m", "O\tK"]
                .map(|r| line(&format!("HTTP/1.1 200 {r}")))
                .to_vec(),
        ),
        case(
            "odd-header-names",
            [
                "\nContent-Length : 2",
                "\nContent-Encoding : gzip",
                "\nTransfer-Encoding  : chunked",
                "\nX : a\n b",
                "\nX : a\n b\n\tc\nY: d",
                "\nTrailer: X",
            ]
            .map(extra)
            .to_vec(),
        ),
        case(
            "odd-first-header",
            vec![
                head(&format!("HTTP/1.1 200 OK\n X: y\nContent-Type: {TEXT}\nContent-Length: 4"), OK),
                head(&format!("HTTP/1.1 200 OK\n\tX: y\nContent-Type: {TEXT}\nContent-Length: 4"), OK),
                Answer::raw(format!("\r\nHTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: 4\r\n\r\n{OK}"))
                    .then(Last::Close),
                Answer::raw(format!("HTTP/1.1 200 OK\r\n\r\nContent-Type: {TEXT}\r\nContent-Length: 4\r\n\r\n{OK}"))
                    .then(Last::Close),
                Answer::raw(format!("HTTP/1.1 200 OK\rContent-Type: {TEXT}\rContent-Length: 4\r\r{OK}"))
                    .then(Last::Close),
                Answer::raw(format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\nContent-Length: 4\r\n\n{OK}"))
                    .then(Last::Close),
            ],
        ),
        case(
            "odd-informational",
            vec![
                Answer::raw(format!(
                    "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: 4\r\n\r\na 7\n"
                )),
                Answer::raw(format!(
                    "{}HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: 4\r\n\r\na 8\n",
                    "HTTP/1.1 103 Hints\r\n\r\n".repeat(5)
                ))
                .then(Last::Close),
                Answer::raw(format!(
                    "{}HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: 4\r\n\r\na 8\n",
                    "HTTP/1.1 103 Hints\r\n\r\n".repeat(6)
                ))
                .then(Last::Close),
                head(&format!("HTTP/1.1 101 Switching\nContent-Type: {TEXT}"), OK),
                head(&format!("HTTP/1.1 199 X\nContent-Length: 4"), "HTTP/1.1 200 OK\r\n\r\n"),
            ],
        ),
        case(
            "odd-connection",
            [
                "\nConnection: Close",
                "\nConnection: x, close",
                "\nConnection: keep-alive, close",
                "\nConnection: closed",
                "\nProxy-Connection: close",
                "\nKeep-Alive: timeout=0",
                "\nUpgrade: h2c\nConnection: Upgrade",
            ]
            .map(extra)
            .to_vec(),
        ),
    ]
}

fn lengths() -> Vec<Case> {
    let length = |text: &str| head(&format!("HTTP/1.1 200 OK\nContent-Type: {TEXT}\nContent-Length:{text}"), OK);
    vec![
        case(
            "odd-lengths",
            [
                "+4",
                "  4  ",
                "4, 4",
                "4,4",
                "0x4",
                "4;",
                "04",
                "000000000000000000000000004",
                "4.0",
                "",
                " ",
                "18446744073709551616",
                "9223372036854775808",
                "4 4",
                "-0",
                "\u{664}",
                "4\nContent-Length:4\nContent-Length:4",
            ]
            .map(length)
            .to_vec(),
        ),
        case(
            "odd-no-body",
            vec![
                head("HTTP/1.1 204 No Content\nContent-Length: 4", OK),
                head(&format!("HTTP/1.1 204 No Content\nContent-Type: {TEXT}"), ""),
                head("HTTP/1.1 304 Not Modified\nContent-Length: 4", OK),
                head(&format!("HTTP/1.1 205 Reset\nContent-Type: {TEXT}\nContent-Length: 0"), ""),
                head(&format!("HTTP/1.0 200 OK\nContent-Type: {TEXT}\nContent-Length: 2"), OK),
                head(
                    &format!("HTTP/1.0 200 OK\nContent-Type: {TEXT}\nTransfer-Encoding: chunked"),
                    "4\r\na 1\n\r\n0\r\n\r\n",
                ),
            ],
        ),
    ]
}

fn chunks() -> Vec<Case> {
    let chunked =
        |body: &str| head(&format!("HTTP/1.1 200 OK\nContent-Type: {TEXT}\nTransfer-Encoding: chunked"), body);
    let coding = |name: &str| {
        head(&format!("HTTP/1.1 200 OK\nContent-Type: {TEXT}\nTransfer-Encoding: {name}"), "4\r\na 1\n\r\n0\r\n\r\n")
    };
    vec![
        case(
            "odd-chunk-sizes",
            [
                "0004\r\na 1\n\r\n0\r\n\r\n",
                "4 \r\na 1\n\r\n0\r\n\r\n",
                " 4\r\na 1\n\r\n0\r\n\r\n",
                "4\t;x\r\na 1\n\r\n0\r\n\r\n",
                "+4\r\na 1\n\r\n0\r\n\r\n",
                "0x4\r\na 1\n\r\n0\r\n\r\n",
                "00000000000000004\r\na 1\n\r\n0\r\n\r\n",
                "10000000000000004\r\na 1\n\r\n0\r\n\r\n",
                "\r\na 1\n\r\n0\r\n\r\n",
                "4\na 1\n\n0\n\n",
                "4\r\na 1\n\n0\r\n\r\n",
                "4\r\na 1\nx\r\n0\r\n\r\n",
                "4\r\na 1\n0\r\n\r\n",
                "4\r\na 1\n\r\n00\r\n\r\n",
                "4\r\na 1\n\r\n0",
                "4\r\na 1\n\r\n0\r\n",
                "ffffffffffffffff\r\na 1\n\r\n0\r\n\r\n",
            ]
            .map(chunked)
            .to_vec(),
        ),
        case(
            "odd-trailers",
            [
                "4\r\na 1\n\r\n0\r\nX: y\r\n\r\n",
                "4\r\na 1\n\r\n0\r\nX\r\n\r\n",
                "4\r\na 1\n\r\n0\r\n: y\r\n\r\n",
                "4\r\na 1\n\r\n0\r\nX: y\r\n",
                "4\r\na 1\n\r\n0\r\nContent-Length: 9\r\n\r\n",
                "4\r\na 1\n\r\n0\r\nX : y\r\n\r\n",
                "4\r\na 1\n\r\n0\r\n\r\nmore",
                "4;a=\"b\r\nc\"\r\na 1\n\r\n0\r\n\r\n",
            ]
            .map(chunked)
            .to_vec(),
        ),
        case(
            "odd-chunk-lines",
            [(4000, 4000), (4097, 100), (100, 4097), (100, 1)]
                .map(|(line, trailer)| {
                    let extension = "x".repeat(line - 4);
                    let trailer = "y".repeat(trailer.max(8) - 7);
                    chunked(&format!("4;{extension}\r\na 1\n\r\n0\r\nX: {trailer}\r\n\r\n"))
                })
                .to_vec(),
        ),
        case(
            "odd-codings",
            [
                "Chunked",
                "identity",
                "gzip, chunked",
                "chunked, chunked",
                " chunked ",
                "chunked, identity",
                "\"chunked\"",
                "",
                "chunked;q=1",
                "x\nTransfer-Encoding: chunked",
                "chunked\nTransfer-Encoding: chunked",
            ]
            .map(coding)
            .to_vec(),
        ),
    ]
}

fn encodings() -> Vec<Case> {
    let zipped = gzip(OK);
    let encoded = |name: &str| Answer::encoded(name, &zipped);
    let level = |bytes: &[u8]| Answer::encoded("gzip", bytes);
    let mut named = zipped.clone();
    named[3] = 0x08;
    named.splice(10..10, *b"name\0").for_each(drop);
    let mut reserved = zipped.clone();
    reserved[3] = 0xe0;
    let mut method = zipped.clone();
    method[2] = 7;
    let mut length = zipped.clone();
    let end = length.len();
    length[end - 1] ^= 1;
    vec![
        case(
            "odd-encodings",
            [
                " gzip ",
                "gzip, gzip",
                "gzip,",
                "gzip\r\nContent-Encoding: gzip",
                "identity\r\nContent-Encoding: gzip",
                "gzip\r\nContent-Encoding: identity",
                "\"gzip\"",
                "",
                "br",
                "Gzip",
            ]
            .map(encoded)
            .to_vec(),
        ),
        case(
            "odd-gzip",
            vec![
                level(&named),
                level(&reserved),
                level(&method),
                level(&length),
                level(&[zipped.clone(), vec![0; 20]].concat()),
                level(&[zipped.clone(), vec![0x1f]].concat()),
                level(&[gzip("a 1"), gzip("2\n")].concat()),
                level(&[gzip(""), gzip("a 3\n")].concat()),
                level(&gzip("\0")),
                level(&gzip("a 1")),
            ],
        ),
    ]
}

/// Redirects to places that are written in the ways a place can be written.
fn places() -> Vec<Case> {
    [
        ("up", "../@S@/place-up/end"),
        ("here", "./place-here/end"),
        ("there-and-back", "place-there-and-back/x/../end"),
        ("nothing", ""),
        ("encoded", "/@S@/place-encoded/%65nd"),
        ("double-slash", "/@S@//place-double-slash/end"),
        ("upper-scheme", "HTTP://@ADDR@/@S@/place-upper-scheme/end"),
        ("no-path", "//@ADDR@"),
        ("blanks", " /@S@/place-blanks/end "),
        ("no-host", "http:///x"),
        ("tls", "https://@ADDR@/x"),
        ("query-only", "?x=1"),
        ("fragment", "/@S@/place-fragment/end#x"),
    ]
    .map(|(name, place)| {
        let name = format!("place-{name}");
        case(&name, vec![Answer::redirect("302 Found", place), Answer::echo(&["referer"])])
            .script(&format!("/{name}/end"), vec![Answer::echo(&["referer", "cookie"])])
            .scrapes(1)
    })
    .to_vec()
}

fn redirects() -> Vec<Case> {
    let to = |place: &str| Answer::redirect("302 Found", place);
    let chain = |name: &str, hops: usize| {
        let mut case = case(name, vec![to(&format!("/@S@/{name}/1"))]).scrapes(2);
        for hop in 1..hops {
            case = case.script(&format!("/{name}/{hop}"), vec![to(&format!("/@S@/{name}/{}", hop + 1))]);
        }
        case.script(&format!("/{name}/{hops}"), vec![Answer::echo(&["referer", "cookie"])])
    };
    vec![
        chain("redirect-nine", 9),
        chain("redirect-ten", 10),
        chain("redirect-eleven", 11),
        case("redirect-codes", ["300 X", "301 X", "302 X", "303 X", "304 X", "305 X", "306 X", "307 X", "308 X", "309 X", "201 X", "200 X"].map(|code| Answer::redirect(code, "/@S@/redirect-codes/end")).to_vec())
            .script("/redirect-codes/end", vec![Answer::echo(&[])]),
        case("redirect-without-place", ["301 X", "302 X", "303 X", "307 X", "308 X"].map(|code| Answer::with(code, &[], OK)).to_vec()),
        case("redirect-twice-placed", vec![Answer::with("302 X", &[("Location", "/@S@/redirect-twice-placed/end"), ("Location", "/nowhere"), ("Set-Cookie", "a=b")], "")])
            .script("/redirect-twice-placed/end", vec![Answer::echo(&["cookie"])]).scrapes(2),
        case("redirect-headers-kept", vec![to("/@S@/redirect-headers-kept/end")])
            .script("/redirect-headers-kept/end", vec![Answer::echo(&["accept-encoding", "x-prometheus-scrape-timeout-seconds", "referer"])]).scrapes(2),
        case("redirect-chunked-body", vec![Answer::raw("HTTP/1.1 302 X\r\nLocation: /@S@/redirect-chunked-body/end\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")])
            .script("/redirect-chunked-body/end", vec![Answer::echo(&[])]).scrapes(3),
        case("redirect-cut-body", vec![Answer::raw("HTTP/1.1 302 X\r\nLocation: /@S@/redirect-cut-body/end\r\nContent-Length: 50\r\n\r\nabc").then(Last::Close)])
            .script("/redirect-cut-body/end", vec![Answer::echo(&[])]).scrapes(3),
    ]
}
