//! The cold side of a relay: it opens sockets, compiles plans, hands them to the engines, and
//! reads what they count. A change happens in the calling thread, with its rights and in its
//! network namespace; what follows an interface happens in a thread that has those of
//! [`Relay::start`]. The engines' threads only use what they are handed.
//!
//! ```text
//! change        all of it or nothing                   settings   how a relay is set up
//! state, live   the rules and what is open for them    inputs     the sockets to receive from
//! network       links, routes, and how what is open follows them
//! engines       plans, rings and threads               counters   slots and reports
//! ```

mod change;
mod counters;
mod engines;
mod error;
mod inputs;
mod live;
mod network;
mod rule_change;
mod settings;
mod state;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};
pub use crate::sockets::ingress::Ingress;
use crate::sockets::local::LocalProvider;
use crate::sockets::netlink::notices::Notices;
use crate::sockets::provider::SocketProvider;
use crate::stats::{self, Found, metadata};
use crate::sys::memory::SharedWords;
pub use change::Prepared;
pub use counters::pages::{WorkerCounters, WorkerPages};
use counters::report;
pub use counters::report::{
    InterfaceReport, LastLoss, OutputReport, Report, RuleReport, errno_name,
};
use counters::slots::SlotAllocator;
use engines::compile::Plans;
pub use engines::rings::{EngineRings, try_io_uring};
use engines::threads::EngineThreads;
pub use error::ChangeError;
use live::NetworkContext;
use network::link_table::LinkTable;
pub use network::status::{LinkChange, RuleStatus, SeenLinks};
use network::watcher::{NetworkWatcher, NextStep};
pub use rule_change::RuleChange;
pub use settings::{Settings, Share};
use state::State;

/// A relay of this process.
pub struct Relay {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    provider: Arc<dyn SocketProvider>,
    state: Mutex<State>,
    /// Locked by who has locked the state.
    plans: Mutex<Plans>,
    links: NetworkWatcher,
    workers: EngineThreads,
    /// Rises when rules may be in another condition.
    version: AtomicU64,
}

impl Relay {
    /// A relay without rules. Its engines begin with [`Relay::start`].
    ///
    /// # Errors
    /// No memory or descriptors for the counters and for following the interfaces.
    pub fn new(settings: Settings) -> Result<Self> {
        Self::with_provider(settings, Box::new(LocalProvider::new()))
    }

    /// The same, with sockets that `provider` opens.
    ///
    /// # Errors
    /// As [`Relay::new`].
    pub fn with_provider(settings: Settings, provider: Box<dyn SocketProvider>) -> Result<Self> {
        let page =
            |_| stats::create_page().map_err(|e| Error::os("making a page", "the counters", e));
        let pages = (0..settings.workers).map(page).collect::<Result<_>>()?;
        Self::with_pages(settings, provider, pages, Found::default())
    }

    /// The same, with sockets that `provider` opens, and one engine that counts in a page which
    /// outlives it: rules and interfaces that a relay before it counted there go on from its
    /// numbers, until [`Relay::settle`].
    ///
    /// # Errors
    /// A page of another layout; else as [`Relay::new`].
    pub fn on_page(
        settings: Settings,
        provider: Box<dyn SocketProvider>,
        page: SharedWords,
    ) -> Result<Self> {
        if settings.workers != 1 {
            return Err(Error::Invalid("one engine counts in one page".to_owned()));
        }
        let taken = stats::take_over(&page);
        let found = taken.map_err(|e| Error::os("taking over", "the counters", e))?;
        Self::with_pages(settings, provider, vec![Arc::new(page)], found)
    }

