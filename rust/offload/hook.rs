//! The attachment of the program to an input's interface, until the value is dropped, whatever ends
//! the process. Another program that is attached is never replaced.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use libc::{EBUSY, EEXIST};

use super::refusal::refusal;
use crate::error::{Error, Result};
use crate::sockets::InterfaceRef;
use crate::sockets::device_features::SwitchedOff;
use crate::sockets::interfaces::Devices;
use crate::sys::bpf;

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` of <linux/if_link.h>.
const SKB_MODE: u32 = 1 << 1;
const DRIVER_MODE: u32 = 1 << 2;

/// Taking VLAN tags out of frames, which hides them from the program.
const TAG_STRIPPING: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookMode {
    /// In the driver, which must support it.
    Native,
    /// In the network stack, with any driver. The counts of rejected copies are not complete: no
    /// tracepoint reports them.
    Generic,
}

/// An attached program.
#[derive(Debug)]
pub struct Hook {
    /// Closing it detaches the program.
    _link: OwnedFd,
    /// Dropped after it: from then on no frame depends on the features.
    _tags: SwitchedOff,
}

impl Hook {
    /// Attaches the program to the interface, and switches off what hides VLAN tags from it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if another program is attached, or if the interface merges frames before
    /// the program sees them; [`Error::Permission`]; [`Error::Os`] if the driver refuses.
    pub(super) fn attach(
        program: BorrowedFd<'_>,
        interface: InterfaceRef<'_>,
        mode: HookMode,
    ) -> Result<Self> {
        let name = interface.name;
        refuse_merging(name, mode)?;
        let tags = SwitchedOff::new(interface, &TAG_STRIPPING).map_err(|error| match error {
            Error::Os { source, .. } => refusal("switching off VLAN offload")(source),
            other => other,
        })?;
        let flags = if mode == HookMode::Native { DRIVER_MODE } else { SKB_MODE };
        let link = bpf::attach_xdp(program, interface.index, flags);
        Ok(Self { _link: link.map_err(|error| refused(name, error))?, _tags: tags })
    }
}

/// Refuses an interface whose frames may be merged datagrams.
fn refuse_merging(name: &str, mode: HookMode) -> Result<()> {
    let devices = Devices::open()?;
    let mut merging = devices.merging_before_xdp(name);
    if mode == HookMode::Generic && devices.mtu_and_gro(name).1 {
        merging.push("rx-gro");
    }
    match merging.first() {
        Some(feature) => Err(Error::Invalid(format!(
            "{name} merges frames before the kernel could relay them; switch it off (`ethtool -K {name} {feature} off`)"
        ))),
        None => Ok(()),
    }
}

fn refused(name: &str, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(EBUSY | EEXIST) => Error::Invalid(format!(
            "another XDP program is attached to {name} (`ip link show {name}`); detach it, or relay without offload"
        )),
        _ => refusal("attaching a program")(error),
    }
}
