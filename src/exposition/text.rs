//! The text format, one entry at a time, with exactly the verdicts of Prometheus's lexer and parser.
//!
//! prometheus: textparse/promlex.l and promparse.go. The lexer's ways with NUL bytes are kept too: at the start of a
//! line they end the input, inside a comment, HELP text or label value they are skipped, elsewhere they are errors.

use std::fmt;
use std::ops::Range;

use memchr::{memchr, memchr2, memchr3};

use super::value;

/// The type in force for the series that follow. Prometheus keeps it until the next TYPE line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No TYPE line yet.
    #[default]
    None,
    /// `counter`
    Counter,
    /// `gauge`
    Gauge,
    /// `histogram`
    Histogram,
    /// `summary`
    Summary,
    /// `untyped`
    Untyped,
}

impl Kind {
    /// The name in the API. prometheus: common/model, MetricType.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::None | Self::Untyped => "unknown",
        }
    }

    fn named(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"counter" => Self::Counter,
            b"gauge" => Self::Gauge,
            b"histogram" => Self::Histogram,
            b"summary" => Self::Summary,
            b"untyped" => Self::Untyped,
            _ => return None,
        })
    }
}

/// Why a body is refused; the whole scrape fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// A line starts with something that starts no line.
    Start,
    /// No metric name after HELP or TYPE.
    MetadataName,
    /// The line goes on in a way that ends it nowhere.
    MetadataEnd,
    /// An unknown type, or blanks around it.
    Type,
    /// HELP text that is not UTF-8.
    HelpUtf8,
    /// Something else than a label name inside braces.
    LabelName,
    /// No `=` after a label name.
    LabelEqual,
    /// No quoted value after `=`.
    LabelValue,
    /// A label value that is not UTF-8.
    LabelUtf8,
    /// A second quoted metric name, or one beside a plain name.
    NameTwice,
    /// Braces without a metric name.
    NameMissing,
    /// No value after the series.
    ValueMissing,
    /// A value Go's parser refuses.
    Value,
    /// A timestamp beyond 64 bits.
    Timestamp,
    /// Something after the value that is no timestamp, or after the timestamp.
    Tail,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "expected a valid start token",
            Self::MetadataName => "expected metric name after HELP or TYPE",
            Self::MetadataEnd => "linebreak expected after metadata",
            Self::Type => "invalid metric type",
            Self::HelpUtf8 => "help text is not a valid utf8 string",
            Self::LabelName => "expected label name",
            Self::LabelEqual => "expected equal",
            Self::LabelValue => "expected label value",
            Self::LabelUtf8 => "invalid UTF-8 label value",
            Self::NameTwice => "metric name already set",
            Self::NameMissing => "metric name not set",
            Self::ValueMissing => "expected value after metric",
            Self::Value => "value is no number, or out of range",
            Self::Timestamp => "timestamp out of range",
            Self::Tail => "expected timestamp or new record",
        })
    }
}

impl std::error::Error for TextError {}

/// A sample line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name and labels as written, leading blanks included: the key of Prometheus's cache.
    pub series: Range<usize>,
    /// Where the value starts: the end of the lead.
    pub value_start: usize,
    /// The value; NaN canonical.
    pub value: f64,
    /// Explicit timestamp, milliseconds.
    pub time_ms: Option<i64>,
}

/// One entry of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A sample line.
    Sample(Sample),
    /// A TYPE line: family name and type.
    Type(Range<usize>, Kind),
    /// A HELP line: family name and text, escapes not resolved.
    Help(Range<usize>, Range<usize>),
    /// A comment or a blank line.
    Other,
    /// The input ends here, whatever follows.
    End,
}

/// Why [`step`] gives no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The buffer ends inside the entry.
    Incomplete,
    /// Prometheus refuses the body.
    Error(TextError),
}

impl From<TextError> for Halt {
    fn from(e: TextError) -> Self {
        Self::Error(e)
    }
}

/// Whether more bytes may follow the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The buffer is a slice of the body.
    MayFollow,
    /// The buffer ends the body (with the newline that Prometheus appends).
    Nothing,
}

