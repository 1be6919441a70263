//! The check whether an interface lends itself to an XDP link, by queries that need no privilege.

use std::collections::BTreeSet;
use std::io;

use super::hooks::HostHooks;
use super::obstacle::XdpObstacle;
use crate::error::Result;
use crate::sockets::interfaces::Devices;
use crate::sockets::netlink::link::Link;
use crate::sockets::netlink::traffic::{Discipline, TrafficSocket};

/// Queueing disciplines that only queue what the interface cannot take at once, or share it fairly:
/// whoever passes them by gets no more than the interface takes, in another order. All others limit
/// a rate, give precedence, delay or drop at the user's wish, which must not be passed by.
///
/// `clsact` and `ingress` queue nothing; their filters are looked at by themselves.
const PASSING: [&str; 15] = [
    "noqueue",
    "pfifo_fast",
    "pfifo",
    "bfifo",
    "pfifo_head_drop",
    "mq",
    "fq",
    "fq_codel",
    "fq_pie",
    "codel",
    "pie",
    "sfq",
    "cake",
    "clsact",
    "ingress",
];

/// Queries about the interfaces of the network namespace in which it was opened, from any thread.
#[derive(Debug)]
pub struct XdpSurvey {
    traffic: TrafficSocket,
    devices: Devices,
}

impl XdpSurvey {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// No descriptor is left, or netlink is unavailable.
    pub fn open() -> Result<Self> {
        Ok(Self { traffic: TrafficSocket::open()?, devices: Devices::open()? })
    }

    /// Why copies to groups of one IP version cannot leave an interface through a queue; `None` if
    /// they can. `hooks` are those of the interface. Leaves aside who receives the group on this
    /// host, and whether another program has the queue.
    #[must_use]
    pub fn obstacle(
        &self,
        link: &Link,
        queue: u32,
        is_v4: bool,
        hooks: &HostHooks,
    ) -> Option<XdpObstacle> {
        let name = || link.name.clone();
        if link.mac.is_none() {
            return Some(XdpObstacle::NotEthernet(name()));
        }
        if !link.up {
            return Some(XdpObstacle::Down(name()));
        }
        let queues = self.transmit_queues(link);
        if queue >= queues {
            return Some(XdpObstacle::NoQueue { interface: name(), queue, queues });
        }
        let found = self.traffic_obstacle(link, is_v4);
        let failed = |error: io::Error| Some(XdpObstacle::Refused(format!("rtnetlink: {error}")));
        found.unwrap_or_else(failed).or_else(|| hooks.of(is_v4).cloned().map(XdpObstacle::Hook))
    }

    /// What looks at the datagrams of one IP version that arrive at an interface, and would miss
    /// those that an XDP program takes. `hooks` are those for received datagrams.
    #[must_use]
    pub fn input_obstacle(
        &self,
        link: &Link,
        is_v4: bool,
        hooks: &HostHooks,
    ) -> Option<XdpObstacle> {
        let found = self
            .input_traffic_obstacle(link)
            .unwrap_or_else(|error| Some(XdpObstacle::Refused(format!("rtnetlink: {error}"))));
        found.or_else(|| hooks.of(is_v4).cloned().map(XdpObstacle::Hook))
    }

    fn input_traffic_obstacle(&self, link: &Link) -> io::Result<Option<XdpObstacle>> {
        if self.traffic.link_users(link.index)?.promiscuity > 0 {
            return Ok(Some(XdpObstacle::Capture(link.name.clone())));
        }
        let disciplines = self.traffic.disciplines(link.index)?;
        let is_filtered = self.traffic.has_ingress_filter(link.index, &disciplines)?;
        Ok(is_filtered.then(|| XdpObstacle::Filtered(link.name.clone())))
    }

    /// The number of queues in use. The kernel takes a frame for one that is not in use without
    /// sending it ever (net/xdp/xsk.c, `__xsk_generic_xmit`), so that of a device that reports only
    /// how many it could have, one is used.
    fn transmit_queues(&self, link: &Link) -> u32 {
        self.devices.transmit_queues(&link.name).unwrap_or(1).min(link.transmit_queues)
    }

    fn traffic_obstacle(&self, link: &Link, is_v4: bool) -> io::Result<Option<XdpObstacle>> {
        let disciplines = self.traffic.disciplines(link.index)?;
        let interface = || link.name.clone();
        if let Some(kind) = limiting(&disciplines) {
            return Ok(Some(XdpObstacle::Discipline { interface: interface(), kind }));
        }
        if self.traffic.has_egress_filter(link.index, &disciplines)? {
            return Ok(Some(XdpObstacle::Filter(interface())));
        }
        if self.traffic.routes_multicast(is_v4)? {
            return Ok(Some(XdpObstacle::MulticastRouting));
        }
        Ok(None)
    }
}

