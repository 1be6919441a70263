//! Which slot takes the datagrams of an endpoint, and its form in the maps for the two phases.

use std::collections::{BTreeMap, BTreeSet};

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};

use super::layout::{self, EndpointKey, EntryBytes, SenderBytes, SenderKey};
use super::refusal::refusal;
use super::rule::{Endpoint, KernelRule};
use crate::addr::Addr;
use crate::error::{Error, Result};

/// The slots of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Routes {
    /// For any sender that has no slot of its own.
    any: Option<u32>,
    senders: BTreeMap<Addr, u32>,
}

/// The routes of all endpoints in the kernel.
#[derive(Debug)]
pub(super) struct RouteMaps {
    pub(super) endpoints: HashMap<MapData, EndpointKey, EntryBytes>,
    pub(super) senders: HashMap<MapData, SenderKey, SenderBytes>,
}

impl Routes {
    /// Adds a rule.
    ///
    /// # Errors
    /// [`Error::Invalid`] if another rule takes the same datagrams.
    pub(super) fn add(&mut self, rule: &KernelRule, slot: u32) -> Result<()> {
        let taken = if rule.sources.is_empty() {
            self.any.replace(slot).is_some()
        } else {
            let before = rule.sources.iter().map(|source| self.senders.insert(*source, slot));
            before.filter(Option::is_some).count() > 0
        };
        if taken {
            let Endpoint { group, port, .. } = rule.endpoint;
            return Err(Error::Invalid(format!(
                "two rules in the kernel have the input {group}:{port} and the same senders"
            )));
        }
        Ok(())
    }

    /// Removes whatever leads to a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        self.any = self.any.filter(|other| *other != slot);
        self.senders.retain(|_, other| *other != slot);
    }

    /// Every slot, once.
    pub(super) fn slots(&self) -> BTreeSet<u32> {
        self.any.into_iter().chain(self.senders.values().copied()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl RouteMaps {
    /// The routes in force in this phase.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn read(&self, phase: usize) -> Result<BTreeMap<Endpoint, Routes>> {
        let mut all: BTreeMap<Endpoint, Routes> = BTreeMap::new();
        for entry in self.endpoints.iter() {
            let (key, entry) = entry.map_err(refusal("reading inputs"))?;
            let routes = all.entry(layout::read_endpoint(&key)).or_default();
            routes.any = layout::read_slot_number(&entry, phase);
        }
        for entry in self.senders.iter() {
            let (key, entry) = entry.map_err(refusal("reading senders"))?;
            let (endpoint, source) = layout::read_sender(&key);
            if let Some(slot) = layout::read_slot_number(&entry, phase) {
                all.entry(endpoint).or_default().senders.insert(source, slot);
            }
        }
        Ok(all)
    }

    /// Writes the routes of an endpoint for phase 0 and phase 1.
    ///
    /// # Errors
    /// The kernel's; ENOSPC or E2BIG if a map is full.
    pub(super) fn write(&mut self, at: &Endpoint, phases: [&Routes; 2]) -> Result<()> {
        let all = phases.iter().flat_map(|routes| routes.senders.keys());
        for source in all {
            let slots = phases.map(|routes| routes.senders.get(source).copied());
            self.senders
                .insert(layout::sender(at, *source), layout::sender_entry(slots), 0)
                .map_err(refusal("adding a sender"))?;
        }
        let has_senders = phases.map(|routes| !routes.senders.is_empty());
        let entry = layout::entry(phases.map(|routes| routes.any), has_senders);
        self.endpoints.insert(layout::endpoint(at), entry, 0).map_err(refusal("adding an input"))
    }

    /// Leaves one form of the routes for both phases, and removes what only the other one has.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn finish(&mut self, at: &Endpoint, kept: &Routes, other: &Routes) -> Result<()> {
        if kept.is_empty() {
            remove(&mut self.endpoints, &layout::endpoint(at))?;
        } else {
            self.write(at, [kept, kept])?;
        }
        let gone = other.senders.keys().filter(|source| !kept.senders.contains_key(source));
        for source in gone {
            remove(&mut self.senders, &layout::sender(at, *source))?;
        }
        Ok(())
    }
}

/// Removes an entry; one that does not exist is no error.
fn remove<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, key: &K) -> Result<()> {
    match map.remove(key) {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(refusal("removing an input")(error)),
    }
}
