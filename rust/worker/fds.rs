//! The numbers of a worker's own descriptors. They are low and known beforehand, so that a filter of
//! system calls can tell them from the sockets that it is handed. It must not know what is said
//! over them.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::arguments::Arguments;
use crate::sys::inherited;

/// What a worker is handed has this number or a higher one: all that are lower are taken.
pub(super) const FIRST_FOREIGN: u16 = 24;
/// The number of the connection to the control process, behind supervisor channel, broker and page.
pub(super) const CHANNEL: u16 = 6;

/// What a worker was started with.
pub(super) struct OwnDescriptors {
    pub(super) supervisor_channel: OwnedFd,
    pub(super) broker: OwnedFd,
    pub(super) page: OwnedFd,
    /// Nothing is behind it until there is a connection to control.
    pub(super) channel: OwnedFd,
    /// What every low number stands for that is not used.
    pub(super) nothing: OwnedFd,
}

impl OwnDescriptors {
    /// Takes over what this process was started with, before it opens anything else.
    ///
    /// # Errors
    /// Numbers that cannot be, no descriptor.
    pub(super) fn take(arguments: &Arguments) -> io::Result<Self> {
        let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let numbers = [arguments.supervisor_channel, arguments.broker, arguments.page];
        let taken = inherited::take(numbers, nothing.into())?;
        let ([supervisor_channel, broker, page], channel, nothing) = taken;
        debug_assert_eq!(channel.as_raw_fd(), RawFd::from(CHANNEL));
        Ok(Self { supervisor_channel, broker, page, channel, nothing })
    }
}

/// Leaves no low number free, for good. Everything of this process's own is open by now.
///
/// # Errors
/// No descriptor; or there are more of its own than low numbers.
pub(super) fn occupy_low_numbers(nothing: OwnedFd) -> io::Result<()> {
    let mut copy = nothing;
    while copy.as_raw_fd() < RawFd::from(FIRST_FOREIGN) {
        let next = copy.try_clone()?;
        // It stays open as long as the process.
        std::mem::forget(copy);
        copy = next;
    }
    if copy.as_raw_fd() > RawFd::from(FIRST_FOREIGN) {
        return Err(io::Error::other("there are more descriptors than low numbers"));
    }
    Ok(())
}