    fn with_pages(
        settings: Settings,
        provider: Box<dyn SocketProvider>,
        pages: Vec<Arc<SharedWords>>,
        found: Found,
    ) -> Result<Self> {
        let provider: Arc<dyn SocketProvider> = provider.into();
        let any = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| Error::os("eventfd", "the outputs", errno))?;
        let slots = SlotAllocator::new(found, pages.clone());
        let shared = Shared {
            state: Mutex::new(State::new(&settings, any.into(), provider.clone(), slots)?),
            plans: Mutex::default(),
            provider,
            links: NetworkWatcher::new()?,
            version: AtomicU64::new(0),
            workers: EngineThreads::new(settings.clone(), pages),
            settings,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where this relay takes datagrams from.
    #[must_use]
    pub fn ingress(&self) -> Ingress {
        self.shared.settings.ingress
    }

    /// Starts on these rings, as far as they go.
    pub fn set_rings(&self, rings: EngineRings) {
        self.shared.workers.set_rings(rings);
    }

    /// Does beforehand what takes rights, for who gives them up before the start: makes the rings,
    /// and opens a few sockets, as an interface that is made anew takes new ones.
    ///
    /// # Errors
    /// A missing right, a limit.
    pub fn open_spares(&self) -> Result<()> {
        self.set_rings(EngineRings::create(self.shared.settings.workers)?);
        self.shared.state().open_spares()
    }

    /// Starts the engines, each in a thread of its own, and begins to follow the interfaces.
    ///
    /// # Errors
    /// [`Error::Permission`] where io_uring is refused.
    pub fn start(&self) -> Result<()> {
        self.shared.workers.start()?;
        // The thread must not keep a relay that nobody has any more.
        let shared = Arc::downgrade(&self.shared);
        self.shared.links.start(move || shared.upgrade().map_or(NextStep::End, |all| all.follow()))
    }

    /// Ends the engines: what they have received is sent first. Does nothing the second time.
    pub fn stop(&self) {
        self.shared.workers.stop();
        self.shared.links.stop();
    }

    /// Waits until the engines have ended; false when `timeout` was over before.
    ///
    /// # Errors
    /// [`Error::Engine`] with what ended them, unless it was [`Relay::stop`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.shared.workers.wait(timeout)
    }

    /// What ended the engines, unless it was [`Relay::stop`].
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.shared.workers.error()
    }

    /// What the user should know of the set-up, each in one sentence.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let state = self.shared.state();
        let set_up = state.inputs.warnings().iter().chain(&state.warnings).cloned();
        set_up.chain(self.shared.links.watch().failure()).collect()
    }

    /// The counters.
    #[must_use]
    pub fn report(&self) -> Report {
        let links = self.shared.links.watch().latest();
        report::read(&self.shared.state(), &links, &self.shared.workers.pages())
    }

    /// Tells the readers of the pages how many frames the kernel has lost, which only it knows.
    pub fn publish_kernel_drops(&self) {
        self.shared.state().publish_kernel_drops();
    }

    /// Tells the readers of the pages that this process is there; waits for nothing.
    pub fn publish_alive(&self) {
        let now_ms = report::now_ms();
        self.shared.workers.pages().iter().for_each(|page| metadata::set_alive(page, now_ms));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Makes all that is open follow the interfaces, and the engines with it.
    fn follow(&self) -> NextStep {
        let mut state = self.state();
        let watch = self.links.watch();
        watch.query_names(&state.unnotified_names(&watch.latest()));
        let news = watch.take_changes();
        let links = watch.latest();
        self.version.fetch_add(1, Ordering::Release);
        let has_changes = !Arc::ptr_eq(&links, &state.followed_links);
        state.followed_links = links.clone();
        let has_changed = self.links.routes().look(has_changes, |changed| {
            state.follow(&NetworkContext { changed, ..self.context(&links) }, &news)
        });
        if state.check_order(&self.workers.pages()) || has_changed {
            let slot_changes = state.take_slot_changes();
            if self.follow_plans(&mut state, slot_changes).is_err() {
                // The relay was stopped, or an engine has ended and said why.
                return NextStep::End;
            }
        }
        let needs_retry = state.needs_retry() || !state.unnotified_names(&links).is_empty();
        if needs_retry { NextStep::Retry } else { NextStep::Wait }
    }

    fn context<'a>(&'a self, links: &'a LinkTable) -> NetworkContext<'a> {
        let workers = self.settings.workers;
        let (watch, routes) = (self.links.watch(), self.links.routes());
        let changed = Notices::default();
        NetworkContext { links, watch, routes, changed, provider: &*self.provider, workers }
    }

    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a warning, unless it has been given already.
fn warn_once(warnings: &mut Vec<String>, warning: String) {
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}

#[cfg(test)]
mod tests;
