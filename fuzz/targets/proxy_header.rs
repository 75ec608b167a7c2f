#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracle::proxy_header(input));
