//! The programs, run in a small interpreter and compared with the specification.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// The program for Ethernet frames.
fn destinations(blocks: &[(Addr, u8)]) -> Vec<sock_filter> {
    super::destinations(blocks, LinkType::Ethernet)
}

/// An interpreter for the classic BPF instructions used here; 0 means drop.
fn run(program: &[sock_filter], frame: &[u8]) -> u32 {
    run_behind(program, frame, 14)
}

/// The value that an instruction loads from a frame, if the frame is long enough.
fn load(frame: &[u8], at: usize, len: usize) -> Option<u32> {
    let bytes = frame.get(at..at + len)?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

/// The protocol of a frame, derived from the network header as in the kernel.
fn protocol(frame: &[u8], network: usize) -> Option<u32> {
    Some(if *frame.get(network)? >> 4 == 4 { IPV4 } else { IPV6 })
}

/// The same for a frame whose network header starts at `network`.
fn run_behind(program: &[sock_filter], frame: &[u8], network: usize) -> u32 {
    let mut accumulator = 0;
    let mut memory = [0_u32; 16];
    let mut at = 0;
    loop {
        let instruction = program[at];
        at += 1;
        let k = match instruction.k {
            relative @ NETWORK..PROTOCOL => (relative - NETWORK) as usize + network,
            absolute => absolute as usize,
        };
        let code = u32::from(instruction.code);
        let loaded = match code {
            LOAD_BYTE => load(frame, k, 1),
            LOAD_HALF if instruction.k == PROTOCOL => protocol(frame, network),
            LOAD_HALF => load(frame, k, 2),
            LOAD_WORD => load(frame, k, 4),
            RECALL => Some(memory[k]),
            _ => Some(accumulator),
        };
        let Some(loaded) = loaded else { return 0 };
        accumulator = loaded;
        let holds = match code {
            EQUAL => accumulator == instruction.k,
            ABOVE => accumulator > instruction.k,
            AT_LEAST => accumulator >= instruction.k,
            RETURN => return instruction.k,
            KEEP => {
                memory[k] = accumulator;
                continue;
            }
            ALWAYS => {
                at += k;
                continue;
            }
            _ => continue,
        };
        at += usize::from(if holds { instruction.jt } else { instruction.jf });
    }
}

/// A frame truncated to the part that the filter may look at.
#[derive(Clone, Debug)]
struct Frame {
    tag: Option<u16>,
    destination: Addr,
    protocol: u8,
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0xaa; 12];
        if let Some(tpid) = self.tag {
            bytes.extend(tpid.to_be_bytes());
            bytes.extend([0x20, 7]);
        }
        if self.destination.is_v4() {
            bytes.extend([0x08, 0x00, 0x45]);
            bytes.extend([0xbb; 8]);
            bytes.push(self.protocol);
            bytes.extend([0xbb; 6]);
            bytes.extend(&self.destination.bits().to_be_bytes()[12..]);
        } else {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0]);
            bytes.push(self.protocol);
            bytes.extend([0xbb; 17]);
            bytes.extend(self.destination.bits().to_be_bytes());
        }
        bytes
    }

    fn may_be_udp(&self) -> bool {
        self.protocol == 17
            || !self.destination.is_v4() && [0, 43, 44, 51, 60].contains(&self.protocol)
    }
}

fn passes(program: &[sock_filter], frame: &Frame) -> bool {
    run(program, &frame.bytes()) != 0
}

