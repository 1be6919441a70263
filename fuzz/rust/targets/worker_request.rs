//! Any bytes that control sends to a worker.
#![no_main]

use _native::worker::check_request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check_request(bytes));
