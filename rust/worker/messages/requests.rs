//! What control asks of a worker: JSON becomes values here, and nowhere else. What cannot be a rule
//! is refused, since control reads what strangers write. It must not know what becomes of it.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::LogLevel;
use super::failure::Failure;
use crate::addr::Addr;
use crate::spec::{Choice, InputSpec, Join, OutputSpec, RuleSpec, Ttl, is_interface_name};

/// Groups that a rule joins one by one, as a power of two.
const JOINED_BITS: u8 = 12;
/// Outputs of a rule, so that what is said of one fits into a message.
const OUTPUTS: usize = 16_384;
/// Letters of a rule's id.
const ID_BYTES: usize = 64;
/// The highest VLAN identifier (IEEE 802.1Q).
const MAX_VLAN: u16 = 4094;
const ONLY_TTL: &str = "a value to decrement that is no TTL";

/// A request. Numbers are the asker's and come back with the answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(in crate::worker) enum ControlRequest {
    /// Who is there?
    Hello { id: u64 },
    /// Open what these rules need.
    Prepare { id: u64, revision: u64, whole: bool, remove: Vec<String>, add: Vec<WireRule> },
    /// Swap to what is open.
    Commit { id: u64 },
    /// Close it again.
    Abort { id: u64 },
    /// What was counted?
    Report { id: u64 },
    /// End the engine.
    Stop { id: u64 },
    /// Tell what is at least as grave.
    Log { id: u64, level: LogLevel },
}

/// A rule as control has resolved it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::worker) struct WireRule {
    id: String,
    paused: bool,
    input: WireInput,
    outputs: Vec<WireOutput>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireInput {
    group: IpAddr,
    group_bits: u8,
    port: u16,
    last_port: u16,
    interface: String,
    /// A relay follows the name.
    #[serde(rename = "ifindex")]
    _ifindex: u32,
    sources: Vec<IpAddr>,
    vlan: u16,
    join: WireJoin,
    broadcast: bool,
    everywhere: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireJoin {
    Each,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireOutput {
    address: IpAddr,
    address_bits: u8,
    port: u16,
    last_port: u16,
    interface: String,
    #[serde(rename = "ifindex")]
    _ifindex: u32,
    ttl: Kept<u8>,
    dscp: Kept<u8>,
    source: Option<Kept<IpAddr>>,
    source_port: Option<Kept<u16>>,
    r#loop: bool,
    priority: Option<u8>,
    // What these say is in the address already, and for control to remember.
    #[serde(rename = "broadcast")]
    _broadcast: IgnoredAny,
    #[serde(rename = "number")]
    _number: IgnoredAny,
}

/// A value, or the word for what is done with the datagram's own.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Kept<T> {
    Value(T),
    Word(Word),
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Word {
    Keep,
    Decrement,
}

impl ControlRequest {
    /// # Errors
    /// A sentence that says what is wrong.
    pub(in crate::worker) fn parse(message: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(message).map_err(|error| error.to_string())
    }
}

impl WireRule {
    /// The rule, when it can be one.
    ///
    /// # Errors
    /// What it says cannot be.
    pub(in crate::worker) fn spec(self) -> Result<RuleSpec, Failure> {
        let id = self.id;
        if id.is_empty() || id.len() > ID_BYTES {
            return Err(Failure::of_rule(&id, "has an id that is empty or too long"));
        }
        if self.outputs.len() > OUTPUTS {
            return Err(Failure::of_rule(&id, format!("has more than {OUTPUTS} outputs")));
        }
        let outputs = self.outputs.into_iter().map(WireOutput::spec).collect::<Result<Vec<_>, _>>();
        let checked = self.input.spec().and_then(|input| {
            let outputs = outputs?;
            outputs.iter().try_for_each(|output| goes_with(output, &input))?;
            Ok((input, outputs))
        });
        match checked {
            Ok((input, outputs)) => Ok(RuleSpec { id, paused: self.paused, input, outputs }),
            Err(fault) => Err(Failure::of_rule(&id, format!("has {fault}"))),
        }
    }
}

impl WireInput {
    fn spec(self) -> Result<InputSpec, &'static str> {
        let spec = InputSpec {
            group: self.group.into(),
            group_bits: self.group_bits,
            broadcast: self.broadcast,
            everywhere: self.everywhere,
            port: self.port,
            last_port: self.last_port,
            join: match self.join {
                WireJoin::Each => Join::Each,
                WireJoin::None => Join::None,
            },
            interface: self.interface,
            ifindex: 0,
            sources: self.sources.into_iter().map(Addr::from).collect(),
            vlan: self.vlan,
        };
        check_input(&spec)?;
        Ok(spec)
    }
}

impl WireOutput {
    fn spec(self) -> Result<OutputSpec, &'static str> {
        let spec = OutputSpec {
            address: self.address.into(),
            address_bits: self.address_bits,
            port: self.port,
            last_port: self.last_port,
            ifindex: 0,
            interface: self.interface,
            ttl: match self.ttl {
                Kept::Value(hops) => Ttl::Set(hops),
                Kept::Word(Word::Keep) => Ttl::Keep,
                Kept::Word(Word::Decrement) => Ttl::Decrement,
            },
            dscp: match self.dscp {
                Kept::Value(dscp) => Some(dscp),
                Kept::Word(Word::Keep) => None,
                Kept::Word(Word::Decrement) => return Err(ONLY_TTL),
            },
            source: choice(self.source)?,
            source_port: choice(self.source_port)?,
            multicast_loop: self.r#loop,
            priority: self.priority,
        };
        if spec.interface.is_empty() && spec.address.is_multicast() {
            return Err("an output to a group without an interface");
        }
        spec.check()?;
        Ok(spec)
    }
}

