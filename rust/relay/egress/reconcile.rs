//! How the ways of all outputs follow the interfaces, and the links follow the outputs.

use std::collections::BTreeSet;

use crate::relay::live::NetworkContext;
use crate::relay::network::watch::LinkNews;
use crate::relay::state::State;

impl State {
    /// Opens and closes the frames of outputs; returns whether the engines need new plans.
    pub(in crate::relay) fn follow_egress(
        &mut self,
        context: &NetworkContext<'_>,
        changes: &LinkNews,
    ) -> bool {
        self.xdp_links.forget(&changes.gone);
        let mut has_changed = false;
        for (id, rule) in &mut self.rules {
            for output in &mut rule.outputs {
                if output.follow_egress(context, &mut self.xdp_links) {
                    self.touched.insert(id.clone());
                    has_changed = true;
                }
            }
        }
        self.close_unused_links() || has_changed
    }

    /// Closes the links that no output uses; returns whether there were any.
    pub(in crate::relay) fn close_unused_links(&mut self) -> bool {
        if self.xdp_links.is_empty() {
            return false;
        }
        let outputs = self.rules.values().flat_map(|rule| &rule.outputs);
        let used: BTreeSet<u32> = outputs.filter_map(|output| output.link_ifindex()).collect();
        self.xdp_links.retain(&used)
    }
}
