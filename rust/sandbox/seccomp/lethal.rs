//! The system calls that neither a worker nor a control process ever makes: running programs,
//! inspecting or changing other processes, changing the system, and entry points to large parts of
//! the kernel.

use libc::c_int;

use super::{Calls, is_not};

/// The commands of bpf(2) on maps whose descriptors a process has: looking up, setting, deleting
/// and listing elements, and describing the map (<linux/bpf.h>). All others create, load, attach,
/// pin, or open by number or name.
pub(super) const ON_MAPS: [c_int; 5] = [1, 2, 3, 4, 15];

/// With `uses_maps` bpf(2) is lethal with commands other than [`ON_MAPS`] only.
pub(super) fn calls(uses_maps: bool) -> Calls {
    let calls = Calls::default().add(PROGRAMS).add(PROCESSES).add(SYSTEM).add(DOORS).add(MACHINE);
    if uses_maps {
        calls.add_if(libc::SYS_bpf, ON_MAPS.map(|command| is_not(0, command)))
    } else {
        calls.add([libc::SYS_bpf])
    }
}

const PROGRAMS: [libc::c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];

const PROCESSES: [libc::c_long; 9] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_setns,
    libc::SYS_unshare,
];

const SYSTEM: [libc::c_long; 24] = [
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_sethostname,
    libc::SYS_open_by_handle_at,
];

/// Rings are created before the filter is applied, with restrictions of their own.
const DOORS: [libc::c_long; 6] = [
    libc::SYS_io_uring_setup,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];

#[cfg(target_arch = "x86_64")]
const MACHINE: [libc::c_long; 3] = [libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const MACHINE: [libc::c_long; 0] = [];
