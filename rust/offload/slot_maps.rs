//! Rules in their slots, with their outputs and counters, apart from what leads to a slot.

use std::ops::Range;
use std::os::fd::OwnedFd;

use aya::maps::{Array, Map, MapData};

use super::counters::{OutputCounters, RuleCounters};
use super::fans::Fan;
use super::layout::{
    self, DeviceOutputs, Mode, OutputBytes, RuleSlot, SlotBytes, TAKEN_BYTES, TALLY_BYTES, Taken,
};
use super::places::{FreeOutputs, FreeSlots};
use super::refusal::refusal;
use super::rule::{Endpoint, KernelOutput, KernelRule, Observed, Volume};
use crate::error::{Error, Result};
use crate::sys::per_cpu_array::PerCpuArray;

/// Where a rule is in the maps.
#[derive(Debug)]
pub(super) struct RulePlace {
    pub(super) number: u32,
    pub(super) slot: RuleSlot,
    pub(super) endpoint: Endpoint,
    pub(super) outputs: Range<u32>,
    /// For each output of the rule its position in `outputs`.
    pub(super) order: Vec<u32>,
    /// Keeps the map of devices; none if another process has put the rule.
    pub(super) _fan: Option<Fan>,
}

/// Counters for each CPU.
type Tallies = PerCpuArray<TALLY_BYTES>;

/// The maps.
pub(super) struct SlotMaps {
    pub(super) slots: Array<MapData, SlotBytes>,
    outputs: Array<MapData, OutputBytes>,
    passed: Array<MapData, u64>,
    matched: PerCpuArray<TAKEN_BYTES>,
    spread: Tallies,
    handed: Tallies,
    rejected: Tallies,
    free_slots: FreeSlots,
    free_outputs: FreeOutputs,
    /// By slot: that of the last rule in it.
    generations: Vec<u16>,
}

impl RulePlace {
    /// The place of a rule that another process has put; its outputs are in the order of the map.
    pub(super) fn inherited(number: u32, slot: RuleSlot, endpoint: Endpoint) -> Self {
        let first = slot.links.iter().map(|link| link.first).min().unwrap_or_default();
        let count = slot.links.iter().map(|link| u32::from(link.count)).sum();
        let (outputs, order) = (first..first + count, (0..count).collect());
        Self { number, slot, endpoint, outputs, order, _fan: None }
    }
}

impl SlotMaps {
    /// Opens `slots`, `outputs` and `passed`, and of the counters `matched`, `spread`, `handed` and
    /// `rejected`. All places are free.
    pub(super) fn open(maps: [MapData; 3], counters: [OwnedFd; 4]) -> Result<Self> {
        let failed = refusal("opening a map");
        let [slots, outputs, passed] = maps;
        let [matched, counters @ ..] = counters;
        let slots = Array::try_from(Map::Array(slots)).map_err(&failed)?;
        let outputs = Array::try_from(Map::Array(outputs)).map_err(&failed)?;
        let matched = open_counters(matched);
        let [spread, handed, rejected] = counters.map(open_counters);
        let generations = (0..slots.len()).map(|number| {
            let bytes = slots.get(&number, 0).map_err(refusal("reading rules"))?;
            Ok(layout::read_slot(&bytes).generation)
        });
        Ok(Self {
            passed: Array::try_from(Map::Array(passed)).map_err(&failed)?,
            matched: matched?,
            spread: spread?,
            handed: handed?,
            rejected: rejected?,
            free_slots: FreeSlots::new(slots.len(), |_| false),
            free_outputs: FreeOutputs::new(outputs.len(), Vec::new()),
            generations: generations.collect::<Result<_>>()?,
            slots,
            outputs,
        })
    }

    /// Marks the places of rules that another process has put.
    pub(super) fn reserve(&mut self, places: &[RulePlace]) {
        let is_used = |number| places.iter().any(|place| place.number == number);
        let ranges = places.iter().map(|place| place.outputs.clone()).collect();
        self.free_slots = FreeSlots::new(self.slots.len(), is_used);
        self.free_outputs = FreeOutputs::new(self.outputs.len(), ranges);
    }

