//! The thread that samples the counters of this process, so that rates are known at any time.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::flows::{self, FlowReport};
use super::rates::{INTERVAL, RateHistory, RateWindows};
use crate::error::{Error, Result};
use crate::stats::{Snapshot, read_flows};
use crate::sys::memory::SharedWords;

/// The samples of the pages of this process, and the thread that takes them.
#[derive(Default)]
pub(in crate::relay) struct RateSampler {
    history: Arc<Mutex<RateHistory>>,
    /// Dropping it ends the thread.
    running: Mutex<Option<Sender<()>>>,
}

impl RateSampler {
    /// Starts the thread, which calls `refresh` before each sample.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub(in crate::relay) fn start(
        &self,
        pages: Vec<Arc<SharedWords>>,
        refresh: impl Fn() + Send + 'static,
    ) -> Result<()> {
        let (running, ended) = channel::<()>();
        let history = self.history.clone();
        // The first at once: what arrives from now on counts in the rates.
        refresh();
        sample(&history, &pages);
        let work = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                refresh();
                sample(&history, &pages);
            }
        };
        let thread = std::thread::Builder::new().name("mcr-rates".to_owned()).spawn(work);
        thread.map_err(|e| Error::os("starting a thread", "the rates", e))?;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(())
    }

    /// Ends the thread; the samples stay.
    pub(in crate::relay) fn stop(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The flows of these rules in the pages.
    pub(in crate::relay) fn flows(
        &self,
        pages: &[Arc<SharedWords>],
        rules: &[String],
        now_ms: u64,
    ) -> Vec<FlowReport> {
        let rows = pages.iter().filter_map(|page| read_flows(page.view()));
        flows::report(rows, rules, &self.windows(), now_ms)
    }

    /// The windows that end now.
    pub(in crate::relay::counters) fn windows(&self) -> RateWindows {
        let samples = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        samples.windows(Instant::now())
    }
}

/// Adds a sample of the pages.
fn sample(history: &Mutex<RateHistory>, pages: &[Arc<SharedWords>]) {
    let taken: Vec<_> = pages.iter().filter_map(|page| Snapshot::take(page.view())).collect();
    let flows = pages.iter().filter_map(|page| read_flows(page.view()));
    let mut samples = history.lock().unwrap_or_else(PoisonError::into_inner);
    samples.add(Instant::now(), taken.iter(), flows);
}