/// Addresses that share words, so that all branches of the search are covered.
fn address() -> impl Strategy<Value = Addr> {
    let word = || prop_oneof![0..6_u32, Just(0xff3e_0000), Just(u32::MAX), any::<u32>()];
    prop_oneof![
        (0..4_u8, 0..4_u8, any::<u8>()).prop_map(|(b, c, d)| Ipv4Addr::new(239, b, c, d).into()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        [word(), word(), word(), word()].prop_map(|words| {
            let bits = words.iter().fold(0, |bits, word| bits << 32 | u128::from(*word));
            Ipv6Addr::from_bits(bits).into()
        }),
    ]
}

/// Single addresses and blocks of all sizes; a block may be given by any address in it.
fn block() -> impl Strategy<Value = (Addr, u8)> {
    (address(), prop_oneof![2 => Just(0), 1 => 0..33_u8, 1 => 0..97_u8])
        .prop_map(|(address, bits)| (address, if address.is_v4() { bits.min(32) } else { bits }))
}

fn frame(known: Vec<Addr>) -> impl Strategy<Value = Frame> {
    let known = if known.is_empty() { vec![Addr::v4([239, 1, 1, 1])] } else { known };
    let near = prop_oneof![
        4 => prop::sample::select(known.clone()),
        2 => (prop::sample::select(known), 0..128_u32)
            .prop_map(|(address, bit)| Addr::from_bits(address.bits() ^ (1 << bit))),
        1 => address(),
    ];
    let tag = prop_oneof![3 => Just(None), 1 => Just(Some(0x8100)), 1 => Just(Some(0x88a8)),
        1 => Just(Some(0x9100)), 1 => Just(Some(0x9200))];
    let protocol = prop_oneof![4 => Just(17), 1 => any::<u8>(),
        1 => prop::sample::select(vec![0, 43, 44, 50, 51, 60])];
    (tag, near, protocol).prop_map(|(tag, destination, protocol)| Frame {
        tag,
        destination,
        protocol,
    })
}

fn case() -> impl Strategy<Value = (Vec<(Addr, u8)>, Vec<Frame>)> {
    prop::collection::vec(block(), 0..200).prop_flat_map(|known| {
        let addresses = known.iter().map(|(address, _)| *address).collect();
        (Just(known), prop::collection::vec(frame(addresses), 1..50))
    })
}

fn holds(blocks: &[(Addr, u8)], destination: Addr) -> bool {
    blocks.iter().any(|(first, bits)| {
        first.is_v4() == destination.is_v4() && first.block(*bits) == destination.block(*bits)
    })
}

fn each_alone(addresses: &[Addr]) -> Vec<(Addr, u8)> {
    addresses.iter().map(|address| (*address, 0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exactly_the_named_destinations_pass((known, frames) in case()) {
        let program = destinations(&known);
        let v6 = known.iter().filter(|(address, _)| !address.is_v4()).count();
        // This many addresses fit even if they have little in common.
        prop_assume!(v6 < 130);
        for frame in frames {
            let wanted = frame.tag != Some(0x9200)
                && frame.may_be_udp()
                && holds(&known, frame.destination);
            prop_assert_eq!(passes(&program, &frame), wanted, "{:?}", frame);
        }
    }

    #[test]
    fn the_link_type_makes_no_difference((known, frames) in case(), header in 0..30_usize) {
        let programs = [LinkType::Ethernet, LinkType::Other].map(|link| super::destinations(&known, link));
        for frame in frames.into_iter().map(|frame| Frame { tag: None, ..frame }) {
            let network = [vec![0xcc; header], frame.bytes()[14..].to_vec()].concat();
            let verdict = run_behind(&programs[1], &network, header);
            prop_assert_eq!(verdict, run(&programs[0], &frame.bytes()), "{:?}", frame);
            for len in 0..network.len() {
                prop_assert_eq!(run_behind(&programs[1], &network[..len], header), 0);
            }
        }
    }

    #[test]
    fn a_frame_that_ends_anywhere_is_dropped_or_passed((known, frames) in case()) {
        let program = destinations(&known);
        for frame in frames {
            let bytes = frame.bytes();
            for len in 0..bytes.len() {
                prop_assert_eq!(run(&program, &bytes[..len]), 0);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn no_destination_is_lost_however_many_there_are(
        known in prop::collection::vec(block(), 0..3000),
    ) {
        let program = destinations(&known);
        prop_assert!(program.len() < 4096);
        for (destination, _) in known {
            let frame = Frame { tag: None, destination, protocol: 17 };
            prop_assert!(passes(&program, &frame));
        }
    }
}

/// Numbers of groups and of hosts below and above every limit.
const CROWDS: [(u32, u32); 6] =
    [(3, 2), (1000, 300), (1300, 300), (2000, 5), (2000, 1350), (2000, 2000)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_bounded_list_passes_the_same(frames in prop::collection::vec(frame(groups(2).1), 100)) {
        for (count, hosts) in CROWDS {
            let (v4, v6) = groups(count);
            let host = |n| [
                Ipv4Addr::from_bits(0x0a00_0000 + 5 * n).into(),
                Ipv6Addr::from_bits((0x2001_0db8 << 96) + 5 * u128::from(n)).into(),
            ];
            let hosts: Vec<Addr> = (0..hosts).flat_map(host).collect();
            let all = each_alone(&[v4.clone(), v6, hosts.clone()].concat());
            let few = bounded(&all);
            prop_assert!(few.len() <= MOST_BLOCKS);
            let programs = [destinations(&all), destinations(&few)];
            let near = v4.iter().chain(&hosts).flat_map(|known| {
                let next = Addr::from_bits(known.bits() + 1);
                [*known, next].map(|destination| Frame { tag: None, destination, protocol: 17 })
            });
            for frame in frames.iter().cloned().chain(near) {
                prop_assert_eq!(passes(&programs[0], &frame), passes(&programs[1], &frame));
            }
        }
    }
}

/// `count` groups of 239.0.0.0/8, and as many IPv6 ones with the same prefix.
fn groups(count: u32) -> (Vec<Addr>, Vec<Addr>) {
    let v4 = (0..count).map(|n| Ipv4Addr::from_bits(0xef00_0000 + 3 * n).into());
    let v6 = (0..count).map(|n| Ipv6Addr::from_bits((0xff3e << 112) + 3 * u128::from(n)).into());
    (v4.collect(), v6.collect())
}

fn udp_to(destination: &str) -> Frame {
    let destination = destination.parse::<std::net::IpAddr>().unwrap().into();
    Frame { tag: None, destination, protocol: 17 }
}

#[test]
fn five_hundred_groups_of_each_family_are_told_apart() {
    let (v4, v6) = groups(500);
    let program = destinations(&each_alone(&[v4, v6].concat()));
    assert!(!passes(&program, &udp_to("239.0.0.1")));
    assert!(!passes(&program, &udp_to("ff3e::1")));
    assert!(passes(&program, &udp_to("239.0.0.3")));
    assert!(passes(&program, &udp_to("ff3e::3")));
}

#[test]
fn too_many_groups_pass_all_multicast_and_the_named_hosts() {
    let (v4, v6) = groups(3000);
    let hosts = ["192.0.2.1", "2001:db8::1"].map(|host| udp_to(host).destination);
    assert_eq!(passes_any_multicast(&each_alone(&v4)), [true, false]);
    assert_eq!(passes_any_multicast(&each_alone(&v6)), [false, true]);
    let few = groups(500).0;
    assert_eq!(passes_any_multicast(&each_alone(&few)), [false, false]);
    let inside = [each_alone(&v4), vec![(Addr::v4([239, 0, 0, 0]), 24)]].concat();
    assert_eq!(passes_any_multicast(&inside), [false, false], "one block holds them all");
    let program = destinations(&each_alone(&[v4, v6, hosts.to_vec()].concat()));
    for (destination, passed) in [
        ("224.0.0.1", true),
        ("239.255.255.255", true),
        ("240.0.0.1", false),
        ("192.0.2.1", true),
        ("192.0.2.2", false),
        ("ff02::1", true),
        ("2001:db8::1", true),
        ("2001:db8::2", false),
    ] {
        assert_eq!(passes(&program, &udp_to(destination)), passed, "{destination}");
    }
}

#[test]
fn too_many_hosts_pass_all_udp_of_their_family() {
    let hosts = (0..3000_u32).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + 3 * n).into());
    let program = destinations(&each_alone(&hosts.collect::<Vec<_>>()));
    assert!(passes(&program, &udp_to("192.0.2.1")));
    assert!(!passes(&program, &udp_to("ff3e::1")));
    assert!(!passes(&program, &Frame { protocol: 6, ..udp_to("192.0.2.1") }));
}

#[test]
fn the_kernel_takes_the_largest_program() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut largest = Vec::new();
    for count in (100..1500).step_by(25) {
        let (v4, _) = groups(count);
        // IPv6 addresses without a common prefix cost the most.
        let v6 = (0..count / 8).map(|n| {
            let word = u128::from(n.wrapping_mul(0x9e37_79b9));
            Addr::from_bits(word << 96 | 1 << 95 | word << 64 | word << 32 | word)
        });
        let program = destinations(&each_alone(&v4.into_iter().chain(v6).collect::<Vec<_>>()));
        if program.len() > largest.len() {
            largest = program;
        }
    }
    assert!(largest.len() > 2 * FAMILY_BUDGET * 8 / 10, "{}", largest.len());
    crate::sys::sockopt::attach_filter(std::os::fd::AsFd::as_fd(&socket), &largest).unwrap();
}
