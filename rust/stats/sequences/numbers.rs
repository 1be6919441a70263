//! The numbers of a stream: which are new, late, repeated or missing. The last [`WINDOW`] of them
//! have a bit each.

use super::format::{Format, Units};
use super::words::miss;
use super::{SequenceWords, word};

/// Numbers with a bit.
pub(super) const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// The place of a datagram among those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Succession {
    /// Later than all others.
    Next,
    /// Late, or a repetition.
    Old,
    /// So far away that the sender must have begun anew, if the next one confirms it.
    Strange,
}

/// The state of a stream besides its published words.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    seen: [u64; WORDS],
    /// How far the lowest number is below the next one.
    span: u64,
    /// The numbers from this one to the next one were in sequence, and have no bits yet.
    marked_to: u64,
    is_started: bool,
    /// The last strange number, if the datagram before was strange.
    strange: Option<Units>,
}

/// The bounds within which a number continues a stream.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) mask: u64,
    most_ahead: u64,
    most_behind: u64,
}

impl Bounds {
    /// Of numbers of these many bits. RFC 3550 (A.1) has 3000 for 16 bits; of longer numbers a
    /// sender can skip many more within a second.
    #[inline(always)]
    pub(super) const fn of(bits: u32) -> Self {
        match bits {
            0..=8 => Self { mask: 0xff, most_ahead: 128, most_behind: 64 },
            9..=16 => Self { mask: 0xffff, most_ahead: 3000, most_behind: WINDOW },
            17..=24 => Self { mask: 0xff_ffff, most_ahead: 1 << 20, most_behind: WINDOW },
            25..=32 => Self { mask: 0xffff_ffff, most_ahead: 1 << 24, most_behind: WINDOW },
            33..=48 => Self { mask: (1 << 48) - 1, most_ahead: 1 << 32, most_behind: WINDOW },
            _ => Self { mask: u64::MAX, most_ahead: 1 << 32, most_behind: WINDOW },
        }
    }
}

impl Numbers {
    pub(super) const fn new() -> Self {
        Self { seen: [0; WORDS], span: 0, marked_to: 0, is_started: false, strange: None }
    }

    /// Of a stream that an earlier process has counted: the numbers before count as seen.
    pub(super) const fn resumed(next: u64) -> Self {
        let seen = [u64::MAX; WORDS];
        Self { seen, span: WINDOW, marked_to: next, is_started: true, strange: None }
    }

    /// Counts the units of a datagram.
    pub(super) fn place(
        &mut self,
        words: &mut SequenceWords,
        format: Format,
        number: Units,
    ) -> Succession {
        self.mark_run(words[word::NEXT]);
        let succession = self.place_marked(words, Bounds::of(format.bits()), number);
        self.marked_to = words[word::NEXT];
        succession
    }

    /// Marks the numbers up to the next one, which were in sequence.
    fn mark_run(&mut self, next: u64) {
        let run = next.wrapping_sub(self.marked_to);
        self.set(self.marked_to, run, true);
        self.span = self.span.saturating_add(run);
    }

    fn place_marked(
        &mut self,
        words: &mut SequenceWords,
        bounds: Bounds,
        number: Units,
    ) -> Succession {
        if !self.is_started {
            self.begin(words, number);
            return Succession::Next;
        }
        let next = words[word::NEXT];
        let ahead = number.first.wrapping_sub(next) & bounds.mask;
        let behind = next.wrapping_sub(number.first) & bounds.mask;
        let is_here = number.stream == words[word::STREAM];
        if is_here && ahead <= bounds.most_ahead {
            self.strange = None;
            self.advance(words, ahead, Units { first: next.wrapping_add(ahead), ..number });
            return Succession::Next;
        }
        if is_here && behind <= bounds.most_behind {
            self.strange = None;
            let first = next.wrapping_sub(behind);
            return self.fill(words, behind, Units { first, ..number });
        }
        self.jump(words, bounds, number)
    }

    /// The first number of a stream.
    fn begin(&mut self, words: &mut SequenceWords, number: Units) {
        *self = Self { is_started: true, ..Self::new() };
        words[word::STREAM] = number.stream;
        self.extend(words, number);
    }

    /// Records units that are later than all before; those skipped are missing for now.
    fn advance(&mut self, words: &mut SequenceWords, ahead: u64, number: Units) {
        if ahead > 0 {
            self.set(words[word::NEXT], ahead, false);
            self.span = self.span.saturating_add(ahead);
            miss(words, ahead);
        }
        self.extend(words, number);
    }

    fn extend(&mut self, words: &mut SequenceWords, number: Units) {
        self.set(number.first, number.count, true);
        self.span = self.span.saturating_add(number.count);
        words[word::NEXT] = number.first.wrapping_add(number.count);
    }

    /// Records units of which at least the first has its place in the window.
    fn fill(&mut self, words: &mut SequenceWords, behind: u64, number: Units) -> Succession {
        let old = number.count.min(behind);
        let mut fresh = 0;
        for at in (0..old).map(|step| number.first.wrapping_add(step)) {
            if self.is_set(at) {
                words[word::DUPLICATED] += 1;
            } else {
                self.set_one(at);
                fresh += 1;
            }
        }
        words[word::REORDERED] += fresh;
        let mut was_missing = fresh;
        if behind > self.span {
            // From before the first one: the stream begins here, and what is between is missing.
            let between = (behind - self.span).saturating_sub(old);
            was_missing = fresh.saturating_sub((behind - self.span).min(old));
            if between > 0 {
                miss(words, between);
            }
            self.span = behind;
        }
        words[word::LOST] = words[word::LOST].saturating_sub(was_missing);
        if number.count <= behind {
            return Succession::Old;
        }
        let (first, count) = (number.first.wrapping_add(old), number.count - old);
        self.extend(words, Units { first, count, ..number });
        Succession::Next
    }

    /// Records a number far away: the second in sequence begins the stream anew.
    #[cold]
    fn jump(&mut self, words: &mut SequenceWords, bounds: Bounds, number: Units) -> Succession {
        let follows = |before: Units| {
            let end = before.first.wrapping_add(before.count) & bounds.mask;
            before.stream == number.stream && end == number.first
        };
        let Some(before) = self.strange.filter(|before| follows(*before)) else {
            self.strange = Some(number);
            return Succession::Strange;
        };
        self.begin(words, before);
        let first = words[word::NEXT];
        self.extend(words, Units { first, ..number });
        words[word::RESETS] += 1;
        // The one before fits after all.
        words[word::UNFIT] = words[word::UNFIT].saturating_sub(1);
        words[word::NUMBERED] += 1;
        Succession::Next
    }

    /// Marks these numbers, or unmarks them.
    fn set(&mut self, first: u64, count: u64, is_seen: bool) {
        if count >= WINDOW {
            self.seen.fill(if is_seen { u64::MAX } else { 0 });
            return;
        }
        let (mut at, mut left) = (first, count);
        while left > 0 {
            let bit = at % 64;
            let run = left.min(64 - bit);
            let bits = (u64::MAX >> (64 - run)) << bit;
            let word = &mut self.seen[slot(at)];
            *word = if is_seen { *word | bits } else { *word & !bits };
            at = at.wrapping_add(run);
            left -= run;
        }
    }

    #[inline(always)]
    fn set_one(&mut self, at: u64) {
        self.seen[slot(at)] |= 1 << (at % 64);
    }

    fn is_set(&self, at: u64) -> bool {
        self.seen[slot(at)] >> (at % 64) & 1 == 1
    }
}

#[inline(always)]
const fn slot(number: u64) -> usize {
    (number / 64) as usize % WORDS
}
