//! The programs and maps in the kernel, and what needs rights: loading, attaching, naming devices
//! and CPUs. Everything ends with the value.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::xdp::CpuMap;
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::{BtfTracePoint, ProgramFd, Xdp};
use aya::{Btf, Ebpf, EbpfLoader, Pod};

use super::counters::{CopyRefusal, Pass};
use super::fans::{Fan, Fans, Shape};
use super::hook::{Hook, HookMode};
use super::layout::{self, TallyBytes};
use super::refusal::{refusal, uninterrupted};
use super::rule::Volume;
use super::table::KernelTable;
use crate::error::Result;
use crate::sockets::{InterfaceRef, socket};

/// Built from `bpf/` by `make bpf`.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/relay.bpf.o"));

/// Frames that wait for another CPU: as many as the ring of a card, and with 64 outputs each not more
/// than are copied in a fraction of a second.
const CPU_QUEUE_FRAMES: u32 = 2048;

/// The sizes of the maps. They are allocated as a whole; an output takes 56 bytes, and 32 more for
/// each CPU.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rules at a time. As many again are reserved for changes.
    pub rules: u16,
    /// Outputs of all rules, those of replaced rules included.
    pub outputs: u32,
    /// Listed senders of all rules.
    pub senders: u32,
    /// Different counts of outputs by device ([`Fan`]).
    pub fans: u32,
    /// Devices of all outputs.
    pub devices: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rules: 2048, outputs: 16_384, senders: 16_384, fans: 1024, devices: 256 }
    }
}

/// The programs in the kernel.
pub struct Programs {
    fans: Fans,
    cpus: CpuMap<MapData>,
    /// Those that have a queue.
    added_cpus: BTreeSet<u32>,
    copier: ProgramFd,
    /// Duplicates of the maps that a [`KernelTable`] writes and reads.
    tables: Vec<OwnedFd>,
    passes: PerCpuArray<MapData, u64>,
    refusals: PerCpuArray<MapData, u64>,
    overflows: PerCpuArray<MapData, u64>,
    transmissions: PerCpuArray<MapData, TallyBytes>,
    input: ProgramFd,
    /// Owns the programs and the attachments to the tracepoints.
    _object: Ebpf,
}

impl Programs {
    /// Loads them into the kernel, for devices of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`crate::error::Error::Permission`] without CAP_BPF and CAP_NET_ADMIN;
    /// [`crate::error::Error::Os`] without CAP_PERFMON (EACCES), or if the kernel lacks a facility
    /// or its type information (BTF).
    pub fn load(limits: Limits) -> Result<Self> {
        let btf = Btf::from_sys_fs().map_err(refusal("reading the kernel's types"))?;
        let cookie = socket::namespace_cookie()?;
        let mut object = size(&mut EbpfLoader::new(), limits)
            .btf(Some(&btf))
            .override_global("namespace_cookie", &cookie, true)
            .load(OBJECT)
            .map_err(refusal("loading the programs"))?;
        let [input, copier, rewriter] = [
            load_xdp(&mut object, "relay")?,
            load_xdp(&mut object, "copy")?,
            load_xdp(&mut object, "leave")?,
        ];
        for (program, tracepoint) in
            [("account", "xdp_devmap_xmit"), ("overflow", "xdp_cpumap_enqueue")]
        {
            trace(&mut object, program, tracepoint, &btf)?;
        }
        let fans = Fans::new(
            take(&mut object, "fans")?.try_into().map_err(refusal("opening a map"))?,
            take(&mut object, "devices")?.try_into().map_err(refusal("opening a map"))?,
            rewriter,
            limits.devices,
        );
        let cpus = take(&mut object, "cpus")?;
        let Map::CpuMap(data) = &cpus else { return Err(missing("cpus")) };
        let id = data.info().map_err(refusal("reading a map's identifier"))?.id();
        let mut own: Array<MapData, u32> =
            take(&mut object, "own")?.try_into().map_err(refusal("opening a map"))?;
        own.set(0, id, 0).map_err(refusal("writing a map's identifier"))?;
        Ok(Self {
            fans,
            cpus: cpus.try_into().map_err(refusal("opening a map"))?,
            added_cpus: BTreeSet::new(),
            copier,
            tables: KernelTable::MAPS
                .iter()
                .map(|name| duplicate(&object, name))
                .collect::<Result<_>>()?,
            passes: counters(&mut object, "passes")?,
            refusals: counters(&mut object, "refusals")?,
            overflows: counters(&mut object, "overflows")?,
            transmissions: counters(&mut object, "transmissions")?,
            input,
            _object: object,
        })
    }

