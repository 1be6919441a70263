//! What else on this host uses the frames that arrive at an input's interface: what the kernel
//! relays, it would miss.

use std::cell::OnceCell;

use super::reason::EngineReason;
use crate::relay::inputs::Inputs;
use crate::relay::live::NetworkContext;
use crate::sockets::netlink::group_users::{GroupUserList, GroupUsers};
use crate::spec::InputSpec;

/// One look at them.
pub(in crate::relay) struct InputUsers<'a> {
    list: &'a GroupUserList,
    inputs: &'a Inputs,
    /// By IP version; an unreadable list is empty.
    members: [OnceCell<GroupUsers>; 2],
}

impl<'a> InputUsers<'a> {
    pub(super) fn new(list: &'a GroupUserList, inputs: &'a Inputs) -> Self {
        Self { list, inputs, members: Default::default() }
    }

    /// Checks that no one else on this host gets the datagrams of an input for one group.
    ///
    /// # Errors
    /// Who does.
    pub(super) fn check(
        &self,
        input: &InputSpec,
        context: &NetworkContext<'_>,
    ) -> Result<(), EngineReason> {
        let link = context.links.get(input.ifindex).ok_or(EngineReason::Waiting)?;
        if let Some(upper) = context.links.receiver_above(link.index, input.vlan) {
            return Err(EngineReason::Upper(upper.name.clone(), link.name.clone()));
        }
        if self.members(input) > self.inputs.own_members(link.index, input.group) {
            return Err(EngineReason::Listener(input.group, link.name.clone()));
        }
        context.egress.check_received(link, input.group.is_v4()).map_err(EngineReason::Bypass)
    }

    /// The sockets of this host that are members of the input's group.
    fn members(&self, input: &InputSpec) -> usize {
        let is_v4 = input.group.is_v4();
        let read = || self.list.read(is_v4).unwrap_or_default();
        let members = self.members[usize::from(is_v4)].get_or_init(read);
        let users = members.get(&(input.ifindex, input.group)).copied().unwrap_or(0);
        usize::try_from(users).unwrap_or(usize::MAX)
    }
}
