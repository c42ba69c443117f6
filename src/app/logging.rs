//! The log: events of all rooms to standard error, for people or for machines.
//!
//! Installed once by the binary; tests and the demo do without.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use super::config::{Config, LogFormat};

/// What is logged, to be changed while the process runs.
#[derive(Debug)]
pub struct Filter(reload::Handle<Targets, Registry>);

impl Filter {
    /// Logs what this configuration says from now on.
    pub fn change(&self, config: &Config) {
        // It fails where another subscriber was installed than ours.
        let _ = self.0.reload(filter(config));
    }
}

fn filter(config: &Config) -> Targets {
    // Checked when the option was read; the default stands for what cannot be.
    config.log.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO))
}

/// Begins to log as the configuration says. A second call changes nothing.
pub fn install(config: &Config) -> Filter {
    let (filter, handle) = reload::Layer::new(filter(config));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match config.log_format {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Already installed: by whoever runs us inside his own process.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Filter(handle)
}
