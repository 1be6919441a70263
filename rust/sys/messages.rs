//! The message headers of one wave of sends: pieces of received buffers, gathered without copying,
//! with control messages where the socket's own settings do not suffice.

use std::ptr;

use libc::{c_void, iovec, msghdr};

use super::buffers::Buffer;
use super::send_control::{CONTROL_BYTES, NAME_BYTES, SendControl};

/// The most pieces in one wave; each is one `iovec`.
pub const MAX_PIECES: usize = 8192;
/// The most messages in one wave.
pub const MAX_MESSAGES: usize = 1024;

/// A control message with UDP_SEGMENT, laid out as by `CMSG_FIRSTHDR` (udp(7)).
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct SegmentControl {
    len: usize,
    level: i32,
    kind: i32,
    size: u16,
    padding: [u16; 3],
}

/// The length of the control message without its trailing padding: `CMSG_LEN(2)`.
const CONTROL_LEN: usize = 18;

/// The control messages of one message: the segment size, then those of its [`SendControl`].
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct ControlBlock {
    segment: SegmentControl,
    send_control: [u8; CONTROL_BYTES],
}

/// A socket address.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct AddressBytes([u8; NAME_BYTES]);

/// Room for the headers in front of one datagram.
pub type Head = [u8; HEAD_BYTES];

/// The length of the longest headers that the relay writes: IPv6 and UDP.
pub const HEAD_BYTES: usize = 48;

/// A part of a received buffer.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The buffer.
    pub buffer: &'a Buffer,
    /// The offset of the part in the buffer, in bytes.
    pub start: u32,
    /// The length of the part in bytes; 0 makes an empty datagram.
    pub len: u32,
}

/// The number of a message in this wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId(pub(super) u16);

/// Fixed-size arrays that the kernel reads during a wave; their content never moves.
pub(super) struct Messages {
    pieces: Box<[iovec]>,
    controls: Box<[ControlBlock]>,
    names: Box<[AddressBytes]>,
    heads: Box<[Head]>,
    headers: Box<[msghdr]>,
    pieces_used: usize,
    headers_used: usize,
}

impl Messages {
    pub(super) fn new() -> Self {
        let segment = SegmentControl {
            len: CONTROL_LEN,
            level: libc::SOL_UDP,
            kind: libc::UDP_SEGMENT,
            size: 0,
            padding: [0; 3],
        };
        let control = ControlBlock { segment, send_control: [0; CONTROL_BYTES] };
        let piece = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            pieces: vec![piece; MAX_PIECES].into(),
            controls: vec![control; MAX_MESSAGES].into(),
            names: vec![AddressBytes([0; NAME_BYTES]); MAX_MESSAGES].into(),
            heads: vec![[0; HEAD_BYTES]; MAX_MESSAGES].into(),
            headers: vec![empty_header(); MAX_MESSAGES].into(),
            pieces_used: 0,
            headers_used: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.pieces_used = 0;
        self.headers_used = 0;
    }

    /// Whether another message of `pieces` pieces fits.
    pub(super) fn fits(&self, pieces: usize) -> bool {
        self.headers_used < MAX_MESSAGES && self.pieces_used + pieces <= MAX_PIECES
    }

    /// Adds a piece to the message that [`Messages::close`] will create.
    pub(super) fn piece(&mut self, base: *const u8, len: usize) {
        if let Some(slot) = self.pieces.get_mut(self.pieces_used) {
            *slot = iovec { iov_base: base.cast_mut().cast(), iov_len: len };
            self.pieces_used += 1;
        }
    }

    /// Adds a piece that `write` fills; `write` returns its length.
    pub(super) fn head(&mut self, write: impl FnOnce(&mut Head) -> usize) {
        if let Some(head) = self.heads.get_mut(self.headers_used) {
            let len = write(head).min(HEAD_BYTES);
            let base = head.as_ptr();
            self.piece(base, len);
        }
    }

    /// Creates a message of the pieces added since `first`, split into datagrams of `segment` bytes
    /// (0: one datagram).
    pub(super) fn close(&mut self, first: usize, segment: u16) -> Option<MessageId> {
        let number = self.headers_used;
        let header = self.headers.get_mut(number)?;
        header.msg_iov = self.pieces.get_mut(first..)?.as_mut_ptr();
        header.msg_iovlen = self.pieces_used - first;
        header.msg_name = ptr::null_mut();
        header.msg_namelen = 0;
        let control = self.controls.get_mut(number)?;
        control.segment.size = segment;
        if segment == 0 {
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
        } else {
            header.msg_control = ptr::from_mut(control).cast::<c_void>();
            header.msg_controllen = size_of::<SegmentControl>();
        }
        self.headers_used += 1;
        u16::try_from(number).ok().map(MessageId)
    }

    /// Creates another message with the pieces of an existing one and its own control messages.
    pub(super) fn add_with_control(
        &mut self,
        message: MessageId,
        send_control: &SendControl,
    ) -> Option<MessageId> {
        let number = self.headers_used;
        let like = *self.headers[..number].get(usize::from(message.0))?;
        let segment = self.controls.get(usize::from(message.0))?.segment;
        let header = self.headers.get_mut(number)?;
        *header = like;
        let control = self.controls.get_mut(number)?;
        control.segment = segment;
        let len = send_control.write_control(&mut control.send_control);
        // Without segmentation, no control message precedes those of the `SendControl`.
        header.msg_control = if like.msg_controllen == 0 {
            control.send_control.as_mut_ptr().cast()
        } else {
            ptr::from_mut(control).cast()
        };
        header.msg_controllen = like.msg_controllen + len;
        let name = self.names.get_mut(number)?;
        header.msg_namelen = send_control.write_name(&mut name.0);
        if header.msg_namelen != 0 {
            header.msg_name = name.0.as_mut_ptr().cast();
        }
        self.headers_used += 1;
        u16::try_from(number).ok().map(MessageId)
    }

    pub(super) fn pieces_used(&self) -> usize {
        self.pieces_used
    }

    /// The header of a message of this wave.
    pub(super) fn header(&self, message: MessageId) -> Option<*const msghdr> {
        self.headers[..self.headers_used].get(usize::from(message.0)).map(ptr::from_ref)
    }
}

/// A header without address, data or control messages.
pub(super) fn empty_header() -> msghdr {
    // SAFETY: all-zero bytes are a valid `msghdr`: null pointers, zero lengths.
    unsafe { std::mem::zeroed() }
}
