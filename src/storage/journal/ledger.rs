//! What the journal remembers of one target: a column, or one for each piece of a shape too large for one frame.
//!
//! A frame is read, held and sent as one event, so a target with a million series is written as many frames of the same
//! time, each under a journal target of its own with the same variables. Pieces are cut between schemas, by content: a
//! change in one moves no other.

use super::column::Column;
use super::writer::{Row, Slots, Writer};
use crate::base::limits::JOURNAL_FRAME_SERIES_MAX;
use crate::model::{OwnTexts, Schema, Shape};
use std::collections::HashMap;
use std::rc::Rc;

/// Series that a piece has at least, where there are more.
const PIECE_SERIES_MIN: usize = 1024;
/// A piece that large ends at the next schema.
const PIECE_SERIES_MAX: usize = 4096;

/// See the file's caption.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Of a shape in one piece.
    column: Column,
    pieces: Option<Box<Pieces>>,
}

#[derive(Debug)]
struct Pieces {
    /// Key of the shape they are pieces of.
    of: u64,
    list: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    shape: Rc<Shape>,
    column: Column,
}

/// How far a target's scrape is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    piece: usize,
    slot: usize,
    /// Explicit times written.
    times: usize,
}

impl Ledger {
    /// The target's variables changed: see [`Column::renew`].
    pub fn renew(&mut self) {
        *self = Self::default();
    }

    /// See [`Column::set_labels`]; to be told before the target is introduced.
    pub fn set_labels(&mut self, count: usize) {
        self.column.set_labels(count);
    }

    /// A scrape is written soon.
    pub fn prefetch(&self) {
        self.column.prefetch();
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of =
            |p: &Piece| size_of::<Piece>() + p.shape.schemas().len() * size_of::<Rc<dyn Schema>>() + p.column.bytes();
        self.column.bytes() + self.pieces.iter().flat_map(|p| &p.list).map(of).sum::<usize>()
    }

    /// Writes one scrape, or the next piece of it. Returns whether all of it is written.
    pub fn scrape(&mut self, writer: &mut Writer, variables: &OwnTexts, row: &Row<'_>, at: &mut Progress) -> bool {
        if row.shape.series_count <= JOURNAL_FRAME_SERIES_MAX {
            self.pieces = None;
            writer.scrape(&mut self.column, variables.iter(), row);
            return true;
        }
        let pieces = self.cut(row.shape);
        let Some(piece) = pieces.get_mut(at.piece) else { return true };
        let end = at.slot + piece.shape.series_count;
        let times = &row.times[at.times..];
        let times = &times[..times.partition_point(|t| (t.0 as usize) < end)];
        let own: Vec<(u32, i64)> = times.iter().map(|t| (t.0 - at.slot as u32, t.1)).collect();
        let part = Row { shape: &piece.shape, time_ms: row.time_ms, values: &row.values[at.slot..end], times: &own };
        writer.scrape(&mut piece.column, variables.iter(), &part);
        *at = Progress { piece: at.piece + 1, slot: end, times: at.times + own.len() };
        at.piece == pieces.len()
    }

    /// Writes markers at `time_ms` for these slots of `shape`, ascending, or those of the next piece. Returns whether all
    /// are written.
    pub fn stale(
        &mut self,
        writer: &mut Writer,
        variables: &OwnTexts,
        (shape, time_ms): (&Rc<Shape>, i64),
        (slots, at): (&[u32], &mut Progress),
    ) -> bool {
        if shape.series_count <= JOURNAL_FRAME_SERIES_MAX {
            writer.stale(&mut self.column, variables.iter(), (shape, time_ms), Slots::Some(slots));
            return true;
        }
        let pieces = self.cut(shape);
        let mut rest = &slots[slots.partition_point(|&s| (s as usize) < at.slot)..];
        while let Some(piece) = pieces.get_mut(at.piece) {
            let start = at.slot as u32;
            *at = Progress { piece: at.piece + 1, slot: at.slot + piece.shape.series_count, times: 0 };
            let (mine, later) = rest.split_at(rest.partition_point(|&s| (s as usize) < at.slot));
            rest = later;
            if !mine.is_empty() {
                let own: Vec<u32> = mine.iter().map(|s| s - start).collect();
                writer.stale(&mut piece.column, variables.iter(), (&piece.shape, time_ms), Slots::Some(&own));
                break;
            }
        }
        rest.is_empty() || at.piece >= pieces.len()
    }

