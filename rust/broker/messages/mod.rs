//! The messages between worker and supervisor: a fixed set of requests and answers.

use std::io;

use super::wire::{WireFormat, fields};
use crate::addr::Addr;
use crate::error::{Error, MissingRight};
use crate::sockets::InterfaceRef;
use crate::sockets::filter::Pin;
use crate::sockets::netlink::netfilter::Direction;
use crate::sockets::xdp::hooks::HostHook;
use crate::sockets::xdp::obstacle::XdpObstacle;
use crate::spec::{OutputSpec, is_interface_name};
use crate::sys::packet_ring::RingShape;
use crate::sys::xdp_socket::XdpShape;

/// The version of these messages. Both sides come from one build, so the versions must be equal.
pub(super) const PROTOCOL: u16 = 5;
/// The maximum message length: a full list and the fields around it.
pub(super) const MESSAGE_BYTES: usize = 56 * 1024;

/// The maximum length of an interface name (IFNAMSIZ without the terminating zero).
const NAME_BYTES: usize = 15;

/// An interface, as the worker found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterfaceId {
    pub(super) index: u32,
    /// Used in error messages.
    pub(super) name: String,
}
fields!(InterfaceId { index, name });

/// The content of a refusal, from which the worker restores the same error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrokerError {
    kind: u8,
    call: String,
    target: String,
    /// 0 if there is none.
    errno: i32,
    text: String,
}
fields!(BrokerError { kind, call, target, errno, text });

