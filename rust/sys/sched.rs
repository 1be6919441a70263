//! The calling thread's scheduling policy and priority.

use std::io;

/// Schedules the calling thread before all ordinary ones: SCHED_FIFO with its lowest priority.
///
/// # Errors
/// EPERM without CAP_SYS_NICE and without RLIMIT_RTPRIO.
pub fn set_realtime_priority() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread; the kernel reads one `sched_param`, which outlives the call.
    let rc = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread the largest share of the processor that an ordinary thread can have,
/// while leaving some for the others: nice -20.
///
/// # Errors
/// EACCES without CAP_SYS_NICE and without RLIMIT_NICE.
pub fn set_highest_nice() -> io::Result<()> {
    // SAFETY: the call takes only numbers; 0 is the calling thread (setpriority(2), NOTES).
    let rc = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
