//! `crossfade run`: starts everything, and ends it when asked to.

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::args::Run;
use super::failure::Failure;
use super::{Exit, Outcome};
use crate::admin::Problem;
use crate::app::{App, Config, Ended, Running, limits, logging, notify};

/// Runs until SIGTERM or SIGINT, then lets sessions end; a second signal, or SIGQUIT, ends at once. SIGHUP reads the
/// configuration again.
pub(super) async fn run(run: Box<Run>) -> Outcome {
    let mut config = config(&run)?;
    let filter = logging::install(&config);
    limits::raise_descriptors(config.connections_max);
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut quit = signals(SignalKind::quit())?;
    let mut hangup = signals(SignalKind::hangup())?;
    let mut running = App::start(config.clone()).await?;
    notify::ready();
    loop {
        tokio::select! {
            ended = running.wait() => match ended {
                Ended::ByItself => return Err(Failure::failed(Problem::new("the proxy ended by itself; the log says why"))),
                Ended::Relieved => break info!("the last session is over, and another process has taken over"),
            },
            _ = terminate.recv() => break info!("SIGTERM: sessions may end"),
            _ = interrupt.recv() => break info!("SIGINT: sessions may end"),
            _ = quit.recv() => return cut("SIGQUIT"),
            _ = hangup.recv() => reload(&run, &mut config, &running, &filter),
        }
    }
    notify::stopping();
    tokio::select! {
        () = running.shutdown() => Ok(Exit::Done),
        _ = terminate.recv() => cut("a second signal"),
        _ = interrupt.recv() => cut("a second signal"),
        _ = quit.recv() => cut("SIGQUIT"),
    }
}

/// Takes over what can be of the configuration as it is now, and says what cannot. Mistakes leave everything as it was.
fn reload(run: &Run, config: &mut Config, running: &Running, filter: &logging::Filter) {
    notify::reloading();
    match self::config(run) {
        Ok(new) => {
            for option in config.needs_restart(&new) {
                warn!(option, "a changed option takes effect with the next start only");
            }
            running.reload(&new);
            filter.change(&new);
            // What takes effect with the next start only is told again the next time.
            config.take_reloaded(&new);
            info!("the configuration was read again");
        }
        Err(failure) => {
            failure.print(false);
            warn!("the configuration cannot be used; the earlier one stays in force");
        }
    }
    notify::ready();
}

fn cut(why: &str) -> Outcome {
    warn!(why, "sessions are cut");
    Ok(Exit::Failed)
}

fn signals(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(Problem::new(format!("listen for signals: {error}"))))
}

fn config(run: &Run) -> Result<Config, Failure> {
    let config = match &run.config {
        None => Config::default(),
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("the configuration file {name} cannot be read: {error}")))?;
            Config::from_toml(&text, &name).map_err(Failure::Mistakes)?
        }
    };
    Ok(config.with_flags(run.flags.clone()))
}
