//! The messages between a worker and control, as JSON.
//!
//! ```text
//! requests  requests of control       answers  responses and events
//! failure   why a request failed
//! ```

use serde::{Deserialize, Serialize};

use crate::relay::WarningSubject;

pub(super) mod answers;
pub(super) mod failure;
pub(super) mod requests;

/// The severity of a log record: those of syslog(3), and trace.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    Trace,
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

/// The subject of a log record, of those that a worker has records about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Facility {
    Worker,
    Ingress,
    Egress,
    Interfaces,
}

impl From<WarningSubject> for Facility {
    fn from(subject: WarningSubject) -> Self {
        match subject {
            WarningSubject::Engine => Self::Worker,
            WarningSubject::Input => Self::Ingress,
            WarningSubject::Output => Self::Egress,
            WarningSubject::Interface => Self::Interfaces,
        }
    }
}

/// The least severe records to send of each facility.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct FacilityLevels {
    worker: LogLevel,
    ingress: LogLevel,
    egress: LogLevel,
    interfaces: LogLevel,
}

impl FacilityLevels {
    /// The same level for all facilities.
    pub(super) const fn all(level: LogLevel) -> Self {
        Self { worker: level, ingress: level, egress: level, interfaces: level }
    }

    /// The level of one facility.
    pub(super) const fn of(self, facility: Facility) -> LogLevel {
        match facility {
            Facility::Worker => self.worker,
            Facility::Ingress => self.ingress,
            Facility::Egress => self.egress,
            Facility::Interfaces => self.interfaces,
        }
    }
}
