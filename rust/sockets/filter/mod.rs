//! The classic BPF program of the AF_PACKET sockets. It decides in the kernel which frames are
//! queued: UDP to destinations that a rule names. Ports and sources are left to the engine, so that
//! it can count datagrams that match no rule.
//!
//! A program is assembled from fragments. Each is entered at its first instruction, ends in a
//! verdict on every path and jumps only within itself, so fragments can be moved.

mod netlink;
mod spread;

use std::ops::RangeInclusive;

use libc::sock_filter;

use crate::addr::Addr;
use crate::packet::LinkType;
pub use netlink::{ip_neighbours, link_deletions};
pub use spread::{MOST_PINS, Pin, spread};

/// Instruction limit for the addresses of one family. Both families fit into the kernel's 4096 with
/// room to spare, because the translated program must also fit into net.core.optmem_max.
const FAMILY_BUDGET: usize = 1400;

/// The largest number of blocks that [`bounded`] returns.
pub const MOST_BLOCKS: usize = 2 * FAMILY_BUDGET;

/// Groups of values that are compared one by one at the end of a binary search.
const LEAF: usize = 4;

const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const KEEP: u32 = libc::BPF_ST;
const RECALL: u32 = libc::BPF_LD | libc::BPF_MEM;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const ABOVE: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const ALWAYS: u32 = libc::BPF_JMP | libc::BPF_JA;

const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

const PASS: sock_filter = statement(RETURN, u32::MAX);
const DROP: sock_filter = statement(RETURN, 0);

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const UDP: u32 = 17;

/// Instruction counts of [`ethernet_head`] and [`network_head`].
const ETHERNET_HEAD: usize = 15;
const NETWORK_HEAD: usize = 6;

/// Where the network header of an untagged Ethernet frame starts.
const BEHIND_ETHERNET: u32 = 14;
/// Bytes of a VLAN tag inside the frame.
const TAG: u32 = 4;
/// Values that the kernel provides (linux/filter.h): SKF_NET_OFF, the offset of the network header,
/// and SKF_AD_OFF + SKF_AD_PROTOCOL, its protocol.
const NETWORK: u32 = libc::SKF_NET_OFF.cast_unsigned();
const PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL).cast_unsigned();

/// A block of addresses as big-endian 32-bit words; IPv4 uses only the first.
#[derive(Clone, Copy, Debug)]
struct BlockPattern {
    /// The first address.
    words: [u32; 4],
    /// How many words identify the block; later words may have any value.
    len: u32,
    /// The highest value of the last identifying word.
    upper: u32,
}

/// The range of the first word of multicast addresses.
const V4_MULTICAST: RangeInclusive<u32> = 0xe000_0000..=0xefff_ffff;
const V6_MULTICAST: RangeInclusive<u32> = 0xff00_0000..=0xffff_ffff;

/// Builds a program that passes UDP frames to one of `blocks`, and frames with an IPv6 extension
/// header to one of `blocks`, whatever the header carries. A block is its first address and the
/// number of low bits that vary. The program looks through one VLAN tag inside an Ethernet frame,
/// so that double-tagged frames are counted.
///
/// If the blocks of a family do not fit, the program passes all multicast UDP of that family and
/// exactly the listed unicast addresses; if these do not fit either, all UDP of the family.
#[must_use]
pub fn destinations(blocks: &[(Addr, u8)], link: LinkType) -> Vec<sock_filter> {
    let (v4, v6): (Vec<_>, Vec<_>) = blocks.iter().copied().partition(|(first, _)| first.is_v4());
    let v4 = search_or_more(&outermost(&v4), 3, &V4_MULTICAST);
    let v6 = search_or_more(&outermost(&v6), 0, &V6_MULTICAST);
    match link {
        LinkType::Ethernet => in_ethernet(v4, v6),
        LinkType::Other => in_other(v4, v6),
    }
}

