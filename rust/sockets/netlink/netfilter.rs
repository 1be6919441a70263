//! What netfilter calls for outgoing datagrams: base chains of nftables, and functions that kernel
//! modules or BPF programs have registered (nfnetlink, <linux/netfilter/nfnetlink_hook.h>).
//!
//! The kernel answers only processes with CAP_NET_ADMIN in the network namespace.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};

use super::messages::{attributes, each_attribute};
use super::query::{QueryError, QuerySocket, attribute, request};
use crate::error::Result;

const TARGET: &str = "nfnetlink";

/// Families (`NFPROTO_*`): of both IP versions, of one, of a device.
const INET: u8 = 1;
const IPV4: u8 = 2;
const NETDEV: u8 = 5;
const IPV6: u8 = 10;

/// Hooks (`NF_INET_*`, `NF_NETDEV_EGRESS`) on the way of an outgoing datagram.
const LOCAL_OUT: u32 = 3;
const POST_ROUTING: u32 = 4;
const EGRESS: u32 = 1;
/// The same for one that arrives; `NF_NETDEV_INGRESS` and `NF_INET_INGRESS` are those of a device.
const PRE_ROUTING: u32 = 0;
const LOCAL_IN: u32 = 1;
const INGRESS: u32 = 0;
const INET_INGRESS: u32 = 5;

/// Length of `struct nfgenmsg`; the attributes follow, with integers in network byte order.
const HEADER_BYTES: usize = 4;

/// The IP versions whose outgoing datagrams are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Both,
}

impl Versions {
    /// Whether a version is one of them.
    #[must_use]
    pub fn contains(self, is_v4: bool) -> bool {
        match self {
            Self::V4 => is_v4,
            Self::V6 => !is_v4,
            Self::Both => true,
        }
    }
}

/// Which datagrams of an interface are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Those that sockets of this host send.
    Sent,
    /// Those that arrive.
    Received {
        /// Whether also on the way to sockets, behind the interface.
        to_sockets: bool,
    },
}

/// Something that netfilter calls for the datagrams of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterCall {
    /// The datagrams for which it is called.
    pub versions: Versions,
    /// The table and chain, or the kernel's function.
    pub name: String,
}

/// A socket for requests in the network namespace in which it was opened.
#[derive(Debug)]
pub struct NetfilterSocket {
    queries: QuerySocket,
}

impl NetfilterSocket {
    /// Opens it in the calling thread's network namespace; `None` from a kernel without nfnetlink,
    /// which has neither chains nor functions.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn open() -> Result<Option<Self>> {
        super::optional(QuerySocket::open(libc::NETLINK_NETFILTER, TARGET))
            .map(|queries| queries.map(|queries| Self { queries }))
    }

    /// The base chains of nftables that a datagram of the interface passes, without those that
    /// change nothing: no rules, and the policy is to accept.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN.
    pub fn chains(&self, interface: &str, of: Direction) -> io::Result<Vec<FilterCall>> {
        let kind = message_type(libc::NFNL_SUBSYS_NFTABLES, libc::NFT_MSG_GETCHAIN);
        let mut chains = Vec::new();
        let body = [0, 0, 0, 0];
        let answered =
            self.queries.ask(&request(kind, NLM_F_REQUEST | NLM_F_DUMP, &body), |_, payload| {
                chains.extend(chain(payload, interface, of));
            });
        answered.or_else(unless_absent)?;
        Ok(chains)
    }

    /// The functions that netfilter calls for a datagram of the interface, without those of
    /// nftables' chains; of those that arrive, only the functions of the interface itself. `None`
    /// from a kernel that does not list them.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN.
    pub fn functions(&self, interface: &str, of: Direction) -> io::Result<Option<Vec<FilterCall>>> {
        const SENT: [(u8, u32, Versions); 5] = [
            (IPV4, LOCAL_OUT, Versions::V4),
            (IPV4, POST_ROUTING, Versions::V4),
            (IPV6, LOCAL_OUT, Versions::V6),
            (IPV6, POST_ROUTING, Versions::V6),
            (NETDEV, EGRESS, Versions::Both),
        ];
        let mut found = Vec::new();
        let places: &[_] = match of {
            Direction::Sent => &SENT,
            Direction::Received { .. } => &[(NETDEV, INGRESS, Versions::Both)],
        };
        for &(family, hook, versions) in places {
            let request = hook_request(family, hook, interface);
            let answered = self.queries.ask(&request, |_, payload| {
                let name = function(payload);
                found.extend(name.map(|name| FilterCall { versions, name }));
            });
            match answered {
                Ok(()) => {}
                // No module answers such requests (net/netfilter/nfnetlink.c).
                Err(QueryError::Refused(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
                    return Ok(None);
                }
                // The kernel has no such hook.
                Err(QueryError::Refused(error)) if error.raw_os_error() != Some(libc::EPERM) => {}
                Err(error) => return Err(error.into_error()),
            }
        }
        Ok(Some(found))
    }
}

