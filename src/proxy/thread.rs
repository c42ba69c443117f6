//! One thread: its runtime, its rules, and a task for each of its sessions.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use tokio::io::AsyncWriteExt;
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, error};

use super::ProxyConfig;
use super::background::Background;
use super::host::ThreadHost;
use super::hosts::Roles;
use super::limits::Limits;
use super::login::{self, Means, Verifiers};
use super::relay::Relay;
use super::socket::{Accepted, Socket};
use super::startup::{self, Failure, Opening};
use super::tls::Tls;
use super::upstream::Candidates;
use crate::control::live::Live;
use crate::control::traffic::Shard;
use crate::migration::Bucket;
use crate::schema::{Refusal, SqlState};
use crate::session::{Host as _, Out, Session, SessionConfig};
use crate::wire;

/// How long a new session waits for a proxy that has just started to know its rules.
const READY_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// How often it looks.
const READY_POLL: std::time::Duration = std::time::Duration::from_millis(10);

/// How often a thread on which no transaction may begin looks whether that lasts too long.
const HOLD_POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// How long that may last, as a multiple of what the coordinator grants itself, and at least.
const HOLD_PATIENCE_FACTOR: u32 = 5;
const HOLD_PATIENCE_MIN: std::time::Duration = std::time::Duration::from_secs(2);
/// How often idle clients are looked for.
pub(super) const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// What is read at once, in bytes. Larger than what a socket usually has, so that a read is short and no second one
/// is needed to learn that there is nothing more; a result of 100 KB passes in one piece where it has come whole.
const SCRATCH_BYTES: usize = 256 * 1024;

/// A connection on its way from the acceptor to a thread.
#[derive(Debug)]
pub(super) struct Handed {
    pub socket: Accepted,
    pub counted: Counted,
    /// There are too many already: the client is told so.
    pub refused: bool,
}

/// Counts one session of a thread for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub fn new(sessions: &Arc<AtomicUsize>) -> Counted {
        sessions.fetch_add(1, Ordering::Relaxed);
        Counted(sessions.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all threads of a proxy share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub config: Arc<ProxyConfig>,
    pub live: Arc<Live>,
    pub tls: Arc<Tls>,
    pub verifiers: Option<Arc<dyn Verifiers>>,
    pub roles: Option<Arc<dyn Roles>>,
    pub limits: Arc<Limits>,
    pub background: Background,
}

/// What all sessions of one thread use in turn.
#[derive(Debug)]
pub(super) struct Hot {
    pub scratch: Box<[u8]>,
    pub out: Out,
    pub host: ThreadHost,
}

/// What the tasks of one thread share.
#[derive(Debug)]
pub(super) struct Thread {
    live: Arc<Live>,
    pub config: Arc<ProxyConfig>,
    tls: Arc<Tls>,
    verifiers: Option<Arc<dyn Verifiers>>,
    roles: Option<Arc<dyn Roles>>,
    pub limits: Arc<Limits>,
    pub background: Background,
    /// Sweeps so far, one per second while there is a limit to idle clients.
    pub sweeps: Cell<u32>,
    pub hot: RefCell<Hot>,
    /// Sessions end as soon as they are idle.
    pub draining: Cell<bool>,
    /// How to wake each session that is relaying.
    relaying: RefCell<HashMap<u64, Waker>>,
    sessions: Cell<usize>,
    ended: Notify,
}

/// Runs a thread until its sessions have ended after `shutdown`.
pub(super) fn run(shared: Shared, shard: Arc<Shard>, handed: mpsc::Receiver<Handed>, shutdown: watch::Receiver<bool>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return error!(%error, "cannot start a proxy thread"),
    };
    let Shared { config, live, tls, verifiers, roles, limits, background } = shared;
    let mut rules = live.subscribe();
    let first = rules.borrow_and_update().clone();
    let host = ThreadHost::new(live.clone(), shard, first, config.plan_cache_bytes_max);
    let hot = Hot { scratch: vec![0; SCRATCH_BYTES].into(), out: Out::new(), host };
    let thread = Rc::new(Thread {
        live,
        config,
        tls,
        verifiers,
        roles,
        limits,
        background,
        sweeps: Cell::new(0),
        hot: RefCell::new(hot),
        draining: Cell::new(false),
        relaying: RefCell::default(),
        sessions: Cell::new(0),
        ended: Notify::new(),
    });
    let served = runtime.spawn_local(serve(thread, handed, rules, shutdown));
    if let Err(error) = runtime.block_on(served) {
        error!(%error, "a proxy thread ended");
    }
}

