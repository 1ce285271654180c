#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_envelope::fuzz::e2ee_request_json(bytes));
