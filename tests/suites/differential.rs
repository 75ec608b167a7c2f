//! What the fuzz targets check, quickly, on every run: the committed seeds, and mutations of them.
//! docs/fuzzing.md tells how to search longer.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

type Check = fn(&[u8]);

/// Each takes some 40 µs: the whole suite stays within seconds.
const CASES: u32 = 10_000;
/// More mutations leave nothing of the seed that a parser accepts.
const MAX_MUTATIONS: usize = 6;
/// Longer than any token of the grammars.
const MAX_RANGE: usize = 40;

/// Words on which parsers of HTTP have disagreed.
const HTTP_WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "\0",
    "\u{b}",
    "0\r\n\r\n",
    "\r\n\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0",
    "Transfer-Encoding: chunked\r\n",
    "chunked",
    "identity",
    "Host: b\r\n",
    "Connection: close\r\n",
    "close",
    "keep-alive",
    "GET ",
    "HEAD ",
    "HTTP/1.0",
    "HTTP/1.1",
    "http://b",
    "//",
    "/../",
    "%2e",
    "?",
    "#",
    "@",
    "18446744073709551615",
    "HTTP/1.1 100 Continue\r\n\r\n",
];

/// Words that app specs and address values are made of.
const SPEC_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "=",
    ".",
    "\n",
    "null",
    "true",
    "-1",
    "65536",
    "1e400",
    "*",
    "*.",
    "=/",
    "[[endpoint]]\n",
    "[health]\n",
    "\"split\":",
    "\"5s\"",
    "'''",
    "\\u0000",
    "10.0.0.1:80",
    "[::1]:80",
    "/..",
];

/// Pieces of PROXY protocol headers and of TLS records.
const BINARY_WORDS: &[&str] = &[
    "\r\n",
    "\n",
    " ",
    "0",
    "\0",
    "\0\0",
    "\0\u{1}",
    "\u{16}\u{3}\u{1}\0\u{1}",
    "\u{1}",
    "\u{3}",
    "TCP4",
    "TCP6",
    "UNKNOWN",
    "PROXY ",
    "\r\n\r\n\0\r\nQUIT\n",
    "::1",
    "10.0.0.1",
    "65535",
    "65536",
    "\u{3}\0\u{4}\0\0\0\0",
    "a.b",
    ".",
    "-",
];

#[derive(Debug, Clone)]
enum Mutation {
    Insert(Index, Index),
    Remove(Index, Index),
    Repeat(Index, Index),
    Replace(Index, u8),
    /// The end of another seed.
    Splice(Index, Index, Index),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>, words: &[&str], seeds: &[Vec<u8>]) {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Self::Insert(at, word) => {
                let at = place(at);
                bytes.splice(at..at, words[word.index(words.len())].bytes());
            }
            Self::Remove(at, length) => {
                bytes.drain(range(place(at), length, bytes.len()));
            }
            Self::Repeat(at, length) => {
                let range = range(place(at), length, bytes.len());
                let copy = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, copy);
            }
            Self::Replace(at, byte) => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            Self::Splice(at, seed, from) => {
                let (at, seed) = (place(at), &seeds[seed.index(seeds.len())]);
                bytes.truncate(at);
                bytes.extend_from_slice(&seed[from.index(seed.len() + 1)..]);
            }
        }
    }
}

fn range(at: usize, length: &Index, end: usize) -> std::ops::Range<usize> {
    at..(at + length.index(MAX_RANGE)).min(end)
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), index()).prop_map(|(at, word)| Mutation::Insert(at, word)),
        2 => (index(), index()).prop_map(|(at, length)| Mutation::Remove(at, length)),
        2 => (index(), index()).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        1 => (index(), index(), index()).prop_map(|(at, seed, from)| Mutation::Splice(at, seed, from)),
    ]
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let files = std::fs::read_dir(folder).expect("seeds are committed");
    let mut files: Vec<_> = files.map(|file| file.expect("a readable folder").path()).collect();
    // The order decides what a failing case's indices mean.
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| std::fs::read(file).expect("a readable seed")).collect()
}

