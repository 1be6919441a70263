//! The copies that outputs would send of a datagram, with this host as it is now: the headers by
//! the code of the engine, route and neighbour by the queries of open outputs.

use crate::addr::Addr;
use crate::engine::rewrite::{Origin, Preview, Rewrite};
use crate::error::Result;
use crate::packet::{Datagram, group_mac};
use crate::relay::network::blocked;
use crate::relay::network::link_table::LinkTable;
use crate::sockets::netlink::link::{Link, LinkEvent};
use crate::sockets::netlink::links;
use crate::sockets::netlink::neighbours::NeighbourState;
use crate::sockets::netlink::routes::{Route, RouteSocket};
use crate::spec::{Choice, OutputSpec, RuleSpec};

/// The largest UDP payload in bytes, in IPv4 (RFC 791) and IPv6 (RFC 8200).
const MAX_PAYLOADS: [u32; 2] = [65507, 65527];
const UDP_HEADER: u32 = 8;

/// The links, addresses and routes of this host at one moment.
pub struct CopyHost {
    links: LinkTable,
    routes: RouteSocket,
}

/// A copy that an output would send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPreview {
    /// Where it goes.
    pub destination: Addr,
    /// The destination port.
    pub port: u16,
    /// The source address; `None` if it is unknown, as there is no route.
    pub source: Option<Addr>,
    /// The source port; `None` if the kernel chooses one when the output is opened.
    pub source_port: Option<u16>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The differentiated services code point.
    pub dscp: u8,
    /// The name of the interface by which it leaves, if that is known.
    pub interface: Option<String>,
    /// The router that gets it; `None` if it goes to its destination directly.
    pub gateway: Option<Addr>,
    /// The destination MAC address, if there is one and it is known.
    pub mac: Option<[u8; 6]>,
    /// How far it is known.
    pub mac_state: MacState,
    /// The MTU of the interface in bytes.
    pub mtu: Option<u32>,
    /// The number of IP packets that it takes; more than 1 are fragments.
    pub packets: u32,
    /// Why it would not be sent.
    pub loss: Option<PreviewLoss>,
}

/// What is known of a destination MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacState {
    /// It follows from the group, or the neighbour is known.
    Known,
    /// The neighbour was not confirmed for a while; the kernel confirms it when it sends.
    Stale,
    /// The kernel asks for it when it sends, and keeps a few datagrams until then.
    Unknown,
    /// The neighbour did not answer: copies are lost, although sending succeeds.
    Failed,
    /// The copy does not leave by Ethernet.
    None,
}

/// Why a copy would not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewLoss {
    /// The reason, as the counters of outputs name it.
    pub reason: &'static str,
    /// One sentence.
    pub text: String,
}

impl MacState {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::None => "none",
        }
    }
}

impl CopyHost {
    /// Reads the network namespace of the calling thread; needs no privilege.
    ///
    /// # Errors
    /// Netlink is unavailable.
    pub fn read() -> Result<Self> {
        let mut table = LinkTable::default();
        for link in links::list()?.into_values() {
            table.apply(LinkEvent::Link(link));
        }
        for each in links::addresses()?.into_iter().filter(|each| each.usable) {
            table.apply(LinkEvent::Address(each.index, each.address));
        }
        Ok(Self { links: table, routes: RouteSocket::open()? })
    }

    /// The copy of a datagram that the output with this index would send.
    ///
    /// # Panics
    ///
    /// If the rule has no such output.
    #[must_use]
    pub fn copy(&self, rule: &RuleSpec, output: usize, datagram: &Datagram) -> CopyPreview {
        let Datagram { source, group, source_port, port, ttl, dscp, .. } = *datagram;
        let origin = Origin { source, group, source_port, port, ttl, dscp };
        let spec = &rule.outputs[output];
        let first = (rule.input.group, rule.input.port);
        let Preview { headers, errno } = Rewrite::preview(spec, spec.address, first, &origin);
        let asked = blocked::output_ifindex(spec, &self.links);
        let ifindex = asked.as_ref().copied().unwrap_or(0);
        let (destination, port) = (headers.destination, headers.port);
        let to = OutputSpec { address: destination, port, ifindex, ..spec.clone() };
        let route = asked.is_ok().then(|| self.routes.find(&to).ok().flatten()).flatten();
        let link = route.and_then(|route| self.links.get(route.ifindex));
        let link = link.or_else(|| self.links.find(&spec.interface));
        let source = match spec.source {
            Choice::Keep => Some(headers.source),
            Choice::Chosen(source) => Some(source),
            Choice::Kernel => route.and_then(|route| route.source),
        };
        let source_port = match spec.source_port {
            Choice::Keep => Some(headers.source_port),
            Choice::Chosen(port) => Some(port),
            Choice::Kernel => None,
        };
        let (mac, mac_state) = self.mac(destination, route, link);
        let mtu = link.map(|link| link.mtu);
        let packets = mtu.map_or(1, |mtu| packets(&to, mtu, datagram.payload.len));
        let parked = asked.err().map(|blocked| blocked.text).or_else(|| no_path(&to, route, link));
        let parked = parked.map(|text| PreviewLoss { reason: "no_carrier", text });
        let gateway = route.map(|route| route.next_hop).filter(|hop| *hop != destination);
        let loss = parked
            .or_else(|| refusal(errno, origin))
            .or_else(|| too_big(&to, mtu, packets, datagram.payload.len));
        CopyPreview {
            destination,
            port,
            source,
            source_port,
            ttl: headers.ttl,
            dscp: headers.dscp,
            interface: link.map(|link| link.name.clone()),
            gateway,
            mac,
            mac_state,
            mtu,
            packets,
            loss,
        }
    }

