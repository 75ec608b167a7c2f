//! Bytes with more than one meaning, and what becomes of them.
//!
//! Each file in `cases` is one group; `format` explains its notation. A case says what a client or an
//! endpoint sends, what the client gets, and exactly what the endpoint gets. A second request follows
//! each case in the same packet, so that a misjudged end shows; and whatever reached the endpoint is read
//! again by a reader of this crate (`reference`) that refuses everything ambiguous.
//!
//! A group is run to its end. A failure lists every case that broke its promise, with what was sent.

mod client;
mod endpoint;
mod format;
mod kernel;
mod late;
mod reference;
mod verdict;

use tests::{Config, DEADLINE, Gateway, comes_true};

use endpoint::{Endpoint, Stream};
use format::{Act, Case, Fate, Step, Upstream, show};

macro_rules! groups {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        const GROUPS: &[(&str, &str)] =
            &[$((stringify!($name), include_str!(concat!("cases/", stringify!($name), ".txt")))),*];

        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                run(include_str!(concat!("cases/", stringify!($name), ".txt")));
            }
        )*
    };
}

groups! {
    lengths
    codings
    fields
    request_lines
    versions
    targets
    hosts
    chunks
    trailers
    expectations
    hop_by_hop
    max_forwards
    pipelines
    limits
    odd_but_valid
    response_heads
    response_bodies
    response_order
        upgrades
}

/// What the issue asks for is 150.
const FEWEST_CASES: usize = 800;

#[test]
fn every_case_is_run_and_has_a_name_of_its_own() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/suites/corpus/cases");
    for entry in std::fs::read_dir(folder).expect("the cases lie beside this file") {
        let name = entry.expect("the folder can be read").file_name();
        let name = name.to_string_lossy().into_owned();
        assert!(GROUPS.iter().any(|(group, _)| name == format!("{group}.txt")), "{name} is never run");
    }
    let mut names: Vec<String> = GROUPS
        .iter()
        .flat_map(|(group, text)| {
            format::parse(text).into_iter().map(move |case| format!("{group}: {}", case.name))
        })
        .collect();
    assert!(names.len() >= FEWEST_CASES, "{} cases", names.len());
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// Runs every case of a group, and then looks at all that the endpoint ever got.
#[track_caller]
fn run(text: &str) {
    let endpoint = Endpoint::start();
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let cases = format::parse(&text.replace("LISTENER", &gateway.web().to_string()));
    let mut broken: Vec<String> =
        cases.iter().filter_map(|case| check(case, &gateway, &endpoint).err()).collect();
    if broken.is_empty() {
        broken.extend(count(&cases, &endpoint).err());
    }
    assert!(broken.is_empty(), "{} of {} cases\n\n{}", broken.len(), cases.len(), broken.join("\n\n"));
}

fn check(case: &Case, gateway: &Gateway, endpoint: &Endpoint) -> Result<(), String> {
    let before: Vec<usize> = endpoint.streams().iter().map(|stream| stream.bytes.len()).collect();
    let fresh = || -> Vec<Stream> {
        let mut streams = endpoint.streams();
        for (stream, before) in streams.iter_mut().zip(&before) {
            stream.bytes.drain(..before);
        }
        streams
    };
    endpoint.follow(&case.script);
    let transcript = client::play(case, gateway.web());
    if case.upstream == Upstream::Incomplete {
        // The client may learn of its end before the endpoint has read what it got.
        kernel::until_quiet(endpoint.address());
        // If it does not, the verdict says so.
        comes_true(DEADLINE, || fresh().iter().all(|stream| stream.bytes.is_empty() || stream.has_ended));
    }
    let fresh = fresh();
    let verdicts = [verdict::of_client(case, &transcript), verdict::of_upstream(case, &fresh)];
    let whys: Vec<String> = ["the client", "the endpoint"]
        .iter()
        .zip(verdicts)
        .filter_map(|(who, verdict)| verdict.err().map(|why| format!("    {who}: {why}")))
        .collect();
    if whys.is_empty() {
        return Ok(());
    }
    let upstream: Vec<u8> = fresh.into_iter().flat_map(|stream| stream.bytes).collect();
    Err(format!(
        "{}:\n{}\n    sent\n      {}\n    answered ({:?})\n      {}\n    upstream\n      {}",
        case.name,
        whys.join("\n"),
        sent(case),
        transcript.end,
        show(&transcript.bytes),
        show(&upstream)
    ))
}

fn sent(case: &Case) -> String {
    let acts = case.acts.iter().map(|act| match act {
        Act::Send(bytes) => show(bytes),
        other => format!("({other:?})"),
    });
    let steps = case.script.iter().map(|step| match step {
        Step::Send(bytes) => format!("the endpoint: {}", show(bytes)),
        other => format!("the endpoint: ({other:?})"),
    });
    acts.chain(steps).collect::<Vec<_>>().join("\n      ")
}

/// Nothing has two meanings, and nothing came that no case accounts for.
fn count(cases: &[Case], endpoint: &Endpoint) -> Result<(), String> {
    let expected: usize = cases
        .iter()
        .map(|case| {
            let of_case = match &case.upstream {
                Upstream::Messages(messages) => messages.len(),
                Upstream::Nothing | Upstream::Incomplete => 0,
            };
            of_case + usize::from(case.fate == Fate::Open && case.is_followed())
        })
        .sum();
    kernel::until_quiet(endpoint.address());
    let mut given = 0;
    for stream in endpoint.streams() {
        given += verdict::messages(&stream)?.len();
    }
    if given == expected { Ok(()) } else { Err(format!("{given} messages came instead of {expected}")) }
}
