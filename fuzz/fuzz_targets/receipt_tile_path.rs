#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_receipt::fuzz::tile_path(bytes));
