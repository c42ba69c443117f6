//! What the application saw: statements, errors and latencies, by phase.
//!
//! Decides nothing. Errors are counted all and kept few.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Errors kept with their text; the rest are only counted.
const ERRORS_KEPT_MAX: usize = 20;

/// Latencies in steps of 1/32 of a power of two: no figure is off by more than 3 %.
#[derive(Debug, Clone)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

const STEPS: u64 = 32;

impl Default for Latencies {
    fn default() -> Self {
        Latencies { counts: vec![0; (STEPS * 40) as usize], total: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        let place = (step_of(micros) as usize).min(self.counts.len() - 1);
        self.counts[place] += 1;
        self.total += 1;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The latency in microseconds that this share (0 to 1) of them did not exceed; 0 without any.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (step, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return value_of(step as u64);
            }
        }
        0
    }
}

fn step_of(micros: u64) -> u64 {
    if micros < STEPS {
        return micros;
    }
    let power = u64::from(micros.ilog2()) - 5;
    STEPS * (power + 1) + ((micros >> power) - STEPS)
}

fn value_of(step: u64) -> u64 {
    if step < STEPS {
        return step;
    }
    let power = step / STEPS - 1;
    (STEPS + step % STEPS) << power
}

/// What was seen in one phase.
#[derive(Debug, Clone)]
pub struct Chapter {
    /// The phase.
    pub name: String,
    /// How long it lasted, all times it was entered together.
    pub lasted: Duration,
    /// One for each statement.
    pub latencies: Latencies,
}

/// What was seen in all.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Statements answered.
    pub statements: u64,
    /// Statements that failed or were answered wrongly.
    pub errors: u64,
    /// The first of them, in words.
    pub first_errors: Vec<String>,
    /// How often a connection was lost (none is expected, unless the proxy is killed on purpose).
    pub connections_lost: u64,
    /// Phases in the order in which they were first entered.
    pub chapters: Vec<Chapter>,
}

/// The shared record of all workers.
#[derive(Debug)]
pub struct Book(Mutex<Pages>);

#[derive(Debug)]
struct Pages {
    summary: Summary,
    current: usize,
    entered: Instant,
}

impl Book {
    /// An empty record that begins in that phase.
    pub fn begin(phase: &str) -> Book {
        let chapter = Chapter { name: phase.to_owned(), lasted: Duration::ZERO, latencies: Latencies::default() };
        let summary = Summary { chapters: vec![chapter], ..Summary::default() };
        Book(Mutex::new(Pages { summary, current: 0, entered: Instant::now() }))
    }

    /// From now on it is that phase.
    pub fn enter(&self, phase: &str) {
        let mut pages = self.pages();
        if pages.summary.chapters[pages.current].name == phase {
            return;
        }
        pages.close();
        let known = pages.summary.chapters.iter().position(|chapter| chapter.name == phase);
        pages.current = known.unwrap_or(pages.summary.chapters.len());
        if known.is_none() {
            let chapter = Chapter { name: phase.to_owned(), lasted: Duration::ZERO, latencies: Latencies::default() };
            pages.summary.chapters.push(chapter);
        }
    }

    /// A statement was answered.
    pub fn answered(&self, latency: Duration) {
        let mut pages = self.pages();
        pages.summary.statements += 1;
        let current = pages.current;
        pages.summary.chapters[current].latencies.add(latency);
    }

    /// A statement failed, or its answer was wrong.
    pub fn error(&self, what: &str) {
        let mut pages = self.pages();
        pages.summary.errors += 1;
        if pages.summary.first_errors.len() < ERRORS_KEPT_MAX {
            let phase = pages.summary.chapters[pages.current].name.clone();
            pages.summary.first_errors.push(format!("[{phase}] {what}"));
        }
    }

    /// A connection was lost.
    pub fn lost_connection(&self) {
        self.pages().summary.connections_lost += 1;
    }

    /// All so far.
    pub fn summary(&self) -> Summary {
        let mut pages = self.pages();
        pages.close();
        pages.summary.clone()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Pages {
    fn close(&mut self) {
        let now = Instant::now();
        let lasted = now - self.entered;
        self.summary.chapters[self.current].lasted += lasted;
        self.entered = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_percent() {
        let mut latencies = Latencies::default();
        for micros in 1..=10_000 {
            latencies.add(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.5, 5_000.0), (0.99, 9_900.0)] {
            let off = (latencies.quantile(share) as f64 - exact).abs() / exact;
            assert!(off < 0.032, "{share}: off by {off}");
        }
        assert_eq!(Latencies::default().quantile(0.5), 0);
    }

    #[test]
    fn a_phase_that_comes_again_is_the_same_chapter() {
        let book = Book::begin("before");
        book.answered(Duration::from_micros(5));
        book.enter("ramping");
        book.enter("before");
        book.answered(Duration::from_micros(5));
        let summary = book.summary();
        let counts: Vec<_> = summary.chapters.iter().map(|c| (c.name.as_str(), c.latencies.count())).collect();
        assert_eq!(counts, [("before", 2), ("ramping", 0)]);
    }
}
