//! Descriptors inherited at exec: taken over once, and moved to fixed numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, fcntl};

/// The first number after standard input, output and error.
const FIRST: RawFd = 3;

/// Whether the inherited descriptors have been taken over.
static IS_TAKEN_OVER: AtomicBool = AtomicBool::new(false);

/// Takes ownership of inherited descriptors, and moves them to the numbers 3, 4 and so on. The
/// number after the last one gets a copy of `filler`, which is returned under another number. Any
/// other descriptors on these numbers are closed, so the caller must do this before it opens any.
///
/// # Errors
/// InvalidInput for a number that is not open, is given twice or is one of the first three;
/// AlreadyExists on a second call; no descriptor is left.
pub fn take<const N: usize>(
    numbers: [RawFd; N],
    filler: OwnedFd,
) -> io::Result<([OwnedFd; N], OwnedFd, OwnedFd)> {
    let is_double = |at: usize| numbers[..at].contains(&numbers[at]);
    if numbers.iter().any(|number| *number < FIRST) || (0..N).any(is_double) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if IS_TAKEN_OVER.swap(true, Ordering::AcqRel) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // First move all of them out of the way: some may have target numbers of others.
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
    // SAFETY: the borrowed descriptor is only used to ask whether it exists.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_GETFD)?;
    // SAFETY: it is open, the process that started this one meant it for the caller, and it is
    // taken over only once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A duplicate with a number of at least `least`.
fn raised(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: the kernel has just created this descriptor, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn placed_at(fd: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes only numbers; nothing uses the descriptor that it closes any more, as
    // the caller has promised.
    let result = unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn impossible_numbers_are_refused() {
        let null = File::open("/dev/null").unwrap();
        for numbers in [[1, 5], [-1, 5], [7, 7]] {
            let refused = take(numbers, null.try_clone().unwrap().into()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
