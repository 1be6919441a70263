//! The Ethernet header and the VLAN tags (IEEE 802.1Q) behind it: the protocol and the VLAN of a
//! frame.

use super::{Discard, VlanTag};

/// The destination and source addresses and the type field.
const HEADER_LEN: u32 = 14;
/// A tag's control information and the type that follows it.
const TAG_LEN: u32 = 4;
/// More tags than any network uses; the kernel's own limit (`VLAN_MAX_DEPTH`).
const MAX_TAGS: u32 = 8;
/// The VLAN identifier in the tag control information; the rest is priority.
const VID_MASK: u16 = 0x0fff;

/// The link layer in front of the network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// An Ethernet header.
    Ethernet,
    /// None, or one that the kernel has parsed: VPNs, PPP, tunnels.
    Other,
}

impl LinkType {
    /// The link type for an interface's hardware type (`ARPHRD_*` of linux/if_arp.h).
    #[must_use]
    pub const fn of(hardware: u16) -> Self {
        const ETHER: u16 = 1;
        const LOOPBACK: u16 = 772;
        match hardware {
            ETHER | LOOPBACK => Self::Ethernet,
            _ => Self::Other,
        }
    }
}

/// The parsed link layer.
#[derive(Clone, Copy)]
pub(super) struct LinkHeader {
    pub(super) ethertype: u16,
    /// The VLAN identifier; 0 for an untagged frame and for a priority tag.
    pub(super) vlan: u16,
    /// The length of the header and the tags in bytes.
    pub(super) len: u32,
}

/// Reads the header; `outer` is the tag that the kernel has removed from the frame.
#[inline(always)]
pub(super) fn read(frame: &[u8], outer: Option<VlanTag>) -> Result<LinkHeader, Discard> {
    let header: &[u8; HEADER_LEN as usize] = frame.first_chunk().ok_or(Discard::Truncated)?;
    Ok(LinkHeader {
        ethertype: u16::from_be_bytes([header[12], header[13]]),
        vlan: outer.map_or(0, |tag| tag.tci & VID_MASK),
        len: HEADER_LEN,
    })
}

/// Skips the tags inside the frame, after what [`read`] has parsed.
#[cold]
#[inline(never)]
pub(super) fn skip_tags(
    frame: &[u8],
    mut ethertype: u16,
    mut vlan: u16,
) -> Result<LinkHeader, Discard> {
    let mut len = HEADER_LEN;
    while is_tag(ethertype) {
        if len == HEADER_LEN + MAX_TAGS * TAG_LEN {
            return Err(Discard::Vlan);
        }
        let rest = frame.get(len as usize..).ok_or(Discard::Truncated)?;
        let tag: &[u8; TAG_LEN as usize] = rest.first_chunk().ok_or(Discard::Truncated)?;
        let vid = u16::from_be_bytes([tag[0], tag[1]]) & VID_MASK;
        if vid != 0 && vlan != 0 {
            return Err(Discard::Vlan);
        }
        vlan |= vid;
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        len += TAG_LEN;
    }
    Ok(LinkHeader { ethertype, vlan, len })
}

/// Whether a type field announces a tag: 802.1Q, 802.1ad, or its predecessor.
#[inline]
const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}
