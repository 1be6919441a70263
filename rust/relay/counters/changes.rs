//! What differs between two readings of the counters of rules: new losses, another sender. And the
//! few numbers of a rule from which alarms follow. Both cost little for many idle rules.

use std::net::IpAddr;

use super::pages::WorkerCounters;
use super::report::{RuleReport, now_ms};
use crate::stats::kernel::KernelRuleCounts;
use crate::stats::{Loss, SlotOwner};

/// What happened to rules between two readings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CounterChanges {
    /// The outputs that lost copies.
    pub losses: Vec<OutputLosses>,
    /// The rules whose last datagram came from another sender than before.
    pub sources: Vec<SourceChange>,
    /// The rules to which payloads have come back again and again.
    pub loops: Vec<RuleLoop>,
}

/// The copies that an output lost.
#[derive(Debug, PartialEq, Eq)]
pub struct OutputLosses {
    /// The position of its rule among the given ones.
    pub rule: usize,
    /// The position of the output in its rule.
    pub output: usize,
    /// The copies, by reason.
    pub lost: [(Loss, u64); Loss::COUNT],
}

/// A rule whose datagrams come from another sender.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceChange {
    /// The position of the rule among the given ones.
    pub rule: usize,
    /// The sender before.
    pub before: IpAddr,
    /// The sender of the last datagram.
    pub after: IpAddr,
}

/// A rule to which payloads come back.
#[derive(Debug, PartialEq, Eq)]
pub struct RuleLoop {
    /// The position of the rule among the given ones.
    pub rule: usize,
    /// How many payloads, among those watched.
    pub payloads: u64,
    /// Where the last of them came back from.
    pub source: IpAddr,
}

impl WorkerCounters {
    /// What happened to rules, given by id and the keys of their outputs, since an earlier reading.
    /// Counters that are lower than before have restarted from 0.
    #[must_use]
    pub fn changes(&self, before: &Self, rules: &[(&str, Vec<u64>)]) -> CounterChanges {
        let mut changes = CounterChanges::default();
        for (rule, (id, keys)) in rules.iter().enumerate() {
            let owner = SlotOwner::rule(id);
            if !self.has_counted(owner) {
                continue;
            }
            let [then, now] = [before, self].map(|reading| reading.counted_input(owner));
            if let (Some(before), Some(after)) = (then.last_source, now.last_source)
                && before != after
            {
                changes.sources.push(SourceChange { rule, before, after });
            }
            let payloads = now.looped.checked_sub(then.looped).unwrap_or(now.looped);
            if let Some(source) = now.looped_source.filter(|_| payloads > 0) {
                changes.loops.push(RuleLoop { rule, payloads, source });
            }
            for (output, key) in keys.iter().enumerate() {
                let owner = SlotOwner::output(*key);
                let (now, then) = (self.lost(owner), before.lost(owner));
                if now == then {
                    continue;
                }
                let lost = Loss::ALL.map(|why| {
                    let (now, then) = (now[why as usize], then[why as usize]);
                    (why, now.checked_sub(then).unwrap_or(now))
                });
                if lost.iter().any(|(_, count)| *count != 0) {
                    changes.losses.push(OutputLosses { rule, output, lost });
                }
            }
        }
        changes
    }

    /// The report of a rule's input: counts, rates, and the last datagram. Its outputs are missing.
    #[must_use]
    pub fn input(&self, rule: SlotOwner) -> RuleReport {
        self.counted_input(rule).with_rates(rule, &self.windows)
    }

    /// The same without rates.
    fn counted_input(&self, rule: SlotOwner) -> RuleReport {
        let now_ms = now_ms();
        let report = RuleReport::new(&self.copies(rule), &[], Vec::new(), now_ms);
        let kernel = self.kernel(rule).map(KernelRuleCounts::from_words);
        kernel.fold(report, |report, kernel| report.with(&kernel, now_ms))
    }

    /// The copies that an output has lost, by reason.
    fn lost(&self, output: SlotOwner) -> [u64; Loss::COUNT] {
        if !self.has_counted(output) {
            return [0; Loss::COUNT];
        }
        self.output(output, None, None, 0).dropped.map(|(_, count)| count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::relay::counters::pages::WorkerPages;
    use crate::stats::{self, Grant, Slot, Writer, count_loss, output, rule};

    fn grant(writer: &mut Writer, index: u32, owner: SlotOwner) {
        let slot = Slot { index, generation: 1 };
        writer.grant(&Grant { slot, owner, is_continued: false });
    }

    #[test]
    fn losses_and_senders_are_the_differences_between_two_readings() {
        let page = stats::create_page().unwrap();
        let mut writer = Writer::new(page.clone());
        grant(&mut writer, 0, SlotOwner::rule("a"));
        grant(&mut writer, 1, SlotOwner::output(8));
        let send = |writer: &mut Writer, source: &str, lost: u64| {
            let bits = Addr::from(source.parse::<IpAddr>().unwrap()).bits();
            writer.slot(0)[rule::MATCHED] += 1;
            writer.slot(0)[rule::LAST_SEEN_MS] = 1;
            writer.slot(0)[rule::LAST_SOURCE] = u64::try_from(bits >> 64).unwrap();
            writer.slot(0)[rule::LAST_SOURCE + 1] =
                u64::try_from(bits & u128::from(u64::MAX)).unwrap();
            writer.slot(1)[output::WANTED] += lost;
            count_loss(writer.slot(1), Loss::OutputFull, lost, 1);
            writer.publish();
        };
        let pages = WorkerPages::open(vec![page.fd().try_clone_to_owned().unwrap()]).unwrap();
        let rules = [("idle", vec![9]), ("a", vec![7, 8])];
        send(&mut writer, "10.0.0.1", 3);
        let first = pages.read();
        assert_eq!(first.changes(&first, &rules), CounterChanges::default());
        send(&mut writer, "10.0.0.2", 4);
        let source = Addr::v4([10, 0, 0, 9]);
        let words = writer.slot(0);
        words[rule::LOOPED] += 3;
        words[rule::LOOPED_MS] = 1;
        let bits = source.bits();
        words[rule::LOOPED_SOURCE] = u64::try_from(bits >> 64).unwrap();
        words[rule::LOOPED_SOURCE + 1] = u64::try_from(bits & u128::from(u64::MAX)).unwrap();
        writer.publish();
        let CounterChanges { losses, sources, loops } = pages.read().changes(&first, &rules);
        assert_eq!(loops, [RuleLoop { rule: 1, payloads: 3, source: source.ip() }]);
        let [before, after] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        assert_eq!(sources, [SourceChange { rule: 1, before, after }]);
        let [OutputLosses { rule: 1, output: 1, lost }] = &losses[..] else { panic!("{losses:?}") };
        assert_eq!(lost[Loss::OutputFull as usize], (Loss::OutputFull, 4));
        assert_eq!(lost.iter().map(|(_, count)| count).sum::<u64>(), 4);
    }
}
