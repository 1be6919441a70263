//! Errors of the BPF library as those of this crate.

use std::error::Error as StdError;
use std::io;

use crate::error::Error;

/// Turns a failure of `call` into an error. The kernel's own error is found behind the library's.
pub(super) fn refusal<E: StdError + 'static>(call: &'static str) -> impl Fn(E) -> Error {
    move |error| match os_error(&error) {
        Some(libc::EPERM) => Error::Permission(format!(
            "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are needed for {call} (offload); run as root"
        )),
        Some(number) => Error::os(call, TARGET, io::Error::from_raw_os_error(number)),
        None => Error::os(call, TARGET, io::Error::other(error.to_string())),
    }
}

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