fn holds_for_seeds_and_their_mutations(target: &str, words: &[&str], check: Check) {
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| check(seed));
    // Failures are found again through their seed, and kept as seeds or unit tests, not as files of proptest's.
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (any::<Index>(), vec(mutation(), 1..=MAX_MUTATIONS));
    let outcome = proptest::test_runner::TestRunner::new(config).run(&strategy, |(seed, mutations)| {
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes, words, &seeds));
        check(&bytes);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn hyper_reads_every_request_that_we_accept_as_we_do() {
    holds_for_seeds_and_their_mutations("request_differential", HTTP_WORDS, oracle::requests);
}

#[test]
fn hyper_reads_every_response_that_we_accept_as_we_do() {
    holds_for_seeds_and_their_mutations("response_differential", HTTP_WORDS, oracle::responses);
}

#[test]
fn a_chunked_body_ends_where_the_grammar_says() {
    holds_for_seeds_and_their_mutations("chunked", HTTP_WORDS, oracle::chunked);
}

#[test]
fn what_the_registry_holds_is_within_bounds_or_refused() {
    holds_for_seeds_and_their_mutations("registry_values", SPEC_WORDS, oracle::registry_values);
}

#[test]
fn saved_entries_are_read_as_they_were_written_or_refused() {
    holds_for_seeds_and_their_mutations("saved", SPEC_WORDS, oracle::saved);
}

#[test]
fn a_proxy_header_is_taken_to_its_last_byte() {
    holds_for_seeds_and_their_mutations("proxy_header", BINARY_WORDS, oracle::proxy_header);
}

#[test]
fn a_frame_claims_what_is_in_it() {
    holds_for_seeds_and_their_mutations("address_claims", BINARY_WORDS, oracle::address_claims);
}

#[test]
fn a_query_is_answered_within_bounds_and_the_zone_goes_to_who_has_signed() {
    holds_for_seeds_and_their_mutations("dns_query", BINARY_WORDS, oracle::dns_query);
}

/// What versions, members and their ends look like.
const TRACE_WORDS: &[&str] =
    &["00-", "ff-", "01-", "-01", "-00", "-", "0000000000000000", "=", ",", "@", "a=1", "\n"];

#[test]
fn a_peer_message_has_one_form() {
    holds_for_seeds_and_their_mutations("peer_messages", BINARY_WORDS, oracle::peer_messages);
}

#[test]
fn a_trace_is_read_as_the_recommendation_has_it() {
    holds_for_seeds_and_their_mutations("trace_context", TRACE_WORDS, oracle::trace_context);
}

#[test]
fn rustls_finds_the_name_that_we_find() {
    holds_for_seeds_and_their_mutations("client_hello", BINARY_WORDS, oracle::client_hello);
}

/// Pieces of cookies and queries.
const LOOKUP_WORDS: &[&str] = &[
    ";", "; ", "=", "\"", ",", " ", "\t", "\\", "&", "+", "%", "%2", "%41", "%zz", "%25", "%00", "\n", "\r",
    "?", "a=1", "ü", ";q=", "q=0.5", "1.000",
];

#[test]
fn cookies_and_parameters_are_what_their_grammars_say() {
    holds_for_seeds_and_their_mutations("lookups", LOOKUP_WORDS, oracle::lookups);
}

/// Field lines and pseudo-fields with which HTTP/2 and HTTP/1.1 part ways.
const HTTP2_WORDS: &[&str] = &[
    "\n",
    "\r\n",
    ": ",
    " ",
    "cookie: c=3\n",
    "te: trailers\n",
    "te: gzip\n",
    "host: shop.example\n",
    "content-length: 5\n",
    "content-length: 0\n",
    "connection: close\n",
    "upgrade: websocket\n",
    "transfer-encoding: chunked\n",
    "keep-alive: 5\n",
    "expect: 100-continue\n",
    "CONNECT",
    "OPTIONS",
    "HEAD",
    "*",
    "/../",
    "?",
    "@",
    "[::1]",
    ":443",
    "204",
    "101",
    "\t",
    "\u{e9}",
];

#[test]
fn heads_mean_the_same_in_both_versions_of_http() {
    holds_for_seeds_and_their_mutations("h2_translation", HTTP2_WORDS, oracle::http2_translation);
}