async fn serve(
    thread: Rc<Thread>,
    mut handed: mpsc::Receiver<Handed>,
    mut rules: watch::Receiver<Arc<crate::migration::Rules>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut number = 0;
    let mut grace_ends = None;
    let hold_patience = (thread.config.hold_max * HOLD_PATIENCE_FACTOR).max(HOLD_PATIENCE_MIN);
    let mut hold_poll = thread.background.interval(HOLD_POLL);
    let mut sweep = thread.background.interval(SWEEP_EVERY);
    loop {
        let holds = thread.hot.borrow().host.holds();
        let grace = async {
            match grace_ends {
                Some(at) => thread.background.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(new) = handed.recv() => {
                number += 1;
                thread.begin(new, number);
            }
            Ok(()) = rules.changed() => {
                let rules = rules.borrow_and_update().clone();
                thread.change(|host| host.swap(rules));
            }
            _ = hold_poll.tick(), if holds => thread.change(|host| host.limit_hold(hold_patience)),
            _ = shutdown.wait_for(|ends| *ends), if grace_ends.is_none() => {
                grace_ends = Some(Instant::now() + thread.config.shutdown_grace);
                thread.drain();
            }
            _ = sweep.tick() => thread.sweep(),
            () = thread.ended.notified(), if grace_ends.is_some() => {}
            () = grace => return,
        }
        if grace_ends.is_some() && thread.sessions.get() == 0 {
            return;
        }
    }
}

impl Thread {
    fn begin(self: &Rc<Self>, new: Handed, number: u64) {
        let thread = self.clone();
        self.sessions.set(self.sessions.get() + 1);
        self.hot.borrow().host.shard().session_opened();
        tokio::task::spawn_local(async move {
            // Counts down also when the session panics.
            let running = Running { thread: thread.clone(), number, _counted: new.counted };
            // A session's cold beginning is boxed, so that an idle session's task is small.
            let opened = Box::pin(open(&thread, new.socket, new.refused)).await;
            if let Some(mut relay) = opened {
                std::future::poll_fn(|cx| relay.poll(cx, &thread, number)).await;
                if relay.needs_farewell() {
                    Box::pin(relay.farewell(&thread)).await;
                }
            }
            drop(running);
        });
    }

    /// Changes what the sessions see of the world; wakes them where transactions may begin again.
    fn change(&self, change: impl FnOnce(&mut ThreadHost)) {
        let mut hot = self.hot.borrow_mut();
        let held = hot.host.holds();
        change(&mut hot.host);
        let released = held && !hot.host.holds();
        drop(hot);
        if released {
            self.wake_all();
        }
    }

    fn drain(&self) {
        self.draining.set(true);
        self.wake_all();
    }

    fn wake_all(&self) {
        for waker in self.relaying.borrow().values() {
            waker.wake_by_ref();
        }
    }

    /// Lets every session look how long its client has been idle, where there is a limit to that.
    fn sweep(&self) {
        if self.limits.idle_transaction().is_none() && self.limits.idle_session().is_none() {
            return;
        }
        self.sweeps.set(self.sweeps.get().wrapping_add(1));
        for waker in self.relaying.borrow().values() {
            waker.wake_by_ref();
        }
    }

    /// Remembers how to wake a session. Called once per session.
    pub fn register(&self, number: u64, waker: &Waker) {
        self.relaying.borrow_mut().insert(number, waker.clone());
    }
}

struct Running {
    thread: Rc<Thread>,
    number: u64,
    _counted: Counted,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.thread.relaying.borrow_mut().remove(&self.number);
        self.thread.sessions.set(self.thread.sessions.get() - 1);
        if let Ok(hot) = self.thread.hot.try_borrow() {
            hot.host.shard().session_closed();
        }
        self.thread.ended.notify_one();
    }
}

