//! The log: events of all rooms to standard error, for people or for machines.
//!
//! Installed once by the binary; tests and the demo do without.

use std::io::{self, IsTerminal};

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::config::{Config, LogFormat};

/// Begins to log as the configuration says. A second call changes nothing.
pub fn install(config: &Config) {
    // Checked when the option was read; the default stands for what cannot be.
    let filter: Targets = config.log.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match config.log_format {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Already installed: by whoever runs us inside his own process.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
