//! Where the demo is, while it runs: a bar on a terminal, plain lines elsewhere, JSON lines for a program.
//!
//! Writes to standard error only; standard output belongs to the report.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// A bar on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Plain lines.
    Lines,
    /// One JSON object for each line.
    Json,
    /// Nothing.
    None,
}

/// The display.
pub struct Progress {
    mode: Mode,
    bar: Option<ProgressBar>,
    began: Instant,
    last_percent: u64,
}

impl Progress {
    /// A display of that kind.
    pub fn new(mode: Mode) -> Progress {
        let mode = match mode {
            Mode::Auto if !io::stderr().is_terminal() => Mode::Lines,
            Mode::Auto | Mode::Lines | Mode::Json | Mode::None => mode,
        };
        Progress { mode, bar: None, began: Instant::now(), last_percent: 0 }
    }

    /// The next thing has begun.
    pub fn say(&mut self, what: &str) {
        self.end_bar();
        let seconds = self.began.elapsed().as_secs_f64();
        match self.mode {
            Mode::Auto | Mode::Lines => self.line(&format!("{seconds:6.1} s  {what}")),
            Mode::Json => self.line(&json!({"event": "step", "seconds": seconds, "what": what}).to_string()),
            Mode::None => {}
        }
    }

    /// So many rows of so many are copied.
    pub fn backfill(&mut self, done: u64, total: u64) {
        let percent = (done * 100).checked_div(total).unwrap_or(0).min(100);
        match self.mode {
            Mode::Auto => {
                let bar = self.bar.get_or_insert_with(|| bar(total));
                bar.set_length(total.max(done));
                bar.set_position(done);
            }
            // A line for each tenth is enough.
            Mode::Lines | Mode::Json if percent / 10 == self.last_percent / 10 => {}
            Mode::Lines => self.line(&format!("            backfill {percent:3} %  ({done} of {total} rows)")),
            Mode::Json => self.line(&json!({"event": "backfill", "done": done, "total": total}).to_string()),
            Mode::None => {}
        }
        self.last_percent = percent;
    }

    fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
        self.last_percent = 0;
    }

    fn line(&self, text: &str) {
        // Nobody may be reading any more; the demo goes on.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn bar(total: u64) -> ProgressBar {
    let template = "          backfill [{bar:40}] {percent:>3} %  {human_pos} of {human_len} rows  {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style.progress_chars("=> "))
}
