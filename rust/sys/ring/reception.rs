//! What a ring receives from and watches: armed once, and reported until it ends.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{opcode, types};
use libc::msghdr;

use super::completion::Completion;
use super::polled::Action;
use super::{CANCEL, PoolId, RECEIVE, ReceiveLayout, Ring, RingQueue, WAKE};

impl Ring {
    /// Receives from `fd` into buffers of `pool`, repeatedly until the kernel ends it.
    ///
    /// # Errors
    /// The kernel's, when earlier entries are submitted.
    pub fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        pool: PoolId,
        layout: ReceiveLayout,
        token: u32,
    ) -> io::Result<()> {
        let header: *const msghdr = match layout {
            ReceiveLayout::Frame => &raw const *self.frame_header,
            ReceiveLayout::Datagram => &raw const *self.datagram_header,
        };
        let user_data = RECEIVE | u64::from(pool.0) << 48 | u64::from(token);
        if self.armed_by_poll(fd, user_data, Action::Receive(pool.0, layout)) {
            return Ok(());
        }
        let fd = types::Fd(fd.as_raw_fd());
        let entry =
            opcode::RecvMsgMulti::new(fd, header, u16::from(pool.0)).build().user_data(user_data);
        self.armed += 1;
        self.push(&entry)
    }

    /// Ends the receive started with `pool` and `token`; [`RingEvent::Ended`] reports it. The kernel
    /// does not find a receive that it is about to continue: [`RingEvent::NotCancelled`] says so.
    ///
    /// # Errors
    /// The kernel's, when earlier entries are submitted.
    pub fn cancel(&mut self, pool: PoolId, token: u32) -> io::Result<()> {
        let target = RECEIVE | u64::from(pool.0) << 48 | u64::from(token);
        let own = CANCEL | u64::from(token);
        if self.disarmed_by_poll(target, own) {
            return Ok(());
        }
        self.push(&opcode::AsyncCancel::new(target).build().user_data(own))
    }

    /// Reports [`RingEvent::Woken`] once the eventfd is written.
    ///
    /// # Errors
    /// The kernel's, when earlier entries are submitted.
    pub fn watch(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        if self.armed_by_poll(eventfd, WAKE, Action::Read) {
            return Ok(());
        }
        let value = std::ptr::from_mut(&mut *self.wake_value).cast();
        let fd = types::Fd(eventfd.as_raw_fd());
        self.armed += 1;
        self.push(&opcode::Read::new(fd, value, 8).build().user_data(WAKE))
    }

    /// Arms a descriptor where there is no io_uring; else returns false.
    pub(super) fn armed_by_poll(
        &mut self,
        fd: BorrowedFd<'_>,
        user_data: u64,
        action: Action,
    ) -> bool {
        let RingQueue::Poll(queue) = &mut self.queue else { return false };
        self.armed += 1;
        queue.arm(fd, user_data, action);
        true
    }

    /// Ends what was armed as `target` where there is no io_uring; else returns false. `own` is the
    /// value of the cancellation.
    pub(super) fn disarmed_by_poll(&mut self, target: u64, own: u64) -> bool {
        let RingQueue::Poll(queue) = &mut self.queue else { return false };
        self.stash.push(if queue.disarm(target) {
            Completion::end(target, -libc::ECANCELED)
        } else {
            Completion::end(own, -libc::ENOENT)
        });
        true
    }
}
