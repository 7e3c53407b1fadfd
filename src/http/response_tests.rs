//! Tests of the response machine: behaviours one by one, then any slicing against the whole, then the naive twin.

use proptest::prelude::*;

use super::*;
use crate::base::limits::{CHUNK_LINE_BYTES_MAX, CHUNK_OVERHEAD_BYTES, HEAD_BYTES_MAX, HEADERS_MAX, TRAILER_BYTES_MAX};

/// What a run of the machine gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Story {
    heads: Vec<(u16, Framing, bool)>,
    body: Vec<u8>,
    end: Option<Result<Progress, HttpError>>,
}

struct Writer {
    story: Story,
    stop_at: usize,
}

impl Receiver for Writer {
    fn head(&mut self, head: &ResponseHead<'_>) -> Flow {
        self.story.heads.push((head.status, head.framing, head.keep_alive));
        Flow::More
    }
    fn bytes(&mut self, chunk: &[u8]) -> Flow {
        assert!(!chunk.is_empty() && !self.story.heads.is_empty());
        self.story.body.extend_from_slice(chunk);
        if self.story.body.len() >= self.stop_at { Flow::Stop } else { Flow::More }
    }
}

/// Feeds the bytes in pieces that end at `cuts`, then the end of the stream.
fn tell(bytes: &[u8], cuts: &[usize]) -> Story {
    let mut writer = Writer { story: Story::default(), stop_at: usize::MAX };
    let mut machine = Response::default();
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let mut from = 0;
    for to in ends {
        match machine.feed(&bytes[from..to], &mut writer) {
            Ok(Progress::More) => from = to,
            // How much follows a complete response is only known from the slice that completes it.
            Ok(Progress::Done(_)) => {
                writer.story.end = Some(Ok(Progress::Done(Ending::Close)));
                return writer.story;
            }
            end => {
                writer.story.end = Some(end);
                return writer.story;
            }
        }
    }
    writer.story.end = Some(machine.eof().map(|()| Progress::Done(Ending::Close)));
    writer.story
}

fn end_of(bytes: &[u8]) -> Result<Progress, HttpError> {
    let mut writer = Writer { story: Story::default(), stop_at: usize::MAX };
    Response::default().feed(bytes, &mut writer)
}

fn error_of(head: &str) -> Option<HttpError> {
    tell(format!("{head}\r\n\r\n0\r\n\r\n").as_bytes(), &[]).end.and_then(Result::err)
}

#[test]
fn heads_say_how_bodies_end() {
    let framing = |head: &str| tell(format!("{head}\r\n\r\n").as_bytes(), &[]).heads[0];
    assert_eq!(framing("HTTP/1.1 200 OK\r\ncontent-LENGTH:  7 "), (200, Framing::Length(7), true));
    assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7"), (200, Framing::Length(7), true));
    assert_eq!(
        framing("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: Chunked"),
        (200, Framing::Chunked, true)
    );
    assert_eq!(framing("HTTP/1.1 200 OK"), (200, Framing::UntilClose, false));
    assert_eq!(framing("HTTP/1.1 204 No Content"), (204, Framing::Length(0), true));
    assert_eq!(framing("HTTP/1.1 304 Not Modified\r\nContent-Length: 9"), (304, Framing::Length(0), true));
    assert_eq!(framing("HTTP/1.1 200\r\nConnection: x, CLOSE\r\nContent-Length: 1"), (200, Framing::Length(1), false));
    assert_eq!(framing("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked"), (200, Framing::UntilClose, false));
    assert_eq!(framing("HTTP/1.1 200 OK\nContent-Length: 3\n"), (200, Framing::Length(3), true));
    assert_eq!(
        framing("HTTP/1.1  200 OK\r\nContent-Length: 0000000000000000000000003"),
        (200, Framing::Length(3), true)
    );
    assert_eq!(framing("HTTP/2.0 200 OK\r\nContent-Length: 3"), (200, Framing::Length(3), true));
    assert_eq!(framing("HTTP/0.9 200 OK\r\nContent-Length: 3"), (200, Framing::Length(3), false));
}

