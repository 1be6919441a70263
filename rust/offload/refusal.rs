//! Errors of the BPF library as those of this crate.

use std::error::Error as StdError;
use std::io;
use std::thread;
use std::time::Duration;

use crate::error::{Error, MissingRight};

/// Turns a failure of `call` into an error. The kernel's own error is found behind the library's.
pub(super) fn refusal<E: StdError + 'static>(call: &'static str) -> impl Fn(E) -> Error {
    move |error| match os_error(&error) {
        Some(libc::EPERM) => Error::Permission(MissingRight::of(
            "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
            format!("CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are needed for {call} (offload)"),
            None,
        )),
        Some(number) => Error::os(call, TARGET, io::Error::from_raw_os_error(number)),
        None => Error::os(call, TARGET, io::Error::other(error.to_string())),
    }
}

/// Loads a program, again where a signal broke off the kernel's check of it: that ends with EAGAIN,
/// and a completion of the thread's io_uring is enough (Linux, kernel/bpf/verifier.c, `do_check`).
pub(super) fn uninterrupted<E: StdError + 'static>(
    mut load: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..LOAD_ATTEMPTS {
        match load() {
            Err(error) if os_error(&error) == Some(libc::EAGAIN) => {
                thread::sleep(pause);
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
    load()
}

const LOAD_ATTEMPTS: u32 = 10;
/// Doubled after each attempt, so that all nine of them take half a second.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// What the calls are about, in messages.
const TARGET: &str = "the relay in the kernel";

/// The number of the kernel's error that caused this one.
fn os_error(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_a_signal_broke_off_is_repeated_but_not_for_ever() {
        for (failures, error, attempts, loaded) in [
            (0, libc::EAGAIN, 1, true),
            (3, libc::EAGAIN, 4, true),
            (1, libc::EPERM, 1, false),
            (u32::MAX, libc::EAGAIN, LOAD_ATTEMPTS, false),
        ] {
            let mut made = 0;
            let outcome = uninterrupted(|| {
                made += 1;
                if made > failures { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
            });
            assert_eq!((outcome.is_ok(), made), (loaded, attempts));
        }
    }
}
