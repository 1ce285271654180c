#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_types::fuzz::manifest_toml(bytes));