/// EINVAL from a kernel without nftables; ENOENT if it has none of it in this namespace.
fn unless_absent(error: QueryError) -> io::Result<()> {
    match error {
        QueryError::Refused(error)
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) =>
        {
            Ok(())
        }
        other => Err(other.into_error()),
    }
}

fn message_type(subsystem: libc::c_int, message: libc::c_int) -> u16 {
    u16::try_from(subsystem << 8 | message).unwrap_or_default()
}

fn hook_request(family: u8, hook: u32, interface: &str) -> Vec<u8> {
    /// `NFNLA_HOOK_HOOKNUM`, `NFNLA_HOOK_DEV`; `NFNL_MSG_HOOK_GET` is message 0.
    const HOOKNUM: u16 = 1;
    const DEV: u16 = 3;
    let mut body = vec![family, 0, 0, 0];
    body.extend(attribute(HOOKNUM, &hook.to_be_bytes()));
    if family == NETDEV {
        body.extend(attribute(DEV, &[interface.as_bytes(), b"\0"].concat()));
    }
    let kind = message_type(libc::NFNL_SUBSYS_HOOK, 0);
    request(kind, NLM_F_REQUEST | NLM_F_DUMP, &body)
}

/// The name of the function in an answer, if it is not a chain of nftables.
pub(super) fn function(payload: &[u8]) -> Option<String> {
    /// `NFNLA_HOOK_FUNCTION_NAME`, `NFNLA_HOOK_CHAIN_INFO`.
    const FUNCTION_NAME: u16 = 4;
    const CHAIN_INFO: u16 = 6;
    let [name, chain] = attributes(payload, HEADER_BYTES, [FUNCTION_NAME, CHAIN_INFO]);
    // A kernel without symbols gives no name.
    chain.is_none().then(|| name.map_or_else(|| "an unnamed function".to_owned(), text))
}

/// The IP versions whose datagrams pass the chains of a family at a hook.
fn passing(of: Direction, family: u8, hook: u32, is_on: bool) -> Option<Versions> {
    let is_behind = match of {
        Direction::Sent => matches!(hook, LOCAL_OUT | POST_ROUTING),
        Direction::Received { to_sockets } => to_sockets && matches!(hook, PRE_ROUTING | LOCAL_IN),
    };
    match (of, family, hook) {
        (Direction::Sent, NETDEV, EGRESS)
        | (Direction::Received { .. }, NETDEV, INGRESS)
        | (Direction::Received { .. }, INET, INET_INGRESS) => is_on.then_some(Versions::Both),
        (_, INET, _) if is_behind => Some(Versions::Both),
        (_, IPV4, _) if is_behind => Some(Versions::V4),
        (_, IPV6, _) if is_behind => Some(Versions::V6),
        _ => None,
    }
}

/// The chain in an answer, if datagrams of the interface pass it and it has an effect.
pub(super) fn chain(payload: &[u8], interface: &str, of: Direction) -> Option<FilterCall> {
    /// `NFTA_CHAIN_*` and `NFTA_HOOK_HOOKNUM`.
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const USE: u16 = 6;
    const HOOKNUM: u16 = 1;
    let family = *payload.first()?;
    let kinds = [TABLE, NAME, HOOK, POLICY, USE];
    let [table, name, hook, policy, rules] = attributes(payload, HEADER_BYTES, kinds);
    // Only base chains have a hook.
    let hook = hook?;
    let [number] = attributes(hook, 0, [HOOKNUM]);
    let versions = passing(of, family, word(number?)?, is_on(hook, interface))?;
    let accepts = policy.and_then(word).is_none_or(|policy| policy == libc::NF_ACCEPT as u32);
    let is_idle = accepts && rules.and_then(word) == Some(0);
    let name = || format!("{} {}", text(table.unwrap_or_default()), text(name.unwrap_or_default()));
    (!is_idle).then(|| FilterCall { versions, name: name() })
}

/// Whether a chain of a device hook is on this interface.
fn is_on(hook: &[u8], interface: &str) -> bool {
    /// `NFTA_HOOK_DEV`, `NFTA_HOOK_DEVS` with `NFTA_DEVICE_NAME` or, since Linux 6.16,
    /// `NFTA_DEVICE_PREFIX`.
    const DEV: u16 = 3;
    const DEVS: u16 = 4;
    const DEVICE_PREFIX: u16 = 2;
    let [one, several] = attributes(hook, 0, [DEV, DEVS]);
    let mut is_on = one.is_some_and(|name| text(name) == interface);
    each_attribute(several.unwrap_or_default(), |kind, name| {
        let name = text(name);
        is_on |= match kind {
            DEVICE_PREFIX => interface.starts_with(&name),
            _ => name == interface,
        };
    });
    is_on
}

