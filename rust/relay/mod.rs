//! The cold side of a relay: it opens sockets, compiles plans, hands them to the engines, and
//! reads what they count. All of it happens in the calling thread, with its rights and in its
//! network namespace; the engines' threads only use what they are handed.

mod inputs;
mod interface;
mod links;
mod report;
mod slots;
mod worker;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::open::output::{self, OutputSpec};
use crate::open::packet;
use crate::plan::{Plan, PlanOutput, PlanRule};
use crate::rules::{InputKey, Table, TableRule};
use crate::stats::Slot;
use inputs::Inputs;
use links::{Carrier, Links};
pub use report::{InterfaceReport, OutputReport, Report, RuleReport};
use slots::Slots;
use worker::Workers;

/// Where datagrams are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// Frames of an interface, by AF_PACKET; needs CAP_NET_RAW.
    Packet,
    /// Ordinary joined UDP sockets; needs nothing.
    Udp,
}

impl Ingress {
    /// `Packet` where this thread may open such a socket, else `Udp`.
    #[must_use]
    pub fn permitted() -> Self {
        if packet::is_permitted() { Self::Packet } else { Self::Udp }
    }

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Udp => "udp",
        }
    }
}

/// Where a rule listens, resolved for this host.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// The group, or an address of this host.
    pub group: Addr,
    /// The destination port.
    pub port: u16,
    /// The interface's name.
    pub interface: String,
    /// The interface's index.
    pub ifindex: u32,
    /// The senders to take datagrams from; empty for any.
    pub sources: Box<[Addr]>,
    /// The VLAN identifier; 0 for untagged frames.
    pub vlan: u16,
}

/// A rule, resolved for this host.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    /// Where it listens.
    pub input: InputSpec,
    /// Where each datagram goes.
    pub outputs: Vec<OutputSpec>,
}

/// How a relay is set up, for its whole life.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where datagrams are taken from.
    pub ingress: Ingress,
    /// How many engines, each a thread.
    pub workers: u16,
    /// Bytes for the receive buffers of one engine.
    pub buffer_bytes: usize,
}

/// A relay of this process.
pub struct Relay {
    settings: Settings,
    state: Mutex<State>,
    links: Links,
    workers: Workers,
}

struct State {
    rules: BTreeMap<u32, LiveRule>,
    next_key: u32,
    inputs: Inputs,
    slots: Slots,
    /// The counters of what was seen of each (interface, group) that no rule took.
    groups: BTreeMap<(u32, Addr), Slot>,
    warnings: Vec<String>,
}

struct LiveRule {
    input: InputSpec,
    slot: Slot,
    outputs: Vec<LiveOutput>,
}

struct LiveOutput {
    fd: Arc<OwnedFd>,
    slot: Slot,
    max_segment: u16,
    carrier: Option<Carrier>,
}

impl Relay {
    /// A relay without rules. Its engines begin with [`Relay::start`].
    ///
    /// # Errors
    /// No memory or descriptors for the counters.
    pub fn new(settings: Settings) -> Result<Self> {
        let state = State {
            rules: BTreeMap::new(),
            next_key: 1,
            inputs: Inputs::new(&settings),
            slots: Slots::new(),
            groups: BTreeMap::new(),
            warnings: Vec::new(),
        };
        let workers = Workers::new(settings)?;
        Ok(Self { settings, state: Mutex::new(state), links: Links::new(), workers })
    }

    /// Where this relay takes datagrams from.
    #[must_use]
    pub fn ingress(&self) -> Ingress {
        self.settings.ingress
    }

