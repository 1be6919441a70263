//! What this host does to the datagrams that its sockets send, and would not do to the frames of an
//! XDP link: netfilter, IPsec, BPF programs. Reading it takes CAP_NET_ADMIN.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{NetlinkAddr, bind};

use super::control_group;
use crate::error::{Error, Result};
use crate::sockets::netlink::ipsec::IpsecSocket;
use crate::sockets::netlink::links;
use crate::sockets::netlink::netfilter::{Direction, NetfilterSocket, Versions};
use crate::sockets::{InterfaceRef, socket};
use crate::sys::bpf_query;

/// Functions that netfilter calls on most hosts and that change no datagram by themselves: they
/// track connections, put fragments together, translate addresses where a chain says so, and label
/// what SELinux has rules for. What begins so is one of them.
const HARMLESS: [&str; 10] = [
    "ipv4_conntrack_",
    "ipv6_conntrack_",
    "ipv4_confirm",
    "ipv6_confirm",
    "nf_confirm",
    "ipv6_defrag",
    "nf_nat_ipv4_",
    "nf_nat_ipv6_",
    "selinux_ip_output",
    "selinux_ip_postroute",
];

/// Something on the way of a datagram that a socket sends, and not of a frame of an XDP link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostHook {
    /// A chain of nftables, by its table and name.
    #[error("the firewall inspects what this host sends (nftables, chain {0:?})")]
    Chain(String),
    /// A table of iptables, by its name.
    #[error("the firewall inspects what this host sends (iptables, table {0:?})")]
    Table(String),
    /// A function of the kernel or of a BPF program, by its name.
    #[error("the kernel inspects what this host sends ({0})")]
    Function(String),
    /// A BPF program on the interface (tcx).
    #[error("a BPF program inspects what the interface sends")]
    Program,
    /// A BPF program of the control group of this process.
    #[error("a BPF program inspects what the control group of mcr sends")]
    GroupProgram,
    /// A policy of IPsec.
    #[error("IPsec has policies for what this host sends")]
    Policy,
    /// It is not known whether there is one; the text says why.
    #[error("it is unknown whether a firewall inspects what this host sends: {0}")]
    Unreadable(String),
    /// The same for what arrives: a chain, a function or a program.
    #[error("the firewall inspects what this host receives ({0})")]
    Received(String),
}

/// The first hook of each IP version on the way out of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostHooks {
    /// Of IPv4.
    pub v4: Option<HostHook>,
    /// Of IPv6.
    pub v6: Option<HostHook>,
}

/// Reads hooks, also after the process has given up its rights: what it read before is valid until
/// a chain changes.
#[derive(Debug, Default)]
pub struct HookReader {
    changes: Option<ChainChanges>,
    known: BTreeMap<(u32, Direction), HostHooks>,
}

impl HostHooks {
    /// The hook of an IP version.
    #[must_use]
    pub fn of(&self, is_v4: bool) -> Option<&HostHook> {
        if is_v4 { self.v4.as_ref() } else { self.v6.as_ref() }
    }

    fn add(&mut self, versions: Versions, hook: &HostHook) {
        for (of, is_v4) in [(&mut self.v4, true), (&mut self.v6, false)] {
            if versions.contains(is_v4) && of.is_none() {
                *of = Some(hook.clone());
            }
        }
    }

    /// Those that could not be read.
    pub(crate) fn unreadable(why: impl ToString) -> Self {
        let mut hooks = Self::default();
        hooks.add(Versions::Both, &HostHook::Unreadable(why.to_string()));
        hooks
    }
}

/// The hooks on the way of an interface's datagrams, in the calling thread's network namespace.
#[must_use]
pub fn read(interface: &InterfaceRef<'_>, of: Direction) -> HostHooks {
    try_read(interface, of).unwrap_or_else(|error| HostHooks::unreadable(Unread(error)))
}

