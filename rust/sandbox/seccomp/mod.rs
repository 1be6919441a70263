//! Which system calls there are for this process (seccomp(2)): a list of what it needs, with what
//! their numbers may be, since a filter sees no memory. It must not know why something is needed.
//!
//! What is on no list gives EPERM, so that a library that tries something goes on without. What
//! only somebody calls who has taken the process over kills it: it cannot look for a second way,
//! and its end, by SIGSYS, is told and counted.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_long};
use nix::sys::eventfd::{EfdFlags, EventFd};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use crate::error::{Error, Result};

mod control;
mod lethal;
mod worker;

/// Whose calls are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A worker, all of whose threads run and whose own descriptors are open. They are below
    /// `first_foreign_fd`, and all numbers there are taken from now on: what it is handed later
    /// is at or above it, and cannot be written to by a call. The one number that can be given
    /// anew is `channel_fd`, its connection to the control process: by dup3(2).
    Worker {
        /// The lowest number of a descriptor that it is handed.
        first_foreign_fd: u16,
        /// The number of the connection to the control process.
        channel_fd: u16,
    },
    /// The control process: Python, with threads to come.
    Control,
}

/// Leaves all threads of this process only the calls that its role needs, for good.
///
/// # Errors
/// [`Error::Permission`] when the kernel has no seccomp filters, or no memory is left for one;
/// [`Error::Os`] without a descriptor.
pub fn apply_seccomp(role: Role) -> Result<()> {
    let mut programs = vec![lethal::calls().program(Miss::Allowed, SeccompAction::KillProcess)?];
    match role {
        Role::Worker { first_foreign_fd, channel_fd } => {
            take_numbers(first_foreign_fd)?;
            let calls = worker::calls(first_foreign_fd, channel_fd);
            programs.push(calls.program(Miss::Refused, SeccompAction::Allow)?);
        }
        Role::Control => {
            let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
            programs.push(control::missing().program(Miss::Allowed, missing)?);
            programs.push(control::calls().program(Miss::Refused, SeccompAction::Allow)?);
        }
    }
    // Of several filters the kernel follows the strictest. The list comes last: it forbids more.
    for program in &programs {
        apply_filter_all_threads(program).map_err(|error| refused(&error))?;
    }
    Ok(())
}

/// Leaves no number below `first` to a descriptor that comes later.
fn take_numbers(first: u16) -> Result<()> {
    loop {
        let filler = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| Error::os("eventfd", "the numbers of descriptors", errno))?;
        if filler.as_fd().as_raw_fd() >= c_int::from(first) {
            return Ok(());
        }
        // It stays for as long as the process: the filter lets nobody close it.
        std::mem::forget(filler);
    }
}

/// What becomes of a call that is not on the list.
#[derive(Clone, Copy)]
enum Miss {
    Allowed,
    Refused,
}

/// A list of calls, each with what must hold for its arguments.
#[derive(Default)]
struct Calls {
    rules: BTreeMap<c_long, Vec<Vec<ArgumentCheck>>>,
}

/// What must hold for one argument.
#[derive(Clone, Copy)]
struct ArgumentCheck {
    argument: u8,
    width: Width,
    test: Comparison,
    value: u64,
}

/// How much of an argument counts: the kernel takes no more of an `int`.
#[derive(Clone, Copy)]
enum Width {
    Int,
    Long,
}

#[derive(Clone, Copy)]
enum Comparison {
    Is,
    Below,
    AtLeast,
    /// Of the bits of this mask.
    Bits(u64),
}

impl Calls {
    /// Adds calls that may be made in any way.
    fn add(mut self, calls: impl IntoIterator<Item = c_long>) -> Self {
        self.rules.extend(calls.into_iter().map(|call| (call, Vec::new())));
        self
    }

    /// Adds one way to make a call: all of `conditions` hold.
    fn add_if(mut self, call: c_long, conditions: impl Into<Vec<ArgumentCheck>>) -> Self {
        self.rules.entry(call).or_default().push(conditions.into());
        self
    }

