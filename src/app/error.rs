//! Why a process did not start, said as what happened, why, and what to do.

use std::io;
use std::net::SocketAddr;

use crate::migration::spec::SpecErrors;

/// Why a process did not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Mistakes in the configuration file.
    #[error("the configuration file {} cannot be used", .0.file)]
    Mistakes(SpecErrors),
    /// The options cannot be meant together.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// Why.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// An address cannot be listened on.
    #[error("{}", listen_message(.address, .source))]
    Listen {
        /// For which option.
        option: &'static str,
        /// Which address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

fn listen_message(address: &SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("the address {address} is in use"),
        _ => format!("the address {address} cannot be listened on"),
    }
}

impl StartError {
    /// Options that cannot be meant.
    pub fn usage(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> StartError {
        StartError::Usage { message: message.into(), detail: detail.into(), hint: hint.into() }
    }

    /// Why, in full sentences.
    pub fn detail(&self) -> String {
        match self {
            StartError::Mistakes(_) => String::new(),
            StartError::Usage { detail, .. } => detail.clone(),
            StartError::Listen { source, .. } => {
                format!("The operating system says: {source}.")
            }
        }
    }

    /// What to do, in full sentences.
    pub fn hint(&self) -> String {
        match self {
            StartError::Mistakes(_) => "config/crossfade.toml has every option with its meaning.".to_owned(),
            StartError::Usage { hint, .. } => hint.clone(),
            StartError::Listen { option, source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                format!(
                    "Stop what listens there (perhaps another crossfade), or choose another address with --{option}."
                )
            }
            StartError::Listen { option, .. } => format!("Choose an address of this machine with --{option}."),
        }
    }

    /// Whether what was typed or written is at fault, rather than the machine.
    pub fn is_usage(&self) -> bool {
        match self {
            StartError::Mistakes(_) | StartError::Usage { .. } => true,
            StartError::Listen { .. } => false,
        }
    }
}
