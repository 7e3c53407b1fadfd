//! A shard's way to the disk thread: hands over batches, drops when the disk is too far behind, takes buffers back.

use super::writer::{Batch, Writer};
use crate::base::queue::Sender;
use crate::base::time::Now;
use crate::selfmetrics::Counter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

/// Message to the disk thread.
#[derive(Debug)]
pub enum Message {
    /// From shard (by place in the list of lanes).
    Batch(usize, Batch),
    /// Seal everything and end.
    Stop,
}

/// What a feed and the disk thread share.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Bytes handed over and not yet safe. Both sides change it.
    bytes: AtomicU64,
    /// Scrapes are being dropped.
    behind: AtomicBool,
    /// The writer's count of a segment that it is to leave, because its file fails; 0 for none.
    leave: AtomicU32,
    /// Frames lost with segments that were given up; the disk thread counts them.
    pub frames_given_up: Counter,
    /// Slots of those.
    pub slots_given_up: Counter,
    /// Frames dropped.
    pub frames_lost: Counter,
    /// Slots of those.
    pub slots_lost: Counter,
    /// Bytes of scrape and stale frames encoded.
    pub sample_bytes: Counter,
    /// Bytes of dictionary frames encoded.
    pub dictionary_bytes: Counter,
    /// Slots encoded.
    pub slots: Counter,
}

impl Waiting {
    /// Bytes handed over and not yet safe.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether scrapes are being dropped.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// The writer is to begin a new segment, if it still writes this one.
    pub fn leave(&self, ordinal: u32) {
        self.leave.store(ordinal, Ordering::Relaxed);
    }

    /// So many bytes more wait: the disk thread made them from others.
    pub fn charge(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The disk is done with these bytes.
    pub fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

/// One shard's end. Never blocks.
#[derive(Debug)]
pub struct Feed {
    lane: usize,
    outbox: Sender<Message>,
    buffers: Receiver<Vec<u8>>,
    waiting: Arc<Waiting>,
    bytes_max: u64,
    reported: super::writer::Tally,
}

impl Feed {
    /// A feed for lane `lane`; `bytes_max` is the most that may wait.
    #[must_use]
    pub(super) fn new(
        lane: usize,
        outbox: Sender<Message>,
        buffers: Receiver<Vec<u8>>,
        (waiting, bytes_max): (Arc<Waiting>, u64),
    ) -> Self {
        Self { lane, outbox, buffers, waiting, bytes_max, reported: super::writer::Tally::default() }
    }

    /// To be called once a turn, and whenever [`Writer::due_at`] passes: hands over a due batch. When the disk is
    /// too far behind, the writer drops scrapes until half of what waits is gone, and then begins a new segment.
    pub fn turn(&mut self, writer: &mut Writer, now: Now) {
        while let Ok(buffer) = self.buffers.try_recv() {
            writer.recycle(buffer);
        }
        if writer.is_muted() {
            if self.waiting.bytes() > self.bytes_max / 2 {
                self.report(writer);
                return;
            }
            writer.resume();
            self.waiting.behind.store(false, Ordering::Relaxed);
        }
        let is_left = self.waiting.leave.load(Ordering::Relaxed) == writer.ordinal();
        if writer.due(now) || is_left {
            self.hand_over(writer, now);
        }
        if is_left {
            writer.leave(self.waiting.leave.load(Ordering::Relaxed));
        }
        self.report(writer);
    }

    /// Hands over what there is, due or not: before the disk thread is stopped.
    pub fn finish(&mut self, writer: &mut Writer, now: Now) {
        if !writer.is_muted() {
            self.hand_over(writer, now);
        }
        self.report(writer);
    }

    fn hand_over(&mut self, writer: &mut Writer, now: Now) {
        if self.waiting.bytes() > self.bytes_max {
            self.drop_from_here(writer);
            return;
        }
        let Some(batch) = writer.flush(now) else { return };
        let bytes = batch.bytes.len();
        self.waiting.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Err(message) = self.outbox.try_send(Message::Batch(self.lane, batch)) {
            self.waiting.release(bytes);
            if let Message::Batch(_, batch) = message {
                writer.lost(&batch);
            }
            self.drop_from_here(writer);
        }
    }

    fn drop_from_here(&mut self, writer: &mut Writer) {
        writer.mute();
        self.waiting.behind.store(true, Ordering::Relaxed);
    }

    fn report(&mut self, writer: &Writer) {
        let (now, last, w) = (writer.tally(), self.reported, &self.waiting);
        if now == last {
            return;
        }
        w.frames_lost.add(now.frames_lost - last.frames_lost);
        w.slots_lost.add(now.slots_lost - last.slots_lost);
        w.sample_bytes.add(now.sample_bytes - last.sample_bytes);
        w.dictionary_bytes.add(now.dictionary_bytes - last.dictionary_bytes);
        w.slots.add(now.slots - last.slots);
        self.reported = now;
    }
}
