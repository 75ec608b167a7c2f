//! The same exchange, whatever the two sides speak.

use std::io;

use http::HeaderMap;
use tests::{Framing, Gateway, RawEndpoint, Request, Wire};

use crate::client::{Answer, Client, fields, get, request, with};
use crate::endpoint::Endpoint;
use crate::{before_http1, before_http2, pattern, run};

/// Larger than every window and buffer on the way.
const LARGE: usize = 3 << 20;

/// An HTTP/1.1 endpoint that sends back the body and the trailers that it was sent, chunked.
pub fn http1_echo() -> RawEndpoint {
    RawEndpoint::start_unrecorded(|wire, _| {
        while let Some(mut request) = Request::read_head(wire)? {
            request.read_body(wire)?;
            echo(wire, &request)?;
        }
        Ok(())
    })
}

fn echo(wire: &mut Wire, request: &Request) -> io::Result<()> {
    wire.send(
        format!("HTTP/1.1 200 OK\r\nx-framing: {:?}\r\nTransfer-Encoding: chunked\r\n\r\n", request.framing)
            .as_bytes(),
    )?;
    for piece in request.body.chunks(5_000) {
        wire.send(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())?;
    }
    let mut end = "0\r\n".to_owned();
    for (name, value) in &request.trailers.0 {
        end.push_str(&format!("{name}: {value}\r\n"));
    }
    wire.send((end + "\r\n").as_bytes())
}

async fn post(gateway: &Gateway, length: Option<usize>, body: &[u8], trailers: Option<HeaderMap>) -> Answer {
    let mut head = request("POST", "a.test", "/echo");
    if let Some(length) = length {
        head.headers_mut().insert("content-length", length.into());
    }
    let client = Client::connect(gateway.web()).await;
    client.send_with_trailers(head, body, trailers).await.expect("the echo comes")
}

#[test]
fn bodies_of_every_size_pass_from_http2_to_http1_and_back() {
    run(async {
        let endpoint = http1_echo();
        let gateway = before_http1(endpoint.address());
        for size in [0, 1, 16_384, 16_385, LARGE] {
            let sent = pattern(size);
            let answer = post(&gateway, Some(size), &sent, None).await;
            assert_eq!(answer.status(), 200);
            assert!(answer.body == sent, "{size}: {} bytes came back", answer.body.len());
            assert_eq!(answer.field("x-framing"), Some("Length"), "{size}");
            let answer = post(&gateway, None, &sent, None).await;
            assert!(answer.body == sent, "{size}: {} bytes came back", answer.body.len());
            let framing = if size == 0 { "None" } else { "Chunked" };
            assert_eq!(answer.field("x-framing"), Some(framing), "{size}");
        }
    });
}

#[test]
fn bodies_of_every_size_pass_from_http1_to_http2_and_back() {
    run(async {
        let endpoint = Endpoint::echo().await;
        let gateway = before_http2(endpoint.address());
        let mut client = gateway.connect();
        for size in [0, 1, 16_384, 16_385, LARGE] {
            let sent = pattern(size);
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
            client.send(&sent);
            assert!(client.receive().body == sent, "{size} with a length");
            client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            if size > 0 {
                client.send([format!("{size:x}\r\n").as_bytes(), &sent, b"\r\n"].concat());
            }
            client.send("0\r\n\r\n");
            assert!(client.receive().body == sent, "{size} in chunks");
        }
        assert_eq!(endpoint.requests(), 10);
    });
}

#[test]
fn bodies_and_trailers_pass_from_http2_to_http2_and_back() {
    run(async {
        let endpoint = Endpoint::echo().await;
        let gateway = before_http2(endpoint.address());
        for size in [0, 1, 16_385, LARGE] {
            let sent = pattern(size);
            let answer = post(&gateway, None, &sent, Some(fields(&[("x-sum", "12"), ("x-sum", "13")]))).await;
            assert!(answer.body == sent, "{size}: {} bytes came back", answer.body.len());
            let trailers = answer.trailers.expect("trailers come back");
            let sums: Vec<_> = trailers.get_all("x-sum").iter().collect();
            assert_eq!(sums, ["12", "13"], "{size}");
        }
    });
}

#[test]
fn trailers_become_chunked_trailers_and_come_back_as_frames() {
    run(async {
        let endpoint = http1_echo();
        let gateway = before_http1(endpoint.address());
        let trailers = fields(&[("x-sum", "12"), ("x-other", "a b")]);
        let answer = post(&gateway, None, b"body", Some(trailers.clone())).await;
        assert_eq!((answer.text().as_str(), answer.field("x-framing")), ("body", Some("Chunked")));
        assert_eq!(answer.trailers, Some(trailers));
        assert_eq!(answer.field("transfer-encoding"), None);
    });
}

#[test]
fn chunked_trailers_become_frames_and_come_back_chunked() {
    run(async {
        let endpoint = Endpoint::echo().await;
        let gateway = before_http2(endpoint.address());
        let mut client = gateway.connect();
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\nbody\r\n0\r\nX-Sum: 12\r\n\r\n",
        );
        let response = client.receive();
        assert_eq!((response.text().as_str(), response.framing), ("body", Framing::Chunked));
        assert_eq!(response.trailers.get("x-sum"), Some("12"));
    });
}