    /// Writes a rule to a free place, with its counters at zero.
    pub(super) fn write(&mut self, rule: &KernelRule, fan: Fan, mode: Mode) -> Result<RulePlace> {
        let full = || Error::Invalid("there is no room for more rules in the kernel".into());
        let count = u32::try_from(rule.outputs.len()).map_err(|_| full())?;
        let range = self.free_outputs.take(count).ok_or_else(full)?;
        let Some(number) = self.free_slots.take() else {
            self.free_outputs.put(range);
            return Err(full());
        };
        let (order, links) = arrange(&rule.outputs, range.start, &fan);
        let generation = &mut self.generations[number as usize];
        *generation = generation.wrapping_add(1);
        let slot = RuleSlot {
            generation: *generation,
            max_bytes: rule.max_bytes,
            min_ttl: rule.min_ttl(),
            mode,
            fan: fan.number(),
            cpu: rule.cpu,
            gate: u64::MAX,
            links,
        };
        let (endpoint, _fan) = (rule.endpoint, Some(fan));
        let place = RulePlace { number, slot, endpoint, outputs: range, order, _fan };
        let written = self.write_place(&place, rule);
        if written.is_err() {
            self.release(&place);
        }
        written.map(|()| place)
    }

    fn write_place(&mut self, place: &RulePlace, rule: &KernelRule) -> Result<()> {
        let failed = refusal("writing an output");
        for (output, offset) in rule.outputs.iter().zip(&place.order) {
            let at = place.outputs.start + offset;
            self.outputs.set(at, layout::output(output), 0).map_err(&failed)?;
            clear(&self.handed, at)?;
            clear(&self.rejected, at)?;
        }
        clear(&self.matched, place.number)?;
        clear(&self.spread, place.number)?;
        self.clear_gate(place)?;
        self.write_slot(place)
    }

    /// Writes the slot of a rule again.
    pub(super) fn write_slot(&mut self, place: &RulePlace) -> Result<()> {
        let bytes = layout::slot(&place.slot);
        self.slots.set(place.number, bytes, 0).map_err(refusal("writing a rule"))
    }

    /// Gives the places of a rule back.
    pub(super) fn release(&mut self, place: &RulePlace) {
        self.free_slots.put(place.number);
        self.free_outputs.put(place.outputs.clone());
    }

    /// Counts the frames that a gate holds back from zero.
    pub(super) fn clear_gate(&mut self, place: &RulePlace) -> Result<()> {
        self.passed.set(place.number, 0, 0).map_err(refusal("closing a gate"))
    }

    /// The frames that a gate has held back.
    pub(super) fn gate_count(&self, place: &RulePlace) -> Result<u64> {
        self.passed.get(&place.number, 0).map_err(refusal("reading a gate"))
    }

    /// How the sizes of the rule's datagrams follow each other.
    pub(super) fn observed(&self, place: &RulePlace) -> Result<Observed> {
        self.taken(place).map(|taken| taken.observed)
    }

    fn taken(&self, place: &RulePlace) -> Result<Taken> {
        let values = self.matched.get(place.number).map_err(refusal("reading counters"))?;
        Ok(layout::taken(values.iter()))
    }

    /// Reads in the order opposite to that of counting, so that no later count is larger.
    pub(super) fn counters(&self, place: &RulePlace) -> Result<RuleCounters> {
        let outputs = place.order.iter().map(|offset| {
            let at = place.outputs.start + offset;
            let rejected = read(&self.rejected, at)?;
            Ok(OutputCounters { handed: read(&self.handed, at)?, rejected })
        });
        let outputs = outputs.collect::<Result<_>>()?;
        let copied = read(&self.spread, place.number)?;
        let Taken { matched, last_seen_ns, last_source, observed } = self.taken(place)?;
        Ok(RuleCounters { matched, last_seen_ns, last_source, observed, copied, outputs })
    }
}

/// The outputs sorted by device: for each its position, and the devices.
fn arrange(outputs: &[KernelOutput], first: u32, fan: &Fan) -> (Vec<u32>, Vec<DeviceOutputs>) {
    let mut sorted: Vec<(u32, usize)> =
        outputs.iter().enumerate().map(|(at, output)| (output.ifindex, at)).collect();
    sorted.sort_unstable();
    let mut order = vec![0; outputs.len()];
    let mut links: Vec<DeviceOutputs> = Vec::new();
    for (position, (ifindex, at)) in (0..).zip(sorted) {
        order[at] = position;
        match links.last_mut().filter(|link| link.ifindex == ifindex) {
            Some(link) => link.count += 1,
            None => links.push(DeviceOutputs {
                ifindex,
                first: first + position,
                count: 1,
                device: fan.device(ifindex).unwrap_or_default(),
            }),
        }
    }
    (order, links)
}

fn open_counters<const N: usize>(map: OwnedFd) -> Result<PerCpuArray<N>> {
    PerCpuArray::open(map).map_err(refusal("opening counters"))
}

fn read(map: &Tallies, place: u32) -> Result<Volume> {
    let values = map.get(place).map_err(refusal("reading counters"))?;
    Ok(layout::volume(values.iter()))
}

fn clear<const N: usize>(map: &PerCpuArray<N>, place: u32) -> Result<()> {
    map.clear(place).map_err(refusal("clearing counters"))
}
