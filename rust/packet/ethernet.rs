//! The Ethernet header and the VLAN tags (IEEE 802.1Q) behind it.
//!
//! Owns the question "which protocol, on which VLAN"; must not know IP.

use super::{Discard, VlanTag};

/// The destination and source addresses and the type field.
const HEADER_LEN: usize = 14;
/// A tag's control information and the type that follows it.
const TAG_LEN: usize = 4;
/// More tags than any network stacks; the kernel's own limit (`VLAN_MAX_DEPTH`).
const MAX_TAGS: usize = 8;
/// The VLAN identifier in the tag control information; the rest is priority.
const VID_MASK: u16 = 0x0fff;

/// What the link layer says.
#[derive(Clone, Copy)]
pub(super) struct Link {
    /// What follows: an IP header, or a tag where [`is_tag`] says so.
    pub(super) ethertype: u16,
    /// 0 for an untagged frame and for a priority tag.
    pub(super) vlan: u16,
    /// The bytes read so far.
    pub(super) len: usize,
}

/// Reads the header; `outer` is the tag that the kernel took out of the frame.
#[inline]
pub(super) fn read(frame: &[u8], outer: Option<VlanTag>) -> Result<Link, Discard> {
    let header: &[u8; HEADER_LEN] = frame.first_chunk().ok_or(Discard::Truncated)?;
    Ok(Link {
        ethertype: u16::from_be_bytes([header[12], header[13]]),
        vlan: outer.map_or(0, |tag| tag.tci & VID_MASK),
        len: HEADER_LEN,
    })
}

/// Walks the tags that stand in the frame behind what has been read.
pub(super) fn read_tags(frame: &[u8], mut link: Link) -> Result<Link, Discard> {
    for _ in 0..MAX_TAGS {
        let rest = frame.get(link.len..).ok_or(Discard::Truncated)?;
        let tag: &[u8; TAG_LEN] = rest.first_chunk().ok_or(Discard::Truncated)?;
        let vid = u16::from_be_bytes([tag[0], tag[1]]) & VID_MASK;
        if vid != 0 && link.vlan != 0 {
            return Err(Discard::Vlan);
        }
        link = Link {
            ethertype: u16::from_be_bytes([tag[2], tag[3]]),
            vlan: link.vlan | vid,
            len: link.len + TAG_LEN,
        };
        if !is_tag(link.ethertype) {
            return Ok(link);
        }
    }
    Err(Discard::Vlan)
}

/// Whether a type field announces a tag: 802.1Q, 802.1ad, or its forerunner.
#[inline]
pub(super) const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}
