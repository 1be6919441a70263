//! What the relay in the kernel needs rights for, by this process or another one that has them.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fans::{Fan, Shape};
use super::hook::HookMode;
use super::programs::{Limits, Programs};
use crate::error::Result;
use crate::sockets::{InterfaceRef, device_features};

/// Loads the programs, attaches them, and names devices and CPUs to them.
pub trait KernelOpener: Send + Sync {
    /// The descriptors of the maps for [`KernelTable::open`](super::KernelTable::open). Loads the
    /// programs at the first call.
    ///
    /// # Errors
    /// Those of [`Programs::load`]; the process with the rights is gone.
    fn maps(&self) -> Result<Vec<OwnedFd>>;

    /// Attaches to an input's interface, where no other program may be.
    ///
    /// # Errors
    /// Those of [`Programs::attach`]; the process with the rights is gone.
    fn attach(&self, interface: InterfaceRef<'_>) -> Result<Attachment>;

    /// The map of devices for a rule's outputs ([`KernelRule::shape`](super::KernelRule::shape)).
    ///
    /// # Errors
    /// Those of [`Programs::fan`]; the process with the rights is gone.
    fn fan(&self, shape: &Shape) -> Result<Fan>;

    /// Lets a CPU make copies for rules that name it.
    ///
    /// # Errors
    /// Those of [`Programs::add_cpu`]; the process with the rights is gone.
    fn add_cpu(&self, cpu: u32) -> Result<()>;
}

/// Keeps the programs attached to an interface until it is dropped.
pub struct Attachment {
    _owner: Box<dyn Any + Send + Sync>,
}

impl Attachment {
    /// Of whatever detaches the programs when it is dropped.
    pub fn new(owner: impl Any + Send + Sync) -> Self {
        Self { _owner: Box::new(owner) }
    }
}

/// This process opens everything itself, in the calling thread's network namespace.
#[derive(Default)]
pub struct LocalOpener {
    programs: Mutex<Option<Programs>>,
}

impl LocalOpener {
    fn with<T>(&self, work: impl FnOnce(&mut Programs) -> Result<T>) -> Result<T> {
        let mut programs = self.lock();
        let loaded = match programs.take() {
            Some(loaded) => loaded,
            None => {
                device_features::restore_left().ok();
                Programs::load(Limits::default())?
            }
        };
        work(programs.insert(loaded))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Programs>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KernelOpener for LocalOpener {
    fn maps(&self) -> Result<Vec<OwnedFd>> {
        self.with(|programs| programs.descriptors())
    }

    fn attach(&self, interface: InterfaceRef<'_>) -> Result<Attachment> {
        self.with(|programs| programs.attach(interface, HookMode::Native).map(Attachment::new))
    }

    fn fan(&self, shape: &Shape) -> Result<Fan> {
        self.with(|programs| programs.fan(shape))
    }

    fn add_cpu(&self, cpu: u32) -> Result<()> {
        self.with(|programs| programs.add_cpu(cpu))
    }
}
