#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_verify::fuzz::ai_transcript_json(bytes));
