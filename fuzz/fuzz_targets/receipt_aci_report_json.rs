#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_receipt::fuzz::aci_report_json(bytes));
