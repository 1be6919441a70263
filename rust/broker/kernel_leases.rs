//! What is held of the relay in the kernel for a worker: its maps, attachments to inputs, devices of
//! outputs, CPUs.
//!
//! The kernel keeps relaying when the worker dies. Its attachments wait for its successor, which
//! claims them by interface, and its fans stay until the successor no longer inherits their rules.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::deletions::is_there;
use crate::error::{Error, Result};
use crate::offload::{Attachment, Fan, KernelOpener, LocalOpener, Shape};
use crate::sockets::InterfaceRef;

/// The most attachments of a worker, one for each interface of inputs.
const MAX_HOOKS: usize = 32;
/// The most fans of a worker: twice one for each slot of a rule, those of replaced rules included.
const MAX_FANS: usize = 8192;

/// What the worker has, and what waits for its successor.
#[derive(Default)]
pub(super) struct KernelLeases {
    opener: LocalOpener,
    /// Duplicates of the maps, once the programs are loaded.
    maps: Vec<OwnedFd>,
    hooks: Vec<HookLease>,
    fans: HashMap<u64, Fan>,
    /// Fans of an earlier incarnation, by number. The kernel still relays by them.
    former_fans: BTreeMap<u32, Fan>,
}

/// An attachment to the interface of an input.
struct HookLease {
    /// The lease; none while it waits for a successor.
    id: Option<u64>,
    ifindex: u32,
    /// None if the interface was deleted.
    attachment: Option<Attachment>,
}

impl KernelLeases {
    /// Loads the programs at the first call.
    pub(super) fn open_maps(&mut self) -> Result<()> {
        if self.maps.is_empty() {
            self.maps = self.opener.maps()?;
        }
        Ok(())
    }

    /// The map with this number, if the programs are loaded.
    pub(super) fn map(&self, number: u8) -> Option<BorrowedFd<'_>> {
        self.maps.get(usize::from(number)).map(AsFd::as_fd)
    }

    /// Attaches to an interface under a new lease, or hands over what an earlier incarnation had.
    pub(super) fn attach(&mut self, interface: InterfaceRef<'_>, lease: u64) -> Result<()> {
        let waits = |hook: &&mut HookLease| hook.id.is_none() && hook.ifindex == interface.index;
        if let Some(hook) = self.hooks.iter_mut().find(waits) {
            hook.id = Some(lease);
            return Ok(());
        }
        if self.hooks.len() >= MAX_HOOKS {
            let text = format!("the kernel can relay from at most {MAX_HOOKS} interfaces");
            return Err(Error::Invalid(text));
        }
        let attachment = Some(self.opener.attach(interface)?);
        self.hooks.push(HookLease { id: Some(lease), ifindex: interface.index, attachment });
        Ok(())
    }

    /// The devices of outputs, under a new lease.
    pub(super) fn fan(&mut self, shape: &Shape, lease: u64) -> Result<&Fan> {
        if self.fans.len() >= MAX_FANS {
            let text = format!("too many rules: the kernel relays at most {MAX_FANS} at a time");
            return Err(Error::Invalid(text));
        }
        if shape.iter().any(|(ifindex, _)| !is_there(*ifindex)) {
            let gone = io::Error::from_raw_os_error(libc::ENODEV);
            return Err(Error::os("naming a device", "the relay in the kernel", gone));
        }
        let fan = self.opener.fan(shape)?;
        Ok(self.fans.entry(lease).or_insert(fan))
    }

    /// Lets a CPU make copies.
    pub(super) fn add_cpu(&mut self, cpu: u32) -> Result<()> {
        self.opener.add_cpu(cpu)
    }

    /// Takes a lease back; false if there is none with this number.
    pub(super) fn release(&mut self, lease: u64) -> bool {
        let hook = self.hooks.iter().position(|hook| hook.id == Some(lease));
        match hook {
            Some(at) => drop(self.hooks.swap_remove(at)),
            None => return self.fans.remove(&lease).is_some(),
        }
        true
    }

    /// Handles the worker's death: what it had waits for the next incarnation.
    pub(super) fn orphan(&mut self) {
        self.hooks.retain(|hook| hook.attachment.is_some());
        self.hooks.iter_mut().for_each(|hook| hook.id = None);
        let former = self.fans.drain().map(|(_, fan)| (fan.number(), fan));
        self.former_fans.extend(former);
    }

    /// Drops what the worker has not claimed, once it has replaced the rules of an earlier one.
    pub(super) fn release_unclaimed(&mut self) {
        self.hooks.retain(|hook| hook.id.is_some());
        self.former_fans.clear();
    }

    /// Detaches from a deleted interface, whose index may be reused.
    pub(super) fn interface_removed(&mut self, ifindex: u32) {
        for hook in self.hooks.iter_mut().filter(|hook| hook.ifindex == ifindex) {
            (hook.attachment, hook.ifindex) = (None, 0);
        }
        self.hooks.retain(|hook| hook.id.is_some() || hook.attachment.is_some());
    }

    /// The number of attachments.
    pub(super) fn hooks(&self) -> usize {
        self.hooks.iter().filter(|hook| hook.attachment.is_some()).count()
    }

    /// The number of fans that are kept for the worker and for an earlier one.
    #[cfg(test)]
    pub(super) fn fans(&self) -> (usize, usize) {
        (self.fans.len(), self.former_fans.len())
    }
}

impl fmt::Debug for KernelLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelLeases({} hooks, {} fans)", self.hooks.len(), self.fans.len())
    }
}