    /// Removes and adds rules as one change: all of it, or on an error nothing. Says the keys of
    /// the rules that were added; when it returns, every engine follows the change.
    ///
    /// # Errors
    /// An unknown key, a missing right, or what the kernel refuses.
    pub fn change(&self, remove: &[u32], add: &[RuleSpec]) -> Result<Vec<u32>> {
        let mut state = self.state();
        if let Some(key) = remove.iter().find(|key| !state.rules.contains_key(key)) {
            return Err(Error::Invalid(format!("there is no rule with the key {key}")));
        }
        self.workers.can_adopt()?;
        let opened = state.open(add, &self.links)?;
        let mut freed = Vec::new();
        let removed = state.take_out(remove, &mut freed);
        let mut resets = opened.slots;
        let keys: Vec<u32> = (state.next_key..).take(opened.rules.len()).collect();
        state.next_key += u32::try_from(keys.len()).unwrap_or(0);
        state.rules.extend(keys.iter().copied().zip(opened.rules));
        state.forget_groups(&mut freed);
        state.settle_inputs();
        resets.extend(state.inputs.take_new_slots());
        let plans = state.compile(self.settings.workers, &resets);
        if let Err(error) = self.workers.adopt(plans) {
            // An engine has ended, and all it counted is kept for who reads it.
            state.rules.retain(|key, _| !keys.contains(key));
            state.rules.extend(removed);
            return Err(error);
        }
        for slot in freed {
            state.slots.free(slot);
        }
        Ok(keys)
    }

    /// Starts the engines, each in a thread of its own.
    ///
    /// # Errors
    /// [`Error::Permission`] where io_uring is refused.
    pub fn start(&self) -> Result<()> {
        self.workers.start()?;
        self.links.start()
    }

    /// Ends the engines: what they have received is sent first. Does nothing the second time.
    pub fn stop(&self) {
        self.workers.stop();
        self.links.stop();
    }