    /// Makes the pieces those of `shape`; a piece that was there stays, and one that begins like an old one goes on from
    /// its values.
    fn cut(&mut self, shape: &Rc<Shape>) -> &mut [Piece] {
        if self.pieces.is_none() {
            self.column = self.column.fresh();
        }
        let pieces = self.pieces.get_or_insert_with(|| Box::new(Pieces { of: 0, list: Vec::new() }));
        if pieces.of == shape.key {
            return &mut pieces.list;
        }
        pieces.of = shape.key;
        let first = |p: Piece| Some((p.shape.schemas().first()?.key(), p));
        let mut old: HashMap<u64, Piece> = pieces.list.drain(..).filter_map(first).collect();
        for schemas in groups(&shape.schemas()) {
            let known = old.remove(&schemas[0].key());
            let keys = |list: &[Rc<dyn Schema>]| list.iter().map(|s| s.key()).collect::<Vec<_>>();
            pieces.list.push(match known {
                Some(piece) if keys(&piece.shape.schemas()) == keys(schemas) => piece,
                other => {
                    let column = other.map_or_else(|| self.column.fresh(), |p| p.column);
                    Piece { shape: Rc::new(Shape::new(schemas.to_vec())), column }
                }
            });
        }
        &mut pieces.list
    }
}

