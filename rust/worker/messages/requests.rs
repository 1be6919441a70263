//! Requests of control to a worker.

use serde::Deserialize;

use super::FacilityLevels;
use super::failure::Failure;
use crate::relay::RuleEdit;
use crate::spec::{RuleSpec, ShapingSpec};
use crate::tap::TapFilter;

/// The most outputs of a rule, so that its status fits into a message.
const OUTPUTS: usize = 16_384;
/// The longest id of a rule, in bytes.
const ID_BYTES: usize = 64;

/// A request. The response carries its id.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(in crate::worker) enum ControlRequest {
    /// Report the worker's identity and rules.
    Hello { id: u64 },
    /// Open all sockets for a change.
    Prepare {
        id: u64,
        revision: u64,
        whole: bool,
        remove: Vec<String>,
        add: Vec<RuleSpec>,
        #[serde(default)]
        edit: Vec<RuleEdit>,
        #[serde(default)]
        shaping: Option<ShapingSpec>,
    },
    /// Apply the prepared change.
    Commit { id: u64 },
    /// Abandon the prepared change.
    Abort { id: u64 },
    /// Stop the engine.
    Stop { id: u64 },
    /// Record what the filter takes in the ring whose descriptor comes with the message.
    Tap { id: u64, number: u64, filter: TapFilter },
    /// End a tap.
    Untap { id: u64, number: u64 },
    /// Send log records of these severities and above.
    Log { id: u64, levels: FacilityLevels },
}

impl ControlRequest {
    /// What it requests, for the log.
    pub(in crate::worker) const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Prepare { .. } => "prepare",
            Self::Commit { .. } => "commit",
            Self::Abort { .. } => "abort",
            Self::Stop { .. } => "stop",
            Self::Tap { .. } => "tap",
            Self::Untap { .. } => "untap",
            Self::Log { .. } => "log",
        }
    }

    /// Parses a message.
    ///
    /// # Errors
    /// The reason, in a sentence.
    pub(in crate::worker) fn parse(message: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(message).map_err(|error| error.to_string())
    }
}

/// Checks a rule before the relay gets it: control is not trusted, since it reads what clients send.
///
/// # Errors
/// An invalid value.
pub(in crate::worker) fn check(spec: &RuleSpec) -> Result<(), Failure> {
    check_size(&spec.id, spec.outputs.len())?;
    spec.check().map_err(|fault| Failure::of_rule(&spec.id, format!("has {fault}")))
}

/// Checks the size of an edited rule; the relay checks its new outputs.
///
/// # Errors
/// An invalid value.
pub(in crate::worker) fn check_edit(edit: &RuleEdit) -> Result<(), Failure> {
    check_size(&edit.id, edit.output_count())
}

fn check_size(id: &str, outputs: usize) -> Result<(), Failure> {
    if id.is_empty() || id.len() > ID_BYTES {
        return Err(Failure::of_rule(id, "has an id that is empty or too long"));
    }
    if outputs > OUTPUTS {
        return Err(Failure::of_rule(id, format!("has more than {OUTPUTS} outputs")));
    }
    Ok(())
}