fn word(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// A string that may end with zeros.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::testnet::{FAR, NEAR, lacks_nft, nft, with_cable};

    fn chains() -> Vec<(Versions, String)> {
        let socket = NetfilterSocket::open().unwrap().unwrap();
        let calls = socket.chains(NEAR, Direction::Sent).unwrap();
        calls.into_iter().map(|call| (call.versions, call.name)).collect()
    }

    #[test]
    fn chains_for_outgoing_datagrams_are_found_once_they_do_something() {
        if lacks_nft() {
            return;
        }
        with_cable(|| {
            assert_eq!(chains(), []);
            nft("add table inet own");
            nft("add chain inet own in { type filter hook input priority 0; policy drop; }");
            nft("add chain inet own out { type filter hook output priority 0; }");
            nft("add chain inet own later");
            nft("add rule inet own later drop");
            assert_eq!(chains(), [], "an empty chain that accepts");
            nft("add rule inet own out udp dport 1 counter");
            assert_eq!(chains(), [(Versions::Both, "own out".to_owned())]);
            nft("delete table inet own");
            nft("add table ip four");
            nft("add chain ip four post { type filter hook postrouting priority 0; policy drop; }");
            assert_eq!(chains(), [(Versions::V4, "four post".to_owned())]);
            nft("delete table ip four");
            nft("add table ip6 six");
            nft("add chain ip6 six out { type route hook output priority 0; policy drop; }");
            assert_eq!(chains(), [(Versions::V6, "six out".to_owned())]);
        });
    }

    #[test]
    fn a_chain_of_a_device_concerns_that_device() {
        if lacks_nft() {
            return;
        }
        with_cable(|| {
            let add = |name: &str, devices: &str| {
                nft(&format!(
                    "add chain netdev own {name} {{ type filter hook egress {devices} priority 0; \
                     policy drop; }}"
                ));
            };
            nft("add table netdev own");
            add("far", &format!("device {FAR}"));
            nft(&format!(
                "add chain netdev own in {{ type filter hook ingress device {NEAR} priority 0; \
                 policy drop; }}"
            ));
            assert_eq!(chains(), []);
            add("both", &format!("devices = {{ {NEAR}, {FAR} }}"));
            assert_eq!(chains(), [(Versions::Both, "own both".to_owned())]);
        });
    }

    #[test]
    fn chains_for_arriving_datagrams_are_found_by_how_they_are_received() {
        if lacks_nft() {
            return;
        }
        with_cable(|| {
            let names = |to_sockets| {
                let socket = NetfilterSocket::open().unwrap().unwrap();
                let of = Direction::Received { to_sockets };
                let calls = socket.chains(NEAR, of).unwrap().into_iter();
                calls.map(|call| call.name).collect::<Vec<_>>()
            };
            let drop = "priority 0; policy drop;";
            nft("add table inet own");
            nft(&format!("add chain inet own out {{ type filter hook output {drop} }}"));
            nft(&format!("add chain inet own in {{ type filter hook input {drop} }}"));
            nft("add table netdev dev");
            nft(&format!(
                "add chain netdev dev far {{ type filter hook ingress device {FAR} {drop} }}"
            ));
            assert_eq!([false, true].map(names), [vec![], vec!["own in".to_owned()]]);
            nft(&format!(
                "add chain netdev dev near {{ type filter hook ingress device {NEAR} {drop} }}"
            ));
            assert_eq!(names(false), ["dev near"]);
        });
    }

    /// The kernel of a test machine may lack the module that lists functions, so that the answers
    /// are written here (net/netfilter/nfnetlink_hook.c).
    #[test]
    fn functions_are_read_and_those_of_chains_left_out() {
        let answer = |rest: Vec<u8>| [vec![IPV4, 0, 0, 0], attribute(2, &[0; 4]), rest].concat();
        let named = |name: &[u8]| attribute(4, &[name, b"\0"].concat());
        let module = attribute(5, b"ip_tables\0");
        let by_module = answer([module, named(b"ipt_do_table")].concat());
        assert_eq!(function(&by_module).as_deref(), Some("ipt_do_table"));
        let info = attribute(6, &attribute(2, &1_u32.to_be_bytes()));
        assert_eq!(function(&answer([named(b"nft_do_chain_ipv4"), info].concat())), None);
        assert_eq!(function(&answer(vec![])).as_deref(), Some("an unnamed function"));
    }

    #[test]
    fn a_kernel_that_lists_no_functions_is_told_from_one_that_has_none() {
        if lacks_nft() {
            return;
        }
        with_cable(|| {
            let socket = NetfilterSocket::open().unwrap().unwrap();
            let before = socket.functions(NEAR, Direction::Sent).unwrap();
            nft("add table ip own");
            nft("add chain ip own out { type filter hook output priority 0; policy drop; }");
            let after = socket.functions(NEAR, Direction::Sent).unwrap();
            // A chain is not one of them; the host may have others, in every namespace.
            assert_eq!(before, after);
        });
    }

    #[test]
    fn a_prefix_stands_for_all_devices_that_begin_with_it() {
        let hook = |prefix: &[u8]| attribute(4, &attribute(2, prefix));
        assert!(is_on(&hook(b"near\0"), NEAR));
        assert!(!is_on(&hook(b"far\0"), NEAR));
    }
}
