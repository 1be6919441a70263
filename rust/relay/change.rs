//! Applies a change of the rules, from the request of a caller to the plans of the engines: all of
//! it or nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::counters::slots::SlotChanges;
use super::error::ChangeError;
use super::kept_outputs::KeptOutputs;
use super::live::LiveRule;
use super::rule_change::{Difference, RuleChange};
use super::state::{Opened, State};
use super::{Relay, Shared};
use crate::engine::ingress::OrderCheck;
use crate::error::Result;
use crate::spec::{RuleSpec, rule_of_leg};

/// A prepared change: all its sockets are open and none is in use. Until the caller decides, no
/// other change is made, and the relay does not follow its interfaces.
pub struct Prepared<'a> {
    state: &'a State,
}

impl Prepared<'_> {
    /// The ids of the current rules, sorted.
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.state.rules.keys().map(|id| &**id).filter(|id| rule_of_leg(id) == *id)
    }
}

impl Relay {
    /// Applies a change: all of it, or on an error nothing. Opens all new sockets, calls `agreed`,
    /// and swaps the plans of all engines only if that returns true; else everything is as before,
    /// and the result is false. On return every engine uses the new plans. A rule whose interface
    /// is missing or down is accepted, and waits for it.
    ///
    /// # Errors
    /// A rule that is put twice, an unknown id to remove; a missing privilege, a limit, or another
    /// error of the kernel. After `agreed` was called, only an engine that has ended can prevent
    /// the change.
    pub fn apply(
        &self,
        change: &RuleChange<'_>,
        agreed: impl FnOnce(&Prepared<'_>) -> bool,
    ) -> std::result::Result<bool, ChangeError> {
        let shared = &*self.shared;
        let mut state = shared.state();
        let difference = Difference::of(change, &state.rules)?;
        shared.workers.can_adopt()?;
        #[cfg(feature = "offload")]
        let known = state.inputs.all_source_ids();
        let opened = shared.open(&mut state, &difference)?;
        if agreed(&Prepared { state: &state }) {
            let links = state.checked_links.clone();
            let before = difference.shaping.map(|spec| state.shaping.replace(spec, &links));
            #[cfg(feature = "offload")]
            let opened = shared.place(&mut state, &difference, opened, &known);
            if let Err(error) = shared.swap(&mut state, &difference, opened) {
                if let Some(before) = before {
                    state.shaping.replace(&before, &links);
                }
                return Err(error.into());
            }
            #[cfg(feature = "offload")]
            shared.follow_placed(&mut state)?;
            return Ok(true);
        }
        state.undo(opened);
        Ok(false)
    }

    /// Removes rules by their ids, and adds or replaces others, as [`Relay::apply`] does.
    ///
    /// # Errors
    /// As [`Relay::apply`].
    pub fn change(&self, remove: &[String], put: &[RuleSpec]) -> Result<()> {
        let change = RuleChange { remove, put, ..RuleChange::default() };
        self.apply(&change, |_| true).map(drop).map_err(|refusal| refusal.error)
    }

    /// Ends the takeover from an earlier relay, once this one has all of its rules: counters and
    /// sockets of that relay which this one has not claimed are released.
    ///
    /// # Errors
    /// An engine has ended, or the socket provider does not answer.
    pub fn settle(&self) -> Result<()> {
        let mut state = self.shared.state();
        let released = state.slots.release_unclaimed();
        if !released.is_empty() {
            self.shared.follow_plans(&mut state, SlotChanges { granted: Vec::new(), released })?;
        }
        self.shared.provider.release_unclaimed()
    }
}

impl Shared {
    /// Opens all sockets that new rules need. After an error nothing has changed.
    fn open(
        &self,
        state: &mut State,
        difference: &Difference<'_>,
    ) -> std::result::Result<Opened, ChangeError> {
        let add = &*difference.add;
        state.reserve(add)?;
        let watch = self.links.watch();
        watch.now()?;
        watch.query_names(&add.iter().flat_map(|spec| spec.interfaces()).cloned().collect());
        let links = watch.latest();
        // Closes the inputs of recreated interfaces; the watcher's thread reopens them.
        if !Arc::ptr_eq(&links, &state.checked_links) {
            state.has_stale_plans |= state.detach(&links, |_, _| false);
            state.checked_links = links.clone();
        }
        let context = self.context(&links);
        let opened = state.open(difference, &context);
        #[cfg(feature = "offload")]
        let opened =
            opened.and_then(|opened| match state.check_offload(&opened, difference, &context) {
                Ok(()) => Ok(opened),
                Err(refusal) => {
                    state.undo(opened);
                    Err(refusal)
                }
            });
        if watch.has_changes() {
            self.links.wake();
        }
        opened
    }

    /// Adds the opened rules, removes the old ones, and passes new plans to the engines.
    fn swap(&self, state: &mut State, difference: &Difference<'_>, opened: Opened) -> Result<()> {
        let mut owners = SlotChanges { granted: opened.slots, released: Vec::new() };
        let removed = state.remove_rules(&difference.remove, &mut owners.released);
        let before = state.set_enabled(&difference.enable);
        KeptOutputs::keep_slots(&opened.rules, &mut owners.released);
        let added = state.insert_rules(opened.rules);
        state.apply_inputs();
        if !removed.is_empty() {
            state.close_unused_links();
        }
        let slot_changes = state.take_slot_changes();
        owners.granted.extend(slot_changes.granted);
        owners.released.extend(slot_changes.released);
        if let Err(error) = self.follow_plans(state, owners) {
            // An engine has ended. The old rules return, so that their counters can still be read.
            for id in &added {
                state.rules.remove(id);
            }
            state.touched.extend(added);
            state.touched.extend(removed.iter().map(|rule| rule.id.clone()));
            state.rules.extend(removed.into_iter().map(|rule| (rule.id.clone(), rule)));
            state.set_enabled(&before);
            return Err(error);
        }
        let is_followed = |rule: &LiveRule| {
            rule.order != OrderCheck::Nothing || rule.may_use_xdp(self.settings.egress)
        };
        if !state.is_polling && added.iter().any(|id| is_followed(&state.rules[id])) {
            self.links.watch().announce();
            self.links.wake();
        }
        Ok(())
    }

    /// Passes plans for the current state to the engines, then frees the released slots.
    pub(super) fn follow_plans(&self, state: &mut State, owners: SlotChanges) -> Result<()> {
        let touched = (std::mem::take(&mut state.touched), state.shaping.take_is_new());
        let workers = self.settings.workers;
        self.workers.adopt(self.plans().compile(state, touched, workers, &owners))?;
        self.version.fetch_add(1, Ordering::Release);
        for slot in owners.released {
            state.slots.free(slot);
        }
        Ok(())
    }
}
