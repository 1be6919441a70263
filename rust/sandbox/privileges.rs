//! User, groups and capabilities.
//!
//! Capabilities belong to a thread (capabilities(7)), so all of this must happen while there is
//! only one thread.

use std::fs;

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, getgroups, getppid, getresgid, getresuid};
use nix::unistd::{setgroups, setresgid, setresuid};

use crate::error::{Error, Result};

/// The capability sets of the process itself.
const OWN: [CapSet; 4] =
    [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted];

/// Switches to `user` (user and group id; `None`: no change) and drops all capabilities and every
/// way to regain them. With a `supervisor`, which must be the parent, the process dies when the
/// supervisor does.
///
/// Supplementary groups are dropped with the user. The bounding set is cleared if CAP_SETPCAP
/// permits; otherwise it has no effect under `no_new_privs` (prctl(2), PR_SET_NO_NEW_PRIVS). The
/// process leaves no core file, and other processes of its user cannot inspect it
/// (PR_SET_DUMPABLE).
///
/// # Errors
/// [`Error::Permission`] if this process may not become that user, has several threads, or has lost
/// its supervisor, or if a privilege remains afterwards.
pub fn drop_privileges(user: Option<(u32, u32)>, supervisor: Option<i32>) -> Result<()> {
    require_single_thread()?;
    supervisor.map_or(Ok(()), die_with_parent)?;
    let is_bounded = drop_bounding_set(&CapsHashSet::new()).map_err(capability_error)?;
    if let Some((uid, gid)) = user {
        become_user(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(|errno| {
            Error::Permission(format!(
                "cannot become the user {uid} and the group {gid}: {}; CAP_SETUID and CAP_SETGID \
                 are needed, and both to exist in this user namespace",
                errno.desc()
            ).into())
        })?;
    }
    for set in OWN {
        caps::clear(None, set).map_err(capability_error)?;
    }
    prctl::set_no_new_privs().map_err(refused)?;
    prctl::set_dumpable(false).map_err(refused)?;
    // The change of the user has reset this (prctl(2), PR_SET_PDEATHSIG).
    supervisor.map_or(Ok(()), die_with_parent)?;
    let mut remaining = remaining_privileges(user, is_bounded)?;
    let outlives = prctl::get_pdeathsig().map_err(refused)? != Some(Signal::SIGKILL);
    remaining.extend((supervisor.is_some() && outlives).then_some("survival of the supervisor"));
    if remaining.is_empty() {
        return Ok(());
    }
    Err(Error::Permission(
        format!("privileges remain after they were dropped: {}", remaining.join(", ")).into(),
    ))
}

/// Reduces the capabilities in all sets to those of `keep`, and prevents regaining others: for a
/// process that continues with privileges. Programs that it starts have no more than it; if it is
/// not root they have none.
///
/// # Errors
/// [`Error::Permission`] with several threads, or if the kernel refuses.
pub fn limit_capabilities(keep: &[Capability]) -> Result<()> {
    require_single_thread()?;
    let keep: CapsHashSet = keep.iter().copied().collect();
    drop_bounding_set(&keep).map_err(capability_error)?;
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).map_err(capability_error)?;
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        let has = caps::read(None, set).map_err(capability_error)?;
        let stays = has.intersection(&keep).copied().collect();
        caps::set(None, set, &stays).map_err(capability_error)?;
    }
    prctl::set_no_new_privs().map_err(refused)
}

/// Forbids any gain of privileges by execve(2), and keeps the present ones.
///
/// # Errors
/// [`Error::Permission`] with several threads, or if the kernel refuses.
pub fn forbid_new_privileges() -> Result<()> {
    require_single_thread()?;
    prctl::set_no_new_privs().map_err(refused)
}

fn require_single_thread() -> Result<()> {
    // Threads cannot be counted without /proc; the callers do this first of all.
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(2..) => Err(Error::Permission(
            "privileges cannot be dropped once a process has several threads".to_owned().into(),
        )),
        _ => Ok(()),
    }
}

fn die_with_parent(supervisor: i32) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(refused)?;
    // The supervisor may have died before prctl took effect.
    if getppid().as_raw() == supervisor {
        return Ok(());
    }
    Err(Error::Permission(
        format!("the supervisor (process {supervisor}) is not the parent any more").into(),
    ))
}

/// Drops all but `keep` from the bounding set; returns false if that is not permitted.
fn drop_bounding_set(keep: &CapsHashSet) -> std::result::Result<bool, CapsError> {
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)?;
    if may {
        for capability in caps::read(None, CapSet::Bounding)?.difference(keep) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    Ok(may)
}

fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// The privileges that should be gone but remain.
fn remaining_privileges(user: Option<(u32, u32)>, is_bounded: bool) -> Result<Vec<&'static str>> {
    let mut remaining = Vec::new();
    if let Some((uid, gid)) = user {
        let (users, groups) = (getresuid().map_err(refused)?, getresgid().map_err(refused)?);
        let is_user = [users.real, users.effective, users.saved] == [Uid::from_raw(uid); 3];
        let is_group = [groups.real, groups.effective, groups.saved] == [Gid::from_raw(gid); 3];
        remaining.extend((!is_user).then_some("the user"));
        remaining.extend((!is_group).then_some("the group"));
        let has_groups = !getgroups().map_err(refused)?.is_empty();
        remaining.extend(has_groups.then_some("supplementary groups"));
    }
    for set in OWN.into_iter().chain(is_bounded.then_some(CapSet::Bounding)) {
        let is_empty = caps::read(None, set).map_err(capability_error)?.is_empty();
        remaining.extend((!is_empty).then_some("capabilities"));
    }
    remaining.extend((!prctl::get_no_new_privs().map_err(refused)?).then_some("new privileges"));
    remaining.extend(prctl::get_dumpable().map_err(refused)?.then_some("core files"));
    Ok(remaining)
}

fn refused(errno: Errno) -> Error {
    Error::Permission(format!("privileges cannot be dropped: {}", errno.desc()).into())
}

fn capability_error(error: CapsError) -> Error {
    Error::Permission(format!("capabilities cannot be dropped: {error}").into())
}
