//! A layout at rest: texts compressed, with what tells that the same body came again, and no more.
//!
//! A body that no other target shares differs from scrape to scrape in values alone, nearly always. Its layout, bindings
//! and plan are put away then: see `rest.rs` for when, `foretold.rs` for how a body is read without them.

use std::rc::Rc;

use super::bits::Bits;
use super::chunk::{Chunk, Layout, LeadHasher, Slot};
use super::compose::{Fate, Pairs, compose};
use super::foretold::LeadsHash;
use super::meter::{Charge, Meter, Thing};
use super::plain::{put_chunk, take_chunk, take_number};
use super::plan::Plan;
use super::pool::Terms;
use crate::encoding::deflate::{Deflater, inflate};
use crate::encoding::protobuf::put_varint;
use crate::exposition::text::Kind;
use crate::model::{LabelValue, Schema, SchemaList, Shape, next_key};

/// Bytes that are compressed together: more pack better, fewer open faster.
const PIECE_BYTES: usize = 64 << 10;
/// Most lines of a group, and bytes of leads after which one ends: what is read again when one of them is another.
const GROUP_LINES: u32 = 64;
/// See [`GROUP_LINES`].
const GROUP_BYTES: usize = 8 << 10;

/// Lines that are known to have come when their leads' hash is this.
#[derive(Debug)]
pub(super) struct Group {
    pub hash: LeadsHash,
    pub count: u32,
}

/// See the file's caption. Equal ones of several targets are one. Few blocks of memory: each could pin a page of those that
/// the layout's end frees.
#[derive(Debug)]
pub(super) struct Resting {
    /// Under which it was bound.
    pub terms: Rc<Terms>,
    /// Length of each line's lead as varints, HELP and TYPE lines behind the last sample, the pieces.
    bytes: Box<[u8]>,
    lengths_end: usize,
    trailer_end: usize,
    pieces: Box<[Piece]>,
    pub groups: Box<[Group]>,
    /// Of chunks with series that are kept. No objects: they are made when they are asked for.
    schemas: Box<[Label]>,
    /// Of the plan's shape.
    pub shape_key: u64,
    /// Lines that rules leave.
    pub kept_count: usize,
    /// Lines.
    pub count: usize,
    /// The type in force behind the last one.
    pub last_kind: Kind,
    /// Slots that rules leave; `None`: all.
    pub kept: Option<Bits>,
    /// That of the layout.
    layout_id: u64,
    _charge: Charge,
}

/// Chunks that are compressed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// Where its bytes end.
    end: u32,
    plain_bytes: u32,
    chunks: u32,
}

/// Key of a schema, its number of series, and of which chunk it is.
#[derive(Clone, Copy, Debug)]
struct Label {
    key: u64,
    count: u32,
    chunk: u32,
}

/// A chunk's parts.
#[derive(Debug)]
pub(super) struct Opened {
    pub entry: Kind,
    pub text: Box<[u8]>,
    pub slots: Box<[Slot]>,
}

/// The label sets of one chunk.
#[derive(Debug)]
struct RestingSchema {
    label: Label,
    terms: Rc<Terms>,
    /// All chunks, opened once for the whole list.
    chunks: Rc<[Opened]>,
}

impl Resting {
    /// Puts a plan away. Its layout is open, and nothing in it clashes or fails.
    pub fn of(plan: &Plan, leads: LeadHasher, meter: &Meter) -> Self {
        let layout = &*plan.layout;
        let (groups, mut bytes) = lead_groups(layout, leads);
        let lengths_end = bytes.len();
        bytes.extend_from_slice(&layout.trailer);
        let trailer_end = bytes.len();
        let pieces = stow(layout, &mut bytes);
        let schemas = labels(plan);
        let kept = (plan.kept() < layout.slot_count()).then(|| {
            let mut kept = Bits::none(layout.slot_count());
            (0..layout.slot_count()).filter(|&slot| plan.column(slot).is_some()).for_each(|slot| kept.set(slot));
            kept
        });
        let heap_bytes = size_of::<Self>()
            + size_of::<Shape>()
            + bytes.len()
            + size_of_val(&*pieces)
            + size_of_val(&*groups)
            + size_of_val(&*schemas)
            + kept.as_ref().map_or(0, |_| layout.slot_count() / 8);
        Self {
            terms: Rc::clone(&plan.terms),
            bytes: bytes.into(),
            lengths_end,
            trailer_end,
            pieces,
            groups,
            schemas,
            shape_key: plan.shape.key,
            kept_count: plan.kept(),
            count: layout.slot_count(),
            last_kind: layout.chunks.last().map_or(Kind::None, |c| c.kind(c.count() - 1)),
            kept,
            layout_id: layout.id,
            _charge: meter.charge(Thing::Resting, heap_bytes),
        }
    }

    /// Length of each line's lead, as varints.
    pub fn lengths(&self) -> &[u8] {
        &self.bytes[..self.lengths_end]
    }

    /// HELP and TYPE lines behind the last sample.
    pub fn trailer(&self) -> &[u8] {
        &self.bytes[self.lengths_end..self.trailer_end]
    }

    /// The plan's shape, whose schemas are made when they are asked for, and open the texts.
    pub fn shape(self: &Rc<Self>) -> Rc<Shape> {
        let series_count = self.kept_count + self.terms.report.series_count();
        Rc::new(Shape::made_by(self.shape_key, series_count, Rc::clone(self) as Rc<dyn SchemaList>))
    }

    /// Whether a shape is the one of this plan, by the keys of its schemas.
    pub fn has_schemas(&self, schemas: &[Rc<dyn Schema>]) -> bool {
        let keys = self.schemas.iter().map(|label| label.key).chain([self.terms.report.key()]);
        schemas.iter().map(|s| s.key()).eq(keys)
    }

