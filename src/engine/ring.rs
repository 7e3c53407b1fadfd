//! One ring: its slot table, its queue of work, its completions.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{Ordering, fence};

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, cqueue, opcode, types};

use super::buffers::{BufferList, Pool, Requests};
use super::sock::{self, RawAddr};
use super::spares::{Family, Found, Spare, Spares};
use super::uring::{Refusal, UringOptions};
use super::{Chunk, Close, Span, Stage, What};
use crate::base::limits::RECV_BUFFERS;
use crate::base::mailbox::Waker;
use crate::base::prefetch::prefetch;

const SUBMISSIONS: u32 = 512;
const COMPLETIONS: u32 = 4096;
const NONE: u32 = u32::MAX;
const GENERATION: u32 = 0x00ff_ffff;
/// The value of an option that is switched on; the kernel reads it when the entry runs.
static ONE: libc::c_int = 1;
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
    Dial(u32, u32, SocketAddr, Span, u32),
    Send(u32, u32, u32, Before),
    /// The last says whether the connection was [`State::Left`].
    Close(u32, u32, Close, bool),
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
    state: State,
    /// Where the socket is, if not in the connection's own place.
    spare: Option<Spare>,
}

const _: () = assert!(size_of::<Slot>() == 12, "one for each target");

/// Of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    /// Open, and the last read left something: the end of what the peer sends, or bytes that nobody reads any more.
    Left,
}

pub(super) struct Ring {
    io: IoUring,
    list: BufferList,
    slots: Vec<Slot>,
    spares: Spares,
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

impl Ring {
    /// A ring of so many connections, with places for so many spare sockets behind theirs.
    pub(super) fn new(
        (slots, spares): (u32, u16),
        options: UringOptions,
        pool: &Pool,
        bell: &Waker,
    ) -> Result<Self, Refusal> {
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
        let places = slots + u32::from(spares);
        io.submitter().register_files_sparse(places).map_err(|e| Refusal::SlotTable(places, number(e)))?;
        let list = BufferList::new(&io, pool).map_err(Refusal::BufferRing)?;
        io.submitter().register_eventfd(bell.fd()).map_err(|e| Refusal::Setup(number(e)))?;
        let mut ring = Self {
            io,
            list,
            slots: Vec::new(),
            spares: Spares::new(slots, spares),
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

    pub(super) fn dial(&mut self, slot: u32, addr: SocketAddr, span: Span, request: u32) {
        if slot as usize >= self.slots.len() {
            let empty = Slot { generation: 0, request: NONE, under_way: 0, state: State::Closed, spare: None };
            self.slots.resize(slot as usize + 1, empty);
        }
        let place = &mut self.slots[slot as usize];
        assert!(place.state == State::Closed, "dial on an open connection");
        place.state = State::Open;
        self.work.push_back(Work::Dial(slot, place.generation, addr, span, request));
    }

    pub(super) fn send(&mut self, slot: u32, request: u32, before: Before) {
        let place = &self.slots[slot as usize];
        assert!(place.state != State::Closed, "send on a closed connection");
        self.work.push_back(Work::Send(slot, place.generation, request, before));
    }

    pub(super) fn recv(&mut self, slot: u32) {
        let place = &self.slots[slot as usize];
        assert!(place.state != State::Closed, "recv on a closed connection");
        self.reads.push_back((slot, place.generation));
    }

    pub(super) fn close(&mut self, slot: u32, how: Close) {
        let Some(place) = self.slots.get_mut(slot as usize).filter(|p| p.state != State::Closed) else { return };
        let is_left = std::mem::replace(&mut place.state, State::Closed) == State::Left;
        self.work.push_back(Work::Close(slot, place.generation, how, is_left));
        place.generation = (place.generation + 1) & GENERATION;
    }

    /// Closes after last words; false when the connection is closed already, and the words stay with the caller.
    pub(super) fn part(&mut self, slot: u32, words: u32) -> bool {
        let Some(place) = self.slots.get_mut(slot as usize).filter(|p| p.state != State::Closed) else { return false };
        place.state = State::Closed;
        self.work.push_back(Work::Part(slot, place.generation, words));
        place.generation = (place.generation + 1) & GENERATION;
        true
    }

    #[cfg(test)]
    pub(super) fn spares(&self) -> &Spares {
        &self.spares
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
            Work::Dial(slot, generation, addr, span, request) => {
                self.queue_socket(slot, generation, &addr, span);
                self.queue_dial(slot, generation, addr, request, requests);
            }
            Work::Send(slot, generation, request, before) => {
                if before == Before::Peek {
                    self.queue_peek(slot, generation);
                }
                let entry = self.send_entry(slot, generation, request, requests);
                self.push(&entry);
                self.expect(slot, 1);
            }
            Work::Close(slot, generation, how, is_left) => self.queue_close(slot, generation, how, is_left),
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
            let send = opcode::Send::new(self.fixed(slot), bytes.as_ptr(), bytes.len() as u32);
            let send = send.flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT).build();
            self.slots[slot as usize].request = words;
            // Whatever comes of the send, the close follows it. Its completion is of an older generation and only frees.
            self.push(&send.flags(Flags::IO_HARDLINK).user_data(name(SEND, slot, generation)));
        }
        self.queue_close(slot, generation, Close::Fin, false);
        if under_way == 0 {
            self.expect(slot, 1);
        }
    }

