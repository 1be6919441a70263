//! Disables transmission on an AF_PACKET socket. The kernel has no option for that, but a socket
//! with a transmit ring sends only what lies in the ring, whatever data a send call passes
//! (net/packet/af_packet.c, `packet_sendmsg`), and the ring stays empty.
//!
//! Filling the ring requires mapping it, and its slots are the smallest that the kernel allows:
//! they have room for a link-layer header and 8 bytes, but for no IP or ARP packet.

use std::io;
use std::os::fd::BorrowedFd;

use libc::tpacket_req;
use nix::unistd::{SysconfVar, sysconf};

use crate::sys::sockopt;

/// Bytes of a slot: the kernel's header (`TPACKET2_HDRLEN`, 52), rounded up to its alignment
/// (`TPACKET_ALIGNMENT`, 16).
const SLOT_BYTES: u32 = 64;
/// Bytes reserved before the frame in a slot of the receive ring, besides the kernel's headers.
/// Those end at an odd place; the reserve aligns the frame's IP header.
const RESERVE_BYTES: libc::c_int = 6;

/// Disables all send calls on an AF_PACKET socket for as long as it is open. It must come before
/// the receive ring, because it sets the version and layout of both: the kernel changes neither
/// while there is a ring.
///
/// # Errors
/// The kernel's: no memory, or a socket of another kind.
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

/// Bytes of the transmit ring: a page, mapped behind the receive ring.
pub(super) fn bytes() -> io::Result<usize> {
    let page = sysconf(SysconfVar::PAGE_SIZE)?.ok_or(io::ErrorKind::Unsupported)?;
    usize::try_from(page).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// What a process could do that may map such a socket without a receive ring.
#[cfg(test)]
pub(crate) mod forced {
    use std::num::NonZeroUsize;
    use std::os::fd::AsRawFd;
    use std::ptr;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;

    /// Puts a frame into the transmit ring and sends it; returns the kernel's result.
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
        // SAFETY: the mapping is longer than `slot`, and the kernel reads it only during a send
        // call.
        unsafe { ptr::copy_nonoverlapping(slot.as_ptr(), base.cast().as_ptr(), slot.len()) };
        // SAFETY: the call passes no data, as required for a ring.
        let sent = unsafe { libc::send(fd.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT) };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error());
        // SAFETY: the mapping above, which nothing refers to any more.
        unsafe { munmap(base, len.get()) }?;
        sent
    }
}
