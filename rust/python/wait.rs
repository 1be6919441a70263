//! Waiting for native work without Python's lock, and with an ear for Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use super::errors::EngineError;

/// How long Ctrl-C may go unnoticed.
const SLICE: Duration = Duration::from_millis(50);

/// Runs `work` in a thread of its own and returns what it gives; the caller waits, so that what
/// other Python threads do costs the work no time. When a signal handler raises, `stop` is set,
/// the work comes to its end, and the exception is returned.
pub(super) fn aside<T: Send>(
    py: Python<'_>,
    stop: &AtomicBool,
    work: impl FnOnce() -> T + Send,
) -> PyResult<T> {
    let run = || {
        let (ended, end) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let _ended = ended;
                work()
            });
            let mut signalled = Ok(());
            while signalled.is_ok() && end.recv_timeout(SLICE) == Err(RecvTimeoutError::Timeout) {
                signalled = Python::attach(|py| py.check_signals());
            }
            if signalled.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            let result = worker.join();
            signalled.and(result.map_err(|_| EngineError::new_err("a native thread panicked")))
        })
    };
    py.detach(run)
}
