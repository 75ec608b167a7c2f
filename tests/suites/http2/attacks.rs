//! Clients that only want to make the gateway work. Each is cut off within a stated number of frames,
//! while another client notices nothing; and ten of each kind cost a bounded amount of memory and time.
//!
//! `SLUICE_LONG=1` runs [`latency_during_every_flood`], which prints what an honest client waits before
//! and during each attack.

mod latency;
mod penalties;
mod stalls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tests::{Config, DEADLINE, Endpoint as Http1Endpoint, Gateway, Wire};

use crate::before_http1;
use crate::raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, frame, get_block, literal,
    post_block, setting,
};

/// What every flood may send before it is cut off: an account of 1,000 frames, what time pays in on a busy
/// machine, and most of all what the sockets' buffers take of nine bytes each.
const MOST_FRAMES: usize = 200_000;
/// Frames per write: a flood that waits for nothing.
const BATCH: usize = 200;
const ATTACKERS: usize = 10;
/// What ten attackers together may leave the process with.
const MEMORY: u64 = 32 << 20;
/// Processor time of the gateway that one attacker may take until it is cut off, in an unoptimised build.
const PROCESSOR_SECONDS: f64 = 3.0;

/// One kind of flood: what opens it, and what it repeats.
pub struct Flood {
    pub name: &'static str,
    open: fn(&mut Raw) -> io::Result<()>,
    /// The frames of one repetition, by its number.
    repeat: fn(u32) -> Vec<u8>,
}

fn nothing(_: &mut Raw) -> io::Result<()> {
    Ok(())
}

/// A POST whose body never ends, on stream 1.
fn open_post(client: &mut Raw) -> io::Result<()> {
    client.send_frame(HEADERS, END_HEADERS, 1, &post_block())
}

/// Field lines that never end.
fn open_head(client: &mut Raw) -> io::Result<()> {
    client.send_frame(HEADERS, END_STREAM, 1, &get_block())
}

fn stream(number: u32) -> u32 {
    2 * number + 1
}

fn request_and(number: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let id = stream(number);
    [frame(HEADERS, END_HEADERS, id, &post_block()), frame(kind, flags, id, payload)].concat()
}

pub const FLOODS: &[Flood] = &[
    Flood {
        // CVE-2023-44487.
        name: "rapid reset",
        open: nothing,
        repeat: |number| {
            let id = stream(number);
            let head = frame(HEADERS, END_HEADERS | END_STREAM, id, &get_block());
            [head, frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
        },
    },
    // CVE-2025-8671: the server is made to reset.
    Flood {
        name: "MadeYouReset by a window update of nothing",
        open: nothing,
        repeat: |number| request_and(number, WINDOW_UPDATE, 0, &[0; 4]),
    },
    Flood {
        name: "MadeYouReset by a window beyond its limit",
        open: nothing,
        repeat: |number| request_and(number, WINDOW_UPDATE, 0, &0x7fff_ffff_u32.to_be_bytes()),
    },
    Flood {
        name: "MadeYouReset by data after the end",
        open: nothing,
        repeat: |number| {
            let id = stream(number);
            let head = frame(HEADERS, END_HEADERS | END_STREAM, id, &get_block());
            [head, frame(DATA, 0, id, b"x")].concat()
        },
    },
    Flood {
        name: "MadeYouReset by a stream that depends on itself",
        open: nothing,
        repeat: |number| {
            request_and(number, PRIORITY, 0, &[&stream(number).to_be_bytes()[..], &[1]].concat())
        },
    },
    Flood {
        name: "MadeYouReset by a priority of the wrong length",
        open: nothing,
        repeat: |number| request_and(number, PRIORITY, 0, &[0; 3]),
    },
    Flood {
        name: "MadeYouReset by more than was announced",
        open: nothing,
        repeat: |number| {
            let id = stream(number);
            let block = [post_block(), literal("content-length", b"1")].concat();
            [frame(HEADERS, END_HEADERS, id, &block), frame(DATA, 0, id, b"xy")].concat()
        },
    },
    Flood {
        // CVE-2024-27316.
        name: "CONTINUATION without an end",
        open: open_head,
        repeat: |number| {
            let field = literal(&format!("x-{number}"), b"value");
            frame(CONTINUATION, 0, 1, &field)
        },
    },
    Flood { name: "empty CONTINUATION", open: open_head, repeat: |_| frame(CONTINUATION, 0, 1, &[]) },
    Flood {
        name: "heads in empty fragments",
        open: nothing,
        repeat: |number| {
            let id = stream(number);
            let mut frames = frame(HEADERS, END_STREAM, id, &get_block());
            (0..8).for_each(|_| frames.extend(frame(CONTINUATION, 0, id, &[])));
            frames.extend(frame(CONTINUATION, END_HEADERS, id, &[]));
            frames
        },
    },
    // CVE-2019-9515.
    Flood { name: "SETTINGS", open: nothing, repeat: |_| frame(SETTINGS, 0, 0, &[]) },
    Flood {
        name: "SETTINGS that resize windows",
        open: open_post,
        repeat: |number| frame(SETTINGS, 0, 0, &setting(4, 65_535 + number % 2)),
    },
    // CVE-2019-9512.
    Flood { name: "PING", open: nothing, repeat: |_| frame(PING, 0, 0, &[7; 8]) },
    // CVE-2019-9518.
    Flood { name: "empty DATA", open: open_post, repeat: |_| frame(DATA, 0, 1, &[]) },
    Flood {
        name: "DATA of nothing but padding",
        open: open_post,
        repeat: |_| frame(DATA, PADDED, 1, &[1, 0]),
    },
    Flood {
        // CVE-2019-9513.
        name: "PRIORITY",
        open: nothing,
        repeat: |number| frame(PRIORITY, 0, 3, &[&(number % 2 * 4 + 1).to_be_bytes()[..], &[1]].concat()),
    },
    Flood {
        name: "windows opened byte by byte",
        open: open_post,
        repeat: |number| frame(WINDOW_UPDATE, 0, number % 2, &1_u32.to_be_bytes()),
    },
    Flood { name: "unknown frames", open: nothing, repeat: |_| frame(0xfa, 0, 0, b"what") },
    Flood {
        name: "requests that depend on themselves",
        open: nothing,
        repeat: |number| {
            let id = stream(number);
            let block = [&id.to_be_bytes()[..], &[1], &get_block()].concat();
            frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, id, &block)
        },
    },
];