/// Places the searches behind the code that finds the destination address in an Ethernet frame.
fn in_ethernet(v4: Vec<sock_filter>, v6: Vec<sock_filter>) -> Vec<sock_filter> {
    let v4_tagged = v4_entry(BEHIND_ETHERNET + TAG);
    let v6_tagged = v6_entry(BEHIND_ETHERNET + TAG);
    let parts = [
        before(v4_entry(BEHIND_ETHERNET), &v4_tagged),
        v4_tagged,
        v4,
        before(v6_entry(BEHIND_ETHERNET), &v6_tagged),
        v6_tagged,
        v6,
    ];
    let [v4, v4_tagged, _, v6, v6_tagged, _] = starts(ETHERNET_HEAD, &parts);
    let mut program = ethernet_head([v4, v6], [v4_tagged, v6_tagged]).to_vec();
    program.extend(parts.concat());
    program
}

/// Places the searches behind the code that finds the destination address from the kernel's network
/// header offset.
fn in_other(v4: Vec<sock_filter>, v6: Vec<sock_filter>) -> Vec<sock_filter> {
    let parts = [v4_entry(NETWORK), v4, v6_entry(NETWORK), v6];
    let [v4, _, v6, _] = starts(NETWORK_HEAD, &parts);
    let mut program = network_head([v4, v6]).to_vec();
    program.extend(parts.concat());
    program
}

/// The start of each part when they follow `head` instructions.
fn starts<const N: usize>(head: usize, parts: &[Vec<sock_filter>; N]) -> [usize; N] {
    let mut end = head;
    parts.each_ref().map(|part| {
        let start = end;
        end += part.len();
        start
    })
}

/// Whether [`destinations`] passes all multicast of IPv4 and of IPv6 because there are more blocks
/// than instructions. It may also do so for slightly fewer blocks, for which this returns false.
#[must_use]
pub fn passes_any_multicast(blocks: &[(Addr, u8)]) -> [bool; 2] {
    let (v4, v6): (Vec<_>, Vec<_>) = blocks.iter().copied().partition(|(first, _)| first.is_v4());
    [v4, v6].map(|blocks| outermost(&blocks).len() > FAMILY_BUDGET)
}

/// Shortens the list to at most [`MOST_BLOCKS`] blocks, for which [`destinations`] builds a program
/// that passes the same frames as for all of `blocks`.
#[must_use]
pub fn bounded(blocks: &[(Addr, u8)]) -> Vec<(Addr, u8)> {
    let (v4, v6): (Vec<_>, Vec<_>) = blocks.iter().partition(|(first, _)| first.is_v4());
    let all_v4 = (Addr::v4([0; 4]), 32);
    let all_v6 = (Addr::v6([0; 16]), 128);
    let mut bounded = bounded_family(&v4, (Addr::v4([224, 0, 0, 0]), 28), all_v4);
    let mut first = [0; 16];
    first[0] = 0xff;
    bounded.extend(bounded_family(&v6, (Addr::v6(first), 120), all_v6));
    bounded
}

/// Each block takes at least one instruction, so a longer list would end in the wider programs of
/// [`search_or_more`].
fn bounded_family(
    blocks: &[(Addr, u8)],
    multicast: (Addr, u8),
    all: (Addr, u8),
) -> Vec<(Addr, u8)> {
    let mut blocks = outermost(blocks);
    if blocks.len() > FAMILY_BUDGET {
        blocks.retain(|(first, _)| !first.is_multicast());
        blocks.push(multicast);
    }
    if blocks.len() > FAMILY_BUDGET { vec![all] } else { blocks }
}

/// A program that passes nothing.
#[must_use]
pub fn nothing() -> [sock_filter; 1] {
    [DROP]
}

/// Dispatches by the ethertype in the frame. The arguments are the positions of the entries for
/// IPv4 and IPv6, in an untagged frame and behind a tag.
fn ethernet_head(
    [v4, v6]: [usize; 2],
    [v4_tagged, v6_tagged]: [usize; 2],
) -> [sock_filter; ETHERNET_HEAD] {
    [
        statement(LOAD_HALF, 12),
        jump(EQUAL, IPV4, 0, 1),
        always(v4 - 3),
        jump(EQUAL, IPV6, 0, 1),
        always(v6 - 5),
        jump(EQUAL, 0x8100, 3, 0),
        jump(EQUAL, 0x88a8, 2, 0),
        jump(EQUAL, 0x9100, 1, 0),
        DROP,
        statement(LOAD_HALF, 12 + TAG),
        jump(EQUAL, IPV4, 0, 1),
        always(v4_tagged - 12),
        jump(EQUAL, IPV6, 0, 1),
        always(v6_tagged - 14),
        DROP,
    ]
}

