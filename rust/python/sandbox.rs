//! Giving rights up, for `mcr relay` and for Python's processes of a daemon.

use std::path::PathBuf;

use pyo3::prelude::*;

use crate::sandbox::{self, Capability, FileAccess, Role};

/// What a supervisor does with each stands in docs/security.md.
const SUPERVISOR_KEEPS: [Capability; 9] = [
    Capability::CAP_NET_RAW,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_IPC_LOCK,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_KILL,
    Capability::CAP_CHOWN,
];

/// Give up all rights of a control process, for good; return how much the kernel's landlock hides.
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

/// Become another user and group without any capability, for good. Root stays root and keeps its
/// capabilities; programs that it starts gain none.
#[pyfunction]
pub(super) fn drop_privileges(uid: u32, gid: u32) -> PyResult<()> {
    match uid {
        0 => sandbox::forbid_new_privileges()?,
        _ => sandbox::drop_privileges(Some((uid, gid)), None)?,
    }
    Ok(())
}

/// Keep only the capabilities that a supervisor uses; with `any_file` also the one to read and
/// write files whatever their permissions.
#[pyfunction]
pub(super) fn shrink_supervisor(any_file: bool) -> PyResult<()> {
    let files = any_file.then_some(Capability::CAP_DAC_OVERRIDE);
    let keep: Vec<_> = SUPERVISOR_KEEPS.into_iter().chain(files).collect();
    Ok(sandbox::limit_capabilities(&keep)?)
}
