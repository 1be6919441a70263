//! How what is open follows the interfaces: what stands on one that is gone is closed, what
//! waits is tried, and nothing else is touched. A refusal becomes the reason why its rule or
//! output waits, and never costs another one. It must not know the engines.

use super::live::{Around, LiveRule};
use super::obstacle::Obstacle;
use super::present::Present;
use super::state::State;
use super::watch::News;

impl State {
    /// Opens, closes and sets up anew what differs; whether the engines need new plans.
    pub(super) fn follow(&mut self, around: &Around<'_>, news: &News) -> bool {
        let mut has_changed = std::mem::take(&mut self.is_behind);
        if self.detach(around.present, |index| news.gone.contains(&index)) {
            has_changed = true;
            // First of all, lest a socket on the old interface pass for one on the new.
            self.settle_inputs();
        }
        has_changed |= self.inputs.resize(|index| news.touched.contains(&index));
        has_changed |= self.inputs.leave_stuck_rings();
        has_changed |= self.attach_waiting(around.present);
        self.settle_attached();
        has_changed | self.follow_outputs(around, news)
    }

    /// Closes the inputs whose interface is not the one any more that they were opened on.
    /// `is_gone` knows the indices that an interface lost, though it may have got them back.
    pub(super) fn detach(&mut self, present: &Present, is_gone: impl Fn(u32) -> bool) -> bool {
        let mut has_changed = false;
        for (&key, rule) in self.rules.iter_mut().filter(|(_, rule)| rule.waiting.is_none()) {
            let now = present.find(&rule.input.interface).map(|link| link.index);
            if now == Some(rule.input.ifindex) && !is_gone(rule.input.ifindex) {
                continue;
            }
            self.inputs.remove(&rule.input);
            rule.input.ifindex = 0;
            rule.waiting = Some(Obstacle::renewed());
            self.plans.touch(key);
            has_changed = true;
        }
        has_changed
    }

    /// Whether something is to be tried again, or looked at, though nothing is told.
    pub(super) fn is_to_retry(&self) -> bool {
        self.inputs.has_rings() || self.rules.values().any(LiveRule::is_to_retry)
    }

    fn attach_waiting(&mut self, present: &Present) -> bool {
        let mut has_changed = false;
        let waiting = self.rules.iter().filter(|(_, rule)| rule.waiting.is_some());
        let keys: Vec<u32> = waiting.map(|(&key, _)| key).collect();
        for key in keys {
            let Some(mut rule) = self.rules.remove(&key) else { continue };
            if let Err(error) = self.attach(&mut rule, present) {
                rule.waiting = Some(Obstacle::refused(&error).named("unresolved"));
            }
            self.plans.touch(key);
            has_changed |= rule.waiting.is_none();
            self.rules.insert(key, rule);
        }
        has_changed
    }

    /// Opens the AF_PACKET sockets; rules on an interface that has none wait on.
    fn settle_attached(&mut self) {
        for (name, error) in self.inputs.settle_each() {
            if self.inputs.has_frames(&name) {
                super::warn_once(&mut self.warnings, error.to_string());
                continue;
            }
            let on_it = |rule: &LiveRule| rule.input.interface == name;
            for (&key, rule) in self.rules.iter_mut().filter(|(_, rule)| on_it(rule)) {
                if rule.waiting.is_none() {
                    self.plans.touch(key);
                    self.inputs.remove(&rule.input);
                    rule.input.ifindex = 0;
                    rule.waiting = Some(Obstacle::refused(&error).named("unresolved"));
                }
            }
        }
    }

    fn follow_outputs(&mut self, around: &Around<'_>, news: &News) -> bool {
        let mut has_changed = false;
        let mut smallest = usize::MAX;
        for (&key, rule) in &mut self.rules {
            for output in &mut rule.outputs {
                if output.follow(around, |index| news.gone.contains(&index)) {
                    self.plans.touch(key);
                    has_changed = true;
                    smallest = smallest.min(output.send_buffer_bytes);
                }
            }
        }
        self.check_buffer(smallest);
        has_changed
    }
}
