//! The programs that are attached to the interfaces of inputs: to each with a rule that the kernel
//! may relay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::reason::EngineReason;
use crate::error::Error;
use crate::offload::{Attachment, KernelOpener};
use crate::sockets::InterfaceRef;

/// After a refusal attaching is tried again after the first pause, which doubles up to the second.
const PAUSES: [Duration; 2] = [Duration::from_millis(900), Duration::from_secs(8)];

/// The attachments by the index of the interface.
#[derive(Default)]
pub(super) struct InputHooks {
    hooks: BTreeMap<u32, Attachment>,
    refusals: BTreeMap<u32, HookRefusal>,
}

struct HookRefusal {
    reason: EngineReason,
    pause: Duration,
    until: Instant,
}

impl InputHooks {
    /// Attaches the programs to an interface, unless they are.
    ///
    /// # Errors
    /// Why not, now or at the last attempt.
    pub(super) fn open(
        &mut self,
        interface: InterfaceRef<'_>,
        opener: &dyn KernelOpener,
    ) -> Result<(), EngineReason> {
        let index = interface.index;
        if self.hooks.contains_key(&index) {
            return Ok(());
        }
        let now = Instant::now();
        let before = self.refusals.get(&index);
        if let Some(refusal) = before.filter(|refusal| now < refusal.until) {
            return Err(refusal.reason.clone());
        }
        match opener.attach(interface) {
            Ok(hook) => {
                self.refusals.remove(&index);
                self.hooks.insert(index, hook);
                Ok(())
            }
            Err(error) => {
                let [first, longest] = PAUSES;
                let pause = before.map_or(first, |refusal| longest.min(2 * refusal.pause));
                let reason = match error {
                    Error::Permission(right) => EngineReason::Rights(right),
                    other => EngineReason::Hook(other.to_string()),
                };
                let refusal = HookRefusal { reason: reason.clone(), pause, until: now + pause };
                self.refusals.insert(index, refusal);
                Err(reason)
            }
        }
    }

    /// Forgets interfaces that were deleted.
    pub(super) fn forget(&mut self, deleted: &BTreeSet<u32>) {
        self.retain(|index| !deleted.contains(&index));
    }

    /// Detaches the programs from all other interfaces.
    pub(super) fn retain(&mut self, is_used: impl Fn(u32) -> bool) {
        self.hooks.retain(|index, _| is_used(*index));
        self.refusals.retain(|index, _| is_used(*index));
    }

    /// Leaves the attachments to the process that a forked one was copied from.
    pub(super) fn disown(&mut self) {
        std::mem::take(&mut self.hooks).into_values().for_each(std::mem::forget);
    }
}