/// From a socket to a session whose login is done.
async fn open(thread: &Rc<Thread>, socket: Accepted, refused: bool) -> Option<Box<Relay>> {
    let deadline = Instant::now() + thread.config.startup_timeout;
    let mut client = match socket.into_socket(&thread.config.client_keepalive) {
        Ok(client) => client,
        Err(error) => {
            debug!(%error, "a client went away");
            return None;
        }
    };
    let begun = thread.background.timeout_at(deadline, begin_session(thread, &mut client, refused)).await;
    let failure = match begun {
        Ok(Ok(Some((server, session)))) => {
            let mut relay = Box::new(Relay::new(client, server, session));
            let login = std::future::poll_fn(|cx| relay.poll_login(cx, thread));
            return match thread.background.timeout_at(deadline, login).await {
                Ok(false) => Some(relay),
                Ok(true) => {
                    if relay.needs_farewell() {
                        relay.farewell(thread).await;
                    }
                    None
                }
                Err(_) => {
                    relay.give_up(thread, &too_slow()).await;
                    None
                }
            };
        }
        Ok(Ok(None)) => return None,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::Refused(too_slow()),
    };
    match failure {
        Failure::Refused(refusal) => {
            let mut bytes = Vec::new();
            wire::fatal_response(&mut bytes, &refusal);
            let _ = client.write_all(&bytes).await;
            let _ = client.shutdown().await;
        }
        Failure::Io(error) => debug!(%error, "a client went away"),
    }
    None
}

fn too_slow() -> Refusal {
    Refusal::new(SqlState("08006"), "login took too long")
        .hint("The time that a login may take is the proxy's setting \"startup_timeout\".")
}

/// Nothing passes before the rules are known: a session could not tell which tables are under migration. That takes a
/// moment after the start, so clients wait for it rather than fail.
async fn until_ready(live: &Live, background: &Background) -> Result<(), Failure> {
    let deadline = Instant::now() + READY_WAIT_MAX;
    while !live.is_ready() {
        if Instant::now() > deadline {
            let refusal = Refusal::new(SqlState::CANNOT_CONNECT_NOW, "the proxy does not know its rules yet")
                .detail("It reads them from the schema crossfade of the database at its start.")
                .hint("Try again; if it stays so, the proxy's log and its /readyz say why.");
            return Err(Failure::Refused(refusal));
        }
        background.sleep(READY_POLL).await;
    }
    Ok(())
}

async fn begin_session(
    thread: &Thread,
    client: &mut Socket,
    refused: bool,
) -> Result<Option<(Socket, Session)>, Failure> {
    let config = &thread.config;
    let means = Means {
        config,
        tls: &thread.tls,
        verifiers: thread.verifiers.as_ref(),
        roles: thread.roles.as_ref(),
        background: &thread.background,
    };
    let (packet, shape, under_rules, walsender) = match startup::opening(client, config, &thread.tls).await? {
        Opening::Cancel { packet } => return startup::cancel(&packet, means).await.map(|()| None),
        Opening::Session { packet, shape, under_rules, walsender } => (packet, shape, under_rules, walsender),
    };
    if refused {
        let full = Refusal::new(SqlState::TOO_MANY_CONNECTIONS, "too many connections to the proxy")
            .hint("The limit is the proxy's setting \"connections_max\".");
        return Err(Failure::Refused(full));
    }
    if thread.draining.get() {
        return Err(Failure::Refused(super::relay::shutting_down()));
    }
    if !thread.live.is_ready() {
        // A server that is down is said at once, and not after the wait.
        drop(Candidates::new(means).next().await?);
        until_ready(&thread.live, &thread.background).await?;
    }
    let server = login::begin(client, &packet, means).await?;
    let bucket = Bucket::of(rand::random());
    let held_bytes_max = config.message_bytes_max;
    Ok(Some((
        server,
        Session::new(SessionConfig { bucket, shape, under_rules, walsender, pooled: config.pooled, held_bytes_max }),
    )))
}