    /// Waits until the engines have ended; false when `timeout` was over before.
    ///
    /// # Errors
    /// [`Error::Engine`] with what ended them, unless it was [`Relay::stop`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.workers.wait(timeout)
    }

    /// What ended the engines, unless it was [`Relay::stop`].
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.workers.error()
    }

    /// What the user should know of the set-up, each in one sentence.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let state = self.state();
        let set_up = state.inputs.warnings().iter().chain(&state.warnings).cloned();
        set_up.chain(self.links.failure()).collect()
    }

    /// The counters.
    #[must_use]
    pub fn report(&self) -> Report {
        report::read(&self.state(), &self.workers.pages())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a change has opened; nothing of it is in use yet.
struct Opened {
    rules: Vec<LiveRule>,
    slots: Vec<Slot>,
}

impl State {
    /// Opens all that new rules need. On an error everything is as before.
    fn open(&mut self, add: &[RuleSpec], links: &Links) -> Result<Opened> {
        let mut opened = Opened { rules: Vec::with_capacity(add.len()), slots: Vec::new() };
        let result = add.iter().try_for_each(|spec| self.open_rule(spec, links, &mut opened));
        let result = result.and_then(|()| self.inputs.settle());
        if let Err(error) = result {
            for rule in &opened.rules {
                self.inputs.remove(&rule.input);
            }
            self.settle_inputs();
            self.groups.retain(|_, slot| !opened.slots.contains(slot));
            for slot in opened.slots.into_iter().chain(self.inputs.forget_new()) {
                self.slots.free(slot);
            }
            return Err(error);
        }
        Ok(opened)
    }

    fn open_rule(&mut self, spec: &RuleSpec, links: &Links, opened: &mut Opened) -> Result<()> {
        let mut outputs = Vec::with_capacity(spec.outputs.len());
        for output in &spec.outputs {
            outputs.push(self.open_output(output, links, opened)?);
        }
        let slot = self.take_slot(opened)?;
        if !self.groups.contains_key(&group_of(&spec.input)) {
            let slot = self.take_slot(opened)?;
            self.groups.insert(group_of(&spec.input), slot);
        }
        self.inputs.add(&spec.input, &mut self.slots)?;
        opened.rules.push(LiveRule { input: spec.input.clone(), slot, outputs });
        Ok(())
    }

    fn open_output(
        &mut self,
        spec: &OutputSpec,
        links: &Links,
        opened: &mut Opened,
    ) -> Result<LiveOutput> {
        let socket = output::open(spec)?;
        if socket.send_buffer_bytes < output::SEND_BUFFER_BYTES {
            warn_once(
                &mut self.warnings,
                format!(
                    "the send buffer is {} KiB instead of {}: raise net.core.wmem_max or start as root",
                    socket.send_buffer_bytes / 1024,
                    output::SEND_BUFFER_BYTES / 1024,
                ),
            );
        }
        // Where routing leads may change; only an interface of the output's own is watched.
        let carrier = if spec.ifindex == 0 { None } else { links.carrier(spec.ifindex)? };
        if carrier.as_ref().is_some_and(|carrier| !carrier.load(Ordering::Relaxed)) {
            let text = "has no carrier: until it has, copies to it are dropped as no_carrier";
            warn_once(&mut self.warnings, format!("{} {text}", spec.interface));
        }
        let slot = self.take_slot(opened)?;
        Ok(LiveOutput { fd: Arc::new(socket.fd), slot, max_segment: socket.max_segment, carrier })
    }

    fn take_slot(&mut self, opened: &mut Opened) -> Result<Slot> {
        let slot = self.slots.take()?;
        opened.slots.push(slot);
        Ok(slot)
    }

    /// Takes rules out and gives up their inputs; their slots are free once no plan has them.
    fn take_out(&mut self, keys: &[u32], freed: &mut Vec<Slot>) -> Vec<(u32, LiveRule)> {
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(rule) = self.rules.remove(key) {
                self.inputs.remove(&rule.input);
                freed.push(rule.slot);
                freed.extend(rule.outputs.iter().map(|output| output.slot));
                removed.push((*key, rule));
            }
        }
        removed
    }

    /// Narrows filters and closes what no rule needs any more. A refusal leaves a filter wider
    /// than it need be, which costs time but loses nothing.
    fn settle_inputs(&mut self) {
        if let Err(error) = self.inputs.settle() {
            warn_once(&mut self.warnings, error.to_string());
        }
    }

    /// Gives up the counters of groups that no rule names any more.
    fn forget_groups(&mut self, freed: &mut Vec<Slot>) {
        let rules = self.rules.values();
        let wanted: HashSet<_> = rules.map(|rule| group_of(&rule.input)).collect();
        self.groups.retain(|group, slot| {
            let is_wanted = wanted.contains(group);
            if !is_wanted {
                freed.push(*slot);
            }
            is_wanted
        });
    }

    /// One plan for each worker.
    fn compile(&self, workers: u16, resets: &[Slot]) -> Vec<Plan> {
        let rules: Vec<TableRule> = self.rules.values().map(LiveRule::table_rule).collect();
        let table = Arc::new(Table::compile(&rules));
        (0..workers).map(|worker| self.plan(worker, &table, resets)).collect()
    }

    fn plan(&self, worker: u16, table: &Arc<Table>, resets: &[Slot]) -> Plan {
        let mut groups = vec![0; table.groups()];
        let mut rules = Vec::with_capacity(self.rules.len());
        let mut outputs = Vec::new();
        for (number, rule) in (0..).zip(self.rules.values()) {
            if let Some(slot) = self.groups.get(&group_of(&rule.input)) {
                groups[table.group_of(number) as usize] = slot.index;
            }
            let first = outputs.len();
            outputs.extend(rule.outputs.iter().map(LiveOutput::plan));
            rules.push(PlanRule { slot: rule.slot.index, outputs: first..outputs.len() });
        }
        Plan {
            sources: self.inputs.sources(worker),
            table: table.clone(),
            rules: rules.into(),
            outputs: outputs.into(),
            groups: groups.into(),
            resets: resets.to_vec(),
        }
    }
}

impl LiveRule {
    fn table_rule(&self) -> TableRule {
        let InputSpec { group, port, ifindex, sources, vlan, .. } = &self.input;
        let input = InputKey { interface: *ifindex, vlan: *vlan, group: *group, port: *port };
        TableRule { input, sources: sources.clone() }
    }
}

impl LiveOutput {
    fn plan(&self) -> PlanOutput {
        PlanOutput {
            fd: self.fd.clone(),
            slot: self.slot,
            max_segment: self.max_segment,
            carrier: self.carrier.clone(),
        }
    }
}

/// The interface and group that a rule's input names.
fn group_of(input: &InputSpec) -> (u32, Addr) {
    (input.ifindex, input.group)
}

/// Keeps a warning, unless it has been given already.
fn warn_once(warnings: &mut Vec<String>, warning: String) {
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}

#[cfg(test)]
mod tests;
