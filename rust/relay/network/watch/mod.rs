//! The kernel's word on links and addresses, kept true: read from the netlink socket, with a full
//! list at the beginning and after each overrun, and one flag for each interface of an output,
//! which the engines look at. It must not know rules, nor who reads it when.

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

/// Whether what is sent to an interface leaves, now.
pub(in crate::relay) type Carrier = Arc<AtomicBool>;

/// Questions in a row without any word of the kernel. It answers before the question returns.
const UNANSWERED: usize = 8;

/// Lists in a row that changed while they were made; what is missing in the last one is told
/// as a change.
const INTERRUPTED: u32 = 8;

/// What is known of the interfaces of a network namespace: that of the thread that opens it.
pub(in crate::relay) struct Watch {
    socket: LinkSocket,
    group_list: GroupList,
    state: Mutex<WatchState>,
}

/// What was told since somebody took notice, apart from what there is now.
#[derive(Default)]
pub(in crate::relay) struct LinkNews {
    /// Links that are new or have changed, or whose addresses have.
    pub(in crate::relay) touched: BTreeSet<u32>,
    /// Links that lead to a network which they did not lead to before.
    pub(in crate::relay) opened: BTreeSet<u32>,
    /// Links that were deleted; there may be one with the same index again.
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

/// A full re-read under way: all that is told goes into a new table.
struct Listing {
    of: Dump,
    draft: LinkTable,
    /// Something was lost since it began.
    is_invalid: bool,
    interruptions: u32,
}

impl Watch {
    /// # Errors
    /// No netlink in this process, or no answer.
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

    /// What there is, true to this moment; or to the one when the watching failed.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(in crate::relay) fn now(&self) -> Result<Arc<LinkTable>> {
        let mut state = self.state();
        if state.failure.is_none() {
            let caught_up = self.catch_up(&mut state);
            caught_up.map_err(|e| Error::os("asking for", "the links and addresses", e))?;
        }
        Ok(state.links.clone())
    }

    /// Asks who has each of these names by now, if the kernel would not tell.
    pub(in crate::relay) fn query_names(&self, names: &BTreeSet<String>) {
        let mut state = self.state();
        for name in names {
            if state.failure.is_some() || !state.links.is_unnotified(name) {
                continue;
            }
            // Of a name that is gone the answer says nothing, of who had it all its names.
            let had = state.links.find(name).map(|link| link.name.clone());
            for asked in had.iter().chain([name]) {
                if self.socket.ask_for(asked).is_ok() {
                    // Whatever is wrong with the socket is seen by who follows it, too.
                    self.catch_up(&mut state).ok();
                }
            }
        }
    }

    /// What there was when somebody last looked.
    pub(in crate::relay) fn latest(&self) -> Arc<LinkTable> {
        self.state().links.clone()
    }

    /// Takes in what the kernel has told; false from when that is not possible any more.
    pub(in crate::relay) fn follow(&self) -> bool {
        let mut state = self.state();
        if state.failure.is_none()
            && let Err(error) = self.catch_up(&mut state)
        {
            state.fail(&error);
        }
        state.failure.is_none()
    }

    /// Whether there is news.
    pub(in crate::relay) fn has_changes(&self) -> bool {
        self.state().has_unread_changes
    }

    /// Has who waits for news look once, though there may be none.
    pub(in crate::relay) fn announce(&self) {
        self.state().has_unread_changes = true;
    }

    /// The news; from here on there is none.
    pub(in crate::relay) fn take_changes(&self) -> LinkNews {
        let mut state = self.state();
        state.has_unread_changes = false;
        std::mem::take(&mut state.news)
    }

    /// The groups of one family that this host is a member of now; `None` where the kernel cannot
    /// say.
    pub(in crate::relay) fn groups(&self, is_v4: bool) -> Option<InterfaceGroups> {
        self.group_list.ask(is_v4).ok()
    }

    /// The flag of an interface, kept true from here on.
    pub(in crate::relay) fn carrier(&self, index: u32) -> Carrier {
        let mut state = self.state();
        state.forget_unused();
        let WatchState { links, carriers, failure, .. } = &mut *state;
        let new = || Arc::new((failure.is_some() || links.has_carrier(index)).into());
        carriers.entry(index).or_insert_with(new).clone()
    }

    /// Why it cannot be watched any more.
    pub(in crate::relay) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Takes all that the kernel has told, and asks for lists where one is needed. Never waits.
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
    /// Readable when the kernel has told something.
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

    /// Something was lost: from here on only a new list is believed.
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

    /// Drops the flags that no output looks at.
    fn forget_unused(&mut self) {
        self.carriers.retain(|_, carrier| Arc::strong_count(carrier) > 1);
    }

    /// Rather lose copies unseen than keep back what could be sent.
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