    /// Descriptors of the maps for [`KernelTable::open`], which may be in a process without any
    /// right. They allow to change rules and outputs and to read their counters; not to attach
    /// programs, nor to send on a device that no [`Fan`] has.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if no descriptor is left.
    pub fn descriptors(&self) -> Result<Vec<OwnedFd>> {
        let cloned = self.tables.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>();
        cloned.map_err(refusal("duplicating descriptors"))
    }

    /// Attaches to an input's interface, where no other program may be.
    ///
    /// # Errors
    /// [`crate::error::Error::Invalid`] if another program is attached, or if the interface merges
    /// frames before the program sees them; [`crate::error::Error::Permission`];
    /// [`crate::error::Error::Os`] if the driver refuses.
    pub fn attach(&self, interface: InterfaceRef<'_>, mode: HookMode) -> Result<Hook> {
        Hook::attach(self.input.as_fd(), interface, mode)
    }

    /// The devices of a rule's outputs ([`super::KernelRule::shape`]), to put the rule with.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if a device does not exist; [`crate::error::Error::Invalid`] if
    /// there are too many.
    pub fn fan(&mut self, shape: &Shape) -> Result<Fan> {
        self.fans.fan(shape)
    }

    /// Lets a CPU make copies for rules that name it. Frames of a flow stay in order. Nothing
    /// happens at another call: it would replace the queue, and later frames overtake those in it.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if it does not exist.
    pub fn add_cpu(&mut self, cpu: u32) -> Result<()> {
        if !self.added_cpus.contains(&cpu) {
            let set = self.cpus.set(cpu, CPU_QUEUE_FRAMES, Some(&self.copier), 0);
            set.map_err(refusal("adding a CPU"))?;
            self.added_cpus.insert(cpu);
        }
        Ok(())
    }

    /// How many frames went on to the network stack for this reason.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`], the kernel's.
    pub fn passed(&self, reason: Pass) -> Result<u64> {
        sum(&self.passes, reason as u32)
    }

    /// How many copies were not handed to their device for this reason.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`], the kernel's.
    pub fn refused(&self, reason: CopyRefusal) -> Result<u64> {
        sum(&self.refusals, reason as u32)
    }

    /// How many frames the queues of other CPUs have lost.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`], the kernel's.
    pub fn overflowed(&self) -> Result<u64> {
        sum(&self.overflows, 0)
    }

    /// What a device of outputs has accepted, and what it has not, in frames.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`], the kernel's.
    pub fn transmitted(&self, fan: &Fan, ifindex: u32) -> Result<(u64, u64)> {
        let Some(device) = fan.device(ifindex) else { return Ok((0, 0)) };
        let values = self.transmissions.get(&device.into(), 0);
        let values = values.map_err(refusal("reading counters"))?;
        let Volume { datagrams: sent, bytes: rejected } = layout::volume(values.iter());
        Ok((sent, rejected))
    }
}

