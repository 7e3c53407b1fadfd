//! The ring, layer by layer: what of io_uring this host gives to a process, for `doctor`.

use io_uring::{IoUring, Probe};

use super::buffers::Pages;
use super::ring::OPERATIONS;
use super::sock;
use super::uring::{Refusal, UringOptions};
use crate::base::limits::RECV_BUFFERS;

/// One layer, tried by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// For people.
    pub name: &'static str,
    /// What we need of it.
    pub want: String,
    /// Whether we get it; `None` where a layer below is missing.
    pub outcome: Option<Result<(), Refusal>>,
}

/// All layers, lowest first. Later ones are tried even where a sibling is refused, so that one look shows everything.
#[must_use]
pub fn layers() -> Vec<Layer> {
    let plain = IoUring::new(8).map_err(|e| Refusal::Setup(number(&e)));
    let layer = |name, want: &str, outcome| Layer { name, want: want.to_owned(), outcome };
    let above = |try_it: &dyn Fn(&IoUring) -> Result<(), Refusal>| plain.as_ref().ok().map(try_it);
    let slots =
        UringOptions::default().connections_per_ring.min(u32::try_from(sock::descriptors_max()).unwrap_or(u32::MAX));
    vec![
        layer("io_uring_setup", "allowed", Some(plain.as_ref().map(drop).map_err(|e| *e))),
        layer("io_uring flags", "DEFER_TASKRUN, SINGLE_ISSUER, TASKRUN_FLAG", above(&|_| flags())),
        layer("io_uring operations", "all that we use, without a completion each", above(&operations)),
        layer("io_uring slot table", &format!("{slots} direct descriptors"), above(&|ring| slot_table(ring, slots))),
        layer("io_uring buffer ring", "receive buffers that the kernel chooses", above(&buffer_ring)),
    ]
}

fn number(e: &std::io::Error) -> i32 {
    e.raw_os_error().unwrap_or(libc::EIO)
}

fn flags() -> Result<(), Refusal> {
    let mut builder = IoUring::builder();
    builder.setup_submit_all().setup_coop_taskrun().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let ring: std::io::Result<IoUring> = builder.build(8);
    ring.map(drop).map_err(|e| Refusal::Setup(number(&e)))
}

fn operations(ring: &IoUring) -> Result<(), Refusal> {
    if !ring.params().is_feature_skip_cqe_on_success() || !ring.params().is_feature_nodrop() {
        return Err(Refusal::Missing("CQE_SKIP"));
    }
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|e| Refusal::Setup(number(&e)))?;
    let missing = OPERATIONS.iter().find(|(_, code)| !probe.is_supported(*code));
    missing.map_or(Ok(()), |(name, _)| Err(Refusal::Missing(name)))
}

fn slot_table(ring: &IoUring, slots: u32) -> Result<(), Refusal> {
    ring.submitter().register_files_sparse(slots).map_err(|e| Refusal::SlotTable(slots, number(&e)))
}

fn buffer_ring(ring: &IoUring) -> Result<(), Refusal> {
    let pages = Pages::new(4096).map_err(Refusal::Memory)?;
    // SAFETY: page-aligned and large enough; unregistered before it is unmapped, and no request names the group.
    unsafe { ring.submitter().register_buf_ring_with_flags(pages.as_ptr() as u64, RECV_BUFFERS, 0, 0) }
        .map_err(|e| Refusal::BufferRing(number(&e)))?;
    ring.submitter().unregister_buf_ring(0).map_err(|e| Refusal::BufferRing(number(&e)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Uring;

    #[test]
    fn where_the_whole_ring_works_every_layer_does() {
        let layers = layers();
        assert_eq!(layers.len(), 5);
        if Uring::probe().is_ok() {
            assert!(layers.iter().all(|l| l.outcome == Some(Ok(()))), "{layers:?}");
        } else {
            println!("SKIP where_the_whole_ring_works_every_layer_does: this host refuses the ring");
            assert!(layers.iter().any(|l| l.outcome != Some(Ok(()))), "{layers:?}");
        }
    }
}