impl HookReader {
    /// The hooks on the way of an interface's datagrams, in the calling thread's network namespace.
    pub fn read(&mut self, interface: &InterfaceRef<'_>, of: Direction) -> HostHooks {
        if self.changes.is_none() {
            // Subscribed before the first look, so that no change is missed after it.
            self.changes = ChainChanges::open().ok();
        }
        match try_read(interface, of) {
            Ok(hooks) => {
                self.known.insert((interface.index, of), hooks.clone());
                hooks
            }
            Err(error) => self.recall((interface.index, of), error),
        }
    }

    /// What was read while that was permitted.
    fn recall(&mut self, key: (u32, Direction), error: io::Error) -> HostHooks {
        let is_same = self.changes.as_mut().is_some_and(|changes| !changes.any());
        match self.known.get(&key) {
            Some(known) if is_same => known.clone(),
            Some(_) => HostHooks::unreadable(
                "it has changed since the rights to read it were given up (CAP_NET_ADMIN)",
            ),
            None => HostHooks::unreadable(Unread(error)),
        }
    }
}

/// An error of reading, in the user's words.
struct Unread(io::Error);

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => f.write_str("CAP_NET_ADMIN is missing"),
            _ => self.0.fmt(f),
        }
    }
}

fn try_read(interface: &InterfaceRef<'_>, of: Direction) -> io::Result<HostHooks> {
    match of {
        Direction::Sent => sent_hooks(interface),
        Direction::Received { .. } => received_hooks(interface, of),
    }
}

fn received_hooks(interface: &InterfaceRef<'_>, of: Direction) -> io::Result<HostHooks> {
    let mut hooks = HostHooks::default();
    if let Some(netfilter) = NetfilterSocket::open().map_err(into_io)? {
        for chain in netfilter.chains(interface.name, of)? {
            let text = format!("nftables, chain {:?}", chain.name);
            hooks.add(chain.versions, &HostHook::Received(text));
        }
        for function in netfilter.functions(interface.name, of)?.unwrap_or_default() {
            if !is_harmless(&function.name) {
                hooks.add(function.versions, &HostHook::Received(function.name));
            }
        }
    }
    if bpf_query::ingress_programs(interface.index)? > 0 {
        hooks.add(Versions::Both, &HostHook::Received("a BPF program, tcx".to_owned()));
    }
    Ok(hooks)
}

fn is_harmless(function: &str) -> bool {
    HARMLESS.iter().any(|name| function.starts_with(name))
}

fn sent_hooks(interface: &InterfaceRef<'_>) -> io::Result<HostHooks> {
    let mut hooks = HostHooks::default();
    let of = Direction::Sent;
    if let Some(netfilter) = NetfilterSocket::open().map_err(into_io)? {
        for chain in netfilter.chains(interface.name, of)? {
            hooks.add(chain.versions, &HostHook::Chain(chain.name));
        }
        // A kernel that does not list functions has no others than those of chains and tables, but
        // for programs of BPF, which remain unseen.
        for function in netfilter.functions(interface.name, of)?.unwrap_or_default() {
            if !is_harmless(&function.name) {
                hooks.add(function.versions, &HostHook::Function(function.name));
            }
        }
    }
    for (file, versions) in [("ip", Versions::V4), ("ip6", Versions::V6)] {
        if let Some(table) = legacy_table(file)? {
            hooks.add(versions, &HostHook::Table(table));
        }
    }
    if bpf_query::egress_programs(interface.index)? > 0 {
        hooks.add(Versions::Both, &HostHook::Program);
    }
    if control_group::egress_programs()? > 0 {
        hooks.add(Versions::Both, &HostHook::GroupProgram);
    }
    if let Some(ipsec) = IpsecSocket::open().map_err(into_io)?
        && ipsec.outgoing_policies()? > 0
    {
        hooks.add(Versions::Both, &HostHook::Policy);
    }
    Ok(hooks)
}

