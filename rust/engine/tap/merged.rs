//! Datagrams of merging rules. Whether each is sent is known only when it has its place, and what is
//! sent of a super-frame, or was held, is in entries of its own.

use super::{Noted, Taps, now_ns, received, taken_of};
use crate::engine::entry_pieces::{EntryPiece, Placed};
use crate::engine::ingress::Arrival;
use crate::engine::plan::Source;
use crate::tap::{Step, TapRecord};

impl Taps {
    /// Records datagrams of an entry whose places a merging rule has found. `bytes` is the buffer,
    /// `rules` the number of rules that it matched.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn note_placed(
        &mut self,
        (piece, placed): (EntryPiece, &Placed),
        (rule, rules): (u32, usize),
        (bytes, arrival): (&[u8], &Arrival),
        source: &Source,
    ) {
        let plan = self.plan.clone();
        let Some(rule) = plan.rules.get(rule as usize) else { return };
        let Some(&noted) = self.noted.get(usize::from(piece.entry)) else { return };
        let raw = if noted.has_frame { source.kind.raw(bytes) } else { None };
        for (number, tap) in plan.taps.iter().enumerate() {
            if rule.taps & noted.placed_later & 1 << number == 0 {
                continue;
            }
            let end = piece.first + piece.count;
            for at in taken_of(noted.taken[number], tap.filter.sample, end) {
                let Some(bit) = at.checked_sub(piece.first) else { continue };
                let step = placed.reason(bit).map_or(Step::Matched, Step::Discarded);
                let is_wanted = match step {
                    Step::Discarded(reason) => tap.filter.takes_discard(reason),
                    _ => tap.filter.received && tap.filter.output.is_none(),
                };
                if is_wanted {
                    let rules = u16::try_from(rules).unwrap_or(u16::MAX);
                    let record = received(now_ns(), source, step);
                    let record =
                        TapRecord { datagram: noted.first, rule: rule.id, rules, ..record };
                    self.record_one(tap, record, at, (bytes, raw.as_ref()), arrival);
                }
            }
        }
    }

    /// Notes that an entry has the datagrams of another one from this number on.
    pub(in crate::engine) fn note_part(&mut self, part: u16, (entry, number): (u16, u32)) {
        let noted = self.noted.get(usize::from(entry)).map_or(Noted::NOTHING, |noted| {
            let mut taken = noted.taken;
            for (tap, first) in self.plan.taps.iter().zip(&mut taken) {
                *first = next_taken(*first, tap.filter.sample, number);
            }
            Noted { first: noted.first + u64::from(number), taken, ..*noted }
        });
        self.keep(part.into(), noted);
    }

    /// Notes an entry with a datagram that was held.
    pub(in crate::engine) fn note_held(&mut self, entry: u16, noted: Option<Noted>) {
        self.keep(entry.into(), noted.unwrap_or(Noted::NOTHING));
    }
}

/// Which datagram from this number on is the next one taken, counted from that number; `u32::MAX` for
/// none, as is `first`.
fn next_taken(first: u32, sample: u32, number: u32) -> u32 {
    match number.checked_sub(first) {
        Some(behind) => behind.checked_next_multiple_of(sample).map_or(u32::MAX, |at| at - behind),
        None if first == u32::MAX => first,
        None => first - number,
    }
}

#[cfg(test)]
mod tests {
    use super::next_taken;

    #[test]
    fn a_part_continues_the_sample() {
        for (first, sample, number, expected) in
            [(1, 4, 0, 1), (1, 4, 1, 0), (1, 4, 2, 3), (1, 4, 5, 0), (1, 4, 8, 1), (7, 4, 2, 5)]
        {
            assert_eq!(next_taken(first, sample, number), expected, "{first} {sample} {number}");
        }
        assert_eq!(next_taken(u32::MAX, 4, 9), u32::MAX);
    }
}
