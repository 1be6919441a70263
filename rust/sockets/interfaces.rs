//! The network interfaces of the calling thread's namespace, and the one setting that mcr changes:
//! GRO. Uses netlink and ioctl, never /sys, which shows the namespace it was mounted in.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, MissingRight, Result};
use crate::sockets::netlink::link::{Address, Link};
use crate::sockets::netlink::links;
use crate::sockets::socket;
use crate::sys::netdev;

/// Merging in the device: a merged frame cannot be told from a datagram of its length.
const MERGING: [&str; 2] = ["rx-lro", "rx-gro-hw"];

/// A network interface in its current state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInterface {
    /// Its name.
    pub name: String,
    /// Its alternative names (ip-link(8), property add).
    pub altnames: Vec<String>,
    /// Its index: the kernel's identifier, unchanged by renaming.
    pub index: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it supports multicast (IFF_MULTICAST).
    pub multicast: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Whether the link is up and running (`IFF_LOWER_UP`, `IFF_RUNNING`). Between the two flags,
    /// datagrams are lost although sends succeed.
    pub carrier: bool,
    /// Its MTU in bytes, the IP header included.
    pub mtu: u32,
    /// Whether generic receive offload is on; false if the device does not report it.
    pub gro: bool,
    /// Its addresses, IPv4 first, each family in the kernel's order.
    pub addresses: Vec<IpAddr>,
    /// The broadcast addresses of its IPv4 networks.
    pub broadcasts: Vec<Ipv4Addr>,
}

/// Queries single devices of the network namespace in which it was opened, from any thread.
#[derive(Debug)]
pub struct Devices {
    socket: OwnedFd,
}

