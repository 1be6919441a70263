//! What a relay does with a datagram, and why, without sending anything: the compiled table finds
//! the rules, and `copies` what each of their outputs would send.

mod copies;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::packet::{Datagram, Discard};
use crate::rules::{Compiler, Table, Verdict};
use crate::spec::RuleSpec;
pub use copies::{CopyHost, CopyPreview, MacState, PreviewLoss};

/// Rules and their compiled table.
pub struct Explainer {
    rules: Vec<RuleSpec>,
    table: Arc<Table>,
    /// The indices of the enabled rules, by their numbers in the table.
    numbers: Vec<usize>,
}

/// What the rules make of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The indices of the rules that relay it.
    pub matched: Vec<usize>,
    /// Why no rule does, if none does.
    pub reason: Option<Discard>,
    /// The other rules for its group, by index, and why each does not relay it.
    pub others: Vec<(usize, TableMiss)>,
}

/// Why a rule for the group of a datagram does not relay it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableMiss {
    /// A more specific rule, or one that lists the source, gets it instead.
    Shadowed,
    /// The rule is disabled.
    Disabled,
    /// The rule is for another interface.
    Interface,
    /// The rule is for another port.
    Port,
    /// The rule is for another VLAN.
    Vlan,
    /// The rule lists other sources.
    Source,
}

impl TableMiss {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shadowed => "shadowed",
            Self::Disabled => "disabled",
            Self::Interface => "interface",
            Self::Port => "port",
            Self::Vlan => "vlan",
            Self::Source => "source",
        }
    }
}

impl Explainer {
    /// Compiles the rules. The index of each input's interface may be any number that
    /// [`Explainer::explain`] gets as well.
    #[must_use]
    pub fn new(rules: Vec<RuleSpec>) -> Self {
        let of =
            |enabled| rules.iter().enumerate().filter(move |(_, rule)| rule.enabled == enabled);
        let (mut compiler, mut disabled) = (Compiler::default(), Compiler::default());
        for (_, rule) in of(false) {
            disabled.add(rule.input.table_rule());
        }
        compiler.set_disabled(Some(disabled.table()));
        let numbers = of(true).map(|(index, rule)| {
            compiler.add(rule.input.table_rule());
            index
        });
        let numbers = numbers.collect();
        Self { table: compiler.table(), rules, numbers }
    }

    /// The rules, in the given order.
    #[must_use]
    pub fn rules(&self) -> &[RuleSpec] {
        &self.rules
    }

    /// Looks a datagram up that arrived on `interface`. `others` has at most `most` rules.
    #[must_use]
    pub fn explain(&self, interface: u32, datagram: &Datagram, most: usize) -> Explained {
        let (matched, reason) = match self.table.find(interface, datagram) {
            Verdict::Rules(rules) => {
                (rules.iter().map(|number| self.numbers[*number as usize]).collect(), None)
            }
            Verdict::Discard(reason, _) => (Vec::new(), Some(reason)),
        };
        let others = self.rules.iter().enumerate().filter(|(index, _)| !matched.contains(index));
        let others =
            others.filter_map(|(index, rule)| Some((index, miss(rule, interface, datagram)?)));
        let others = others.take(most).collect();
        Explained { matched, reason, others }
    }
}

/// Why a rule does not relay a datagram of its group; `None` for another group.
fn miss(rule: &RuleSpec, interface: u32, datagram: &Datagram) -> Option<TableMiss> {
    let input = &rule.input;
    if datagram.group.block(input.group_bits) != input.group {
        return None;
    }
    let alone = Table::compile(&[input.table_rule()]);
    Some(match alone.find(input.ifindex, datagram) {
        Verdict::Rules(_) if input.ifindex != interface => TableMiss::Interface,
        Verdict::Rules(_) if !rule.enabled => TableMiss::Disabled,
        Verdict::Rules(_) => TableMiss::Shadowed,
        Verdict::Discard(Discard::Source, _) => TableMiss::Source,
        Verdict::Discard(Discard::Vlan, _) => TableMiss::Vlan,
        Verdict::Discard(..) => TableMiss::Port,
    })
}
