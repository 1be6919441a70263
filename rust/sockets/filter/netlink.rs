//! BPF programs for netlink sockets that receive only some notifications: deleted links, or
//! neighbours that do not answer.

use libc::sock_filter;

use super::{DROP, EQUAL, LOAD_HALF, LOAD_WORD, PASS, jump, statement};

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

/// A program that passes everything that is not about neighbours, and of neighbours only that one
/// did not answer or that an entry was deleted.
#[must_use]
pub fn without_known_neighbours() -> [sock_filter; 6] {
    // As above; the state is in `struct ndmsg`, behind `struct nlmsghdr`.
    const TYPE: u32 = 4;
    const STATE: u32 = 16 + 8;
    let entry = u16::from_be_bytes(libc::RTM_NEWNEIGH.to_ne_bytes());
    let failed = u16::from_be_bytes(libc::NUD_FAILED.to_ne_bytes());
    [
        statement(LOAD_HALF, TYPE),
        jump(EQUAL, entry.into(), 0, 2),
        statement(LOAD_HALF, STATE),
        jump(EQUAL, failed.into(), 0, 1),
        PASS,
        DROP,
    ]
}
