//! The copies of all outputs, summed, without a report of each.

use crate::stats::kernel::{KernelOutputCounts, KernelWords};
use crate::stats::{Loss, SlotWords, output};

/// The sums over all outputs of a relay: `wanted = sent + lost + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyCounts {
    /// Copies to be made.
    pub wanted: u64,
    /// Those sent.
    pub sent: u64,
    /// Bytes of their payloads.
    pub sent_bytes: u64,
    /// Copies that were dropped, for any reason.
    pub lost: u64,
}

impl CopyCounts {
    /// Adds what an engine and the kernel have counted for an output.
    pub(super) fn add(mut self, words: &SlotWords, kernel: &KernelWords) -> Self {
        let kernel = KernelOutputCounts::from_words(kernel);
        let lost = &words[output::DROPPED..output::DROPPED + Loss::COUNT];
        let lost = lost.iter().chain([&kernel.full, &kernel.lost]);
        self.wanted = sum([self.wanted, words[output::WANTED], kernel.wanted()]);
        self.sent = sum([self.sent, words[output::SENT], kernel.sent]);
        self.sent_bytes = sum([self.sent_bytes, words[output::SENT_BYTES], kernel.sent_bytes]);
        self.lost = lost.copied().fold(self.lost, u64::saturating_add);
        self
    }
}

fn sum(counts: [u64; 3]) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}