/// Dispatches by the protocol that the kernel has determined.
fn network_head([v4, v6]: [usize; 2]) -> [sock_filter; NETWORK_HEAD] {
    [
        statement(LOAD_HALF, PROTOCOL),
        jump(EQUAL, IPV4, 0, 1),
        always(v4 - 3),
        jump(EQUAL, IPV6, 0, 1),
        always(v6 - 5),
        DROP,
    ]
}

/// Loads the destination of the IPv4 header at `network` into the accumulator if the protocol is
/// UDP. Every fragment of a UDP datagram carries that protocol number.
fn v4_entry(network: u32) -> Vec<sock_filter> {
    vec![
        statement(LOAD_BYTE, network + 9),
        jump(EQUAL, UDP, 1, 0),
        DROP,
        statement(LOAD_WORD, network + 16),
    ]
}

/// The same for IPv6, for UDP or an extension header: hop-by-hop 0, routing 43, fragment 44, AH 51,
/// destination 60. Stores the later words of the destination for the search.
fn v6_entry(network: u32) -> Vec<sock_filter> {
    let next_headers = [UDP, 0, 43, 44, 51, 60];
    let mut code = vec![statement(LOAD_BYTE, network + 6)];
    for (at, next) in next_headers.into_iter().enumerate() {
        code.push(jump(EQUAL, next, near(next_headers.len() - at), 0));
    }
    code.push(DROP);
    for word in [3, 2, 1] {
        code.push(statement(LOAD_WORD, network + 24 + 4 * word));
        code.push(statement(KEEP, word));
    }
    code.push(statement(LOAD_WORD, network + 24));
    code
}

/// Appends to `entry` a jump over `skipped`, which lies between it and the search.
fn before(mut entry: Vec<sock_filter>, skipped: &[sock_filter]) -> Vec<sock_filter> {
    entry.push(always(skipped.len()));
    entry
}

/// The blocks that are not inside another one, sorted.
fn outermost(blocks: &[(Addr, u8)]) -> Vec<(Addr, u8)> {
    let mut blocks: Vec<(Addr, u8)> =
        blocks.iter().map(|(address, bits)| (address.block(*bits), *bits)).collect();
    blocks.sort_unstable_by_key(|(address, bits)| (*address, std::cmp::Reverse(*bits)));
    // Blocks either nest or are disjoint, and an enclosing block sorts before those inside it.
    blocks.dedup_by(|(inner, _), (outer, bits)| inner.block(*bits) == *outer);
    blocks
}

impl BlockPattern {
    fn new(address: Addr, bits: u8, first: usize) -> Self {
        let mut words = [0; 4];
        let bytes = address.bits().to_be_bytes();
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4).skip(first)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        let bits = u32::from(bits);
        let count = u32::try_from(words.len() - first).unwrap_or(0);
        let len = count.saturating_sub(bits / 32).max(1);
        let mut key = Self { words, len, upper: 0 };
        let varying = if bits / 32 < count { !(u32::MAX << (bits % 32)) } else { u32::MAX };
        key.upper = key.word(len - 1) | varying;
        key
    }

    fn word(&self, word: u32) -> u32 {
        self.words.get(word as usize).copied().unwrap_or(0)
    }

    /// Whether this word, which is in the accumulator, is the last one that identifies the block.
    fn ends_with(&self, word: u32) -> bool {
        self.len == word + 1
    }

    /// The highest value of this word.
    fn highest(&self, word: u32) -> u32 {
        if self.ends_with(word) { self.upper } else { self.word(word) }
    }
}