#[cfg(test)]
pub(in crate::worker) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::Addr;
    use crate::spec::{Choice, Ttl};

    /// A prepare with one rule, with pieces of it replaced.
    pub(in crate::worker) fn prepare(replaced: &[(&str, &str)]) -> String {
        let rule = r#"{"id":"a","enabled":true,"input":{"group":"239.1.1.0","group_bits":4,
            "port":5001,"last_port":5002,"interface":"lo","ifindex":1,"sources":["10.0.0.1"],
            "vlan":0,"join":"each","broadcast":false,"everywhere":false},
            "outputs":[{"address":"239.2.0.0",
            "address_bits":4,"port":6001,"last_port":6002,"interface":"lo","ifindex":1,
            "ttl":"keep","dscp":"keep","source":"keep","source_port":null,"loop":true,
            "priority":null}]}"#;
        let text =
            r#"{"id":2,"do":"prepare","revision":7,"whole":true,"remove":["b"],"add":[RULE]}"#;
        let mut text = text.replace("RULE", rule);
        for (from, to) in replaced {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        text
    }

    fn spec(replaced: &[(&str, &str)]) -> Result<RuleSpec, String> {
        match ControlRequest::parse(prepare(replaced).as_bytes())? {
            ControlRequest::Prepare { add, .. } => {
                let rule = add.into_iter().next().unwrap();
                check(&rule).map_err(|failure| failure.message)?;
                Ok(rule)
            }
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn rules_are_parsed() {
        let rule = spec(&[]).unwrap();
        assert_eq!((rule.id.as_str(), rule.enabled, rule.input.group_bits), ("a", true, 4));
        let output = &rule.outputs[0];
        assert_eq!((output.ttl, output.dscp, output.priority), (Ttl::Keep, None, None));
        assert_eq!((output.source, output.source_port), (Choice::Keep, Choice::Kernel));
        let numbers = [
            ("\"ttl\":\"keep\"", "\"ttl\":8"),
            ("\"dscp\":\"keep\"", "\"dscp\":46"),
            ("\"source\":\"keep\"", "\"source\":\"10.0.0.9\""),
            ("\"source_port\":null", "\"source_port\":7"),
        ];
        let output = spec(&numbers).unwrap().outputs.remove(0);
        assert_eq!((output.ttl, output.dscp), (Ttl::Set(8), Some(46)));
        assert_eq!(output.source, Choice::Chosen(Addr::v4([10, 0, 0, 9])));
        assert_eq!(output.source_port, Choice::Chosen(7));
    }

    #[test]
    fn invalid_rules_are_refused() {
        for (from, to) in [
            ("\"id\":\"a\"", "\"id\":\"\""),
            ("\"last_port\":5002", "\"last_port\":5000"),
            ("\"port\":5001", "\"port\":0"),
            ("\"group_bits\":4", "\"group_bits\":33"),
            ("\"group_bits\":4", "\"group_bits\":16"),
            ("\"group\":\"239.1.1.0\"", "\"group\":\"239.1.1.1\""),
            ("\"10.0.0.1\"", "\"fe80::1\""),
            ("\"vlan\":0", "\"vlan\":4095"),
            ("\"last_port\":6002", "\"last_port\":6003"),
            ("\"address_bits\":4", "\"address_bits\":3"),
            ("\"address\":\"239.2.0.0\"", "\"address\":\"ff15::\""),
            ("\"source\":\"keep\"", "\"source\":\"ff15::1\""),
            ("\"source\":\"keep\"", "\"source\":\"decrement\""),
            ("\"dscp\":\"keep\"", "\"dscp\":64"),
            ("\"priority\":null", "\"priority\":7"),
            ("\"ttl\":\"keep\"", "\"ttl\":0"),
            ("\"source_port\":null", "\"source_port\":0"),
            ("\"10.0.0.1\"", "\"239.1.1.9\""),
            ("\"everywhere\":false", "\"everywhere\":true"),
            (
                "\"interface\":\"lo\",\"ifindex\":1,\n            \"ttl\"",
                "\"interface\":\"\",\"ifindex\":1,\"ttl\"",
            ),
            ("\"interface\":\"lo\"", "\"interface\":\"l/o\""),
            ("\"interface\":\"lo\"", &format!("\"interface\":\"{}\"", "a".repeat(128))),
        ] {
            spec(&[(from, to)]).expect_err(to);
        }
    }

    #[test]
    fn invalid_requests_are_refused() {
        for (from, to) in [
            ("\"do\":\"prepare\"", "\"do\":\"format\""),
            ("\"id\":2,", ""),
            ("\"revision\":7", "\"revision\":-7"),
            ("\"whole\":true", "\"whole\":true,\"twice\":1"),
            ("\"ttl\":\"keep\"", "\"ttl\":256"),
            ("\"ttl\":\"keep\"", "\"ttl\":\"lose\""),
        ] {
            ControlRequest::parse(prepare(&[(from, to)]).as_bytes()).unwrap_err();
        }
        let deep = "[".repeat(100_000);
        ControlRequest::parse(deep.as_bytes()).unwrap_err();
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(ControlRequest::parse(&bytes));
        }

        #[test]
        fn any_damage_is_harmless(at in 0..600_usize, byte in any::<u8>()) {
            let mut bytes = prepare(&[]).into_bytes();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(ControlRequest::Prepare { add, .. }) = ControlRequest::parse(&bytes) {
                add.iter().for_each(|rule| drop(check(rule)));
            }
        }
    }
}
