//! Field values with places for what is known of a request.

use topology::filters::{HeaderValue, Piece, Variable};

use super::Asked;
use crate::message::encode::push_ip;

/// Appends `name: value` as a line. Nothing that a request's head can hold ends it: heads were parsed,
/// and a path is visible ASCII.
pub fn push(name: &str, value: &HeaderValue, asked: &Asked<'_>, consumer: &str, lines: &mut Vec<u8>) {
    lines.extend_from_slice(name.as_bytes());
    lines.extend_from_slice(b": ");
    for piece in &value.0 {
        match piece {
            Piece::Text(text) => lines.extend_from_slice(text.as_bytes()),
            Piece::Variable(Variable::Consumer) => lines.extend_from_slice(consumer.as_bytes()),
            Piece::Variable(variable) => push_variable(*variable, asked, lines),
        }
    }
    lines.extend_from_slice(b"\r\n");
}

fn push_variable(variable: Variable, asked: &Asked<'_>, out: &mut Vec<u8>) {
    match variable {
        Variable::ClientIp => push_ip(asked.client(), out),
        Variable::RequestId => out.extend_from_slice(asked.id),
        Variable::Host => out.extend_from_slice(asked.host.as_bytes()),
        Variable::Path => out.extend_from_slice(asked.path),
        Variable::Scheme => out.extend_from_slice(asked.scheme().as_bytes()),
        // Written by the caller, who knows it.
        Variable::Consumer => {}
        Variable::App => out.extend_from_slice(asked.app.as_bytes()),
    }
}
