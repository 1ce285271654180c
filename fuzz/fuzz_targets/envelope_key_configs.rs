#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_envelope::fuzz::key_configs(bytes));
