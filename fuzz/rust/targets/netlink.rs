//! Any bytes as messages of the kernel about links, addresses, routes, neighbours, memberships,
//! disciplines and firewalls.
#![no_main]

use _native::sockets::netlink::check_messages;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check_messages(bytes));
