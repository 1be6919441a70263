//! The recognition of a flow's format: enough datagrams in sequence that have it.

use super::format::Format;

/// Datagrams in sequence after which a format is recognised. RTP has the weakest marks, two bits;
/// its stream and a number that fits add 32 and 4 more with each datagram.
const ENOUGH: u16 = 8;
/// Datagrams in sequence without a number that fits, after which a format is given up.
const TOO_MANY: u16 = 16;
/// Datagrams of a flow that are looked at, of each so many.
const LOOKED_AT: u16 = 64;
const OF_EACH: u16 = 4096;

/// The state of a flow whose rule tells nothing.
#[derive(Clone, Debug)]
pub(super) struct Recognition {
    format: Option<Format>,
    fitting: u16,
    missing: u16,
    looks: u16,
}

impl Recognition {
    pub(super) const fn new() -> Self {
        Self { format: None, fitting: 0, missing: 0, looks: 0 }
    }

    #[inline(always)]
    pub(super) const fn is_decided(&self) -> bool {
        self.fitting >= ENOUGH
    }

    /// The format, recognised or likely.
    #[inline(always)]
    pub(super) const fn format(&self) -> Option<Format> {
        self.format
    }

    /// Looks at a datagram: the likely format after it, if it was looked at.
    pub(super) fn look(&mut self, datagram: &[u8]) -> Option<Option<Format>> {
        self.looks = (self.looks + 1) % OF_EACH;
        if self.looks > LOOKED_AT && self.format.is_none() {
            return None;
        }
        let found = Format::guess(datagram);
        if found != self.format {
            (self.format, self.fitting) = (found, 0);
        }
        Some(found)
    }

    /// Records that a datagram had a number that fits; true if the format is recognised by it.
    #[inline(always)]
    pub(super) fn fits(&mut self) -> bool {
        self.missing = 0;
        if self.fitting >= ENOUGH {
            return false;
        }
        self.fitting += 1;
        self.fitting == ENOUGH
    }

    /// Counts from none again.
    pub(super) const fn restart(&mut self) {
        self.fitting = 0;
    }

    /// Records that a datagram had none; true if the format is given up.
    pub(super) fn misses(&mut self) -> bool {
        self.missing += 1;
        if self.missing < TOO_MANY {
            return false;
        }
        *self = Self::new();
        true
    }

    /// Takes over a format that was recognised before.
    pub(super) fn decide(&mut self, format: Format) {
        (self.format, self.fitting) = (Some(format), ENOUGH);
    }
}
