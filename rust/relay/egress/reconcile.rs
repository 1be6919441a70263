//! How the ways of all outputs follow the interfaces, and the links follow the outputs.

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

    /// Closes the links that no output uses; returns whether there were any. Among many rules the
    /// first few already use every link.
    pub(in crate::relay) fn close_unused_links(&mut self) -> bool {
        let Self { rules, xdp_links, .. } = self;
        let outputs = || rules.values().flat_map(|rule| &rule.outputs);
        xdp_links.retain(|ifindex| outputs().any(|one| one.link_ifindex() == Some(ifindex)))
    }
}
