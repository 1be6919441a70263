//! Keeps the table of links and addresses up to date from a netlink socket, with a full dump at the
//! start and after each overrun. Maintains a carrier flag for each interface of an output, which
//! the engines read. This module must not depend on rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::link_table::LinkTable;
use crate::error::{Error, Result};
use crate::sockets::netlink::groups::{GroupList, InterfaceGroups};
use crate::sockets::netlink::link::LinkEvent;
use crate::sockets::netlink::links::{self, Dump, LinkSocket};

/// Whether an interface has a carrier, so that datagrams sent to it leave.
pub(in crate::relay) type Carrier = Arc<AtomicBool>;

/// Requests in a row without any message of the kernel, after which watching fails. The kernel
/// answers before the request returns.
const UNANSWERED: usize = 8;

/// Dumps in a row that were interrupted by changes, after which the last one is accepted; what it
/// lacks arrives as a change.
const INTERRUPTED: u32 = 8;

/// Watches the interfaces of the network namespace of the thread that opens it.
pub(in crate::relay) struct Watch {
    socket: LinkSocket,
    group_list: GroupList,
    state: Mutex<WatchState>,
}

/// The links that have changed since the last [`Watch::take_changes`], by index.
#[derive(Default)]
pub(in crate::relay) struct LinkNews {
    /// Links that were added or changed, or whose addresses changed.
    pub(in crate::relay) touched: BTreeSet<u32>,
    /// Links that opened a path to another network ([`LinkTable::opens_path`]).
    pub(in crate::relay) opened: BTreeSet<u32>,
    /// Links that were deleted; another link may have the same index now.
    pub(in crate::relay) gone: BTreeSet<u32>,
}

struct WatchState {
    links: Arc<LinkTable>,
    carriers: BTreeMap<u32, Carrier>,
    news: LinkNews,
    has_unread_changes: bool,
    listing: Option<Listing>,
    failure: Option<String>,
}

/// A full dump in progress, which is read into a new table.
struct Listing {
    of: Dump,
    draft: LinkTable,
    /// Whether messages were lost since it began.
    is_invalid: bool,
    interruptions: u32,
}

impl Watch {
    /// Opens the netlink sockets and reads all links and addresses.
    ///
    /// # Errors
    /// This process cannot use netlink, or the kernel does not answer.
    pub(in crate::relay) fn open() -> Result<Self> {
        let state = WatchState {
            links: Arc::default(),
            carriers: BTreeMap::new(),
            news: LinkNews::default(),
            has_unread_changes: false,
            listing: Some(Listing::new()),
            failure: None,
        };
        let (socket, group_list) = (LinkSocket::open()?, GroupList::open()?);
        let watch = Self { socket, group_list, state: Mutex::new(state) };
        watch.now()?;
        Ok(watch)
    }

