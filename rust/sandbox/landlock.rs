//! Access limits for files, abstract sockets, TCP ports and signals (landlock(7)).

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::error::{Error, Result};

/// The requested landlock version. On an older kernel only its features are requested; features of
/// later versions are not, since they might forbid what is needed.
const REQUESTED: ABI = ABI::V7;

/// Files that the C library reads to resolve host names (nsswitch.conf(5)), including its modules,
/// or to determine the local time. `/etc/resolv.conf` is often a link into one of those in `/run`.
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
/// Answers of a name server that do not fit a datagram come over TCP (RFC 7766).
const DNS_PORT: u16 = 53;

/// The files that remain accessible. By default none.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileAccess<'a> {
    /// Files that may be read, and directories with everything below them; missing ones are
    /// skipped.
    pub readable: &'a [PathBuf],
    /// Files that may be removed. Landlock handles only directories, so their siblings may be
    /// removed too, as far as permissions allow.
    pub removable: &'a [PathBuf],
    /// Whether host names and the local time are needed.
    pub resolves: bool,
}

/// Limits this thread, and threads and processes that it starts, to the files of `reach`. No other
/// file can be opened, created, changed or removed, no TCP port bound or connected to, no abstract
/// socket of another process connected to, and no outside process signalled. Open descriptors stay
/// usable.
///
/// Returns one sentence on how much of that the kernel enforces: Linux 6.12 everything; a kernel
/// older than 5.13, or started without landlock, nothing.
///
/// # Errors
/// [`Error::Permission`] if the kernel has landlock and refuses: no memory, no `no_new_privs`.
pub fn apply_landlock(reach: &FileAccess<'_>) -> Result<String> {
    match restrict(reach) {
        Ok(status) => Ok(sentence(&status)),
        Err(error) => {
            Err(Error::Permission(format!("files cannot be hidden (landlock): {error}").into()))
        }
    }
}

fn restrict(reach: &FileAccess<'_>) -> std::result::Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let library = if reach.resolves { &LIBRARY[..] } else { &[] };
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(REQUESTED))?
        .handle_access(AccessNet::from_all(REQUESTED))?
        .scope(Scope::from_all(REQUESTED))?
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
        // The file or directory does not exist.
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
