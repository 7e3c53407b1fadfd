//! Every cap of the appliance, with its reason; queues say what happens when they are full.

/// Start grids of scrapes, nanoseconds, coarsest first: phases are quantised to the coarsest that divides the interval, starts
/// no more than [`STARTS_PER_TICK`] scrapes a tick and leaves an interval [`PHASES_MIN`] phases. A tick costs as much as
/// several scrapes (two wake-ups, caches that others have used since), so few scrapes a second share ticks; the answers of one
/// tick meet in the network, so many do not wait for more.
pub const START_GRIDS_NS: [i64; 4] = [200_000_000, 40_000_000, 20_000_000, 10_000_000];
/// Scrapes that one tick of a coarse start grid begins on average, at most; see [`START_GRIDS_NS`].
pub const STARTS_PER_TICK: f64 = 48.0;
/// Scrapes that one turn begins, about; a shard that is behind reaps answers before it begins more, so what it has under way, and
/// with it memory and the cost of a scrape, stays as it is when it keeps up. A turn of so many takes 10 to 30 ms.
pub const STARTS_PER_TURN: f64 = 512.0;
/// Phases of an interval that a coarse start grid leaves: targets of a short one are still spread.
pub const PHASES_MIN: i64 = 25;
/// How often answers are reaped while any is outstanding, nanoseconds.
pub const REAP_TICK_NS: u64 = 1_000_000;
/// The same where nearly all answers take much longer, at most.
pub const REAP_TICK_NS_MAX: u64 = 4_000_000;
/// Slice of a body handed to the parser at once, so that no stage holds a shard longer than about 0.5 ms.
pub const BODY_SLICE_BYTES: usize = 256 << 10;
/// Compressed bodies above this are inflated as a stream; below, whole by libdeflate.
pub const GZIP_STREAM_BYTES: usize = 1 << 20;
/// Our own ceiling on a decompressed body where the operator set no `body_size_limit`.
pub const BODY_BYTES_MAX: u64 = 1 << 30;
/// Ceiling on one logical line (a lead with its comments included); a longer one fails the scrape.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// What large bodies in flight may hold in memory per shard before others of them wait (admission). When small ones hold twice as
/// much, no further answer begins.
pub const BODY_BYTES_IN_FLIGHT: usize = 64 << 20;
/// A body that holds no more than this is small.
pub const BODY_BYTES_SMALL: usize = 64 << 10;
/// Bytes of a response head; a longer one fails the scrape.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of a trailer, its last empty line included. go: net/http, whose buffer holds no more.
pub const TRAILER_BYTES_MAX: u64 = 4 << 10;
/// Bytes of a chunk's size line with its extensions. go: net/http/internal, maxLineLength.
pub const CHUNK_LINE_BYTES_MAX: u64 = 4 << 10;
/// Header lines in a response head.
pub const HEADERS_MAX: usize = 1024;
/// Bytes of chunk-size lines and extensions that may come beyond what the body bytes pay for, as Go's reader.
pub const CHUNK_OVERHEAD_BYTES: u64 = 16 << 10;
/// One receive buffer; at least a usual body, so that most answers are one read.
pub const RECV_BUFFER_BYTES: usize = 64 << 10;
/// Receive buffers of a shard: together they stay within a quarter of a 2 MB L2 cache.
pub const RECV_BUFFERS: u16 = 8;
/// Connections served by one ring; its slot table costs 22 bytes each. A smaller RLIMIT_NOFILE makes it smaller.
pub const RING_CONNECTIONS: u32 = 16 << 10;
/// Sockets of a ring that serve one connection after the other, where each is for one exchange; the kernel keeps about 3 KB
/// for each of those that were needed at a time. Further connections at that time have sockets of their own.
pub const RING_SPARES: u16 = 256;
/// Full buffers read again at once in one turn before the rest waits for the next turn: together 1 MB, which takes 2 ms to
/// tokenise, and 10 ms where all of it is new.
pub const REREADS_PER_TURN: u32 = 16;
/// Idle connections closed at once when descriptors run short.
pub const EVICT_IDLE: usize = 16;
/// The incomplete end of what a TLS peer sent: less than one record (16 KiB and its frame), or during a handshake one
/// message (64 KiB, as rustls) in small records. A peer that needs more fails its scrape.
pub const TLS_SPILL_BYTES: usize = 96 << 10;
/// Buffers for incomplete records that a shard keeps for the next ones; the rest are freed.
pub const TLS_SPARE_BUFFERS: usize = 64;
/// Targets of one job and shard whose TLS sessions are remembered for resumption; the oldest are forgotten first.
pub const TLS_RESUMED_TARGETS_MAX: usize = 4096;
/// Redirect hops, as Go's client: ten requests with the first one.
pub const REDIRECTS_MAX: u32 = 9;
/// Targets in one answer of the web API; the rest is on further pages.
pub const WEB_TARGETS_PER_ANSWER_MAX: usize = 50_000;
/// Rows of metadata in one answer of the web API; the rest is left out.
pub const WEB_METADATA_PER_ANSWER_MAX: usize = 100_000;
/// Bytes of answers that web clients have not read yet; when full, further answers are 503.
pub const WEB_ANSWER_BYTES_IN_FLIGHT: usize = 256 << 20;
/// Idle keep-alive connections close after this long, as Prometheus.
pub const KEEPALIVE_IDLE_NS: u64 = 300_000_000_000;
/// Series in one layout chunk: mean and most.
pub const CHUNK_SERIES_MEAN: usize = 32;
/// See [`CHUNK_SERIES_MEAN`].
pub const CHUNK_SERIES_MAX: usize = 128;
/// Variables in which targets of one layout may differ.
pub const VARIABLES_MAX: usize = 8;
/// Bytes of series texts in one body that its target did not have before; a body with more is packed, so that one target
/// cannot take the memory of all.
pub const LAYOUT_BODY_BYTES_MAX: usize = 32 << 20;
/// Bytes of layouts and bindings a shard keeps as they are; past it bodies of new targets are packed (tokenised at each
/// scrape, a third of the memory), and a quarter later those of known targets that bring new texts.
pub const LAYOUT_BYTES_PER_SHARD: usize = 1 << 30;
/// Bytes of packed layouts and bindings; past it bodies of new targets fail their scrape, and a quarter later those of known
/// targets that bring new texts.
pub const PACKED_BYTES_PER_SHARD: usize = 2 << 30;
/// Journal group commit: bytes collected before a write.
pub const JOURNAL_BATCH_BYTES: usize = 256 << 10;
/// Journal group commit: longest wait before a write, nanoseconds.
pub const JOURNAL_FLUSH_NS: u64 = 200_000_000;
/// So much before that a shard which is awake anyway writes, and need not wake for it alone, nanoseconds.
pub const JOURNAL_FLUSH_EARLY_NS: u64 = 25_000_000;
/// Series in one frame of the journal, which is held, read and sent as a whole; a larger scrape is cut into pieces.
pub const JOURNAL_FRAME_SERIES_MAX: usize = 32 << 10;
/// A journal segment rolls at this age, nanoseconds.
pub const SEGMENT_AGE_NS: u64 = 7_200_000_000_000;
/// A journal segment rolls at this size, but never before its samples are ten times its dictionary.
pub const SEGMENT_BYTES: u64 = 256 << 20;
/// Commands waiting for one shard; when full the control thread waits (it never blocks a shard).
pub const COMMANDS_WAITING: usize = 4096;
/// Bytes of one file of target groups; a larger one is refused and the groups it gave before stay. A million targets
/// with some labels each take about 200 MB.
pub const SD_FILE_BYTES_MAX: u64 = 1 << 30;
/// Messages of providers waiting for the discovery manager; when full the provider waits.
pub const SD_MESSAGES_WAITING: usize = 16;
/// Read of a receiver's error body, as Prometheus.
pub const REMOTE_ERROR_BYTES: usize = 1024;

const _: () = assert!(CHUNK_SERIES_MEAN < CHUNK_SERIES_MAX);
const _: () = assert!(BODY_SLICE_BYTES < GZIP_STREAM_BYTES);
const _: () = assert!(START_GRIDS_NS[3] as u64 % REAP_TICK_NS == 0);
const _: () = assert!(START_GRIDS_NS[0] % START_GRIDS_NS[1] == 0);
const _: () = assert!(START_GRIDS_NS[1] % START_GRIDS_NS[2] == 0 && START_GRIDS_NS[2] % START_GRIDS_NS[3] == 0);