/// As net/http has it: such a name is not that of the header it looks like.
#[test]
fn names_with_blanks_name_nothing_and_reasons_hold_anything() {
    let framing = |head: &str| tell(format!("{head}\r\n\r\n").as_bytes(), &[]).heads.first().map(|h| h.1);
    for (head, want) in [
        ("HTTP/1.1 200 OK\r\nContent-Length : 3", Some(Framing::UntilClose)),
        ("HTTP/1.1 200 OK\r\nContent-Length : 3\r\n 4\r\nContent-Length: 5", Some(Framing::Length(5))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding  : chunked", Some(Framing::Length(5))),
        ("HTTP/1.1 200 OK\r\nX Y: a\r\n b\r\nContent-Length: 5", Some(Framing::Length(5))),
        ("HTTP/1.1 200 O\x01\x7f\rK\0\r\nContent-Length: 5", Some(Framing::Length(5))),
        ("HTTP/1.2 200 \x1b[31m\nX : y\nContent-Length: 5", Some(Framing::Length(5))),
        ("HTTP/1.1 200 OK\r\nX\t: a", None),
        ("HTTP/1.1 200 OK\r\nX(y) : a", None),
        ("HTTP/1.1 200 OK\r\nX y\r\nContent-Length: 5", None),
        ("HTTP/1.1 200 OK\r\n X: a", None),
        ("HTTP/1.1 200 OK\r\nX: a\x01", None),
        ("HTTP/1.1 2\x010 OK", None),
    ] {
        assert_eq!(framing(head), want, "{head:?}");
    }
    let mut shown = String::new();
    struct Reason<'a>(&'a mut String);
    impl Receiver for Reason<'_> {
        fn head(&mut self, head: &ResponseHead<'_>) -> Flow {
            self.0.push_str(head.reason);
            Flow::Stop
        }
        fn bytes(&mut self, _: &[u8]) -> Flow {
            Flow::Stop
        }
    }
    let _ = Response::default().feed(b"HTTP/1.1 503 O\x1b[31mK\tx\r\n\r\n", &mut Reason(&mut shown));
    assert_eq!(shown, "O?[31mK\tx");
}

#[test]
fn bad_heads_have_names() {
    let ok = "HTTP/1.1 200 OK\r\n";
    for bad in ["-1", "+1", "", "0x10", "1 2", "1,1", "9223372036854775808", "99999999999999999999"] {
        assert_eq!(error_of(&format!("{ok}Content-Length: {bad}")), Some(HttpError::ContentLength), "{bad}");
    }
    assert_eq!(error_of(&format!("{ok}Content-Length: 1\r\nContent-Length: 2")), Some(HttpError::ConflictingLength));
    assert_eq!(error_of(&format!("{ok}Transfer-Encoding: gzip, chunked")), Some(HttpError::TransferEncoding));
    for (trailer, error) in [("X, content-LENGTH", Some(HttpError::Trailer)), ("X, Y", None)] {
        let head = format!("{ok}Trailer: {trailer}\r\nTransfer-Encoding: chunked");
        assert_eq!(error_of(&head), error, "{trailer}");
        assert_eq!(error_of(&format!("{ok}Trailer: {trailer}")), None, "without chunks it says nothing");
    }
    assert_eq!(error_of("HTTP/1.1 twohundred OK"), Some(HttpError::Head));
    assert_eq!(error_of(&format!("{ok}No colon here")), Some(HttpError::Head));
    assert_eq!(error_of(&format!("{ok}Key v")), Some(HttpError::Head));
    assert_eq!(error_of("HTTP/2 200"), Some(HttpError::NotHttp));
    assert_eq!(error_of("\r\nHTTP/1.1 200 OK"), Some(HttpError::NotHttp));
    assert_eq!(error_of(&format!("{ok}{}", "a: b\r\n".repeat(HEADERS_MAX + 1))), Some(HttpError::TooManyHeaders));
    assert_eq!(error_of(&format!("{ok}a: {}", "b".repeat(HEAD_BYTES_MAX))), Some(HttpError::HeadTooLarge));
    // Interim heads count against the same limit, so they cannot go on forever.
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(HEAD_BYTES_MAX / 20);
    assert_eq!(end_of(interim.as_bytes()), Err(HttpError::HeadTooLarge));
}

