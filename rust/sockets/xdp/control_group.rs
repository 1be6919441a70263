//! The BPF programs of this process's control group (cgroups(7)): the kernel runs them for what its
//! sockets send, and not for frames of an XDP link.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::sys::bpf_query;

/// The number of programs for what the sockets of this process send; 0 if the kernel has no control
/// groups of version 2, or none is mounted here.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN; the directory of the group cannot be read.
pub(super) fn egress_programs() -> io::Result<u32> {
    match own_directory()? {
        Some(directory) => bpf_query::group_egress_programs(File::open(directory)?.as_fd()),
        None => Ok(0),
    }
}

/// The directory of this process's group.
pub(super) fn own_directory() -> io::Result<Option<PathBuf>> {
    let groups = match fs::read_to_string("/proc/self/cgroup") {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        groups => groups?,
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(directory(&groups, &mounts))
}

/// The directory by the content of `/proc/self/cgroup` and `/proc/self/mountinfo` (proc(5)).
fn directory(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem.strip_prefix("cgroup2 ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A container may have a part of the hierarchy only. The programs of a group count for all
        // groups below it, so that the root of that part is the best answer for one outside.
        let path = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
        let is_outside = path.components().any(|part| part.as_os_str() == "..");
        Some(Path::new(point).join(if is_outside { Path::new("") } else { path }))
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Write, stderr};
    use std::process;

    use super::*;
    use crate::sockets::netlink::netfilter::Direction;
    use crate::sockets::testnet::{NEAR, interface, rerun, with_cable};
    use crate::sockets::xdp::hooks;
    use crate::sys::bpf_query::attached::attach_to_group;

    /// A group of this process, which leaves and removes it when dropped.
    struct OwnGroup {
        above: PathBuf,
        own: PathBuf,
    }

    impl OwnGroup {
        fn enter(above: PathBuf) -> io::Result<Self> {
            let own = above.join(format!("mcr-test-{}", process::id()));
            fs::create_dir(&own)?;
            let group = Self { above, own };
            fs::write(group.own.join("cgroup.procs"), process::id().to_string())?;
            Ok(group)
        }
    }

    impl Drop for OwnGroup {
        fn drop(&mut self) {
            fs::write(self.above.join("cgroup.procs"), process::id().to_string()).unwrap();
            fs::remove_dir(&self.own).unwrap();
        }
    }

    #[test]
    fn programs_of_the_own_group_and_those_above_are_found() {
        rerun("sockets::xdp::control_group::tests::in_a_group_of_its_own");
    }

    #[test]
    #[ignore = "moves its process to another control group"]
    fn in_a_group_of_its_own() {
        let Some(directory) = own_directory().unwrap() else {
            writeln!(stderr(), "skipped: no control groups of version 2 are mounted").unwrap();
            return;
        };
        let Ok(outer) = OwnGroup::enter(directory) else {
            writeln!(stderr(), "skipped: no control group may be created here").unwrap();
            return;
        };
        let inner = OwnGroup::enter(outer.own.clone()).unwrap();
        let (above, own) = (outer.own.clone(), inner.own.clone());
        with_cable(move || {
            let found =
                || hooks::read(&interface(NEAR), Direction::Sent).v4.map(|hook| hook.to_string());
            for group in [own, above] {
                assert_eq!(found(), None);
                let attached = attach_to_group(File::open(group).unwrap().as_fd());
                let text = "a BPF program inspects what the control group of mcr sends";
                assert_eq!(found().as_deref(), Some(text));
                drop(attached);
            }
            assert_eq!(found(), None);
        });
        drop(inner);
        drop(outer);
    }

    #[test]
    fn the_directory_is_below_the_mount() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        let of = |groups| directory(groups, mounts).map(|path| path.display().to_string());
        let of = |groups| of(groups).unwrap_or_default();
        assert_eq!(of("1:cpu:/a\n0::/\n"), "/sys/fs/cgroup/unified/");
        assert_eq!(of("0::/system.slice/mcr.service\n"), {
            "/sys/fs/cgroup/unified/system.slice/mcr.service"
        });
        assert_eq!(of("0::/../other\n"), "/sys/fs/cgroup/unified/");
        assert_eq!(of("1:cpu:/a\n"), "");
        let part = "41 31 0:38 /pod/one /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(directory("0::/pod/one/a\n", part), Some("/sys/fs/cgroup/a".into()));
        assert_eq!(directory("0::/", "31 23 0:28 / / rw - tmpfs tmpfs rw\n"), None);
    }
}
