//! The cold side of a relay, all but the packet path: it opens sockets, compiles plans, passes them
//! to the engines, and reads their counters. A change runs in the calling thread, with that
//! thread's privileges and network namespace. A background thread follows the interfaces, with those
//! of the thread that called [`Relay::start`]. The engines' threads only use what they are given.
//!
//! ```text
//! change        applies a change, or none of it       settings   how a relay is set up
//! kept_outputs  what a rule that replaces another one has of it
//! rule_edit     a change of some outputs of a rule
//! state, live   the rules and their open sockets      inputs     the sockets to receive from
//! network       links, routes, and how open sockets follow them
//! engines       plans, rings and threads              counters   slots and reports
//! egress        how copies leave: sockets or XDP links
//! shaping       the rates of interfaces, and the classes that share them
//! taps          what engines record for programs that watch
//! warning       what is wrong with this host
//! offload       the rules that the kernel relays      explain    what it would do, and why
//! ```

mod change;
mod counters;
mod egress;
mod engines;
mod error;
mod expected;
mod explain;
mod home;
mod inputs;
mod kept_outputs;
mod live;
mod network;
mod offload;
mod rule_change;
mod rule_edit;
mod settings;
mod shaping;
mod state;
mod taps;
mod warning;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};
#[cfg(feature = "offload")]
use crate::offload::KernelOpener;
pub use crate::sockets::egress::EgressMode;
pub use crate::sockets::ingress::Ingress;
use crate::sockets::local::LocalProvider;
use crate::sockets::netlink::notices::Notices;
use crate::sockets::provider::SocketProvider;
use crate::sockets::xdp::survey::XdpSurvey;
use crate::stats::{self, Found, LatencyRow, metadata};
use crate::sys::memory::SharedWords;
use crate::sys::ring::RingKind;
pub use change::Prepared;
pub use counters::changes::{CounterChanges, OutputLosses, SourceChange};
pub use counters::copies::CopyCounts;
pub use counters::flows::{FlowReport, senders, sequence_gaps};
use counters::latency;
pub use counters::pages::{WorkerCounters, WorkerPages};
pub use counters::rates::{Rate, Rates};
use counters::report;
pub use counters::report::{
    InterfaceReport, LastLoss, LegReport, OutputReport, Report, RuleReport, errno_name,
};
use counters::sampler::RateSampler;
use counters::slots::SlotAllocator;
use egress::context::EgressContext;
use egress::readings::EgressReadings;
pub use egress::way::{OutputWay, SocketReason};
use engines::compile::Plans;
pub use engines::pulse::EnginePulse;
pub use engines::rings::{EngineRings, try_io_uring};
use engines::threads::EngineThreads;
pub use error::ChangeError;
pub use explain::{CopyHost, CopyPreview, Explained, Explainer, MacState, PreviewLoss, TableMiss};
use live::NetworkContext;
pub use network::blocked::{InputTrouble, TroubleState};
use network::link_table::LinkTable;
pub use network::status::{LinkChange, RuleStatus, SeenLinks};
use network::watcher::{NetworkWatcher, NextStep};
pub use offload::{OffloadMode, RuleWay};
pub use rule_change::RuleChange;
pub use rule_edit::{OutputPiece, RuleEdit};
pub use settings::{Settings, Share};
use state::State;
pub use warning::WarningSubject;
use warning::warn_once;

/// A relay of this process.
pub struct Relay {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    provider: Arc<dyn SocketProvider>,
    state: Mutex<State>,
    /// To be locked only while `state` is locked.
    plans: Mutex<Plans>,
    links: NetworkWatcher,
    survey: XdpSurvey,
    egress_readings: EgressReadings,
    sampler: RateSampler,
    workers: EngineThreads,
    /// Increases when the status of a rule may have changed.
    version: AtomicU64,
}

impl Relay {
    /// Creates a relay without rules. [`Relay::start`] starts its engines.
    ///
    /// # Errors
    /// Not enough memory or descriptors for the counters and the netlink sockets.
    pub fn new(settings: Settings) -> Result<Self> {
        Self::with_provider(settings, Box::new(LocalProvider::new()))
    }

    /// As [`Relay::new`], with sockets that `provider` opens.
    ///
    /// # Errors
    /// As [`Relay::new`].
    pub fn with_provider(settings: Settings, provider: Box<dyn SocketProvider>) -> Result<Self> {
        let page =
            |_| stats::create_page().map_err(|e| Error::os("creating a page", "the counters", e));
        let pages = (0..settings.workers).map(page).collect::<Result<_>>()?;
        Self::with_pages(settings, provider, pages, Found::default())
    }

