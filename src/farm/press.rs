//! Makes answers: one copy of the bytes where targets share them, a patched print where they do not, pages for giants.

use std::io;
use std::path::Path;

use super::body::Body;
use super::template::{Asked, Template};
use super::{Population, Source, Spec, Vary, hash};

/// Versions of a body that go round, at most.
const VERSIONS_MAX: usize = 32;
/// Bytes that the versions of one body may take, unless that makes fewer than [`VERSIONS_MIN`].
const VERSIONS_BYTES: usize = 4 << 20;
/// Fewest versions, so that values move.
const VERSIONS_MIN: usize = 4;
/// Sizes that [`Source::SamplesBetween`] spreads over.
const SIZES: u32 = 16;
/// Samples in a page of a streamed body: whole rounds of the synthetic families.
const PAGE_SAMPLES: u32 = 29 * 50;
/// Buffers kept for further prints, and the largest that is worth keeping.
const SPARE_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Bytes to send.
#[derive(Debug)]
pub(super) enum Piece {
    /// Kept by the [`Press`] for good; sent by many.
    Page(u32),
    /// Made for one answer; comes back to [`Press::recycle`].
    Own(Vec<u8>),
}

/// Makes the answers of all populations.
pub(super) struct Press {
    prints: Vec<Print>,
    /// Shared answers. They do not move and are not freed while the farm lives.
    pages: Vec<Box<[u8]>>,
    spare: Vec<Vec<u8>>,
    text: Vec<u8>,
    quick: libdeflater::Compressor,
}

/// One population's bodies.
struct Print {
    vary: Vary,
    /// Line of the head: see [`Population::farewell`].
    farewell: &'static str,
    sizes: Vec<Size>,
    giant: Option<Giant>,
}

/// A body in its versions, made when first asked for.
struct Size {
    body: Body,
    versions: Vec<Version>,
}

#[derive(Default)]
struct Version {
    template: Option<Template>,
    plain: Option<u32>,
    packed: Option<u32>,
}

/// A body that is sent page by page.
struct Giant {
    page: Template,
    full_pages: u32,
    last: Option<Template>,
}

impl Giant {
    fn pages(&self) -> u32 {
        self.full_pages + u32::from(self.last.is_some())
    }

    fn bytes(&self) -> usize {
        self.full_pages as usize * self.page.len() + self.last.as_ref().map_or(0, Template::len)
    }
}

impl Press {
    /// Reads what has to be read.
    pub(super) fn new(spec: &Spec) -> io::Result<Self> {
        let prints = spec.populations.iter().map(Print::new).collect::<io::Result<_>>()?;
        let quick = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
        Ok(Self { prints, pages: Vec::new(), spare: Vec::new(), text: Vec::new(), quick })
    }

    /// Keeps an answer for good.
    pub(super) fn keep(&mut self, bytes: Vec<u8>) -> Piece {
        self.pages.push(bytes.into_boxed_slice());
        Piece::Page(self.pages.len() as u32 - 1)
    }

    pub(super) fn bytes<'a>(&'a self, piece: &'a Piece) -> &'a [u8] {
        match piece {
            Piece::Page(at) => &self.pages[*at as usize],
            Piece::Own(bytes) => bytes,
        }
    }