/// The kinds of the disciplines that an XDP link must not pass by.
fn limiting(disciplines: &[Discipline]) -> Option<String> {
    let is_limiting = |one: &&Discipline| one.has_rate || !PASSING.contains(&&*one.kind);
    let kinds: BTreeSet<&str> =
        disciplines.iter().filter(is_limiting).map(|one| &*one.kind).collect();
    (!kinds.is_empty()).then(|| Vec::from_iter(kinds).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::netlink::links;
    use crate::sockets::testnet::{NEAR, in_namespace, ip, tc, with_cable};
    use crate::sockets::xdp::hooks::HostHook;

    fn obstacle_of(name: &str, queue: u32) -> Option<String> {
        let all = links::list().unwrap();
        let link = all.values().find(|link| link.name == name).unwrap();
        let survey = XdpSurvey::open().unwrap();
        let found = survey.obstacle(link, queue, true, &HostHooks::default());
        found.map(|obstacle| obstacle.to_string())
    }

    #[test]
    fn ethernet_interfaces_of_every_kind_are_fit_and_others_not() {
        in_namespace(|| {
            ip("link add veth7 type veth peer name veth8");
            ip("link add bridge7 type bridge");
            ip("link add link veth7 name macvlan7 type macvlan mode bridge");
            ip("link add vxlan7 type vxlan id 7 dstport 4789 dev veth7");
            ip("tuntap add tap7 mode tap");
            for name in ["veth7", "bridge7", "macvlan7", "vxlan7", "tap7"] {
                let down = format!("{name} is down");
                assert_eq!(obstacle_of(name, 0), Some(down));
                ip(&format!("link set {name} up"));
                assert_eq!(obstacle_of(name, 0), None, "{name}");
            }
            ip("tuntap add tun7 mode tun");
            ip("link set tun7 up");
            for name in ["lo", "tun7"] {
                let text = format!("{name} is not an Ethernet interface");
                assert_eq!(obstacle_of(name, 0), Some(text));
            }
        });
    }

    #[test]
    fn a_queue_must_be_in_use() {
        in_namespace(|| {
            ip("link add veth7 numtxqueues 4 numrxqueues 4 type veth peer name veth8");
            ip("link set veth7 up");
            let few = |queues: u32| {
                format!("veth7 has {queues} transmit queues, and this worker needs number 3")
            };
            let in_use = Devices::open().unwrap().transmit_queues("veth7").unwrap();
            assert_eq!(obstacle_of("veth7", in_use - 1), None);
            if in_use < 4 {
                assert_eq!(obstacle_of("veth7", 3), Some(few(in_use)));
            }
            // It could have 256, and has one.
            ip("tuntap add tap7 mode tap multi_queue");
            ip("link set tap7 up");
            assert_eq!(obstacle_of("tap7", 0), None);
            let text = "tap7 has 1 transmit queues, and this worker needs number 1";
            assert_eq!(obstacle_of("tap7", 1).as_deref(), Some(text));
        });
    }

    #[test]
    fn disciplines_that_limit_or_classify_are_obstacles_and_plain_queues_not() {
        with_cable(|| {
            let with = |discipline: &str| {
                tc(&format!("qdisc replace dev {NEAR} root handle 1: {discipline}"));
                let found = obstacle_of(NEAR, 0);
                tc(&format!("qdisc delete dev {NEAR} root"));
                found
            };
            for plain in ["pfifo limit 100", "bfifo limit 100000", "pfifo_head_drop limit 9"] {
                assert_eq!(with(plain), None, "{plain}");
            }
            for (limiting, kind) in
                [("tbf rate 1gbit burst 100k latency 9ms", "tbf"), ("htb default 1", "htb")]
            {
                let text = format!(
                    "{NEAR} has the queueing discipline {kind}, which an XDP link would bypass"
                );
                assert_eq!(with(limiting), Some(text));
            }
            tc(&format!("qdisc add dev {NEAR} clsact"));
            assert_eq!(obstacle_of(NEAR, 0), None);
            tc(&format!("filter add dev {NEAR} egress protocol ip u32 match u32 0 0 classid 1:1"));
            let text = format!("a filter (tc) inspects what {NEAR} sends");
            assert_eq!(obstacle_of(NEAR, 0), Some(text));
        });
    }

    #[test]
    fn an_unknown_discipline_and_an_optional_rate_are_obstacles() {
        let one = |kind: &str, has_rate| Discipline { kind: kind.to_owned(), handle: 0, has_rate };
        assert_eq!(limiting(&[one("mq", false), one("fq", false)]), None);
        let found = limiting(&[one("mq", false), one("cake", true), one("new", false)]);
        assert_eq!(found.as_deref(), Some("cake, new"));
    }

    #[test]
    fn a_hook_is_an_obstacle_for_its_version() {
        with_cable(|| {
            let all = links::list().unwrap();
            let near = all.values().find(|link| link.name == NEAR).unwrap();
            let survey = XdpSurvey::open().unwrap();
            let hooks = HostHooks { v6: Some(HostHook::Policy), ..HostHooks::default() };
            let found = [true, false].map(|is_v4| survey.obstacle(near, 0, is_v4, &hooks));
            assert_eq!(found, [None, Some(XdpObstacle::Hook(HostHook::Policy))]);
        });
    }
}
