//! The arguments of a worker process.

use std::os::fd::RawFd;

use serde::Deserialize;

use crate::relay::{EgressMode, Ingress, OffloadMode, Settings, Share};

/// The JSON object on the command line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    /// The number of this worker, from 0.
    pub(super) number: u16,
    /// The number of all workers.
    pub(super) workers: u16,
    /// The CPU to run on; any if absent.
    cpu: Option<usize>,
    buffer_bytes: usize,
    verify_checksums: bool,
    flows: bool,
    latency: bool,
    ingress: WireIngress,
    egress: WireEgress,
    offload: WireOffload,
    /// The user and group ids to switch to; if absent, the process keeps its user without privileges.
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// The process id of the supervisor, the parent.
    pub(super) supervisor: i32,
    /// Descriptors: the connections to the supervisor and to its broker, and the counter page.
    pub(super) supervisor_channel: RawFd,
    pub(super) broker: RawFd,
    pub(super) page: RawFd,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireIngress {
    Packet,
    Udp,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireEgress {
    Auto,
    Socket,
    Xdp,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireOffload {
    Auto,
    Off,
    Require,
}

impl Arguments {
    /// Parses the command line.
    ///
    /// # Errors
    /// The reason, in a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let arguments: Self =
            serde_json::from_str(text).map_err(|error| format!("the arguments: {error}"))?;
        if arguments.number >= arguments.workers {
            let Self { number, workers, .. } = arguments;
            return Err(format!("the arguments: there is no worker {number} of {workers}"));
        }
        if arguments.uid.is_some() != arguments.gid.is_some() {
            return Err("the arguments: uid and gid go together".to_owned());
        }
        Ok(arguments)
    }

    /// The user and group ids to switch to.
    pub(super) fn user(&self) -> Option<(u32, u32)> {
        self.uid.zip(self.gid)
    }

    /// Whether rules may be relayed in the kernel.
    pub(super) fn offload(&self) -> OffloadMode {
        match self.offload {
            WireOffload::Auto => OffloadMode::Auto,
            WireOffload::Off => OffloadMode::Off,
            WireOffload::Require => OffloadMode::Require,
        }
    }

    /// The settings of the relay: one engine, with this worker's share.
    pub(super) fn settings(&self) -> Settings {
        let ingress = match self.ingress {
            WireIngress::Packet => Ingress::Packet,
            WireIngress::Udp => Ingress::Udp,
        };
        let egress = match self.egress {
            WireEgress::Auto => EgressMode::Auto,
            WireEgress::Socket => EgressMode::Socket,
            WireEgress::Xdp => EgressMode::Xdp,
        };
        Settings {
            egress,
            offload: self.offload(),
            cpus: self.cpu.into_iter().collect(),
            verify_checksums: self.verify_checksums,
            flows: self.flows,
            latency: self.latency,
            share: Share { number: self.number, of: self.workers },
            ..Settings::new(ingress, self.buffer_bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"number":1,"workers":2,"cpu":null,"buffer_bytes":1048576,
        "verify_checksums":true,"flows":false,"latency":true,
        "ingress":"udp","egress":"xdp","offload":"auto","uid":null,"gid":null,"supervisor":1,
        "supervisor_channel":3,"broker":4,"page":5}"#;

    #[test]
    fn valid_arguments_are_parsed_and_others_refused() {
        let arguments = Arguments::parse(GOOD).unwrap();
        assert_eq!((arguments.number, arguments.user()), (1, None));
        let settings = arguments.settings();
        assert_eq!((settings.ingress, settings.workers), (Ingress::Udp, 1));
        assert_eq!((settings.egress, settings.offload), (EgressMode::Xdp, OffloadMode::Auto));
        for (from, to) in [
            ("\"number\":1", "\"number\":2"),
            ("\"udp\"", "\"auto\""),
            ("\"xdp\"", "\"udp\""),
            ("\"offload\":\"auto\"", "\"offload\":true"),
            ("\"gid\":null", "\"gid\":5"),
            ("\"page\":5", "\"page\":5,\"pages\":6"),
            ("\"supervisor_channel\":3,", ""),
        ] {
            let refused = Arguments::parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(refused.starts_with("the arguments: "), "{refused}");
        }
    }
}
