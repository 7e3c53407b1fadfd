//! Gzip bodies, inflated whole where they are small and as a stream where they are large.
//!
//! Whole is about three times faster, but needs the compressed body in one piece and its size in advance; both come
//! from the wire, so both are checked and the stream decides whenever they look odd. A body that is a thousand times
//! as large as it came is inflated in pieces, so that nobody else waits for it.

use std::fmt;
use std::ops::ControlFlow;

use flate2::{Decompress, FlushDecompress, Status};

use crate::base::limits::{BODY_SLICE_BYTES, GZIP_STREAM_BYTES};

/// Decompressed bytes that the whole-body path may produce; larger bodies stream.
const WHOLE_BYTES_MAX: usize = 16 * GZIP_STREAM_BYTES;
/// Decompressed bytes of one call that ends a body.
const PIECE_BYTES: usize = 8 << 20;
/// Buffers of finished bodies kept for the next ones.
const SPARE_BUFFERS: usize = 64;
/// Where a buffer is thrown away rather than kept.
const SPARE_BYTES_MAX: usize = 64 << 10;
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// Why a body cannot be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GzipError {
    /// The body ends inside a member.
    Truncated,
    /// The bytes are not gzip, or a checksum does not match.
    Corrupt,
    /// It inflates to more than the limit.
    TooLarge,
}

impl fmt::Display for GzipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "gzip: unexpected EOF",
            Self::Corrupt => "gzip: invalid header or checksum",
            Self::TooLarge => "body size limit exceeded",
        })
    }
}

impl std::error::Error for GzipError {}

/// How far a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inflated {
    /// Everything it was given was handed out.
    All,
    /// There is more to hand out: the call is to be made again.
    Piece,
    /// `out` broke off.
    BrokenOff,
}

/// One body on its way. Made by [`Inflater::body`], given back by [`Inflater::discard`].
#[derive(Debug)]
pub struct GzipBody {
    /// Compressed bytes until it is known which way to inflate them.
    held: Vec<u8>,
    /// How many of them are inflated.
    taken: usize,
    stream: Option<Box<Stream>>,
    limit: u64,
}

impl GzipBody {
    /// Compressed bytes held in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }
}

/// What the bodies of one thread share: the whole-body decoder and scratch memory.
pub struct Inflater {
    whole: libdeflater::Decompressor,
    scratch: Vec<u8>,
    spare: Vec<Vec<u8>>,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("scratch", &self.scratch.len()).finish_non_exhaustive()
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self { whole: libdeflater::Decompressor::new(), scratch: Vec::new(), spare: Vec::new() }
    }
}

impl Inflater {
    /// A new body that may inflate to at most `body_bytes_max` bytes.
    pub fn body(&mut self, body_bytes_max: u64) -> GzipBody {
        GzipBody { held: self.spare.pop().unwrap_or_default(), taken: 0, stream: None, limit: body_bytes_max }
    }

