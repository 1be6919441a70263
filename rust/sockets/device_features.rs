//! Features of network devices that are switched off for a time, and on again at the end: by a
//! successor if the process was killed, or has given its rights up. A file says so meanwhile, which
//! is locked while its process lives. In a boot, neither the cookie of a network namespace nor the
//! index of an interface in it is used twice.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::net::if_::if_indextoname;

use super::InterfaceRef;
use super::socket::{self, namespace_cookie};
use crate::error::{Error, Result};
use crate::sys::netdev;

/// Where the files are. The directory ends with the boot, as the settings of devices do.
const DIRECTORY: &str = "/run/mcr/features";
/// The most bytes that are read of a file: the names of some features.
const FILE_BYTES: u64 = 1024;

/// Features that are off. Dropping it switches them on again.
#[derive(Debug)]
pub struct SwitchedOff {
    /// Opened in the interface's network namespace.
    devices: OwnedFd,
    interface: String,
    features: Vec<&'static str>,
    /// None where no file could be written.
    record: Option<Record>,
}

/// A feature that a process which has ended left off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftFeature {
    /// The name of the interface.
    pub interface: String,
    /// The feature's name for ethtool(8).
    pub feature: String,
}

/// A file, locked by this process.
#[derive(Debug)]
struct Record {
    path: PathBuf,
    file: Flock<File>,
}

impl SwitchedOff {
    /// Switches off those of the features that are on, in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's, such as EPERM; nothing has changed then.
    pub fn new(interface: InterfaceRef<'_>, features: &[&'static str]) -> Result<Self> {
        let name = interface.name;
        let devices = socket::open(libc::AF_INET, libc::SOCK_DGRAM, name)?;
        let is_on = |feature: &&'static str| netdev::feature(devices.as_fd(), name, feature);
        let on = features.iter().copied().filter(|feature| is_on(feature).unwrap_or(false));
        let on: Vec<&'static str> = on.collect();
        let record = if on.is_empty() {
            None
        } else {
            let path = Path::new(DIRECTORY).join(file_name(namespace_cookie()?, interface.index));
            Record::create(path, &on).ok()
        };
        let mut off = Self { devices, interface: name.to_owned(), features: Vec::new(), record };
        for feature in on {
            netdev::set_feature(off.devices.as_fd(), name, feature, false)
                .map_err(|e| Error::os("switching off an offload", name, e))?;
            off.features.push(feature);
        }
        Ok(off)
    }
}

impl Drop for SwitchedOff {
    fn drop(&mut self) {
        let (devices, name) = (self.devices.as_fd(), &*self.interface);
        let restored = self.features.iter().filter(|feature| switch_on(devices, name, feature));
        if restored.count() == self.features.len()
            && let Some(record) = &self.record
        {
            record.remove();
        }
    }
}

/// Switches on what processes that have ended left off in the calling thread's network namespace.
///
/// # Errors
/// No descriptor is left.
pub fn restore_left() -> Result<Vec<LeftFeature>> {
    let mut restored = Vec::new();
    for (record, left) in left_records(Path::new(DIRECTORY), namespace_cookie()?) {
        let devices = socket::open(libc::AF_INET, libc::SOCK_DGRAM, "network devices")?;
        let switch_on =
            |one: &LeftFeature| switch_on(devices.as_fd(), &one.interface, &one.feature);
        let (done, denied): (Vec<_>, Vec<_>) = left.into_iter().partition(switch_on);
        if denied.is_empty() {
            record.remove();
        }
        restored.extend(done);
    }
    Ok(restored)
}

/// What [`restore_left`] would switch on.
///
/// # Errors
/// No descriptor is left.
pub fn left() -> Result<Vec<LeftFeature>> {
    let records = left_records(Path::new(DIRECTORY), namespace_cookie()?);
    Ok(records.into_iter().flat_map(|(_, left)| left).collect())
}

