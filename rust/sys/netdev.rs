//! Queries to a network device by name, and the GRO setting, in the namespace of the socket used.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_char, ifreq};

/// `ETHTOOL_GGRO` of <linux/ethtool.h>.
const ETHTOOL_GGRO: u32 = 0x2b;

/// `ETHTOOL_SGRO` of the same.
const ETHTOOL_SGRO: u32 = 0x2c;

/// `ETHTOOL_GSSET_INFO`: the number of names in a set.
const ETHTOOL_GSSET_INFO: u32 = 0x37;
/// `ETHTOOL_GSTRINGS`: the names of a set.
const ETHTOOL_GSTRINGS: u32 = 0x1b;
/// `ETHTOOL_GFEATURES`: four words for 32 features: available, requested, active, never changed.
const ETHTOOL_GFEATURES: u32 = 0x3a;
/// `ETHTOOL_SFEATURES`: two words for 32 features: those to set, and their values.
const ETHTOOL_SFEATURES: u32 = 0x3b;
/// `ETH_SS_FEATURES`: the set of feature names.
const FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN` in words; names are padded with zeros.
const NAME_WORDS: usize = 8;

/// `ETHTOOL_GCHANNELS`, and the words of `struct ethtool_channels` with the command.
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const CHANNELS_WORDS: usize = 9;

/// `struct ethtool_value` of <linux/ethtool.h>.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// The MTU of the device in bytes.
///
/// # Errors
/// ENODEV if no device has this name (any more).
pub fn mtu(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU filled this member, and any bits are a valid int.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(mtu.unsigned_abs())
}

/// Whether generic receive offload is on.
///
/// # Errors
/// The kernel's, such as EOPNOTSUPP.
pub fn gro(socket: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    ethtool(socket, name, EthtoolValue { cmd: ETHTOOL_GGRO, data: 0 }).map(|data| data != 0)
}

/// Switches generic receive offload on or off.
///
/// # Errors
/// The kernel's, such as EPERM.
pub fn set_gro(socket: BorrowedFd<'_>, name: &str, on: bool) -> io::Result<()> {
    ethtool(socket, name, EthtoolValue { cmd: ETHTOOL_SGRO, data: on.into() }).map(drop)
}

/// Whether the feature with this ethtool(8) name is on.
///
/// # Errors
/// The kernel's; NotFound for an unknown name.
pub fn feature(socket: BorrowedFd<'_>, name: &str, feature: &str) -> io::Result<bool> {
    let (at, blocks) = feature_place(socket, name, feature)?;
    let mut states = vec![0; 2 + 4 * blocks];
    states[..2].copy_from_slice(&[ETHTOOL_GFEATURES, word_count(blocks)?]);
    ethtool_words(socket, name, &mut states)?;
    Ok(states[2 + 4 * (at / 32) + 2] >> (at % 32) & 1 == 1)
}

/// Switches the feature with this ethtool(8) name on or off. The device may leave it as it is.
///
/// # Errors
/// The kernel's, such as EPERM; NotFound for an unknown name.
pub fn set_feature(socket: BorrowedFd<'_>, name: &str, feature: &str, on: bool) -> io::Result<()> {
    let (at, blocks) = feature_place(socket, name, feature)?;
    // After two words, two for each 32 features: those to set, and their values.
    let mut request = vec![0; 2 + 2 * blocks];
    request[..2].copy_from_slice(&[ETHTOOL_SFEATURES, word_count(blocks)?]);
    request[2 + 2 * (at / 32)] = 1 << (at % 32);
    request[2 + 2 * (at / 32) + 1] = u32::from(on) << (at % 32);
    ethtool_words(socket, name, &mut request)
}

/// The position of a feature in the device's list, and the blocks of 32 that the list has.
fn feature_place(socket: BorrowedFd<'_>, name: &str, feature: &str) -> io::Result<(usize, usize)> {
    let mut count = [ETHTOOL_GSSET_INFO, 0, 1 << FEATURES, 0, 0];
    ethtool_words(socket, name, &mut count)?;
    let [.., count] = count;
    let size = usize::try_from(count).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut names = vec![0; 3 + NAME_WORDS * size];
    names[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, FEATURES, count]);
    ethtool_words(socket, name, &mut names)?;
    let at = names[3..].chunks(NAME_WORDS).position(|words| is_called(words, feature));
    Ok((at.ok_or(io::ErrorKind::NotFound)?, size.div_ceil(32)))
}

fn word_count(blocks: usize) -> io::Result<u32> {
    u32::try_from(blocks).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The number of transmit queues that the device uses now.
///
/// # Errors
/// The kernel's; EOPNOTSUPP from most devices whose number cannot change.
pub fn transmit_queues(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let mut words = [0; CHANNELS_WORDS];
    words[0] = ETHTOOL_GCHANNELS;
    ethtool_words(socket, name, &mut words)?;
    // The last four are the numbers in use: for receiving, for sending, for neither, for both.
    let [.., transmit, _, combined] = words;
    Ok(transmit.saturating_add(combined))
}

fn is_called(words: &[u32], feature: &str) -> bool {
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0);
    bytes.eq(feature.bytes())
}

/// Runs a command whose answer has several words. `words` has room for them: the kernel writes as
/// many as [`ETHTOOL_GSSET_INFO`] counted, or the fixed structure of the command.
fn ethtool_words(socket: BorrowedFd<'_>, name: &str, words: &mut [u32]) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast::<c_char>();
    ioctl(socket, libc::SIOCETHTOOL, &mut request)
}

fn ethtool(socket: BorrowedFd<'_>, name: &str, mut value: EthtoolValue) -> io::Result<u32> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast::<c_char>();
    ioctl(socket, libc::SIOCETHTOOL, &mut request)?;
    Ok(value.data)
}

fn request(name: &str) -> io::Result<ifreq> {
    // SAFETY: `ifreq` consists of numbers and a pointer, for which zero is a valid value.
    let mut request: ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

fn ioctl(socket: BorrowedFd<'_>, call: libc::Ioctl, request: &mut ifreq) -> io::Result<()> {
    // SAFETY: both calls read and write one `ifreq` and the data that its pointer names: the
    // caller's `EthtoolValue`, or words with room for the answer. All outlive the call.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), call, std::ptr::from_mut(request)) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
