//! A change of some outputs of a rule, which names the others only by their places.

use serde::Deserialize;

use super::error::ChangeError;
use super::live::LiveRule;
use crate::spec::{InputMerge, OutputSpec, RuleSpec};

/// The new outputs of a rule that keeps its id, its input and its counters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEdit {
    /// The rule's id.
    pub id: String,
    /// Whether it relays afterwards.
    pub enabled: bool,
    /// Its outputs afterwards, in their order.
    pub outputs: Vec<OutputPiece>,
    /// The class of its copies afterwards; `None` for the default.
    #[serde(default)]
    pub class: Option<String>,
}

/// A part of a rule's outputs after an edit.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OutputPiece {
    /// Outputs that stay as they are: the place of the first, from 0, and their number.
    Kept(usize, usize),
    /// A new or changed output.
    New(Box<OutputSpec>),
}

impl RuleEdit {
    /// The number of outputs after the edit.
    #[must_use]
    pub fn output_count(&self) -> usize {
        let counts = self.outputs.iter().map(|piece| match piece {
            OutputPiece::Kept(_, count) => *count,
            OutputPiece::New(_) => 1,
        });
        counts.fold(0, usize::saturating_add)
    }

    /// The whole rule after the edit.
    ///
    /// # Errors
    /// Places that the rule does not have, or an invalid output.
    pub(super) fn apply(&self, live: &LiveRule) -> Result<RuleSpec, ChangeError> {
        let mut outputs = Vec::with_capacity(self.output_count().min(live.outputs.len() * 2));
        for piece in &self.outputs {
            match piece {
                OutputPiece::Kept(first, count) => {
                    let end = first.saturating_add(*count);
                    let kept = live.outputs.get(*first..end);
                    let kept =
                        kept.ok_or_else(|| ChangeError::of_rule(&self.id, "it has fewer outputs"))?;
                    outputs.extend(kept.iter().map(|output| output.spec().clone()));
                }
                OutputPiece::New(output) => outputs.push((**output).clone()),
            }
        }
        let (id, enabled, class) = (self.id.clone(), self.enabled, self.class.clone());
        let input = live.input_spec();
        let mut spec = RuleSpec { id, enabled, input, outputs, merge: None, class };
        spec.check().map_err(|fault| ChangeError::of_rule(&self.id, &format!("it has {fault}")))?;
        spec.merge = live.merge.map(|(by, leg)| InputMerge { by, others: Vec::new(), leg });
        Ok(spec)
    }
}
