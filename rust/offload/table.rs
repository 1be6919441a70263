//! The rules in the kernel. A process without any right can change them: it needs the descriptors
//! of [`Programs::descriptors`](super::Programs::descriptors) and a [`Fan`] for each rule.
//!
//! A change of any number of rules takes effect at once, between two frames. The maps are written
//! in this order, so that a frame always finds a whole rule:
//!
//! 1. outputs, cleared counters and slots of new rules, in places that nothing leads to;
//! 2. for each endpoint that changes its senders, then the endpoint itself: both have a slot for
//!    the phase in force, as before, and one for the other phase;
//! 3. `control`: the other phase is in force. This is the change;
//! 4. endpoints and senders have the new slots for both phases, or are removed.
//!
//! Entries of other endpoints are not touched. A replaced rule keeps its slot until
//! [`KernelTable::free`], since copies on their way still read it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::os::fd::OwnedFd;

use aya::maps::{Array, Map, MapData};

use super::counters::RuleCounters;
use super::fans::Fan;
use super::layout::{self, ControlBytes, Mode, RuleSlot};
use super::refusal::refusal;
use super::routes::{RouteMaps, Routes};
use super::rule::{Endpoint, KernelRule, Observed};
use super::slot_maps::{RulePlace, SlotMaps};
use crate::error::{Error, Result};

/// A rule to put, under a key of the caller's.
#[derive(Clone, Debug)]
pub struct Put {
    /// A rule with this key is replaced.
    pub key: u64,
    /// The rule.
    pub rule: KernelRule,
    /// The devices of its outputs.
    pub fan: Fan,
    /// Whether it relays from the start: [`Mode::Relay`] or [`Mode::Gate`].
    pub mode: Mode,
}

/// A rule that was removed or replaced. Its counters can be read until it is freed.
#[derive(Debug)]
pub struct Retired {
    key: Option<u64>,
    place: RulePlace,
}

/// The rules in the kernel.
pub struct KernelTable {
    control: Array<MapData, ControlBytes>,
    route_maps: RouteMaps,
    slot_maps: SlotMaps,
    phase: usize,
    on: bool,
    routes: BTreeMap<Endpoint, Routes>,
    places: BTreeMap<u64, RulePlace>,
    /// Rules that an earlier process has put.
    inherited: Vec<RulePlace>,
    drains: u32,
}

impl RulePlace {
    /// A number that no other rule in the kernel has or had lately; never 0.
    fn id(&self) -> u64 {
        1 << 63 | u64::from(self.slot.generation) << 32 | u64::from(self.number)
    }
}

impl Retired {
    /// As [`KernelTable::place_id`].
    #[must_use]
    pub fn place_id(&self) -> u64 {
        self.place.id()
    }

    /// The key that it had; none if an earlier process had put it.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        self.key
    }

    /// Where it listened.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.place.endpoint
    }
}

impl KernelTable {
    /// How many maps [`KernelTable::open`] needs.
    pub const MAP_COUNT: u8 = 10;
    /// The maps whose descriptors it needs, in their order.
    pub(super) const MAPS: [&str; Self::MAP_COUNT as usize] = [
        "control",
        "endpoints",
        "senders",
        "slots",
        "outputs",
        "passed",
        "matched",
        "spread",
        "handed",
        "rejected",
    ];

    /// Opens the maps of [`Programs::descriptors`](super::Programs::descriptors). New ones have no
    /// rules and are switched off. Rules that an earlier process has put continue until the first
    /// change, which has to put all rules: it removes those, and returns them with their outputs
    /// sorted by device.
    ///
    /// # Errors
    /// [`Error::Invalid`] if these are not the maps; [`Error::Os`].
    pub fn open(descriptors: Vec<OwnedFd>) -> Result<Self> {
        let Ok(descriptors) = <[OwnedFd; 10]>::try_from(descriptors) else {
            return Err(Error::Invalid("these are not the maps of the kernel relay".into()));
        };
        let failed = refusal("opening a map");
        let [control, endpoints, senders, slots, outputs, passed, counters @ ..] = descriptors;
        let [control, endpoints, senders] = open_maps([control, endpoints, senders])?;
        let control: Array<_, _> = Map::Array(control).try_into().map_err(&failed)?;
        let state = control.get(&0, 0).map_err(refusal("reading the state of all rules"))?;
        let (phase, on) = layout::read_control(&state);
        let mut table = Self {
            control,
            route_maps: RouteMaps {
                endpoints: Map::HashMap(endpoints).try_into().map_err(&failed)?,
                senders: Map::HashMap(senders).try_into().map_err(&failed)?,
            },
            slot_maps: SlotMaps::open(open_maps([slots, outputs, passed])?, counters)?,
            phase,
            on,
            routes: BTreeMap::new(),
            places: BTreeMap::new(),
            inherited: Vec::new(),
            drains: 0,
        };
        table.inherit()?;
        Ok(table)
    }