/// Runs of schemas, each with a fair number of series.
fn groups(schemas: &[Rc<dyn Schema>]) -> impl Iterator<Item = &[Rc<dyn Schema>]> {
    let mut rest = schemas;
    std::iter::from_fn(move || {
        let mut count = 0;
        let ends = |schema: &Rc<dyn Schema>| {
            let may_end = schema.key().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61 == 0;
            let ends = count >= PIECE_SERIES_MAX || (count >= PIECE_SERIES_MIN && may_end);
            count += schema.series_count();
            ends
        };
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let (group, later) = rest.split_at(length);
        rest = later;
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::super::event::Cursor;
    use super::super::files::SystemFiles;
    use super::super::lane::{Lane, SyncMode};
    use super::super::testing::{Plain, read_all, schema, series_text};
    use super::*;
    use crate::base::time::Now;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    struct Rig {
        tmp: tempfile::TempDir,
        lane: Lane,
        writer: Writer,
        ledger: Ledger,
        variables: OwnTexts,
    }

    /// Value bits and explicit time, or a marker (`None`), by time of the event and series.
    type Samples = BTreeMap<(i64, String), Option<(u64, i64)>>;

    impl Rig {
        fn new() -> Self {
            let tmp = tempfile::tempdir().unwrap();
            let lane = Lane::new(0, 7, tmp.path().join("0"), Arc::new(SystemFiles)).with(SyncMode::Os, 0);
            let variables = ["host"].into_iter().collect();
            Self { tmp, lane, writer: Writer::new(0, 7), ledger: Ledger::default(), variables }
        }

        fn scrape(&mut self, shape: &Rc<Shape>, time_ms: i64, times: &[(u32, i64)]) -> usize {
            let values: Vec<f64> = (0..shape.series_count).map(|i| (i as i64 * time_ms) as f64).collect();
            let row = Row { shape, time_ms, values: &values, times };
            let mut at = Progress::default();
            let steps = (1..).find(|_| self.ledger.scrape(&mut self.writer, &self.variables, &row, &mut at));
            self.flush();
            steps.unwrap()
        }

        fn stale(&mut self, shape: &Rc<Shape>, time_ms: i64, slots: &[u32]) {
            let mut at = Progress::default();
            let mut done = false;
            while !done {
                let slots = (slots, &mut at);
                done = self.ledger.stale(&mut self.writer, &self.variables, (shape, time_ms), slots);
            }
            self.flush();
        }

        fn flush(&mut self) {
            let batch = self.writer.flush(Now::default()).expect("something was written");
            self.lane.push(batch);
            self.lane.turn(Now::default(), &mut vec![]);
        }

        fn read(&self) -> (Samples, usize) {
            let (events, _, errors) = read_all(&self.tmp.path().join("0"), Cursor::default());
            assert!(errors.is_empty());
            let mut all = Samples::new();
            let mut add = |e: &Plain, slot: u32, sample| {
                assert_eq!(all.insert((e.time_ms, e.series[slot as usize].clone()), sample), None, "once");
            };
            for e in &events {
                assert_eq!(e.variables, ["host"]);
                for (slot, &bits) in e.values.iter().enumerate() {
                    let explicit = e.times.iter().find(|t| t.0 as usize == slot).map_or(e.time_ms, |t| t.1);
                    add(e, slot as u32, Some((bits, explicit)));
                }
                e.stale.iter().flatten().for_each(|&slot| add(e, slot, None));
            }
            (all, events.len())
        }
    }

    fn expect(all: &mut Samples, shape: &Shape, time_ms: i64, times: &[(u32, i64)]) {
        let times: BTreeMap<u32, i64> = times.iter().copied().collect();
        for (slot, series) in series_text(shape).into_iter().enumerate() {
            let value = ((slot as i64 * time_ms) as f64).to_bits();
            let explicit = times.get(&(slot as u32)).copied().unwrap_or(time_ms);
            all.insert((time_ms, series), Some((value, explicit)));
        }
    }

    #[test]
    fn a_large_shape_is_written_in_pieces_and_reads_as_one() {
        let mut rig = Rig::new();
        let mut schemas: Vec<Rc<dyn Schema>> = (0..400).map(|i| schema(&format!("m{i}"), 100)).collect();
        let first = Rc::new(Shape::new(schemas.clone()));
        schemas[200] = schema("another", 90);
        schemas.insert(300, schema("one_more", 10));
        let second = Rc::new(Shape::new(schemas.clone()));
        let small = Rc::new(Shape::new(schemas[..3].to_vec()));
        let times = [(0, 5), (17_000, 6), (39_999, 7)];
        let steps = rig.scrape(&first, 1000, &times);
        assert!((10..40).contains(&steps), "{steps} pieces of 40,000 series");
        let slots: Vec<u32> = (20_000..20_100).chain([39_998]).collect();
        rig.stale(&first, 2000, &slots);
        let before = rig.writer.tally();
        let steps = rig.scrape(&second, 2001, &[]);
        let grown = rig.writer.tally().dictionary_bytes - before.dictionary_bytes;
        assert!(grown < 5000, "{grown} bytes for two schemas and what names their pieces");
        rig.stale(&second, 3000, &(0..40_000).collect::<Vec<_>>());
        rig.scrape(&small, 3001, &[]);
        let mut want = Samples::new();
        expect(&mut want, &first, 1000, &times);
        expect(&mut want, &second, 2001, &[]);
        expect(&mut want, &small, 3001, &[]);
        let (of_first, of_second) = (series_text(&first), series_text(&second));
        want.extend(slots.iter().map(|&s| ((2000, of_first[s as usize].clone()), None)));
        want.extend((0..40_000).map(|s: usize| ((3000, of_second[s].clone()), None)));
        let (got, events) = rig.read();
        assert!(got == want, "{} samples of {}", got.len(), want.len());
        assert!(events > 3 * steps);
    }
}
