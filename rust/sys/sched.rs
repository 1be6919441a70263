//! The calling thread's place in the kernel's scheduling. It must not know what the thread does.

use std::io;
use std::mem::{size_of, zeroed};

/// The shortest slice that the kernel grants an ordinary thread, in nanoseconds.
const SHORTEST_SLICE_NS: u64 = 100_000;

/// Puts the calling thread before all ordinary ones: SCHED_FIFO, the lowest of its priorities.
///
/// # Errors
/// EPERM without CAP_SYS_NICE and without RLIMIT_RTPRIO.
pub fn go_first() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread; the kernel reads one `sched_param`, which outlives the call.
    let rc = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread the greatest share of the processor that an ordinary one can have,
/// and leaves the others something: nice -20.
///
/// # Errors
/// EACCES without CAP_SYS_NICE and without RLIMIT_NICE.
pub fn go_often() -> io::Result<()> {
    // SAFETY: the call takes numbers only; 0 is the calling thread (setpriority(2), NOTES).
    let rc = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for short slices of the processor for the calling thread: when it wakes, it need not wait
/// until an ordinary thread's long one is over (sched_setattr(2), EEVDF). It gets no greater
/// share, and no right is needed; before Linux 6.12 it changes nothing.
///
/// # Errors
/// The kernel's, ENOSYS or EPERM in a sandbox.
pub fn wake_promptly() -> io::Result<()> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or_default();
    // SAFETY: `sched_attr` is numbers only.
    let mut attributes: libc::sched_attr = unsafe { zeroed() };
    // SAFETY: 0 is the calling thread; the kernel writes at most `size` bytes, which there are.
    let rc = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // All else, the nice value above all, stays as it is.
    attributes.sched_runtime = SHORTEST_SLICE_NS;
    // SAFETY: 0 is the calling thread; the kernel reads one `sched_attr`, which outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_slice_takes_no_right_and_leaves_the_priority() {
        std::thread::spawn(|| {
            // SAFETY: the call takes numbers only; 0 is the calling thread.
            let rc = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 3) };
            assert_eq!(rc, 0);
            wake_promptly().unwrap();
            // SAFETY: as above.
            let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
            assert_eq!(nice, 3);
        })
        .join()
        .unwrap();
    }
}