/// Reads the entry that starts at `at`, which must be a line's start; gives it and where the next one starts.
///
/// # Errors
/// [`Halt::Incomplete`] only when more bytes may follow; the verdict never depends on how a body is cut.
pub fn step(buf: &[u8], at: usize, rest: Rest) -> Result<(Entry, usize), Halt> {
    let mut lexer = Lexer { buf, at, rest };
    // The usual spelling of metadata needs none of the lexer's detours.
    if let Some([b'#', b' ', keyword @ .., b' ', c]) = buf.get(at..at + 8)
        && (keyword == b"HELP" || keyword == b"TYPE")
        && is_name_start(*c)
    {
        lexer.at += 7;
        return lexer.metadata(keyword);
    }
    lexer.blanks()?;
    match lexer.byte()? {
        0 => Ok((Entry::End, lexer.at)),
        b'\n' => Ok((Entry::Other, lexer.at + 1)),
        b'#' => lexer.comment(),
        b'{' => {
            lexer.at += 1;
            if !lexer.labels(false)? {
                return Err(TextError::NameMissing.into());
            }
            let series = at..lexer.at;
            lexer.sample(series)
        }
        c if is_name_start(c) => {
            lexer.name();
            let mut series = at..lexer.at;
            lexer.blanks()?;
            if lexer.byte()? == b'{' {
                lexer.at += 1;
                lexer.labels(true)?;
                series.end = lexer.at;
            }
            lexer.sample(series)
        }
        _ => Err(TextError::Start.into()),
    }
}

/// Reads what follows a value at `at`: an optional timestamp and the newline. Gives where the next entry starts.
///
/// # Errors
/// As [`step`].
pub fn tail(buf: &[u8], at: usize, rest: Rest) -> Result<(Option<i64>, usize), Halt> {
    let mut lexer = Lexer { buf, at, rest };
    lexer.blanks()?;
    let c = lexer.byte()?;
    if c == b'\n' {
        return Ok((None, lexer.at + 1));
    }
    if !c.is_ascii_digit() {
        return Err(TextError::Tail.into());
    }
    let (mut time, mut fits) = (0i64, true);
    loop {
        let c = lexer.byte()?;
        if !c.is_ascii_digit() {
            break;
        }
        match time.checked_mul(10).and_then(|t| t.checked_add(i64::from(c - b'0'))) {
            Some(t) => time = t,
            None => fits = false,
        }
        lexer.at += 1;
    }
    if !fits {
        return Err(TextError::Timestamp.into());
    }
    lexer.blanks()?;
    if lexer.byte()? != b'\n' {
        return Err(TextError::Tail.into());
    }
    Ok((Some(time), lexer.at + 1))
}

const NAME_START: u8 = 1;
const NAME: u8 = 2;
const LABEL_START: u8 = 4;
const LABEL: u8 = 8;

/// Character classes of names.
const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut c = 0;
    while c < 256 {
        let b = c as u8;
        if b.is_ascii_alphabetic() || b == b'_' {
            table[c] = NAME_START | NAME | LABEL_START | LABEL;
        } else if b == b':' {
            table[c] = NAME_START | NAME;
        } else if b.is_ascii_digit() {
            table[c] = NAME | LABEL;
        }
        c += 1;
    }
    table
};

fn is_name_start(c: u8) -> bool {
    CLASS[c as usize] & NAME_START != 0
}

/// Whether a byte may continue a plain metric name.
#[must_use]
pub fn is_name(c: u8) -> bool {
    CLASS[c as usize] & NAME != 0
}

struct Lexer<'a> {
    buf: &'a [u8],
    at: usize,
    rest: Rest,
}

/// Label values are short: a call costs more than the first bytes.
fn quote_or_escape(text: &[u8]) -> Option<usize> {
    const NEAR: usize = 16;
    let near = text.iter().take(NEAR).position(|&c| c == b'"' || c == b'\\');
    near.or_else(|| memchr2(b'"', b'\\', text.get(NEAR..)?).map(|i| i + NEAR))
}

/// A token inside braces.
enum Token {
    Close,
    Comma,
    Equal,
    Name,
    Quoted,
}