    /// As [`Relay::with_provider`], with one engine that counts in a page which outlives it. Until
    /// [`Relay::settle`], rules and interfaces that an earlier relay counted in the page continue
    /// from its values.
    ///
    /// # Errors
    /// A page of another layout, or more than one worker; else as [`Relay::new`].
    pub fn on_page(
        settings: Settings,
        provider: Box<dyn SocketProvider>,
        page: SharedWords,
    ) -> Result<Self> {
        if settings.workers != 1 {
            return Err(Error::Invalid("one engine counts in one page".to_owned()));
        }
        let found = stats::take_over(&page);
        let found = found.map_err(|e| Error::os("taking over", "the counters", e))?;
        Self::with_pages(settings, provider, vec![Arc::new(page)], found)
    }

    fn with_pages(
        settings: Settings,
        provider: Box<dyn SocketProvider>,
        pages: Vec<Arc<SharedWords>>,
        found: Found,
    ) -> Result<Self> {
        if settings.offload != OffloadMode::Off && !cfg!(feature = "offload") {
            let text = "offload: this build has no relay in the kernel; it must be off";
            return Err(Error::Invalid(text.to_owned()));
        }
        let provider: Arc<dyn SocketProvider> = provider.into();
        let any = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| Error::os("eventfd", "the outputs", errno))?;
        let slots = SlotAllocator::new(found, pages.clone());
        let shared = Shared {
            state: Mutex::new(State::new(&settings, any.into(), provider.clone(), slots)?),
            plans: Mutex::default(),
            provider,
            links: NetworkWatcher::new()?,
            survey: XdpSurvey::open()?,
            egress_readings: EgressReadings::default(),
            sampler: RateSampler::default(),
            version: AtomicU64::new(0),
            workers: EngineThreads::new(settings.clone(), pages),
            settings,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sets what opens the relay in the kernel, before the first rule. By default this process does.
    #[cfg(feature = "offload")]
    pub fn set_kernel_opener(&self, opener: Box<dyn KernelOpener>) {
        self.shared.state().kernel.set_opener(opener);
    }

    /// How this relay receives.
    #[must_use]
    pub fn ingress(&self) -> Ingress {
        self.shared.settings.ingress
    }

    /// How the engines receive and send; `None` before they were started or had their rings.
    #[must_use]
    pub fn ring_kind(&self) -> Option<RingKind> {
        self.shared.workers.ring_kind()
    }

    /// Sets the rings that [`Relay::start`] uses first; it creates any that are missing.
    pub fn set_rings(&self, rings: EngineRings) {
        self.shared.workers.set_rings(rings);
    }

    /// Does what needs privileges, for callers that give them up before [`Relay::start`]: creates
    /// the rings, and opens spare sockets for interfaces that are recreated later.
    ///
    /// # Errors
    /// A missing privilege, a limit.
    pub fn open_spares(&self) -> Result<()> {
        self.set_rings(EngineRings::create(self.shared.settings.workers)?);
        let mut state = self.shared.state();
        #[cfg(feature = "offload")]
        if state.kernel.is_wanted() {
            // A rule shows why, if that is refused.
            state.kernel.load().ok();
        }
        state.open_spares()
    }

    /// Starts the engines, each in its own thread, and the thread that follows the interfaces.
    ///
    /// # Errors
    /// A limit of memory or descriptors; [`Error::Invalid`] if the relay was started before.
    pub fn start(&self) -> Result<()> {
        #[cfg(feature = "offload")]
        self.shared.begin_offload()?;
        self.shared.workers.start()?;
        #[cfg(feature = "offload")]
        self.shared.follow_held(&mut self.shared.state())?;
        // The thread must not keep the relay alive.
        let shared = Arc::downgrade(&self.shared);
        self.shared.links.start(move || shared.upgrade().map_or(NextStep::End, |all| all.follow()))
    }

    /// Starts the thread that samples the counters, for the rates in reports. Without it they are
    /// `None`: a process of which another one reads the counters does not need it.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn sample_rates(&self) -> Result<()> {
        // The thread must not keep the relay alive.
        let shared = Arc::downgrade(&self.shared);
        let refresh = move || {
            #[cfg(feature = "offload")]
            if let Some(shared) = shared.upgrade() {
                shared.state().publish_kernel_counts();
            }
            #[cfg(not(feature = "offload"))]
            let _ = &shared;
        };
        self.shared.sampler.start(self.shared.workers.pages(), refresh)
    }

    /// Stops the engines after they have sent what they received. A second call has no effect.
    pub fn stop(&self) {
        #[cfg(feature = "offload")]
        self.shared.end_offload();
        self.shared.workers.stop();
        self.shared.links.stop();
        self.shared.sampler.stop();
    }

