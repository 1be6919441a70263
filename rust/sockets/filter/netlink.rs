//! BPF programs for netlink sockets that receive only some notifications: deleted links, or
//! neighbours of IP.

use libc::sock_filter;

use super::{DROP, EQUAL, LOAD_BYTE, LOAD_HALF, LOAD_WORD, PASS, jump, statement};

/// A program that passes only notifications about the deletion of these links; of all links if
/// there are too many for a program.
#[must_use]
pub fn link_deletions(indices: &[u32]) -> Vec<sock_filter> {
    // The type in `struct nlmsghdr` and the index in the `struct ifinfomsg` behind it are in host
    // byte order, while BPF loads assume network byte order.
    const TYPE: u32 = 4;
    const INDEX: u32 = 20;
    const MOST: usize = 2000;
    let deletion = u16::from_be_bytes(libc::RTM_DELLINK.to_ne_bytes());
    let mut code = vec![statement(LOAD_HALF, TYPE), jump(EQUAL, deletion.into(), 1, 0), DROP];
    if indices.len() > MOST {
        code.push(PASS);
        return code;
    }
    code.push(statement(LOAD_WORD, INDEX));
    for index in indices {
        code.extend([jump(EQUAL, u32::from_be_bytes(index.to_ne_bytes()), 0, 1), PASS]);
    }
    code.push(DROP);
    code
}

/// A program that passes only what concerns neighbours of IPv4 and IPv6. Bridges report the MAC
/// addresses that they learn as neighbours too.
#[must_use]
pub fn ip_neighbours() -> [sock_filter; 5] {
    // The family is the first byte of the `struct ndmsg` behind `struct nlmsghdr`.
    const FAMILY: u32 = 16;
    let [v4, v6] = [libc::AF_INET, libc::AF_INET6].map(libc::c_int::cast_unsigned);
    [statement(LOAD_BYTE, FAMILY), jump(EQUAL, v4, 1, 0), jump(EQUAL, v6, 0, 1), PASS, DROP]
}
