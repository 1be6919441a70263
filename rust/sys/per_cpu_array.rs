//! Arrays in the kernel with a value for each CPU (`BPF_MAP_TYPE_PERCPU_ARRAY`), for a process that
//! can open no file: the BPF library would read the number of CPUs again in each thread.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use libc::c_long;

/// Commands and a type of map of <linux/bpf.h>.
const BPF_MAP_LOOKUP_ELEM: c_long = 1;
const BPF_MAP_UPDATE_ELEM: c_long = 2;
const BPF_OBJ_GET_INFO_BY_FD: c_long = 15;
const PERCPU_ARRAY: u32 = 6;

const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// An array whose values have `N` bytes, a multiple of 8.
#[derive(Debug)]
pub struct PerCpuArray<const N: usize> {
    map: OwnedFd,
    cpus: usize,
}

/// The attributes of a command on an element.
#[repr(C)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: *const u32,
    value: *mut u8,
    flags: u64,
}

/// The attributes of a query about a map.
#[repr(C)]
struct InfoAttributes {
    map: u32,
    length: u32,
    info: *mut u32,
}

/// The number of CPUs that the kernel has values for. It is read once, so that a process can call
/// this before it gives files up.
///
/// # Errors
/// The file cannot be read, or has another form.
pub fn possible_cpus() -> io::Result<usize> {
    static COUNT: OnceLock<usize> = OnceLock::new();
    if let Some(count) = COUNT.get() {
        return Ok(*count);
    }
    let count = count_ranges(&fs::read_to_string(POSSIBLE)?).ok_or(ErrorKind::InvalidData)?;
    Ok(*COUNT.get_or_init(|| count))
}

/// The numbers in a list such as `0-3,6`.
fn count_ranges(list: &str) -> Option<usize> {
    let ranges = list.trim_end().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    });
    ranges.sum()
}

impl<const N: usize> PerCpuArray<N> {
    /// Uses a map that exists.
    ///
    /// # Errors
    /// InvalidInput if it is another kind of map, or has other values; those of
    /// [`possible_cpus`]; the kernel's.
    pub fn open(map: OwnedFd) -> io::Result<Self> {
        let cpus = possible_cpus()?;
        // Type, id, length of a key and of a value: the first fields of `struct bpf_map_info`.
        let mut info = [0_u32; 4];
        let attributes = InfoAttributes {
            map: map.as_raw_fd().unsigned_abs(),
            length: u32::try_from(size_of_val(&info)).unwrap_or(0),
            info: info.as_mut_ptr(),
        };
        // SAFETY: the kernel reads the attributes, and writes at most `length` bytes to `info`,
        // which has as many.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_OBJ_GET_INFO_BY_FD,
                &raw const attributes,
                size_of_val(&attributes),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let [kind, _, key_bytes, value_bytes] = info;
        if kind != PERCPU_ARRAY
            || key_bytes != 4
            || value_bytes as usize != N
            || !N.is_multiple_of(8)
        {
            return Err(ErrorKind::InvalidInput.into());
        }
        Ok(Self { map, cpus })
    }

    /// The values at a place, one for each CPU.
    ///
    /// # Errors
    /// ENOENT if there is no such place.
    pub fn get(&self, place: u32) -> io::Result<Vec<[u8; N]>> {
        let mut values = vec![[0; N]; self.cpus];
        self.command(BPF_MAP_LOOKUP_ELEM, place, &mut values)?;
        Ok(values)
    }

    /// Sets the value at a place to zeros for each CPU.
    ///
    /// # Errors
    /// E2BIG if there is no such place.
    pub fn clear(&self, place: u32) -> io::Result<()> {
        self.command(BPF_MAP_UPDATE_ELEM, place, &mut vec![[0; N]; self.cpus])
    }

    fn command(&self, command: c_long, place: u32, values: &mut [[u8; N]]) -> io::Result<()> {
        let attributes = ElementAttributes {
            map: self.map.as_raw_fd().unsigned_abs(),
            padding: 0,
            key: &raw const place,
            value: values.as_mut_ptr().cast(),
            flags: 0,
        };
        // SAFETY: `map` is an array with keys of 4 bytes and values of `N` for each possible CPU, as
        // `open` has checked; so the kernel reads 4 bytes of `place`, and reads or writes no more
        // bytes of `values` than it has.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command, &raw const attributes, size_of_val(&attributes))
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted_in_ranges() {
        assert_eq!(count_ranges("0\n"), Some(1));
        assert_eq!(count_ranges("0-1\n"), Some(2));
        assert_eq!(count_ranges("0-3,6,8-9\n"), Some(7));
        for wrong in ["", "\n", "3-0", "a", "0-", "0,,1", "0-18446744073709551615"] {
            assert_eq!(count_ranges(wrong), None, "{wrong:?}");
        }
        assert!(possible_cpus().unwrap() >= std::thread::available_parallelism().unwrap().get());
    }

    #[test]
    fn another_file_is_no_array() {
        let file: OwnedFd = fs::File::open("/dev/null").unwrap().into();
        assert_eq!(PerCpuArray::<16>::open(file).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
