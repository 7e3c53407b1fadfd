//! Kernel, io_uring layer by layer, and the limits of the process.

use super::{Check, Read, Verdict};
use crate::engine::{Layer, Refusal};

/// Descriptors that make the epoll engine useful for a fleet.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// Whether the ring can be had, and if not, which layer of it is missing.
pub(super) fn checks(read: Read<'_>, layers: &[Layer], probe: &Result<(), String>) -> Vec<Check> {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = Check::new("kernel", &release, "6.1 or newer for io_uring").unless(
        version(&release) >= (6, 1),
        Verdict::Warn,
        "epoll works here; io_uring needs a newer kernel",
    );
    let engine = match probe {
        Ok(()) => Check::new("engine", "io_uring", "io_uring"),
        Err(refusal) => Check::new("engine", format!("epoll ({refusal})"), "io_uring").unless(
            false,
            Verdict::Warn,
            "epoll works meanwhile, with one descriptor a target; the layers below say what is missing",
        ),
    };
    let disabled = read("/proc/sys/kernel/io_uring_disabled").unwrap_or_else(|| "absent".into());
    // With 1, members of a group and CAP_SYS_ADMIN may; where the ring works, we are among them.
    let sysctl = Check::new("kernel.io_uring_disabled", &disabled, "0").unless(
        matches!(disabled.as_str(), "0" | "absent") || disabled == "1" && probe.is_ok(),
        Verdict::Warn,
        "sysctl -w kernel.io_uring_disabled=0, or 1 with our group in kernel.io_uring_group",
    );
    let mut checks = vec![kernel, engine, sysctl];
    checks.extend(layers.iter().map(layer_check));
    checks
}

fn layer_check(layer: &Layer) -> Check {
    let have = match &layer.outcome {
        None => "not tried: a layer below is missing".to_owned(),
        Some(Ok(())) => "works".to_owned(),
        Some(Err(refusal)) => refusal.to_string(),
    };
    let check = Check::new(layer.name, have, &layer.want);
    match layer.outcome {
        Some(Ok(())) => check,
        None => check.unless(false, Verdict::Warn, "see the layer below"),
        Some(Err(refusal)) => check.unless(false, Verdict::Warn, remedy(refusal)),
    }
}

fn remedy(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Setup(libc::EPERM) => {
            "allow io_uring in the seccomp profile (deploy/container/seccomp.json) and in kernel.io_uring_disabled"
        }
        Refusal::Setup(libc::ENOMEM) | Refusal::BufferRing(libc::ENOMEM) | Refusal::SlotTable(_, libc::ENOMEM) => {
            "LimitMEMLOCK=infinity in the unit; --ulimit memlock=-1 for a container"
        }
        Refusal::SlotTable(_, libc::EMFILE) => {
            "LimitNOFILE=1048576 in the unit; --ulimit nofile=1048576 for a container"
        }
        Refusal::Setup(libc::ENOSYS | libc::EINVAL) | Refusal::BufferRing(libc::EINVAL) | Refusal::Missing(_) => {
            "a kernel of 6.1 or newer, built with CONFIG_IO_URING; a seccomp filter may look the same"
        }
        Refusal::Setup(_) | Refusal::SlotTable(..) | Refusal::BufferRing(_) | Refusal::Memory(_) => {
            "free memory and descriptors; if that is not it, please report it with this output"
        }
    }
}

/// Limits of the process.
pub(super) fn limits(read: Read<'_>, probe: &Result<(), String>) -> Vec<Check> {
    let limits = read("/proc/self/limits").unwrap_or_default();
    let (soft, hard) = limit(&limits, "Max open files").unwrap_or((0, 0));
    let wanted = format!("hard limit {DESCRIPTORS_WANTED} or more");
    // The ring's connections are no descriptors; its slot tables grow with the limit, and there are as many as needed.
    let files = Check::new("RLIMIT_NOFILE", format!("{soft} of {hard}"), wanted).unless(
        hard >= DESCRIPTORS_WANTED || probe.is_ok() && hard >= 4_096,
        Verdict::Warn,
        "LimitNOFILE=1048576 in the unit, or `ulimit -Hn`; the soft limit is raised at start",
    );
    let (_, locked) = limit(&limits, "Max locked memory").unwrap_or((0, 0));
    let have = if locked == u64::MAX { "unlimited".to_owned() } else { format!("{locked} bytes") };
    // Where the real rings could be had, the limit is large enough.
    let memory = Check::new("RLIMIT_MEMLOCK", have, "enough for the rings").unless(
        probe.is_ok() || locked >= 64 << 20,
        Verdict::Warn,
        "LimitMEMLOCK=infinity in the unit",
    );
    vec![files, memory]
}

/// `6.12.3-foo` as (6, 12).
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Soft and hard limit of a line of /proc/self/limits; unlimited is the largest number.
fn limit(limits: &str, name: &str) -> Option<(u64, u64)> {
    let mut words = limits.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace();
    let mut number = || words.next().map(|w| w.parse().unwrap_or(u64::MAX));
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Max locked memory         65536                65536                bytes     \n\
                          Max open files            1024                 524288               files     \n";

    fn host(path: &str) -> Option<String> {
        Some(match path {
            "/proc/sys/kernel/osrelease" => "5.15.0-91-generic".into(),
            "/proc/sys/kernel/io_uring_disabled" => "2".into(),
            "/proc/self/limits" => LIMITS.into(),
            _ => return None,
        })
    }

    fn verdicts(checks: &[Check]) -> Vec<Verdict> {
        checks.iter().map(|c| c.verdict).collect()
    }

    #[test]
    fn what_refuses_the_ring_is_named_with_its_layer_and_remedy() {
        use Verdict::{Ok as Fine, Warn};
        let layer = |name, outcome| Layer { name, want: "x".into(), outcome };
        let layers = [
            layer("a", Some(Ok(()))),
            layer("b", Some(Err(Refusal::Setup(libc::EPERM)))),
            layer("c", None),
            layer("d", Some(Err(Refusal::SlotTable(16_384, libc::EMFILE)))),
        ];
        let refused = Err("refused by sysctl".to_owned());
        let checks = super::checks(&host, &layers, &refused);
        assert_eq!(verdicts(&checks), [Warn, Warn, Warn, Fine, Warn, Warn, Warn]);
        assert_eq!(checks[1].have, "epoll (refused by sysctl)");
        assert!(checks[4].fix.contains("seccomp.json") && checks[6].fix.contains("LimitNOFILE"), "{checks:?}");
        let limits = limits(&host, &refused);
        assert_eq!((verdicts(&limits), limits[0].have.as_str()), (vec![Fine, Warn], "1024 of 524288"));
        assert_eq!(verdicts(&super::limits(&host, &Ok(()))), [Fine, Fine]);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("6.12.3-x") > version("6.2.0"));
        assert_eq!(version(""), (0, 0));
    }
}