    /// The socket of a dial: a spare one, or a new one at the head of the dial's chain.
    fn queue_socket(&mut self, slot: u32, generation: u32, addr: &SocketAddr, span: Span) {
        let found = if span == Span::Once { self.spares.find(Family::of(addr)) } else { Found::Nothing };
        self.slots[slot as usize].spare = match found {
            Found::Socket(spare) => return self.slots[slot as usize].spare = Some(spare),
            Found::Place(spare) => Some(spare),
            Found::Nothing => None,
        };
        let at =
            types::DestinationSlot::try_from_slot_target(self.place(slot)).expect("places are far below the limit");
        let socket = opcode::Socket::new(sock::family(addr), libc::SOCK_STREAM, 0).file_index(Some(at)).build();
        let socket = socket.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
        self.push(&socket.user_data(name(SETUP, slot, generation)));
        if matches!(found, Found::Place(_)) {
            // With this a request carries the last packet of the handshake: one packet less, and the target wakes once. It stays
            // with the socket. Of Linux 6.7; where it is refused the chain goes on.
            let (level, option) = (libc::IPPROTO_TCP as u32, libc::TCP_DEFER_ACCEPT as u32);
            let (one, len) = ((&raw const ONE).cast(), size_of_val(&ONE) as u32);
            let defer = opcode::SetSockOpt::new(self.fixed(slot), level, option, one, len).build();
            self.push(&quiet(defer, slot).flags(Flags::IO_HARDLINK | Flags::SKIP_SUCCESS));
        }
    }

    fn queue_dial(&mut self, slot: u32, generation: u32, addr: SocketAddr, request: u32, requests: &Requests) {
        let connect = self.connect_entry(self.fixed(slot), RawAddr::new(addr));
        self.push(&connect.flags(Flags::IO_LINK).user_data(name(CONNECT, slot, generation)));
        let send = self.send_entry(slot, generation, request, requests);
        self.push(&send);
        self.expect(slot, 2);
    }

    /// Where the socket of a connection is.
    fn place(&self, slot: u32) -> u32 {
        self.slots[slot as usize].spare.map_or(slot, |spare| self.spares.place(spare))
    }

    fn fixed(&self, slot: u32) -> types::Fixed {
        types::Fixed(self.place(slot))
    }

    fn connect_entry(&mut self, at: types::Fixed, addr: RawAddr) -> Entry {
        assert!(self.addresses.len() < self.addresses.capacity(), "fewer addresses than submission entries");
        self.addresses.push(addr);
        let kept = &self.addresses[self.addresses.len() - 1];
        opcode::Connect::new(at, kept.as_ptr(), kept.len()).build()
    }

    fn send_entry(&mut self, slot: u32, generation: u32, request: u32, requests: &Requests) -> Entry {
        self.slots[slot as usize].request = request;
        let bytes = requests.unsent(request);
        opcode::Send::new(self.fixed(slot), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(name(SEND, slot, generation))
    }

    fn queue_read(&mut self) {
        let Some((slot, generation)) = self.reads.pop_front() else { return };
        if self.slots[slot as usize].generation != generation {
            return;
        }
        let recv = opcode::Recv::new(self.fixed(slot), std::ptr::null_mut(), 0).buf_group(0).build();
        self.push(&recv.flags(Flags::BUFFER_SELECT).user_data(name(RECV, slot, generation)));
        self.expect(slot, 1);
        self.reading += 1;
    }

    /// Looks whether an idle connection is still idle, right before it is used. It runs before the send, unlinked: where
    /// it finds something, the connection is closed and the request was sent in vain.
    fn queue_peek(&mut self, slot: u32, generation: u32) {
        let peek = opcode::Recv::new(self.fixed(slot), self.list.spare_byte(), 1);
        let entry = peek.flags(libc::MSG_PEEK | libc::MSG_DONTWAIT).build();
        self.push(&entry.user_data(name(PEEK, slot, generation)));
        self.expect(slot, 1);
    }

    fn queue_close(&mut self, slot: u32, generation: u32, how: Close, is_left: bool) {
        let at = self.fixed(slot);
        let is_busy = self.slots[slot as usize].under_way > 0;
        let spare = self.slots[slot as usize].spare.take();
        if is_busy {
            self.queue_cancels(slot, generation);
        }
        let is_reused = spare.is_some() && !is_busy && is_left;
        if how == Close::Reset || is_reused {
            let dissolve = self.connect_entry(at, RawAddr::unspecified());
            self.push(&quiet(dissolve, slot));
        }
        if !is_reused {
            self.push(&quiet(opcode::Close::new(at).build(), slot));
        }
        match spare {
            Some(spare) if is_reused => self.spares.ended(spare),
            Some(spare) => self.spares.closed(spare),
            None => {}
        }
    }

    /// A request under way holds the socket open, so it goes before the close. By its name: for those of a socket the kernel
    /// looks through all of the ring's, 0.2 ms for each of 16,000 targets that time out together.
    fn queue_cancels(&mut self, slot: u32, generation: u32) {
        for op in [CONNECT, SEND, RECV] {
            self.push(&quiet(opcode::AsyncCancel::new(name(op, slot, generation)).build(), slot));
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
        if op == RECV {
            place.state = if cqueue::sock_nonempty(flags) { State::Left } else { State::Open };
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

/// An entry whose success nobody waits for.
fn quiet(entry: Entry, slot: u32) -> Entry {
    entry.flags(Flags::SKIP_SUCCESS).user_data(name(OTHER, slot, 0))
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
