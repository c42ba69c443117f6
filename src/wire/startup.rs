//! The first packet of a connection, which has no type byte.
//!
//! The parameters keep their order, duplicates and bytes: the packet goes on as it came.

use super::read::c_string;

/// The longest first packet, in bytes (PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// SSLRequest, whole.
pub const SSL_REQUEST_PACKET: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What a client opens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Startup<'a> {
    /// It asks for TLS.
    Ssl,
    /// It asks for GSSAPI encryption.
    Gss,
    /// It cancels a statement of another connection; the packet goes to the server as it is.
    Cancel,
    /// It opens a session.
    Session(StartupParameters<'a>),
}

/// The parameters of a session's first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartupParameters<'a> {
    /// The protocol's minor version.
    pub minor: u16,
    pairs: &'a [u8],
}

/// Why bytes are no first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// Its length is out of bounds.
    #[error("invalid length of startup packet")]
    Length,
    /// Its version is none that we know.
    #[error("unsupported frontend protocol {0}.{1}: server supports 3.0 to 3.2")]
    Version(u16, u16),
    /// Its parameters are not pairs of strings with an end.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
}

impl<'a> StartupParameters<'a> {
    /// All parameters, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.pairs;
        std::iter::from_fn(move || {
            let (name, after) = c_string(rest)?;
            let (value, after) = c_string(after)?;
            rest = after;
            (!name.is_empty()).then_some((name, value))
        })
    }

    /// The value of a parameter: the last one counts, as in PostgreSQL.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().filter(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value).last()
    }
}

/// The first packet at the beginning of `bytes` with its size; `None` while it is not whole.
pub fn startup(bytes: &[u8]) -> Result<Option<(Startup<'_>, usize)>, StartupError> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let size = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| StartupError::Length)?;
    if !(8..=STARTUP_BYTES_MAX).contains(&size) {
        return Err(StartupError::Length);
    }
    let Some(packet) = bytes.get(..size) else { return Ok(None) };
    let Some((code, body)) = packet[4..].split_first_chunk::<4>() else { return Err(StartupError::Length) };
    let packet = match (u32::from_be_bytes(*code), body.len()) {
        (SSL_REQUEST, 0) => Startup::Ssl,
        (GSS_REQUEST, 0) => Startup::Gss,
        // A process id and a key of up to 256 bytes.
        (CANCEL_REQUEST, 5..=260) => Startup::Cancel,
        (SSL_REQUEST | GSS_REQUEST | CANCEL_REQUEST, _) => return Err(StartupError::Length),
        (version, _) => session(version, body)?,
    };
    Ok(Some((packet, size)))
}

fn session(version: u32, body: &[u8]) -> Result<Startup<'_>, StartupError> {
    let (major, minor) = ((version >> 16) as u16, version as u16);
    // A higher minor version is negotiated down by the server itself.
    if major != 3 {
        return Err(StartupError::Version(major, minor));
    }
    let mut rest = body;
    loop {
        let (name, after) = c_string(rest).ok_or(StartupError::Layout)?;
        if name.is_empty() {
            return match after {
                [] => Ok(Startup::Session(StartupParameters { minor, pairs: body })),
                _ => Err(StartupError::Layout),
            };
        }
        let (_, after) = c_string(after).ok_or(StartupError::Layout)?;
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend(code.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn parameters_keep_order_and_duplicates_and_the_last_counts() {
        let bytes = packet(0x0003_0002, b"user\0a\0options\0-c x=1\0user\0b\0\0");
        let Ok(Some((Startup::Session(parameters), size))) = startup(&bytes) else { panic!("no session") };
        assert_eq!((size, parameters.minor), (bytes.len(), 2));
        assert_eq!(parameters.iter().count(), 3);
        assert_eq!(parameters.value("user"), Some(&b"b"[..]));
        assert_eq!(parameters.value("database"), None);
    }

    #[test]
    fn packets_that_are_none_are_told() {
        assert_eq!(startup(&SSL_REQUEST_PACKET), Ok(Some((Startup::Ssl, 8))));
        assert_eq!(startup(&packet(SSL_REQUEST, b"")), Ok(Some((Startup::Ssl, 8))));
        assert_eq!(startup(&packet(GSS_REQUEST, b"")), Ok(Some((Startup::Gss, 8))));
        assert_eq!(startup(&packet(CANCEL_REQUEST, &[0; 8])), Ok(Some((Startup::Cancel, 16))));
        assert_eq!(startup(&packet(CANCEL_REQUEST, &[0; 300])), Err(StartupError::Length));
        assert_eq!(startup(&packet(SSL_REQUEST, b"x")), Err(StartupError::Length));
        assert_eq!(startup(&packet(0x0002_0000, b"")), Err(StartupError::Version(2, 0)));
        assert_eq!(startup(&packet(0x0003_0000, b"user\0a")), Err(StartupError::Layout));
        assert_eq!(startup(&packet(0x0003_0000, b"user\0a\0\0x")), Err(StartupError::Layout));
        assert_eq!(startup(b"GET / HTTP/1.1\r\n\r\n"), Err(StartupError::Length));
        assert_eq!(startup(&(-1i32).to_be_bytes()), Err(StartupError::Length));
        assert_eq!(startup(&[0, 0, 0]), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn startup_is_total(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), code in 0u32..4) {
            let _ = startup(&bytes);
            let code = [0x0003_0000, 0x0003_0002, CANCEL_REQUEST, SSL_REQUEST][code as usize];
            if let Ok(Some((Startup::Session(parameters), _))) = startup(&packet(code, &bytes)) {
                assert!(parameters.iter().count() <= bytes.len());
            }
        }
    }
}
