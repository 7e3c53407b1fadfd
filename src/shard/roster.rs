//! The targets of a shard: their loops by token, found by pool and hash or by public labels.
//!
//! Both tables hold a hash tag and a token and look the rest up in the loop: at a million targets that is 38 MB where
//! maps with keys would be 170 MB, and growing touches no loop, which would stop the shard for 100 ms.

use hashbrown::HashTable;

use crate::base::prefetch::prefetch;
use crate::model::Labels;
use crate::scrape::{ScrapeLoop, TargetHash};

/// Loops by token. A *listed* loop can be found; an ending one is there until it is dropped.
#[derive(Default)]
pub struct Roster {
    /// In blocks of [`BLOCK`], so that growing moves none, and each takes just its own room.
    blocks: Vec<Block>,
    /// Places used so far.
    places: u32,
    free: Vec<u32>,
    by_key: HashTable<Entry>,
    by_labels: HashTable<Entry>,
}

/// Loops that are given room at once.
const BLOCK: usize = 64;

/// Room for [`BLOCK`] loops while there is one.
#[derive(Default)]
struct Block {
    loops: Box<[Option<ScrapeLoop>]>,
    /// Loops that have a place here, lent ones too.
    count: usize,
}

/// A token in a table.
#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    token: u32,
}

impl Entry {
    fn new(hash: u64, token: u32) -> Self {
        Self { tag: (hash >> 32) as u32 ^ hash as u32, token }
    }

    fn hash(self) -> u64 {
        u64::from(self.tag).wrapping_mul(SPREAD)
    }
}