    /// The table at this moment, or when watching failed.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(in crate::relay) fn now(&self) -> Result<Arc<LinkTable>> {
        let mut state = self.state();
        if state.failure.is_none() {
            let caught_up = self.catch_up(&mut state);
            caught_up.map_err(|e| Error::os("requesting", "the links and addresses", e))?;
        }
        Ok(state.links.clone())
    }

    /// Queries the links with these names, of those about which the kernel would not notify.
    pub(in crate::relay) fn query_names(&self, names: &BTreeSet<String>) {
        let mut state = self.state();
        for name in names {
            if state.failure.is_some() || !state.links.is_unnotified(name) {
                continue;
            }
            // The previous owner's answer lists its names, which shows that a name was removed.
            let owner = state.links.find(name).map(|link| link.name.clone());
            for name in owner.iter().chain([name]) {
                if self.socket.ask_for(name).is_ok() {
                    // An error of the socket occurs again in `follow`, which records it.
                    self.catch_up(&mut state).ok();
                }
            }
        }
    }

    /// The table as last updated.
    pub(in crate::relay) fn latest(&self) -> Arc<LinkTable> {
        self.state().links.clone()
    }

    /// Updates the table; returns false once watching has failed.
    pub(in crate::relay) fn follow(&self) -> bool {
        let mut state = self.state();
        if state.failure.is_none()
            && let Err(error) = self.catch_up(&mut state)
        {
            state.fail(&error);
        }
        state.failure.is_none()
    }

    /// Whether there are changes that were not taken.
    pub(in crate::relay) fn has_changes(&self) -> bool {
        self.state().has_unread_changes
    }

    /// Makes [`Watch::has_changes`] true, also without a change.
    pub(in crate::relay) fn announce(&self) {
        self.state().has_unread_changes = true;
    }

    /// Takes the changes.
    pub(in crate::relay) fn take_changes(&self) -> LinkNews {
        let mut state = self.state();
        state.has_unread_changes = false;
        std::mem::take(&mut state.news)
    }

    /// The groups of one family that this host has joined on the interface with this index, or on
    /// all for 0; `None` if the kernel cannot list them.
    pub(in crate::relay) fn groups(&self, is_v4: bool, index: u32) -> Option<InterfaceGroups> {
        self.group_list.ask(is_v4, index).ok()
    }

    /// The carrier flag of an interface, which is kept up to date while it is held.
    pub(in crate::relay) fn carrier(&self, index: u32) -> Carrier {
        let mut state = self.state();
        state.forget_unused();
        let WatchState { links, carriers, failure, .. } = &mut *state;
        let new = || Arc::new((failure.is_some() || links.has_carrier(index)).into());
        carriers.entry(index).or_insert_with(new).clone()
    }

    /// Why watching failed, in a sentence; `None` while it works.
    pub(in crate::relay) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Reads all messages of the kernel, and requests dumps if one is needed. Never blocks.
    fn catch_up(&self, state: &mut WatchState) -> io::Result<()> {
        let mut bytes = vec![0; links::MESSAGE_BYTES];
        let mut unanswered = 0;
        loop {
            match self.socket.receive(&mut bytes) {
                Ok(piece) => {
                    unanswered = 0;
                    links::read(piece, |event| state.apply(event))?;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => state.invalidate(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let Some(listing) = &state.listing else { return Ok(()) };
                    if unanswered == UNANSWERED {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    unanswered += 1;
                    self.socket.ask(listing.of)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Watch {
    /// Readable when the kernel has sent a message.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listing {
    fn new() -> Self {
        Self { of: Dump::Links, draft: LinkTable::default(), is_invalid: false, interruptions: 0 }
    }
}

impl WatchState {
    fn apply(&mut self, event: LinkEvent) {
        match &event {
            LinkEvent::Link(link) => {
                self.news.touched.insert(link.index);
                if self.links.opens_path(link) {
                    self.news.opened.insert(link.index);
                }
                self.set_carrier(link.index, link.up && link.carrier);
            }
            LinkEvent::LinkGone(index) => {
                self.news.gone.insert(*index);
                self.set_carrier(*index, false);
            }
            LinkEvent::Listed { interrupted } => return self.finish_dump(*interrupted),
            LinkEvent::Address(index, _) | LinkEvent::AddressGone(index, _) => {
                self.news.touched.insert(*index);
            }
        }
        match &mut self.listing {
            Some(listing) => listing.draft.apply(event),
            None => {
                Arc::make_mut(&mut self.links).apply(event);
                self.has_unread_changes = true;
            }
        }
    }

    fn set_carrier(&self, index: u32, has: bool) {
        if let Some(carrier) = self.carriers.get(&index) {
            carrier.store(has, Ordering::Relaxed);
        }
    }

    /// Requires a new dump after messages were lost.
    fn invalidate(&mut self) {
        self.listing.get_or_insert_with(Listing::new).is_invalid = true;
    }

    fn finish_dump(&mut self, interrupted: bool) {
        let Some(mut listing) = self.listing.take() else { return };
        listing.interruptions += u32::from(interrupted);
        let again = interrupted && listing.interruptions < INTERRUPTED;
        if listing.is_invalid || again {
            let interruptions = listing.interruptions;
            self.listing = Some(Listing { interruptions, ..Listing::new() });
        } else if listing.of == Dump::Links {
            self.listing = Some(Listing { of: Dump::Addresses, ..listing });
        } else {
            self.links = Arc::new(listing.draft);
            self.has_unread_changes = true;
            for (index, carrier) in &self.carriers {
                carrier.store(self.links.has_carrier(*index), Ordering::Relaxed);
            }
        }
    }

    /// Drops the flags that no output holds.
    fn forget_unused(&mut self) {
        self.carriers.retain(|_, carrier| Arc::strong_count(carrier) > 1);
    }

    /// Records the failure, and sets all carrier flags: it is better to lose copies unnoticed than
    /// to drop copies that could be sent.
    fn fail(&mut self, error: &io::Error) {
        for carrier in self.carriers.values() {
            carrier.store(true, Ordering::Relaxed);
        }
        self.failure = Some(format!(
            "the links cannot be watched any more ({error}): rules do not follow their \
             interfaces, and copies to one without carrier are lost and counted as sent"
        ));
    }
}

#[cfg(test)]
mod tests;
