//! Requests that are sent before their answers are needed, so that worker and supervisor work at
//! the same time instead of waiting for each other: after a restart there are some for each rule.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use super::messages::Answer;
use crate::error::Result;

/// The answer to a request with its descriptor, or the refusal.
pub(super) type Reply = Result<(Answer, Option<OwnedFd>)>;

/// An encoded request.
type EncodedRequest = Box<[u8]>;

/// The requests between their announcement and their use.
#[derive(Default)]
pub(super) struct Pipeline {
    /// Those to be sent, in the order in which they will be made.
    expected: VecDeque<EncodedRequest>,
    /// Those without an answer; the answers come in the same order.
    sent: VecDeque<EncodedRequest>,
    /// The answers to requests that were not made yet.
    early: HashMap<EncodedRequest, VecDeque<Reply>>,
}

impl Pipeline {
    /// Adds requests that will be made in this order.
    pub(super) fn expect(&mut self, requests: impl Iterator<Item = Vec<u8>>) {
        self.expected.extend(requests.map(Vec::into_boxed_slice));
    }

    /// The number of requests without an answer.
    pub(super) fn under_way(&self) -> usize {
        self.sent.len()
    }

    /// The next request to send in advance; it counts as sent.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let next = self.expected.pop_front()?;
        self.sent.push_back(next);
        self.sent.back().map(|message| &**message)
    }

    /// Whether the request was sent and has no answer yet.
    pub(super) fn is_sent(&self, request: &[u8]) -> bool {
        self.sent.iter().any(|sent| **sent == *request)
    }

    pub(super) fn add_sent(&mut self, request: &[u8]) {
        self.sent.push_back(request.into());
    }

    /// The oldest request without an answer.
    pub(super) fn take_sent(&mut self) -> Option<EncodedRequest> {
        self.sent.pop_front()
    }

    /// Keeps an answer until its request is made.
    pub(super) fn keep(&mut self, request: EncodedRequest, reply: Reply) {
        self.early.entry(request).or_default().push_back(reply);
    }

    /// The answer to a request, if there is one already.
    pub(super) fn take_early(&mut self, request: &[u8]) -> Option<Reply> {
        let replies = self.early.get_mut(request)?;
        let reply = replies.pop_front();
        if replies.is_empty() {
            self.early.remove(request);
        }
        reply
    }

    /// Expects no more requests; returns the answers that are not needed.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = (EncodedRequest, Reply)> {
        self.expected.clear();
        let early = std::mem::take(&mut self.early).into_iter();
        early.flat_map(|(request, replies)| {
            replies.into_iter().map(move |reply| (request.clone(), reply))
        })
    }
}
