//! The queue of log records for control, limited by severity, rate and length.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::messages::LogLevel;

/// Records accepted in one second; further ones are only counted.
const SECOND_RECORDS: u32 = 20;
/// Records that are kept while there is no control process.
const WAITING_RECORDS: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

/// A log record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogRecord {
    pub(super) level: LogLevel,
    pub(super) facility: &'static str,
    pub(super) text: String,
}

/// Log records that are still to be sent.
pub(super) struct Log {
    /// Records below this severity are discarded.
    pub(super) level: LogLevel,
    waiting: VecDeque<LogRecord>,
    second: Instant,
    in_second: u32,
    suppressed: u64,
}

impl Log {
    pub(super) fn new(now: Instant) -> Self {
        let waiting = VecDeque::new();
        Self { level: LogLevel::Info, waiting, second: now, in_second: 0, suppressed: 0 }
    }

    /// Adds a record, unless it is below the level or there are too many.
    pub(super) fn add(
        &mut self,
        level: LogLevel,
        facility: &'static str,
        text: String,
        now: Instant,
    ) {
        if level < self.level {
            return;
        }
        self.start_second(now);
        if self.in_second == SECOND_RECORDS || self.waiting.len() >= WAITING_RECORDS {
            self.suppressed += 1;
            return;
        }
        self.in_second += 1;
        self.waiting.push_back(LogRecord { level, facility, text });
    }

    /// Takes the next record to send.
    pub(super) fn next(&mut self, now: Instant) -> Option<LogRecord> {
        self.start_second(now);
        self.waiting.pop_front()
    }

    /// Begins a new second, and adds a record about those suppressed before.
    fn start_second(&mut self, now: Instant) {
        if now.duration_since(self.second) < SECOND {
            return;
        }
        (self.second, self.in_second) = (now, 0);
        if self.suppressed > 0 && self.waiting.len() < WAITING_RECORDS {
            let text = format!("{} suppressed", self.suppressed);
            self.suppressed = 0;
            self.waiting.push_back(LogRecord {
                level: LogLevel::Warning,
                facility: "worker",
                text,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_limited_and_the_rest_counted() {
        let start = Instant::now();
        let mut log = Log::new(start);
        for number in 0..50 {
            log.add(LogLevel::Info, "worker", number.to_string(), start);
        }
        let records: Vec<LogRecord> = std::iter::from_fn(|| log.next(start)).collect();
        assert_eq!(records.len(), 20);
        let later = start + SECOND;
        assert_eq!(log.next(later).unwrap().text, "30 suppressed");
        assert_eq!(log.next(later), None);
    }

    #[test]
    fn records_below_the_level_are_discarded() {
        let now = Instant::now();
        let mut log = Log::new(now);
        log.add(LogLevel::Debug, "worker", String::new(), now);
        assert_eq!(log.next(now), None);
        log.level = LogLevel::Debug;
        log.add(LogLevel::Debug, "worker", String::new(), now);
        assert!(log.next(now).is_some());
    }

    #[test]
    fn without_a_reader_it_does_not_grow() {
        let start = Instant::now();
        let mut log = Log::new(start);
        for second in 0..100 {
            for _ in 0..20 {
                log.add(LogLevel::Error, "worker", String::new(), start + SECOND * second);
            }
        }
        assert!(log.waiting.len() <= WAITING_RECORDS);
    }
}
