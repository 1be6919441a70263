//! Descriptors that a process was started with, and the numbers that they have: taken over once,
//! and given numbers that are known beforehand. It must not know what they are for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, fcntl};

/// The first number behind standard input, output and error.
const FIRST: RawFd = 3;

/// Whether this process has taken over what it was started with.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes over the descriptors that this process was started with for the caller's use, and gives
/// them the numbers 3, 4 and so on. The number behind the last holds a copy of `filler`, which
/// comes back with another number. Whatever else had these numbers is closed, so this comes before
/// anything that opens one.
///
/// # Errors
/// A number that is not open, is named twice or is one of the first three; AlreadyExists when it
/// is not the first time; no descriptor.
pub fn take<const N: usize>(
    numbers: [RawFd; N],
    filler: OwnedFd,
) -> io::Result<([OwnedFd; N], OwnedFd, OwnedFd)> {
    let is_double = |at: usize| numbers[..at].contains(&numbers[at]);
    if numbers.iter().any(|number| *number < FIRST) || (0..N).any(is_double) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if IS_TAKEN.swap(true, Ordering::AcqRel) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // Out of the way first: some may have numbers that others are to get.
    let above = FIRST + RawFd::try_from(N).unwrap_or(RawFd::MAX) + 1;
    let mut high = Vec::with_capacity(N + 1);
    for number in numbers {
        high.push(raised(owned(number)?.as_fd(), above)?);
    }
    let raised_filler = raised(filler.as_fd(), above)?;
    drop(filler);
    let mut placed = Vec::with_capacity(N + 1);
    for (number, fd) in (FIRST..).zip(high.iter().chain([&raised_filler])) {
        placed.push(placed_at(fd, number)?);
    }
    let last = placed.pop().ok_or(io::ErrorKind::InvalidInput)?;
    let taken = placed.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok((taken, last, raised_filler))
}

fn owned(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: it is only asked whether there is one.
    let asked = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(asked, FcntlArg::F_GETFD)?;
    // SAFETY: it is open, whoever started this process meant it for the caller, and nobody takes
    // it over twice.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A copy with a number of at least `least`.
fn raised(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: the kernel has just made this descriptor, so that nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn placed_at(fd: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only; what it closes belongs to nobody who still uses it, as
    // the caller has promised.
    let result = unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, so that nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_nobody_can_have_been_started_with_is_refused() {
        let null = File::open("/dev/null").unwrap();
        for numbers in [[1, 5], [-1, 5], [7, 7]] {
            let refused = take(numbers, null.try_clone().unwrap().into()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