impl Lexer<'_> {
    /// The byte here; 0 past the end of the body, as in the lexer of Prometheus.
    fn byte(&self) -> Result<u8, Halt> {
        match self.buf.get(self.at) {
            Some(&c) => Ok(c),
            None => self.end(),
        }
    }

    fn end(&self) -> Result<u8, Halt> {
        if self.rest == Rest::MayFollow { Err(Halt::Incomplete) } else { Ok(0) }
    }

    fn blanks(&mut self) -> Result<(), Halt> {
        while matches!(self.byte()?, b' ' | b'\t') {
            self.at += 1;
        }
        Ok(())
    }

    fn name(&mut self) {
        self.run_of(NAME);
    }

    fn run_of(&mut self, class: u8) {
        let mut at = self.at;
        while at < self.buf.len() && CLASS[self.buf[at] as usize] & class != 0 {
            at += 1;
        }
        self.at = at;
    }

    /// One byte on, and past NUL bytes: how the lexer moves where it tolerates them.
    fn advance(&mut self) {
        self.at += 1;
        while self.buf.get(self.at) == Some(&0) {
            self.at += 1;
        }
    }

    fn comment(&mut self) -> Result<(Entry, usize), Halt> {
        self.at += 1;
        if !matches!(self.byte()?, b' ' | b'\t') {
            let found = memchr2(0, b'\n', &self.buf[self.at..]).map(|i| self.at + i);
            return match found {
                Some(i) if self.buf[i] == b'\n' => Ok((Entry::Other, i + 1)),
                Some(i) => Ok((Entry::End, i)),
                None => self.end().map(|_| (Entry::End, self.buf.len())),
            };
        }
        self.blanks()?;
        let keyword: &[u8] = match self.byte()? {
            0 => return Ok((Entry::End, self.at)),
            b'H' => b"HELP",
            b'T' => b"TYPE",
            _ => b"",
        };
        for (i, &c) in keyword.iter().enumerate() {
            if self.byte()? != c {
                return self.plain_comment();
            }
            self.advance();
            if i == 3 && !matches!(self.byte()?, b' ' | b'\t') {
                return self.plain_comment();
            }
        }
        if keyword.is_empty() {
            return self.plain_comment();
        }
        while matches!(self.byte()?, b' ' | b'\t') {
            self.advance();
        }
        self.metadata(keyword)
    }

    fn plain_comment(&mut self) -> Result<(Entry, usize), Halt> {
        match memchr(b'\n', self.buf.get(self.at..).unwrap_or_default()) {
            Some(i) => Ok((Entry::Other, self.at + i + 1)),
            None => self.end().map(|_| (Entry::End, self.buf.len())),
        }
    }

    fn metadata(&mut self, keyword: &[u8]) -> Result<(Entry, usize), Halt> {
        let mut name = self.at..self.at;
        match self.byte()? {
            b'"' => {
                self.quoted(TextError::MetadataName)?;
                name = name.start + 1..self.at - 1;
            }
            c if is_name_start(c) => {
                self.name();
                name.end = self.at;
            }
            _ => return Err(TextError::MetadataName.into()),
        }
        if self.byte()? == 0 {
            return Err(TextError::MetadataEnd.into());
        }
        let Some(end) = memchr(b'\n', &self.buf[self.at..]).map(|i| self.at + i) else {
            self.end()?;
            return Err(TextError::MetadataEnd.into());
        };
        // The lexer skips blanks up to the newline; otherwise exactly one byte stands between name and text.
        let raw = &self.buf[self.at..end];
        let blank = raw.iter().all(|c| matches!(c, b' ' | b'\t' | 0));
        let text = if blank { end..end } else { self.at + 1..end };
        if keyword == b"TYPE" {
            let kind = Kind::named(&self.buf[text]).ok_or(TextError::Type)?;
            return Ok((Entry::Type(name, kind), end + 1));
        }
        let help = &self.buf[text.clone()];
        if !help.is_ascii() && std::str::from_utf8(help).is_err() {
            return Err(TextError::HelpUtf8.into());
        }
        Ok((Entry::Help(name, text), end + 1))
    }

    /// From an opening quote to behind the closing one; neither NUL nor an escaped newline may stand inside.
    fn quoted(&mut self, error: TextError) -> Result<(), Halt> {
        self.at += 1;
        loop {
            let Some(i) = memchr3(b'"', b'\\', 0, self.buf.get(self.at..).unwrap_or_default()) else {
                self.end()?;
                return Err(error.into());
            };
            self.at += i;
            match self.buf[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.at += 1;
                    if matches!(self.byte()?, 0 | b'\n') {
                        return Err(error.into());
                    }
                    self.at += 1;
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// Behind the opening brace to behind the closing one; tells whether the series has a name.
    fn labels(&mut self, mut named: bool) -> Result<bool, Halt> {
        let mut token = self.token()?;
        loop {
            let quoted = match token {
                Token::Close => return Ok(named),
                Token::Name => false,
                Token::Quoted => true,
                Token::Comma | Token::Equal => return Err(TextError::LabelName.into()),
            };
            token = self.token_after_name()?;
            if quoted && matches!(token, Token::Comma | Token::Close) {
                if named {
                    return Err(TextError::NameTwice.into());
                }
                named = true;
                if matches!(token, Token::Close) {
                    return Ok(true);
                }
                token = self.token()?;
                continue;
            }
            if !matches!(token, Token::Equal) {
                return Err(TextError::LabelEqual.into());
            }
            self.label_value()?;
            token = self.token()?;
            if matches!(token, Token::Comma) {
                token = self.token()?;
            }
        }
    }

    fn token(&mut self) -> Result<Token, Halt> {
        self.token_or(TextError::LabelName)
    }

    fn token_after_name(&mut self) -> Result<Token, Halt> {
        self.token_or(TextError::LabelEqual)
    }

    fn token_or(&mut self, error: TextError) -> Result<Token, Halt> {
        self.blanks()?;
        let c = self.byte()?;
        let token = match c {
            b'}' => Token::Close,
            b',' => Token::Comma,
            b'=' => Token::Equal,
            b'"' => {
                self.quoted(error)?;
                return Ok(Token::Quoted);
            }
            _ if CLASS[c as usize] & LABEL_START != 0 => {
                self.run_of(LABEL);
                self.byte()?;
                return Ok(Token::Name);
            }
            _ => return Err(error.into()),
        };
        self.at += 1;
        Ok(token)
    }

    fn label_value(&mut self) -> Result<(), Halt> {
        while matches!(self.byte()?, b' ' | b'\t') {
            self.advance();
        }
        if self.byte()? != b'"' {
            return Err(TextError::LabelValue.into());
        }
        let start = self.at;
        self.at += 1;
        loop {
            let Some(i) = quote_or_escape(self.buf.get(self.at..).unwrap_or_default()) else {
                self.end()?;
                return Err(TextError::LabelValue.into());
            };
            self.at += i;
            let quote = self.buf[self.at] == b'"';
            self.advance();
            if quote {
                break;
            }
            if matches!(self.byte()?, 0 | b'\n') {
                return Err(TextError::LabelValue.into());
            }
            self.at += 1;
        }
        // Whether more NUL bytes belong to the token is only known at the next byte.
        self.byte()?;
        let value = &self.buf[start..self.at];
        if !value.is_ascii() && std::str::from_utf8(value).is_err() {
            return Err(TextError::LabelUtf8.into());
        }
        Ok(())
    }

    fn sample(&mut self, series: Range<usize>) -> Result<(Entry, usize), Halt> {
        self.blanks()?;
        let value_start = self.at;
        if let Some((value, end)) = value::scan(self.buf, value_start) {
            let (time_ms, next) = tail(self.buf, end, self.rest)?;
            return Ok((Entry::Sample(Sample { series, value_start, value, time_ms }), next));
        }
        if value::ends(self.byte()?) {
            return Err(TextError::ValueMissing.into());
        }
        let Some(length) = self.buf[value_start..].iter().position(|&c| value::ends(c)) else {
            self.end()?;
            return Err(TextError::Tail.into());
        };
        let end = value_start + length;
        let value = value::parse(&self.buf[value_start..end]).ok_or(TextError::Value)?;
        let (time_ms, next) = tail(self.buf, end, self.rest)?;
        Ok((Entry::Sample(Sample { series, value_start, value, time_ms }), next))
    }
}
