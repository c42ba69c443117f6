//! Frame headers: one byte of type, four of length.
//!
//! Never allocates what a header promises; a length is judged as the signed number it is before it becomes a size.

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 5;

/// The longest message that PostgreSQL itself takes or sends (its `MaxAllocSize`), in bytes.
pub const FRAME_BYTES_MAX: usize = 0x3fff_ffff;

/// The longest message of a kind that never needs more, in bytes (PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`).
const SMALL_BYTES_MAX: usize = 10_000;

/// The longest password or token, in bytes (PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`).
const TOKEN_BYTES_MAX: usize = 65_535;

/// Who sent a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// What a frame's first five bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The type byte.
    pub kind: u8,
    /// The whole frame's size, header included.
    pub size: usize,
}

/// Bytes that begin no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length below 4, negative ones included, or more than that type of message may have.
    #[error("invalid message length {length} for message type {:?}", char::from(*kind))]
    Length {
        /// The type byte.
        kind: u8,
        /// The length as sent.
        length: i32,
    },
}

/// The header at the beginning of `bytes`; `None` while fewer than five are there.
#[inline]
pub fn header(bytes: &[u8], from: Peer) -> Result<Option<Header>, FrameError> {
    let Some(&[kind, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = i32::from_be_bytes([a, b, c, d]);
    let size = match usize::try_from(length) {
        Ok(length) if length >= 4 => length + 1,
        _ => return Err(FrameError::Length { kind, length }),
    };
    // Nearly all frames are smaller than any bound.
    if size > SMALL_BYTES_MAX && from == Peer::Client && size > client_bytes_max(kind) {
        return Err(FrameError::Length { kind, length });
    }
    Ok(Some(Header { kind, size }))
}

fn client_bytes_max(kind: u8) -> usize {
    match kind {
        b'Q' | b'P' | b'B' | b'F' | b'd' => FRAME_BYTES_MAX,
        b'p' => TOKEN_BYTES_MAX,
        _ => SMALL_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_judged_before_they_become_sizes() {
        let of = |kind: u8, length: i32| {
            let mut bytes = vec![kind];
            bytes.extend(length.to_be_bytes());
            header(&bytes, Peer::Client)
        };
        assert_eq!(of(b'Q', 4), Ok(Some(Header { kind: b'Q', size: 5 })));
        assert_eq!(of(b'Q', 0x3fff_fff0), Ok(Some(Header { kind: b'Q', size: 0x3fff_fff1 })));
        for (kind, length) in
            [(b'Q', 3), (b'Q', -1), (b'Q', i32::MIN), (b'Q', i32::MAX), (b'S', 20_000), (b'p', 70_000)]
        {
            assert_eq!(of(kind, length), Err(FrameError::Length { kind, length }));
        }
        assert_eq!(header(b"Q\0\0\0", Peer::Client), Ok(None));
        assert!(header(b"D\x7f\xff\xff\xff", Peer::Server).is_ok());
    }
}
