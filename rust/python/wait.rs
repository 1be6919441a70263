//! Waits for native work without the GIL, and reacts to Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use super::errors::EngineError;

/// The longest time until Ctrl-C is noticed.
const SLICE: Duration = Duration::from_millis(50);

/// Runs `work` in a separate thread, so that other Python threads cannot delay it, and returns its
/// result. If a signal handler raises an exception meanwhile, sets `stop`, waits until the work has
/// ended, and returns the exception.
///
/// # Errors
/// The exception of a signal handler; EngineError if the work panicked.
pub(super) fn run_interruptible<T: Send>(
    py: Python<'_>,
    stop: &AtomicBool,
    work: impl FnOnce() -> T + Send,
) -> PyResult<T> {
    let run = || {
        let (sender, end) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                // Dropped when the work ends, which disconnects `end`.
                let _sender = sender;
                work()
            });
            let mut signals = Ok(());
            while signals.is_ok() && end.recv_timeout(SLICE) == Err(RecvTimeoutError::Timeout) {
                signals = Python::attach(|py| py.check_signals());
            }
            if signals.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            let result = worker.join();
            signals.and(result.map_err(|_| EngineError::new_err("a native thread panicked")))
        })
    };
    py.detach(run)
}
