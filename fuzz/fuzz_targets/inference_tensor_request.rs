#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_inference::fuzz::tensor_request(bytes));
