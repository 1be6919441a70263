//! What control asks of a worker: JSON becomes values here, and nowhere else. What cannot be a rule
//! is refused, since control reads what strangers write. It must not know what becomes of it.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::answers::Failure;
use crate::addr::Addr;
use crate::spec::{Choice, OutputSpec, Ttl};
use crate::spec::{InputSpec, Join, RuleSpec};

/// Groups that a rule joins one by one, as a power of two.
const JOINED_BITS: u8 = 12;
/// Outputs of a rule, so that what is said of one fits into a message.
const OUTPUTS: usize = 16_384;
/// Letters of a rule's id.
const ID_BYTES: usize = 64;

/// A request. Numbers are the asker's and come back with the answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(in crate::worker) enum Request {
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
    Log { id: u64, level: Level },
}

/// How grave something is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::worker) enum Level {
    Debug,
    Info,
    Warning,
    Error,
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

impl Request {
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
            return Err(Failure::of_rule(&id, "its id is empty or too long"));
        }
        if self.outputs.len() > OUTPUTS {
            return Err(Failure::of_rule(&id, format!("it has more than {OUTPUTS} outputs")));
        }
        let outputs = self.outputs.into_iter().map(WireOutput::spec).collect::<Result<Vec<_>, _>>();
        let checked = self.input.spec().and_then(|input| {
            let outputs = outputs?;
            outputs.iter().try_for_each(|output| goes_with(output, &input))?;
            Ok((input, outputs))
        });
        match checked {
            Ok((input, outputs)) => Ok(RuleSpec { id, paused: self.paused, input, outputs }),
            Err(text) => Err(Failure::of_rule(&id, text)),
        }
    }
}

impl WireInput {
    fn spec(self) -> Result<InputSpec, &'static str> {
        let group = Addr::from(self.group);
        let join = match self.join {
            WireJoin::Each => Join::Each,
            WireJoin::None => Join::None,
        };
        check_range(self.port, self.last_port)?;
        check_block(group, self.group_bits)?;
        check_name(&self.interface)?;
        // An address that no interface has yet is waited for without one.
        if self.interface.is_empty() && (group.is_multicast() || self.broadcast) {
            return Err("its input has no interface");
        }
        if join == Join::Each && self.group_bits > JOINED_BITS {
            return Err("its groups are too many to be joined one by one");
        }
        let sources: Box<[Addr]> = self.sources.into_iter().map(Addr::from).collect();
        if sources.iter().any(|source| source.is_v4() != group.is_v4()) {
            return Err("a source is of another family than the group");
        }
        if self.vlan >= 4095 {
            return Err("its VLAN is not in 0 to 4094");
        }
        Ok(InputSpec {
            group,
            group_bits: self.group_bits,
            broadcast: self.broadcast,
            everywhere: self.everywhere,
            port: self.port,
            last_port: self.last_port,
            join,
            interface: self.interface,
            ifindex: 0,
            sources,
            vlan: self.vlan,
        })
    }
}

impl WireOutput {
    fn spec(self) -> Result<OutputSpec, &'static str> {
        let address = Addr::from(self.address);
        check_range(self.port, self.last_port)?;
        check_block(address, self.address_bits)?;
        check_name(&self.interface)?;
        let source = choice(self.source)?;
        if matches!(source, Choice::Chosen::<Addr>(chosen) if chosen.is_v4() != address.is_v4()) {
            return Err("the source of an output is of another family than its address");
        }
        let dscp = match self.dscp {
            Kept::Value(dscp) if dscp < 64 => Some(dscp),
            Kept::Word(Word::Keep) => None,
            _ => return Err("a DSCP is not in 0 to 63"),
        };
        if self.priority.is_some_and(|priority| priority > 6) {
            return Err("a priority is not in 0 to 6");
        }
        Ok(OutputSpec {
            address,
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
            dscp,
            source,
            source_port: choice(self.source_port)?,
            multicast_loop: self.r#loop,
            priority: self.priority,
        })
    }
}

fn choice<T, U: From<T>>(given: Option<Kept<T>>) -> Result<Choice<U>, &'static str> {
    match given {
        None => Ok(Choice::Kernel),
        Some(Kept::Value(value)) => Ok(Choice::Chosen(value.into())),
        Some(Kept::Word(Word::Keep)) => Ok(Choice::Keep),
        Some(Kept::Word(Word::Decrement)) => Err("only a TTL can be decremented"),
    }
}

/// An output that follows the datagram's group or port follows all of the input's.
fn goes_with(output: &OutputSpec, input: &InputSpec) -> Result<(), &'static str> {
    let has_other_bits = output.address_bits != 0 && output.address_bits != input.group_bits;
    let ports = |first: u16, last: u16| last - first;
    let width = ports(output.port, output.last_port);
    if has_other_bits || width != 0 && width != ports(input.port, input.last_port) {
        return Err("an output has not as many groups or ports as the input");
    }
    if output.address.is_v4() != input.group.is_v4()
        && (output.address_bits != 0 || output.source == Choice::Keep)
    {
        return Err("an output that keeps addresses is of another family than the input");
    }
    Ok(())
}

fn check_range(first: u16, last: u16) -> Result<(), &'static str> {
    if first == 0 || last < first {
        return Err("its ports are none");
    }
    Ok(())
}

fn check_block(address: Addr, bits: u8) -> Result<(), &'static str> {
    let most = if address.is_v4() { 32 } else { 128 };
    if bits > most || address.block(bits) != address {
        return Err("a block of addresses does not begin where one can");
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    // Of an alternative name: ALTIFNAMSIZ (linux/if.h), with the zero at the end.
    const NAME_BYTES: usize = 128;
    if name.len() >= NAME_BYTES || name.contains('\0') {
        return Err("the name of an interface is too long");
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
        match Request::parse(prepare(replaced).as_bytes())? {
            Request::Prepare { add, .. } => {
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
            Request::parse(prepare(&[(from, to)]).as_bytes()).unwrap_err();
        }
        let deep = "[".repeat(100_000);
        Request::parse(deep.as_bytes()).unwrap_err();
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Request::parse(&bytes));
        }

        #[test]
        fn any_damage_is_harmless(at in 0..600_usize, byte in any::<u8>()) {
            let mut bytes = prepare(&[]).into_bytes();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(Request::Prepare { add, .. }) = Request::parse(&bytes) {
                add.into_iter().for_each(|rule| drop(rule.spec()));
            }
        }
    }
}
