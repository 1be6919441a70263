//! The fields that an output preserves from each datagram: TTL, DSCP, sender or position in a
//! range.
//!
//! This module turns a datagram's origin into the control message or the headers of a copy, and
//! decides which datagrams may share one. It must not depend on sockets or windows.

use crate::addr::Addr;
use crate::packet::{Datagram, Headers};
use crate::spec::{Choice, OutputSpec, Ttl};
use crate::sys::send_control::SendControl;

/// The fields that copies may preserve of a datagram. Unused fields are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The source address.
    pub source: Addr,
    /// The destination address.
    pub group: Addr,
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub port: u16,
    /// Its TTL or hop limit.
    pub ttl: u8,
    /// Its differentiated services code point.
    pub dscp: u8,
}

/// The fields that the outputs of a rule preserve; datagrams that differ in them cannot share a
/// send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preserved {
    ttl: bool,
    dscp: bool,
    source: bool,
    source_port: bool,
    group: bool,
    port: bool,
    /// No field of the datagram, but each send names its destination.
    peer: bool,
}

/// The differences of one output's copies from one datagram to the next.
#[derive(Clone, Debug)]
pub struct Rewrite {
    kept: Preserved,
    is_v4: bool,
    ifindex: u32,
    ttl: Ttl,
    dscp: Option<u8>,
    /// The source address, unless it is preserved.
    source: Addr,
    /// The offset from a datagram's group to the copy's address, modulo the number range.
    shift: u128,
    address: Addr,
    port_shift: u16,
    port: u16,
    /// Whether the relay writes the headers.
    has_headers: bool,
}

/// A copy that is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The headers that it would have.
    pub headers: Headers,
    /// The errno with which sending it would fail, because of a field that no copy can carry.
    pub errno: Option<i32>,
}

impl Preserved {
    /// The fields that the outputs with these rewrites preserve together; `None` if there are none.
    pub fn by<'a>(rewrites: impl Iterator<Item = &'a Rewrite>) -> Option<Self> {
        rewrites.map(|rewrite| rewrite.kept).reduce(|one, other| Self {
            ttl: one.ttl || other.ttl,
            dscp: one.dscp || other.dscp,
            source: one.source || other.source,
            source_port: one.source_port || other.source_port,
            group: one.group || other.group,
            port: one.port || other.port,
            peer: one.peer || other.peer,
        })
    }

    /// The flow of a datagram: datagrams of one flow stay in order and have the same sender and
    /// destination as far as these are preserved.
    ///
    /// A sender may change TTL and DSCP from one datagram to the next. If they are preserved, flows
    /// are separated by all flow fields instead, because such a change must not reorder a flow.
    #[inline]
    #[must_use]
    pub fn flow(self, datagram: &Datagram) -> Origin {
        let all = self.ttl || self.dscp;
        let zero = Addr::from_bits(0);
        Origin {
            source: if all || self.source { datagram.source } else { zero },
            group: if all || self.group { datagram.group } else { zero },
            source_port: if all || self.source_port { datagram.source_port } else { 0 },
            port: if all || self.port { datagram.port } else { 0 },
            ttl: 0,
            dscp: 0,
        }
    }

    /// Whether two datagrams of one flow, given by TTL and DSCP, may share a send.
    #[inline]
    #[must_use]
    pub fn joins(self, one: (u8, u8), other: (u8, u8)) -> bool {
        (!self.ttl || one.0 == other.0) && (!self.dscp || one.1 == other.1)
    }
}

impl Rewrite {
    /// The rewrite of an output whose rule listens to `group` and `port`, or to ranges that begin
    /// with them; `None` if all copies are alike. `own` is the address that the kernel sends from.
    #[must_use]
    pub fn of(spec: &OutputSpec, own: Addr, group: Addr, port: u16) -> Option<Self> {
        let kept = Preserved {
            ttl: !matches!(spec.ttl, Ttl::Set(_)),
            dscp: spec.dscp.is_none(),
            source: spec.source == Choice::Keep,
            source_port: spec.source_port == Choice::Keep,
            group: spec.address_bits > 0,
            port: spec.last_port > spec.port,
            peer: spec.names_peer(),
        };
        (kept != Preserved::default()).then(|| Self {
            kept,
            is_v4: spec.address.is_v4(),
            ifindex: spec.ifindex,
            ttl: spec.ttl,
            dscp: spec.dscp,
            source: own,
            shift: spec.address.bits().wrapping_sub(group.bits()),
            address: spec.address,
            port_shift: spec.port.wrapping_sub(port),
            port: spec.port,
            has_headers: spec.has_own_headers(),
        })
    }

    /// The errno of a field that no copy can carry, if the datagram has one.
    // Never inlined: otherwise values from the origin would be computed in advance for every batch,
    // even for rules that preserve nothing.
    #[inline(never)]
    #[must_use]
    pub fn refusal(&self, origin: &Origin) -> Option<i32> {
        if self.hops(origin) == 0 {
            return Some(libc::ETIME);
        }
        let source = origin.source;
        let is_no_host = source.is_multicast() || source.ip().is_unspecified();
        (self.kept.source && is_no_host).then_some(libc::EADDRNOTAVAIL)
    }

