//! The reasons why a rule's input or output waits, as sentences for the user, and whether the
//! kernel notifies when such a reason has ended.

use super::link_table::LinkTable;
use crate::error::Error;
use crate::relay::Ingress;
use crate::sockets::netlink::link::Link;
use crate::spec::InputSpec;
use crate::spec::{Choice, OutputSpec};

/// Why a rule's input cannot receive.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InputTrouble {
    /// The rule's state.
    pub state: TroubleState,
    /// The reason, in a sentence.
    pub reason: String,
}

/// The state of a rule whose input cannot receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TroubleState {
    /// What the rule names does not exist, or the kernel refused it.
    Unresolved,
    /// It exists, but is down, unplugged or not set up.
    Waiting,
}

impl TroubleState {
    /// Its name, the same as in messages of workers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Waiting => "waiting",
        }
    }
}

/// Why an input or output waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::relay) struct Blocked {
    /// For an input, the rule's state.
    pub(in crate::relay) state: TroubleState,
    /// One sentence for the user.
    pub(in crate::relay) text: String,
    /// Whether the kernel notifies of its end, as a change of links or addresses. If not, opening
    /// has to be tried again.
    pub(in crate::relay) kernel_notifies: bool,
}

impl Blocked {
    fn until_notified(text: String) -> Self {
        Self { state: TroubleState::Unresolved, text, kernel_notifies: true }
    }

    /// The interface was recreated, and opening was not tried yet.
    pub(in crate::relay) fn recreated() -> Self {
        Self::until_notified("its interface has just changed".to_owned())
    }

    /// An error of the kernel.
    pub(in crate::relay) fn refused(error: &Error) -> Self {
        Self { kernel_notifies: false, ..Self::until_notified(error.to_string()) }
    }

    /// An error of the kernel when an input was opened.
    pub(in crate::relay) fn refused_input(input: &InputSpec, error: &Error) -> Self {
        if errno(error) != Some(libc::EADDRNOTAVAIL) || input.group.is_multicast() {
            return Self::refused(error);
        }
        Self { kernel_notifies: false, ..no_address(input) }
    }

    /// An error of the kernel when an output was opened.
    pub(in crate::relay) fn refused_output(output: &OutputSpec, error: &Error) -> Self {
        if !matches!(errno(error), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) {
            return Self::refused(error);
        }
        let text = format!("there is no route to {}", output.address);
        Self { kernel_notifies: false, ..Self::until_notified(text) }
    }

    /// The trouble of an input that waits for this reason.
    pub(in crate::relay) fn input_trouble(&self) -> InputTrouble {
        InputTrouble { state: self.state, reason: self.text.clone() }
    }

    /// What blocks exists, but is not ready.
    fn while_waiting(self) -> Self {
        Self { state: TroubleState::Waiting, ..self }
    }
}

/// Whether the error is due to an interface, an address or a route that may appear later.
pub(in crate::relay) fn is_transient(error: &Error) -> bool {
    const TRANSIENT: [i32; 6] = [
        libc::ENODEV,
        libc::ENXIO,
        libc::ENETDOWN,
        libc::EADDRNOTAVAIL,
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
    ];
    errno(error).is_some_and(|errno| TRANSIENT.contains(&errno))
}

/// Whether this host receives datagrams to the input's address.
fn has_address(input: &InputSpec, links: &LinkTable) -> bool {
    input.group.is_multicast() || input.broadcast || links.is_local(input.group)
}

fn no_address(input: &InputSpec) -> Blocked {
    Blocked::until_notified(format!("{} is not an address of this host", input.group))
}

