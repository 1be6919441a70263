//! Any bytes that a worker sends to the supervisor, or the supervisor to it.
#![no_main]

use _native::broker::check_message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check_message(bytes));
