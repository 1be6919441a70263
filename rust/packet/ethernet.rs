//! The Ethernet header and the VLAN tags (IEEE 802.1Q) behind it.
//!
//! Owns the question "which protocol, on which VLAN"; must not know IP.

use super::{Discard, VlanTag, be16};

/// The destination and source addresses, in front of the first type field.
const ADDRESSES_LEN: usize = 12;
/// A tag's control information and the type that follows it.
const TAG_LEN: usize = 4;
/// More tags than any network stacks; the kernel's own limit (`VLAN_MAX_DEPTH`).
const MAX_TAGS: usize = 8;
/// The VLAN identifier in the tag control information; the rest is priority.
const VID_MASK: u16 = 0x0fff;

/// What the link layer says.
pub(super) struct Link {
    pub(super) ethertype: u16,
    /// 0 for an untagged frame and for a priority tag.
    pub(super) vlan: u16,
    /// Where the network header starts.
    pub(super) network: usize,
}

/// Reads the header; `outer` is the tag that the kernel took out of the frame.
#[inline]
pub(super) fn read(frame: &[u8], outer: Option<VlanTag>) -> Result<Link, Discard> {
    let ethertype = be16(frame, ADDRESSES_LEN).ok_or(Discard::Truncated)?;
    let vlan = outer.map_or(0, |tag| tag.tci & VID_MASK);
    let link = Link { ethertype, vlan, network: ADDRESSES_LEN + 2 };
    if is_tag(ethertype) { read_tags(frame, link) } else { Ok(link) }
}

/// Walks the tags that stand in the frame.
#[cold]
fn read_tags(frame: &[u8], mut link: Link) -> Result<Link, Discard> {
    for _ in 0..MAX_TAGS {
        let tci = be16(frame, link.network).ok_or(Discard::Truncated)?;
        let ethertype = be16(frame, link.network + 2).ok_or(Discard::Truncated)?;
        let vlan = tci & VID_MASK;
        if vlan != 0 && link.vlan != 0 {
            return Err(Discard::Vlan);
        }
        link = Link { ethertype, vlan: link.vlan | vlan, network: link.network + TAG_LEN };
        if !is_tag(ethertype) {
            return Ok(link);
        }
    }
    Err(Discard::Vlan)
}

/// Whether a type field announces a tag: 802.1Q, 802.1ad, or its forerunner.
#[inline]
const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}
