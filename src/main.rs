//! The one binary of Crossfade.

use std::process::ExitCode;

fn main() -> ExitCode {
    crossfade::cli::main()
}
