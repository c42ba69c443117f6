//! `crossfade run`: starts everything, and ends it when asked to.

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::args::Run;
use super::failure::Failure;
use super::{Exit, Outcome};
use crate::admin::Problem;
use crate::app::{App, Config, logging};

/// Runs until SIGTERM or SIGINT, then lets sessions end; a second signal ends at once.
pub(super) async fn run(run: Box<Run>) -> Outcome {
    let config = config(*run)?;
    logging::install(&config);
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut running = App::start(config).await?;
    tokio::select! {
        () = running.wait() => return Err(Failure::failed(Problem::new("the proxy ended by itself; the log says why"))),
        _ = terminate.recv() => info!("SIGTERM: sessions may end"),
        _ = interrupt.recv() => info!("SIGINT: sessions may end"),
    }
    tokio::select! {
        () = running.shutdown() => Ok(Exit::Done),
        _ = terminate.recv() => cut(),
        _ = interrupt.recv() => cut(),
    }
}

fn cut() -> Outcome {
    warn!("a second signal: sessions are cut");
    Ok(Exit::Failed)
}

fn signals(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(Problem::new(format!("listen for signals: {error}"))))
}

fn config(run: Run) -> Result<Config, Failure> {
    let config = match &run.config {
        None => Config::default(),
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("the configuration file {name} cannot be read: {error}")))?;
            Config::from_toml(&text, &name).map_err(Failure::Mistakes)?
        }
    };
    Ok(config.with_flags(run.flags))
}
