//! Takes the sending away from an AF_PACKET socket, which no option of the kernel's does: a socket
//! with a transmit ring sends what lies in the ring and nothing else, whatever a call to send
//! brings (net/packet/af_packet.c, `packet_sendmsg`). Nobody fills the ring.
//!
//! The ring can be filled only where it is mapped, and its slots are the smallest that the kernel
//! makes: what fits is a link-layer header and 8 bytes, no IP packet and no ARP.

use std::io;
use std::os::fd::BorrowedFd;

use libc::tpacket_req;
use nix::unistd::{SysconfVar, sysconf};

use crate::sys::sockopt;

/// Bytes of a slot: the kernel's header for it (`TPACKET2_HDRLEN`, 52), and as many more as its
/// alignment (`TPACKET_ALIGNMENT`, 16) makes it take.
const SLOT_BYTES: u32 = 64;
/// Bytes in a slot between its start and the frame of a receive ring, beside the kernel's headers,
/// which end at an odd place: so the frame's IP header is aligned.
const RESERVE_BYTES: libc::c_int = 6;

/// Makes an AF_PACKET socket deaf to all calls that send, for as long as it is open. It comes
/// before the receive ring, whose version and layout it decides: the kernel changes neither while
/// there is a ring.
///
/// # Errors
/// The kernel's answer: no memory, or a socket of another kind.
pub fn tx_disable(fd: BorrowedFd<'_>) -> io::Result<()> {
    let bytes = u32::try_from(bytes()?).map_err(|_| io::ErrorKind::InvalidInput)?;
    let request = tpacket_req {
        tp_block_size: bytes,
        tp_block_nr: 1,
        tp_frame_size: SLOT_BYTES,
        tp_frame_nr: bytes / SLOT_BYTES,
    };
    let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
    sockopt::set(fd, libc::SOL_PACKET, libc::PACKET_VERSION, version)?;
    sockopt::set(fd, libc::SOL_PACKET, libc::PACKET_RESERVE, RESERVE_BYTES)?;
    sockopt::set(fd, libc::SOL_PACKET, libc::PACKET_TX_RING, request)
}

/// Bytes of the transmit ring of a mute socket: a page, which stands behind the receive ring
/// where both are mapped.
pub(super) fn bytes() -> io::Result<usize> {
    let page = sysconf(SysconfVar::PAGE_SIZE)?.ok_or(io::ErrorKind::Unsupported)?;
    usize::try_from(page).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// What somebody could do who may map a mute socket without a receive ring.
#[cfg(test)]
pub(crate) mod forced {
    use std::num::NonZeroUsize;
    use std::os::fd::AsRawFd;
    use std::ptr;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;

    /// Puts a frame into the transmit ring and sends it; says what the kernel answers.
    pub(crate) fn send(fd: BorrowedFd<'_>, vnet_hdr: bool, frame: &[u8]) -> io::Result<usize> {
        const FRAME: usize = 32;
        let len = NonZeroUsize::new(bytes()?).unwrap();
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap(None, len, prot, MapFlags::MAP_SHARED, fd, 0) }?;
        let header = if vnet_hdr { &[0; 10][..] } else { &[] };
        let all = [header, frame].concat();
        assert!(FRAME + all.len() <= len.get());
        let mut slot = vec![0; FRAME + all.len()];
        slot[..4].copy_from_slice(&libc::TP_STATUS_SEND_REQUEST.to_ne_bytes());
        slot[4..8].copy_from_slice(&u32::try_from(all.len()).unwrap().to_ne_bytes());
        slot[FRAME..].copy_from_slice(&all);
        // SAFETY: the mapping is longer than `slot`, and the kernel looks at it only when told.
        unsafe { ptr::copy_nonoverlapping(slot.as_ptr(), base.cast().as_ptr(), slot.len()) };
        // SAFETY: a call without data, as the kernel wants it for a ring.
        let sent = unsafe { libc::send(fd.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT) };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error());
        // SAFETY: the mapping of above, which nothing refers to any more.
        unsafe { munmap(base, len.get()) }?;
        sent
    }
}
