//! Which datagrams a tap takes.

use serde::Deserialize;

use super::Step;
use crate::packet::Discard;
use crate::stats::Loss;

/// Which datagrams a tap takes. The engine decides it for each.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TapFilter {
    /// The id of the only rule, or any. Discarded datagrams belong to it if they arrive on its
    /// interface for one of its groups.
    pub rule: Option<String>,
    /// The only output of the rule, from 0, or all.
    pub output: Option<u16>,
    /// Whether received datagrams are taken.
    pub received: bool,
    /// Whether copies that were sent are taken.
    pub sent: bool,
    /// Whether datagrams and copies that were dropped are taken.
    pub dropped: bool,
    /// The only reason of these, or any.
    pub reason: Option<String>,
    /// Every n-th datagram is taken, of those of its rule or interface; at least 1.
    pub sample: u32,
    /// The most bytes recorded of a frame.
    pub frame_bytes: u32,
}

impl TapFilter {
    /// Checks the values.
    ///
    /// # Errors
    /// A sentence about an invalid one.
    pub fn check(&self) -> Result<(), String> {
        let known = |reason: &str| {
            Discard::ALL.iter().any(|each| each.name() == reason) || Loss::NAMES.contains(&reason)
        };
        match self {
            Self { sample: 0, .. } => Err("sample: must be at least 1".to_owned()),
            Self { output: Some(_), rule: None, .. } => {
                Err("output: names an output of a rule, so there must be a rule".to_owned())
            }
            Self { reason: Some(reason), .. } if !known(reason) => {
                Err(format!("reason: {reason:?} is no reason for a drop"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it takes a received datagram that was discarded for this reason.
    #[must_use]
    pub fn takes_discard(&self, reason: Discard) -> bool {
        self.dropped && self.output.is_none() && self.takes_reason(reason.name())
    }

    /// Whether it takes a copy for the output at this position in its rule.
    #[must_use]
    pub fn takes_copy(&self, output: u16, step: Step) -> bool {
        self.output.is_none_or(|only| only == output)
            && match step {
                Step::Lost(loss) => self.dropped && self.takes_reason(loss.name()),
                _ => self.sent,
            }
    }

    fn takes_reason(&self, name: &str) -> bool {
        self.reason.as_ref().is_none_or(|only| only == name)
    }
}