    /// Whether each copy is sent alone, behind headers that the relay writes.
    #[inline]
    #[must_use]
    pub fn has_headers(&self) -> bool {
        self.has_headers
    }

    /// Bytes of these headers; 0 if the kernel writes them.
    #[inline]
    #[must_use]
    pub fn header_bytes(&self) -> u32 {
        match (self.has_headers, self.is_v4) {
            (false, _) => 0,
            (true, true) => 28,
            (true, false) => 48,
        }
    }

    /// The headers of the copies of a datagram from `origin`.
    #[must_use]
    pub fn headers(&self, origin: &Origin) -> Headers {
        let (destination, port) = self.destination(origin);
        Headers {
            source: self.source(origin),
            destination,
            source_port: origin.source_port,
            port,
            ttl: self.hops(origin),
            dscp: self.dscp.unwrap_or(origin.dscp),
        }
    }

    /// The control message for the copies' send; `None` if the socket needs none.
    #[must_use]
    pub fn send_control(&self, origin: &Origin) -> Option<SendControl> {
        let Preserved { ttl, dscp, source, group, port, peer, .. } = self.kept;
        let (address, to_port) = self.destination(origin);
        let base = SendControl {
            v4: self.is_v4,
            ifindex: self.ifindex,
            to: None,
            from: None,
            ttl: None,
            class: None,
        };
        if self.has_headers {
            // A raw socket has no ports; the address is only for the route lookup.
            return group.then_some(SendControl { to: Some((address, 0)), ..base });
        }
        Some(SendControl {
            to: (group || port || peer).then_some((address, to_port)),
            from: source.then_some(origin.source),
            ttl: ttl.then_some(self.hops(origin)),
            class: dscp.then_some(origin.dscp << 2),
            ..base
        })
    }

    /// What a copy has of a datagram from `origin`, whoever writes its headers. Its source port is
    /// that of the datagram, which only an output that preserves it uses.
    #[must_use]
    pub fn preview(spec: &OutputSpec, own: Addr, first: (Addr, u16), origin: &Origin) -> Preview {
        let (group, port) = first;
        if let Some(rewrite) = Self::of(spec, own, group, port) {
            return Preview { headers: rewrite.headers(origin), errno: rewrite.refusal(origin) };
        }
        let ttl = if let Ttl::Set(ttl) = spec.ttl { ttl } else { origin.ttl };
        let (destination, port, dscp) = (spec.address, spec.port, spec.dscp.unwrap_or(origin.dscp));
        let source_port = origin.source_port;
        let headers = Headers { source: own, destination, source_port, port, ttl, dscp };
        Preview { headers, errno: None }
    }

    fn hops(&self, origin: &Origin) -> u8 {
        match self.ttl {
            Ttl::Set(hops) => hops,
            Ttl::Keep => origin.ttl,
            Ttl::Decrement => origin.ttl.saturating_sub(1),
        }
    }

    fn source(&self, origin: &Origin) -> Addr {
        if self.kept.source { origin.source } else { self.source }
    }

