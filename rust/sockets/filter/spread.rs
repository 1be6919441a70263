//! The classic BPF program of a fan-out group of AF_PACKET sockets: which socket gets a frame. All
//! frames of a flow go to the same one; those for a pinned destination go to the one that its pin
//! names, whoever sends them.

use libc::sock_filter;

use super::{
    ABOVE, EQUAL, IPV4, IPV6, KEEP, LOAD_BYTE, LOAD_HALF, LOAD_WORD, NETWORK, PROTOCOL, RECALL,
    RETURN, UDP, always, jump, statement,
};
use crate::addr::Addr;

/// The most pins of a group: the program for so many fits into the kernel's 4096 instructions.
pub const MOST_PINS: usize = 1000;

/// Pins that are compared one by one at the end of a binary search.
const LEAF: usize = 4;

const IMMEDIATE: u32 = libc::BPF_LD | libc::BPF_IMM;
const LOAD_WORD_BEHIND: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const MULTIPLY: u32 = libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K;
const SHIFT_LEFT: u32 = libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K;
const SHIFT_RIGHT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const XOR_X: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X;
const TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
const RETURN_A: u32 = libc::BPF_RET | libc::BPF_A;

/// An odd number without a pattern (2^32 divided by the golden ratio): a multiplication by it brings
/// each bit to all higher ones.
const MIX: u32 = 0x9e37_79b1;

/// The words of memory: the ports, and what the destination and the source address are mixed to.
const PORTS: u32 = 0;
const DESTINATION: u32 = 1;
const SOURCE: u32 = 2;

/// Sends the datagrams for an address and port to one socket of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin {
    /// The destination, mixed. Another one that is mixed to the same number goes along.
    pub key: u32,
    /// The number of the socket, in the order in which they joined the group.
    pub socket: u16,
}

impl Pin {
    /// Pins a destination.
    #[must_use]
    pub fn new(address: Addr, port: u16, socket: u16) -> Self {
        let bytes = address.bits().to_be_bytes();
        let words = bytes.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word));
        let first = if address.is_v4() { 3 } else { 0 };
        let mixed = words.skip(first).fold(0, mix);
        Self { key: mix(mixed, port.into()), socket }
    }
}

const fn mix(mixed: u32, word: u32) -> u32 {
    (mixed ^ word).wrapping_mul(MIX)
}

/// Builds the program; of more than [`MOST_PINS`] pins the rest is left out.
#[must_use]
pub fn spread(pins: &[Pin]) -> Vec<sock_filter> {
    let mut pins: Vec<Pin> = pins.iter().copied().take(MOST_PINS).collect();
    pins.sort_unstable();
    pins.dedup_by_key(|pin| pin.key);
    let (mut v4, v6, search) = (v4_fields(), v6_fields(), search(&pins));
    v4.push(always(v6.len()));
    let head = [
        statement(LOAD_HALF, PROTOCOL),
        jump(EQUAL, IPV4, 3, 0),
        jump(EQUAL, IPV6, 0, 1),
        always(v4.len() + 1),
        statement(RETURN, 0),
    ];
    [&head[..], &v4, &v6, &destination_key(), &search, &flow()].concat()
}

/// Stores the fields of an IPv4 frame. Its fragments are reassembled before this.
fn v4_fields() -> Vec<sock_filter> {
    let mut code = vec![
        statement(LOAD_BYTE, NETWORK),
        statement(AND, 0xf),
        statement(SHIFT_LEFT, 2),
        statement(TO_X, 0),
        statement(LOAD_WORD_BEHIND, NETWORK),
        statement(KEEP, PORTS),
    ];
    code.extend(mixed_words(16, 1, DESTINATION));
    code.extend(mixed_words(12, 1, SOURCE));
    code
}

/// The same for IPv6; behind an extension header no ports are looked for.
fn v6_fields() -> Vec<sock_filter> {
    let mut code = vec![
        statement(LOAD_BYTE, NETWORK + 6),
        jump(EQUAL, UDP, 0, 2),
        statement(LOAD_WORD, NETWORK + 40),
        always(1),
        statement(IMMEDIATE, 0),
        statement(KEEP, PORTS),
    ];
    code.extend(mixed_words(24, 4, DESTINATION));
    code.extend(mixed_words(8, 4, SOURCE));
    code
}

/// Mixes consecutive words of the network header, and stores the result.
fn mixed_words(first: u32, count: u32, place: u32) -> Vec<sock_filter> {
    let mut code = vec![statement(LOAD_WORD, NETWORK + first), statement(MULTIPLY, MIX)];
    for word in 1..count {
        code.push(statement(TO_X, 0));
        code.push(statement(LOAD_WORD, NETWORK + first + 4 * word));
        code.extend([statement(XOR_X, 0), statement(MULTIPLY, MIX)]);
    }
    code.push(statement(KEEP, place));
    code
}

/// Loads the key of the destination, as in [`Pin::new`].
fn destination_key() -> [sock_filter; 6] {
    [
        statement(RECALL, DESTINATION),
        statement(TO_X, 0),
        statement(RECALL, PORTS),
        statement(AND, 0xffff),
        statement(XOR_X, 0),
        statement(MULTIPLY, MIX),
    ]
}

/// Returns the socket of a pin with the key in the accumulator, or continues behind its end.
fn search(pins: &[Pin]) -> Vec<sock_filter> {
    if pins.len() <= LEAF {
        let compared =
            |pin: &Pin| [jump(EQUAL, pin.key, 0, 1), statement(RETURN, pin.socket.into())];
        return pins.iter().flat_map(compared).collect();
    }
    let (lower, upper) = pins.split_at(pins.len() / 2);
    let highest = lower.last().map_or(0, |pin| pin.key);
    let (lower, upper) = (search(lower), search(upper));
    let mut code = vec![jump(ABOVE, highest, 0, 1), always(lower.len() + 1)];
    code.extend(lower);
    code.push(always(upper.len()));
    code.extend(upper);
    code
}

/// Mixes the source and the ports into the key, and returns the upper half, which depends on all.
fn flow() -> [sock_filter; 10] {
    [
        statement(TO_X, 0),
        statement(RECALL, SOURCE),
        statement(XOR_X, 0),
        statement(MULTIPLY, MIX),
        statement(TO_X, 0),
        statement(RECALL, PORTS),
        statement(XOR_X, 0),
        statement(MULTIPLY, MIX),
        statement(SHIFT_RIGHT, 16),
        statement(RETURN_A, 0),
    ]
}
