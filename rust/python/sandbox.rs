//! Gives up privileges, for `mcr relay` and for those processes of a daemon that run Python, and
//! names the latter.

use std::path::PathBuf;

use pyo3::prelude::*;

use crate::sandbox::{self, Capability, FileAccess, Role};
use crate::sys::process_title;

/// The capabilities of a supervisor; docs/security.md says what each is for.
const SUPERVISOR_KEEPS: [Capability; 8] = [
    Capability::CAP_NET_RAW,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_IPC_LOCK,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_KILL,
];

/// Give up all privileges of a control process, permanently.
///
/// Returns a sentence on how much landlock restricts. The process must have one thread, and
/// `supervisor` must be its parent, with which it dies from now on. Switches to the user and group
/// ids, or keeps its own if both are None. Keeps no capability, opens only `readable` (files, and
/// directories with all below them) and the files of the name resolver, and removes only the files
/// `removable` and their siblings. Raises RightsError or InterfaceError; the process must end then.
#[pyfunction]
pub(super) fn confine_control(
    uid: Option<u32>,
    gid: Option<u32>,
    supervisor: i32,
    readable: Vec<PathBuf>,
    removable: Vec<PathBuf>,
) -> PyResult<String> {
    sandbox::drop_privileges(uid.zip(gid), Some(supervisor))?;
    let reach = FileAccess { readable: &readable, removable: &removable, resolves: true };
    let hidden = sandbox::apply_landlock(&reach)?;
    sandbox::apply_seccomp(Role::Control)?;
    Ok(hidden)
}

/// Switch to another user and group without any capability, permanently.
///
/// The process must have one thread. With `uid` 0 it keeps its user and capabilities, and only
/// programs that it starts cannot gain privileges. Raises RightsError; the process must end then.
#[pyfunction]
pub(super) fn drop_privileges(uid: u32, gid: u32) -> PyResult<()> {
    match uid {
        0 => sandbox::forbid_new_privileges()?,
        _ => sandbox::drop_privileges(Some((uid, gid)), None)?,
    }
    Ok(())
}

/// Keep only the capabilities that a supervisor needs.
///
/// The process must have one thread. `any_file` also keeps CAP_DAC_OVERRIDE, for a configuration
/// file that only its owner may read; `offload` those that the relay in the kernel needs besides
/// CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON. Raises RightsError.
#[pyfunction]
pub(super) fn shrink_supervisor(any_file: bool, offload: bool) -> PyResult<()> {
    let files = any_file.then_some(Capability::CAP_DAC_OVERRIDE);
    let programs = [Capability::CAP_BPF, Capability::CAP_PERFMON].into_iter().filter(|_| offload);
    let keep: Vec<_> = SUPERVISOR_KEEPS.into_iter().chain(files).chain(programs).collect();
    Ok(sandbox::limit_capabilities(&keep)?)
}

/// Have ps(1) and top(1) show this text for the process, instead of its command line.
///
/// The text is cut to the length of the command line, and to 15 bytes where only the name of the
/// program is shown.
#[pyfunction]
pub(super) fn set_process_title(title: &str) {
    process_title::set(title);
}