/// Switches a feature on; false without the right. An interface that was removed, or that has lost
/// the feature, has nothing to restore.
fn switch_on(devices: BorrowedFd<'_>, interface: &str, feature: &str) -> bool {
    let switched = netdev::set_feature(devices, interface, feature, true);
    !switched.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// The files of this namespace whose processes have ended, and what they left off. Files about
/// interfaces that were removed are deleted.
fn left_records(directory: &Path, cookie: u64) -> Vec<(Record, Vec<LeftFeature>)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(index) = name.to_str().and_then(|name| index_in(name, cookie)) else { continue };
        let Ok(mut record) = Record::open(entry.path(), false) else { continue };
        // The library reports an index without an interface as one without a name.
        let interface = if_indextoname(index).unwrap_or_default().to_string_lossy().into_owned();
        if interface.is_empty() {
            record.remove();
            continue;
        }
        let left = |feature: &str| LeftFeature {
            interface: interface.clone(),
            feature: feature.to_owned(),
        };
        let features = record.features().unwrap_or_default();
        let features = features.split_whitespace().map(left).collect();
        found.push((record, features));
    }
    found
}

fn file_name(cookie: u64, ifindex: u32) -> String {
    format!("{cookie}-{ifindex}")
}

/// The interface of a file, if it is of this namespace.
fn index_in(name: &str, cookie: u64) -> Option<u32> {
    let (of, index) = name.split_once('-')?;
    (of.parse() == Ok(cookie)).then(|| index.parse().ok()).flatten()
}

impl Record {
    fn create(path: PathBuf, features: &[&str]) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        }
        let mut record = Self::open(path, true)?;
        record.file.set_len(0)?;
        record.file.write_all(features.join(" ").as_bytes())?;
        Ok(record)
    }

    /// Opens and locks a file.
    ///
    /// # Errors
    /// EWOULDBLOCK while its process lives; NotFound if it was removed meanwhile.
    fn open(path: PathBuf, create: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)?;
        let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let file = locked.map_err(|(_, errno)| io::Error::from(errno))?;
        let (opened, named) = (file.metadata()?, fs::symlink_metadata(&path)?);
        if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(Self { path, file })
    }

    fn features(&mut self) -> io::Result<String> {
        let mut text = String::new();
        (&*self.file).take(FILE_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Deletes the file. Where that is not permitted, it stays for a successor.
    fn remove(&self) {
        fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::testnet::{NEAR, interface, with_cable};

    const TAGS: &str = "rx-vlan-hw-parse";

    fn is_on() -> bool {
        let devices = socket::open(libc::AF_INET, libc::SOCK_DGRAM, NEAR).unwrap();
        netdev::feature(devices.as_fd(), NEAR, TAGS).unwrap()
    }

    #[test]
    fn a_successor_restores_what_a_killed_process_has_left_off() {
        with_cable(|| {
            let expected = LeftFeature { interface: NEAR.to_owned(), feature: TAGS.to_owned() };
            let off = SwitchedOff::new(interface(NEAR), &[TAGS, "rx-lro"]).unwrap();
            assert!(!is_on());
            // Its process lives.
            assert_eq!((left().unwrap(), restore_left().unwrap()), (vec![], vec![]));
            drop(off);
            assert!(is_on());
            assert_eq!(left().unwrap(), []);

            let mut off = SwitchedOff::new(interface(NEAR), &[TAGS]).unwrap();
            off.record = None;
            off.features.clear();
            drop(off);
            assert!(!is_on());
            assert_eq!(left().unwrap(), std::slice::from_ref(&expected));
            assert_eq!(restore_left().unwrap(), [expected]);
            assert!(is_on());
            assert_eq!(left().unwrap(), []);
        });
    }

    #[test]
    fn files_of_other_namespaces_and_without_an_interface_are_left_out() {
        with_cable(|| {
            let directory =
                std::env::temp_dir().join(format!("mcr-{}", namespace_cookie().unwrap()));
            let path = |cookie, index| directory.join(file_name(cookie, index));
            let index = interface(NEAR).index;
            for path in [path(7, index), path(8, 7777), path(8, index), directory.join("8-x")] {
                drop(Record::create(path, &[TAGS]).unwrap());
            }
            let found = left_records(&directory, 8);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].1[0].interface, NEAR);
            assert!(!path(8, 7777).exists() && path(7, index).exists());
            fs::remove_dir_all(&directory).unwrap();
        });
    }
}
