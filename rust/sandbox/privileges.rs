//! User, groups and capabilities. It must not know what the process is for.
//!
//! Capabilities belong to a thread (capabilities(7)), so all of this happens while there is one.

use std::fs;

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, getgroups, getppid, getresgid, getresuid};
use nix::unistd::{setgroups, setresgid, setresuid};

use crate::error::{Error, Result};

/// What a process has of its own, whatever it may do to others.
const OWN: [CapSet; 4] =
    [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted];

/// Becomes `user` (its user and group identifiers; `None`: stays who it is) without any capability
/// and without a way to get one. With a `supervisor`, which must be the parent, the process dies
/// when that one does.
///
/// Supplementary groups go with the user. The bounding set goes where CAP_SETPCAP allows it; what
/// stays there is of no use under `no_new_privs` (prctl(2), PR_SET_NO_NEW_PRIVS). The process
/// leaves no core file and no other process of its user may look into it (PR_SET_DUMPABLE).
///
/// # Errors
/// [`Error::Permission`] for a user that this process may not become, with several threads, when the
/// supervisor is gone, or when something is left afterwards.
pub fn drop_privileges(user: Option<(u32, u32)>, supervisor: Option<i32>) -> Result<()> {
    be_alone()?;
    supervisor.map_or(Ok(()), die_with)?;
    let is_bounded = give_up_bounding(&CapsHashSet::new()).map_err(kept)?;
    if let Some((uid, gid)) = user {
        become_user(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(|errno| {
            Error::Permission(format!(
                "cannot become the user {uid} and the group {gid}: {}; CAP_SETUID and CAP_SETGID \
                 are needed, and both to exist in this user namespace",
                errno.desc()
            ))
        })?;
    }
    for set in OWN {
        caps::clear(None, set).map_err(kept)?;
    }
    prctl::set_no_new_privs().map_err(refused)?;
    prctl::set_dumpable(false).map_err(refused)?;
    // Becoming another user took this back (prctl(2), PR_SET_PDEATHSIG).
    supervisor.map_or(Ok(()), die_with)?;
    let mut left = left(user, is_bounded)?;
    let outlives = prctl::get_pdeathsig().map_err(refused)? != Some(Signal::SIGKILL);
    left.extend((supervisor.is_some() && outlives).then_some("a life after the supervisor's"));
    if left.is_empty() {
        return Ok(());
    }
    Err(Error::Permission(format!("rights are left that were given up: {}", left.join(", "))))
}

/// Keeps no capabilities but those of `keep` that there are, in any set, and no way to get others:
/// for a process that goes on with rights. Programs that it starts have no more; where it is not
/// root they have none.
///
/// # Errors
/// [`Error::Permission`] with several threads, or when the kernel refuses.
pub fn limit_capabilities(keep: &[Capability]) -> Result<()> {
    be_alone()?;
    let keep: CapsHashSet = keep.iter().copied().collect();
    give_up_bounding(&keep).map_err(kept)?;
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).map_err(kept)?;
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        let has = caps::read(None, set).map_err(kept)?;
        let stays = has.intersection(&keep).copied().collect();
        caps::set(None, set, &stays).map_err(kept)?;
    }
    prctl::set_no_new_privs().map_err(refused)
}

/// Forbids any gain of privileges by execve(2), and keeps those there are.
///
/// # Errors
/// [`Error::Permission`] with several threads, or when the kernel refuses.
pub fn forbid_new_privileges() -> Result<()> {
    be_alone()?;
    prctl::set_no_new_privs().map_err(refused)
}

fn be_alone() -> Result<()> {
    // Where /proc is not mounted nobody can count; the callers do this first of all.
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(2..) => Err(Error::Permission(
            "rights cannot be given up once a process has several threads".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn die_with(supervisor: i32) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(refused)?;
    // It may have died before the kernel was told.
    if getppid().as_raw() == supervisor {
        return Ok(());
    }
    Err(Error::Permission(format!(
        "the supervisor (process {supervisor}) is not the parent any more"
    )))
}

/// Whether nothing but `keep` is left in the bounding set.
fn give_up_bounding(keep: &CapsHashSet) -> std::result::Result<bool, CapsError> {
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

/// What should be gone and is not.
fn left(user: Option<(u32, u32)>, is_bounded: bool) -> Result<Vec<&'static str>> {
    let mut left = Vec::new();
    if let Some((uid, gid)) = user {
        let (users, groups) = (getresuid().map_err(refused)?, getresgid().map_err(refused)?);
        let is_user = [users.real, users.effective, users.saved] == [Uid::from_raw(uid); 3];
        let is_group = [groups.real, groups.effective, groups.saved] == [Gid::from_raw(gid); 3];
        left.extend((!is_user).then_some("the user"));
        left.extend((!is_group).then_some("the group"));
        let has_groups = !getgroups().map_err(refused)?.is_empty();
        left.extend(has_groups.then_some("supplementary groups"));
    }
    for set in OWN.into_iter().chain(is_bounded.then_some(CapSet::Bounding)) {
        let is_empty = caps::read(None, set).map_err(kept)?.is_empty();
        left.extend((!is_empty).then_some("capabilities"));
    }
    left.extend((!prctl::get_no_new_privs().map_err(refused)?).then_some("new privileges"));
    left.extend(prctl::get_dumpable().map_err(refused)?.then_some("core files"));
    Ok(left)
}

fn refused(errno: Errno) -> Error {
    Error::Permission(format!("rights cannot be given up: {}", errno.desc()))
}

fn kept(error: CapsError) -> Error {
    Error::Permission(format!("capabilities cannot be given up: {error}"))
}
