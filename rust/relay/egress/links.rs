//! The XDP links of the engines: one of each engine on each interface with an output that can use
//! it, opened with the first such output and closed with the last.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::engine::plan::XdpLink;
use crate::sockets::InterfaceRef;
use crate::sockets::provider::{SocketProvider, XdpLinkRequest};
use crate::sockets::xdp::obstacle::XdpObstacle;

/// After a refusal the links are requested again after the first pause, which doubles up to the
/// second: a request for a queue in use takes a tenth of a second.
const PAUSES: [Duration; 2] = [Duration::from_millis(900), Duration::from_secs(8)];

/// The links of a relay.
#[derive(Default)]
pub(in crate::relay) struct XdpLinks {
    /// By the index of the interface: the link of each engine.
    links: BTreeMap<u32, Box<[XdpLink]>>,
    /// By the index of the interface: the last refusal.
    refusals: BTreeMap<u32, Refusal>,
    last_id: u64,
}

struct Refusal {
    obstacle: XdpObstacle,
    pause: Duration,
    until: Instant,
}

impl XdpLinks {
    /// The links on an interface, one for each of these queues; opens them if there are none.
    ///
    /// # Errors
    /// Why they cannot be opened, now or at the last attempt.
    pub(in crate::relay) fn open(
        &mut self,
        interface: InterfaceRef<'_>,
        queues: Range<u32>,
        provider: &dyn SocketProvider,
    ) -> Result<&[XdpLink], XdpObstacle> {
        let Self { links, refusals, last_id } = self;
        let place = match links.entry(interface.index) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(place) => place,
        };
        let now = Instant::now();
        let before = refusals.get(&interface.index);
        if let Some(refusal) = before.filter(|refusal| now < refusal.until) {
            return Err(refusal.obstacle.clone());
        }
        let mut request = |queue| {
            let handle = provider.xdp_link(&XdpLinkRequest { interface, queue })?;
            *last_id += 1;
            let (socket, umem, shape) = (handle.socket, handle.umem, handle.shape);
            Ok(XdpLink { id: *last_id, socket, umem, shape })
        };
        let opened: Result<Box<[XdpLink]>, XdpObstacle> = queues.map(&mut request).collect();
        match opened {
            Ok(opened) => {
                refusals.remove(&interface.index);
                Ok(place.insert(opened))
            }
            Err(obstacle) => {
                let [first, longest] = PAUSES;
                let pause = before.map_or(first, |refusal| longest.min(2 * refusal.pause));
                let refusal = Refusal { obstacle: obstacle.clone(), pause, until: now + pause };
                refusals.insert(interface.index, refusal);
                Err(obstacle)
            }
        }
    }

    /// The links of an engine, for its plan.
    pub(in crate::relay) fn of_worker(&self, worker: u16) -> Box<[XdpLink]> {
        let links = self.links.values();
        links.filter_map(|links| links.get(usize::from(worker)).cloned()).collect()
    }

    /// Whether the link with this id is open on the interface with this index.
    pub(in crate::relay) fn has(&self, index: u32, id: u64) -> bool {
        let links = self.links.get(&index).map(|links| &**links).unwrap_or_default();
        links.iter().any(|link| link.id == id)
    }

    /// Closes the links on interfaces that were deleted.
    pub(in crate::relay) fn forget(&mut self, deleted: &BTreeSet<u32>) {
        self.links.retain(|index, _| !deleted.contains(index));
        self.refusals.retain(|index, _| !deleted.contains(index));
    }

    /// Closes the links on interfaces that no output uses; returns whether there were any.
    pub(in crate::relay) fn retain(&mut self, is_used: impl Fn(u32) -> bool) -> bool {
        let before = self.links.len();
        self.links.retain(|index, _| is_used(*index));
        self.links.len() != before
    }
}
