//! One ring of the farm: accepts into its own slot table, receives by multishot, sends shared or printed answers.
//!
//! The scraper's ring turned around. Requests land in buffers that all rings of the thread share: only one ring is
//! entered at a time (`DEFER_TASKRUN`), and it is emptied before the next.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, cqueue, opcode, types};

use super::exporters::{Conn, Exporters, Order, Then};
use super::press::Piece;
use crate::base::mailbox::Waker;
use crate::engine::{Pages, Refusal};

const SUBMISSIONS: u32 = 512;
const COMPLETIONS: u32 = 4096;
/// Entries into the kernel after which the other rings have their turn.
const ROUND_ENTRIES_MAX: u32 = 64;
/// Buffers that requests land in, and the size of one: a usual request.
const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 1024;
/// Receives started at once; the other buffers are for those that are under way.
const READS_MAX: usize = BUFFERS as usize / 2;
/// Most submission entries that one event needs.
const ENTRIES_MAX: usize = 4;
/// Shared pieces up to this are taken by the socket at once, so their completion need not be heard of.
const SILENT_BYTES_MAX: usize = 64 << 10;

/// What a completion belongs to; the top four bits of `user_data`.
const ACCEPT: u64 = 1;
const RECV: u64 = 2;
const SEND: u64 = 3;
const OTHER: u64 = 4;
/// No piece is kept for a send.
const NOT_KEPT: u32 = 0x00ff_ffff;

/// The address that dissolves a connection: a `sockaddr` of family AF_UNSPEC.
static NOWHERE: [u8; 16] = [0; 16];

/// One place of the slot table.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Counts the connections that had this place; completions of older ones are dropped.
    generation: u16,
    /// Sends whose completion is still to come.
    sends: u8,
    is_open: bool,
    /// A receive is under way or about to be.
    is_armed: bool,
}

/// A listener of this ring.
#[derive(Clone, Copy, Debug)]
struct Door {
    fd: RawFd,
    is_armed: bool,
}

pub(super) struct Ring {
    io: IoUring,
    list: BufferList,
    slots: Vec<Slot>,
    doors: Vec<Door>,
    /// Pieces of sends that are heard of.
    kept: Vec<Option<(Piece, Then)>>,
    kept_free: Vec<u32>,
    /// Receives to start: slot, generation, how. A part of the buffers' number is started at a time, since more than that
    /// many answers at once would only be sent back for want of a buffer.
    reads: VecDeque<(u32, u16, Reads)>,
    /// Number of the connection in slot 0.
    first: Conn,
}

/// What the rings of a thread share while one of them runs.
pub(super) struct Floor<'a> {
    pub(super) exporters: &'a mut Exporters,
    pub(super) pool: &'a Pool,
    pub(super) orders: &'a mut Vec<Order>,
    pub(super) now_ns: u64,
}

/// The buffers that requests land in.
pub(super) struct Pool {
    pages: Pages,
}

impl Pool {
    pub(super) fn new() -> Result<Self, Refusal> {
        Pages::new(BUFFER_BYTES * usize::from(BUFFERS)).map(|pages| Self { pages }).map_err(Refusal::Memory)
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < BUFFERS);
        // SAFETY: within the mapping, by the assertion.
        unsafe { self.pages.as_ptr().add(usize::from(buffer) * BUFFER_BYTES) }
    }

    fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(len <= BUFFER_BYTES);
        // SAFETY: inside one buffer that the kernel has filled and not been lent again.
        unsafe { std::slice::from_raw_parts(self.address(buffer), len) }
    }
}

/// Lists the shared buffers to the kernel, for one ring.
struct BufferList {
    pages: Pages,
    tail: u16,
    used: Vec<u16>,
}

impl BufferList {
    fn new(io: &IoUring, pool: &Pool) -> Result<Self, i32> {
        let pages = Pages::new(size_of::<types::BufRingEntry>() * usize::from(BUFFERS))?;
        // SAFETY: page-aligned, large enough, unmapped only after the ring is gone.
        unsafe { io.submitter().register_buf_ring_with_flags(pages.as_ptr() as u64, BUFFERS, 0, 0) }
            .map_err(|e| e.raw_os_error().unwrap_or(libc::EIO))?;
        let mut list = Self { pages, tail: 0, used: (0..BUFFERS).collect() };
        list.lend(pool);
        Ok(list)
    }

