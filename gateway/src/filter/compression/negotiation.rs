//! What a client can read, and likes best (RFC 9110 section 12.5.3).

use topology::filters::Coding;

use crate::message::RequestHead;
use crate::message::accept::{Weight, weighted};
use crate::message::fields::list_items;

/// The coding of `ours` that the request's client likes best; of equals the first of `ours`. `None`: it
/// wants the body as it is, or has not said that it can read another.
pub fn choose(request: &RequestHead, head: &[u8], ours: &[Coding]) -> Option<Coding> {
    let named = |name: &'static [u8]| {
        let is_it = move |found: &[u8]| found.eq_ignore_ascii_case(name);
        let fields = request.fields.iter().filter(move |field| is_it(field.name.within(head)));
        fields.map(|field| field.value.within(head))
    };
    if named(b"cache-control").any(forbids) {
        return None;
    }
    best(named(b"accept-encoding"), ours)
}

/// As [`choose`], of the values of all Accept-Encoding fields.
pub fn best<'v>(values: impl Iterator<Item = &'v [u8]>, ours: &[Coding]) -> Option<Coding> {
    let mut weights: [Option<Weight>; Coding::ALL.len()] = [None; Coding::ALL.len()];
    let (mut rest, mut identity) = (None, None);
    for (name, weight) in weighted(values) {
        let place = match name {
            b"*" => &mut rest,
            name if name.eq_ignore_ascii_case(b"identity") => &mut identity,
            name => match coding(name) {
                Some(coding) => &mut weights[coding as usize],
                None => continue,
            },
        };
        // Of two that contradict each other, what surely can be read.
        *place = Some(place.map_or(weight, |former: Weight| former.min(weight)));
    }
    let weight_of = |coding: Coding| weights[coding as usize].or(rest).unwrap_or(0);
    let most = ours.iter().map(|coding| weight_of(*coding)).max().filter(|most| *most > 0)?;
    // Who likes it plain better, has said so.
    if identity.is_some_and(|identity| identity > most) {
        return None;
    }
    ours.iter().copied().find(|coding| weight_of(*coding) == most)
}

/// A coding by its name; `x-gzip` is the same as gzip (RFC 9110 section 8.4.1.3).
fn coding(name: &[u8]) -> Option<Coding> {
    if name.eq_ignore_ascii_case(b"x-gzip") {
        return Some(Coding::Gzip);
    }
    Coding::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.as_str().as_bytes()))
}

/// Whether a Cache-Control field's value says that nobody on the way may change the content, in either
/// direction (RFC 9111 sections 5.2.1.6 and 5.2.2.6).
pub fn forbids(value: &[u8]) -> bool {
    list_items(value).any(|item| item.eq_ignore_ascii_case(b"no-transform"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_decides_and_between_equals_the_gateway() {
        let ours = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
        for (value, wanted) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, br", Some(Coding::Brotli)),
            ("gzip;q=1.0, br;q=0.9", Some(Coding::Gzip)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("deflate", None),
            ("", None),
            ("identity", None),
            ("gzip;q=0", None),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.5, gzip", Some(Coding::Gzip)),
            ("*, zstd;q=0", Some(Coding::Brotli)),
            ("*;q=0", None),
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.5, identity;q=0.4", Some(Coding::Gzip)),
            ("gzip;q=0.5, identity;q=0.5", Some(Coding::Gzip)),
            ("gzip, gzip;q=0", None),
            ("gzip;q=2, br;q=0.1", Some(Coding::Brotli)),
            ("br;q=0.001", Some(Coding::Brotli)),
        ] {
            assert_eq!(best(std::iter::once(value.as_bytes()), &ours), wanted, "{value:?}");
        }
        assert_eq!(best(std::iter::empty(), &ours), None);
        assert_eq!(best([&b"gzip;q=0.1"[..], b"br;q=0.2"].into_iter(), &ours), Some(Coding::Brotli));
        assert_eq!(best(std::iter::once(&b"zstd"[..]), &[Coding::Gzip]), None);
    }
}
