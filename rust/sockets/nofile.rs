//! The limit on open files. It is raised in advance, so that a change is refused as a whole and not
//! halfway through.

use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::{Error, Result};

/// Descriptors left for the program that embeds this library.
const MARGIN: u64 = 64;

/// The known remaining capacity below the limit; recounted when it is used up.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    left: u64,
}

impl Descriptors {
    /// Makes sure that `count` more descriptors can be opened. Raises the soft limit only as far as
    /// needed, rounded up to a power of two.
    ///
    /// # Errors
    /// [`Error::Os`] with the required and the available number, if the hard limit is too low.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<()> {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(left) = self.left.checked_sub(count) {
            self.left = left;
            return Ok(());
        }
        // If limits cannot be read, opening will report the error.
        let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
        // Without /proc/self/fd the limits are not raised either.
        let Ok(open) = fs::read_dir("/proc/self/fd") else { return within(count, soft) };
        let in_use = u64::try_from(open.count()).unwrap_or(u64::MAX);
        let needed = in_use.saturating_add(count);
        within(needed, hard)?;
        let wanted = needed.saturating_add(MARGIN);
        let granted = if wanted <= soft {
            soft
        } else {
            let raised = wanted.checked_next_power_of_two().unwrap_or(hard).min(hard);
            let set = setrlimit(Resource::RLIMIT_NOFILE, raised, hard);
            set.map_err(|e| Error::os("raising the descriptor limit", "this process", e))?;
            raised
        };
        self.left = granted.saturating_sub(needed).saturating_sub(MARGIN);
        Ok(())
    }
}

fn within(needed: u64, limit: u64) -> Result<()> {
    if needed <= limit {
        return Ok(());
    }
    let refusal = io::Error::other(format!(
        "the rules need {needed} descriptors, and its hard limit is {limit}; raise it \
         (ulimit -Hn, or LimitNOFILE= of the service)"
    ));
    Err(Error::os("opening sockets", "this process", refusal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::testnet::rerun;

    #[test]
    fn limits_are_raised_to_what_is_needed() {
        rerun("sockets::nofile::tests::process_with_few_descriptors");
    }

    #[test]
    #[ignore = "run by limits_are_raised_to_what_is_needed, in a process of its own"]
    fn process_with_few_descriptors() {
        let limits = || getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 100, 1000).unwrap();
        let mut descriptors = Descriptors::default();
        descriptors.reserve(10).unwrap();
        assert_eq!(limits(), (100, 1000));
        descriptors.reserve(200).unwrap();
        assert_eq!(limits(), (512, 1000));
        // None of the reserved descriptors is open yet.
        descriptors.reserve(850).unwrap();
        assert_eq!(limits(), (1000, 1000));
        let refused = descriptors.reserve(1000).unwrap_err().to_string();
        let text = "opening sockets on this process: the rules need 10";
        assert!(refused.starts_with(text), "{refused}");
        assert!(refused.contains("and its hard limit is 1000; raise it"), "{refused}");
    }
}