impl Flood {
    /// Attacks until the connection is gone; how many repetitions were sent, and the code of the GOAWAY
    /// where one could be read.
    ///
    /// Every call comes from an address of its own, so that none is kept out for another one's flood.
    pub fn run(&self, gateway: &Gateway) -> Result<(usize, u32), String> {
        static ATTACKER: AtomicU32 = AtomicU32::new(1);
        let [_, a, b, c] = ATTACKER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        self.run_from(IpAddr::from([127, 100 + a % 100, b, c]), gateway.web())
    }

    /// As [`Self::run`], from this address.
    pub fn run_from(&self, source: IpAddr, target: SocketAddr) -> Result<(usize, u32), String> {
        let wire = Wire::connect_from(source, target, DEADLINE);
        let mut client = Raw { wire: wire.map_err(|error| error.to_string())? };
        // Whoever is kept out may be told at any time.
        if client.send(PREFACE).and_then(|()| client.send_frame(SETTINGS, 0, 0, &[])).is_err() {
            return Ok((0, 0));
        }
        let mut sent = 0;
        let mut go_on = || -> io::Result<()> {
            (self.open)(&mut client)?;
            while sent < MOST_FRAMES {
                let batch: Vec<u8> = (sent..sent + BATCH).flat_map(|at| (self.repeat)(at as u32)).collect();
                sent += BATCH;
                client.send(&batch)?;
            }
            Ok(())
        };
        match go_on() {
            Ok(()) => return Err(format!("{}: {sent} repetitions and not cut off", self.name)),
            Err(error) if crate::raw::is_quiet(&error) => {
                // It takes no more and yet does not close: answers that nobody reads hold it back.
                return self.drain(client, sent);
            }
            Err(_) => {}
        }
        Ok((sent, client.cut_off_code()))
    }

    fn drain(&self, mut client: Raw, sent: usize) -> Result<(usize, u32), String> {
        let mut code = 0;
        loop {
            match client.receive() {
                Ok(Some(frame)) if frame.kind == crate::raw::GOAWAY => code = frame.code(),
                Ok(Some(_)) => {}
                Err(error) if crate::raw::is_quiet(&error) => {
                    return Err(format!("{}: stalled after {sent} repetitions, still open", self.name));
                }
                Ok(None) | Err(_) => return Ok((sent, code)),
            }
        }
    }
}

