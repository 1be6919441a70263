//! Decides for which rules the kernel merges datagrams (GRO). The kernel lets a datagram that it
//! cannot merge overtake those of the same flow that it holds ([`OrderCheck`]). So merging begins
//! once a rule has received enough datagrams that can all be merged, and ends for good with one
//! that cannot.

use std::sync::Arc;

use super::Inputs;
use super::interface::{Endpoint, InputInterface};
use crate::addr::Addr;
use crate::engine::ingress::OrderCheck;
use crate::relay::counters::report;
use crate::relay::state::State;
use crate::relay::{Ingress, warn_once};
use crate::sockets::provider::SocketProvider;
use crate::spec::InputSpec;
use crate::sys::memory::SharedWords;

/// The number of datagrams of a rule that must arrive, none of which would overtake others, before
/// the kernel merges.
const PROOF: u64 = 1000;

impl State {
    /// Starts and stops merging according to the rules' datagrams; returns whether plans change.
    pub(in crate::relay) fn check_order(&mut self, pages: &[Arc<SharedWords>]) -> bool {
        let Self { rules, inputs, touched, .. } = self;
        let mut has_changed = false;
        for (id, rule) in rules {
            if rule.order != OrderCheck::Nothing {
                let [matched, overtaking] = report::order(pages, rule.slot);
                let first = *rule.order_from.get_or_insert(matched);
                if overtaking > 0 {
                    inputs.stop_gro(&rule.input);
                } else if matched.saturating_sub(first) >= PROOF {
                    inputs.merge(&rule.input);
                }
            }
            let is_open = rule.waiting.is_none();
            let check = if is_open { inputs.order_check(&rule.input) } else { OrderCheck::Nothing };
            if check != rule.order {
                (rule.order, rule.order_from) = (check, None);
                touched.insert(id.clone());
                has_changed = true;
            }
        }
        has_changed
    }
}

impl Inputs {
    /// How to check the order of an open input's datagrams.
    pub(in crate::relay) fn order_check(&self, input: &InputSpec) -> OrderCheck {
        let Some(interface) = self.interfaces.get(&input.interface) else {
            return OrderCheck::Nothing;
        };
        let may_merge = !input.everywhere
            && if self.merges_by_port(input) {
                self.merging.may_merge(input)
            } else {
                endpoint_keys(input)
                    .any(|key| interface.endpoints.get(&key).is_some_and(Endpoint::may_merge))
            };
        match self.ingress {
            _ if !may_merge => OrderCheck::Nothing,
            Ingress::Packet => OrderCheck::frames(interface.mtu),
            Ingress::Udp => OrderCheck::datagrams(interface.mtu, input.group.is_v4()),
        }
    }

    /// Makes the kernel merge the datagrams of an input, except where merging was stopped.
    pub(in crate::relay) fn merge(&mut self, input: &InputSpec) {
        if self.merges_by_port(input) {
            self.merging.merge(input, &*self.provider, &mut self.warnings);
        }
        let Self { interfaces, provider, warnings, .. } = self;
        if let Some(interface) = interfaces.get_mut(&input.interface) {
            each_of(interface, input, |endpoint| endpoint.merge(&**provider, warnings));
        }
    }

    /// Stops merging for an input, since some of its datagrams overtake others.
    pub(in crate::relay) fn stop_gro(&mut self, input: &InputSpec) {
        if self.merges_by_port(input) {
            self.merging.stop_gro(input, &*self.provider, &mut self.warnings);
        }
        let Self { interfaces, provider, warnings, .. } = self;
        let Some(interface) = interfaces.get_mut(&input.interface) else { return };
        each_of(interface, input, |endpoint| endpoint.stop_gro(&**provider, warnings));
        if !std::mem::replace(&mut interface.has_gro_warning, true) {
            let text = format!(
                "some datagrams of {}%{}:{} cannot be merged by the kernel (short, empty, without \
                 checksum, with IP options, or fragments) and would overtake others, so mcr receives \
                 this input one by one from now on; a sender that sends none of these saves CPU",
                input.group.ip(),
                input.interface,
                input.port
            );
            warn_once(warnings, text);
        }
    }
}

fn each_of(interface: &mut InputInterface, input: &InputSpec, mut act: impl FnMut(&mut Endpoint)) {
    for key in endpoint_keys(input) {
        if let Some(endpoint) = interface.endpoints.get_mut(&key) {
            act(endpoint);
        }
    }
}

/// The keys of an input's endpoints, one for each group and port.
fn endpoint_keys(input: &InputSpec) -> impl Iterator<Item = (Addr, u16, bool)> + use<> {
    let (ports, everywhere) = (input.port..=input.last_port, input.everywhere);
    input.groups().flat_map(move |group| ports.clone().map(move |port| (group, port, everywhere)))
}

impl Endpoint {
    fn may_merge(&self) -> bool {
        self.merge.is_possible(self.socket.helper())
    }

    /// Makes the kernel merge.
    pub(in crate::relay) fn merge(
        &mut self,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) {
        self.merge.begin(self.socket.helper(), provider, warnings);
    }

    fn stop_gro(&mut self, provider: &dyn SocketProvider, warnings: &mut Vec<String>) {
        self.merge.end(self.socket.helper(), provider, warnings);
    }
}
