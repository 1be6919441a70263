//! The encoding of values: little-endian, without padding, with bounded lengths. Decoding is
//! strict, so that each value has exactly one encoding.

use crate::addr::Addr;
use crate::sockets::filter::Pin;
use crate::spec::{Choice, OutputRate, OutputSpec, RateUnit, Ttl};
use crate::sys::packet_ring::RingShape;
use crate::sys::xdp_socket::XdpShape;

/// The most items of a list: addresses of a filter, sources of a membership, leases.
pub(super) const MAX_ITEMS: usize = 3000;
/// The most bytes of a string.
pub(super) const MAX_TEXT_BYTES: usize = 1024;

/// A value that can be part of a message.
pub(super) trait WireFormat: Sized {
    fn write(&self, to: &mut Vec<u8>);

    /// Reads a value from the front; `None` for anything that [`WireFormat::write`] does not produce.
    fn read(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl WireFormat for $number {
            fn write(&self, to: &mut Vec<u8>) {
                to.extend(self.to_le_bytes());
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                let (first, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*first))
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64, i32, u128);

/// Implements [`WireFormat`] for a structure whose fields follow one another.
macro_rules! fields {
    ($name:ty { $($field:ident),+ $(,)? }) => {
        impl crate::broker::wire::WireFormat for $name {
            fn write(&self, to: &mut Vec<u8>) {
                $(crate::broker::wire::WireFormat::write(&self.$field, to);)+
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: crate::broker::wire::WireFormat::read(from)?),+ })
            }
        }
    };
}
pub(super) use fields;

fields!(RingShape { slot_bytes, slots });
fields!(Pin { key, socket });
fields!(XdpShape { frames, frame_bytes });
fields!(OutputSpec {
    address,
    address_bits,
    port,
    last_port,
    ifindex,
    interface,
    ttl,
    dscp,
    source,
    source_port,
    multicast_loop,
    priority,
    rate,
});
fields!(OutputRate { unit, per_s, burst, queue_us, paced });

impl WireFormat for bool {
    fn write(&self, to: &mut Vec<u8>) {
        to.push((*self).into());
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match u8::read(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl WireFormat for Addr {
    fn write(&self, to: &mut Vec<u8>) {
        self.bits().write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        u128::read(from).map(Self::from_bits)
    }
}

impl<T: WireFormat> WireFormat for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        if bool::read(from)? { T::read(from).map(Some) } else { Some(None) }
    }
}

impl<A: WireFormat, B: WireFormat> WireFormat for (A, B) {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some((A::read(from)?, B::read(from)?))
    }
}

/// The caller keeps to [`MAX_ITEMS`]; further items would be left out.
impl<T: WireFormat> WireFormat for Vec<T> {
    fn write(&self, to: &mut Vec<u8>) {
        let count = u16::try_from(self.len().min(MAX_ITEMS)).unwrap_or(0);
        count.write(to);
        self.iter().take(count.into()).for_each(|item| item.write(to));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let count = usize::from(u16::read(from)?);
        if count > MAX_ITEMS {
            return None;
        }
        (0..count).map(|_| T::read(from)).collect()
    }
}

/// A longer string is truncated at a character boundary.
impl WireFormat for String {
    fn write(&self, to: &mut Vec<u8>) {
        let mut len = self.len().min(MAX_TEXT_BYTES);
        while !self.is_char_boundary(len) {
            len -= 1;
        }
        u16::try_from(len).unwrap_or(0).write(to);
        to.extend(self.bytes().take(len));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let len = usize::from(u16::read(from)?);
        let (text, rest) = from.split_at_checked(len).filter(|_| len <= MAX_TEXT_BYTES)?;
        *from = rest;
        Self::from_utf8(text.to_vec()).ok()
    }
}

impl WireFormat for Ttl {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Keep => to.push(0),
            Self::Decrement => to.push(1),
            Self::Set(hops) => to.extend([2, *hops]),
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match u8::read(from)? {
            0 => Some(Self::Keep),
            1 => Some(Self::Decrement),
            2 => u8::read(from).map(Self::Set),
            _ => None,
        }
    }
}

impl WireFormat for RateUnit {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self == Self::Datagrams));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        bool::read(from).map(|counts| if counts { Self::Datagrams } else { Self::Bits })
    }
}

impl<T: WireFormat> WireFormat for Choice<T> {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Kernel => to.push(0),
            Self::Keep => to.push(1),
            Self::Chosen(value) => {
                to.push(2);
                value.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match u8::read(from)? {
            0 => Some(Self::Kernel),
            1 => Some(Self::Keep),
            2 => T::read(from).map(Self::Chosen),
            _ => None,
        }
    }
}