    /// Waits until the engines have ended; returns false if `timeout` expired first.
    ///
    /// # Errors
    /// [`Error::Engine`] with the reason if they ended for another reason than [`Relay::stop`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.shared.workers.wait(timeout)
    }

    /// The error that ended an engine; `None` if none did.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.shared.workers.error()
    }

    /// Warnings about the set-up of this host, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings_by_subject().into_iter().map(|(_, warning)| warning).collect()
    }

    /// The same, each with what it is about.
    #[must_use]
    pub fn warnings_by_subject(&self) -> Vec<(WarningSubject, String)> {
        let of = |subject| move |warning: String| (subject, warning);
        let state = self.shared.state();
        let inputs = state.inputs.warnings().iter().cloned().map(of(WarningSubject::Input));
        let outputs = state.output_warnings.iter().cloned().map(of(WarningSubject::Output));
        let links = self.shared.links.watch().failure().map(of(WarningSubject::Interface));
        let engines = self.shared.workers.poll_warning().map(of(WarningSubject::Engine));
        engines.into_iter().chain(inputs).chain(outputs).chain(links).collect()
    }

    /// Reads all counters.
    #[must_use]
    pub fn report(&self) -> Report {
        let links = self.shared.links.watch().latest();
        #[cfg_attr(not(feature = "offload"), expect(unused_mut, reason = "nothing is read before"))]
        let mut state = self.shared.state();
        #[cfg(feature = "offload")]
        state.publish_kernel_counts();
        let Shared { workers, sampler, .. } = &*self.shared;
        report::read(&state, &links, &workers.pages(), sampler)
    }

    /// Reads the counters of all engines, as another process reads those of its workers.
    #[must_use]
    pub fn counters(&self) -> WorkerCounters {
        #[cfg_attr(not(feature = "offload"), expect(unused_mut, reason = "nothing is read before"))]
        let mut state = self.shared.state();
        state.publish_kernel_drops();
        #[cfg(feature = "offload")]
        state.publish_kernel_counts();
        drop(state);
        WorkerCounters::of_process(&self.shared.workers.pages(), &self.shared.sampler)
    }

    /// The latency of these rules; `None` if it is not measured.
    #[must_use]
    pub fn latency(&self, rules: &[String]) -> Option<Vec<LatencyRow>> {
        let pages = self.shared.workers.pages();
        latency::read(pages.iter().map(|page| page.view()), rules)
    }

    /// The flows of these rules, those with the most datagrams first; `None` if they are not counted.
    #[must_use]
    pub fn flows(&self, rules: &[String]) -> Option<Vec<FlowReport>> {
        let Shared { workers, sampler, settings, .. } = &*self.shared;
        settings.flows.then(|| sampler.flows(&workers.pages(), rules, report::now_ms()))
    }

    /// Writes the number of frames that the kernel lost, which only this process can query, to the
    /// counter pages.
    pub fn publish_kernel_drops(&self) {
        self.shared.state().publish_kernel_drops();
    }

    /// Publishes the way of each output, and what the kernel has relayed, in the pages.
    pub fn publish_ways(&self) {
        #[cfg_attr(not(feature = "offload"), expect(unused_mut, reason = "nothing else changes"))]
        let mut state = self.shared.state();
        state.publish_ways();
        #[cfg(feature = "offload")]
        state.publish_kernel_counts();
    }

    /// Writes the current time to the counter pages as a sign of life. Never blocks.
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
    /// Adapts the open sockets to the current interfaces and routes, and the engines to them.
    fn follow(&self) -> NextStep {
        let mut state = self.state();
        self.egress_readings.clear();
        let watch = self.links.watch();
        watch.query_names(&state.unnotified_names(&watch.latest()));
        let news = watch.take_changes();
        let links = watch.latest();
        self.version.fetch_add(1, Ordering::Release);
        let has_changes = !Arc::ptr_eq(&links, &state.followed_links);
        state.followed_links = links.clone();
        let has_changed = self.links.routes().update(has_changes, |changed| {
            state.follow(&NetworkContext { changed, ..self.context(&links) }, &news)
        });
        self.links.routes().watch_memberships(self.egress_readings.member_interfaces());
        if state.check_order(&self.workers.pages()) || has_changed {
            let slot_changes = state.take_slot_changes();
            if self.follow_plans(&mut state, slot_changes).is_err() {
                // The relay was stopped, or an engine has ended, whose error is recorded.
                return NextStep::End;
            }
        }
        state.is_polling = state.needs_retry() || !state.unnotified_names(&links).is_empty();
        #[cfg(feature = "offload")]
        if self.open_gates(&mut state) {
            return NextStep::RetrySoon;
        }
        if state.is_polling { NextStep::Retry } else { NextStep::Wait }
    }

    fn context<'a>(&'a self, links: &'a LinkTable) -> NetworkContext<'a> {
        let workers = self.settings.workers;
        let (watch, routes) = (self.links.watch(), self.links.routes());
        let changed = Notices::default();
        let (settings, provider, survey) = (&self.settings, &*self.provider, &self.survey);
        let egress = EgressContext::new(settings, provider, watch, survey, &self.egress_readings);
        NetworkContext { links, watch, routes, changed, provider, workers, egress }
    }

    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
