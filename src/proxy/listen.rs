//! The sockets that clients come by: made here, or taken from another process.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::ProxyConfig;

/// Connections that may wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

/// The proxy's listening sockets.
#[derive(Debug)]
pub struct Listeners {
    /// Over TCP.
    pub tcp: TcpListener,
    /// The Unix socket, where there is one.
    pub unix: Option<UnixListener>,
    /// The Unix socket's file, where it ends with this process.
    pub file: Option<PathBuf>,
}

impl Listeners {
    /// Takes the addresses of the configuration.
    pub fn bind(config: &ProxyConfig) -> io::Result<Listeners> {
        Ok(Listeners { tcp: bind_tcp(config)?, unix: bind_unix(config)?, file: config.listen_socket.clone() })
    }
}

/// Listens on the TCP address.
pub fn bind_tcp(config: &ProxyConfig) -> io::Result<TcpListener> {
    let domain = Domain::for_address(config.listen);
    let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&config.listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Listens on the Unix socket, where one is wanted. A file that nobody listens on any more is taken over.
pub fn bind_unix(config: &ProxyConfig) -> io::Result<Option<UnixListener>> {
    let Some(path) = &config.listen_socket else { return Ok(None) };
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if path.exists() && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).map_err(at)?;
    }
    let listener = UnixListener::bind(path).map_err(at)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(config.listen_socket_mode)).map_err(at)?;
    Ok(Some(listener))
}
