//! The words of each kind of slot.

/// The words of an interface's slot.
pub mod interface {
    use crate::packet::Discard;
    /// Datagrams received, relayed or not.
    pub const RECEIVED: usize = 1;
    /// Datagrams that matched a rule.
    pub const MATCHED: usize = 2;
    /// How often all buffers were in use, so that frames waited in the kernel.
    pub const BUFFER_WAITS: usize = 3;
    /// The errno that ended the reception; 0 while it is running.
    pub const ERROR: usize = 4;
    /// Bytes of the payloads of those received that could be read.
    pub const RECEIVED_BYTES: usize = 5;
    /// Datagrams discarded, one word for each [`Discard`].
    pub const DROPPED: usize = 8;
    const _: () = assert!(DROPPED + Discard::COUNT <= crate::stats::TAG);
}

/// The words of a group's slot: traffic of the group that matched no rule.
pub mod group {
    /// Datagrams of the group that matched no rule.
    pub const UNMATCHED: usize = 1;
    /// The last port that no rule has, plus one; 0 for none.
    pub const OTHER_PORT: usize = 2;
    /// The time of the last one, in milliseconds of CLOCK_MONOTONIC_COARSE; 0 for none.
    pub const LAST_SEEN_MS: usize = 3;
    /// The last source that no rule lists, upper and lower half; 0 for none.
    pub const OTHER_SOURCE: usize = 4;
}

/// The words of a rule's slot.
pub mod rule {
    /// Datagrams that matched the rule.
    pub const MATCHED: usize = 1;
    /// Bytes of their payloads.
    pub const MATCHED_BYTES: usize = 2;
    /// The time of the last one, in milliseconds of CLOCK_MONOTONIC_COARSE; 0 for none.
    pub const LAST_SEEN_MS: usize = 3;
    /// Its source, upper and lower half.
    pub const LAST_SOURCE: usize = 4;
    /// Datagrams that would overtake others if the kernel merges; counted only while the check is
    /// on.
    pub const OVERTAKING: usize = 6;
    /// Flows that gave way to others, of whatever rule.
    pub const FLOWS_EVICTED: usize = 7;
    /// Payloads that came back to it again and again, among those watched.
    pub const LOOPED: usize = 8;
    /// The time at which the last of them was found, in milliseconds of CLOCK_MONOTONIC_COARSE; 0
    /// for none.
    pub const LOOPED_MS: usize = 9;
    /// Where that came back from, upper and lower half.
    pub const LOOPED_SOURCE: usize = 10;
    /// Of an input that is merged with others: datagrams received.
    pub const RECEIVED: usize = 12;
    /// Those that no other input had delivered, nor a later one.
    pub const FIRST: usize = 13;
    /// Those that another input, or this one, had delivered before.
    pub const DUPLICATE: usize = 14;
    /// Those that no input had delivered, but one had delivered a later one.
    pub const LATE: usize = 15;
    /// Those without a number that continues the input.
    pub const OUT_OF_SEQUENCE: usize = 16;
    /// Numbers that this input has not delivered.
    pub const MISSING: usize = 17;
    /// Of the first input: numbers that no input has delivered.
    pub const LOST: usize = 18;
    /// Of the first input: how often the numbers began anew.
    pub const RESTARTS: usize = 19;
    /// Counts of how far duplicates were behind the first ones, three in a word.
    pub const SKEW: usize = 20;
    /// Of the first input, where one input is sent at a time, which has no skew: the number of that
    /// input, from 0, with [`ACTIVE_MARK`].
    pub const ACTIVE: usize = SKEW;
    /// The bit of [`ACTIVE`] that no counts of skew set.
    pub const ACTIVE_MARK: u64 = 1 << 63;
    /// Of the same: how often another input was chosen.
    pub const SWITCHES: usize = SKEW + 1;
    /// The end of these words.
    pub const END: usize = SKEW + crate::stats::skew::WORDS;
    const _: () = assert!(END <= crate::stats::TAG);
}

/// The words of an output's slot.
pub mod output {
    use crate::stats::Loss;
    /// Copies to be sent.
    pub const WANTED: usize = 1;
    /// Copies that the kernel accepted.
    pub const SENT: usize = 2;
    /// Bytes of their payloads.
    pub const SENT_BYTES: usize = 3;
    /// Sends that returned an ICMP error and were repeated.
    pub const REFUSED: usize = 4;
    /// Copies lost, one word for each [`Loss`].
    pub const DROPPED: usize = 5;
    /// Copies that wait for the output's rate.
    pub const WAITING: usize = 15;
    /// Pairs of errno and count for the copies lost as `send_error`; the last pair, with errno 0,
    /// counts errors without a pair of their own.
    pub const ERRORS: usize = 16;
    /// The number of such pairs.
    pub const ERROR_PAIRS: usize = 5;
    /// The time of the last loss, in milliseconds of CLOCK_MONOTONIC_COARSE; 0 for none.
    pub const LOST_MS: usize = ERRORS + 2 * ERROR_PAIRS;
    /// Its [`Loss`].
    pub const LAST_LOSS: usize = LOST_MS + 1;
    /// The errno of the last `send_error`.
    pub const LAST_ERRNO: usize = LOST_MS + 2;
    /// The time of the last ICMP error, in milliseconds of CLOCK_MONOTONIC_COARSE; 0 for none.
    pub const REFUSED_MS: usize = LOST_MS + 3;
    /// The end of these words.
    pub const END: usize = REFUSED_MS + 1;
    const _: () = assert!(DROPPED + Loss::COUNT <= WAITING);
    const _: () = assert!(END <= crate::stats::TAG);
}
