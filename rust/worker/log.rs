//! The queue of log records for control, limited by severity, repeats, rate and length.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::messages::{Facility, FacilityLevels, LogLevel};

/// Records accepted in one second; further ones are only counted.
const SECOND_RECORDS: u32 = 20;
/// Records that are kept while there is no control process.
const WAITING_RECORDS: usize = 64;
/// Messages of which repeats are recognized.
const RECENT_RECORDS: usize = 2 * SECOND_RECORDS as usize;
const SECOND: Duration = Duration::from_secs(1);

/// A log record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogRecord {
    pub(super) level: LogLevel,
    pub(super) facility: Facility,
    pub(super) text: String,
}

/// A record of the last second, and how often it was repeated since.
struct Recent {
    record: LogRecord,
    since: Instant,
    repeats: u64,
}

/// Log records that are still to be sent.
pub(super) struct Log {
    /// Records below these severities are discarded.
    pub(super) levels: FacilityLevels,
    waiting: VecDeque<LogRecord>,
    recent: Vec<Recent>,
    second: Instant,
    in_second: u32,
    suppressed: u64,
}

impl Log {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            levels: FacilityLevels::all(LogLevel::Info),
            waiting: VecDeque::new(),
            recent: Vec::new(),
            second: now,
            in_second: 0,
            suppressed: 0,
        }
    }

    /// Adds a record whose text is made only if its level is high enough.
    pub(super) fn add_with(
        &mut self,
        level: LogLevel,
        facility: Facility,
        text: impl FnOnce() -> String,
        now: Instant,
    ) {
        if level >= self.levels.of(facility) {
            self.add(level, facility, text(), now);
        }
    }

    /// Adds a record, unless it is below the level, was added within the last second, or there are
    /// too many.
    pub(super) fn add(&mut self, level: LogLevel, facility: Facility, text: String, now: Instant) {
        if level < self.levels.of(facility) {
            return;
        }
        self.follow_time(now);
        let record = LogRecord { level, facility, text };
        if let Some(known) = self.recent.iter_mut().find(|known| known.record == record) {
            known.repeats += 1;
        } else if self.push(record.clone(), 1) && self.recent.len() < RECENT_RECORDS {
            self.recent.push(Recent { record, since: now, repeats: 0 });
        }
    }

    /// Takes the next record to send.
    pub(super) fn next(&mut self, now: Instant) -> Option<LogRecord> {
        self.follow_time(now);
        self.waiting.pop_front()
    }

    /// Queues a record that stands for so many, or only counts these.
    fn push(&mut self, record: LogRecord, stands_for: u64) -> bool {
        if self.in_second == SECOND_RECORDS || self.waiting.len() >= WAITING_RECORDS {
            self.suppressed += stands_for;
            return false;
        }
        self.in_second += 1;
        self.waiting.push_back(record);
        true
    }

    /// Adds records about those suppressed in the seconds that are over.
    fn follow_time(&mut self, now: Instant) {
        if now.duration_since(self.second) >= SECOND {
            (self.second, self.in_second) = (now, 0);
            let suppressed = std::mem::take(&mut self.suppressed);
            if suppressed > 0 {
                let text = format!("other messages ({suppressed} suppressed)");
                let (level, facility) = (LogLevel::Warning, Facility::Worker);
                self.push(LogRecord { level, facility, text }, suppressed);
            }
        }
        let (over, kept) = std::mem::take(&mut self.recent)
            .into_iter()
            .partition::<Vec<_>, _>(|known| now.duration_since(known.since) >= SECOND);
        self.recent = kept;
        for Recent { record, repeats, .. } in over.into_iter().filter(|known| known.repeats > 0) {
            let text = format!("{} ({repeats} suppressed)", record.text);
            if self.push(LogRecord { text, ..record }, repeats) {
                self.recent.push(Recent { record, since: now, repeats: 0 });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: &mut Log, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| log.next(now)).map(|record| record.text).collect()
    }

    #[test]
    fn a_flood_is_limited_and_the_rest_counted() {
        let start = Instant::now();
        let mut log = Log::new(start);
        for number in 0..50 {
            log.add(LogLevel::Info, Facility::Worker, number.to_string(), start);
        }
        assert_eq!(texts(&mut log, start).len(), 20);
        let later = start + SECOND;
        assert_eq!(texts(&mut log, later), ["other messages (30 suppressed)"]);
        assert_eq!(log.next(later + SECOND), None);
    }

    #[test]
    fn repeats_are_counted_until_their_second_is_over() {
        let start = Instant::now();
        let mut log = Log::new(start);
        for _ in 0..50 {
            log.add(LogLevel::Info, Facility::Worker, "same".to_owned(), start);
            log.add(LogLevel::Info, Facility::Ingress, "same".to_owned(), start);
        }
        log.add(LogLevel::Info, Facility::Worker, "other".to_owned(), start);
        assert_eq!(texts(&mut log, start), ["same", "same", "other"]);
        assert_eq!(log.next(start + SECOND / 2), None);
        let later = start + SECOND;
        assert_eq!(texts(&mut log, later), ["same (49 suppressed)", "same (49 suppressed)"]);
        assert_eq!(log.next(later + SECOND), None);
        assert!(log.recent.is_empty());
        log.add(LogLevel::Info, Facility::Worker, "same".to_owned(), later + SECOND);
        assert_eq!(texts(&mut log, later + SECOND), ["same"]);
    }

    #[test]
    fn records_below_the_level_are_discarded() {
        let now = Instant::now();
        let mut log = Log::new(now);
        log.add(LogLevel::Debug, Facility::Worker, String::new(), now);
        assert_eq!(log.next(now), None);
        log.levels = FacilityLevels::all(LogLevel::Debug);
        log.add(LogLevel::Debug, Facility::Worker, String::new(), now);
        assert!(log.next(now).is_some());
    }

    #[test]
    fn each_facility_has_its_level() {
        let now = Instant::now();
        let mut log = Log::new(now);
        let levels =
            r#"{"worker":"error","ingress":"trace","egress":"notice","interfaces":"info"}"#;
        log.levels = serde_json::from_str(levels).unwrap();
        for facility in
            [Facility::Worker, Facility::Ingress, Facility::Egress, Facility::Interfaces]
        {
            log.add_with(LogLevel::Info, facility, || "x".to_owned(), now);
        }
        let said: Vec<Facility> =
            std::iter::from_fn(|| log.next(now)).map(|record| record.facility).collect();
        assert_eq!(said, [Facility::Ingress, Facility::Interfaces]);
        let [trace, debug] = [LogLevel::Trace, LogLevel::Debug];
        assert!(trace < debug && LogLevel::Notice < LogLevel::Warning);
        assert!(LogLevel::Error < LogLevel::Critical && LogLevel::Alert < LogLevel::Emergency);
    }

    #[test]
    fn without_a_reader_it_does_not_grow() {
        let start = Instant::now();
        let mut log = Log::new(start);
        for second in 0..100 {
            for number in 0..40 {
                let text = (number % 30).to_string();
                log.add(LogLevel::Error, Facility::Worker, text, start + SECOND * second);
            }
        }
        assert!(log.waiting.len() <= WAITING_RECORDS);
        assert!(log.recent.len() <= RECENT_RECORDS);
    }
}
