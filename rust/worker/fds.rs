//! The numbers of a worker's own descriptors. They are low and fixed, so that the seccomp filter can
//! distinguish them from the sockets that the worker receives.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::arguments::Arguments;
use crate::sys::inherited;

/// The lowest number of a descriptor that is received later: all lower numbers are in use, some by
/// the maps of the relay in the kernel.
pub(super) const FIRST_FOREIGN: u16 = 64;
/// The number of the connection to control, after those of supervisor channel, broker and page.
pub(super) const CHANNEL: u16 = 6;

/// The descriptors of a worker's start.
pub(super) struct OwnDescriptors {
    pub(super) supervisor_channel: OwnedFd,
    pub(super) broker: OwnedFd,
    pub(super) page: OwnedFd,
    /// The number of the connection to control, `/dev/null` until there is one.
    pub(super) channel: OwnedFd,
    /// `/dev/null`, which occupies the unused low numbers.
    pub(super) dev_null: OwnedFd,
}

impl OwnDescriptors {
    /// Takes ownership of the inherited descriptors, before this process opens any other.
    ///
    /// # Errors
    /// Invalid numbers, no free descriptor.
    pub(super) fn take(arguments: &Arguments) -> io::Result<Self> {
        let dev_null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let numbers = [arguments.supervisor_channel, arguments.broker, arguments.page];
        let descriptors = inherited::take(numbers, dev_null.into())?;
        let ([supervisor_channel, broker, page], channel, dev_null) = descriptors;
        debug_assert_eq!(channel.as_raw_fd(), RawFd::from(CHANNEL));
        Ok(Self { supervisor_channel, broker, page, channel, dev_null })
    }
}

/// Occupies all free low numbers permanently. To be called once all own descriptors are open.
///
/// # Errors
/// No free descriptor, or more own descriptors than low numbers.
pub(super) fn occupy_low_numbers(dev_null: OwnedFd) -> io::Result<()> {
    let mut copy = dev_null;
    while copy.as_raw_fd() < RawFd::from(FIRST_FOREIGN) {
        let next = copy.try_clone()?;
        // Stays open until the process ends.
        std::mem::forget(copy);
        copy = next;
    }
    if copy.as_raw_fd() > RawFd::from(FIRST_FOREIGN) {
        return Err(io::Error::other("there are more descriptors than low numbers"));
    }
    Ok(())
}