    fn program(self, miss: Miss, hit: SeccompAction) -> Result<BpfProgram> {
        let mut rules = BTreeMap::new();
        for (call, ways) in self.rules {
            let ways = ways.into_iter().map(rule).collect::<Built<Vec<_>>>();
            rules.insert(call, ways.map_err(|error| impossible(&error))?);
        }
        let miss = match miss {
            Miss::Allowed => SeccompAction::Allow,
            Miss::Refused => SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        };
        let arch = std::env::consts::ARCH.try_into().map_err(|error| impossible(&error))?;
        SeccompFilter::new(rules, miss, hit, arch)
            .and_then(TryInto::try_into)
            .map_err(|error| impossible(&error))
    }
}

type Built<T> = std::result::Result<T, seccompiler::BackendError>;

fn rule(conditions: Vec<ArgumentCheck>) -> Built<SeccompRule> {
    let conditions = conditions.into_iter().map(|condition| {
        let width = match condition.width {
            Width::Int => SeccompCmpArgLen::Dword,
            Width::Long => SeccompCmpArgLen::Qword,
        };
        let test = match condition.test {
            Comparison::Is => SeccompCmpOp::Eq,
            Comparison::Below => SeccompCmpOp::Lt,
            Comparison::AtLeast => SeccompCmpOp::Ge,
            Comparison::Bits(mask) => SeccompCmpOp::MaskedEq(mask),
        };
        SeccompCondition::new(condition.argument, width, test, condition.value)
    });
    SeccompRule::new(conditions.collect::<Built<_>>()?)
}

/// The argument, an `int`, is `value`.
fn is(argument: u8, value: c_int) -> ArgumentCheck {
    let value = u64::from(value.cast_unsigned());
    ArgumentCheck { argument, width: Width::Int, test: Comparison::Is, value }
}

/// The argument, a pointer, is null.
fn is_null(argument: u8) -> ArgumentCheck {
    ArgumentCheck { argument, width: Width::Long, test: Comparison::Is, value: 0 }
}

/// The argument, an `int` and not negative, is below `value`.
fn below(argument: u8, value: u16) -> ArgumentCheck {
    ArgumentCheck { argument, width: Width::Int, test: Comparison::Below, value: value.into() }
}

/// The argument, an `int`, is `value` or more. A negative one is, too: for descriptors, where
/// these are none.
fn at_least(argument: u8, value: u16) -> ArgumentCheck {
    ArgumentCheck { argument, width: Width::Int, test: Comparison::AtLeast, value: value.into() }
}

/// The argument, a length, is more than `value`.
fn longer(argument: u8, value: u32) -> ArgumentCheck {
    let value = u64::from(value) + 1;
    ArgumentCheck { argument, width: Width::Long, test: Comparison::AtLeast, value }
}

/// Of the bits of `mask` the argument, an `int`, has these.
fn bits(argument: u8, mask: c_int, value: c_int) -> ArgumentCheck {
    let [mask, value] = [mask, value].map(|bits| u64::from(bits.cast_unsigned()));
    ArgumentCheck { argument, width: Width::Int, test: Comparison::Bits(mask), value }
}

/// The second argument is this request of ioctl(2).
fn request(value: libc::Ioctl) -> ArgumentCheck {
    ArgumentCheck { argument: 1, width: Width::Int, test: Comparison::Is, value }
}

/// This process, where a call takes one.
fn this_process() -> c_int {
    nix::unistd::getpid().as_raw()
}

fn refused(error: &seccompiler::Error) -> Error {
    Error::Permission(format!("system calls cannot be filtered (seccomp): {error}"))
}

fn impossible(error: &seccompiler::BackendError) -> Error {
    Error::Permission(format!("system calls cannot be filtered on this machine: {error}"))
}

#[cfg(test)]
mod tests;
