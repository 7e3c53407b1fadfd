//! One core's turn: commands in, due scrapes started, answers reaped, frames handed to the disk, sleep.
//!
//! There is no runtime and no callback: everything that can wake a shard is listed in [`Shard::turn`], in the order in
//! which it is served. A turn never blocks but in one place, the net's wait, and that ends at the next start, the
//! next deadline, the next completion or a message.

use std::collections::VecDeque;

use crate::base::mailbox::Inbox;
use crate::base::time::Now;
use crate::engine::Backend;
use crate::net::Net;
use crate::scrape::schedule::Due;
use crate::shard::command::Command;
use crate::shard::errands::Answer;
use crate::shard::questions::Question;
use crate::shard::slice::Slice;
use crate::storage::journal::Feed;

/// An idle shard still turns this often, so that health checks can tell sleeping from stuck, nanoseconds.
const IDLE_TURN_NS: u64 = 5_000_000_000;
/// Messages taken in one turn, so that a million new targets do not delay the scrapes of the old ones.
const MESSAGES_PER_TURN: usize = 1024;

/// Whatever reaches a shard from outside.
#[derive(Debug)]
pub enum Message {
    /// From the manager or the web.
    Command(Command),
    /// From an errand.
    Answer(Answer),
}

/// One thread's whole world.
pub struct Shard<B: Backend> {
    net: Net<B>,
    slice: Slice,
    inbox: Inbox<Message>,
    disk: Feed,
    due: Vec<Due>,
    questions: VecDeque<Question>,
    stopping: bool,
}

impl<B: Backend> Shard<B> {
    /// Puts a shard together; [`Shard::run`] then owns its thread.
    #[must_use]
    pub fn new(mut net: Net<B>, slice: Slice, inbox: Inbox<Message>, disk: Feed) -> Self {
        net.watch(inbox.waker().fd());
        Self { net, slice, inbox, disk, due: Vec::new(), questions: VecDeque::new(), stopping: false }
    }

    /// Turns until told to stop; then what is in flight ends unseen and the last frames are flushed.
    pub fn run(mut self, clock: impl Fn() -> Now) {
        let mut now = clock();
        while !self.stopping {
            now = self.turn(now);
        }
        self.finish(clock());
    }

    /// One turn. Returns the time at its end.
    pub fn turn(&mut self, now: Now) -> Now {
        // Starts come first: messages never delay them, and a new target is not due in the past.
        self.slice.start_due(now, &mut self.due);
        self.take_messages(now);
        self.slice.inflate_on(now);
        self.slice.write_on(now);
        self.slice.write_endings(now);
        self.slice.expire_awaiting(now);
        self.hand_over();
        self.answer_questions();
        let wake_at = self.wake_at(now);
        let now = self.net.turn(now, wake_at, &mut self.slice);
        self.hand_over();
        self.disk.turn(&mut self.slice.parts.writer, now);
        self.slice.count_turn(now);
        now
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Everything that is owned, for the simulator's oracle.
    #[must_use]
    pub fn slice(&self) -> &Slice {
        &self.slice
    }

    fn finish(mut self, now: Now) {
        // prometheus: manager.go, Stop: no stale markers on shutdown. Scrapes in flight are given up: their
        // series go on after the restart. What has begun to be written is written.
        while self.slice.write_on(now) {
            self.disk.turn(&mut self.slice.parts.writer, now);
        }
        self.disk.finish(&mut self.slice.parts.writer, now);
    }

    fn take_messages(&mut self, now: Now) {
        self.inbox.waker().clear();
        for _ in 0..MESSAGES_PER_TURN {
            match self.inbox.take() {
                Some(Message::Command(c)) => self.obey(c, now),
                Some(Message::Answer(a)) => self.slice.on_answer(a, now),
                None => return,
            }
        }
        self.inbox.waker().wake();
    }

    fn obey(&mut self, command: Command, now: Now) {
        match command {
            Command::Pool(spec) => self.slice.set_pool(spec),
            Command::RemovePool(id) => self.slice.remove_pool(id),
            Command::Add { pool, target } => self.slice.add_target(pool, *target),
            Command::Remove { pool, hash } => self.slice.remove_target(pool, hash, now),
            Command::HandOver(wanted) => self.slice.answer(wanted, now),
            Command::TakeOver { pool, target, handover, done } => {
                self.slice.take_over(pool, *target, &handover, now);
                let _ = done.send(());
            }
            Command::Weigh(reply) => self.questions.push_back(Question::weigh(reply)),
            Command::Status(request) => self.questions.push_back(Question::status(request)),
            Command::Metadata(request) => self.questions.push_back(Question::metadata(request)),
            Command::Stop => self.stopping = true,
        }
    }

    fn hand_over(&mut self) {
        for token in self.slice.forgotten.drain(..) {
            self.net.forget(token);
        }
        // What the net knows of a tick's targets has room in the cache, and comes while the first are started.
        for job in &self.slice.jobs {
            self.net.prefetch(job.token);
        }
        for job in self.slice.jobs.drain(..) {
            self.net.start(job);
        }
    }

    fn answer_questions(&mut self) {
        let Some(question) = self.questions.front_mut() else { return };
        if question.advance(&self.slice)
            && let Some(done) = self.questions.pop_front()
        {
            done.reply();
        }
    }

    fn wake_at(&self, now: Now) -> Option<u64> {
        let has_work = self.slice.is_inflating() || self.slice.is_writing();
        if !self.questions.is_empty() || !self.slice.jobs.is_empty() || has_work {
            return Some(now.mono_ns);
        }
        let idle = Some(now.mono_ns + IDLE_TURN_NS);
        [self.slice.wake_at(now), self.slice.parts.writer.due_at(), idle].into_iter().flatten().min()
    }
}