#[test]
fn fields_are_found_without_case() {
    struct Look(bool);
    impl Receiver for Look {
        fn head(&mut self, h: &ResponseHead<'_>) -> Flow {
            assert_eq!((h.reason, h.content_length()), ("Too Bad", Some(0)));
            assert_eq!(h.content_type(), Some(&b"text/plain; version=0.0.4"[..]));
            assert_eq!(h.content_encoding(), Some(&b"gzip"[..]));
            assert_eq!((h.location(), h.retry_after()), (Some(&b"/x"[..]), Some(&b"7"[..])));
            assert_eq!(h.header("x-none"), None);
            self.0 = true;
            Flow::More
        }
        fn bytes(&mut self, _: &[u8]) -> Flow {
            unreachable!("no body")
        }
    }
    let head = b"HTTP/1.1 503 Too Bad\r\nCONTENT-TYPE: text/plain; version=0.0.4\r\ncontent-encoding: gzip\r\n\
        Location: /x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let mut look = Look(false);
    assert_eq!(Response::default().feed(head, &mut look), Ok(Progress::Done(Ending::Keep)));
    assert!(look.0);
}

#[test]
fn extra_bytes_close_and_cuts_are_errors() {
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(end_of(whole), Ok(Progress::Done(Ending::Keep)));
    assert_eq!(end_of(&[&whole[..], b"HTTP/1.1 200 OK\r\n"].concat()), Ok(Progress::Done(Ending::Close)));
    assert_eq!(tell(&whole[..whole.len() - 1], &[]).end, Some(Err(HttpError::UnexpectedEof)));
    assert_eq!(tell(&whole[..9], &[]).end, Some(Err(HttpError::UnexpectedEof)));
    assert_eq!(tell(b"", &[]).end, Some(Err(HttpError::Eof)));
    let mut writer = Writer { story: Story::default(), stop_at: 2 };
    assert_eq!(Response::default().feed(whole, &mut writer), Ok(Progress::Stopped));
}

fn chunked(body: &str) -> Story {
    tell(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes(), &[])
}

