//! The machine of one response: bytes in at any slicing, events out.

use super::chunked::{Chunked, Step};
use super::head::{end_of_head, with_head};
use super::{Framing, HttpError, ResponseHead};
use crate::base::limits::HEAD_BYTES_MAX;

/// What a receiver says to each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    More,
    /// The rest is not wanted.
    Stop,
}

/// Takes the events of one response.
pub trait Receiver {
    /// The head, once, before any body byte. Interim (1xx) heads are not shown.
    fn head(&mut self, head: &ResponseHead<'_>) -> Flow;
    /// A non-empty piece of the body, de-chunked, valid during the call only.
    fn bytes(&mut self, chunk: &[u8]) -> Flow;
}

/// Whether the connection may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It may.
    Keep,
    /// It must be closed: the peer said so, or sent more than the response.
    Close,
}

/// What a call of [`Response::feed`] ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    More,
    /// The response is complete.
    Done(Ending),
    /// The receiver said [`Flow::Stop`]; the connection must be closed.
    Stopped,
}

#[derive(Debug)]
enum State {
    Head,
    Length { left: u64, keep: bool },
    Chunked { decoder: Chunked, keep: bool },
    UntilClose,
    Over,
}

/// One response. Holds bytes only while a head is incomplete.
#[derive(Debug)]
pub struct Response {
    state: State,
    /// The incomplete head so far.
    partial: Vec<u8>,
    /// Bytes of interim heads already skipped; they count against the head limit.
    skipped: usize,
    begun: bool,
}

impl Default for Response {
    fn default() -> Self {
        Self { state: State::Head, partial: Vec::new(), skipped: 0, begun: false }
    }
}

impl Response {
    /// Makes the machine ready for another response; keeps its buffer unless it grew large.
    pub fn reset(&mut self) {
        self.partial.clear();
        self.partial.shrink_to(1024);
        (self.state, self.skipped, self.begun) = (State::Head, 0, false);
    }

    /// Whether any byte has arrived.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Takes the next bytes from the connection. Must not be called after anything but [`Progress::More`].
    ///
    /// # Errors
    /// [`HttpError`] where the bytes are not a usable response; the connection must be closed.
    pub fn feed(&mut self, input: &[u8], to: &mut impl Receiver) -> Result<Progress, HttpError> {
        self.begun |= !input.is_empty();
        let mut rest = input;
        while matches!(self.state, State::Head) {
            match self.take_head(rest, to)? {
                HeadStep::Partial => return Ok(Progress::More),
                HeadStep::Stopped => return self.over(Progress::Stopped),
                HeadStep::Taken(n) => rest = &rest[n..],
            }
        }
        self.take_body(rest, to)
    }

    /// The peer closed its side.
    ///
    /// # Errors
    /// [`HttpError::Eof`] before the first byte, [`HttpError::UnexpectedEof`] inside a response whose end is not the close.
    pub fn eof(&mut self) -> Result<(), HttpError> {
        match self.state {
            State::UntilClose | State::Over => Ok(()),
            _ if !self.begun => Err(HttpError::Eof),
            _ => Err(HttpError::UnexpectedEof),
        }
    }

    fn over(&mut self, progress: Progress) -> Result<Progress, HttpError> {
        self.state = State::Over;
        Ok(progress)
    }

    fn take_head(&mut self, input: &[u8], to: &mut impl Receiver) -> Result<HeadStep, HttpError> {
        let room = HEAD_BYTES_MAX - self.skipped;
        let old = self.partial.len();
        if old == 0 {
            check_prefix(input)?;
            return match end_of_head(input, 0) {
                Some(end) if end <= room => self.parse_head(&input[..end], to, end),
                None if input.len() < room => {
                    self.partial.extend_from_slice(input);
                    Ok(HeadStep::Partial)
                }
                _ => Err(HttpError::HeadTooLarge),
            };
        }
        let taken = input.len().min(room + 1 - old);
        self.partial.extend_from_slice(&input[..taken]);
        check_prefix(&self.partial)?;
        match end_of_head(&self.partial, old.saturating_sub(2)) {
            Some(end) if end <= room => {
                let head = std::mem::take(&mut self.partial);
                let step = self.parse_head(&head[..end], to, end - old);
                self.partial = head;
                self.partial.clear();
                step
            }
            None if self.partial.len() < room => Ok(HeadStep::Partial),
            _ => Err(HttpError::HeadTooLarge),
        }
    }

    /// Parses a whole head of which the last `taken` bytes came with the current input.
    fn parse_head(&mut self, head: &[u8], to: &mut impl Receiver, taken: usize) -> Result<HeadStep, HttpError> {
        let found = with_head(head, |h| {
            let interim = (100..200).contains(&h.status) && h.status != 101;
            (!interim).then(|| (h.framing, h.keep_alive && h.status != 101, to.head(h)))
        })?;
        let Some((framing, keep, flow)) = found else {
            self.skipped += head.len();
            return Ok(HeadStep::Taken(taken));
        };
        if flow == Flow::Stop {
            return Ok(HeadStep::Stopped);
        }
        self.state = match framing {
            Framing::Length(left) => State::Length { left, keep },
            Framing::Chunked => State::Chunked { decoder: Chunked::new(), keep },
            Framing::UntilClose => State::UntilClose,
        };
        Ok(HeadStep::Taken(taken))
    }

    fn take_body(&mut self, input: &[u8], to: &mut impl Receiver) -> Result<Progress, HttpError> {
        let (extra, keep) = match &mut self.state {
            State::Length { left, keep } => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= n as u64;
                let (left, keep) = (*left, *keep);
                if n > 0 && to.bytes(&input[..n]) == Flow::Stop {
                    return self.over(Progress::Stopped);
                }
                if left > 0 {
                    return Ok(Progress::More);
                }
                (input.len() - n, keep)
            }
            State::Chunked { decoder, keep } => match decoder.feed(input, |b| to.bytes(b))? {
                Step::More => return Ok(Progress::More),
                Step::Stopped => return self.over(Progress::Stopped),
                Step::Done(n) => (input.len() - n, *keep),
            },
            State::UntilClose => {
                if !input.is_empty() && to.bytes(input) == Flow::Stop {
                    return self.over(Progress::Stopped);
                }
                return Ok(Progress::More);
            }
            State::Head | State::Over => unreachable!("feed after the end of a response"),
        };
        self.over(Progress::Done(if keep && extra == 0 { Ending::Keep } else { Ending::Close }))
    }
}

enum HeadStep {
    Partial,
    Taken(usize),
    Stopped,
}

/// Refuses what cannot become a response as early as possible, at any slicing.
fn check_prefix(bytes: &[u8]) -> Result<(), HttpError> {
    let fits = |(byte, pattern): (&u8, &u8)| if *pattern == b'9' { byte.is_ascii_digit() } else { byte == pattern };
    if bytes.iter().zip(b"HTTP/9.9 ").all(fits) { Ok(()) } else { Err(HttpError::NotHttp) }
}
