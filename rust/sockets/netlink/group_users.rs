//! How many sockets of this host are members of each group, from the kernel's text: netlink lists
//! the groups, but not how many want them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use crate::addr::Addr;

/// The number of members by interface index and group.
pub type GroupUsers = HashMap<(u32, Addr), u32>;

/// The lists of a network namespace. A kernel without one of them has no groups of that kind.
#[derive(Debug, Default)]
pub struct GroupUserList {
    v4: Option<File>,
    v6: Option<File>,
}

/// The lists, if they were opened before files were hidden from this process.
static KEPT: OnceLock<GroupUserList> = OnceLock::new();

/// Opens the lists for all later [`GroupUserList`]s of this process, in the calling thread's
/// network namespace: for a process that can open no file later.
pub fn keep_open() {
    KEPT.set(GroupUserList::of_thread()).ok();
}

impl GroupUserList {
    /// Opens the lists of the calling thread's network namespace, or those that were kept open.
    #[must_use]
    pub fn open() -> Self {
        let duplicate = |file: &Option<File>| file.as_ref()?.try_clone().ok();
        KEPT.get().map_or_else(Self::of_thread, |kept| Self {
            v4: duplicate(&kept.v4),
            v6: duplicate(&kept.v6),
        })
    }

    fn of_thread() -> Self {
        let open = |name| File::open(format!("/proc/thread-self/net/{name}")).ok();
        Self { v4: open("igmp"), v6: open("igmp6") }
    }

    /// The members of the groups of one IP version.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn read(&self, is_v4: bool) -> io::Result<GroupUsers> {
        match (is_v4, &self.v4, &self.v6) {
            (true, Some(file), _) => Ok(igmp_entries(&whole(file)?).collect()),
            (false, _, Some(file)) => Ok(whole(file)?.lines().filter_map(igmp6_entry).collect()),
            _ => Ok(GroupUsers::new()),
        }
    }
}

/// All of a file in /proc, which has no length.
pub(super) fn whole(file: &File) -> io::Result<String> {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let len = file.read_at(&mut piece, text.len() as u64)?;
        if len == 0 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        text.extend_from_slice(&piece[..len]);
    }
}

/// The IPv4 groups as the kernel writes them (net/ipv4/igmp.c, `igmp_mc_seq_show`), each with its
/// members: a line for each interface, which begins with its index, and an indented line for each
/// group, which begins with its bytes as one number and the number of members.
pub(super) fn igmp_entries(text: &str) -> impl Iterator<Item = ((u32, Addr), u32)> {
    let mut index = None;
    text.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        if !line.starts_with('\t') {
            index = first.parse().ok();
            return None;
        }
        let group = Addr::v4(u32::from_str_radix(first, 16).ok()?.to_ne_bytes());
        Some(((index?, group), words.next()?.parse().ok()?))
    })
}

/// A line of net/ipv6/mcast.c, `igmp6_mc_seq_show`: the interface's index and name, the group in
/// hexadecimal digits, the number of members.
fn igmp6_entry(line: &str) -> Option<((u32, Addr), u32)> {
    let mut words = line.split_whitespace();
    let index = words.next()?.parse().ok()?;
    let group = u128::from_str_radix(words.nth(1)?, 16).ok()?;
    let users = words.next()?.parse().ok()?;
    Some(((index, Addr::from_bits(group)), users))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;
    use crate::sockets::testnet::{NEAR, interface, wait_for, with_cable};

    #[test]
    fn each_member_is_counted() {
        with_cable(|| {
            let list = GroupUserList::open();
            let index = interface(NEAR).index;
            let v4 = Ipv4Addr::new(239, 7, 7, 7);
            let v6 = "ff15::7:7".parse().unwrap();
            let users = || {
                [(true, Addr::from(v4)), (false, Addr::from(v6))].map(|(is_v4, group)| {
                    list.read(is_v4).unwrap().get(&(index, group)).copied().unwrap_or(0)
                })
            };
            assert_eq!(users(), [0, 0]);
            let join = || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                crate::sockets::mcast_options::join_group(
                    std::os::fd::AsFd::as_fd(&socket),
                    index,
                    Addr::from(v4),
                )
                .unwrap();
                let other = UdpSocket::bind("[::]:0").unwrap();
                other.join_multicast_v6(&v6, index).unwrap();
                (socket, other)
            };
            let first = join();
            assert_eq!(users(), [1, 1]);
            let second = join();
            assert_eq!(users(), [2, 2]);
            drop(first);
            wait_for([1, 1], users);
            drop(second);
            wait_for([0, 0], users);
        });
    }
}