/// The search for `blocks`, from the word `first` on, or the narrowest wider search that fits the
/// budget.
fn search_or_more(
    blocks: &[(Addr, u8)],
    first: usize,
    multicast: &RangeInclusive<u32>,
) -> Vec<sock_filter> {
    let keys = |blocks: &[(Addr, u8)]| -> Vec<BlockPattern> {
        blocks.iter().map(|(address, bits)| BlockPattern::new(*address, *bits, first)).collect()
    };
    // Each block takes at least one instruction: skip the search for longer lists.
    if blocks.len() <= FAMILY_BUDGET {
        let exact = search(&keys(blocks), 0);
        if exact.len() <= FAMILY_BUDGET {
            return exact;
        }
    }
    let word = |address: Addr| BlockPattern::new(address, 0, first).word(0);
    let others = blocks.iter().copied().filter(|(address, _)| !multicast.contains(&word(*address)));
    let others: Vec<(Addr, u8)> = others.take(FAMILY_BUDGET + 1).collect();
    let mut wider =
        vec![jump(AT_LEAST, *multicast.start(), 0, 2), jump(ABOVE, *multicast.end(), 1, 0), PASS];
    wider.extend(search(&keys(&others), 0));
    if wider.len() <= FAMILY_BUDGET { wider } else { vec![PASS] }
}

/// Passes destinations in one of `keys`, which agree in all words before `word`. That word of the
/// destination is in the accumulator.
fn search(keys: &[BlockPattern], word: u32) -> Vec<sock_filter> {
    if keys.is_empty() {
        return vec![DROP];
    }
    let groups = keys.chunk_by(|a, b| a.word(word) == b.word(word)).collect::<Vec<_>>();
    halve(&groups, word)
}

/// A balanced binary search over groups of keys that agree in `word`.
fn halve(groups: &[&[BlockPattern]], word: u32) -> Vec<sock_filter> {
    let firsts: Vec<BlockPattern> =
        groups.iter().filter_map(|group| group.first().copied()).collect();
    if groups.len() <= LEAF && firsts.iter().all(|key| key.ends_with(word)) {
        return leaf(&firsts, word);
    }
    if let ([keys], [first]) = (groups, firsts.as_slice()) {
        let mut code = vec![jump(EQUAL, first.word(word), 1, 0), DROP, statement(RECALL, word + 1)];
        code.extend(search(keys, word + 1));
        return code;
    }
    let (lower, upper) = groups.split_at(groups.len() / 2);
    let highest = firsts.get(lower.len().saturating_sub(1)).map_or(0, |key| key.highest(word));
    let lower = halve(lower, word);
    let mut code = match u8::try_from(lower.len()) {
        Ok(distance) => vec![jump(ABOVE, highest, distance, 0)],
        Err(_) => vec![jump(ABOVE, highest, 0, 1), always(lower.len())],
    };
    code.extend(lower);
    code.extend(halve(upper, word));
    code
}

/// Passes the last words of the keys and drops the rest.
fn leaf(keys: &[BlockPattern], word: u32) -> Vec<sock_filter> {
    let is_single = |key: &BlockPattern| key.word(word) == key.upper;
    let count: usize = keys.iter().map(|key| if is_single(key) { 1 } else { 2 }).sum();
    let mut code = Vec::with_capacity(count + 2);
    for key in keys {
        if is_single(key) {
            code.push(jump(EQUAL, key.upper, near(count - code.len()), 0));
        } else {
            code.push(jump(AT_LEAST, key.word(word), 0, 1));
            code.push(jump(ABOVE, key.upper, 0, near(count - code.len())));
        }
    }
    code.extend([DROP, PASS]);
    code
}

/// A jump distance inside one of the short lists above.
fn near(distance: usize) -> u8 {
    u8::try_from(distance).unwrap_or(u8::MAX)
}

fn always(distance: usize) -> sock_filter {
    statement(ALWAYS, u32::try_from(distance).unwrap_or(u32::MAX))
}

const fn statement(code: u32, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

/// `jt` and `jf` are the numbers of instructions to skip.
const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // An opcode is one byte.
    let [code, ..] = code.to_le_bytes();
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests;
