//! The maps of devices that frames are copied to. One with an entry for each output serves every
//! rule that has as many outputs on the same devices, so rules change without new maps.
//!
//! A map is frozen before a rule uses it: a process with descriptors of the other maps can choose
//! among the maps, but can name no device.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use aya::maps::xdp::DevMap;
use aya::maps::{ArrayOfMaps, HashMap, Map, MapData};
use aya::programs::ProgramFd;

use super::refusal::refusal;
use crate::error::{Error, Result};
use crate::sys::bpf;

/// Devices by index, sorted, each with the number of its outputs.
pub type Shape = Vec<(u32, u16)>;

/// A map of devices for the outputs of a rule. It stays as long as a clone of it exists.
#[derive(Clone, Debug)]
pub struct Fan(Arc<FanPlace>);

#[derive(Debug)]
struct FanPlace {
    number: u32,
    /// The programs' number for each device, by its index.
    devices: BTreeMap<u32, u16>,
    /// Keeps the map in the process that has the [`Programs`](super::Programs).
    _owner: Box<dyn Any + Send + Sync>,
}

/// All maps of devices.
pub(super) struct Fans {
    fans: ArrayOfMaps<MapData, DevMap<MapData>>,
    devices: HashMap<MapData, u32, u32>,
    /// The program that rewrites copies.
    rewriter: ProgramFd,
    /// How many devices the programs have numbers for.
    device_limit: u16,
    known: BTreeMap<Shape, (Fan, DevMap<MapData>)>,
    numbers: BTreeMap<u32, u16>,
}

impl Fan {
    /// The same in another process, from [`Fan::number`] and [`Fan::devices`]. The process that
    /// has the [`Programs`](super::Programs) keeps its own until `owner` is dropped.
    #[must_use]
    pub fn new(number: u32, devices: BTreeMap<u32, u16>, owner: impl Any + Send + Sync) -> Self {
        Self(Arc::new(FanPlace { number, devices, _owner: Box::new(owner) }))
    }

    /// The position of the map.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// The programs' number for each device, by its index.
    #[must_use]
    pub fn devices(&self) -> &BTreeMap<u32, u16> {
        &self.0.devices
    }

    /// The programs' number for a device.
    pub(super) fn device(&self, ifindex: u32) -> Option<u16> {
        self.0.devices.get(&ifindex).copied()
    }
}

impl Fans {
    pub(super) fn new(
        fans: ArrayOfMaps<MapData, DevMap<MapData>>,
        devices: HashMap<MapData, u32, u32>,
        rewriter: ProgramFd,
        device_limit: u16,
    ) -> Self {
        let (known, numbers) = (BTreeMap::new(), BTreeMap::new());
        Self { fans, devices, rewriter, device_limit, known, numbers }
    }

    /// The map for a rule's outputs; a new one takes the kernel some milliseconds.
    pub(super) fn fan(&mut self, shape: &Shape) -> Result<Fan> {
        if let Some((fan, map)) = self.known.get(shape) {
            // The kernel removes the entries of a device that is deleted.
            if (0..map.len()).all(|place| map.get(place, 0).is_ok()) {
                return Ok(fan.clone());
            }
        }
        let mut devices = BTreeMap::new();
        for &(ifindex, _) in shape {
            devices.insert(ifindex, self.device(ifindex)?);
        }
        let map = self.fill(shape)?;
        let (number, replaced) = self.free_number(shape)?;
        self.fans.set(number, &map, 0).map_err(refusal("adding a map of devices"))?;
        if let Some(replaced) = replaced {
            self.known.remove(&replaced);
        }
        let fan = Fan::new(number, devices, ());
        self.known.insert(shape.clone(), (fan.clone(), map));
        Ok(fan)
    }

    /// The number of a device, given at its first use and taken back when it is needed for another
    /// one and no rule uses it.
    fn device(&mut self, ifindex: u32) -> Result<u16> {
        if let Some(number) = self.numbers.get(&ifindex) {
            return Ok(*number);
        }
        if self.free_device().is_none() {
            self.forget_devices()?;
        }
        let number = self.free_device().ok_or_else(|| full("output devices"))?;
        self.devices.insert(ifindex, u32::from(number), 0).map_err(refusal("adding a device"))?;
        self.numbers.insert(ifindex, number);
        Ok(number)
    }

    /// A number that no device has.
    fn free_device(&self) -> Option<u16> {
        (0..self.device_limit).find(|number| self.numbers.values().all(|used| used != number))
    }

    /// Removes the maps that no rule uses, and the devices that are then in none.
    fn forget_devices(&mut self) -> Result<()> {
        self.known.retain(|_, (fan, _)| Arc::strong_count(&fan.0) > 1);
        let used: BTreeSet<u32> =
            self.known.keys().flatten().map(|&(ifindex, _)| ifindex).collect();
        let unused: Vec<u32> =
            self.numbers.keys().copied().filter(|ifindex| !used.contains(ifindex)).collect();
        for ifindex in unused {
            self.devices.remove(&ifindex).map_err(refusal("removing a device"))?;
            self.numbers.remove(&ifindex);
        }
        Ok(())
    }

    /// A frozen map with an entry for each output.
    fn fill(&self, shape: &Shape) -> Result<DevMap<MapData>> {
        let entries = shape.iter().map(|&(_, count)| u32::from(count)).sum();
        let failed = |error: io::Error| refusal("creating a map of devices")(error);
        let fd = bpf::create_device_map(entries).map_err(failed)?;
        let for_freezing = fd.try_clone().map_err(failed)?;
        let data = MapData::from_fd(fd).map_err(refusal("opening a map of devices"))?;
        let mut map =
            DevMap::try_from(Map::DevMap(data)).map_err(refusal("opening a map of devices"))?;
        let each = shape.iter().flat_map(|&(ifindex, count)| (0..count).map(move |_| ifindex));
        for (place, ifindex) in (0..).zip(each) {
            map.set(place, ifindex, Some(&self.rewriter), 0)
                .map_err(refusal("adding an output's interface"))?;
        }
        bpf::freeze_map(for_freezing.as_fd()).map_err(failed)?;
        Ok(map)
    }

    /// A position for a new map: that of an outdated one of this shape, one that no map has, or
    /// that of a map which no rule uses, whose shape it then returns.
    fn free_number(&self, shape: &Shape) -> Result<(u32, Option<Shape>)> {
        if let Some((fan, _)) = self.known.get(shape) {
            return Ok((fan.number(), None));
        }
        let used: BTreeSet<u32> = self.known.values().map(|(fan, _)| fan.number()).collect();
        if let Some(number) = (0..self.fans.len()).find(|number| !used.contains(number)) {
            return Ok((number, None));
        }
        let unused = self.known.iter().find(|(_, (fan, _))| Arc::strong_count(&fan.0) == 1);
        let (shape, (fan, _)) = unused.ok_or_else(|| full("kinds of outputs"))?;
        Ok((fan.number(), Some(shape.clone())))
    }
}

fn full(what: &str) -> Error {
    Error::Invalid(format!("the kernel relay has no room for more {what}"))
}
