//! Chunked transfer encoding, decoded in place: body slices are handed out where they lie.

use super::head::is_token;
use super::{Flow, HttpError};
use crate::base::limits::{CHUNK_LINE_BYTES_MAX, CHUNK_OVERHEAD_BYTES, TRAILER_BYTES_MAX};

/// Most digits of a chunk size, leading zeros included. go: net/http/internal, parseHexUint.
const DIGITS_MAX: u8 = 16;

/// Where the decoder stands between two slices of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the first digit of a chunk size.
    SizeStart,
    /// In the digits.
    Size,
    /// In blanks after the digits, which only the end of the line may follow.
    Blank,
    /// In an extension after the digits.
    Extension,
    /// After the CR of the size line.
    SizeLf,
    /// In chunk bytes; `left` says how many are missing.
    Bytes,
    /// Before the CR after chunk bytes.
    BytesCr,
    /// Before the LF after chunk bytes.
    BytesLf,
    /// At the start of a trailer line.
    TrailerStart,
    /// After a CR at the start of a trailer line.
    TrailerEndLf,
    /// Inside a trailer's name.
    TrailerName,
    /// Behind a trailer's name.
    TrailerLine,
    /// After the CR of a trailer line.
    TrailerLf,
}

/// What one call ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All input was taken.
    More,
    /// The body is complete; so many bytes of this input were taken.
    Done(usize),
    /// The receiver wants no more.
    Stopped,
}

/// The decoder of one body. Bounded state, no buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunked {
    at: At,
    left: u64,
    /// Digits of the chunk size.
    digits: u8,
    /// A trailer line has been seen.
    in_trailer: bool,
    /// The last trailer line ended without a CR.
    is_bare: bool,
    /// Bytes of size lines not paid for by body bytes; or bytes of the trailer.
    overhead: u64,
    /// Bytes of the present size line.
    line: u64,
    earned: u64,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self {
            at: At::SizeStart,
            left: 0,
            digits: 0,
            in_trailer: false,
            is_bare: false,
            overhead: 0,
            line: 0,
            earned: 0,
        }
    }

    /// Takes input and hands out body bytes; never hands out an empty slice.
    pub(super) fn feed(&mut self, input: &[u8], mut out: impl FnMut(&[u8]) -> Flow) -> Result<Step, HttpError> {
        let mut i = 0;
        while i < input.len() {
            if self.at == At::Bytes {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - i);
                self.left -= n as u64;
                self.earned = self.earned.saturating_add(2 * n as u64);
                if self.left == 0 {
                    self.at = At::BytesCr;
                }
                if out(&input[i..i + n]) == Flow::Stop {
                    return Ok(Step::Stopped);
                }
                i += n;
                continue;
            }
            let byte = input[i];
            i += 1;
            if self.line_byte(byte)? {
                return Ok(Step::Done(i));
            }
        }
        Ok(Step::More)
    }

    /// One byte outside chunk bytes; true after the last byte of the body.
    fn line_byte(&mut self, byte: u8) -> Result<bool, HttpError> {
        self.pay()?;
        self.at = match (self.at, byte) {
            (At::SizeStart, _) => {
                self.left = digit(byte)?;
                self.line = 1;
                self.digits = 1;
                At::Size
            }
            (At::Size | At::Blank | At::Extension, b'\r') => At::SizeLf,
            (At::Size | At::Blank, b' ' | b'\t') => At::Blank,
            (At::Size, b';') => At::Extension,
            (At::Size, _) => {
                if self.left >= 1 << 59 || self.digits == DIGITS_MAX {
                    return Err(HttpError::Chunk);
                }
                self.left = self.left << 4 | digit(byte)?;
                self.digits += 1;
                At::Size
            }
            (At::Blank, _) | (At::Extension, b'\n') => return Err(HttpError::Chunk),
            (At::Extension, _) => At::Extension,
            (At::SizeLf, b'\n') if self.left > 0 => {
                // prometheus: net/http/internal chunkedReader forgives 16 bytes a chunk.
                self.earned = self.earned.saturating_add(16);
                At::Bytes
            }
            (At::SizeLf, b'\n') => {
                self.overhead = 0;
                At::TrailerStart
            }
            (At::BytesCr, b'\r') => At::BytesLf,
            (At::BytesLf, b'\n') => At::SizeStart,
            (At::TrailerStart, b'\r') => At::TrailerEndLf,
            (At::TrailerEndLf, b'\n') if !self.is_bare => return Ok(true),
            (At::TrailerLine | At::TrailerLf, b'\n') => {
                self.is_bare = self.at == At::TrailerLine;
                At::TrailerStart
            }
            (At::TrailerLine, b'\r') => At::TrailerLf,
            (At::TrailerLine, _) if is_value(byte) => At::TrailerLine,
            (At::TrailerLine | At::TrailerLf, _) => return Err(HttpError::Trailer),
            // A line that continues the one before.
            (At::TrailerStart, b' ' | b'\t') if self.in_trailer => At::TrailerLine,
            (At::TrailerName, b':') => At::TrailerLine,
            (At::TrailerName, b' ') => At::TrailerName,
            (At::TrailerStart | At::TrailerName, _) if is_token(byte) => {
                self.in_trailer = true;
                At::TrailerName
            }
            (At::TrailerStart | At::TrailerName, _) => return Err(HttpError::Trailer),
            // prometheus: net/http wants CR LF CR LF at the end, whatever the lines before end with.
            (At::TrailerEndLf, b'\n') => return Err(HttpError::Trailer),
            (At::SizeLf | At::BytesCr | At::BytesLf | At::TrailerEndLf, _) => return Err(HttpError::Chunk),
            (At::Bytes, _) => unreachable!("chunk bytes are taken by feed"),
        };
        Ok(false)
    }

    /// Charges one byte that is not body.
    fn pay(&mut self) -> Result<(), HttpError> {
        self.overhead += 1;
        self.line += 1;
        match self.at {
            At::TrailerStart | At::TrailerEndLf | At::TrailerName | At::TrailerLine | At::TrailerLf => {
                if self.overhead > TRAILER_BYTES_MAX { Err(HttpError::TrailerTooLarge) } else { Ok(()) }
            }
            At::Size | At::Blank | At::Extension | At::SizeLf if self.line > CHUNK_LINE_BYTES_MAX => {
                Err(HttpError::ChunkLineTooLong)
            }
            _ if self.overhead > self.earned.saturating_add(CHUNK_OVERHEAD_BYTES) => Err(HttpError::ChunkOverhead),
            _ => Ok(()),
        }
    }
}

/// A byte of a field value. go: net/textproto, validHeaderValueByte.
fn is_value(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

fn digit(byte: u8) -> Result<u64, HttpError> {
    char::from(byte).to_digit(16).map(u64::from).ok_or(HttpError::Chunk)
}