#[test]
fn every_flood_is_cut_off_and_costs_little() {
    let endpoint = Http1Endpoint::start("c1");
    let mut failures = Vec::new();
    for flood in FLOODS {
        let gateway = before_http1(endpoint.address());
        // What the first requests allocate for good.
        assert_eq!(gateway.get("a", "/").status, 200);
        let (memory, time) = (gateway.resident_bytes(), gateway.processor_seconds());
        let outcomes: Vec<_> = thread::scope(|scope| {
            let attackers: Vec<_> = (0..ATTACKERS).map(|_| scope.spawn(|| flood.run(&gateway))).collect();
            let mut honest = gateway.connect();
            for _ in 0..20 {
                assert_eq!(honest.get("a", "/").status, 200, "{}", flood.name);
            }
            attackers.into_iter().map(|attacker| attacker.join().expect("it ends")).collect()
        });
        let grown = gateway.resident_bytes().saturating_sub(memory);
        let used = (gateway.processor_seconds() - time) / ATTACKERS as f64;
        let sent: Vec<_> = outcomes.iter().flatten().map(|(sent, code)| (*sent, *code)).collect();
        println!("{}: {sent:?}, {} KiB, {used:.2} s each", flood.name, grown >> 10);
        failures.extend(outcomes.into_iter().filter_map(Result::err));
        if grown >= MEMORY {
            failures.push(format!("{}: {grown} bytes more", flood.name));
        }
        if used >= PROCESSOR_SECONDS {
            failures.push(format!("{}: {used} s of processor time", flood.name));
        }
        assert_eq!(gateway.get("a", "/").status, 200, "after {}", flood.name);
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// What a single broken frame does: the connection ends, and says why.
#[test]
fn frames_that_no_client_may_send_end_the_connection() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    for (number, (what, bytes)) in (0..).zip([
        ("PUSH_PROMISE", [open_frame(), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])].concat()),
        ("a frame beyond the limit", frame(DATA, 0, 1, &[0; 40_000])),
        ("a second preface", PREFACE.to_vec()),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        ("HEADERS on stream 0", frame(HEADERS, END_HEADERS, 0, &get_block())),
        ("HEADERS on an even stream", frame(HEADERS, END_HEADERS, 2, &get_block())),
        ("a stream behind the last", {
            let two = [frame(HEADERS, 5, 5, &get_block()), frame(HEADERS, 5, 3, &get_block())];
            two.concat()
        }),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x")),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0; 4])),
        ("CONTINUATION out of nowhere", frame(CONTINUATION, END_HEADERS, 1, &get_block())),
        ("a frame within a head", [frame(HEADERS, 0, 1, &get_block()), frame(PING, 0, 0, &[0; 8])].concat()),
        ("SETTINGS of the wrong length", frame(SETTINGS, 0, 0, &[0; 5])),
        ("SETTINGS of a stream", frame(SETTINGS, 0, 1, &[])),
        ("an acknowledgement with content", frame(SETTINGS, 1, 0, &setting(4, 1))),
        ("a window beyond its limit", frame(SETTINGS, 0, 0, &setting(4, 0x8000_0000))),
        ("a frame size below the least", frame(SETTINGS, 0, 0, &setting(5, 1))),
        ("push on, neither 0 nor 1", frame(SETTINGS, 0, 0, &setting(2, 2))),
        ("PING of the wrong length", frame(PING, 0, 0, &[0; 7])),
        ("PING of a stream", frame(PING, 0, 1, &[0; 8])),
        ("RST_STREAM of the wrong length", frame(RST_STREAM, 0, 1, &[0; 3])),
        ("WINDOW_UPDATE of the wrong length", frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        ("a connection's window by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a connection's window beyond its limit",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
        ),
        ("more padding than frame", [open_frame(), frame(DATA, PADDED, 1, &[9, 0])].concat()),
        ("HPACK that names no field", frame(HEADERS, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0x7f])),
        ("a table larger than agreed", frame(HEADERS, 5, 1, &[0x3f, 0xff, 0xff, 0x7f, 0x82])),
        ("Huffman that ends in nothing", frame(HEADERS, 5, 1, &[0x82, 0x86, 0x84, 0x41, 0x81, 0x00])),
    ]) {
        // One alone would be out after ten.
        let mut client = Raw::connect_from(IpAddr::from([127, 8, 0, number]), gateway.web());
        client.send(&bytes).ok();
        let code = client.cut_off_code();
        assert_ne!(code, ENHANCE_YOUR_CALM, "{what}");
        println!("{what}: {code}");
        assert_eq!(gateway.get("a", "/").status, 200, "after {what}");
    }
    assert_eq!(gateway.metrics().count("sluice_http2_floods_total", &[]), 0);
}

fn open_frame() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &post_block())
}

/// A head that is small on the wire and large in memory: one field, named again and again.
#[test]
fn a_head_that_unpacks_to_far_more_than_was_sent_is_refused() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = before_http1(endpoint.address());
    let before = gateway.resident_bytes();
    let clients: Vec<_> = (0..ATTACKERS)
        .map(|_| {
            let mut client = Raw::connect(gateway.web(), &[]);
            // Indexed as field 62, 4,000 bytes that one byte then stands for.
            let mut block = get_block();
            block.push(0x40);
            crate::raw::push_string(b"x", &mut block);
            crate::raw::push_string(&[b'a'; 4_000], &mut block);
            block.extend([0xbe; 10_000]);
            client.send_frame(HEADERS, END_STREAM | END_HEADERS, 1, &block).expect("the gateway listens");
            let answer = client.receive_until_refused();
            assert!(answer, "40 MB of fields were taken");
            client
        })
        .collect();
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < MEMORY, "{grown} bytes more");
    drop(clients);
    assert_eq!(endpoint.requests(), 0);
}

#[test]
fn a_gateway_that_was_flooded_counts_it() {
    let endpoint = Http1Endpoint::start("c1");
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let flood = FLOODS.iter().find(|flood| flood.name == "PING").expect("it is there");
    flood.run(&gateway).expect("it is cut off");
    assert_eq!(gateway.metrics().count("sluice_http2_floods_total", &[]), 1);
}
