//! Which engine gets the frames for the inputs of merging rules on one interface: the kernel spreads
//! all others over the engines by flow.

use std::collections::BTreeMap;

use crate::addr::Addr;
use crate::error::Result;
use crate::relay::settings::Home;
use crate::sockets::filter::Pin;
use crate::sockets::provider::{Socket, SocketProvider};
use crate::spec::InputSpec;

/// The inputs of merging rules, by address and port.
#[derive(Default)]
pub(in crate::relay) struct Pins {
    inputs: BTreeMap<(Addr, u16), PinnedInput>,
    are_stale: bool,
}

struct PinnedInput {
    worker: u16,
    rules: usize,
}

impl Pins {
    /// Adds an input of a merging rule.
    pub(in crate::relay) fn add(&mut self, input: &InputSpec, home: Home) {
        let new = PinnedInput { worker: home.worker, rules: 0 };
        let known = self.inputs.entry((input.group, input.port)).or_insert(new);
        known.rules += 1;
        self.are_stale |= known.rules == 1;
    }

    /// Undoes one [`Pins::add`].
    pub(in crate::relay) fn remove(&mut self, input: &InputSpec) {
        let key = (input.group, input.port);
        let Some(known) = self.inputs.get_mut(&key) else { return };
        known.rules -= 1;
        if known.rules == 0 {
            self.inputs.remove(&key);
            self.are_stale = true;
        }
    }

    /// Whether the sockets do not follow yet.
    pub(in crate::relay) const fn are_stale(&self) -> bool {
        self.are_stale
    }

    /// Makes the open sockets of the interface follow, of which this is one.
    pub(in crate::relay) fn follow(
        &mut self,
        socket: &Socket,
        provider: &dyn SocketProvider,
    ) -> Result<()> {
        if self.are_stale { self.set(socket, provider) } else { Ok(()) }
    }

    /// The same for new sockets.
    pub(in crate::relay) fn renew(
        &mut self,
        socket: &Socket,
        provider: &dyn SocketProvider,
    ) -> Result<()> {
        self.are_stale = false;
        if self.inputs.is_empty() { Ok(()) } else { self.set(socket, provider) }
    }

    fn set(&mut self, socket: &Socket, provider: &dyn SocketProvider) -> Result<()> {
        let pin = |(&(address, port), pinned): (&(Addr, u16), &PinnedInput)| {
            Pin::new(address, port, pinned.worker)
        };
        let pins: Vec<Pin> = self.inputs.iter().map(pin).collect();
        provider.pin(socket, &pins)?;
        self.are_stale = false;
        Ok(())
    }
}