#[test]
fn responses_without_a_body_have_none_on_either_side() {
    run(async {
        let endpoint = RawEndpoint::start(|wire, _| {
            while let Some(lines) = tests::read_head(wire)? {
                let target = lines[0].split(' ').nth(1).unwrap_or_default();
                wire.send(match target {
                    "/204" => b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n",
                    "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"x\"\r\n\r\n",
                    "/empty" => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                    _ => b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
                })?;
            }
            Ok(())
        });
        let gateway = before_http1(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        for (method, target, status, length) in [
            ("HEAD", "/", 200, Some("7")),
            ("GET", "/204", 204, None),
            ("GET", "/304", 304, Some("7")),
            ("GET", "/empty", 200, Some("0")),
        ] {
            let answer = client.send(request(method, "a.test", target), b"").await.expect("an answer comes");
            assert_eq!((answer.status(), answer.body.len()), (status, 0), "{method} {target}");
            assert_eq!(answer.field("content-length"), length, "{method} {target}");
        }
        assert_eq!(endpoint.accepted(), 1);
    });
}

#[test]
fn http2_responses_without_a_body_have_none_in_http1() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            match exchange.head.uri.path() {
                "/204" => exchange.answer(204, &[], b""),
                "/304" => exchange.answer(304, &[("etag", "\"x\"")], b""),
                "/empty" => exchange.answer(200, &[], b""),
                _ => exchange.answer(200, &[("content-length", "7")], b""),
            }
        })
        .await;
        let gateway = before_http2(endpoint.address());
        let mut client = gateway.connect();
        for (method, target, status, length) in [
            ("HEAD", "/", 200, Some("7")),
            ("GET", "/204", 204, None),
            ("GET", "/304", 304, None),
            ("GET", "/empty", 200, Some("0")),
        ] {
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.receive_for(method);
            assert_eq!(response.status, status, "{method} {target}");
            assert_eq!(response.fields.get("content-length"), length, "{method} {target}");
            assert!(response.fields.get("transfer-encoding").is_none(), "{method} {target}");
        }
    });
}

#[test]
fn early_hints_pass_to_http2_clients_from_both_kinds_of_endpoint() {
    run(async {
        let http1 = RawEndpoint::answering(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        );
        let http2 = Endpoint::start(|mut exchange| async move {
            let hint = crate::endpoint::response(103, &[("link", "</a.css>")]);
            exchange.respond.send_informational(hint).expect("the stream is open");
            exchange.answer(200, &[], b"ok");
        })
        .await;
        for gateway in [before_http1(http1.address()), before_http2(http2.address())] {
            let client = Client::connect(gateway.web()).await;
            let (mut response, _) = client.begin(get("a.test", "/"), true).await.expect("the stream opens");
            let hint = std::future::poll_fn(|context| response.poll_informational(context)).await;
            let hint = hint.expect("a hint comes first").expect("the stream is open");
            assert_eq!((hint.status().as_u16(), hint.headers()["link"].as_bytes()), (103, &b"</a.css>"[..]));
            let answer = crate::client::collect(response).await.expect("an answer comes");
            assert_eq!(answer.text(), "ok");
        }
    });
}

#[test]
fn an_expectation_travels_from_http2_and_its_100_back() {
    run(async {
        let endpoint = RawEndpoint::start(|wire, _| {
            let head = tests::read_head(wire)?.unwrap_or_default();
            assert!(head.iter().any(|line| line.eq_ignore_ascii_case("expect: 100-continue")), "{head:?}");
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            wire.exactly(4)?;
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        });
        let gateway = before_http1(endpoint.address());
        let client = Client::connect(gateway.web()).await;
        let head =
            with(request("POST", "a.test", "/"), &[("content-length", "4"), ("expect", "100-continue")]);
        let (mut response, mut body) = client.begin(head, false).await.expect("the stream opens");
        let interim = std::future::poll_fn(|context| response.poll_informational(context)).await;
        let interim = interim.expect("100 comes before the body was sent").expect("the stream is open");
        assert_eq!(interim.status(), 100);
        body.send_data("body".into(), true).expect("the stream is open");
        assert_eq!(crate::client::collect(response).await.expect("an answer comes").text(), "ok");
    });
}

#[test]
fn an_expectation_travels_from_http1_to_http2_and_its_100_back() {
    run(async {
        let endpoint = Endpoint::start(|mut exchange| async move {
            assert_eq!(exchange.head.headers["expect"], "100-continue");
            let go_on = crate::endpoint::response(100, &[]);
            exchange.respond.send_informational(go_on).expect("the stream is open");
            let (body, _) = exchange.read().await;
            exchange.answer(200, &[], &body);
        })
        .await;
        let gateway = before_http2(endpoint.address());
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.receive_head().status, 100);
        client.send("body");
        assert_eq!(client.receive().text(), "body");
    });
}