    /// Takes compressed bytes; hands out what can be inflated already, in slices of at most [`BODY_SLICE_BYTES`].
    /// Up to [`GZIP_STREAM_BYTES`] nothing can. Never [`Inflated::Piece`].
    ///
    /// # Errors
    /// [`GzipError`]; the body is of no further use.
    pub fn feed(
        &mut self,
        body: &mut GzipBody,
        mut compressed: &[u8],
        mut out: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Inflated, GzipError> {
        if let Some(stream) = &mut body.stream {
            return stream.feed(&mut compressed, usize::MAX, self.slice(), &mut out);
        }
        if body.held.len() + compressed.len() <= GZIP_STREAM_BYTES {
            body.held.extend_from_slice(compressed);
            return Ok(Inflated::All);
        }
        let stream = body.stream.insert(Box::new(Stream::new(body.limit)));
        let held = std::mem::take(&mut body.held);
        match stream.feed(&mut &*held, usize::MAX, self.slice(), &mut out)? {
            Inflated::All => stream.feed(&mut compressed, usize::MAX, self.slice(), &mut out),
            other => Ok(other),
        }
    }

    /// The compressed body is complete: hands out the rest, or the next piece of it.
    ///
    /// # Errors
    /// [`GzipError`].
    pub fn finish(
        &mut self,
        body: &mut GzipBody,
        mut out: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Inflated, GzipError> {
        let stream = match &mut body.stream {
            Some(stream) => stream,
            None => {
                if let Some(n) = self.inflate_single(&body.held, body.limit) {
                    let flow = self.scratch[..n].chunks(BODY_SLICE_BYTES).try_for_each(out);
                    return Ok(if flow.is_break() { Inflated::BrokenOff } else { Inflated::All });
                }
                body.stream.insert(Box::new(Stream::new(body.limit)))
            }
        };
        let mut left = &body.held[body.taken..];
        let inflated = stream.feed(&mut left, PIECE_BYTES, self.slice(), &mut out)?;
        body.taken = body.held.len() - left.len();
        if inflated == Inflated::All {
            stream.finish()?;
        }
        Ok(inflated)
    }

    /// Takes back the memory of a body that is not wanted any more.
    pub fn discard(&mut self, body: GzipBody) {
        let mut held = body.held;
        if self.spare.len() < SPARE_BUFFERS && held.capacity() <= SPARE_BYTES_MAX {
            held.clear();
            self.spare.push(held);
        }
    }

    /// Inflates one ordinary member into the scratch; `None` where anything looks out of the ordinary.
    fn inflate_single(&mut self, compressed: &[u8], limit: u64) -> Option<usize> {
        let size = u32::from_le_bytes(*compressed.last_chunk::<4>()?) as usize;
        // A second member would begin with the magic, and the decoder would ignore it.
        if size > WHOLE_BYTES_MAX || size as u64 > limit || memchr::memmem::find(&compressed[1..], &MAGIC).is_some() {
            return None;
        }
        if self.scratch.len() < size {
            self.scratch.resize(size, 0);
        }
        // Trailing bytes would make the size at the end another one.
        self.whole.gzip_decompress(compressed, &mut self.scratch[..size]).ok().filter(|n| *n == size)
    }

    fn slice(&mut self) -> &mut [u8] {
        if self.scratch.len() < BODY_SLICE_BYTES {
            self.scratch.resize(BODY_SLICE_BYTES, 0);
        }
        &mut self.scratch[..BODY_SLICE_BYTES]
    }
}

/// The stream decoder of one body: members one after the other, as Go's reader takes them.
#[derive(Debug)]
struct Stream {
    member: Decompress,
    /// Inside a member; false before the first byte of one.
    inside: bool,
    /// Members that are complete.
    members: u64,
    /// Bytes that may still come out.
    left: u64,
}

impl Stream {
    fn new(limit: u64) -> Self {
        Self { member: Decompress::new_gzip(15), inside: false, members: 0, left: limit }
    }

    /// Takes from `input` until it is used up, or about so many bytes came out.
    fn feed(
        &mut self,
        input: &mut &[u8],
        mut bytes_max: usize,
        slice: &mut [u8],
        out: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Inflated, GzipError> {
        loop {
            if !self.inside {
                if input.is_empty() {
                    return Ok(Inflated::All);
                }
                if self.members > 0 {
                    self.member = Decompress::new_gzip(15);
                }
                self.inside = true;
            }
            let (taken, made) = (self.member.total_in(), self.member.total_out());
            // One byte beyond the limit is enough to know that it is passed.
            let room = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(slice.len());
            let status = self.member.decompress(input, &mut slice[..room], FlushDecompress::None);
            let status = status.map_err(|_| GzipError::Corrupt)?;
            *input = &input[(self.member.total_in() - taken) as usize..];
            let n = (self.member.total_out() - made) as usize;
            if n as u64 > self.left {
                return Err(GzipError::TooLarge);
            }
            self.left -= n as u64;
            if n > 0 && out(&slice[..n]).is_break() {
                return Ok(Inflated::BrokenOff);
            }
            bytes_max = bytes_max.saturating_sub(n);
            match status {
                Status::StreamEnd => {
                    self.inside = false;
                    self.members += 1;
                }
                // A full slice may hide more output even when the input is used up.
                Status::Ok | Status::BufError if n == room => {}
                Status::Ok | Status::BufError if input.is_empty() => return Ok(Inflated::All),
                Status::BufError => return Err(GzipError::Corrupt),
                Status::Ok => {}
            }
            if bytes_max == 0 {
                return Ok(Inflated::Piece);
            }
        }
    }

    fn finish(&self) -> Result<(), GzipError> {
        if self.inside || self.members == 0 { Err(GzipError::Truncated) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "gzip_tests.rs"]
mod tests;
