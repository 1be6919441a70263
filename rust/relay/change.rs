//! How a change goes from what a caller wants to what the engines follow: all of it, or nothing.
//! It must not know why a caller wants it, nor how sockets are opened.

use super::live::LiveRule;
use super::report::{self, Report};
use super::state::{Opened, State};
use super::{Relay, RuleSpec, Shared, plans};
use crate::error::Result;
use crate::stats::Slot;

/// What a change does, by the keys that [`Relay::change`] gave the rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// Rules that go.
    pub remove: &'a [u32],
    /// Rules that come.
    pub add: &'a [RuleSpec],
    /// Rules that take nothing from now on (true), or again what comes (false). All stays open
    /// for them, and their counters stay.
    pub pause: &'a [(u32, bool)],
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
        let present = self.shared.links.watch().latest();
        report::read(self.state, &present, &self.shared.workers.pages())
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
        let change = Change { remove, add, pause: &[] };
        self.change_if(&change, |_| true).map(Option::unwrap_or_default)
    }

    /// Pauses rules, or lets them go on. What nobody but them would have taken is counted on the
    /// interface as `paused`.
    ///
    /// # Errors
    /// An unknown key, or an engine that has ended.
    pub fn set_paused(&self, keys: &[u32], paused: bool) -> Result<()> {
        let pause: Vec<(u32, bool)> = keys.iter().map(|key| (*key, paused)).collect();
        let change = Change { pause: &pause, ..Change::default() };
        self.change_if(&change, |_| true).map(drop)
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
    ) -> Result<Option<Vec<u32>>> {
        let shared = &*self.shared;
        let mut state = shared.state();
        state.check_keys(change.remove.iter())?;
        state.check_keys(change.pause.iter().map(|(key, _)| key))?;
        shared.workers.can_adopt()?;
        let opened = shared.open(&mut state, change.add)?;
        if agreed(&Prepared { shared, state: &state }) {
            return shared.swap(&mut state, change, opened).map(Some);
        }
        state.undo(opened);
        Ok(None)
    }
}

impl Shared {
    /// Opens all that new rules need; on an error everything is as before.
    fn open(&self, state: &mut State, add: &[RuleSpec]) -> Result<Opened> {
        state.reserve(add)?;
        let present = self.links.watch().now()?;
        // An interface that was made anew has one index; the thread opens anew what this closes.
        if state.detach(&present, |_| false) {
            state.is_behind = true;
        }
        let opened = state.open(add, &self.around(&present));
        if self.links.watch().has_news() {
            self.links.wake();
        }
        opened
    }

    /// Takes in what is open, gives up what goes, and has the engines follow.
    fn swap(&self, state: &mut State, change: &Change<'_>, opened: Opened) -> Result<Vec<u32>> {
        let mut freed: Vec<Slot> = Vec::new();
        let removed: Vec<(u32, LiveRule)> = state.take_out(change.remove, &mut freed);
        let before = state.pause(change.pause);
        let mut resets = opened.slots;
        let keys = state.take_in(opened.rules);
        state.settle_inputs();
        resets.extend(state.inputs.take_new_slots());
        let plans = plans::compile(state, self.settings.workers, &resets);
        if let Err(error) = self.workers.adopt(plans) {
            // An engine has ended, and all it counted is kept for who reads it.
            state.rules.retain(|key, _| !keys.contains(key));
            state.rules.extend(removed);
            state.pause(&before);
            return Err(error);
        }
        for slot in freed {
            state.slots.free(slot);
        }
        Ok(keys)
    }
}
