#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracle::dns_query(input));
