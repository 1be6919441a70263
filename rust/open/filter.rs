//! The program that decides in the kernel which frames are queued: UDP, to destinations that
//! some rule names (classic BPF). Ports and sources are left to the engine, so that it can
//! count what no rule wants. It must not know sockets.
//!
//! A program is put together from fragments: each is entered at its first instruction, ends in
//! a verdict on every path and jumps only inside itself, so that fragments can be moved.

use std::ops::RangeInclusive;

use libc::sock_filter;

use crate::addr::Addr;

/// Instructions for the addresses of one family: both fit in the kernel's 4096 with room to
/// spare, because the translated program must also fit in net.core.optmem_max.
const FAMILY_BUDGET: usize = 1400;

/// So many values are compared one after the other where a binary search ends.
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

/// Instructions of [`head`].
const HEAD: usize = 15;

/// Bytes of a VLAN tag that stands inside the frame.
const TAG: u32 = 4;

/// An address as words from the left; IPv4 has only the first.
type Key = [u32; 4];

/// The first words of the multicast addresses.
const V4_MULTICAST: RangeInclusive<u32> = 0xe000_0000..=0xefff_ffff;
const V6_MULTICAST: RangeInclusive<u32> = 0xff00_0000..=0xffff_ffff;

/// A program that passes Ethernet frames with UDP to one of `addresses`, or with an IPv6
/// extension header in front of whatever follows. One VLAN tag that is still inside the frame
/// is looked through, so that doubly tagged frames are counted.
///
/// Where the addresses of a family do not fit, it passes any multicast UDP of that family and
/// exactly the unicast addresses; where these do not fit either, any UDP of the family.
#[must_use]
pub fn destinations(addresses: &[Addr]) -> Vec<sock_filter> {
    let (v4, v6): (Vec<Addr>, Vec<Addr>) = addresses.iter().partition(|address| address.is_v4());
    let v4_tagged = v4_entry(TAG);
    let v6_tagged = v6_entry(TAG);
    let parts = [
        before(v4_entry(0), &v4_tagged),
        v4_tagged,
        search_or_more(keys(&v4, 3), 1, &V4_MULTICAST),
        before(v6_entry(0), &v6_tagged),
        v6_tagged,
        search_or_more(keys(&v6, 0), 4, &V6_MULTICAST),
    ];
    let mut end = HEAD;
    let [v4, v4_tagged, _, v6, v6_tagged, _] = parts.each_ref().map(|part| {
        let start = end;
        end += part.len();
        start
    });
    let mut program = head([v4, v6], [v4_tagged, v6_tagged]).to_vec();
    program.extend(parts.concat());
    program
}

/// A program that passes nothing.
#[must_use]
pub fn nothing() -> [sock_filter; 1] {
    [DROP]
}

