//! How a change goes from what a caller wants to what the engines follow: all of it, or nothing.
//! It must not know why a caller wants it, nor how sockets are opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::counters::report::{self, Report};
use super::counters::slots::SlotChanges;
use super::error::ChangeError;
use super::live::LiveRule;
use super::state::{Opened, State};
use super::{Relay, Shared};
use crate::engine::ingress::OrderCheck;
use crate::error::Result;
use crate::spec::RuleSpec;

/// What a change does, by the keys that [`Relay::change`] gave the rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// Rules that go.
    pub remove: &'a [u32],
    /// Rules that come.
    pub add: &'a [RuleSpec],
    /// Rules that take what comes from now on (true), or nothing (false). Their sockets stay open,
    /// and their counters stay.
    pub enable: &'a [(u32, bool)],
}

/// A change that is ready: all that it needs is open, and nothing is in use yet. Until it is
/// decided no other change is made, and the relay does not follow its interfaces.
pub struct Prepared<'a> {
    shared: &'a Shared,
    state: &'a State,
}

impl Prepared<'_> {
    /// The counters, which [`Relay::report`] would wait for.
    #[must_use]
    pub fn report(&self) -> Report {
        let links = self.shared.links.watch().latest();
        report::read(self.state, &links, &self.shared.workers.pages())
    }
}

impl Relay {
    /// Removes and adds rules as one change: all of it, or on an error nothing. Says the keys of
    /// the rules that were added; when it returns, every engine follows the change. A rule whose
    /// interface is missing or down is taken, and waits for it.
    ///
    /// # Errors
    /// An unknown key, a missing right, a limit, or what the kernel refuses.
    pub fn change(&self, remove: &[u32], add: &[RuleSpec]) -> Result<Vec<u32>> {
        let change = Change { remove, add, enable: &[] };
        let changed = self.change_if(&change, |_| true).map_err(|refusal| refusal.error)?;
        Ok(changed.unwrap_or_default())
    }

    /// Enables or disables rules. What only disabled rules would have taken is counted on the
    /// interface as `disabled`.
    ///
    /// # Errors
    /// An unknown key, or an engine that has ended.
    pub fn set_enabled(&self, keys: &[u32], enabled: bool) -> Result<()> {
        let enable: Vec<(u32, bool)> = keys.iter().map(|key| (*key, enabled)).collect();
        let change = Change { enable: &enable, ..Change::default() };
        self.change_if(&change, |_| true).map(drop).map_err(|refusal| refusal.error)
    }

    /// The same in two steps: opens all that is new, asks, and only then swaps. `None` when
    /// `agreed` says no; then all is as it was before.
    ///
    /// # Errors
    /// As [`Relay::change`]; `agreed` is asked only when nothing but an engine that ends can be
    /// in the way any more.
    pub fn change_if(
        &self,
        change: &Change<'_>,
        agreed: impl FnOnce(&Prepared<'_>) -> bool,
    ) -> std::result::Result<Option<Vec<u32>>, ChangeError> {
        let shared = &*self.shared;
        let mut state = shared.state();
        state.check_keys(change.remove.iter())?;
        state.check_keys(change.enable.iter().map(|(key, _)| key))?;
        shared.workers.can_adopt()?;
        let opened = shared.open(&mut state, change.add)?;
        if agreed(&Prepared { shared, state: &state }) {
            return Ok(Some(shared.swap(&mut state, change, opened)?));
        }
        state.undo(opened);
        Ok(None)
    }

    /// All rules are in that a relay before this one had: what it has counted for others is
    /// forgotten, and what it held of an opener that outlives relays, and this one has not asked
    /// for, is closed.
    ///
    /// # Errors
    /// An engine has ended, or the opener does not answer.
    pub fn settle(&self) -> Result<()> {
        let mut state = self.shared.state();
        let gone = state.slots.forget_found();
        if !gone.is_empty() {
            self.shared.follow_plans(&mut state, SlotChanges { new: Vec::new(), gone })?;
        }
        self.shared.provider.release_unclaimed()
    }
}

impl Shared {
    /// Opens all that new rules need; on an error everything is as before.
    fn open(
        &self,
        state: &mut State,
        add: &[RuleSpec],
    ) -> std::result::Result<Opened, ChangeError> {
        state.reserve(add)?;
        let watch = self.links.watch();
        watch.now()?;
        watch.query_names(&add.iter().flat_map(RuleSpec::interfaces).cloned().collect());
        let links = watch.latest();
        // An interface that was made anew has one index; the thread opens anew what this closes.
        if !Arc::ptr_eq(&links, &state.seen) {
            state.has_stale_plans |= state.detach(&links, |_, _| false);
            state.seen = links.clone();
        }
        let opened = state.open(add, &self.surroundings(&links));
        if watch.has_changes() {
            self.links.wake();
        }
        opened
    }

    /// Takes in what is open, gives up what goes, and has the engines follow.
    fn swap(&self, state: &mut State, change: &Change<'_>, opened: Opened) -> Result<Vec<u32>> {
        let mut owners = SlotChanges { new: opened.slots, gone: Vec::new() };
        let removed: Vec<(u32, LiveRule)> = state.remove_rules(change.remove, &mut owners.gone);
        let before = state.set_enabled(change.enable);
        let keys = state.insert_rules(opened.rules);
        state.apply_inputs();
        let moved = state.take_slot_changes();
        owners.new.extend(moved.new);
        owners.gone.extend(moved.gone);
        if let Err(error) = self.follow_plans(state, owners) {
            // An engine has ended, and all it counted is kept for who reads it.
            state.touched.extend(keys.iter().chain(change.remove));
            state.rules.retain(|key, _| !keys.contains(key));
            state.rules.extend(removed);
            state.set_enabled(&before);
            return Err(error);
        }
        if keys.iter().any(|key| state.rules[key].order != OrderCheck::Nothing) {
            self.links.watch().announce();
            self.links.wake();
        }
        Ok(keys)
    }

    /// Has the engines follow what is open now; the slots that go are free then.
    pub(super) fn follow_plans(&self, state: &mut State, owners: SlotChanges) -> Result<()> {
        let touched = std::mem::take(&mut state.touched);
        let workers = self.settings.workers;
        self.workers.adopt(self.plans().compile(state, touched, workers, &owners))?;
        self.version.fetch_add(1, Ordering::Release);
        for slot in owners.gone {
            state.slots.free(slot);
        }
        Ok(())
    }
}
