//! The granting of requests about the relay in the kernel. Only the worker of a daemon that has no
//! other one gets any of it.

use super::grants::Granted;
use super::messages::{Answer, Request};
use super::server::{BrokerServer, Fault, NO_WORKER};

const NOT_ALLOWED: Fault = Fault::Breach("the relay in the kernel, which is not allowed");

impl BrokerServer {
    /// Grants a request about the relay in the kernel.
    pub(super) fn grant_kernel(&mut self, worker: u16, request: Request) -> Granted {
        let known = self.workers.get_mut(usize::from(worker)).ok_or(NO_WORKER)?;
        let kernel = self.kernel.as_mut().ok_or(NOT_ALLOWED)?;
        let lease = known.leases.new_id();
        Ok(match request {
            Request::KernelMap { number } => {
                kernel.open_maps()?;
                kernel.map(number).ok_or(Fault::Breach("a map that does not exist"))?;
                Answer::KernelMap { number }
            }
            Request::KernelHook { interface } => {
                kernel.attach(interface.as_ref(), lease)?;
                Answer::KernelHook { lease }
            }
            Request::KernelFan { shape } => {
                let fan = kernel.fan(&shape, lease)?;
                let devices = fan.devices().iter().map(|(index, number)| (*index, *number));
                Answer::KernelFan { lease, number: fan.number(), devices: devices.collect() }
            }
            Request::KernelCpu { cpu } => {
                kernel.add_cpu(cpu)?;
                Answer::Done {}
            }
            _ => return Err(Fault::Breach("an unexpected request")),
        })
    }
}