fn errno(error: &Error) -> Option<i32> {
    match error {
        Error::Os { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

/// The interface on which to open an input whose rule names it `name`, or why the input waits.
pub(in crate::relay) fn input_link<'a>(
    name: &str,
    input: &InputSpec,
    links: &'a LinkTable,
) -> Result<&'a Link, Blocked> {
    match links.find(name) {
        // The Python relay replaces the rule once an interface has the address.
        None if name.is_empty() => Err(no_address(input)),
        None => Err(missing(name)),
        Some(link) if !link.up => Err(down(name, link).while_waiting()),
        Some(link) if lacks_ip(input, link) => {
            Err(without_ip(&display_name(name, link), input, link.mtu).while_waiting())
        }
        Some(link) => Ok(link),
    }
}

/// Whether an input's groups cannot be joined on the link, as its MTU is too small for IP.
pub(in crate::relay) fn lacks_ip(input: &InputSpec, link: &Link) -> bool {
    input.is_joined() && link.mtu < least_mtu(input)
}

/// Why an open input cannot receive; `None` if it can.
pub(in crate::relay) fn open_input_trouble(
    name: &str,
    input: &InputSpec,
    links: &LinkTable,
    ingress: Ingress,
) -> Option<InputTrouble> {
    let waiting = |reason| InputTrouble { state: TroubleState::Waiting, reason };
    match input_link(name, input, links) {
        Err(blocked) => Some(blocked.input_trouble()),
        Ok(_) if !has_address(input, links) => Some(waiting(no_address(input).text)),
        // Its datagrams may arrive on any other interface.
        Ok(_) if input.everywhere => None,
        Ok(link) if !link.carrier => {
            Some(waiting(format!("{} has no carrier", display_name(name, link))))
        }
        // AF_PACKET receives a frame before the bridge does.
        Ok(_) if ingress == Ingress::Packet => None,
        Ok(link) => links.receiving_master(link.index).map(|Link { name: master, .. }| {
            let name = display_name(name, link);
            waiting(format!(
                "{name} belongs to {master}, a bridge or bond, which takes what arrives there; \
                 name {master} as the input"
            ))
        }),
    }
}

/// The index of the interface by which an output's copies leave, 0 if routing decides, or why the
/// output waits.
pub(in crate::relay) fn output_ifindex(
    output: &OutputSpec,
    links: &LinkTable,
) -> Result<u32, Blocked> {
    if output.address.ip().is_unspecified() {
        // The Python relay replaces the rule once the name resolves.
        return Err(Blocked::until_notified("its host name does not resolve".to_owned()));
    }
    if let Choice::Chosen(source) = output.source
        && !links.is_local(source)
    {
        return Err(Blocked::until_notified(format!("{source} is not an address of this host")));
    }
    if output.interface.is_empty() {
        return Ok(0);
    }
    let is_v4 = output.address.is_v4();
    match links.find(&output.interface) {
        None => Err(missing(&output.interface)),
        Some(link) if !link.up => Err(down(&output.interface, link)),
        // The kernel would send with the address of another interface.
        Some(link) if output.source == Choice::Kernel && !links.has_family(link.index, is_v4) => {
            let family = if is_v4 { "IPv4" } else { "IPv6" };
            let name = display_name(&output.interface, link);
            Err(Blocked::until_notified(format!("{name} has no {family} address")))
        }
        Some(link) => Ok(link.index),
    }
}

fn missing(name: &str) -> Blocked {
    Blocked::until_notified(format!("there is no interface {name}"))
}

fn down(name: &str, link: &Link) -> Blocked {
    Blocked::until_notified(format!("{} is down", display_name(name, link)))
}

/// The interface's name in the rule, followed by its primary name if that differs.
fn display_name(name: &str, link: &Link) -> String {
    if name == link.name { name.to_owned() } else { format!("{name} ({})", link.name) }
}

fn without_ip(name: &str, input: &InputSpec, mtu: u32) -> Blocked {
    let (family, least) = (if input.group.is_v4() { "IPv4" } else { "IPv6" }, least_mtu(input));
    Blocked::until_notified(format!(
        "{name} has an MTU of {mtu}, and {family} takes at least {least}"
    ))
}

/// The smallest MTU in bytes with which the kernel keeps the IP version enabled on an interface
/// (RFC 791; RFC 8200, 5).
fn least_mtu(input: &InputSpec) -> u32 {
    if input.group.is_v4() { 68 } else { 1280 }
}
