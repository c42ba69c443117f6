//! The messages of a SASL login.

use super::make::frame;
use super::read::c_string;

/// What an Authentication message (`R`) asks of the client or tells it, as far as we look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// It may choose one of these mechanisms.
    Sasl(&'a [u8]),
    /// SASL goes on, with the mechanism's own message.
    SaslContinue(&'a [u8]),
    /// SASL is done, with the mechanism's own message.
    SaslFinal(&'a [u8]),
    /// Anything else.
    Other,
}

/// Reads Authentication (`R`).
pub fn authentication(body: &[u8]) -> Authentication<'_> {
    match body.split_first_chunk::<4>() {
        Some(([0, 0, 0, 10], mechanisms)) => Authentication::Sasl(mechanisms),
        Some(([0, 0, 0, 11], data)) => Authentication::SaslContinue(data),
        Some(([0, 0, 0, 12], data)) => Authentication::SaslFinal(data),
        _ => Authentication::Other,
    }
}

/// The names in AuthenticationSASL.
pub fn sasl_mechanisms(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0).take_while(|name| !name.is_empty())
}

/// AuthenticationSASL with these mechanisms.
pub fn authentication_sasl<'a>(out: &mut Vec<u8>, mechanisms: impl Iterator<Item = &'a [u8]>) {
    frame(out, b'R', |out| {
        out.extend([0, 0, 0, 10]);
        for mechanism in mechanisms {
            out.extend(mechanism);
            out.push(0);
        }
        out.push(0);
    });
}

/// AuthenticationSASLFinal.
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    frame(out, b'R', |out| {
        out.extend([0, 0, 0, 12]);
        out.extend(data);
    });
}

/// The mechanism and the first message of SASLInitialResponse (`p`).
pub fn sasl_initial(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mechanism, rest) = c_string(body)?;
    let (length, data) = rest.split_first_chunk::<4>()?;
    (usize::try_from(i32::from_be_bytes(*length)) == Ok(data.len())).then_some((mechanism, data))
}

/// SASLInitialResponse.
pub fn sasl_initial_response(out: &mut Vec<u8>, mechanism: &[u8], data: &[u8]) {
    frame(out, b'p', |out| {
        out.extend(mechanism);
        out.push(0);
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(data);
    });
}

/// SASLResponse.
pub fn sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    frame(out, b'p', |out| out.extend(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sasl_messages_are_read_as_they_are_made() {
        let mut out = Vec::new();
        authentication_sasl(&mut out, [&b"A"[..], b"B"].into_iter());
        assert_eq!(authentication(&out[5..]), Authentication::Sasl(b"A\0B\0\0"));
        assert_eq!(sasl_mechanisms(b"A\0B\0\0").collect::<Vec<_>>(), [b"A", b"B"]);
        let mut out = Vec::new();
        sasl_initial_response(&mut out, b"A", b"data");
        assert_eq!(sasl_initial(&out[5..]), Some((&b"A"[..], &b"data"[..])));
        assert_eq!(sasl_initial(&out[5..out.len() - 1]), None);
        assert_eq!(sasl_initial(b"A\0\xff\xff\xff\xff"), None);
        assert_eq!(authentication(b"\0\0\0\0"), Authentication::Other);
        assert_eq!(authentication(b"\0\0"), Authentication::Other);
    }
}
