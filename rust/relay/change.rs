//! How a change goes from what a caller wants to what the engines follow: all of it, or nothing.
//! It must not know why a caller wants it, nor how sockets are opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::counters::slots::SlotChanges;
use super::error::ChangeError;
use super::rule_change::{Difference, RuleChange};
use super::state::{Opened, State};
use super::{Relay, Shared};
use crate::engine::ingress::OrderCheck;
use crate::error::{Error, Result};
use crate::spec::RuleSpec;

/// A change that is ready: all that it needs is open, and nothing is in use yet. Until it is
/// decided no other change is made, and the relay does not follow its interfaces.
pub struct Prepared<'a> {
    state: &'a State,
}

impl Prepared<'_> {
    /// The ids of the rules that run, in their order.
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.state.rules.keys().map(|id| &**id)
    }
}

impl Relay {
    /// Makes a change: all of it, or on an error nothing. Opens all that is new, asks `agreed`, and
    /// only then swaps; false when that says no, and then all is as it was before. When it
    /// returns, every engine follows the change. A rule whose interface is missing or down is
    /// taken, and waits for it.
    ///
    /// # Errors
    /// A rule that is put twice, or is to go and does not run; a missing right, a limit, or what
    /// the kernel refuses. `agreed` is asked only when nothing but an engine that ends can be in
    /// the way any more.
    pub fn apply(
        &self,
        change: &RuleChange<'_>,
        agreed: impl FnOnce(&Prepared<'_>) -> bool,
    ) -> std::result::Result<bool, ChangeError> {
        let shared = &*self.shared;
        let mut state = shared.state();
        let difference = Difference::of(change, &state.rules)?;
        shared.workers.can_adopt()?;
        let opened = shared.open(&mut state, &difference.add)?;
        if agreed(&Prepared { state: &state }) {
            shared.swap(&mut state, &difference, opened)?;
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
        let change = RuleChange { remove, put, whole: false };
        self.apply(&change, |_| true).map(drop).map_err(|refusal| refusal.error)
    }

    /// Enables or disables a rule. What only disabled rules would have taken is counted on the
    /// interface as `disabled`.
    ///
    /// # Errors
    /// An unknown id, or an engine that has ended.
    pub fn set_enabled(&self, id: &str, enabled: bool) -> Result<()> {
        let shared = &*self.shared;
        let mut state = shared.state();
        let Some((id, _)) = state.rules.get_key_value(id) else {
            return Err(Error::Invalid(format!("there is no rule with the id {id:?}")));
        };
        let enable = vec![(id.clone(), enabled)];
        shared.workers.can_adopt()?;
        shared.swap(&mut state, &Difference { enable, ..Difference::default() }, Opened::default())
    }

    /// All rules are in that a relay before this one had: what it has counted for others is
    /// forgotten, and what it held of an opener that outlives relays, and this one has not asked
    /// for, is closed.
    ///
    /// # Errors
    /// An engine has ended, or the opener does not answer.
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
    /// Opens all that new rules need; on an error everything is as before.
    fn open(
        &self,
        state: &mut State,
        add: &[&RuleSpec],
    ) -> std::result::Result<Opened, ChangeError> {
        state.reserve(add)?;
        let watch = self.links.watch();
        watch.now()?;
        watch.query_names(&add.iter().flat_map(|spec| spec.interfaces()).cloned().collect());
        let links = watch.latest();
        // An interface that was made anew has one index; the thread opens anew what this closes.
        if !Arc::ptr_eq(&links, &state.checked_links) {
            state.has_stale_plans |= state.detach(&links, |_, _| false);
            state.checked_links = links.clone();
        }
        let opened = state.open(add, &self.context(&links));
        if watch.has_changes() {
            self.links.wake();
        }
        opened
    }

    /// Takes in what is open, gives up what goes, and has the engines follow.
    fn swap(&self, state: &mut State, difference: &Difference<'_>, opened: Opened) -> Result<()> {
        let mut owners = SlotChanges { granted: opened.slots, released: Vec::new() };
        let removed = state.remove_rules(&difference.remove, &mut owners.released);
        let before = state.set_enabled(&difference.enable);
        let added = state.insert_rules(opened.rules);
        state.apply_inputs();
        let slot_changes = state.take_slot_changes();
        owners.granted.extend(slot_changes.granted);
        owners.released.extend(slot_changes.released);
        if let Err(error) = self.follow_plans(state, owners) {
            // An engine has ended, and all it counted is kept for who reads it.
            for id in &added {
                state.rules.remove(id);
            }
            state.touched.extend(added);
            state.touched.extend(removed.iter().map(|rule| rule.id.clone()));
            state.rules.extend(removed.into_iter().map(|rule| (rule.id.clone(), rule)));
            state.set_enabled(&before);
            return Err(error);
        }
        if added.iter().any(|id| state.rules[id].order != OrderCheck::Nothing) {
            self.links.watch().announce();
            self.links.wake();
        }
        Ok(())
    }

    /// Has the engines follow what is open now; the slots that go are free then.
    pub(super) fn follow_plans(&self, state: &mut State, owners: SlotChanges) -> Result<()> {
        let touched = std::mem::take(&mut state.touched);
        let workers = self.settings.workers;
        self.workers.adopt(self.plans().compile(state, touched, workers, &owners))?;
        self.version.fetch_add(1, Ordering::Release);
        for slot in owners.released {
            state.slots.free(slot);
        }
        Ok(())
    }
}
