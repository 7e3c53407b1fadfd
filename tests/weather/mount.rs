//! Small file systems of a test's own, taken away at its end: a loop-mounted ext4 image, a tmpfs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::support::process::required;

/// A mounted file system; unmounted when dropped.
pub struct Mount {
    place: PathBuf,
}

impl Mount {
    /// An ext4 image of that many megabytes on `place`; with `features` as mkfs.ext4's `-O` takes them. `None`, with a `SKIP`
    /// line, where that is not allowed.
    pub fn ext4(test: &str, place: &Path, megabytes: u64, features: &str) -> Option<Mount> {
        Mount::ext4_in(test, (&place.with_extension("image"), place), megabytes, features)
    }

    /// The same with its image in that (sparse) file.
    pub fn ext4_in(test: &str, (image, place): (&Path, &Path), megabytes: u64, features: &str) -> Option<Mount> {
        let made = std::fs::File::create(image).and_then(|f| f.set_len(megabytes << 20));
        made.expect("the directory is ours");
        let said = run("mkfs.ext4", &["-q", "-O", features, &text(image)])
            .and_then(|()| run("mount", &["-o", "loop", &text(image), &text(place)]));
        Mount::of(test, place, said)
    }

    /// A file system in memory.
    pub fn tmpfs(test: &str, place: &Path, megabytes: u64) -> Option<Mount> {
        let size = format!("size={megabytes}m");
        Mount::of(test, place, run("mount", &["-t", "tmpfs", "-o", &size, "none", &text(place)]))
    }

    fn of(test: &str, place: &Path, said: Result<(), String>) -> Option<Mount> {
        if let Err(why) = said {
            assert!(!required("root"), "{test}: {why}");
            println!("SKIP {test}: needs root and mounts: {why}");
            return None;
        }
        Some(Mount { place: place.to_owned() })
    }

    /// Takes the file system of that image away and mounts it again: what only memory had is gone.
    pub fn remount(&self, image: &Path) {
        let place = text(&self.place);
        let said = run("umount", &[&place]).and_then(|()| run("mount", &["-o", "loop", &text(image), &place]));
        said.expect("nobody uses it");
    }

    /// Stalls every write for so long. Another process does it, so that it ends even when this one does before.
    pub fn freeze(&self, seconds: u32) -> Child {
        let place = text(&self.place);
        let script = format!("fsfreeze -f {place} && sleep {seconds}; fsfreeze -u {place}");
        Command::new("sh").args(["-c", &script]).spawn().expect("a shell")
    }

    /// Takes all the space there is, by a file of its own.
    pub fn fill(&self) {
        let _ = std::process::Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "status=none", &format!("of={}", text(&self.filler()))])
            .stderr(std::process::Stdio::null())
            .status();
    }

    /// Gives the space back.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold files.
        let _ = run("umount", &["-l", &text(&self.place)]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    if out.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
