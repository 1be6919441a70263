//! AF_XDP sockets that send: frames lie in memory shared with the kernel (the UMEM), and one system
//! call hands many of them to the driver, bypassing the network stack and the queueing discipline.
//!
//! [`open`] needs privileges and creates everything; [`XdpSender`] maps it from the two descriptors
//! and needs none. Always in copy mode: without an XDP program, and with any driver.

mod mapping;
mod sender;

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::{c_int, sockaddr_xdp, socklen_t, xdp_umem_reg};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use socket2::{Socket, Type};

use super::sockopt;
use mapping::Mapping;
pub use sender::{FrameFate, XdpSender};

/// XDP_MAX_TX_SKB_BUDGET of <linux/if_xdp.h>, since Linux 6.17: the most frames that one call sends.
const MAX_TX_SKB_BUDGET: c_int = 9;
/// That budget, instead of the kernel's default of 32. More brings nothing, because calls are
/// already rare compared with frames.
const TX_BUDGET: u32 = 512;
/// Bytes by which the kernel charges the send buffer for one frame: a page and its headers at most.
const CHARGED_BYTES: u32 = 8192;
/// The width of the kernel's constants.
const AF_XDP: u16 = 44;
const SOCKADDR_XDP_BYTES: socklen_t = 16;
const UMEM_REG_BYTES: socklen_t = 32;
const _: () = assert!(size_of::<sockaddr_xdp>() == SOCKADDR_XDP_BYTES as usize);
const _: () = assert!(size_of::<xdp_umem_reg>() == UMEM_REG_BYTES as usize);

/// The shape of the memory and the rings of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpShape {
    /// The number of frames, and of entries in each ring: a power of two, at most 32 768.
    pub frames: u32,
    /// Bytes of a frame, and so the length of the longest one including its Ethernet header: 2048
    /// or 4096.
    pub frame_bytes: u32,
}

/// A socket that is ready to send, to be mapped by [`XdpSender::map`] in any process.
#[derive(Debug)]
pub struct XdpDescriptors {
    /// The AF_XDP socket, bound to one queue of one interface.
    pub socket: OwnedFd,
    /// The memory of its frames.
    pub umem: OwnedFd,
}

impl XdpShape {
    /// The shape for frames of up to `longest` bytes including the Ethernet header; `None` if they
    /// do not fit the largest.
    #[must_use]
    pub fn for_frames(longest: u32) -> Option<Self> {
        const FRAMES: u32 = 2048;
        let frame_bytes = [2048, 4096].into_iter().find(|bytes| longest <= *bytes)?;
        Some(Self { frames: FRAMES, frame_bytes })
    }

    /// # Errors
    /// InvalidInput for a shape that the kernel would refuse, or that needs too much memory.
    fn umem_bytes(self) -> io::Result<NonZeroUsize> {
        let is_valid = self.frames.is_power_of_two()
            && self.frames <= 1 << 15
            && matches!(self.frame_bytes, 2048 | 4096);
        let bytes = NonZeroUsize::new(self.frames as usize * self.frame_bytes as usize);
        bytes.filter(|_| is_valid).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

/// Opens a socket that sends on a queue of an interface.
///
/// # Errors
/// EPERM without CAP_NET_RAW; EBUSY if another socket has the queue, or if this kernel cannot pass
/// bound sockets to another process (before Linux 6.7); ENODEV; EINVAL if the interface has no such
/// queue; ENOBUFS beyond RLIMIT_MEMLOCK; InvalidInput for another shape.
pub fn open(ifindex: u32, queue: u32, shape: XdpShape) -> io::Result<XdpDescriptors> {
    let umem = create_umem(shape)?;
    let kind = Type::from(libc::SOCK_RAW).nonblocking().cloexec();
    let socket = OwnedFd::from(Socket::new_raw(libc::AF_XDP.into(), kind, None)?);
    let fd = socket.as_fd();
    register(fd, umem.as_fd(), shape)?;
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
        sockopt::set(fd, libc::SOL_XDP, ring, shape.frames)?;
    }
    // The ring is the queue: the send buffer must never be full before it.
    let charged = c_int::try_from(shape.frames * CHARGED_BYTES).unwrap_or(c_int::MAX / 2);
    if sockopt::set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, charged).is_err() {
        sockopt::set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, charged)?;
    }
    // Without the option the kernel sends 32 at a time.
    let budget = TX_BUDGET.min(shape.frames);
    sockopt::set(fd, libc::SOL_XDP, MAX_TX_SKB_BUDGET, budget).ok();
    bind(fd, ifindex, queue)?;
    XdpSender::map(fd, umem.as_fd(), shape)?;
    Ok(XdpDescriptors { socket, umem })
}

/// Creates the memory of the frames, whose size cannot change.
fn create_umem(shape: XdpShape) -> io::Result<OwnedFd> {
    let bytes =
        u64::try_from(shape.umem_bytes()?.get()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"mcr-frames", flags)?);
    file.set_len(bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// Registers the memory with the socket. The kernel keeps its pages; the mapping is not needed any
/// more.
fn register(fd: BorrowedFd<'_>, umem: BorrowedFd<'_>, shape: XdpShape) -> io::Result<()> {
    let bytes = shape.umem_bytes()?;
    let memory = Mapping::new(umem, bytes, 0)?;
    let request = xdp_umem_reg {
        addr: memory.base().as_ptr() as u64,
        len: bytes.get() as u64,
        chunk_size: shape.frame_bytes,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    let request = &raw const request;
    // SAFETY: the kernel reads one `xdp_umem_reg`, which outlives the call. It pins the pages of
    // the mapping, which are shared with the file and hold nothing but frames.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_UMEM_REG,
            request.cast(),
            UMEM_REG_BYTES,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds the socket, in copy mode.
fn bind(fd: BorrowedFd<'_>, ifindex: u32, queue: u32) -> io::Result<()> {
    let address = sockaddr_xdp {
        sxdp_family: AF_XDP,
        sxdp_flags: libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let address = &raw const address;
    // SAFETY: the kernel reads one `sockaddr_xdp`, which outlives the call.
    let rc = unsafe { libc::bind(fd.as_raw_fd(), address.cast(), SOCKADDR_XDP_BYTES) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
