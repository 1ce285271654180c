#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_threshold::fuzz::register_record(bytes));