impl Devices {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Os`] if no descriptor is left.
    pub fn open() -> Result<Self> {
        let socket = socket::open(libc::AF_INET, libc::SOCK_DGRAM, "the interfaces")?;
        Ok(Self { socket })
    }

    /// The MTU in bytes and whether generic receive offload is on, which together bound the frame
    /// size. For a device that is gone, the worst case.
    #[must_use]
    pub fn mtu_and_gro(&self, name: &str) -> (u32, bool) {
        match netdev::mtu(self.socket.as_fd(), name) {
            Ok(mtu) => (mtu, netdev::gro(self.socket.as_fd(), name).unwrap_or(false)),
            Err(_) => (u32::MAX, true),
        }
    }

    /// The features of a device that are on and merge frames before XDP programs get them.
    #[must_use]
    pub fn merging_before_xdp(&self, name: &str) -> Vec<&'static str> {
        let is_on = |feature: &&str| netdev::feature(self.socket.as_fd(), name, feature);
        MERGING.into_iter().filter(|feature| is_on(feature).unwrap_or(false)).collect()
    }

    /// The number of transmit queues that a device uses now; `None` if it does not report it.
    #[must_use]
    pub fn transmit_queues(&self, name: &str) -> Option<u32> {
        netdev::transmit_queues(self.socket.as_fd(), name).ok().filter(|count| *count > 0)
    }
}

/// Every interface of the calling thread's network namespace, in the order of the indices.
///
/// # Errors
/// [`Error::Os`] if the kernel does not list them.
pub fn list() -> Result<Vec<HostInterface>> {
    let socket = socket::open(libc::AF_INET, libc::SOCK_DGRAM, "the list of interfaces")?;
    let links = links::list()?;
    let mut interfaces: BTreeMap<u32, HostInterface> =
        links.into_iter().map(|(index, link)| (index, describe(socket.as_fd(), link))).collect();
    for address in links::addresses()? {
        let Some(of) = interfaces.get_mut(&address.index) else { continue };
        of.addresses.push(address.address.ip());
        for broadcast in broadcasts(&address) {
            if !of.broadcasts.contains(&broadcast) {
                of.broadcasts.push(broadcast);
            }
        }
    }
    for interface in interfaces.values_mut() {
        interface.addresses.sort_by_key(IpAddr::is_ipv6);
    }
    Ok(interfaces.into_values().collect())
}

/// Switches generic receive offload of an interface on.
///
/// # Errors
/// [`Error::Permission`] naming CAP_NET_ADMIN; [`Error::Os`] if the device does not support it, or
/// reports success but leaves it off.
pub fn switch_gro_on(name: &str) -> Result<()> {
    let socket = socket::open(libc::AF_INET, libc::SOCK_DGRAM, name)?;
    let failed = |error| Error::os("enabling GRO", name, error);
    netdev::set_gro(socket.as_fd(), name, true).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => Error::Permission(MissingRight::of(
            "CAP_NET_ADMIN",
            format!("CAP_NET_ADMIN is missing: enabling GRO for {name} is not permitted"),
            None,
        )),
        _ => failed(error),
    })?;
    // A macvlan reports success but keeps the setting of its lower interface.
    if netdev::gro(socket.as_fd(), name).map_err(failed)? {
        return Ok(());
    }
    Err(failed(io::Error::other("the device reports success but leaves it off")))
}

/// Whether the device merges datagrams even if no socket asks for it; `None` if the device or the
/// kernel does not have the feature.
#[must_use]
pub fn udp_gro_forwarding(name: &str) -> Option<bool> {
    let socket = socket::open(libc::AF_INET, libc::SOCK_DGRAM, name).ok()?;
    netdev::feature(socket.as_fd(), name, "rx-udp-gro-forwarding").ok()
}

/// The interface without its addresses.
fn describe(socket: BorrowedFd<'_>, link: Link) -> HostInterface {
    let gro = netdev::gro(socket, &link.name).unwrap_or(false);
    let Link { index, name, altnames, up, multicast, loopback, carrier, mtu, .. } = link;
    HostInterface {
        name,
        altnames,
        index,
        up,
        multicast,
        loopback,
        carrier,
        mtu,
        gro,
        addresses: Vec::new(),
        broadcasts: Vec::new(),
    }
}

/// The broadcast addresses of an IPv4 address: the configured one, and the one that the kernel
/// derives for every network of more than two hosts (fib_add_ifaddr).
fn broadcasts(of: &Address) -> impl Iterator<Item = Ipv4Addr> {
    let derived = match of.address.ip() {
        IpAddr::V4(address) if of.prefix_bits < 31 => {
            Some(Ipv4Addr::from_bits(address.to_bits() | u32::MAX >> of.prefix_bits))
        }
        _ => None,
    };
    of.broadcast.into_iter().chain(derived)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::testnet::{FAR, NEAR, in_namespace, ip, with_cable};

    fn find(name: &str) -> HostInterface {
        list().unwrap().into_iter().find(|interface| interface.name == name).unwrap()
    }

    #[test]
    fn a_cable_is_described_as_it_was_laid() {
        with_cable(|| {
            ip(&format!("link set {NEAR} mtu 1400"));
            ip(&format!("address add 10.9.1.1/24 dev {NEAR} label {NEAR}:a"));
            ip(&format!("address add 2001:db8::1/64 dev {NEAR} nodad"));
            let near = find(NEAR);
            assert_eq!(near.index, nix::net::if_::if_nametoindex(NEAR).unwrap());
            assert_eq!(near.mtu, 1400);
            assert!(near.up && near.multicast && near.carrier && !near.loopback);
            let known = ["10.9.0.1", "10.9.1.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
            assert!(known.iter().all(|ip| near.addresses.contains(ip)), "{:?}", near.addresses);

            ip(&format!("link set {FAR} down"));
            assert!(!find(NEAR).carrier);
            assert!(find(NEAR).up && !find(FAR).up);
        });
    }

    #[test]
    fn an_interface_without_a_link_layer_address_is_listed_and_alternative_names_are_read() {
        in_namespace(|| {
            ip("tuntap add dev vpn0 mode tun");
            ip("address add 10.7.0.1/24 dev vpn0");
            ip("link property add dev vpn0 altname tunnel0");
            let vpn = find("vpn0");
            assert!(vpn.multicast && !vpn.loopback && !vpn.up);
            assert_eq!((vpn.mtu, vpn.altnames), (1500, vec!["tunnel0".to_owned()]));
            assert_eq!(vpn.addresses, ["10.7.0.1".parse::<IpAddr>().unwrap()]);
        });
    }

    #[test]
    fn an_interface_may_have_many_alternative_names() {
        const SPARE: &str = "spare";
        with_cable(|| {
            // Down, and without an address.
            ip(&format!("link add {SPARE} type veth peer spare-peer"));
            let names: Vec<String> = (0..280).map(|number| format!("{number:0>127}")).collect();
            // iproute2 leaves out what does not fit into its message.
            for some in names.chunks(7) {
                ip(&format!("link property add dev {SPARE} altname {}", some.join(" altname ")));
            }
            let found = find(SPARE).altnames;
            assert!(found == names, "there are {}", found.len());
        });
    }

    #[test]
    fn the_broadcast_addresses_are_those_that_the_kernel_has() {
        with_cable(|| {
            ip(&format!("address add 10.9.1.1/31 dev {NEAR}"));
            ip(&format!("address add 10.9.2.1/32 dev {NEAR}"));
            ip(&format!("address add 10.9.3.1/24 broadcast 10.9.3.7 dev {NEAR}"));
            let routes = ip(&format!("route show table local type broadcast dev {NEAR}"));
            let mut kernel: Vec<String> = routes
                .lines()
                .filter_map(|line| line.split(' ').find(|word| word.starts_with("10.")))
                .map(str::to_owned)
                .collect();
            let mut found: Vec<String> =
                find(NEAR).broadcasts.iter().map(Ipv4Addr::to_string).collect();
            kernel.sort();
            found.sort();
            assert_eq!(found, ["10.9.0.255", "10.9.3.255", "10.9.3.7"]);
            assert_eq!(found, kernel);
        });
    }

    #[test]
    fn gro_is_switched_on() {
        with_cable(|| {
            let socket = socket::open(libc::AF_INET, libc::SOCK_DGRAM, NEAR).unwrap();
            netdev::set_gro(socket.as_fd(), NEAR, false).unwrap();
            assert!(!find(NEAR).gro);
            switch_gro_on(NEAR).unwrap();
            assert!(find(NEAR).gro);
            assert!(switch_gro_on("nosuch0").is_err());
            assert!(netdev::feature(socket.as_fd(), NEAR, "rx-gro").unwrap());
            assert!(netdev::feature(socket.as_fd(), NEAR, "rx-gr").is_err());
            assert_eq!(udp_gro_forwarding(NEAR), Some(false));
            assert_eq!(udp_gro_forwarding("nosuch0"), None);
        });
    }

    #[test]
    fn another_namespace_has_its_loopback_only() {
        in_namespace(|| {
            let all = list().unwrap();
            assert_eq!(all.len(), 1);
            assert!(all[0].loopback && all[0].mtu == 65536);
            assert_eq!(all[0].addresses.len(), 2);
        });
    }
}