/// The dispatch by ethertype; the arguments are the positions of the entries for IPv4 and IPv6,
/// in a plain frame and behind a tag.
fn head([v4, v6]: [usize; 2], [v4_tagged, v6_tagged]: [usize; 2]) -> [sock_filter; HEAD] {
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

/// Goes on behind an IPv4 header's destination, which is left in the accumulator, if it is UDP.
/// Every fragment of a datagram says UDP.
fn v4_entry(offset: u32) -> Vec<sock_filter> {
    vec![
        statement(LOAD_BYTE, 23 + offset),
        jump(EQUAL, UDP, 1, 0),
        DROP,
        statement(LOAD_WORD, 30 + offset),
    ]
}

/// The same for IPv6, or an extension header: hop-by-hop 0, routing 43, fragment 44, AH 51,
/// destination 60. The later words of the destination are kept for the search.
fn v6_entry(offset: u32) -> Vec<sock_filter> {
    let next_headers = [UDP, 0, 43, 44, 51, 60];
    let mut code = vec![statement(LOAD_BYTE, 20 + offset)];
    for (at, next) in next_headers.into_iter().enumerate() {
        code.push(jump(EQUAL, next, near(next_headers.len() - at), 0));
    }
    code.push(DROP);
    for word in [3, 2, 1] {
        code.push(statement(LOAD_WORD, 38 + offset + 4 * word));
        code.push(statement(KEEP, word));
    }
    code.push(statement(LOAD_WORD, 38 + offset));
    code
}

/// `entry`, then a jump over `skipped`, which stands between it and the search.
fn before(mut entry: Vec<sock_filter>, skipped: &[sock_filter]) -> Vec<sock_filter> {
    entry.push(always(skipped.len()));
    entry
}

/// The addresses as words from the left, from the word `first` on, in order and once each.
fn keys(addresses: &[Addr], first: usize) -> Vec<Key> {
    let mut keys = Vec::with_capacity(addresses.len());
    for address in addresses {
        let mut key = Key::default();
        let bytes = address.bits().to_be_bytes();
        for (word, bytes) in key.iter_mut().zip(bytes.chunks_exact(4).skip(first)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        keys.push(key);
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The search for `keys`, or the nearest wider one that keeps to the budget.
fn search_or_more(
    mut keys: Vec<Key>,
    words: u32,
    multicast: &RangeInclusive<u32>,
) -> Vec<sock_filter> {
    let exact = search(&keys, 0, words);
    if exact.len() <= FAMILY_BUDGET {
        return exact;
    }
    keys.retain(|[first, ..]| !multicast.contains(first));
    let mut wider =
        vec![jump(AT_LEAST, *multicast.start(), 0, 2), jump(ABOVE, *multicast.end(), 1, 0), PASS];
    wider.extend(search(&keys, 0, words));
    if wider.len() <= FAMILY_BUDGET { wider } else { vec![PASS] }
}

/// Passes what is one of `keys`, which agree in the words before `word`; that word of the
/// destination is in the accumulator.
fn search(keys: &[Key], word: u32, words: u32) -> Vec<sock_filter> {
    if keys.is_empty() {
        return vec![DROP];
    }
    if word == words {
        return vec![PASS];
    }
    let groups = keys.chunk_by(|a, b| value(a, word) == value(b, word)).collect::<Vec<_>>();
    halve(&groups, word, words)
}

/// A balanced search over groups of keys that agree in `word`.
fn halve(groups: &[&[Key]], word: u32, words: u32) -> Vec<sock_filter> {
    if word + 1 == words && groups.len() <= LEAF {
        return leaf(
            &groups
                .iter()
                .flat_map(|group| group.first())
                .map(|key| value(key, word))
                .collect::<Vec<_>>(),
        );
    }
    if let [[first, ..]] = groups {
        let keys = groups.concat();
        let mut code =
            vec![jump(EQUAL, value(first, word), 1, 0), DROP, statement(RECALL, word + 1)];
        code.extend(search(&keys, word + 1, words));
        return code;
    }
    let (lower, upper) = groups.split_at(groups.len() / 2);
    let highest = lower.last().and_then(|group| group.first()).map_or(0, |key| value(key, word));
    let lower = halve(lower, word, words);
    let mut code = match u8::try_from(lower.len()) {
        Ok(distance) => vec![jump(ABOVE, highest, distance, 0)],
        Err(_) => vec![jump(ABOVE, highest, 0, 1), always(lower.len())],
    };
    code.extend(lower);
    code.extend(halve(upper, word, words));
    code
}

/// Passes the values and nothing else.
fn leaf(values: &[u32]) -> Vec<sock_filter> {
    let count = values.len();
    let mut code = Vec::with_capacity(count + 2);
    for (at, value) in values.iter().enumerate() {
        let last = at + 1 == count;
        code.push(jump(EQUAL, *value, near(count - 1 - at), u8::from(last)));
    }
    code.extend([PASS, DROP]);
    code
}

fn value(key: &Key, word: u32) -> u32 {
    key.get(word as usize).copied().unwrap_or(0)
}

/// A distance inside one of the short lists above.
fn near(distance: usize) -> u8 {
    u8::try_from(distance).unwrap_or(u8::MAX)
}

fn always(distance: usize) -> sock_filter {
    statement(ALWAYS, u32::try_from(distance).unwrap_or(u32::MAX))
}

const fn statement(code: u32, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

/// `jt` and `jf` count the instructions that are skipped.
const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // An operation code is one byte.
    let [code, ..] = code.to_le_bytes();
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests;