#[test]
fn chunks_are_strict_where_it_matters() {
    let done = Some(Ok(Progress::Done(Ending::Close)));
    for (good, body) in [
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("A \r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("3;a=\"b\"\r\nabc\r\n000\r\nTrailer: x\r\nAnother: y\r\n\r\n", "abc"),
        ("0\r\n\r\n", ""),
        ("0000000000000003  \r\nabc\r\n0\r\nA b: c\r\n\td\r\n\r\n", "abc"),
    ] {
        let story = chunked(good);
        assert_eq!((story.body.as_slice(), story.end), (body.as_bytes(), done), "{good:?}");
    }
    for bad in
        ["\r\n", "x\r\n", "-3\r\nabc\r\n", "3\nabc\r\n", "3\r\nabcd\r\n", "3;x\nabc", "10000000000000000\r\n", ";x\r\n"]
    {
        assert_eq!(chunked(bad).end, Some(Err(HttpError::Chunk)), "{bad:?}");
    }
    for bad in ["00000000000000003\r\n", "3 ;x\r\n", "3 3\r\n"] {
        assert_eq!(chunked(bad).end, Some(Err(HttpError::Chunk)), "{bad:?}");
    }
    for bad in ["x\r\n", ": y\r\n", " x: y\r\n", "\u{e9}: y\r\n"] {
        assert_eq!(chunked(&format!("0\r\n{bad}")).end, Some(Err(HttpError::Trailer)), "{bad:?}");
    }
    assert_eq!(chunked("5\r\nabc").end, Some(Err(HttpError::UnexpectedEof)));
    assert_eq!(chunked("0\r\nx: a\ny: b\r\n\r\n").end, done);
    for bad in ["x: a\n", "\n", "x: a\rb\r\n", "x: a\r\r\n", "x: \x7f\r\n"] {
        assert_eq!(chunked(&format!("0\r\n{bad}\r\n")).end, Some(Err(HttpError::Trailer)), "{bad:?}");
    }
    let ext = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(CHUNK_OVERHEAD_BYTES as usize / 900);
    assert_eq!(chunked(&ext).end, Some(Err(HttpError::ChunkOverhead)));
    let line = |bytes: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(bytes - 4));
    assert_eq!(chunked(&line(CHUNK_LINE_BYTES_MAX as usize)).end, done);
    assert_eq!(chunked(&line(CHUNK_LINE_BYTES_MAX as usize + 1)).end, Some(Err(HttpError::ChunkLineTooLong)));
    let trailer = |bytes: usize| format!("0\r\na: {}\r\n\r\n", "b".repeat(bytes - 7));
    assert_eq!(chunked(&trailer(TRAILER_BYTES_MAX as usize)).end, done);
    assert_eq!(chunked(&trailer(TRAILER_BYTES_MAX as usize + 1)).end, Some(Err(HttpError::TrailerTooLarge)));
    // Single-byte chunks are silly but honest.
    assert_eq!(chunked(&format!("{}0\r\n\r\n", "1\r\na\r\n".repeat(100_000))).body.len(), 100_000);
}

/// The naive twin: reads a well-formed chunked body line by line.
fn naive_chunks(mut text: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = text.windows(2).position(|w| w == b"\r\n").unwrap();
        let line = std::str::from_utf8(&text[..end]).unwrap();
        let n = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
        text = &text[end + 2..];
        if n == 0 {
            return body;
        }
        body.extend_from_slice(&text[..n]);
        text = &text[n + 2..];
    }
}

prop_compose! {
    fn chunked_body()(parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..60), "(;[a-z=]{0,5})?"), 0..8))
        -> Vec<u8> {
        let mut out = Vec::new();
        for (bytes, extension) in parts {
            out.extend_from_slice(format!("{:X}{extension}\r\n", bytes.len()).as_bytes());
            out.extend_from_slice(&bytes);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }
}

proptest! {
    /// Any slicing of a good response gives the whole one's events, and the naive decoder's body.
    #[test]
    fn slicing_changes_nothing(body in chunked_body(), cuts in prop::collection::vec(any::<usize>(), 0..40), interim in 0..3usize) {
        let mut bytes = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(interim);
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n");
        bytes.extend_from_slice(&body);
        let whole = tell(&bytes, &[]);
        prop_assert_eq!(&whole.body, &naive_chunks(&body));
        prop_assert_eq!(whole.heads.len(), 1);
        prop_assert_eq!(tell(&bytes, &cuts), whole.clone());
        prop_assert_eq!(tell(&bytes, &(0..bytes.len()).collect::<Vec<_>>()), whole);
    }

    /// The same with damaged bytes: the same verdict at any slicing, and never a panic.
    #[test]
    fn slicing_changes_nothing_of_damage(
        body in chunked_body(),
        length in prop::option::of(0..50u32),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let framing = length.map_or("Transfer-Encoding: chunked".to_owned(), |n| format!("Content-Length: {n}"));
        let mut bytes = format!("HTTP/1.1 200 OK\r\n{framing}\r\nA: b\r\n\r\n").into_bytes();
        bytes.extend_from_slice(&body);
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let whole = tell(&bytes, &[]);
        prop_assert_eq!(tell(&bytes, &cuts), whole.clone());
        prop_assert_eq!(tell(&bytes, &(0..bytes.len()).collect::<Vec<_>>()), whole);
    }
}
