//! Why a response cannot be used, worded as Go's client words it where it has a text.

use std::fmt;

/// Everything that can be wrong with the bytes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The first bytes are not `HTTP/` and a version.
    NotHttp,
    /// The status line or a header line breaks the grammar.
    Head,
    /// The head is longer than [`crate::base::limits::HEAD_BYTES_MAX`].
    HeadTooLarge,
    /// More header lines than [`crate::base::limits::HEADERS_MAX`].
    TooManyHeaders,
    /// `Content-Length` is not a number that fits 63 bits.
    ContentLength,
    /// `Content-Length` is given twice with different values.
    ConflictingLength,
    /// A transfer encoding other than `chunked`.
    TransferEncoding,
    /// A chunk size is missing, not hexadecimal, or too large; or a chunk does not end with CR LF.
    Chunk,
    /// Chunk extensions or tiny chunks out of proportion to the body.
    ChunkOverhead,
    /// A chunk's size line is longer than [`crate::base::limits::CHUNK_LINE_BYTES_MAX`].
    ChunkLineTooLong,
    /// A trailer line breaks the grammar.
    Trailer,
    /// The trailer is longer than [`crate::base::limits::TRAILER_BYTES_MAX`].
    TrailerTooLarge,
    /// The connection ended before the first byte.
    Eof,
    /// The connection ended inside the response.
    UnexpectedEof,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHttp => "malformed HTTP response: does not begin with HTTP/ and a version",
            Self::Head => "malformed HTTP response head",
            Self::HeadTooLarge => "HTTP response head exceeded 65536 bytes",
            Self::TooManyHeaders => "HTTP response has more than 1024 header lines",
            Self::ContentLength => "bad Content-Length",
            Self::ConflictingLength => "HTTP response carries conflicting Content-Length headers",
            Self::TransferEncoding => "unsupported transfer encoding",
            Self::Chunk => "malformed chunked encoding",
            Self::ChunkOverhead => "chunked encoding contains too much non-data",
            Self::ChunkLineTooLong => "header line too long",
            Self::Trailer => "malformed HTTP trailer",
            Self::TrailerTooLarge => "http: suspiciously long trailer after chunked body",
            Self::Eof => "EOF",
            Self::UnexpectedEof => "unexpected EOF",
        })
    }
}

impl std::error::Error for HttpError {}
