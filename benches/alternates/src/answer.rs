//! Reading one answer: head by httparse, body to its Content-Length, samples counted by memchr.

use std::io;

const HEADERS_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Counts sample lines: lines that are not comments. Takes pieces cut anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// So far.
    pub count: u32,
    within_line: bool,
    is_comment: bool,
}

impl Samples {
    /// Takes the next piece of the body.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            if !self.within_line {
                self.is_comment = piece[begin] == b'#';
            }
            self.count += u32::from(!self.is_comment);
            self.within_line = false;
            begin = end + 1;
        }
        if begin < piece.len() && !self.within_line {
            (self.within_line, self.is_comment) = (true, piece[begin] == b'#');
        }
    }
}

/// An answer that is being read.
#[derive(Debug, Default)]
pub struct Answer {
    /// Bytes of an incomplete head.
    head: Vec<u8>,
    /// Bytes of the body still to come; `None` before the head is complete.
    left: Option<usize>,
    /// Samples so far.
    pub samples: Samples,
}

impl Answer {
    /// Forgets the last answer.
    pub fn reset(&mut self) {
        self.head.clear();
        (self.left, self.samples) = (None, Samples::default());
    }

    /// Takes what one read brought; true when the answer is whole. An empty piece is the end of the stream.
    ///
    /// # Errors
    /// Not an answer of our farm: cut short, not HTTP, not 200, no length, more than was promised.
    pub fn feed(&mut self, piece: &[u8]) -> io::Result<bool> {
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.left.is_some() {
            return self.feed_body(piece);
        }
        if self.head.is_empty() {
            return match head(piece)? {
                Some((bytes, length)) => {
                    self.left = Some(length);
                    self.feed_body(&piece[bytes..])
                }
                None => self.keep(piece),
            };
        }
        self.keep(piece)?;
        let Some((bytes, length)) = head(&self.head)? else { return Ok(false) };
        self.left = Some(length);
        let kept = std::mem::take(&mut self.head);
        self.feed_body(&kept[bytes..])
    }

    fn keep(&mut self, piece: &[u8]) -> io::Result<bool> {
        self.head.extend_from_slice(piece);
        if self.head.len() > HEAD_BYTES_MAX { Err(io::Error::other("head too long")) } else { Ok(false) }
    }

    fn feed_body(&mut self, piece: &[u8]) -> io::Result<bool> {
        self.samples.feed(piece);
        let left = self.left.unwrap_or(0).checked_sub(piece.len()).ok_or(io::Error::other("more than promised"))?;
        self.left = Some(left);
        Ok(left == 0)
    }
}

/// Length of the head and of the body; `None` when the head is incomplete.
fn head(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).map_err(io::Error::other)? else { return Ok(None) };
    if response.code != Some(200) {
        return Err(io::Error::other("not 200"));
    }
    let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|h| std::str::from_utf8(h.value).ok()?.trim().parse().ok());
    Ok(Some((end, length.ok_or(io::Error::other("no length"))?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "# HELP a b\n# TYPE a counter\na 1\na{b=\"#\"} 2\n\n#\nc 3\n";

    #[test]
    fn samples_are_counted_wherever_the_body_is_cut() {
        let lines = BODY.lines().filter(|l| !l.starts_with('#')).count() as u32;
        for cut in 0..=BODY.len() {
            let mut samples = Samples::default();
            [&BODY[..cut], &BODY[cut..]].iter().for_each(|piece| samples.feed(piece.as_bytes()));
            assert_eq!(samples.count, lines, "cut at {cut}");
        }
    }

    #[test]
    fn an_answer_is_whole_at_its_length_wherever_it_is_cut() {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
        let mut answer = Answer::default();
        for cut in 1..text.len() {
            answer.reset();
            assert!(!answer.feed(&text.as_bytes()[..cut]).unwrap(), "cut at {cut}");
            assert!(answer.feed(&text.as_bytes()[cut..]).unwrap(), "cut at {cut}");
            assert_eq!(answer.samples.count, 4);
        }
        answer.reset();
        assert!(answer.feed(b"").is_err());
        assert!(answer.feed(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(answer.feed(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(answer.feed(format!("{text}x").as_bytes()).is_err());
    }
}
