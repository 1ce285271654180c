#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_attest::fuzz::gpu_structures(bytes));
