//! Which files there are for this process, and with them abstract sockets, TCP ports and whom it
//! may signal (landlock(7)). It must not know what is in the files.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::error::{Error, Result};

/// What was tried. A kernel that has less is asked for less; what a later one adds is not asked
/// for, since it might forbid what is needed.
const TRIED: ABI = ABI::V7;

/// Where the C library looks when it resolves a host name (nsswitch.conf(5)), its modules included,
/// or tells the local time. `/etc/resolv.conf` is often a link to one of those in `/run`.
const LIBRARY: [&str; 9] = [
    "/etc",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
];
/// A name server that has more to say than one datagram holds is asked by TCP (RFC 7766).
const DNS_PORT: u16 = 53;

/// What stays within reach. By default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileAccess<'a> {
    /// Files that may be read, and directories with all below them; what is not there is passed
    /// over.
    pub readable: &'a [PathBuf],
    /// Files that may be removed. Landlock knows directories only: so may those beside them, as
    /// far as their permissions go.
    pub removable: &'a [PathBuf],
    /// Whether host names are resolved and the local time is told.
    pub resolves: bool,
}

/// Hides all files but those of `reach` from this thread and those that it starts: nothing can be
/// opened, made, changed or removed, no TCP port bound or connected to, no abstract socket of
/// another process connected to, and no process outside signalled. Open descriptors stay.
///
/// Says in one sentence how much of that this kernel does: Linux 6.12 does all, one older than 5.13,
/// or started without landlock, nothing.
///
/// # Errors
/// [`Error::Permission`] when the kernel has landlock and refuses: no memory, no `no_new_privs`.
pub fn apply_landlock(reach: &FileAccess<'_>) -> Result<String> {
    match restrict(reach) {
        Ok(status) => Ok(sentence(&status)),
        Err(error) => Err(Error::Permission(format!("files cannot be hidden (landlock): {error}"))),
    }
}

fn restrict(reach: &FileAccess<'_>) -> std::result::Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let library = if reach.resolves { &LIBRARY[..] } else { &[] };
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?
        .add_rules(path_beneath_rules(reach.readable, read))?
        .add_rules(path_beneath_rules(library, read))?;
    for file in reach.removable {
        rules = allow(rules, file.parent(), AccessFs::RemoveFile.into())?;
    }
    if reach.resolves {
        rules = rules.add_rule(NetPort::new(DNS_PORT, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}

fn allow(
    rules: RulesetCreated,
    directory: Option<&Path>,
    access: BitFlags<AccessFs>,
) -> std::result::Result<RulesetCreated, RulesetError> {
    match directory.map(PathFd::new) {
        Some(Ok(directory)) => rules.add_rule(PathBeneath::new(directory, access)),
        // There is nothing to remove.
        _ => Ok(rules),
    }
}

fn sentence(status: &RestrictionStatus) -> String {
    let how = match status.landlock {
        LandlockStatus::NotEnabled => "landlock is not enabled on this host (kernel option lsm=)",
        LandlockStatus::NotImplemented => "this kernel has no landlock",
        _ => match status.ruleset {
            RulesetStatus::FullyEnforced => "landlock hides files, TCP, sockets and processes",
            RulesetStatus::PartiallyEnforced => {
                "landlock hides files; this kernel's is too old for all of TCP, sockets and processes"
            }
            RulesetStatus::NotEnforced => "landlock hides nothing",
        },
    };
    how.to_owned()
}
