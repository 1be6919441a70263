//! The latency of rules, summed over all engines.

use crate::stats::{LatencyRow, SlotOwner, read_latency};
use crate::sys::memory::WordsView;

/// The histograms of these rules in all pages; `None` if no engine measures latency. A rule for
/// which there was no room has an empty one.
pub(in crate::relay) fn read<'a>(
    pages: impl Iterator<Item = WordsView<'a>>,
    rules: &[String],
) -> Option<Vec<LatencyRow>> {
    let pages: Vec<_> = pages.filter_map(read_latency).collect();
    let sum = |rule: &String| {
        let owner = SlotOwner::rule(rule);
        let rows = pages.iter().filter_map(|page| page.find(owner));
        rows.fold(LatencyRow::default(), |mut sum, row| {
            sum.merge(&row);
            sum
        })
    };
    (!pages.is_empty()).then(|| rules.iter().map(sum).collect())
}
