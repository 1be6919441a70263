//! The title of this process, which ps(1), top(1) and /proc show instead of its command line.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use nix::sys::prctl;

/// The places of `arg_start` and `arg_end` among the fields of /proc/self/stat behind the name of
/// the program (proc(5): fields 48 and 49, of which the first two are the process id and the name).
const ARG_START: usize = 48 - 3;

/// Sets the title, cut to the length of the command line, and the name of the calling thread, cut
/// to 15 bytes. Where the kernel refuses, nothing changes: it is only a title.
pub fn set(title: &str) {
    if let Ok(name) = CString::new(title) {
        prctl::set_name(&name).ok();
    }
    overwrite_command_line(title).ok();
}

/// Writes into the memory of the command line, as PostgreSQL and systemd do. Python has copied its
/// arguments; whatever reads the original strings again finds strings that end with a zero.
fn overwrite_command_line(title: &str) -> io::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let Some((start, end)) = command_line(&stat) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let length = usize::try_from(end - start).unwrap_or(0);
    let mut text = vec![0; length];
    let shown = title.len().min(length.saturating_sub(1));
    text[..shown].copy_from_slice(&title.as_bytes()[..shown]);
    File::options().write(true).open("/proc/self/mem")?.write_all_at(&text, start)
}

/// The addresses between which the kernel has placed the arguments.
fn command_line(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(ARG_START);
    let start = fields.next()?.parse().ok()?;
    let end = fields.next()?.parse().ok()?;
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_arguments_behind_any_name() {
        let numbers: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("1 (a) b (c)) {}", numbers.join(" "));
        assert_eq!(command_line(&stat), Some((48, 49)));
        assert_eq!(command_line("1 (a) S 1 2"), None);
        assert_eq!(command_line(""), None);
    }
}
