//! The worker's side of the relay in the kernel: a [`KernelOpener`] that requests everything from
//! the supervisor.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::line::{Line, unexpected};
use super::messages::{Answer, Request};
use crate::error::Result;
use crate::offload::{Attachment, Fan, KernelOpener, KernelTable, Shape};
use crate::sockets::InterfaceRef;
use crate::sockets::provider::Lease;

/// Requests the supervisor's programs.
pub struct KernelClient {
    line: Arc<Line>,
}

impl KernelClient {
    /// On the connection of a [`BrokerClient`](super::BrokerClient).
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self { line }
    }
}

impl KernelOpener for KernelClient {
    fn maps(&self) -> Result<Vec<OwnedFd>> {
        let numbers = 0..KernelTable::MAP_COUNT;
        numbers
            .map(|number| match self.line.request(&Request::KernelMap { number })? {
                (Answer::KernelMap { .. }, Some(map)) => Ok(map),
                _ => Err(unexpected()),
            })
            .collect()
    }

    fn attach(&self, interface: InterfaceRef<'_>) -> Result<Attachment> {
        let request = Request::KernelHook { interface: (&interface).into() };
        match self.line.request(&request)? {
            (Answer::KernelHook { lease }, None) => {
                Ok(Attachment::new(Lease::new(lease, self.line.clone())))
            }
            _ => Err(unexpected()),
        }
    }

    fn fan(&self, shape: &Shape) -> Result<Fan> {
        match self.line.request(&Request::KernelFan { shape: shape.clone() })? {
            (Answer::KernelFan { lease, number, devices }, None) => {
                let lease = Lease::new(lease, self.line.clone());
                Ok(Fan::new(number, devices.into_iter().collect(), lease))
            }
            _ => Err(unexpected()),
        }
    }

    fn add_cpu(&self, cpu: u32) -> Result<()> {
        self.line.execute(&Request::KernelCpu { cpu })
    }
}
