#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_envelope::fuzz::binary_http_response(bytes));
