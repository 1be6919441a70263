//! The layout of received buffers.

/// The sizes of the areas before the data in each received buffer (io_uring_prep_recvmsg_multishot(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveLayout {
    /// AF_PACKET: 24 bytes of address, of which the kernel writes 20; control messages of 32 bytes
    /// (the time stamp) and 40.
    Frame,
    /// UDP: 32 bytes of address; control messages of 32 bytes (the time stamp) and three of 24.
    Datagram,
}

impl ReceiveLayout {
    /// Bytes of the address area.
    #[must_use]
    pub const fn name_bytes(self) -> usize {
        match self {
            Self::Frame => 24,
            Self::Datagram => 32,
        }
    }

    /// Bytes of the area for control messages.
    #[must_use]
    pub const fn control_bytes(self) -> usize {
        match self {
            Self::Frame => 72,
            Self::Datagram => 104,
        }
    }
}