    fn destination(&self, origin: &Origin) -> (Addr, u16) {
        let address = if self.kept.group {
            Addr::from_bits(origin.group.bits().wrapping_add(self.shift))
        } else {
            self.address
        };
        let port =
            if self.kept.port { origin.port.wrapping_add(self.port_shift) } else { self.port };
        (address, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Span;

    const OWN: Addr = Addr::v4([10, 2, 0, 1]);
    const SENDER: Addr = Addr::v4([10, 1, 0, 2]);
    const GROUP: Addr = Addr::v4([239, 1, 0, 0]);

    fn spec() -> OutputSpec {
        OutputSpec {
            ifindex: 3,
            interface: "eth1".to_owned(),
            ..OutputSpec::to(Addr::v4([239, 2, 0, 0]), 6000)
        }
    }

    fn origin() -> Origin {
        let group = Addr::v4([239, 1, 7, 9]);
        Origin { source: SENDER, group, source_port: 4000, port: 5003, ttl: 9, dscp: 46 }
    }

    fn rewrite(spec: &OutputSpec) -> Rewrite {
        Rewrite::of(spec, OWN, GROUP, 5000).unwrap()
    }

    #[test]
    fn an_output_that_preserves_nothing_has_no_rewrite() {
        let chosen = OutputSpec {
            source: Choice::Chosen(OWN),
            source_port: Choice::Chosen(7),
            dscp: Some(46),
            ..spec()
        };
        assert!(Rewrite::of(&spec(), OWN, GROUP, 5000).is_none());
        assert!(Rewrite::of(&chosen, OWN, GROUP, 5000).is_none());
        assert!(Preserved::by(std::iter::empty()).is_none());
    }

    #[test]
    fn a_control_message_holds_exactly_the_preserved_fields() {
        let keeping = OutputSpec { ttl: Ttl::Decrement, dscp: None, ..spec() };
        let send_control = rewrite(&keeping).send_control(&origin()).unwrap();
        assert_eq!((send_control.ttl, send_control.class), (Some(8), Some(46 << 2)));
        assert_eq!((send_control.from, send_control.to), (None, None));
        let keeping = OutputSpec { source: Choice::Keep, ..spec() };
        let send_control = rewrite(&keeping).send_control(&origin()).unwrap();
        assert_eq!(
            (send_control.from, send_control.ttl, send_control.class),
            (Some(SENDER), None, None)
        );
    }

    #[test]
    fn a_range_follows_the_datagram_in_both_families() {
        let mapped = OutputSpec { address_bits: 16, last_port: 6099, ..spec() };
        let to = |spec: &OutputSpec| rewrite(spec).send_control(&origin()).unwrap().to;
        assert_eq!(to(&mapped), Some((Addr::v4([239, 2, 7, 9]), 6003)));
        assert_eq!(
            to(&OutputSpec { address_bits: 0, ..mapped.clone() }).unwrap().0,
            spec().address
        );
        assert_eq!(to(&OutputSpec { last_port: 6000, ..mapped.clone() }).unwrap().1, 6000);
        let v6: std::net::IpAddr = "ff3e::8000:0".parse().unwrap();
        let mapped = OutputSpec { address: v6.into(), ..mapped };
        assert_eq!(to(&mapped).unwrap().0.to_string(), "ff3e::8000:709");
    }

    #[test]
    fn headers_hold_the_preserved_and_the_set_fields() {
        let keeping = OutputSpec { source_port: Choice::Keep, ttl: Ttl::Set(5), ..spec() };
        let rewritten = rewrite(&keeping);
        assert!(rewritten.has_headers() && rewritten.send_control(&origin()).is_none());
        let headers = rewritten.headers(&origin());
        let Headers { source, source_port, ttl, dscp, .. } = headers;
        assert_eq!((source, source_port, ttl, dscp), (OWN, 4000, 5, 0));
        let mapped = OutputSpec { address_bits: 16, ..keeping };
        let to = rewrite(&mapped).send_control(&origin()).unwrap().to;
        assert_eq!(to, Some((Addr::v4([239, 2, 7, 9]), 0)));
        assert_eq!(rewrite(&mapped).headers(&origin()).destination, Addr::v4([239, 2, 7, 9]));
    }

    #[test]
    fn fields_that_no_copy_can_carry_are_refused() {
        let refusal = |ttl, hops| {
            rewrite(&OutputSpec { ttl, ..spec() }).refusal(&Origin { ttl: hops, ..origin() })
        };
        assert_eq!(refusal(Ttl::Decrement, 2), None);
        assert_eq!(refusal(Ttl::Decrement, 1), Some(libc::ETIME));
        assert_eq!(refusal(Ttl::Decrement, 0), Some(libc::ETIME));
        assert_eq!(refusal(Ttl::Keep, 1), None);
        assert_eq!(refusal(Ttl::Keep, 0), Some(libc::ETIME));
        let keeping = rewrite(&OutputSpec { source: Choice::Keep, ..spec() });
        for source in [Addr::v4([0; 4]), Addr::v6([0; 16]), GROUP] {
            let errno = keeping.refusal(&Origin { source, ..origin() });
            assert_eq!(errno, Some(libc::EADDRNOTAVAIL));
        }
        assert_eq!(keeping.refusal(&origin()), None);
        // A flow's origin holds only the preserved fields.
        let unnamed = Origin { source: Addr::from_bits(0), ..origin() };
        assert_eq!(rewrite(&OutputSpec { dscp: None, ..spec() }).refusal(&unnamed), None);
    }

    #[test]
    fn flows_are_as_wide_as_the_preserved_fields_allow() {
        let datagram = |source_port, ttl| Datagram {
            source: SENDER,
            group: GROUP,
            source_port,
            port: 5000,
            ttl,
            dscp: 0,
            vlan: 0,
            payload: Span { start: 0, len: 0 },
            segments: 1,
        };
        let kept = |spec: OutputSpec| Preserved::by([rewrite(&spec)].iter()).unwrap();
        let by_source = kept(OutputSpec { source: Choice::Keep, ..spec() });
        assert_eq!(by_source.flow(&datagram(1, 9)), by_source.flow(&datagram(2, 8)));
        assert!(by_source.joins((9, 0), (8, 46)));
        let by_ttl = kept(OutputSpec { ttl: Ttl::Keep, ..spec() });
        assert_ne!(by_ttl.flow(&datagram(1, 9)), by_ttl.flow(&datagram(2, 9)));
        assert_eq!(by_ttl.flow(&datagram(1, 9)), by_ttl.flow(&datagram(1, 8)));
        assert!(!by_ttl.joins((9, 0), (8, 0)) && by_ttl.joins((9, 0), (9, 46)));
    }
}
