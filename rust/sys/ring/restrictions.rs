//! Restrictions of a ring: the kernel refuses all other operations with EACCES
//! (io_uring_register(2), `IORING_REGISTER_RESTRICTIONS`).
//!
//! The kernel checks only the operation, not the descriptor: a ring that may send can send on every
//! socket of its process.

use std::io;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode};

/// The operations of [`Ring`](super::Ring).
const OPERATIONS: [u8; 5] = [
    opcode::RecvMsgMulti::CODE,
    opcode::SendMsg::CODE,
    opcode::Read::CODE,
    opcode::PollAdd::CODE,
    opcode::AsyncCancel::CODE,
];
/// `IORING_REGISTER_PBUF_RING` of <linux/io_uring.h>: pools are added while the ring is in use.
pub(crate) const REGISTER_BUFFERS: u8 = 22;
/// `IOSQE_BUFFER_SELECT` of the same: a receive takes its buffer from a pool.
const SELECT_BUFFER: u8 = 1 << 5;
/// `IOSQE_IO_LINK` of the same: a send waits for the one before.
const LINK: u8 = 1 << 2;

/// Restricts a ring that was created disabled, and enables it: for the calling thread, permanently.
pub(super) fn restrict(uring: &IoUring) -> io::Result<()> {
    let mut restrictions: Vec<_> = OPERATIONS.into_iter().map(Restriction::sqe_op).collect();
    restrictions.push(Restriction::sqe_flags_allowed(SELECT_BUFFER | LINK));
    restrictions.push(Restriction::register_op(REGISTER_BUFFERS));
    let submitter = uring.submitter();
    submitter.register_restrictions(&mut restrictions)?;
    submitter.register_enable_rings()
}
