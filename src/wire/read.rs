//! Readers of the few messages that we look into. Each takes a frame's body, keeps its bytes, and is total.

/// The bytes up to a NUL, and what is behind it.
pub fn c_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// What a Parse message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// Its text.
    pub text: &'a [u8],
    /// The parameter types: a count and so many OIDs, as they were sent.
    pub types: &'a [u8],
}

/// Reads Parse (`P`).
pub fn parse_frame(body: &[u8]) -> Option<Parse<'_>> {
    let (name, rest) = c_string(body)?;
    let (text, types) = c_string(rest)?;
    let (count, oids) = types.split_first_chunk::<2>()?;
    // As PostgreSQL takes it: up to 65,535 parameters.
    let count = usize::from(u16::from_be_bytes(*count));
    (oids.len() == count * 4).then_some(Parse { name, text, types })
}

/// Reads Query (`Q`).
pub fn query_text(body: &[u8]) -> Option<&[u8]> {
    match c_string(body)? {
        (text, []) => Some(text),
        _ => None,
    }
}

/// The portal and the statement of Bind (`B`). Its values may be missing still: they are not looked at.
pub fn bind_names(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (portal, rest) = c_string(body)?;
    let (statement, _) = c_string(rest)?;
    Some((portal, statement))
}

/// What Describe (`D`) asks about: `S` or `P`, and its name.
pub fn describe_target(body: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, rest) = body.split_first()?;
    match c_string(rest)? {
        (name, []) if matches!(kind, b'S' | b'P') => Some((*kind, name)),
        _ => None,
    }
}

/// What Close (`C`) closes: `S` or `P`, and its name.
pub fn close_target(body: &[u8]) -> Option<(u8, &[u8])> {
    describe_target(body)
}

/// The portal of Execute (`E`).
pub fn execute_portal(body: &[u8]) -> Option<&[u8]> {
    match c_string(body)? {
        (portal, rest) if rest.len() == 4 => Some(portal),
        _ => None,
    }
}

/// The transaction status of ReadyForQuery (`Z`).
pub fn ready_status(body: &[u8]) -> Option<u8> {
    match body {
        [status @ (b'I' | b'T' | b'E')] => Some(*status),
        _ => None,
    }
}

/// The name and value of ParameterStatus (`S` from the server).
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = c_string(body)?;
    let (value, _) = c_string(rest)?;
    Some((name, value))
}

/// A field of ErrorResponse or NoticeResponse.
pub fn error_field(body: &[u8], code: u8) -> Option<&[u8]> {
    fields(body).find(|(field, _)| *field == code).map(|(_, value)| value)
}

/// The fields of ErrorResponse or NoticeResponse, in order.
pub(super) fn fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (code, after) = rest.split_first()?;
        if *code == 0 {
            return None;
        }
        let (value, after) = c_string(after)?;
        rest = after;
        Some((*code, value))
    })
}

/// Whether an ErrorResponse ends the session.
pub fn notice_is_fatal(body: &[u8]) -> bool {
    // `V` is never translated; servers before 9.6 send only `S`.
    let severity = error_field(body, b'V').or_else(|| error_field(body, b'S'));
    matches!(severity, Some(b"FATAL" | b"PANIC"))
}

/// The columns of DataRow (`D` from the server); `None` for NULL.
pub fn data_row(body: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..i16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        if length < 0 {
            columns.push(None);
            rest = after;
            continue;
        }
        columns.push(Some(after.get(..length as usize)?));
        rest = &after[length as usize..];
    }
    rest.is_empty().then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_parse_has_up_to_65535_types() {
        for count in [0, 1, 32_767, 32_768, u16::MAX] {
            let mut body = b"\0SELECT 1\0".to_vec();
            body.extend(count.to_be_bytes());
            body.extend(vec![0; usize::from(count) * 4]);
            assert_eq!(parse_frame(&body).map(|read| read.text), Some(&b"SELECT 1"[..]), "{count}");
        }
    }

    #[test]
    fn parse_keeps_name_text_and_types() {
        let read = parse_frame(b"s1\0SELECT \xff\0\0\x01\0\0\0\x17").unwrap();
        assert_eq!((read.name, read.text, read.types), (&b"s1"[..], &b"SELECT \xff"[..], &b"\0\x01\0\0\0\x17"[..]));
        for garbage in [&b""[..], b"s1", b"s1\0", b"s1\0x\0", b"s1\0x\0\0\x01", b"s1\0x\0\xff\xff", b"s1\0x\0\0\0\0"] {
            assert_eq!(parse_frame(garbage), None);
        }
    }

    #[test]
    fn a_bind_is_read_without_its_values() {
        assert_eq!(bind_names(b"\0s1\0\0\0"), Some((&b""[..], &b"s1"[..])));
        assert_eq!(bind_names(b"\0s1"), None);
    }

    #[test]
    fn rows_and_error_fields_are_read() {
        assert_eq!(data_row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"), Some(vec![Some(&b"a"[..]), None]));
        assert_eq!(data_row(b"\0\x02\0\0\0\x01a"), None);
        assert_eq!(error_field(b"SERROR\0VERROR\0C42P01\0\0", b'C'), Some(&b"42P01"[..]));
        assert!(notice_is_fatal(b"SFATAL\0\0") && !notice_is_fatal(b"SFATAL\0VERROR\0\0"));
    }

    proptest! {
        #[test]
        fn readers_are_total(body in proptest::collection::vec(any::<u8>(), 0..48)) {
            let _ = (parse_frame(&body), query_text(&body), bind_names(&body), describe_target(&body));
            let _ = (execute_portal(&body), ready_status(&body), parameter_status(&body), data_row(&body));
            let _ = (error_field(&body, b'C'), notice_is_fatal(&body), fields(&body).count());
            let _ = crate::wire::header(&body, crate::wire::Peer::Client);
            let _ = crate::wire::error_with(&body, &[(b'P', Some("7".to_owned())), (b'M', None)]);
        }
    }
}
