//! The attachment of the program to an input's interface, until the value is dropped, whatever ends
//! the process. Another program that is attached is never replaced.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::{EBUSY, EEXIST};

use super::refusal::refusal;
use crate::error::{Error, Result};
use crate::sockets::{InterfaceRef, socket};
use crate::sys::{bpf, netdev};

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` of <linux/if_link.h>.
const SKB_MODE: u32 = 1 << 1;
const DRIVER_MODE: u32 = 1 << 2;

/// Merging in the device: a merged frame cannot be told from a datagram of its length.
const MERGING: [&str; 2] = ["rx-lro", "rx-gro-hw"];
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
    /// Closing it detaches the program. Nothing while it is being attached.
    link: Option<OwnedFd>,
    /// To restore what was switched off; opened in the interface's network namespace.
    devices: OwnedFd,
    interface: String,
    switched_off: Vec<&'static str>,
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
        let devices = socket::open(libc::AF_INET, libc::SOCK_DGRAM, name)?;
        refuse_merging(devices.as_fd(), name, mode)?;
        let interface = interface.index;
        let mut hook =
            Self { link: None, devices, interface: name.to_owned(), switched_off: Vec::new() };
        hook.show_tags()?;
        let flags = if mode == HookMode::Native { DRIVER_MODE } else { SKB_MODE };
        let link = bpf::attach_xdp(program, interface, flags);
        hook.link = Some(link.map_err(|error| refused(name, error))?);
        Ok(hook)
    }

    /// Has the device leave VLAN tags in the frames. Without such a feature they are there.
    fn show_tags(&mut self) -> Result<()> {
        let (devices, name) = (self.devices.as_fd(), self.interface.as_str());
        for feature in TAG_STRIPPING {
            if netdev::feature(devices, name, feature).unwrap_or(false) {
                netdev::set_feature(devices, name, feature, false)
                    .map_err(refusal("switching off VLAN offload"))?;
                self.switched_off.push(feature);
            }
        }
        Ok(())
    }
}

impl Drop for Hook {
    /// Detaches first: from then on no frame depends on the features.
    fn drop(&mut self) {
        self.link = None;
        for feature in &self.switched_off {
            // An interface that was removed has nothing to restore.
            let _ = netdev::set_feature(self.devices.as_fd(), &self.interface, feature, true);
        }
    }
}

/// Refuses an interface whose frames may be merged datagrams.
fn refuse_merging(devices: BorrowedFd<'_>, name: &str, mode: HookMode) -> Result<()> {
    let mut features = MERGING.to_vec();
    if mode == HookMode::Generic {
        features.push("rx-gro");
    }
    for feature in features {
        if netdev::feature(devices, name, feature).unwrap_or(false) {
            return Err(Error::Invalid(format!(
                "{name} merges frames before the kernel could relay them; switch it off (`ethtool -K {name} {feature} off`)"
            )));
        }
    }
    Ok(())
}

fn refused(name: &str, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(EBUSY | EEXIST) => Error::Invalid(format!(
            "another XDP program is attached to {name} (`ip link show {name}`); detach it, or relay without offload"
        )),
        _ => refusal("attaching a program")(error),
    }
}
