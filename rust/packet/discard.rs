//! The closed list of reasons for not relaying a frame or datagram, and their names in reports.

/// The reason why a datagram reached no rule. The number is its position in the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Discard {
    /// The frame is shorter than its headers state.
    Truncated,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IP, but without a UDP header.
    NotUdp,
    /// A fragment of a datagram that was not reassembled.
    Fragment,
    /// A length field contradicts another one.
    BadLength,
    /// An IP header with a wrong version, length or checksum.
    BadHeader,
    /// The UDP checksum is wrong, or absent where IPv6 demands one.
    BadChecksum,
    /// On another VLAN than the rules of this input, or under several tags.
    Vlan,
    /// No rule has this group and port on this interface.
    NoRule,
    /// Rules match this input, but not this source.
    Source,
    /// The frame was larger than the receive buffer.
    TruncatedByUs,
    /// Only a disabled rule would have matched it.
    Disabled,
    /// Addressed to the MAC address of another host.
    NotForUs,
    /// Another input of a merging rule delivered it before.
    Duplicate,
    /// Later ones of a merging rule were sent before, and its option `late` is `drop`.
    Late,
    /// A merging rule finds no number in it that continues a feed.
    OutOfSequence,
}

impl Discard {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Truncated,
        Self::NotIp,
        Self::NotUdp,
        Self::Fragment,
        Self::BadLength,
        Self::BadHeader,
        Self::BadChecksum,
        Self::Vlan,
        Self::NoRule,
        Self::Source,
        Self::TruncatedByUs,
        Self::Disabled,
        Self::NotForUs,
        Self::Duplicate,
        Self::Late,
        Self::OutOfSequence,
    ];

    /// The number of reasons: the length of an array of counters.
    pub const COUNT: usize = Self::ALL.len();

    /// The name in reports and statistics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NotIp => "not_ip",
            Self::NotUdp => "not_udp",
            Self::Fragment => "fragment",
            Self::BadLength => "bad_length",
            Self::BadHeader => "bad_header",
            Self::BadChecksum => "bad_checksum",
            Self::Vlan => "vlan",
            Self::NoRule => "no_rule",
            Self::Source => "source",
            Self::TruncatedByUs => "truncated_by_us",
            Self::Disabled => "disabled",
            Self::NotForUs => "not_for_us",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::OutOfSequence => "out_of_sequence",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions_in_the_list() {
        for (place, reason) in Discard::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn names_are_the_published_ones() {
        let names: Vec<_> = Discard::ALL.into_iter().map(Discard::name).collect();
        let published = "truncated not_ip not_udp fragment bad_length bad_header bad_checksum \
                         vlan no_rule source truncated_by_us disabled not_for_us \
                         duplicate late out_of_sequence";
        assert_eq!(names.join(" "), published);
    }
}
