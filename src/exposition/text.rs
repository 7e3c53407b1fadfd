//! The plain tokenizer of the classic text format. prometheus: model/textparse, promlex.l and promparse.go.

use std::fmt;

use super::value;

/// The sticky type of the last `# TYPE` line; it governs how `le` and `quantile` are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// `counter`
    Counter,
    /// `gauge`
    Gauge,
    /// `histogram`
    Histogram,
    /// `summary`
    Summary,
    /// `untyped`, or no TYPE line yet.
    #[default]
    Unknown,
}

/// One sample line, as places in the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Name and labels as written, leading blanks included.
    pub series: (usize, usize),
    /// Where the value begins.
    pub value_at: usize,
    /// Canonical.
    pub value: f64,
    /// Milliseconds.
    pub timestamp: Option<i64>,
    /// After the line's end.
    pub end: usize,
}

/// What stands at a place of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line {
    /// The input ends inside this line: come back with more.
    Incomplete,
    /// A NUL where a line begins: all that follows is ignored, and that is a success.
    End,
    /// A blank line, a comment or metadata; ends before this place.
    Skipped { end: usize, kind: Option<MetricType> },
    /// A sample.
    Sample(Sample),
}

/// Why a body is refused: what was expected where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// In words.
    pub what: &'static str,
    /// The line so far, at most 80 bytes of it.
    pub near: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} while parsing: {:?}", self.what, self.near)
    }
}

/// Why a token could not be had.
enum Stop {
    Incomplete,
    Bad(&'static str),
}

type Step<T> = Result<T, Stop>;

/// Reads the line that begins at `at`.
///
/// # Errors
/// Where Prometheus's parser gives up; the whole scrape fails then.
pub fn line(bytes: &[u8], at: usize) -> Result<Line, SyntaxError> {
    let mut c = Cursor { bytes, at };
    match read(&mut c) {
        Ok(line) => Ok(line),
        Err(Stop::Incomplete) => Ok(Line::Incomplete),
        Err(Stop::Bad(what)) => {
            let near = &bytes[at..(c.at + 1).min(bytes.len()).min(at + 80)];
            Err(SyntaxError { what, near: String::from_utf8_lossy(near).into_owned() })
        }
    }
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Step<u8> {
        self.bytes.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    fn blanks(&mut self) -> Step<u8> {
        loop {
            match self.peek()? {
                b' ' | b'\t' => self.at += 1,
                other => return Ok(other),
            }
        }
    }

    fn while_(&mut self, keep: impl Fn(u8) -> bool) -> Step<()> {
        while keep(self.peek()?) {
            self.at += 1;
        }
        Ok(())
    }

    fn line_end(&mut self) -> Step<()> {
        let rest = &self.bytes[self.at..];
        self.at += memchr::memchr(b'\n', rest).ok_or(Stop::Incomplete)?;
        Ok(())
    }

    fn newline(&mut self, what: &'static str) -> Step<()> {
        if self.blanks()? != b'\n' {
            return Err(Stop::Bad(what));
        }
        self.at += 1;
        Ok(())
    }

    /// A quoted text at the cursor, which is left behind it. Raw newlines are allowed, escaped ones are not.
    fn quoted(&mut self, what: &'static str) -> Step<()> {
        if self.peek()? != b'"' {
            return Err(Stop::Bad(what));
        }
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            self.at += memchr::memchr2(b'"', b'\\', rest).ok_or(Stop::Incomplete)?;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Ok(());
            }
            if *self.bytes.get(self.at + 1).ok_or(Stop::Incomplete)? == b'\n' {
                return Err(Stop::Bad(what));
            }
            self.at += 2;
        }
    }
}

fn is_name_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b == b':'
}

fn is_label_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_'
}

fn read(c: &mut Cursor<'_>) -> Step<Line> {
    let start = c.at;
    match c.blanks()? {
        0 => Ok(Line::End),
        b'\n' => Ok(Line::Skipped { end: c.at + 1, kind: None }),
        b'#' => comment(c),
        b'{' => {
            let has_name = braces(c, false)?;
            if !has_name {
                return Err(Stop::Bad("metric name not set"));
            }
            suffix(c, start)
        }
        b if is_name_start(b) => {
            c.while_(|b| is_name_start(b) || b.is_ascii_digit())?;
            let mut end = c.at;
            if c.blanks()? == b'{' {
                braces(c, true)?;
                end = c.at;
            }
            suffix_from(c, start, end)
        }
        _ => Err(Stop::Bad("expected a valid start token")),
    }
}

fn suffix(c: &mut Cursor<'_>, start: usize) -> Step<Line> {
    let end = c.at;
    suffix_from(c, start, end)
}

