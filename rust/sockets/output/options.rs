//! The socket options of an output. IPv4 and IPv6 have different names for them.

use libc::c_int;

use crate::addr::Addr;

/// The option names of one family.
pub(super) struct Options {
    pub(super) unicast_ttl: (c_int, c_int),
    pub(super) multicast_ttl: (c_int, c_int),
    pub(super) multicast_loop: (c_int, c_int),
    pub(super) traffic_class: (c_int, c_int),
    pub(super) errors: (c_int, c_int),
    pub(super) mtu: (c_int, c_int),
    /// Lets each message specify any source address.
    pub(super) any_source: (c_int, c_int),
}

const V4: Options = Options {
    unicast_ttl: (libc::IPPROTO_IP, libc::IP_TTL),
    multicast_ttl: (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    multicast_loop: (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    traffic_class: (libc::IPPROTO_IP, libc::IP_TOS),
    errors: (libc::IPPROTO_IP, libc::IP_RECVERR),
    mtu: (libc::IPPROTO_IP, libc::IP_MTU),
    any_source: (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
};

const V6: Options = Options {
    unicast_ttl: (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    multicast_ttl: (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
    multicast_loop: (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
    traffic_class: (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    errors: (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    mtu: (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    any_source: (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
};

/// The options for the family of the destination address.
pub(super) fn of(address: Addr) -> &'static Options {
    if address.is_v4() { &V4 } else { &V6 }
}
