//! IP addresses in 128 bits for both families, the form in which rules and frames are compared.
//!
//! An IPv4 address is stored in its IPv4-mapped form (RFC 4291, 2.5.5.2), so that one comparison
//! and one hash serve both families.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

/// The upper 96 bits of every IPv4-mapped address.
const V4_MAPPED: u128 = 0xffff << 32;

/// An IPv4 or IPv6 address in 128 bits.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(from = "IpAddr")]
pub struct Addr(u128);

impl Addr {
    /// The IPv4 address with these bytes, in network order.
    #[inline]
    #[must_use]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        Self(V4_MAPPED | u32::from_be_bytes(bytes) as u128)
    }

    /// The IPv6 address with these bytes, in network order.
    #[inline]
    #[must_use]
    pub const fn v6(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The address as a number, for hashing and comparison in tables.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The address with these bits, as returned by [`Addr::bits`].
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Whether this is an IPv4 address.
    #[inline]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == 0xffff
    }

    /// Whether this is a multicast group of either family.
    #[must_use]
    pub fn is_multicast(self) -> bool {
        self.ip().is_multicast()
    }

    /// The first address of the block in which the `bits` low bits vary.
    #[inline]
    #[must_use]
    pub fn block(self, bits: u8) -> Self {
        Self(self.0 & u128::MAX.checked_shl(bits.into()).unwrap_or(0))
    }

    /// Whether it is the first address of a block in which the `bits` low bits vary.
    #[must_use]
    pub fn is_block(self, bits: u8) -> bool {
        bits <= self.width() && self.block(bits) == self
    }

    /// The number of bits of an address in its family: 32 or 128.
    #[must_use]
    pub fn width(self) -> u8 {
        if self.is_v4() { 32 } else { 128 }
    }

    /// The addresses of the block in which the `bits` low bits vary, in order; at most 2^32 of them.
    pub fn each_of(self, bits: u8) -> impl Iterator<Item = Self> {
        let first = self.block(bits).0;
        let last = u32::MAX.checked_shl(bits.into()).map_or(u32::MAX, |high| !high);
        (0..=last).map(move |low| Self(first | u128::from(low)))
    }

    /// The address as a standard library type.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.0).to_canonical()
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address.octets())
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_survive_the_round_trip() {
        for text in ["239.1.1.1", "0.0.0.0", "255.255.255.255", "ff3e::2", "::", "2001:db8::7"] {
            let ip: IpAddr = text.parse().unwrap();
            let addr = Addr::from(ip);
            assert_eq!(addr.ip(), ip);
            assert_eq!(addr.is_v4(), ip.is_ipv4());
            assert_eq!(Addr::from_bits(addr.bits()), addr);
        }
    }

    #[test]
    fn a_block_begins_where_its_low_bits_are_zero() {
        let address = Addr::v4([239, 1, 2, 7]);
        assert_eq!(address.block(0), address);
        assert_eq!(address.block(8), Addr::v4([239, 1, 2, 0]));
        assert_eq!(address.block(128), Addr::from_bits(0));
        let all: Vec<Addr> = address.each_of(2).collect();
        assert_eq!(all, [4, 5, 6, 7].map(|last| Addr::v4([239, 1, 2, last])));
        assert_eq!(address.each_of(0).collect::<Vec<_>>(), [address]);
    }
}
