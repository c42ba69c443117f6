//! The messages that we make ourselves. Each is appended to a buffer.

use super::read::fields;
use crate::schema::Refusal;

/// Appends one frame whose body `body` writes.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let length_at = out.len();
    out.extend([0; 4]);
    body(out);
    // What we make is far below the limit: texts of clients are bounded before they are rewritten.
    let length = i32::try_from(out.len() - length_at).unwrap_or(i32::MAX);
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}

/// A string and its NUL. A NUL inside would end it early, and is left out.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().filter(|byte| **byte != 0));
    out.push(0);
}

/// ErrorResponse that fails the statement. `position` counts characters of the client's text, from 1.
pub fn error_response(out: &mut Vec<u8>, refusal: &Refusal, position: Option<usize>) {
    report(out, b'E', "ERROR", refusal, position);
}

/// ErrorResponse that ends the session.
pub fn fatal_response(out: &mut Vec<u8>, refusal: &Refusal) {
    report(out, b'E', "FATAL", refusal, None);
}

fn report(out: &mut Vec<u8>, kind: u8, severity: &str, refusal: &Refusal, position: Option<usize>) {
    frame(out, kind, |out| {
        let position = position.map(|position| position.to_string());
        let fields = [
            (b'S', Some(severity)),
            (b'V', Some(severity)),
            (b'C', Some(refusal.state.0)),
            (b'M', Some(refusal.message.as_str())),
            (b'D', refusal.detail.as_deref()),
            (b'H', refusal.hint.as_deref()),
            (b'P', position.as_deref()),
        ];
        for (code, value) in fields {
            if let Some(value) = value {
                out.push(code);
                string(out, value.as_bytes());
            }
        }
        out.push(0);
    });
}

/// NoticeResponse of severity WARNING.
pub fn notice_response(out: &mut Vec<u8>, message: &str) {
    frame(out, b'N', |out| {
        for (code, value) in [(b'S', "WARNING"), (b'V', "WARNING"), (b'C', "01000"), (b'M', message)] {
            out.push(code);
            string(out, value.as_bytes());
        }
        out.push(0);
    });
}

/// The body of an ErrorResponse as a whole frame, each of these fields with another text, or left out for `None`.
///
/// A field that the server did not send is not added.
pub fn error_with(body: &[u8], changes: &[(u8, Option<String>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 16);
    frame(&mut out, b'E', |out| {
        for (code, value) in fields(body) {
            let change = changes.iter().find(|(changed, _)| *changed == code);
            let value = match change {
                Some((_, None)) => continue,
                Some((_, Some(text))) => text.as_bytes(),
                None => value,
            };
            out.push(code);
            string(out, value);
        }
        out.push(0);
    });
    out
}

/// The error of this body with one more field: a hint.
pub fn error_with_hint(body: &[u8], hint: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + hint.len() + 16);
    frame(&mut out, b'E', |out| {
        for (code, value) in fields(body).filter(|(code, _)| *code != b'H').chain([(b'H', hint.as_bytes())]) {
            out.push(code);
            string(out, value);
        }
        out.push(0);
    });
    out
}

/// ReadyForQuery.
pub fn ready_for_query(out: &mut Vec<u8>, status: u8) {
    frame(out, b'Z', |out| out.push(status));
}

/// Query.
pub fn query(out: &mut Vec<u8>, text: &[u8]) {
    frame(out, b'Q', |out| string(out, text));
}

/// Parse, with the parameter types as a client's own Parse had them.
pub fn parse(out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u8]) {
    frame(out, b'P', |out| {
        string(out, name);
        string(out, text);
        out.extend(types);
    });
}

/// Bind of a statement to a portal, with one text value for each parameter, all results as text.
pub fn bind_text(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], values: &[&[u8]]) {
    frame(out, b'B', |out| {
        string(out, portal);
        string(out, statement);
        out.extend([0, 0]);
        out.extend((values.len() as u16).to_be_bytes());
        for value in values {
            out.extend((value.len() as u32).to_be_bytes());
            out.extend(*value);
        }
        out.extend([0, 0]);
    });
}

/// Describe of a portal.
pub fn describe_portal(out: &mut Vec<u8>, portal: &[u8]) {
    frame(out, b'D', |out| {
        out.push(b'P');
        string(out, portal);
    });
}

/// Execute of a portal to its end.
pub fn execute_all(out: &mut Vec<u8>, portal: &[u8]) {
    frame(out, b'E', |out| {
        string(out, portal);
        out.extend([0; 4]);
    });
}

/// Close of a prepared statement.
pub fn close_statement(out: &mut Vec<u8>, name: &[u8]) {
    frame(out, b'C', |out| {
        out.push(b'S');
        string(out, name);
    });
}

/// Close of a portal.
pub fn close_portal(out: &mut Vec<u8>, name: &[u8]) {
    frame(out, b'C', |out| {
        out.push(b'P');
        string(out, name);
    });
}

/// Flush.
pub fn flush(out: &mut Vec<u8>) {
    frame(out, b'H', |_| {});
}

/// Sync.
pub fn sync(out: &mut Vec<u8>) {
    frame(out, b'S', |_| {});
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Peer, error_field, header, parse_frame};

    #[test]
    fn what_we_make_can_be_read() {
        let mut out = Vec::new();
        error_response(&mut out, &Refusal::unsupported("cannot do that").detail("Why.\0x").hint("Do."), Some(7));
        let read = header(&out, Peer::Server).unwrap().unwrap();
        assert_eq!((read.kind, read.size), (b'E', out.len()));
        assert_eq!(error_field(&out[5..], b'P'), Some(&b"7"[..]));
        assert_eq!(error_field(&out[5..], b'D'), Some(&b"Why.x"[..]));
        let moved = error_with(&out[5..], &[(b'P', Some("99".to_owned()))]);
        assert_eq!(error_field(&moved[5..], b'P'), Some(&b"99"[..]));
        assert_eq!(error_field(&moved[5..], b'H'), Some(&b"Do."[..]));
    }

    #[test]
    fn a_parse_keeps_the_clients_types() {
        let mut out = Vec::new();
        parse(&mut out, b"s", b"SELECT $1", b"\0\x01\0\0\0\x17");
        assert_eq!(parse_frame(&out[5..]).unwrap().types, b"\0\x01\0\0\0\x17");
    }
}
