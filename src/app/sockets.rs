//! The listening sockets of a process: handed over by another one, given by the service manager, or made here.
//!
//! A socket that was handed over is used where its address is the one that is wanted; else a new one is made.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use tracing::info;

use super::StartError;
use super::config::Config;
use crate::proxy::{Listeners, ProxyConfig, bind_tcp, bind_unix};

/// All listening sockets of a process.
#[derive(Debug)]
pub(super) struct Sockets {
    pub clients: Listeners,
    pub admin: TcpListener,
}

/// What a process may be given.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub tcp: Option<TcpListener>,
    pub unix: Option<UnixListener>,
    pub admin: Option<TcpListener>,
    /// By the service manager, to whom the Unix socket's file belongs.
    by_manager: bool,
}

impl Sockets {
    /// Takes what is given, and makes the rest.
    pub fn new(config: &Config, proxy: &ProxyConfig, given: Given) -> Result<Sockets, StartError> {
        let wanted = |socket: &TcpListener, address: SocketAddr| {
            given.by_manager || socket.local_addr().is_ok_and(|has| has == address || address.port() == 0)
        };
        let tcp = match given.tcp.filter(|socket| wanted(socket, config.listen)) {
            Some(socket) => socket,
            None => bind_tcp(proxy).map_err(super::listening("listen", config.listen))?,
        };
        let has_path = |socket: &UnixListener| {
            let address = socket.local_addr();
            given.by_manager
                || address
                    .is_ok_and(|has| has.as_pathname().is_some() && has.as_pathname() == proxy.listen_socket.as_deref())
        };
        let unix = match given.unix.filter(has_path) {
            Some(socket) => Some(socket),
            None => bind_unix(proxy).map_err(no_unix_socket)?,
        };
        let admin = match given.admin.filter(|socket| wanted(socket, config.admin)) {
            Some(socket) => socket,
            None => TcpListener::bind(config.admin).map_err(super::listening("admin", config.admin))?,
        };
        admin.set_nonblocking(true).map_err(super::listening("admin", config.admin))?;
        let file = proxy.listen_socket.clone().filter(|_| !given.by_manager);
        Ok(Sockets { clients: Listeners { tcp, unix, file }, admin })
    }

    /// The same sockets once more, for whoever comes after this process: descriptors and what each is for.
    pub fn copies(&self) -> io::Result<Vec<(&'static str, OwnedFd)>> {
        let mut copies = vec![
            (LISTEN, OwnedFd::from(self.clients.tcp.try_clone()?)),
            (ADMIN, OwnedFd::from(self.admin.try_clone()?)),
        ];
        if let Some(unix) = &self.clients.unix {
            copies.push((UNIX, OwnedFd::from(unix.try_clone()?)));
        }
        Ok(copies)
    }
}

/// What sockets are for, as it is said where they change hands.
const LISTEN: &str = "listen";
const UNIX: &str = "unix";
const ADMIN: &str = "admin";

impl Given {
    /// Puts a socket to its place; what is for nothing that we know is closed.
    pub fn take(&mut self, what: &str, socket: OwnedFd) {
        match what {
            LISTEN => self.tcp = Some(socket.into()),
            UNIX => self.unix = Some(socket.into()),
            ADMIN => self.admin = Some(socket.into()),
            _ => {}
        }
    }

    /// What the service manager gives (`LISTEN_FDS`): by name (`FileDescriptorName=` listen, unix, admin), else the first
    /// TCP socket is for clients and the second for the admin port.
    pub fn by_manager() -> Result<Given, StartError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut sockets = ListenFd::from_env();
        let mut given = Given { by_manager: sockets.len() > 0, ..Given::default() };
        for number in 0..sockets.len() {
            let wrong = |error: io::Error| {
                StartError::usage(
                    "a socket that the service manager gave cannot be used",
                    format!("Socket {number}: {error}."),
                    "Give listening TCP sockets (ListenStream=) named listen and admin, and a Unix socket named unix.",
                )
            };
            if let Ok(Some(unix)) = sockets.take_unix_listener(number) {
                given.unix = Some(unix);
                continue;
            }
            let socket = sockets.take_tcp_listener(number).map_err(wrong)?;
            let is_admin = match names.get(number) {
                Some(&ADMIN) => true,
                Some(&LISTEN) => false,
                Some(_) | None => given.tcp.is_some(),
            };
            let place = if is_admin { &mut given.admin } else { &mut given.tcp };
            *place = socket;
        }
        if given.by_manager {
            info!(sockets = sockets.len(), "the service manager gave listening sockets");
        }
        Ok(given)
    }
}

fn no_unix_socket(error: io::Error) -> StartError {
    StartError::usage(
        "the Unix socket cannot be listened on",
        format!("The operating system says: {error}."),
        "Choose another folder with --unix-socket-directory, or stop what listens there.",
    )
}
