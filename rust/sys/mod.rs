//! The interface to the kernel, and the only module with `unsafe`. Each file wraps one kernel
//! facility in functions that are safe to call with any arguments.
#![allow(unsafe_code, reason = "the one module with unsafe code; every block states why it holds")]

#[cfg(feature = "offload")]
pub mod bpf;
pub mod bpf_query;
pub mod buffers;
pub mod group_filter;
pub mod inherited;
pub mod memory;
pub mod messages;
pub mod netdev;
pub mod packet_ring;
#[cfg(feature = "offload")]
pub mod per_cpu_array;
pub mod process_title;
pub mod recv;
pub mod ring;
pub mod sched;
pub mod scm_rights;
pub mod send_control;
pub mod shared_words;
pub mod sockaddr;
pub mod sockopt;
pub mod xdp_socket;
