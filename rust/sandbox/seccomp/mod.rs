//! The permitted system calls of this process (seccomp(2)): a list of those it needs, with the
//! permitted values of numeric arguments, since a filter cannot read memory.
//!
//! Calls that are on no list fail with EPERM, so that a library that tries one can continue without
//! it. Calls that only an attacker in control of the process would make kill it: it cannot try
//! another way, and its end by SIGSYS is reported and counted.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_long};
use nix::sys::eventfd::{EfdFlags, EventFd};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use crate::error::{Error, Result};
use crate::sys::ring::RingKind;

mod control;
mod lethal;
mod worker;

/// The process whose calls are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A worker with all threads running and its own descriptors open. They are below
    /// `first_foreign_fd`, and all lower numbers are in use from now on: descriptors that it
    /// receives later are at or above it, and cannot be written to by a call. Only the number
    /// `channel_fd`, its connection to the control process, can be reassigned, by dup3(2).
    Worker {
        /// The lowest number of a received descriptor.
        first_foreign_fd: u16,
        /// The number of the connection to the control process.
        channel_fd: u16,
        /// Whether it reads and writes maps of the relay in the kernel (bpf(2)) that it receives.
        uses_maps: bool,
        /// How its engine receives and sends.
        ring: RingKind,
    },
    /// The control process: Python, which starts more threads.
    Control,
}

/// Limits all threads of this process to the calls that its role needs, permanently.
///
/// # Errors
/// [`Error::Permission`] if the kernel has no seccomp filters or no memory for one; [`Error::Os`]
/// without a free descriptor.
pub fn apply_seccomp(role: Role) -> Result<()> {
    let uses_maps = matches!(role, Role::Worker { uses_maps: true, .. });
    let lethal = lethal::calls(uses_maps);
    let mut programs = vec![lethal.program(Miss::Allowed, SeccompAction::KillProcess)?];
    match role {
        Role::Worker { first_foreign_fd, channel_fd, ring, .. } => {
            occupy_numbers(first_foreign_fd)?;
            let calls = worker::calls(first_foreign_fd, channel_fd, uses_maps);
            let calls = if ring == RingKind::Poll { worker::by_poll(calls) } else { calls };
            programs.push(calls.program(Miss::Refused, SeccompAction::Allow)?);
        }
        Role::Control => {
            let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
            programs.push(control::missing().program(Miss::Allowed, missing)?);
            programs.push(control::calls().program(Miss::Refused, SeccompAction::Allow)?);
        }
    }
    // Among several filters the kernel follows the strictest result. The list comes last because it
    // forbids more.
    for program in &programs {
        apply_filter_all_threads(program).map_err(|error| refused(&error))?;
    }
    Ok(())
}

/// Occupies all descriptor numbers below `first`.
fn occupy_numbers(first: u16) -> Result<()> {
    loop {
        let filler = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| Error::os("eventfd", "the descriptor numbers", errno))?;
        if filler.as_fd().as_raw_fd() >= c_int::from(first) {
            return Ok(());
        }
        // It stays open as long as the process: the filter forbids closing it.
        std::mem::forget(filler);
    }
}

/// The result for a call that is not on the list.
#[derive(Clone, Copy)]
enum Miss {
    Allowed,
    Refused,
}

/// A list of calls, each with checks of its arguments.
#[derive(Default)]
struct Calls {
    rules: BTreeMap<c_long, Vec<Vec<ArgumentCheck>>>,
}

/// A check of one argument.
#[derive(Clone, Copy)]
struct ArgumentCheck {
    argument: u8,
    width: Width,
    test: Comparison,
    value: u64,
}

/// The relevant width of an argument: the kernel ignores the upper half of an `int`.
#[derive(Clone, Copy)]
enum Width {
    Int,
    Long,
}

#[derive(Clone, Copy)]
enum Comparison {
    Is,
    IsNot,
    Below,
    AtLeast,
    /// Equality of the bits in this mask.
    Bits(u64),
}

impl Calls {
    /// Permits calls with any arguments.
    fn add(mut self, calls: impl IntoIterator<Item = c_long>) -> Self {
        self.rules.extend(calls.into_iter().map(|call| (call, Vec::new())));
        self
    }

    /// Permits a call if all of `conditions` hold.
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
            Comparison::IsNot => SeccompCmpOp::Ne,
            Comparison::Below => SeccompCmpOp::Lt,
            Comparison::AtLeast => SeccompCmpOp::Ge,
            Comparison::Bits(mask) => SeccompCmpOp::MaskedEq(mask),
        };
        SeccompCondition::new(condition.argument, width, test, condition.value)
    });
    SeccompRule::new(conditions.collect::<Built<_>>()?)
}

/// The argument, an `int`, equals `value`.
fn is(argument: u8, value: c_int) -> ArgumentCheck {
    let value = u64::from(value.cast_unsigned());
    ArgumentCheck { argument, width: Width::Int, test: Comparison::Is, value }
}

/// The argument, an `int`, differs from `value`.
fn is_not(argument: u8, value: c_int) -> ArgumentCheck {
    ArgumentCheck { test: Comparison::IsNot, ..is(argument, value) }
}

/// The argument, a pointer or a length, is 0.
fn is_null(argument: u8) -> ArgumentCheck {
    is_long(argument, 0)
}

/// The argument, an offset, equals `value`.
fn is_long(argument: u8, value: u64) -> ArgumentCheck {
    ArgumentCheck { argument, width: Width::Long, test: Comparison::Is, value }
}

/// The argument, a non-negative `int`, is below `value`.
fn below(argument: u8, value: u16) -> ArgumentCheck {
    ArgumentCheck { argument, width: Width::Int, test: Comparison::Below, value: value.into() }
}

/// The argument, an `int`, is at least `value`. Negative values pass too: for descriptors, where
/// they are invalid.
fn at_least(argument: u8, value: u16) -> ArgumentCheck {
    ArgumentCheck { argument, width: Width::Int, test: Comparison::AtLeast, value: value.into() }
}

/// The argument, a length, exceeds `value`.
fn longer(argument: u8, value: u32) -> ArgumentCheck {
    let value = u64::from(value) + 1;
    ArgumentCheck { argument, width: Width::Long, test: Comparison::AtLeast, value }
}

/// The bits of `mask` in the argument, an `int`, equal `value`.
fn bits(argument: u8, mask: c_int, value: c_int) -> ArgumentCheck {
    let [mask, value] = [mask, value].map(|bits| u64::from(bits.cast_unsigned()));
    ArgumentCheck { argument, width: Width::Int, test: Comparison::Bits(mask), value }
}

/// The second argument is this request of ioctl(2).
fn request(value: libc::Ioctl) -> ArgumentCheck {
    ArgumentCheck { argument: 1, width: Width::Int, test: Comparison::Is, value }
}

/// The id of this process, as a call argument.
fn this_process() -> c_int {
    nix::unistd::getpid().as_raw()
}

fn refused(error: &seccompiler::Error) -> Error {
    Error::Permission(format!("system calls cannot be filtered (seccomp): {error}").into())
}

fn impossible(error: &seccompiler::BackendError) -> Error {
    Error::Permission(format!("system calls cannot be filtered on this machine: {error}").into())
}

#[cfg(test)]
mod tests;
