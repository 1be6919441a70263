//! The next send to one output, as its socket needs it.

use std::io;
use std::os::fd::AsFd;

use super::batch::Batches;
use super::{Cursor, SendLimits};
use crate::engine::plan::PlanOutput;
use crate::engine::rewrite::Rewrite;
use crate::engine::window::Window;
use crate::sys::ring::Ring;

/// The context of the next send to one output.
pub(super) struct OutputSend<'a> {
    pub(super) ring: &'a mut Ring,
    pub(super) window: &'a Window,
    pub(super) batches: &'a mut Batches,
    pub(super) target: &'a PlanOutput,
    pub(super) token: u32,
    /// Whether the next send belongs to the same chain.
    pub(super) is_linked: bool,
}

/// Each method queues the next send of a cursor; it returns false if the wave is full.
impl OutputSend<'_> {
    #[inline(always)]
    pub(super) fn send_plain(
        &mut self,
        cursor: &mut Cursor,
        limits: &SendLimits,
    ) -> io::Result<bool> {
        let Self { ring, window, batches, target, token, is_linked } = self;
        let most = limits.chunk(batches.segment(cursor.batch), batches.datagrams(cursor.batch));
        let built = batches.message(ring, window, cursor.batch, cursor.done, most);
        let Some((message, chunk)) = built else { return Ok(false) };
        cursor.chunk = chunk;
        ring.send(target.fd.as_fd(), message, *token, *is_linked)?;
        Ok(true)
    }

    pub(super) fn send_with_control(
        &mut self,
        cursor: &mut Cursor,
        rewrite: &Rewrite,
        limits: &SendLimits,
    ) -> io::Result<bool> {
        let Self { ring, window, batches, target, token, .. } = self;
        let all = if cursor.refused == 0 { batches.datagrams(cursor.batch) } else { 1 };
        let most = limits.chunk(batches.segment(cursor.batch), all);
        let built = batches.message(ring, window, cursor.batch, cursor.done, most);
        let send_control =
            batches.origin(window, cursor.batch).and_then(|origin| rewrite.send_control(&origin));
        let enclosed = built.zip(send_control).and_then(|((message, chunk), send_control)| {
            Some((ring.add_with_control(message, &send_control)?, chunk))
        });
        let Some((message, chunk)) = enclosed else { return Ok(false) };
        cursor.chunk = chunk;
        ring.send(target.fd.as_fd(), message, *token, false)?;
        Ok(true)
    }

    /// With headers, nothing is ever split or sent again, so one wave takes the whole batch.
    pub(super) fn add_with_headers(
        &mut self,
        cursor: &mut Cursor,
        rewrite: &Rewrite,
    ) -> io::Result<bool> {
        let Self { ring, window, batches, target, token, .. } = self;
        let Some(origin) = batches.origin(window, cursor.batch) else { return Ok(false) };
        let (headers, send_control) = (rewrite.headers(&origin), rewrite.send_control(&origin));
        for datagram in cursor.done..batches.datagrams(cursor.batch) {
            let built = batches.add_with_headers(ring, window, cursor.batch, datagram, &headers);
            let message = match (built, &send_control) {
                (Some(message), Some(send_control)) => ring.add_with_control(message, send_control),
                (built, _) => built,
            };
            let Some(message) = message else { return Ok(false) };
            ring.send(target.fd.as_fd(), message, *token, false)?;
        }
        Ok(true)
    }
}
