//! What the kernel last said about the interfaces of outputs. A change of rules that finds it
//! recent reads nothing: among thousands of rules each reading would cost more than the change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::sockets::netlink::groups::InterfaceGroups;
use crate::sockets::xdp::obstacle::XdpObstacle;

/// The last readings of a relay.
#[derive(Default)]
pub(in crate::relay) struct EgressReadings(Mutex<Readings>);

/// By interface, IP version and last queue, which does not matter for groups.
type ByInterface<T> = BTreeMap<(u32, bool, u32), (Instant, T)>;

#[derive(Default)]
struct Readings {
    /// Why no output can use AF_XDP.
    obstacles: ByInterface<Option<XdpObstacle>>,
    /// What looks at the datagrams that inputs receive.
    #[cfg(feature = "offload")]
    inputs: ByInterface<Option<XdpObstacle>>,
    /// The groups that this host is a member of; `None` if the kernel does not list them.
    groups: ByInterface<Option<InterfaceGroups>>,
}

impl EgressReadings {
    /// Forgets them, so that all are read again.
    pub(in crate::relay) fn clear(&self) {
        *self.lock() = Readings::default();
    }

    /// The indexes of the interfaces whose groups were read.
    pub(in crate::relay) fn member_interfaces(&self) -> BTreeSet<u32> {
        self.lock().groups.keys().map(|(ifindex, ..)| *ifindex).collect()
    }

    /// The obstacle of an interface, read after `since`.
    pub(super) fn obstacle(
        &self,
        key: (u32, bool, u32),
        since: Instant,
        read: impl FnOnce() -> Option<XdpObstacle>,
    ) -> Option<XdpObstacle> {
        recent(&mut self.lock().obstacles, key, since, read).clone()
    }

    /// What looks at what an interface receives, read after `since`.
    #[cfg(feature = "offload")]
    pub(super) fn input(
        &self,
        key: (u32, bool, u32),
        since: Instant,
        read: impl FnOnce() -> Option<XdpObstacle>,
    ) -> Option<XdpObstacle> {
        recent(&mut self.lock().inputs, key, since, read).clone()
    }

    /// The result of `look` at the groups of an interface, read after `since`.
    pub(super) fn groups<T>(
        &self,
        key: (u32, bool, u32),
        since: Instant,
        read: impl FnOnce() -> Option<InterfaceGroups>,
        look: impl FnOnce(Option<&InterfaceGroups>) -> T,
    ) -> T {
        look(recent(&mut self.lock().groups, key, since, read).as_ref())
    }

    fn lock(&self) -> MutexGuard<'_, Readings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reading that is not older than `since`; reads it if there is none.
fn recent<T>(
    readings: &mut ByInterface<T>,
    key: (u32, bool, u32),
    since: Instant,
    read: impl FnOnce() -> T,
) -> &T {
    if readings.get(&key).is_none_or(|(at, _)| *at < since) {
        // Before reading: what changes meanwhile may be missing in it.
        let now = Instant::now();
        readings.insert(key, (now, read()));
    }
    &readings[&key].1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_recent_reading_is_used_again_until_forgotten() {
        let (readings, before) = (EgressReadings::default(), Instant::now());
        let read = |since, value: &str| {
            let value = Some(XdpObstacle::Down(value.to_owned()));
            match readings.obstacle((1, true, 0), since, || value) {
                Some(XdpObstacle::Down(name)) => name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(read(before, "first"), "first");
        assert_eq!(read(before, "second"), "first");
        assert_eq!(read(Instant::now() + Duration::from_millis(1), "third"), "third");
        readings.clear();
        assert_eq!(read(before, "fourth"), "fourth");
        assert_eq!(readings.obstacle((1, false, 0), before, || None), None);
    }
}