/// An odd number without pattern: multiplying by it spreads bits over the word.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Roster {
    /// Listed loops.
    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// The loop of this token is needed soon; its block is known since [`Roster::prefetch_place`].
    pub fn prefetch(&self, token: u32) {
        // Whether a loop is there is told by its own bytes, which are not to be waited for.
        if let Some(place) = self.place(token) {
            prefetch(place);
        }
    }

    /// The place of the loop of this token is needed soon.
    pub fn prefetch_place(&self, token: u32) {
        if let Some(block) = self.blocks.get(token as usize / BLOCK) {
            prefetch(block);
        }
    }

    /// The listed loop of a target in the pool of this index.
    pub fn find(&self, pool: u32, hash: TargetHash) -> Option<u32> {
        let wanted = Entry::new(key_hash(pool, hash), 0);
        let found = self.by_key.find(wanted.hash(), |e| e.tag == wanted.tag && self.is_of(e.token, pool, hash));
        found.map(|e| e.token)
    }

    /// Lists a loop with these labels that is not listed yet; gives its token.
    pub fn add(&mut self, fresh: ScrapeLoop, labels: &Labels) -> u32 {
        assert!(self.find(fresh.pool, fresh.spec.hash).is_none(), "a target is listed once");
        let token = self.free.pop().unwrap_or_else(|| self.new_place());
        let key = key_hash(fresh.pool, fresh.spec.hash);
        self.settle(token, fresh);
        for (table, hash) in [(&mut self.by_key, key), (&mut self.by_labels, labels.prometheus_hash())] {
            let entry = Entry::new(hash, token);
            table.insert_unique(entry.hash(), entry, |e| e.hash());
        }
        let twins: Vec<u32> = self.of_labels(labels).collect();
        if twins.len() > 1 {
            twins.into_iter().for_each(|t| self.at_mut(t).has_twins = true);
        }
        token
    }

    /// Takes a loop out of the table of targets; it lives on until it is dropped, and is found by its labels. Nothing, when it
    /// is not listed.
    pub fn unlist(&mut self, token: u32) {
        let key = key_hash(self.at(token).pool, self.at(token).spec.hash);
        remove(&mut self.by_key, key, token);
    }

    /// Ends an unlisted loop for good.
    pub fn drop_loop(&mut self, token: u32) {
        let ended = self.take(token).expect("a loop ends once: its token may be another's by then");
        let block = &mut self.blocks[token as usize / BLOCK];
        block.count -= 1;
        if block.count == 0 {
            *block = Block::default();
        }
        let labels = ended.cache.packed_labels();
        remove(&mut self.by_labels, labels.prometheus_hash(), token);
        if ended.has_twins {
            let twins: Vec<u32> = self.of_labels(&labels).collect();
            if let [last] = twins[..] {
                self.at_mut(last).has_twins = false;
            }
        }
        self.free.push(token);
    }

    /// Targets with these public labels, ending ones too, but for a loop that is lent out.
    pub fn of_labels<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = u32> + 'a {
        let wanted = Entry::new(labels.prometheus_hash(), 0);
        let same = self.by_labels.iter_hash(wanted.hash()).filter(move |e| e.tag == wanted.tag).map(|e| e.token);
        same.filter(move |&t| self.may_be_at(t).is_some_and(|l| l.cache.labels().eq(labels.iter())))
    }

    /// Tokens are below this.
    pub fn places(&self) -> u32 {
        self.places
    }

    /// All tokens with a loop, ending ones too.
    pub fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.places).filter(|&t| self.may_be_at(t).is_some())
    }

    /// All loops, ending ones too.
    pub fn loops(&self) -> impl Iterator<Item = &ScrapeLoop> {
        self.blocks.iter().flat_map(|b| &b.loops).flatten()
    }

    /// All loops, to be changed.
    pub fn loops_mut(&mut self) -> impl Iterator<Item = &mut ScrapeLoop> {
        self.blocks.iter_mut().flat_map(|b| &mut b.loops).flatten()
    }

    /// The loop of a token that may have ended.
    pub fn may_be_at(&self, token: u32) -> Option<&ScrapeLoop> {
        self.place(token)?.as_ref()
    }

    /// See [`Roster::may_be_at`].
    pub fn may_be_at_mut(&mut self, token: u32) -> Option<&mut ScrapeLoop> {
        self.blocks.get_mut(token as usize / BLOCK)?.loops.get_mut(token as usize % BLOCK)?.as_mut()
    }

    /// The loop of a token in use.
    pub fn at(&self, token: u32) -> &ScrapeLoop {
        self.may_be_at(token).expect("a token in use has a loop")
    }

    /// See [`Roster::at`].
    pub fn at_mut(&mut self, token: u32) -> &mut ScrapeLoop {
        self.may_be_at_mut(token).expect("a token in use has a loop")
    }

    /// Lends a loop out; [`Roster::put_back`] ends that.
    pub fn take(&mut self, token: u32) -> Option<ScrapeLoop> {
        self.blocks.get_mut(token as usize / BLOCK)?.loops.get_mut(token as usize % BLOCK)?.take()
    }

    /// See [`Roster::take`].
    pub fn put_back(&mut self, token: u32, lent: ScrapeLoop) {
        self.blocks[token as usize / BLOCK].loops[token as usize % BLOCK] = Some(lent);
    }

    fn place(&self, token: u32) -> Option<&Option<ScrapeLoop>> {
        self.blocks.get(token as usize / BLOCK)?.loops.get(token as usize % BLOCK)
    }

    fn new_place(&mut self) -> u32 {
        let token = self.places;
        if (token as usize).is_multiple_of(BLOCK) {
            self.blocks.push(Block::default());
        }
        self.places = token.checked_add(1).expect("targets fit in memory, so their number fits in 32 bits");
        token
    }

    fn settle(&mut self, token: u32, fresh: ScrapeLoop) {
        let block = &mut self.blocks[token as usize / BLOCK];
        if block.count == 0 {
            block.loops = std::iter::repeat_with(|| None).take(BLOCK).collect();
        }
        block.count += 1;
        block.loops[token as usize % BLOCK] = Some(fresh);
    }

    fn is_of(&self, token: u32, pool: u32, hash: TargetHash) -> bool {
        let target = self.at(token);
        target.pool == pool && target.spec.hash == hash
    }
}

fn remove(table: &mut HashTable<Entry>, hash: u64, token: u32) {
    if let Ok(entry) = table.find_entry(Entry::new(hash, token).hash(), |e| e.token == token) {
        entry.remove();
    }
}

/// The target's hash is spread well already.
fn key_hash(pool: u32, hash: TargetHash) -> u64 {
    hash.0 ^ u64::from(pool).wrapping_mul(SPREAD)
}