/// Gives the maps their sizes.
fn size<'a, 'b>(loader: &'b mut EbpfLoader<'a>, limits: Limits) -> &'b mut EbpfLoader<'a> {
    // While rules are changed, the replaced ones still have their places.
    let slots = 2 * u32::from(limits.rules);
    for map in ["slots", "endpoints", "passed", "drained", "matched", "spread", "last_copied"] {
        loader.map_max_entries(map, slots);
    }
    for map in ["outputs", "handed", "rejected"] {
        loader.map_max_entries(map, limits.outputs);
    }
    for map in ["devices", "places", "transmissions"] {
        loader.map_max_entries(map, limits.devices.into());
    }
    let cpus = aya::util::nr_cpus().map_or(1, |count| u32::try_from(count).unwrap_or(1));
    for map in ["cpus", "handed_to", "copied_for"] {
        loader.map_max_entries(map, cpus);
    }
    loader
        .map_max_entries("senders", 2 * limits.senders.max(1))
        .map_max_entries("fans", limits.fans)
}

fn load_xdp(object: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let program = object.program_mut(name).ok_or_else(|| missing(name))?;
    let program: &mut Xdp = program.try_into().map_err(refusal("opening a program"))?;
    uninterrupted(|| program.load()).map_err(refusal("loading an XDP program"))?;
    let fd = program.fd().map_err(refusal("loading an XDP program"))?;
    fd.try_clone().map_err(refusal("duplicating a descriptor"))
}

fn trace(object: &mut Ebpf, name: &str, tracepoint: &str, btf: &Btf) -> Result<()> {
    let program = object.program_mut(name).ok_or_else(|| missing(name))?;
    let program: &mut BtfTracePoint = program.try_into().map_err(refusal("opening a program"))?;
    uninterrupted(|| program.load(tracepoint, btf))
        .map_err(refusal("loading a program for a tracepoint"))?;
    program.attach().map_err(refusal("attaching to a tracepoint")).map(drop)
}

fn take(object: &mut Ebpf, name: &str) -> Result<Map> {
    object.take_map(name).ok_or_else(|| missing(name))
}

fn counters<V: Pod>(object: &mut Ebpf, name: &str) -> Result<PerCpuArray<MapData, V>> {
    take(object, name)?.try_into().map_err(refusal("opening a map"))
}

/// A descriptor of a map that stays in the object.
fn duplicate(object: &Ebpf, name: &str) -> Result<OwnedFd> {
    let map = object.map(name);
    let Some(Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data)) = map else {
        return Err(missing(name));
    };
    let fd = data.fd().as_fd().try_clone_to_owned();
    fd.map_err(refusal("duplicating a descriptor"))
}

fn sum(map: &PerCpuArray<MapData, u64>, place: u32) -> Result<u64> {
    let values = map.get(&place, 0).map_err(refusal("reading counters"))?;
    Ok(values.iter().sum())
}

fn missing(name: &str) -> crate::error::Error {
    crate::error::Error::Invalid(format!("the object of the programs has no `{name}`"))
}

/// What the kernel calls the calling thread's network namespace.
#[cfg(test)]
impl Programs {
    /// Runs the program for this many frames as if a driver had received them in batches of 64.
    /// Each batch is a call: between two batches of one call the kernel gives up if a signal waits,
    /// and does not say how many it has run (`bpf_test_timer_continue`).
    pub(super) fn receive(&self, ifindex: u32, frame: &[u8], count: u32) {
        use aya::programs::{Program, TestRun, TestRunAttrs, TestRunOptions};
        const BATCH: u32 = 64;
        let Some(Program::Xdp(program)) = self._object.program("relay") else { unreachable!() };
        let length = u32::try_from(frame.len()).unwrap();
        // `struct xdp_md`
        let context = [0, length, 0, ifindex, 0, 0].map(u32::to_ne_bytes).concat();
        for first in (0..count).step_by(BATCH as usize) {
            let batch = BATCH.min(count - first);
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.ctx_in = Some(&context);
            options.repeat = batch;
            options.attrs = TestRunAttrs::new().xdp_live_frames(batch);
            program.test_run(options).unwrap();
        }
    }
}