    /// Reads the rules that the maps have.
    fn inherit(&mut self) -> Result<()> {
        self.routes = self.route_maps.read(self.phase)?;
        for (endpoint, routes) in &self.routes {
            for number in routes.slots() {
                let bytes = self.slot_maps.slots.get(&number, 0);
                let slot = layout::read_slot(&bytes.map_err(refusal("reading rules"))?);
                self.inherited.push(RulePlace::inherited(number, slot, *endpoint));
            }
        }
        self.slot_maps.reserve(&self.inherited);
        Ok(())
    }

    /// Switches the relaying of all rules on or off at once. Off, every frame passes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn switch(&mut self, on: bool) -> Result<()> {
        self.on = on;
        self.write_control()
    }

    fn write_control(&mut self) -> Result<()> {
        let bytes = layout::control(self.phase, self.on);
        self.control.set(0, bytes, 0).map_err(refusal("switching rules"))
    }

    /// Removes the rules with these keys and puts others, all at once. Returns the rules that are
    /// no longer in force; unknown keys are ignored.
    ///
    /// # Errors
    /// [`Error::Invalid`] if two rules take the same datagrams, or a map is full. Nothing has
    /// changed then.
    pub fn change(&mut self, remove: &[u64], put: Vec<Put>) -> Result<Vec<Retired>> {
        let (mut new, mut rules) = (Vec::new(), Vec::new());
        for Put { key, rule, fan, mode } in put {
            match self.slot_maps.write(&rule, fan, mode) {
                Ok(place) => new.push((key, place)),
                Err(error) => return Err(self.abandon(new, error)),
            }
            rules.push(rule);
        }
        let keys: BTreeSet<u64> =
            remove.iter().copied().chain(new.iter().map(|(key, _)| *key)).collect();
        let next = self.next_routes(&keys, &new, &rules);
        if let Err(error) = next.and_then(|next| self.enact(next)) {
            return Err(self.abandon(new, error));
        }
        let inherited = take(&mut self.inherited).into_iter();
        let mut retired: Vec<Retired> =
            inherited.map(|place| Retired { key: None, place }).collect();
        for key in keys {
            let place = self.places.remove(&key);
            retired.extend(place.map(|place| Retired { key: Some(key), place }));
        }
        self.places.extend(new);
        Ok(retired)
    }

    /// The routes of every endpoint that the change concerns.
    fn next_routes(
        &self,
        keys: &BTreeSet<u64>,
        new: &[(u64, RulePlace)],
        rules: &[KernelRule],
    ) -> Result<BTreeMap<Endpoint, Routes>> {
        let mut next: BTreeMap<Endpoint, Routes> = BTreeMap::new();
        let now = |endpoint| self.routes.get(&endpoint).cloned().unwrap_or_default();
        let replaced = keys.iter().filter_map(|key| self.places.get(key));
        for place in replaced.chain(&self.inherited) {
            let routes = next.entry(place.endpoint).or_insert_with(|| now(place.endpoint));
            routes.remove(place.number);
        }
        for ((_, place), rule) in new.iter().zip(rules) {
            let routes = next.entry(place.endpoint).or_insert_with(|| now(place.endpoint));
            routes.add(rule, place.number)?;
        }
        Ok(next)
    }

    /// Steps 2 to 4 of a change. After an error all endpoints are as before.
    fn enact(&mut self, next: BTreeMap<Endpoint, Routes>) -> Result<()> {
        let none = Routes::default();
        let mut written = Ok(());
        for (endpoint, after) in &next {
            let before = self.routes.get(endpoint).unwrap_or(&none);
            let phases = if self.phase == 0 { [before, after] } else { [after, before] };
            written = written.and_then(|()| self.route_maps.write(endpoint, phases));
        }
        if written.is_ok() {
            self.phase = 1 - self.phase;
            written = self.write_control();
            if written.is_err() {
                self.phase = 1 - self.phase;
            }
        }
        for (endpoint, after) in next {
            let before = self.routes.remove(&endpoint).unwrap_or_default();
            let (kept, other) = if written.is_ok() { (after, before) } else { (before, after) };
            self.route_maps.finish(&endpoint, &kept, &other)?;
            if !kept.is_empty() {
                self.routes.insert(endpoint, kept);
            }
        }
        written
    }

    /// Gives the places of new rules back.
    fn abandon(&mut self, new: Vec<(u64, RulePlace)>, error: Error) -> Error {
        for (_, place) in new {
            self.slot_maps.release(&place);
        }
        error
    }

    /// Gives the places of a rule back, whose copies have all left.
    pub fn free(&mut self, retired: Retired) {
        self.slot_maps.release(&retired.place);
    }

    /// Changes how the frames of a rule are handled. A gate is closed at first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key; the kernel's.
    pub fn set_mode(&mut self, key: u64, mode: Mode) -> Result<()> {
        if mode == Mode::Gate {
            let place = self.places.get(&key).ok_or_else(|| unknown(key))?;
            self.slot_maps.clear_gate(place)?;
        }
        self.drains += 1;
        let drains = self.drains;
        self.rewrite_slot(key, |slot| {
            slot.mode = mode;
            // A drain that no other one of this slot equals.
            let drain = u64::from(slot.generation) << 32 | u64::from(drains);
            slot.gate = if mode == Mode::Drain { drain } else { u64::MAX };
        })
    }

    /// How many frames a rule has passed since its gate was closed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key; the kernel's.
    pub fn gate_count(&self, key: u64) -> Result<u64> {
        self.slot_maps.gate_count(self.place(key)?)
    }

    /// Lets a rule relay from the next frame on if it has passed exactly `finished` frames, all of
    /// which the engine has sent. If more have passed, the gate stays closed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key; the kernel's.
    pub fn open_gate(&mut self, key: u64, finished: u64) -> Result<()> {
        self.rewrite_slot(key, |slot| slot.gate = finished)
    }

    fn rewrite_slot(&mut self, key: u64, change: impl FnOnce(&mut RuleSlot)) -> Result<()> {
        let place = self.places.get_mut(&key).ok_or_else(|| unknown(key))?;
        change(&mut place.slot);
        self.slot_maps.write_slot(place)
    }

    /// The counters of a rule in force.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key; the kernel's.
    pub fn counters(&self, key: u64) -> Result<RuleCounters> {
        self.slot_maps.counters(self.place(key)?)
    }

    /// How the sizes of a rule's datagrams follow each other, since it was put.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key; the kernel's.
    pub fn observed(&self, key: u64) -> Result<Observed> {
        self.slot_maps.observed(self.place(key)?)
    }

    /// The counters of a rule that is no longer in force.
    ///
    /// # Errors
    /// The kernel's.
    pub fn retired_counters(&self, retired: &Retired) -> Result<RuleCounters> {
        self.slot_maps.counters(&retired.place)
    }

    /// A number for the rule's place that a successor of this process finds again
    /// ([`Retired::place_id`]), and for each output its position among the counters that the
    /// successor then gets; `None` for an unknown key. The number is never 0.
    #[must_use]
    pub fn place_id(&self, key: u64) -> Option<(u64, &[u32])> {
        self.places.get(&key).map(|place| (place.id(), &*place.order))
    }

    /// Whether there are rules that an earlier process has put.
    #[must_use]
    pub fn has_inherited(&self) -> bool {
        !self.inherited.is_empty()
    }

    /// Which CPU copies for the rules that an earlier process has put.
    pub fn inherited_cpus(&self) -> impl Iterator<Item = (Endpoint, u32)> {
        self.inherited.iter().filter_map(|place| Some((place.endpoint, place.slot.cpu?)))
    }

    /// The same numbers of the rules that an earlier process has put and that relay.
    pub fn inherited_ids(&self) -> impl Iterator<Item = u64> {
        let relays = |place: &&RulePlace| place.slot.mode == Mode::Relay;
        self.inherited.iter().filter(relays).map(RulePlace::id)
    }

    fn place(&self, key: u64) -> Result<&RulePlace> {
        self.places.get(&key).ok_or_else(|| unknown(key))
    }
}

fn open_maps(descriptors: [OwnedFd; 3]) -> Result<[MapData; 3]> {
    let [first, second, third] =
        descriptors.map(|fd| MapData::from_fd(fd).map_err(refusal("opening a map")));
    Ok([first?, second?, third?])
}

fn unknown(key: u64) -> Error {
    Error::Invalid(format!("no rule in the kernel has the key {key}"))
}
