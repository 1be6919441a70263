//! What records the copies that leave as frames: a tap, or nothing.

use crate::engine::tap::{CopyEvent, Taps};
use crate::engine::window::Window;
use crate::stats::Loss;
use crate::sys::ring::Ring;
use crate::tap::Step;

/// Records what becomes of copies. A rule's number and the output's position in it say whose they
/// are, the window entry and the number of the datagram in it which.
pub(super) trait CopyRecorder {
    /// Records a copy.
    fn record(
        &mut self,
        copy: (u32, u32),
        sent: Result<(), (Loss, u32)>,
        datagram: (u16, u32),
        payload: &[u8],
    );

    /// Records the copies of all datagrams of a lane.
    fn record_lane(&mut self, view: (&Ring, &Window), lane: u32, copy: (u32, u32), step: Step);
}

/// Records nothing.
pub(super) struct Unrecorded;

impl CopyRecorder for Unrecorded {
    #[inline(always)]
    fn record(&mut self, _: (u32, u32), _: Result<(), (Loss, u32)>, _: (u16, u32), _: &[u8]) {}

    #[inline(always)]
    fn record_lane(&mut self, _: (&Ring, &Window), _: u32, _: (u32, u32), _: Step) {}
}

impl CopyRecorder for Taps {
    fn record(
        &mut self,
        (rule, output): (u32, u32),
        sent: Result<(), (Loss, u32)>,
        datagram: (u16, u32),
        payload: &[u8],
    ) {
        let (step, errno) =
            sent.map_or_else(|(loss, errno)| (Step::Lost(loss), errno), |()| (Step::Sent, 0));
        self.record_copy(CopyEvent { rule, output, step, errno }, datagram, payload);
    }

    fn record_lane(
        &mut self,
        (ring, window): (&Ring, &Window),
        lane: u32,
        (rule, output): (u32, u32),
        step: Step,
    ) {
        for (member, entry) in window.datagrams(lane) {
            let bytes = ring.bytes(&entry.buffer);
            let mut rest = bytes
                .get(entry.start as usize..(entry.start + entry.len) as usize)
                .unwrap_or_default();
            for number in 0..entry.count {
                let (payload, others) = rest.split_at(rest.len().min(entry.segment as usize));
                rest = others;
                let event = CopyEvent { rule, output, step, errno: 0 };
                self.record_copy(event, (member, number), payload);
            }
        }
    }
}
