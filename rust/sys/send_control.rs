//! The control messages and the destination of a send, laid out for the kernel (cmsg(3), ip(7),
//! ipv6(7)).

use libc::c_int;

use crate::addr::Addr;

/// Room for a TTL, a traffic class and the longer of the two source addresses.
pub(super) const CONTROL_BYTES: usize = 24 + 24 + 40;
/// Room for a `sockaddr_in6`, the longer address type.
pub(super) const NAME_BYTES: usize = 28;

const HEADER: usize = size_of::<libc::cmsghdr>();
const WORD: usize = size_of::<usize>();

/// The parameters of one send that differ from the socket's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendControl {
    /// The family of the socket: IPv4, or IPv6.
    pub v4: bool,
    /// The interface's index for addresses with a scope; 0 for none.
    pub ifindex: u32,
    /// The destination address and port; if `None`, the socket's peer.
    pub to: Option<(Addr, u16)>,
    /// The source address, on a socket that may choose any.
    pub from: Option<Addr>,
    /// TTL or hop limit, 1 to 255.
    pub ttl: Option<u8>,
    /// The traffic class, including ECN.
    pub class: Option<u8>,
}

impl SendControl {
    /// Writes the control messages; returns their length in bytes.
    pub(super) fn write_control(&self, area: &mut [u8; CONTROL_BYTES]) -> usize {
        let (level, ttl, class) = if self.v4 {
            (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS)
        };
        let mut end = 0;
        if let Some(hops) = self.ttl {
            end = put(area, end, (level, ttl), &c_int::from(hops).to_ne_bytes());
        }
        if let Some(value) = self.class {
            end = put(area, end, (level, class), &c_int::from(value).to_ne_bytes());
        }
        let Some(from) = self.from else { return end };
        if self.v4 {
            // `struct in_pktinfo`; without an interface, because the socket has its own.
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&v4(from));
            return put(area, end, (level, libc::IP_PKTINFO), &info);
        }
        // `struct in6_pktinfo`.
        let mut info = [0; 20];
        info[..16].copy_from_slice(&from.bits().to_be_bytes());
        info[16..].copy_from_slice(&self.ifindex.to_ne_bytes());
        put(area, end, (level, libc::IPV6_PKTINFO), &info)
    }

    /// Writes the destination, if there is one; returns its length in bytes.
    pub(super) fn write_name(&self, area: &mut [u8; NAME_BYTES]) -> u32 {
        let Some((address, port)) = self.to else { return 0 };
        let family = if self.v4 { libc::AF_INET } else { libc::AF_INET6 };
        let [low, high, ..] = family.to_le_bytes();
        area[..2].copy_from_slice(&u16::from_le_bytes([low, high]).to_ne_bytes());
        area[2..4].copy_from_slice(&port.to_be_bytes());
        area[4..].fill(0);
        if self.v4 {
            area[4..8].copy_from_slice(&v4(address));
            return 16;
        }
        area[8..24].copy_from_slice(&address.bits().to_be_bytes());
        area[24..].copy_from_slice(&self.ifindex.to_ne_bytes());
        28
    }
}

/// Writes one control message at `at`; returns the position of the next one.
fn put(
    area: &mut [u8; CONTROL_BYTES],
    at: usize,
    (level, kind): (c_int, c_int),
    value: &[u8],
) -> usize {
    let end = at + (HEADER + value.len()).next_multiple_of(WORD);
    let Some(place) = area.get_mut(at..end) else { return at };
    place[..WORD].copy_from_slice(&(HEADER + value.len()).to_ne_bytes());
    place[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
    place[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
    place[HEADER..HEADER + value.len()].copy_from_slice(value);
    end
}

fn v4(address: Addr) -> [u8; 4] {
    let [.., a, b, c, d] = address.bits().to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::recv::ControlMessages;

    #[test]
    fn every_control_message_has_room() {
        let source = Addr::v6([7; 16]);
        for (v4, from, bytes) in [(true, Addr::v4([10, 0, 0, 5]), 80), (false, source, 88)] {
            let send_control = SendControl {
                v4,
                ifindex: 3,
                to: None,
                from: Some(from),
                ttl: Some(9),
                class: Some(184),
            };
            let mut area = [0xaa; CONTROL_BYTES];
            assert_eq!(send_control.write_control(&mut area), bytes);
            let read: Vec<_> = ControlMessages(&area[..bytes]).collect();
            let [(_, _, ttl), (_, _, class), (_, _, info)] = read[..] else { panic!("{read:?}") };
            assert_eq!((ttl, class), (&[9, 0, 0, 0][..], &[184, 0, 0, 0][..]));
            let expected: &[u8] = if v4 { &[10, 0, 0, 5] } else { &[7; 16] };
            assert!(info.windows(expected.len()).any(|part| part == expected), "{info:?}");
        }
    }

    #[test]
    fn a_destination_is_a_socket_address() {
        let mut area = [0xaa; NAME_BYTES];
        let empty =
            SendControl { v4: true, ifindex: 3, to: None, from: None, ttl: None, class: None };
        assert_eq!(empty.write_name(&mut area), 0);
        let to = Some((Addr::v4([239, 1, 2, 3]), 6001));
        assert_eq!(SendControl { to, ..empty }.write_name(&mut area), 16);
        assert_eq!(area[..8], [2, 0, 0x17, 0x71, 239, 1, 2, 3]);
        let to = Some((Addr::v6([0xff; 16]), 6001));
        assert_eq!(SendControl { v4: false, to, ..empty }.write_name(&mut area), 28);
        assert_eq!(area[..8], [10, 0, 0x17, 0x71, 0, 0, 0, 0]);
        assert_eq!((&area[8..24], &area[24..]), (&[0xff; 16][..], &[3, 0, 0, 0][..]));
    }
}
