//! One ring: its slot table, its queue of work, its completions.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, cqueue, opcode, types};

use super::buffers::{Pages, Pool, Requests};
use super::sock::{self, RawAddr};
use super::uring::{Refusal, UringOptions};
use super::{Chunk, Close, Stage, What};
use crate::base::limits::{RECV_BUFFER_BYTES, RECV_BUFFERS};
use crate::base::mailbox::Waker;
use crate::base::prefetch::prefetch;

const SUBMISSIONS: u32 = 512;
const COMPLETIONS: u32 = 4096;
const NONE: u32 = u32::MAX;
const GENERATION: u32 = 0x00ff_ffff;
/// Most submission entries that one piece of work needs.
const ENTRIES_MAX: usize = 5;

/// Operations that are used, by name and number.
pub(super) const OPERATIONS: [(&str, u8); 6] = [
    ("SOCKET", opcode::Socket::CODE),
    ("CONNECT", opcode::Connect::CODE),
    ("SEND", opcode::Send::CODE),
    ("RECV", opcode::Recv::CODE),
    ("CLOSE", opcode::Close::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
];

/// What a completion belongs to; the top byte of `user_data`.
const SETUP: u64 = 1;
const CONNECT: u64 = 2;
const SEND: u64 = 3;
const RECV: u64 = 4;
const PEEK: u64 = 5;
const OTHER: u64 = 6;

/// A piece of work that waits for the next entry into the kernel. The number after the slot is the generation.
#[derive(Debug)]
enum Work {
    Dial(u32, u32, SocketAddr, u32),
    Send(u32, u32, u32, Before),
    Close(u32, u32, Close),
    Part(u32, u32, u32),
}

/// What precedes a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// A look whether the connection is still idle.
    Peek,
    /// Nothing: the connection is in use.
    Nothing,
}

/// One place of the slot table.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Counts the connections that had this place; completions of older ones are dropped.
    generation: u32,
    /// The request that the kernel may still read, or [`NONE`].
    request: u32,
    /// Completions that are still to come, of this generation or an older one.
    under_way: u8,
    open: bool,
}

pub(super) struct Ring {
    io: IoUring,
    list: BufferList,
    slots: Vec<Slot>,
    work: VecDeque<Work>,
    /// Dials whose place still waits for completions of its last connection.
    deferred: Vec<Work>,
    reads: VecDeque<(u32, u32)>,
    /// Reads that the kernel sent back; tried again in the next round.
    late_reads: Vec<(u32, u32)>,
    /// Addresses that queued entries point to; read by the kernel at submission. Never grows past its capacity.
    addresses: Vec<RawAddr>,
    under_way: u32,
    /// Reads among them.
    reading: u32,
    taskrun_flag: bool,
    /// Completions that were taken from the kernel's queue all at once, so that later ones can be seen while an earlier one is
    /// worked on. Empty between rounds.
    taken: VecDeque<cqueue::Entry>,
    /// Of this round.
    entry: Entered,
}

/// What the last entry into the kernel of a round was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    NotYet,
    InVain,
    Brought,
}

