//! From what is open to what the engines work by: one plan for each worker. It must not know why
//! something is not open.

use std::sync::Arc;

use super::live::LiveRule;
use super::state::State;
use crate::plan::{Plan, PlanRule};
use crate::rewrite::Kept;
use crate::rules::{Table, TableRule};
use crate::stats::{Grant, Slot};

/// The slots whose owners change with a plan.
#[derive(Default)]
pub(super) struct Owners {
    pub(super) new: Vec<Grant>,
    pub(super) gone: Vec<Slot>,
}

/// A plan for each worker; rules whose input waits are in none, and of those that are paused only
/// the table knows.
pub(super) fn compile(state: &State, workers: u16, owners: &Owners) -> Vec<Plan> {
    let open = state.rules.values().filter(|rule| rule.waiting.is_none());
    let (paused, live): (Vec<&LiveRule>, Vec<&LiveRule>) = open.partition(|rule| rule.paused);
    let [paused, taking] = [&paused, &live].map(|rules| {
        let rules = rules.iter().map(|rule| rule.table_rule());
        rules.collect::<Vec<TableRule>>()
    });
    let table = Arc::new(Table::compile(&taking).with_paused(&paused));
    (0..workers).map(|worker| plan(state, &live, worker, &table, owners)).collect()
}

fn plan(
    state: &State,
    live: &[&LiveRule],
    worker: u16,
    table: &Arc<Table>,
    owners: &Owners,
) -> Plan {
    let mut groups = vec![0; table.groups()];
    let mut rules = Vec::with_capacity(live.len());
    let mut outputs = Vec::new();
    for (number, rule) in (0..).zip(live) {
        groups[table.group_of(number) as usize] = rule.group.index;
        let first = outputs.len();
        outputs.extend(rule.outputs.iter().map(|output| output.plan(worker, &state.stand_in)));
        let kept = Kept::by(rule.outputs.iter().filter_map(|output| output.rewrite.as_deref()));
        rules.push(PlanRule { slot: rule.slot.index, outputs: first..outputs.len(), kept });
    }
    Plan {
        sources: state.inputs.sources(worker),
        table: table.clone(),
        rules: rules.into(),
        outputs: outputs.into(),
        groups: groups.into(),
        grants: owners.new.clone(),
        released: owners.gone.clone(),
    }
}