    fn mac(
        &self,
        destination: Addr,
        route: Option<Route>,
        link: Option<&Link>,
    ) -> (Option<[u8; 6]>, MacState) {
        let Some(link) = link.filter(|link| link.mac.is_some()) else {
            return (None, MacState::None);
        };
        if destination.is_multicast() {
            return (Some(group_mac(destination)), MacState::Known);
        }
        match route {
            Some(route) if route.is_to_a_host => match self.routes.neighbour(&route) {
                Ok(neighbour) => (neighbour.mac, neighbour.state.into()),
                Err(_) => (None, MacState::Unknown),
            },
            // A broadcast: a host's own addresses are routed to the loopback, which has no MAC.
            Some(route) if route.ifindex == link.index => (Some([0xff; 6]), MacState::Known),
            _ => (None, MacState::Unknown),
        }
    }
}

impl From<NeighbourState> for MacState {
    fn from(state: NeighbourState) -> Self {
        match state {
            NeighbourState::Known => Self::Known,
            NeighbourState::Stale => Self::Stale,
            NeighbourState::Unknown => Self::Unknown,
            NeighbourState::Failed => Self::Failed,
        }
    }
}

/// Why copies to a destination reach no link.
fn no_path(to: &OutputSpec, route: Option<Route>, link: Option<&Link>) -> Option<String> {
    if to.ifindex != 0 && link.is_some_and(|link| !link.carrier) {
        return Some(format!("{} has no carrier", to.interface));
    }
    let needs_route = !to.address.is_multicast();
    (needs_route && route.is_none()).then(|| format!("there is no route to {}", to.address))
}

fn refusal(errno: Option<i32>, origin: Origin) -> Option<PreviewLoss> {
    let text = match errno? {
        libc::ETIME => format!("the TTL {} is used up (ETIME)", origin.ttl),
        _ => {
            format!("{} is not an address that a host can send from (EADDRNOTAVAIL)", origin.source)
        }
    };
    Some(PreviewLoss { reason: "send_error", text })
}

/// The number of IP packets for a payload of `len` bytes.
fn packets(to: &OutputSpec, mtu: u32, len: u32) -> u32 {
    let ip = u32::from(to.ip_headers()) - UDP_HEADER;
    if len + UDP_HEADER + ip <= mtu {
        return 1;
    }
    /// The fragment header (RFC 8200, 4.5).
    const FRAGMENT_HEADER: u32 = 8;
    let head = if to.address.is_v4() { ip } else { ip + FRAGMENT_HEADER };
    let room = (mtu.saturating_sub(head) & !7).max(8);
    (len + UDP_HEADER).div_ceil(room)
}

fn too_big(to: &OutputSpec, mtu: Option<u32>, packets: u32, len: u32) -> Option<PreviewLoss> {
    let loss = |text| Some(PreviewLoss { reason: "too_big", text });
    let most = MAX_PAYLOADS[usize::from(!to.address.is_v4())];
    if len > most {
        return loss(format!("{len} bytes are more than a datagram holds, {most}"));
    }
    match mtu {
        Some(mtu) if packets > 1 && to.has_own_headers() => loss(format!(
            "{len} bytes and headers of {} are more than the MTU of {mtu}, and copies with \
             sport=keep are never fragmented",
            to.ip_headers()
        )),
        _ => None,
    }
}