impl Entered {
    /// Whether the kernel is to be entered once more in this round. It works off some twenty of the completions it has put
    /// off at each entry (Linux 6.13 and newer), so a round goes on while it says that there are more. An entry that
    /// brought nothing ends it: the kernel sets `TASKRUN` after it has put the work in place, so when another CPU is between
    /// the two, the flag stands for work that is done already, until there is new work.
    fn again(self, is_queued: bool, is_flagged: bool) -> bool {
        match self {
            Self::NotYet => true,
            Self::InVain => is_queued,
            Self::Brought => is_queued || is_flagged,
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

/// The buffer ring of one ring: lists the shared buffers to the kernel, as many as there are reads. The kernel takes them
/// in the order of the list; those used last are listed first, so that few reads stay within few buffers, which are still
/// in the cache.
struct BufferList {
    pages: Pages,
    tail: u16,
    /// Listed and not filled yet.
    listed: u16,
    /// The others, the one used last at the end.
    free: Vec<u16>,
}

impl BufferList {
    fn new(io: &IoUring, pool: &Pool) -> Result<Self, i32> {
        const { assert!(RECV_BUFFERS as usize * size_of::<types::BufRingEntry>() <= 2048) };
        let pages = Pages::new(4096)?;
        // SAFETY: page-aligned, large enough, unmapped only after the ring is gone.
        unsafe { io.submitter().register_buf_ring_with_flags(pages.as_ptr() as u64, RECV_BUFFERS, 0, 0) }
            .map_err(|e| e.raw_os_error().unwrap_or(libc::EIO))?;
        let mut list = Self { pages, tail: 0, listed: 0, free: (0..RECV_BUFFERS).collect() };
        list.lend(pool, 1);
        Ok(list)
    }

    /// A byte that the kernel may write to and nobody reads: behind the entries, on the same page.
    fn spare_byte(&self) -> *mut u8 {
        // SAFETY: the list is smaller than half a page, and mappings are whole pages.
        unsafe { self.pages.as_ptr().add(2048) }
    }

    /// Lists buffers for so many reads, as far as there are some.
    fn lend(&mut self, pool: &Pool, reads: u32) {
        let wanted = u16::try_from(reads).unwrap_or(RECV_BUFFERS).min(RECV_BUFFERS);
        if self.listed >= wanted {
            return;
        }
        let base = self.pages.as_ptr().cast::<types::BufRingEntry>();
        while self.listed < wanted
            && let Some(buffer) = self.free.pop()
        {
            // SAFETY: the index is below the number of entries; the kernel reads an entry only below the tail.
            let entry = unsafe { &mut *base.add(usize::from(self.tail & (RECV_BUFFERS - 1))) };
            entry.set_addr(pool.address(buffer) as u64);
            entry.set_len(RECV_BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            self.listed += 1;
        }
        // SAFETY: `base` is the first entry of the registered list, whose tail the kernel reads atomically.
        unsafe { (*types::BufRingEntry::tail(base).cast::<AtomicU16>()).store(self.tail, Ordering::Release) };
    }

    /// The kernel filled a buffer. It is read before the next call of [`BufferList::lend`].
    fn filled(&mut self, buffer: u16) {
        self.listed -= 1;
        self.free.push(buffer);
    }
}

impl Ring {
    pub(super) fn new(slots: u32, options: UringOptions, pool: &Pool, bell: &Waker) -> Result<Self, Refusal> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_submit_all().setup_coop_taskrun().setup_single_issuer();
        if options.defer_taskrun {
            builder.setup_defer_taskrun();
        }
        if options.taskrun_flag {
            builder.setup_taskrun_flag();
        }
        let number = |e: std::io::Error| e.raw_os_error().unwrap_or(libc::EIO);
        let io: IoUring = builder.build(SUBMISSIONS).map_err(|e| Refusal::Setup(number(e)))?;
        if !io.params().is_feature_skip_cqe_on_success() || !io.params().is_feature_nodrop() {
            return Err(Refusal::Missing("CQE_SKIP"));
        }
        let mut probe = io_uring::Probe::new();
        io.submitter().register_probe(&mut probe).map_err(|e| Refusal::Setup(number(e)))?;
        if let Some((name, _)) = OPERATIONS.iter().find(|(_, code)| !probe.is_supported(*code)) {
            return Err(Refusal::Missing(name));
        }
        io.submitter().register_files_sparse(slots).map_err(|e| Refusal::SlotTable(slots, number(e)))?;
        let list = BufferList::new(&io, pool).map_err(Refusal::BufferRing)?;
        io.submitter().register_eventfd(bell.fd()).map_err(|e| Refusal::Setup(number(e)))?;
        let mut ring = Self {
            io,
            list,
            slots: Vec::new(),
            work: VecDeque::new(),
            deferred: Vec::new(),
            reads: VecDeque::new(),
            late_reads: Vec::new(),
            addresses: Vec::with_capacity(SUBMISSIONS as usize),
            under_way: 0,
            reading: 0,
            taskrun_flag: options.taskrun_flag,
            taken: VecDeque::new(),
            entry: Entered::NotYet,
        };
        ring.unlisten();
        Ok(ring)
    }

    /// The place of a connection is needed soon.
    pub(super) fn prefetch(&self, slot: u32) {
        if let Some(place) = self.slots.get(slot as usize) {
            prefetch(place);
        }
    }

    pub(super) fn dial(&mut self, slot: u32, addr: SocketAddr, request: u32) {
        if slot as usize >= self.slots.len() {
            self.slots.resize(slot as usize + 1, Slot { generation: 0, request: NONE, under_way: 0, open: false });
        }
        let place = &mut self.slots[slot as usize];
        assert!(!place.open, "dial on an open connection");
        place.open = true;
        self.work.push_back(Work::Dial(slot, place.generation, addr, request));
    }

    pub(super) fn send(&mut self, slot: u32, request: u32, before: Before) {
        let place = &self.slots[slot as usize];
        assert!(place.open, "send on a closed connection");
        self.work.push_back(Work::Send(slot, place.generation, request, before));
    }

    pub(super) fn recv(&mut self, slot: u32) {
        let place = &self.slots[slot as usize];
        assert!(place.open, "recv on a closed connection");
        self.reads.push_back((slot, place.generation));
    }

    pub(super) fn close(&mut self, slot: u32, how: Close) {
        let Some(place) = self.slots.get_mut(slot as usize).filter(|p| p.open) else { return };
        place.open = false;
        self.work.push_back(Work::Close(slot, place.generation, how));
        place.generation = (place.generation + 1) & GENERATION;
    }

    /// Closes after last words; false when the connection is closed already, and the words stay with the caller.
    pub(super) fn part(&mut self, slot: u32, words: u32) -> bool {
        let Some(place) = self.slots.get_mut(slot as usize).filter(|p| p.open) else { return false };
        place.open = false;
        self.work.push_back(Work::Part(slot, place.generation, words));
        place.generation = (place.generation + 1) & GENERATION;
        true
    }

    /// Something is still to come of this ring.
    pub(super) fn busy(&self) -> bool {
        self.under_way > 0 || !self.late_reads.is_empty()
    }

    /// Prepares a round; false when there is nothing to enter the kernel for.
    pub(super) fn begin(&mut self) -> bool {
        debug_assert!(self.taken.is_empty(), "a round goes on until there is nothing left");
        self.entry = Entered::NotYet;
        self.work.extend(self.deferred.drain(..));
        self.reads.extend(self.late_reads.drain(..));
        let is_here = self.queued() || !self.io.completion().is_empty();
        is_here || self.under_way > 0 && (!self.taskrun_flag || self.kernel_has_work())
    }

    /// From now on completions ring the bell. Returns whether some are there already.
    pub(super) fn listen(&mut self) -> bool {
        self.io.completion().enable_eventfd();
        fence(Ordering::SeqCst);
        if self.late_reads.is_empty() && self.io.completion().is_empty() && self.kernel_has_work() {
            // Either the kernel put it off before the bell was there, or the flag stands for nothing (see `Entered`).
            self.enter();
        }
        !self.late_reads.is_empty() || !self.io.completion().is_empty()
    }

    /// From now on completions are silent.
    pub(super) fn unlisten(&mut self) {
        self.io.completion().disable_eventfd();
    }

    /// Whether there is something to give to the kernel.
    fn queued(&mut self) -> bool {
        !self.work.is_empty() || !self.reads.is_empty() || !self.io.submission().is_empty()
    }

    /// Whether an entry would bring completions, read from the shared flags without a system call.
    fn kernel_has_work(&mut self) -> bool {
        let sq = self.io.submission();
        sq.taskrun() || sq.cq_overflow()
    }

    /// Enters the kernel if there is reason to; false ends the ring's round.
    pub(super) fn advance(&mut self, pool: &Pool, requests: &mut Requests) -> bool {
        // With `TASKRUN_FLAG` off only the overflow shows.
        let (is_queued, is_flagged) = (self.queued(), self.kernel_has_work());
        if !self.entry.again(is_queued, is_flagged) {
            return false;
        }
        if self.io.submission().is_empty() {
            self.addresses.clear();
        }
        let mut reads = usize::from(RECV_BUFFERS);
        while self.room() >= ENTRIES_MAX {
            if let Some(work) = self.work.pop_front() {
                self.queue(work, requests);
            } else if reads > 0 && !self.reads.is_empty() {
                reads -= 1;
                self.queue_read();
            } else {
                break;
            }
        }
        self.list.lend(pool, self.reading);
        self.enter()
    }

    fn room(&mut self) -> usize {
        let sq = self.io.submission();
        sq.capacity() - sq.len()
    }

    fn enter(&mut self) -> bool {
        /// `IORING_ENTER_GETEVENTS`: also run what the kernel has put off.
        const GETEVENTS: u32 = 1;
        let queued = self.io.submission().len() as u32;
        // SAFETY: every queued entry points to memory that lives long enough: addresses until submission, requests
        // (in `Requests`) and buffers (in the pool) until completion.
        let entered = unsafe { self.io.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) };
        let is_empty = self.io.completion().is_empty();
        self.entry = if is_empty { Entered::InVain } else { Entered::Brought };
        match entered {
            Ok(_) => true,
            // Completions must be taken first; what was not submitted stays queued for the next round.
            Err(e) => e.raw_os_error() == Some(libc::EINTR) || !is_empty,
        }
    }

    fn push(&mut self, entry: &Entry) {
        // SAFETY: see `enter`; room was checked before the work was taken.
        unsafe { self.io.submission().push(entry) }.expect("room for the entries of one piece of work");
    }

    fn expect(&mut self, slot: u32, completions: u8) {
        self.slots[slot as usize].under_way += completions;
        self.under_way += u32::from(completions);
    }

    fn queue(&mut self, work: Work, requests: &mut Requests) {
        match work {
            Work::Dial(slot, generation, ..) | Work::Send(slot, generation, ..)
                if self.slots[slot as usize].generation != generation =>
            {
                let (Work::Dial(.., request) | Work::Send(_, _, request, _)) = work else { return };
                requests.free(request);
            }
            Work::Dial(slot, ..) if self.slots[slot as usize].under_way > 0 => self.deferred.push(work),
            Work::Dial(slot, generation, addr, request) => self.queue_dial(slot, generation, addr, request, requests),
            Work::Send(slot, generation, request, before) => {
                if before == Before::Peek {
                    self.queue_peek(slot, generation);
                }
                let entry = self.send_entry(slot, generation, request, requests);
                self.push(&entry);
                self.expect(slot, 1);
            }
            Work::Close(slot, generation, how) => self.queue_close(slot, generation, how),
            Work::Part(slot, generation, words) => self.queue_part(slot, generation, words, requests),
        }
    }

    /// Last words go out only where nothing else is under way, which would have to be cancelled first.
    fn queue_part(&mut self, slot: u32, generation: u32, words: u32, requests: &mut Requests) {
        let under_way = self.slots[slot as usize].under_way;
        if under_way > 0 {
            requests.free(words);
        } else {
            let bytes = requests.unsent(words);
            let send = opcode::Send::new(types::Fixed(slot), bytes.as_ptr(), bytes.len() as u32);
            let send = send.flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT).build();
            self.slots[slot as usize].request = words;
            // Whatever comes of the send, the close follows it. Its completion is of an older generation and only frees.
            self.push(&send.flags(Flags::IO_HARDLINK).user_data(name(SEND, slot, generation)));
        }
        self.queue_close(slot, generation, Close::Fin);
        if under_way == 0 {
            self.expect(slot, 1);
        }
    }

    fn queue_dial(&mut self, slot: u32, generation: u32, addr: SocketAddr, request: u32, requests: &Requests) {
        let linked = Flags::IO_LINK;
        let place = types::DestinationSlot::try_from_slot_target(slot).expect("slots are far below the limit");
        let socket = opcode::Socket::new(sock::family(&addr), libc::SOCK_STREAM, 0).file_index(Some(place)).build();
        self.push(&socket.flags(linked | Flags::SKIP_SUCCESS).user_data(name(SETUP, slot, generation)));
        let connect = self.connect_entry(slot, RawAddr::new(addr));
        self.push(&connect.flags(linked).user_data(name(CONNECT, slot, generation)));
        let send = self.send_entry(slot, generation, request, requests);
        self.push(&send);
        self.expect(slot, 2);
    }

    fn connect_entry(&mut self, slot: u32, addr: RawAddr) -> Entry {
        assert!(self.addresses.len() < self.addresses.capacity(), "fewer addresses than submission entries");
        self.addresses.push(addr);
        let kept = &self.addresses[self.addresses.len() - 1];
        opcode::Connect::new(types::Fixed(slot), kept.as_ptr(), kept.len()).build()
    }

    fn send_entry(&mut self, slot: u32, generation: u32, request: u32, requests: &Requests) -> Entry {
        self.slots[slot as usize].request = request;
        let bytes = requests.unsent(request);
        opcode::Send::new(types::Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(name(SEND, slot, generation))
    }

    fn queue_read(&mut self) {
        let Some((slot, generation)) = self.reads.pop_front() else { return };
        if self.slots[slot as usize].generation != generation {
            return;
        }
        let recv = opcode::Recv::new(types::Fixed(slot), std::ptr::null_mut(), 0).buf_group(0).build();
        self.push(&recv.flags(Flags::BUFFER_SELECT).user_data(name(RECV, slot, generation)));
        self.expect(slot, 1);
        self.reading += 1;
    }

    /// Looks whether an idle connection is still idle, right before it is used. It runs before the send, unlinked: where
    /// it finds something, the connection is closed and the request was sent in vain.
    fn queue_peek(&mut self, slot: u32, generation: u32) {
        let peek = opcode::Recv::new(types::Fixed(slot), self.list.spare_byte(), 1);
        let entry = peek.flags(libc::MSG_PEEK | libc::MSG_DONTWAIT).build();
        self.push(&entry.user_data(name(PEEK, slot, generation)));
        self.expect(slot, 1);
    }

    fn queue_close(&mut self, slot: u32, generation: u32, how: Close) {
        let quiet = |e: Entry| e.flags(Flags::SKIP_SUCCESS).user_data(name(OTHER, slot, 0));
        if self.slots[slot as usize].under_way > 0 {
            self.queue_cancels(slot, generation);
        }
        if how == Close::Reset {
            let dissolve = self.connect_entry(slot, RawAddr::unspecified());
            self.push(&quiet(dissolve));
        }
        self.push(&quiet(opcode::Close::new(types::Fixed(slot)).build()));
    }

    /// A request under way holds the socket open, so it goes before the close. By its name: for those of a socket the kernel
    /// looks through all of the ring's, 0.2 ms for each of 16,000 targets that time out together.
    fn queue_cancels(&mut self, slot: u32, generation: u32) {
        for op in [CONNECT, SEND, RECV] {
            let cancel = opcode::AsyncCancel::new(name(op, slot, generation)).build();
            self.push(&cancel.flags(Flags::SKIP_SUCCESS).user_data(name(OTHER, slot, 0)));
        }
    }

    /// The next completion that means something: slot and what happened.
    pub(super) fn pop(&mut self, requests: &mut Requests) -> Option<(u32, What)> {
        loop {
            if self.taken.is_empty() {
                self.taken.extend(self.io.completion());
            }
            let cqe = self.taken.pop_front()?;
            if let Some(found) = self.take(cqe.user_data(), cqe.result(), cqe.flags(), requests) {
                return Some(found);
            }
        }
    }

    /// The slot of a completion that is so many behind the last one, if it brings bytes.
    pub(super) fn upcoming(&self, ahead: usize) -> Option<u32> {
        let named = self.taken.get(ahead)?.user_data();
        (named >> 56 == RECV).then_some(named as u32)
    }

    fn take(&mut self, named: u64, result: i32, flags: u32, requests: &mut Requests) -> Option<(u32, What)> {
        let (op, slot, generation) = (named >> 56, named as u32, (named >> 32) as u32 & GENERATION);
        if op == OTHER {
            return None;
        }
        let buffer = cqueue::buffer_select(flags);
        if let Some(buffer) = buffer {
            self.list.filled(buffer);
        }
        self.reading -= u32::from(op == RECV);
        let place = &mut self.slots[slot as usize];
        // A failed SETUP silences the rest of its chain (`CQE_SKIP` on a failed link).
        let done = if op == SETUP { place.under_way } else { place.under_way.min(1) };
        place.under_way -= done;
        self.under_way -= u32::from(done);
        if (op == SEND || op == SETUP) && place.request != NONE {
            requests.free(std::mem::replace(&mut place.request, NONE));
        }
        if place.generation != generation {
            return None;
        }
        let what = match (op, result) {
            (SETUP, e) => What::Failed(Stage::Dial, -e),
            (CONNECT, 0..) => What::Connected,
            (CONNECT, e) => What::Failed(Stage::Dial, -e),
            (PEEK, e) if -e == libc::EAGAIN => return None,
            (PEEK, 0..) => What::Failed(Stage::Send, libc::EPIPE),
            (SEND, 0..) => What::Sent,
            (SEND | PEEK, e) => What::Failed(Stage::Send, -e),
            (_, 0) => What::Eof,
            (_, n @ 1..) => What::Bytes(Chunk { buffer: buffer?, len: n as u32 }),
            // All buffers were filled, so emptying them makes room.
            (_, e) if -e == libc::ENOBUFS => {
                self.reads.push_back((slot, generation));
                return None;
            }
            (_, e) if matches!(-e, libc::EINTR | libc::EAGAIN) => {
                self.late_reads.push((slot, generation));
                return None;
            }
            (_, e) => What::Failed(Stage::Recv, -e),
        };
        Some((slot, what))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Whatever is under way must be over before the buffers and requests are freed: most of it by name, see
        // `queue_cancels`, the rest by looking for it.
        for slot in 0..self.slots.len() as u32 {
            let Slot { generation, under_way, .. } = self.slots[slot as usize];
            if self.room() < ENTRIES_MAX {
                self.enter();
                self.io.completion().for_each(drop);
            }
            if under_way > 0 && self.room() >= ENTRIES_MAX {
                self.queue_cancels(slot, generation);
            }
        }
        self.enter();
        let _ = self.io.submitter().register_sync_cancel(None, types::CancelBuilder::any());
    }
}

fn name(op: u64, slot: u32, generation: u32) -> u64 {
    op << 56 | u64::from(generation & GENERATION) << 32 | u64::from(slot)
}

#[cfg(test)]
mod tests {
    use super::Entered;

    #[test]
    fn a_round_ends_though_a_flag_stands() {
        assert!(Entered::NotYet.again(false, false));
        assert!(Entered::Brought.again(false, true), "more of what was put off");
        assert!(!Entered::Brought.again(false, false));
        assert!(Entered::InVain.again(true, false), "something to give to the kernel");
        assert!(!Entered::InVain.again(false, true), "a flag that stands for nothing");
    }
}