/// Declares the messages of one side, each with its number and fields.
macro_rules! messages {
    ($(#[$about:meta])* $name:ident {
        $($(#[$what:meta])* $number:literal $message:ident { $($field:ident: $type:ty),* $(,)? },)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) enum $name {
            $($(#[$what])* $message { $($field: $type),* },)+
        }

        impl $name {
            pub(super) fn to_bytes(&self) -> Vec<u8> {
                let mut bytes = Vec::new();
                match self {
                    $(Self::$message { $($field),* } => {
                        bytes.push($number);
                        $($field.write(&mut bytes);)*
                    })+
                }
                bytes
            }

            /// Returns `None` for anything that [`Self::to_bytes`] does not produce.
            pub(super) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
                let bytes = &mut bytes;
                let message = match u8::read(bytes)? {
                    $($number => Self::$message { $($field: WireFormat::read(bytes)?),* },)+
                    _ => return None,
                };
                bytes.is_empty().then_some(message)
            }
        }
    };
}

messages! {
    /// The requests of a worker. Each is answered, except `Release`.
    Request {
        /// The first message: from here on the worker can claim all that its earlier incarnation
        /// had.
        1 Hello { protocol: u16 },
        2 Frames { interface: InterfaceId, blocks: Vec<(Addr, u8)>, ring: Option<RingShape> },
        3 Filter { lease: u64, blocks: Vec<(Addr, u8)> },
        4 AllMulticast { lease: u64, on: bool },
        5 Join { interface: InterfaceId, group: Addr, sources: Vec<Addr> },
        6 Leave { ifindex: u32, group: Addr, sources: Vec<Addr> },
        7 GroHelper { interface: InterfaceId, group: Addr, port: u16 },
        8 GroHelperForPort { v4: bool, port: u16, is_beside_own: bool },
        9 PortGuard { interface: InterfaceId, address: Addr, port: u16, is_beside_own: bool },
        10 Datagrams {
            interface: InterfaceId,
            group: Addr,
            is_broadcast: bool,
            is_everywhere: bool,
            is_beside_own: bool,
            port: u16,
        },
        11 JoinBy { lease: u64, sources: Vec<Addr> },
        12 LeaveBy { lease: u64, sources: Vec<Addr> },
        13 Output { key: u64, is_connected: bool, spec: OutputSpec },
        14 Reconnect { lease: u64, ifindex: u32 },
        15 Release { leases: Vec<u64> },
        /// Everything that is still unclaimed can be closed.
        16 ReleaseUnclaimed {},
        /// Changes a membership for any source into one for these sources.
        17 NarrowBy { lease: u64, sources: Vec<Addr> },
        18 GroHelperAnywhere { group: Addr, port: u16 },
        /// Makes the kernel report the memberships on the interface, if the worker has any there.
        19 Announce { ifindex: u32 },
        /// Switches merging for the flow of a helper on or off.
        20 Merge { lease: u64, on: bool },
        /// Makes the kernel resolve the host that an output's copies are handed to.
        21 ResolveHost { lease: u64, ifindex: u32 },
        /// What the host does to datagrams of the interface.
        22 Hooks { interface: InterfaceId, of: Direction },
        /// A link, and then the memory of its frames.
        23 XdpLink { interface: InterfaceId, queue: u32 },
        24 XdpMemory { lease: u64 },
        /// A map of the relay in the kernel, by its place.
        25 KernelMap { number: u8 },
        /// The relay in the kernel attached to an input's interface.
        26 KernelHook { interface: InterfaceId },
        /// The map of devices for outputs: devices by index, each with the number of its outputs.
        27 KernelFan { shape: Vec<(u32, u16)> },
        28 KernelCpu { cpu: u32 },
        /// Which worker gets the datagrams for these destinations.
        29 Pin { lease: u64, pins: Vec<Pin> },
    }
}

messages! {
    /// The answers; six of them come with a descriptor.
    Answer {
        1 Done {},
        2 Refused { why: BrokerError },
        /// Another program has the port that the helper would have held.
        3 Absent {},
        4 Helper { lease: u64 },
        /// With the socket. `has_history` if an earlier incarnation has used it.
        5 Frames {
            lease: u64,
            receive_buffer_bytes: u64,
            vnet_hdr: bool,
            ring: Option<RingShape>,
            has_history: bool,
        },
        /// With the socket.
        6 Datagrams { lease: u64, receive_buffer_bytes: u64 },
        /// With the socket.
        7 Output { lease: u64, send_buffer_bytes: u64, max_segment: u16 },
        8 Segment { max_segment: u16 },
        9 Hooks { v4: Option<HostHook>, v6: Option<HostHook> },
        /// With the socket.
        10 XdpLink { lease: u64, shape: XdpShape },
        /// With the memory.
        11 XdpMemory { lease: u64 },
        /// There is no link.
        12 NoXdpLink { why: XdpObstacle },
        /// With the map.
        13 KernelMap { number: u8 },
        14 KernelHook { lease: u64 },
        /// The number of the map, and that of each device.
        15 KernelFan { lease: u64, number: u32, devices: Vec<(u32, u16)> },
    }
}

impl Answer {
    /// The lease that begins with this answer, whose socket is attached.
    pub(super) fn lease(&self) -> Option<u64> {
        match self {
            Self::Frames { lease, .. }
            | Self::Datagrams { lease, .. }
            | Self::Output { lease, .. }
            | Self::XdpLink { lease, .. } => Some(*lease),
            _ => None,
        }
    }
}

impl InterfaceId {
    /// Whether the name is a regular one, not an alternative name.
    pub(super) fn is_named(&self) -> bool {
        self.name.len() <= NAME_BYTES && is_interface_name(&self.name)
    }

    pub(super) fn as_ref(&self) -> InterfaceRef<'_> {
        InterfaceRef { index: self.index, name: &self.name }
    }
}

impl From<&InterfaceRef<'_>> for InterfaceId {
    fn from(interface: &InterfaceRef<'_>) -> Self {
        Self { index: interface.index, name: interface.name.to_owned() }
    }
}

impl From<Error> for BrokerError {
    fn from(error: Error) -> Self {
        let plain =
            |kind, text| Self { kind, call: String::new(), target: String::new(), errno: 0, text };
        match error {
            Error::Invalid(text) => plain(0, text),
            Error::Permission(MissingRight { sentence, capability, alternative }) => Self {
                call: capability.unwrap_or_default().into_owned(),
                target: alternative.unwrap_or_default().into_owned(),
                ..plain(1, sentence)
            },
            Error::Engine(text) => plain(2, text),
            Error::Os { call, target, source } => {
                let (call, errno) = (call.into_owned(), source.raw_os_error().unwrap_or(0));
                let text = if errno == 0 { source.to_string() } else { String::new() };
                Self { kind: 3, call, target, errno, text }
            }
        }
    }
}

impl From<BrokerError> for Error {
    fn from(why: BrokerError) -> Self {
        match why.kind {
            0 => Self::Invalid(why.text),
            1 => {
                let given = |text: String| (!text.is_empty()).then_some(text.into());
                let (capability, alternative) = (given(why.call), given(why.target));
                Self::Permission(MissingRight { sentence: why.text, capability, alternative })
            }
            2 => Self::Engine(why.text),
            _ if why.errno == 0 => Self::os(why.call, why.target, io::Error::other(why.text)),
            _ => Self::os(why.call, why.target, io::Error::from_raw_os_error(why.errno)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
