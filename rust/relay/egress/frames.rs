//! The frames that an output may send through the AF_XDP sockets, or the reason why it may not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::way::{OutputWay, SocketReason};
use crate::engine::plan::{Way, XdpOutput};
use crate::packet::{EthernetHeader, Headers};

/// An output's use of AF_XDP.
#[derive(Clone)]
pub(in crate::relay) struct OutputFrames {
    /// The interface of the links.
    ifindex: u32,
    /// For each engine; empty without links.
    frames: Box<[Arc<XdpOutput>]>,
    /// Why they must not be used; `None` if the engines decide.
    reason: Option<SocketReason>,
}

/// What determines the frames of an output on one link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) struct FrameFields {
    /// The id of the link.
    pub(in crate::relay) link: u64,
    pub(in crate::relay) ethernet: EthernetHeader,
    pub(in crate::relay) headers: Headers,
    /// Bytes.
    pub(in crate::relay) max_payload: u16,
    /// Whether batches are sent as frames too.
    pub(in crate::relay) forced: bool,
}

impl FrameFields {
    fn of(frames: &XdpOutput) -> Self {
        let XdpOutput { link, ethernet, headers, max_payload, forced, .. } = *frames;
        Self { link, ethernet, headers, max_payload, forced }
    }

    fn into_frames(self) -> XdpOutput {
        let Self { link, ethernet, headers, max_payload, forced } = self;
        XdpOutput::new(link, ethernet, headers, max_payload, forced)
    }
}

impl OutputFrames {
    /// Of an output that is not open yet.
    pub(in crate::relay) fn none() -> Self {
        Self { ifindex: 0, frames: Box::default(), reason: Some(SocketReason::Parked) }
    }

    /// The way of the copies now.
    pub(in crate::relay) fn way(&self) -> OutputWay {
        match &self.reason {
            Some(reason) => OutputWay::Socket(reason.name()),
            None if self.frames.iter().any(|one| one.way() == Way::Xdp) => OutputWay::Xdp,
            None => OutputWay::Socket(SocketReason::Batches.name()),
        }
    }

    /// Why the engines must not use them.
    pub(in crate::relay) fn reason(&self) -> Option<&SocketReason> {
        self.reason.as_ref()
    }

    /// The frames of an engine.
    pub(in crate::relay) fn of_worker(&self, worker: u16) -> Option<Arc<XdpOutput>> {
        self.frames.get(usize::from(worker)).cloned()
    }

    /// The interface of the links, and the id of the first engine's.
    pub(in crate::relay) fn link(&self) -> Option<(u32, u64)> {
        self.frames.first().map(|one| (self.ifindex, one.link))
    }

    /// Lets the engines use these frames; returns whether that takes new plans.
    pub(in crate::relay) fn open(&mut self, ifindex: u32, fields: Vec<FrameFields>) -> bool {
        self.reason = None;
        let open = self.frames.iter().map(|one| FrameFields::of(one));
        if self.ifindex == ifindex && open.eq(fields.iter().copied()) {
            self.frames.iter().for_each(|one| one.is_open.store(true, Ordering::Relaxed));
            return false;
        }
        self.ifindex = ifindex;
        self.frames = fields.into_iter().map(|it| Arc::new(it.into_frames())).collect();
        true
    }

    /// Has the engines keep to the socket until the destination is known, with links that are open
    /// already; returns whether that takes new plans.
    pub(in crate::relay) fn wait(
        &mut self,
        ifindex: u32,
        fields: Vec<FrameFields>,
        reason: SocketReason,
    ) -> bool {
        let link = fields.first().map(|one| (ifindex, one.link));
        let has_changed = self.link() != link && self.open(ifindex, fields);
        self.close(reason);
        has_changed
    }

    /// Has the engines return to the socket, without new plans.
    pub(in crate::relay) fn close(&mut self, reason: SocketReason) {
        self.reason = Some(reason);
        self.frames.iter().for_each(|one| one.is_open.store(false, Ordering::Relaxed));
    }

    /// The same for good, since the link is gone; returns whether that takes new plans.
    pub(in crate::relay) fn remove(&mut self, reason: SocketReason) -> bool {
        self.close(reason);
        !std::mem::take(&mut self.frames).is_empty()
    }
}
