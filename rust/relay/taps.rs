//! The taps of a relay: what each takes, and its rings, one for each engine. Engines get them with
//! their plans.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::counters::slots::SlotChanges;
use super::live::{LiveOutput, LiveRule, RuleId};
use super::{Relay, Shared};
use crate::addr::Addr;
use crate::engine::tap::{PlanTap, PlanTaps, TapInput, TapOutput, TapRule};
use crate::error::{Error, Result};
use crate::merge::MAX_LEGS;
use crate::spec::{leg_id, rule_of_leg};
use crate::tap::{MAX_TAPS, RingWriter, TapFilter};

/// The taps of a relay, by their numbers.
#[derive(Default)]
pub(in crate::relay) struct LiveTaps(BTreeMap<u64, LiveTap>);

struct LiveTap {
    filter: TapFilter,
    rings: Vec<Arc<RingWriter>>,
}

impl Relay {
    /// Records in these rings, one for each engine, what `filter` takes. A tap with the same number
    /// ends.
    ///
    /// # Errors
    /// An invalid filter or ring, or too many taps.
    pub fn add_tap(&self, number: u64, filter: TapFilter, rings: Vec<OwnedFd>) -> Result<()> {
        filter.check().map_err(Error::Invalid)?;
        let workers = usize::from(self.shared.settings.workers);
        if rings.len() != workers {
            let text = format!("{} rings for {workers} engines", rings.len());
            return Err(Error::Invalid(text));
        }
        let open = |fd| RingWriter::open(fd).map(Arc::new);
        let rings = rings.into_iter().map(open).collect::<std::io::Result<_>>();
        let rings = rings.map_err(|error| Error::os("mapping", "the ring of a tap", error))?;
        self.shared.change_taps(|taps| {
            if taps.0.len() >= MAX_TAPS && !taps.0.contains_key(&number) {
                let text = format!("{MAX_TAPS} captures and traces run already; end one of them");
                return Err(Error::Invalid(text));
            }
            taps.0.insert(number, LiveTap { filter, rings });
            Ok(())
        })
    }

    /// Ends a tap; harmless if there is none with this number. Nothing is recorded afterwards.
    ///
    /// # Errors
    /// An engine has ended.
    pub fn remove_tap(&self, number: u64) -> Result<()> {
        self.shared.change_taps(|taps| {
            taps.0.remove(&number);
            Ok(())
        })
    }

    /// Ends all taps.
    ///
    /// # Errors
    /// An engine has ended.
    pub fn remove_taps(&self) -> Result<()> {
        self.shared.change_taps(|taps| {
            taps.0.clear();
            Ok(())
        })
    }
}

impl Shared {
    fn change_taps(&self, change: impl FnOnce(&mut LiveTaps) -> Result<()>) -> Result<()> {
        let mut state = self.state();
        self.workers.can_adopt()?;
        change(&mut state.taps)?;
        self.follow_plans(&mut state, SlotChanges::default())?;
        // Rules that the kernel relays come to the engine, or go back.
        self.links.wake();
        Ok(())
    }
}

impl LiveTaps {
    /// Whether a tap takes this rule.
    #[cfg(feature = "offload")]
    pub(in crate::relay) fn take(&self, id: &RuleId) -> bool {
        self.0.values().any(|tap| tap.takes(id))
    }

    /// The taps in the plan of one engine. `ids` are the rules by their numbers in the table.
    pub(in crate::relay) fn plan(
        &self,
        worker: u16,
        ids: &[Option<RuleId>],
        rules: &BTreeMap<RuleId, LiveRule>,
    ) -> Option<Arc<PlanTaps>> {
        if self.0.is_empty() {
            return None;
        }
        let taps = self.0.values().filter_map(|tap| tap.plan(worker, rules)).collect();
        let rule = |id: &Option<RuleId>| {
            let id = id.as_ref()?;
            Some(self.plan_rule(id, rules.get(id)?, worker))
        };
        let rules = ids.iter().map(|id| rule(id).unwrap_or_default()).collect();
        Some(Arc::new(PlanTaps { taps, rules }))
    }

    fn plan_rule(&self, id: &RuleId, rule: &LiveRule, worker: u16) -> TapRule {
        let bits = self.0.values().enumerate().filter(|(_, tap)| tap.takes(id));
        let taps = bits.fold(0, |taps, (number, _)| taps | 1 << number);
        if taps == 0 {
            return TapRule::default();
        }
        let first = (rule.input.group, rule.input.port);
        let outputs = rule.outputs.iter().map(|output| plan_output(output, first, worker));
        let id = u64::from_str_radix(rule_of_leg(id), 16).unwrap_or(0);
        TapRule { id, taps, is_merged: rule.merge.is_some(), outputs: outputs.collect() }
    }
}

impl LiveTap {
    fn takes(&self, id: &RuleId) -> bool {
        self.filter.rule.as_ref().is_none_or(|only| **only == *rule_of_leg(id))
    }

    fn plan(&self, worker: u16, rules: &BTreeMap<RuleId, LiveRule>) -> Option<PlanTap> {
        let legs = self
            .filter
            .rule
            .iter()
            .flat_map(|id| (0_u8..).take(MAX_LEGS).map(|leg| leg_id(id, leg)));
        let inputs = legs.filter_map(|id| Some(&rules.get(id.as_str())?.input));
        let inputs = inputs.map(|input| TapInput {
            ifindex: if input.everywhere { 0 } else { input.ifindex },
            group: input.group,
            group_bits: input.group_bits,
        });
        let ring = self.rings.get(usize::from(worker))?.clone();
        Some(PlanTap { filter: self.filter.clone(), inputs: inputs.collect(), ring })
    }
}

fn plan_output(output: &LiveOutput, first: (Addr, u16), worker: u16) -> TapOutput {
    let spec = output.spec().clone();
    let nowhere = if spec.address.is_v4() { Addr::v4([0; 4]) } else { Addr::v6([0; 16]) };
    let own = output.endpoints.get(usize::from(worker)).copied().unwrap_or((nowhere, 0));
    let ethernet = output.frames.of_worker(worker).map(|xdp| xdp.ethernet);
    TapOutput { spec, own, first, ethernet }
}
