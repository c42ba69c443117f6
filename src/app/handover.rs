//! Listening sockets change hands: from a process that runs to the one that comes after it, so that no connection is
//! refused in between.
//!
//! The process that runs listens on a Unix socket that only its user may open. The next one connects, is given the
//! descriptors, gets ready, and says so; only then does the first one stop to accept. Whatever goes wrong before that
//! changes nothing for it. Both accept for a moment, from one queue.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::sync::watch;
use tracing::{info, warn};

use super::StartError;
use super::sockets::Given;

/// How long the next process may take until it is ready.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long either side may take for a word.
const WORD_TIMEOUT: Duration = Duration::from_secs(10);

/// What is said first, before the sockets' names.
const GREETING: &str = "crossfade 1";

/// What the next process says when it accepts connections.
const READY: &[u8; 6] = b"ready\n";

/// The most sockets that change hands.
const SOCKETS_MAX: usize = 8;

/// The process before this one, while it waits for us to be ready.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// Asks the process that listens at `path` for its sockets; `None` where there is none.
    pub fn ask(path: &Path) -> Result<Option<(Predecessor, Given)>, StartError> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(path, &error)),
        };
        let given = receive(&stream).map_err(|error| failed(path, &error))?;
        info!(handover = %path.display(), "another process gave its listening sockets");
        Ok(Some((Predecessor { stream }, given)))
    }

    /// Says that this process accepts connections; returns when the other one does not any more.
    pub fn relieve(mut self) -> io::Result<()> {
        self.stream.write_all(READY)?;
        // It closes its end when it has stopped.
        self.stream.read_to_end(&mut Vec::new()).map(drop)
    }
}

fn failed(path: &Path, error: &io::Error) -> StartError {
    StartError::usage(
        "the listening sockets cannot be taken over",
        format!("The process that listens at {} did not hand them over: {error}.", path.display()),
        "Look into its log; without it, remove the file, or choose another one with --handover.",
    )
}

fn receive(stream: &UnixStream) -> io::Result<Given> {
    stream.set_read_timeout(Some(WORD_TIMEOUT))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 256];
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    let text = std::str::from_utf8(&text[..received.bytes]).unwrap_or_default();
    let names = text.strip_prefix(GREETING).and_then(|names| names.strip_suffix('\n'));
    let names: Vec<&str> = names.unwrap_or_default().split_whitespace().collect();
    if names.is_empty() || names.len() != sockets.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it said something else than expected"));
    }
    // The rest may take as long as the other process needs to stop.
    stream.set_read_timeout(Some(READY_TIMEOUT))?;
    let mut given = Given::default();
    names.into_iter().zip(sockets).for_each(|(name, socket)| given.take(name, socket));
    Ok(given)
}

/// Where the next process asks for the sockets. Its file stays when the process ends: nobody answers there then.
#[derive(Debug)]
pub(super) struct Offer {
    listener: UnixListener,
    path: PathBuf,
    sockets: Vec<(&'static str, OwnedFd)>,
}

impl Offer {
    /// Listens at `path`, in place of the process before this one. Only this user may connect.
    pub fn new(path: &Path, sockets: Vec<(&'static str, OwnedFd)>) -> io::Result<Offer> {
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new, path)?;
        listener.set_nonblocking(true)?;
        Ok(Offer { listener, path: path.to_owned(), sockets })
    }

    /// Hands the sockets over to whoever asks, until one of them is ready: then `released` says true.
    pub async fn run(self, released: watch::Sender<bool>) {
        let listener = match tokio::net::UnixListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return warn!(%error, "no socket can be handed over"),
        };
        let sockets = std::sync::Arc::new(self.sockets);
        loop {
            let stream = match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept the next process");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let (sockets, released) = (sockets.clone(), released.clone());
            let given = tokio::task::spawn_blocking(move || give(stream, &sockets, &released)).await;
            match given {
                Ok(Ok(())) => {
                    info!(handover = %self.path.display(), "the listening sockets were handed over");
                    return;
                }
                Ok(Err(error)) => warn!(%error, "the listening sockets were not handed over"),
                Err(error) => warn!(%error, "the listening sockets were not handed over"),
            }
        }
    }
}

fn give(mut stream: UnixStream, sockets: &[(&str, OwnedFd)], released: &watch::Sender<bool>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WORD_TIMEOUT))?;
    stream.set_read_timeout(Some(READY_TIMEOUT))?;
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    let text = format!("{GREETING} {}\n", names.join(" "));
    let descriptors: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("too many sockets"));
    }
    sendmsg(&stream, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::empty())?;
    let mut word = [0; READY.len()];
    stream.read_exact(&mut word)?;
    if &word != READY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the next process said something else than expected"));
    }
    released.send_replace(true);
    Ok(())
}