    /// Lists the used buffers again.
    fn lend(&mut self, pool: &Pool) {
        if self.used.is_empty() {
            return;
        }
        let base = self.pages.as_ptr().cast::<types::BufRingEntry>();
        for buffer in self.used.drain(..) {
            // SAFETY: the index is below the number of entries; the kernel reads an entry only below the tail.
            let entry = unsafe { &mut *base.add(usize::from(self.tail & (BUFFERS - 1))) };
            entry.set_addr(pool.address(buffer) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: `base` is the first entry of the registered list, whose tail the kernel reads atomically.
        unsafe { (*types::BufRingEntry::tail(base).cast::<AtomicU16>()).store(self.tail, Ordering::Release) };
    }
}

impl Ring {
    /// A ring of so many slots that accepts from these listeners.
    pub(super) fn new(
        slots: u32,
        first: Conn,
        doors: &[impl AsRawFd],
        pool: &Pool,
        bell: &Waker,
    ) -> Result<Self, Refusal> {
        let number = |e: std::io::Error| e.raw_os_error().unwrap_or(libc::EIO);
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_submit_all().setup_coop_taskrun().setup_single_issuer();
        // Of Linux 6.1, as is everything else that is used here.
        builder.setup_defer_taskrun().setup_taskrun_flag();
        let io: IoUring = builder.build(SUBMISSIONS).map_err(|e| Refusal::Setup(number(e)))?;
        io.submitter().register_files_sparse(slots).map_err(|e| Refusal::SlotTable(slots, number(e)))?;
        let list = BufferList::new(&io, pool).map_err(Refusal::BufferRing)?;
        io.submitter().register_eventfd(bell.fd()).map_err(|e| Refusal::Setup(number(e)))?;
        let doors = doors.iter().map(|d| Door { fd: d.as_raw_fd(), is_armed: false }).collect();
        let (kept, kept_free, reads) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut ring = Self { io, list, slots: Vec::new(), doors, kept, kept_free, reads, first };
        ring.unlisten();
        Ok(ring)
    }

    /// From now on completions ring the bell. Returns whether there is work already.
    pub(super) fn listen(&mut self) -> bool {
        self.io.completion().enable_eventfd();
        std::sync::atomic::fence(Ordering::SeqCst);
        self.has_work()
    }

    /// From now on completions are silent.
    pub(super) fn unlisten(&mut self) {
        self.io.completion().disable_eventfd();
    }

    /// Whether there is anything to do, read without a system call.
    pub(super) fn has_work(&mut self) -> bool {
        self.is_busy() || self.doors.iter().any(|d| !d.is_armed)
    }

    fn is_busy(&mut self) -> bool {
        let sq = self.io.submission();
        let waits = !sq.is_empty() || sq.taskrun() || sq.cq_overflow();
        drop(sq);
        waits || !self.io.completion().is_empty() || !self.reads.is_empty()
    }

    /// Does what there is to do; returns how many completions that was.
    pub(super) fn run(&mut self, floor: &mut Floor<'_>) -> u32 {
        for at in 0..self.doors.len() {
            if !self.doors[at].is_armed && self.room(floor) {
                self.doors[at].is_armed = true;
                let accept = opcode::AcceptMulti::new(types::Fd(self.doors[at].fd)).allocate_file_index(true).build();
                self.push(&accept.user_data(name(ACCEPT, at as u32, 0, NOT_KEPT)));
            }
        }
        let (mut taken, mut entered) = (0, 0);
        loop {
            let before = taken;
            self.list.lend(floor.pool);
            self.queue_reads(floor);
            self.enter(Enter::Reap);
            loop {
                let Some(cqe) = self.io.completion().next() else { break };
                taken += 1;
                let heard = self.take(&cqe, floor);
                self.carry(floor);
                if let Some(slot) = heard {
                    self.read(slot, Reads::Many);
                }
            }
            // The kernel works off some twenty of the completions it has put off at each entry, so one entry is not all. Its
            // flag may stand for work that is done already: an entry that brings nothing ends the round.
            entered += 1;
            if entered == ROUND_ENTRIES_MAX || taken == before || !self.is_busy() {
                return taken;
            }
        }
    }

    /// Queues what the exporters ordered for connections of this ring.
    pub(super) fn carry(&mut self, floor: &mut Floor<'_>) {
        while let Some(order) = floor.orders.pop() {
            match order {
                Order::Send(conn, piece, then) => self.queue_send(conn - self.first, piece, then, floor),
                Order::Reset(conn) => {
                    let slot = conn - self.first;
                    if self.room(floor) && self.slots[slot as usize].is_open {
                        self.queue_end(slot, End::Reset);
                    }
                }
            }
        }
    }

    /// Makes room for the entries of one event.
    fn room(&mut self, floor: &Floor<'_>) -> bool {
        let free = |io: &mut IoUring| {
            let sq = io.submission();
            sq.capacity() - sq.len()
        };
        if free(&mut self.io) < ENTRIES_MAX {
            self.list.lend(floor.pool);
            self.enter(Enter::Submit);
        }
        free(&mut self.io) >= ENTRIES_MAX
    }

    fn enter(&mut self, how: Enter) {
        /// `IORING_ENTER_GETEVENTS`: also run what the kernel has put off.
        const GETEVENTS: u32 = 1;
        let queued = self.io.submission().len() as u32;
        let flags = if how == Enter::Reap { GETEVENTS } else { 0 };
        // SAFETY: every queued entry points to memory that outlives its completion: pages of the press (dropped after the
        // rings), pieces in `kept`, buffers of the pool, and a static address. A failure leaves the rest queued.
        let _ = unsafe { self.io.submitter().enter::<libc::sigset_t>(queued, 0, flags, None) };
    }

    fn push(&mut self, entry: &Entry) {
        // SAFETY: see `enter`.
        unsafe { self.io.submission().push(entry) }.expect("room was made for the entries of one event");
    }

    /// Receives further on an open connection where nothing does.
    fn read(&mut self, slot: u32, reads: Reads) {
        let place = &mut self.slots[slot as usize];
        if place.is_open && !place.is_armed {
            place.is_armed = true;
            self.reads.push_back((slot, place.generation, reads));
        }
    }

    fn queue_reads(&mut self, floor: &Floor<'_>) {
        for _ in 0..self.reads.len().min(READS_MAX) {
            if !self.room(floor) {
                return;
            }
            let Some((slot, generation, reads)) = self.reads.pop_front() else { return };
            if self.slots[slot as usize].generation != generation {
                continue;
            }
            let entry = match reads {
                Reads::One => opcode::Recv::new(types::Fixed(slot), std::ptr::null_mut(), 0).buf_group(0).build(),
                Reads::Many => opcode::RecvMulti::new(types::Fixed(slot), 0).build(),
            };
            self.push(&entry.flags(Flags::BUFFER_SELECT).user_data(name(RECV, slot, generation, NOT_KEPT)));
        }
    }

    fn queue_send(&mut self, slot: u32, piece: Piece, then: Then, floor: &mut Floor<'_>) {
        let place = self.slots[slot as usize];
        // A peer that asks again before it has read the last answer is not an exporter's client.
        if !place.is_open || place.sends > 0 || !self.room(floor) {
            floor.exporters.recycle(piece);
            if place.is_open {
                self.end(slot, floor);
            }
            return;
        }
        let (at, len) = {
            let bytes = floor.exporters.bytes(&piece);
            (bytes.as_ptr(), bytes.len())
        };
        let is_silent = matches!(piece, Piece::Page(_)) && len <= SILENT_BYTES_MAX && then != Then::Tell;
        let (kept, mut flags) = if is_silent {
            (NOT_KEPT, Flags::SKIP_SUCCESS)
        } else {
            self.slots[slot as usize].sends += 1;
            (self.keep(piece, then), Flags::empty())
        };
        if then == Then::Fin {
            // Whatever comes of the send, the close follows it.
            flags |= Flags::IO_HARDLINK;
        }
        let send = opcode::Send::new(types::Fixed(slot), at, len as u32).flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
        self.push(&send.build().flags(flags).user_data(name(SEND, slot, place.generation, kept)));
        if then == Then::Fin {
            floor.exporters.closed(self.first + slot);
            self.queue_end(slot, End::AfterSend);
        }
    }

    fn keep(&mut self, piece: Piece, then: Then) -> u32 {
        match self.kept_free.pop() {
            Some(at) => {
                self.kept[at as usize] = Some((piece, then));
                at
            }
            None => {
                self.kept.push(Some((piece, then)));
                self.kept.len() as u32 - 1
            }
        }
    }

    /// The connection is over: the exporters hear of it and its slot is freed.
    fn end(&mut self, slot: u32, floor: &mut Floor<'_>) {
        if self.slots[slot as usize].is_open && self.room(floor) {
            floor.exporters.closed(self.first + slot);
            self.queue_end(slot, End::Close);
        }
    }

    fn queue_end(&mut self, slot: u32, how: End) {
        let place = &mut self.slots[slot as usize];
        place.is_open = false;
        place.generation = place.generation.wrapping_add(1);
        let after_send = how == End::AfterSend;
        let is_held = place.is_armed || place.sends > 0 && !after_send;
        (place.is_armed, place.sends) = (false, 0);
        let quiet = |e: Entry| e.flags(Flags::SKIP_SUCCESS).user_data(name(OTHER, slot, 0, NOT_KEPT));
        if is_held {
            // A request under way holds the socket open, so it goes first.
            let all = opcode::AsyncCancel2::new(types::CancelBuilder::fd(types::Fixed(slot)).all()).build();
            let linked = if after_send { Flags::SKIP_SUCCESS | Flags::IO_HARDLINK } else { Flags::SKIP_SUCCESS };
            self.push(&quiet(all).flags(linked));
        }
        if how == End::Reset {
            let nowhere = opcode::Connect::new(types::Fixed(slot), NOWHERE.as_ptr().cast(), NOWHERE.len() as u32);
            self.push(&quiet(nowhere.build()));
        }
        self.push(&quiet(opcode::Close::new(types::Fixed(slot)).build()));
    }

    /// Returns the slot of a connection that was heard, so that it is listened to further once its orders are carried out.
    fn take(&mut self, cqe: &cqueue::Entry, floor: &mut Floor<'_>) -> Option<u32> {
        let (named, result, flags) = (cqe.user_data(), cqe.result(), cqe.flags());
        let (slot, generation) = (named as u32 & 0x000f_ffff, (named >> 44) as u16);
        match named >> 60 {
            ACCEPT => {
                self.doors[slot as usize].is_armed = cqueue::more(flags);
                if let Ok(slot) = u32::try_from(result) {
                    self.opened(slot, floor);
                }
            }
            RECV => {
                self.take_recv(slot, generation, (result, flags), floor);
                return Some(slot).filter(|_| result > 0);
            }
            SEND => {
                let kept = (named >> 20) as u32 & NOT_KEPT;
                self.take_send(slot, generation, (result, kept), floor);
            }
            _ => {}
        }
        None
    }

    fn opened(&mut self, slot: u32, floor: &mut Floor<'_>) {
        if slot as usize >= self.slots.len() {
            self.slots.resize(slot as usize + 1, Slot::default());
        }
        let place = &mut self.slots[slot as usize];
        *place = Slot { generation: place.generation.wrapping_add(1), is_open: true, ..Slot::default() };
        floor.exporters.opened(self.first + slot);
        // A connection for one request ends without anything under way that would have to be cancelled.
        self.read(slot, Reads::One);
    }

    fn take_recv(&mut self, slot: u32, generation: u16, (result, flags): (i32, u32), floor: &mut Floor<'_>) {
        let buffer = cqueue::buffer_select(flags);
        self.list.used.extend(buffer);
        let place = &mut self.slots[slot as usize];
        if place.generation != generation {
            return;
        }
        place.is_armed = cqueue::more(flags);
        match (result, buffer) {
            (1.., Some(buffer)) => {
                let bytes = floor.pool.bytes(buffer, result as usize);
                floor.exporters.received(self.first + slot, bytes, floor.now_ns, floor.orders);
            }
            (e, _) if -e == libc::ENOBUFS => self.read(slot, Reads::Many),
            _ => self.end(slot, floor),
        }
    }

    fn take_send(&mut self, slot: u32, generation: u16, (result, kept): (i32, u32), floor: &mut Floor<'_>) {
        let sent = if kept == NOT_KEPT { None } else { self.kept[kept as usize].take() };
        let mut is_whole = false;
        let mut then = Then::Rest;
        if let Some((piece, follows)) = sent {
            is_whole = result >= 0 && result as usize == floor.exporters.bytes(&piece).len();
            then = follows;
            floor.exporters.recycle(piece);
            self.kept_free.push(kept);
        }
        let place = &mut self.slots[slot as usize];
        if place.generation != generation || !place.is_open {
            return;
        }
        place.sends = place.sends.saturating_sub(1);
        match then {
            _ if !is_whole => self.end(slot, floor),
            Then::Tell => floor.exporters.sent(self.first + slot, floor.now_ns, floor.orders),
            Then::Rest | Then::Fin => {}
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Whatever is under way must be over before the buffers and pieces are freed. Receives go by their names: to look for
        // what is under way the kernel goes through all of it each time, minutes for a million connections.
        for slot in 0..self.slots.len() as u32 {
            let Slot { generation, is_armed, .. } = self.slots[slot as usize];
            if self.io.submission().is_full() {
                self.enter(Enter::Reap);
                self.io.completion().for_each(drop);
            }
            if is_armed && !self.io.submission().is_full() {
                let cancel = opcode::AsyncCancel::new(name(RECV, slot, generation, NOT_KEPT)).build();
                self.push(&cancel.flags(Flags::SKIP_SUCCESS).user_data(name(OTHER, slot, 0, NOT_KEPT)));
            }
        }
        self.enter(Enter::Reap);
        let _ = self.io.submitter().register_sync_cancel(None, types::CancelBuilder::any());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Enter {
    Submit,
    Reap,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Reset,
    /// Linked behind the send that was queued last.
    AfterSend,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    One,
    Many,
}

/// A slot is below 2^20, the largest table there is.
fn name(op: u64, slot: u32, generation: u16, kept: u32) -> u64 {
    op << 60 | u64::from(generation) << 44 | u64::from(kept) << 20 | u64::from(slot)
}