    /// Finds candidates for [`Self::is_like`].
    pub fn fingerprint(&self) -> u64 {
        self.groups
            .iter()
            .fold(self.terms.id, |h, g| (h.rotate_left(9) ^ g.hash.bits()).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Whether both are of the same bodies under the same terms. Bytes decide: equal texts are cut and compressed alike.
    pub fn is_like(&self, other: &Self) -> bool {
        let cuts = |r: &Self| (r.lengths_end, r.trailer_end);
        Rc::ptr_eq(&self.terms, &other.terms)
            && cuts(self) == cuts(other)
            && (&self.bytes, &self.pieces) == (&other.bytes, &other.pieces)
    }

    /// Keys of the schemas, the report's apart.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.schemas.iter().map(|label| label.key)
    }

    /// The chunks.
    pub fn open(&self) -> Vec<Opened> {
        (0..self.pieces.len()).flat_map(|piece| self.open_piece(piece)).collect()
    }

    /// A layout to be read along, which nobody else will find.
    pub fn layout(&self) -> Rc<Layout> {
        let chunk = |Opened { entry, text, slots }| {
            Rc::new(Chunk { id: next_key(), entry, text, slots, holes: [].into(), packed: None, _charge: None })
        };
        let chunks = self.open().into_iter().map(chunk).collect();
        Rc::new(Layout::new(self.layout_id, chunks, self.trailer().into(), (0, &Meter::default())))
    }
}

impl Resting {
    fn open_piece(&self, piece: usize) -> Vec<Opened> {
        let start = piece.checked_sub(1).map_or(self.trailer_end, |before| self.pieces[before].end as usize);
        let Piece { end, plain_bytes, chunks } = self.pieces[piece];
        let plain = inflate(&self.bytes[start..end as usize], plain_bytes as usize);
        let mut at = 0;
        let chunk = |_| {
            let count = take_number(&plain, &mut at) as usize;
            let (entry, slots, text) = take_chunk(&plain, &mut at, count, |_, kind| kind);
            Opened { entry, text: text.into(), slots }
        };
        (0..chunks).map(chunk).collect()
    }
}

impl SchemaList for Resting {
    fn list(self: Rc<Self>) -> Vec<Rc<dyn Schema>> {
        let chunks: Rc<[Opened]> = self.open().into();
        let schema = |&label| {
            let (terms, chunks) = (Rc::clone(&self.terms), Rc::clone(&chunks));
            Rc::new(RestingSchema { label, terms, chunks }) as Rc<dyn Schema>
        };
        let mut list: Vec<Rc<dyn Schema>> = self.schemas.iter().map(schema).collect();
        list.push(Rc::clone(&self.terms.report) as Rc<dyn Schema>);
        list
    }
}

impl Schema for RestingSchema {
    fn key(&self) -> u64 {
        self.label.key
    }

    fn series_count(&self) -> usize {
        self.label.count as usize
    }

    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)])) {
        let opened = &self.chunks[self.label.chunk as usize];
        let mut pairs: Pairs<'_> = Vec::new();
        for slot in &opened.slots {
            let series = &opened.text[slot.series as usize..slot.series_end as usize];
            if compose(&self.terms, series, slot.spelled, &mut pairs) != Fate::Keep {
                continue;
            }
            let labels: Vec<(&str, LabelValue<'_>)> = pairs.iter().map(|(n, v)| (&**n, v.as_label())).collect();
            each(&labels);
        }
    }
}

/// What tells the schemas of a plan, the report's apart.
fn labels(plan: &Plan) -> Box<[Label]> {
    let bounds = plan.bounds.iter().enumerate().filter(|(_, bound)| bound.kept > 0);
    bounds.map(|(i, bound)| Label { key: bound.key(), count: bound.kept as u32, chunk: i as u32 }).collect()
}

fn stow(layout: &Layout, out: &mut Vec<u8>) -> Box<[Piece]> {
    let mut deflater = Deflater::thorough();
    let mut pieces = Vec::new();
    let (mut plain, mut chunks) = (Vec::new(), 0);
    for (i, chunk) in layout.chunks.iter().enumerate() {
        put_varint(&mut plain, chunk.slots.len() as u64);
        put_chunk(chunk.entry, &chunk.slots, &chunk.text, &mut plain);
        chunks += 1;
        if plain.len() >= PIECE_BYTES || i + 1 == layout.chunks.len() {
            out.extend_from_slice(&deflater.deflate(&plain));
            pieces.push(Piece { end: out.len() as u32, plain_bytes: plain.len() as u32, chunks });
            plain.clear();
            chunks = 0;
        }
    }
    pieces.into()
}

fn lead_groups(layout: &Layout, leads: LeadHasher) -> (Box<[Group]>, Vec<u8>) {
    let (mut groups, mut lengths) = (Vec::new(), Vec::new());
    let (mut group, mut bytes) = (Group { hash: LeadsHash::default(), count: 0 }, 0);
    for chunk in &layout.chunks {
        for slot in 0..chunk.slots.len() {
            let lead = chunk.lead(slot);
            put_varint(&mut lengths, lead.len() as u64);
            group.hash.add(lead, leads);
            group.count += 1;
            bytes += lead.len();
            if group.count == GROUP_LINES || bytes >= GROUP_BYTES {
                groups.push(std::mem::replace(&mut group, Group { hash: LeadsHash::default(), count: 0 }));
                bytes = 0;
            }
        }
    }
    if group.count > 0 {
        groups.push(group);
    }
    (groups.into(), lengths)
}
