//! The relay in the kernel in network namespaces, between cables (veth).

mod attachment;
mod changes;
mod copies;
mod lab;
mod losses;
mod moves;
mod passing;
mod rights;