/// Value, timestamp, newline.
fn suffix_from(c: &mut Cursor<'_>, start: usize, series_end: usize) -> Step<Line> {
    c.blanks()?;
    let value_at = c.at;
    c.while_(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n'))?;
    let text = &c.bytes[value_at..c.at];
    if text.is_empty() {
        return Err(Stop::Bad("expected value after metric"));
    }
    let Some(value) = value::parse(text) else { return Err(Stop::Bad("invalid value")) };
    let mut timestamp = None;
    if c.blanks()?.is_ascii_digit() {
        let at = c.at;
        c.while_(|b| b.is_ascii_digit())?;
        let text = std::str::from_utf8(&c.bytes[at..c.at]).unwrap_or_default();
        timestamp = Some(text.parse::<i64>().map_err(|_| Stop::Bad("timestamp out of range"))?);
    }
    c.newline("expected timestamp or new record")?;
    Ok(Line::Sample(Sample { series: (start, series_end), value_at, value, timestamp, end: c.at }))
}

/// The braces at the cursor. Says whether a metric name is known after them.
fn braces(c: &mut Cursor<'_>, mut has_name: bool) -> Step<bool> {
    c.at += 1;
    let mut next = c.blanks()?;
    loop {
        let quoted = next == b'"';
        match next {
            b'}' => {
                c.at += 1;
                return Ok(has_name);
            }
            b'"' => c.quoted("expected label name")?,
            b if is_label_start(b) => c.while_(|b| is_label_start(b) || b.is_ascii_digit())?,
            _ => return Err(Stop::Bad("expected label name")),
        }
        next = c.blanks()?;
        if quoted && (next == b',' || next == b'}') {
            if has_name {
                return Err(Stop::Bad("metric name already set"));
            }
            has_name = true;
            c.at += 1;
            if next == b'}' {
                return Ok(true);
            }
            next = c.blanks()?;
            continue;
        }
        if next != b'=' {
            return Err(Stop::Bad("expected equal"));
        }
        c.at += 1;
        c.blanks()?;
        let at = c.at;
        c.quoted("expected label value")?;
        if is_not_utf8(&c.bytes[at..c.at]) {
            return Err(Stop::Bad("invalid UTF-8 label value"));
        }
        next = c.blanks()?;
        if next == b',' {
            c.at += 1;
            next = c.blanks()?;
        }
    }
}

/// Whether the bytes are not UTF-8.
fn is_not_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err()
}

fn comment(c: &mut Cursor<'_>) -> Step<Line> {
    c.at += 1;
    let after_hash = c.at;
    let word_at = {
        c.blanks()?;
        c.at
    };
    let word = c.bytes.get(word_at..word_at + 5);
    let is_meta = |w: &[u8]| word_at > after_hash && (w[4] == b' ' || w[4] == b'\t');
    match word {
        Some(w) if is_meta(w) && w.starts_with(b"HELP") => metadata(c, word_at + 5, false),
        Some(w) if is_meta(w) && w.starts_with(b"TYPE") => metadata(c, word_at + 5, true),
        _ => {
            let from = c.at;
            c.line_end()?;
            // prometheus: promlex.l, consumeComment: a NUL inside a comment ends the input.
            if memchr::memchr(0, &c.bytes[from..c.at]).is_some() {
                return Ok(Line::End);
            }
            Ok(Line::Skipped { end: c.at + 1, kind: None })
        }
    }
}

fn metadata(c: &mut Cursor<'_>, at: usize, is_type: bool) -> Step<Line> {
    c.at = at;
    match c.blanks()? {
        b'"' => c.quoted("expected metric name")?,
        b if is_name_start(b) => c.while_(|b| is_name_start(b) || b.is_ascii_digit())?,
        _ => return Err(Stop::Bad("expected metric name after HELP or TYPE")),
    }
    let from = c.at;
    c.line_end()?;
    let rest = &c.bytes[from..c.at];
    let text = if rest.iter().all(|&b| b == b' ' || b == b'\t') { &[] } else { &rest[1..] };
    let end = c.at + 1;
    if !is_type {
        if is_not_utf8(text) {
            return Err(Stop::Bad("help text is not valid UTF-8"));
        }
        return Ok(Line::Skipped { end, kind: None });
    }
    let kind = match text {
        b"counter" => MetricType::Counter,
        b"gauge" => MetricType::Gauge,
        b"histogram" => MetricType::Histogram,
        b"summary" => MetricType::Summary,
        b"untyped" => MetricType::Unknown,
        _ => return Err(Stop::Bad("invalid metric type")),
    };
    Ok(Line::Skipped { end, kind: Some(kind) })
}
