#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_verify::fuzz::bundle_alone(bytes));