/// What no input may have; the supervisor would end a worker that asks for it.
fn check_input(input: &InputSpec) -> Result<(), &'static str> {
    let InputSpec { group, interface, sources, .. } = input;
    let has_port_range = input.port != 0 && input.port <= input.last_port;
    let has_valid_name = interface.is_empty() || is_interface_name(interface);
    // An address that no interface has yet is waited for without one.
    let needs_interface = group.is_multicast() || input.broadcast;
    let has_many_groups = input.join == Join::Each && input.group_bits > JOINED_BITS;
    let has_other_source = sources.iter().any(|source| source.is_v4() != group.is_v4());
    let faults = [
        (!has_port_range, "an input with an invalid port range"),
        (!group.is_block(input.group_bits), "an input with an invalid block"),
        (!has_valid_name, "an input with an invalid interface name"),
        (needs_interface && interface.is_empty(), "an input without an interface"),
        (needs_interface && input.everywhere, "a group as an address of this host"),
        (has_many_groups, "too many groups to join one by one"),
        (has_other_source, "a source of another family than its group"),
        (sources.iter().any(|source| source.is_multicast()), "a group as a source"),
        (input.vlan > MAX_VLAN, "a VLAN above 4094"),
    ];
    let fault = faults.into_iter().find_map(|(is_there, fault)| is_there.then_some(fault));
    fault.map_or(Ok(()), Err)
}

fn choice<T, U: From<T>>(given: Option<Kept<T>>) -> Result<Choice<U>, &'static str> {
    match given {
        None => Ok(Choice::Kernel),
        Some(Kept::Value(value)) => Ok(Choice::Chosen(value.into())),
        Some(Kept::Word(Word::Keep)) => Ok(Choice::Keep),
        Some(Kept::Word(Word::Decrement)) => Err(ONLY_TTL),
    }
}

/// An output that follows the datagram's group or port follows all of the input's.
fn goes_with(output: &OutputSpec, input: &InputSpec) -> Result<(), &'static str> {
    let has_other_bits = output.address_bits != 0 && output.address_bits != input.group_bits;
    let ports = |first: u16, last: u16| last - first;
    let width = ports(output.port, output.last_port);
    if has_other_bits || width != 0 && width != ports(input.port, input.last_port) {
        return Err("an output with another number of groups or ports than the input");
    }
    if output.address.is_v4() != input.group.is_v4()
        && (output.address_bits != 0 || output.source == Choice::Keep)
    {
        return Err("an output that keeps addresses of another family");
    }
    Ok(())
}

#[cfg(test)]
pub(in crate::worker) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A prepare with one rule, with pieces of it replaced.
    pub(in crate::worker) fn prepare(replaced: &[(&str, &str)]) -> String {
        let rule = r#"{"id":"a","paused":false,"input":{"group":"239.1.1.0","group_bits":4,
            "port":5001,"last_port":5002,"interface":"lo","ifindex":1,"sources":["10.0.0.1"],
            "vlan":0,"join":"each","broadcast":false,"everywhere":false},
            "outputs":[{"address":"239.2.0.0",
            "address_bits":4,"port":6001,"last_port":6002,"interface":"lo","ifindex":1,
            "ttl":"keep","dscp":"keep","source":"keep","source_port":null,"loop":true,
            "priority":null,"broadcast":false,"number":1}]}"#;
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
                rule.spec().map_err(|failure| failure.message)
            }
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_rule_is_what_control_resolved() {
        let rule = spec(&[]).unwrap();
        assert_eq!((rule.id.as_str(), rule.paused, rule.input.group_bits), ("a", false, 4));
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
    fn what_cannot_be_a_rule_is_refused() {
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
    fn what_is_no_request_is_refused() {
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
                add.into_iter().for_each(|rule| drop(rule.spec()));
            }
        }
    }
}