/// A table of iptables' own (not of iptables-nft, whose chains are those of nftables) in the
/// thread's network namespace. The kernel creates one when it is first used.
fn legacy_table(family: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(format!("/proc/thread-self/net/{family}_tables_names")) {
        Ok(names) => Ok(names.lines().next().map(str::to_owned)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Os { source, .. } => source,
        other => io::Error::other(other),
    }
}

/// Notifications about changes of nftables.
#[derive(Debug)]
struct ChainChanges {
    fd: OwnedFd,
    has_any: bool,
}

impl ChainChanges {
    /// # Errors
    /// EPERM without CAP_NET_ADMIN, which receiving does not need; the kernel has no nftables.
    fn open() -> Result<Self> {
        const TARGET: &str = "nfnetlink";
        let groups = 1 << (libc::NFNLGRP_NFTABLES - 1);
        let fd = socket::open_netlink(libc::NETLINK_NETFILTER, TARGET)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .map_err(|errno| Error::os("subscribing to notifications", TARGET, errno))?;
        Ok(Self { fd, has_any: false })
    }

    /// Whether anything has changed since it was opened.
    fn any(&mut self) -> bool {
        // Also if the buffer is too small for one, or has overrun.
        let mut bytes = [0; 64];
        let received = links::receive(self.fd.as_fd(), &mut bytes);
        let is_none = received.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        self.has_any |= !is_none;
        self.has_any
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::sockets::testnet::{
        FAR, NEAR, interface, ip, lacks_nft, nft, wait_for, with_cable, without_rights,
    };
    use crate::sys::bpf_query::attached::attach;

    fn hooks(name: &str) -> [Option<String>; 2] {
        let HostHooks { v4, v6 } = read(&interface(name), Direction::Sent);
        [v4, v6].map(|hook| hook.map(|hook| hook.to_string()))
    }

    const OUTPUT: &str =
        "add chain ip own out { type filter hook output priority 0; policy drop; }";

    #[test]
    fn each_hook_is_read_for_the_datagrams_that_it_concerns() {
        with_cable(|| {
            assert_eq!(hooks(NEAR), [None, None]);
            ip("xfrm policy add src 0.0.0.0/0 dst 239.0.0.0/8 dir out");
            let text = "IPsec has policies for what this host sends";
            assert_eq!(hooks(NEAR), [(); 2].map(|()| Some(text.to_owned())));
            ip("xfrm policy flush");
            let attached = attach(interface(NEAR).index);
            let text = "a BPF program inspects what the interface sends";
            assert_eq!(hooks(NEAR), [(); 2].map(|()| Some(text.to_owned())));
            assert_eq!(hooks(FAR), [None, None]);
            drop(attached);
            wait_for([None, None], || hooks(NEAR));
            let gone = InterfaceRef { index: 7777, name: "gone" };
            assert!(matches!(read(&gone, Direction::Sent).v4, Some(HostHook::Unreadable(_))));
            if lacks_nft() {
                return;
            }
            nft("add table ip own");
            nft(OUTPUT);
            let text = r#"the firewall inspects what this host sends (nftables, chain "own out")"#;
            assert_eq!(hooks(NEAR), [Some(text.to_owned()), None]);
        });
    }

    #[test]
    fn without_rights_what_was_read_is_valid_until_a_chain_changes() {
        with_cable(|| {
            if lacks_nft() {
                return;
            }
            nft("add table ip own");
            nft("add chain ip own out { type filter hook output priority 0; }");
            let mut reader = HookReader::default();
            assert_eq!(reader.read(&interface(NEAR), Direction::Sent), HostHooks::default());
            thread::scope(|scope| {
                scope.spawn(|| {
                    without_rights();
                    assert_eq!(
                        reader.read(&interface(NEAR), Direction::Sent),
                        HostHooks::default()
                    );
                    let other =
                        reader.read(&interface(FAR), Direction::Sent).v6.unwrap().to_string();
                    assert!(other.ends_with(": CAP_NET_ADMIN is missing"), "{other}");
                });
            });
            nft("add rule ip own out drop");
            thread::scope(|scope| {
                scope.spawn(|| {
                    without_rights();
                    for _ in 0..2 {
                        let hook =
                            reader.read(&interface(NEAR), Direction::Sent).v4.unwrap().to_string();
                        assert!(hook.contains("it has changed since the rights"), "{hook}");
                    }
                });
            });
            let known = reader.read(&interface(NEAR), Direction::Sent).v4;
            assert_eq!(known, Some(HostHook::Chain("own out".to_owned())));
        });
    }
}