    /// An empty buffer that may have room already.
    pub(super) fn blank(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a sent piece back.
    pub(super) fn recycle(&mut self, piece: Piece) {
        if let Piece::Own(mut bytes) = piece
            && self.spare.len() < SPARE_MAX
            && bytes.capacity() <= SPARE_BYTES_MAX
        {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// How many pieces the answers of this population come in; 0: one whole answer.
    pub(super) fn pages(&self, population: usize) -> u32 {
        self.prints[population].giant.as_ref().map_or(0, Giant::pages)
    }

    /// A page of a streamed answer, the head before the first.
    pub(super) fn page(&mut self, population: usize, asked: Asked) -> Piece {
        let mut out = self.blank();
        let print = &self.prints[population];
        let giant = print.giant.as_ref().expect("a streamed population");
        if asked.page == 0 {
            head(giant.bytes(), "", print.farewell, &mut out);
        }
        let template =
            if asked.page < giant.full_pages { &giant.page } else { giant.last.as_ref().unwrap_or(&giant.page) };
        template.print(asked, &mut out);
        Piece::Own(out)
    }

    /// A whole answer.
    pub(super) fn whole(&mut self, population: usize, asked: Asked) -> Piece {
        let (vary, farewell) = (self.prints[population].vary, self.prints[population].farewell);
        let size = self.prints[population].size_mut(asked.target);
        let version = asked.scrape as usize % size.versions.len();
        if vary != Vary::Identical {
            let mut out = self.spare.pop().unwrap_or_default();
            let template = size.template(vary, version);
            head(template.len(), "", farewell, &mut out);
            template.print(asked, &mut out);
            return Piece::Own(out);
        }
        if let Some(at) = size.versions[version].plain {
            return Piece::Page(at);
        }
        let template = Template::new(&size.body, vary, version as u64);
        let mut out = Vec::new();
        head(template.len(), "", farewell, &mut out);
        template.print(asked, &mut out);
        size.versions[version].plain = Some(self.pages.len() as u32);
        self.keep(out)
    }

    /// A whole answer, compressed.
    pub(super) fn packed(&mut self, population: usize, asked: Asked) -> Piece {
        let (vary, farewell) = (self.prints[population].vary, self.prints[population].farewell);
        let size = self.prints[population].size_mut(asked.target);
        let version = asked.scrape as usize % size.versions.len();
        if vary == Vary::Identical {
            if let Some(at) = size.versions[version].packed {
                return Piece::Page(at);
            }
            let mut text = Vec::new();
            Template::new(&size.body, vary, version as u64).print(asked, &mut text);
            size.versions[version].packed = Some(self.pages.len() as u32);
            let mut out = Vec::new();
            let level = libdeflater::CompressionLvl::default();
            pack(&text, farewell, &mut libdeflater::Compressor::new(level), &mut out);
            return self.keep(out);
        }
        let mut out = self.spare.pop().unwrap_or_default();
        self.text.clear();
        size.template(vary, version).print(asked, &mut self.text);
        pack(&self.text, farewell, &mut self.quick, &mut out);
        Piece::Own(out)
    }

    /// An answer that ends in the middle of its body.
    pub(super) fn half(&mut self, population: usize, asked: Asked) -> Piece {
        let whole = self.whole(population, asked);
        let bytes = self.bytes(&whole);
        let body_at = memchr::memmem::find(bytes, b"\r\n\r\n").map_or(0, |i| i + 4);
        let half = bytes[..(body_at + bytes.len()) / 2].to_vec();
        self.recycle(whole);
        Piece::Own(half)
    }
}

impl Print {
    fn new(population: &Population) -> io::Result<Self> {
        let (vary, farewell) = (population.vary, population.farewell());
        let bodies = match &population.body {
            Source::Samples(n) if *n >= Source::STREAMED_SAMPLES => {
                let page = |n| Template::page(&Body::synthetic(n as usize), vary, 0);
                let last = Some(n % PAGE_SAMPLES).filter(|n| *n > 0).map(page);
                let giant = Giant { page: page(PAGE_SAMPLES), full_pages: n / PAGE_SAMPLES, last };
                return Ok(Self { vary, farewell, sizes: Vec::new(), giant: Some(giant) });
            }
            Source::Samples(n) => vec![Body::synthetic(*n as usize)],
            Source::SamplesBetween([least, most]) => {
                let ratio = f64::from(*most) / f64::from(*least);
                let size = |i| f64::from(*least) * ratio.powf(f64::from(i) / f64::from(SIZES - 1));
                (0..SIZES).map(|i| Body::synthetic(size(i).round() as usize)).collect()
            }
            Source::File(path) => vec![Body::parse(&read(path)?)],
            Source::Text(text) => vec![Body::parse(text)],
            Source::NodeExporter => return Err(io::Error::other("the body of node_exporter was not given")),
        };
        let sizes = bodies.into_iter().map(|body| {
            let each = Template::new(&body, vary, 0).len().max(1);
            let count = (VERSIONS_BYTES / each).clamp(VERSIONS_MIN, VERSIONS_MAX);
            Size { body, versions: std::iter::repeat_with(Version::default).take(count).collect() }
        });
        Ok(Self { vary, farewell, sizes: sizes.collect(), giant: None })
    }

    fn size_mut(&mut self, target: u32) -> &mut Size {
        let count = self.sizes.len() as u64;
        let at = if count == 1 { 0 } else { hash(u64::from(target)) % count };
        &mut self.sizes[at as usize]
    }
}

impl Size {
    fn template(&mut self, vary: Vary, version: usize) -> &Template {
        let body = &self.body;
        self.versions[version].template.get_or_insert_with(|| Template::new(body, vary, version as u64))
    }
}

fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
}

fn head(body_bytes: usize, encoding: &str, farewell: &str, out: &mut Vec<u8>) {
    use io::Write;
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n{encoding}{farewell}Content-Length: {body_bytes}\r\n\r\n",
    );
}

fn pack(text: &[u8], farewell: &str, with: &mut libdeflater::Compressor, out: &mut Vec<u8>) {
    let mut packed = vec![0; with.gzip_compress_bound(text.len())];
    let n = with.gzip_compress(text, &mut packed).expect("the bound is the compressor's own");
    head(n, "Content-Encoding: gzip\r\n", farewell, out);
    out.extend_from_slice(&packed[..n]);
}
