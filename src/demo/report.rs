//! What the demo found, for a person and for a program.
//!
//! Renders; measures nothing and judges only by the facts that it was given.

use std::fmt::Write;

use serde::Serialize;

use super::application::{Chapter, Summary};

/// One thing that must be true at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Fact {
    /// What must be true.
    pub name: String,
    /// Whether it is.
    pub ok: bool,
    /// What was found.
    pub found: String,
}

/// What the application saw.
#[derive(Debug, Clone, Serialize)]
pub struct AppFigures {
    /// Statements answered.
    pub statements: u64,
    /// Statements that failed or were answered wrongly.
    pub errors: u64,
    /// The first of them.
    pub first_errors: Vec<String>,
    /// Connections lost (only when the proxy is killed on purpose).
    pub connections_lost: u64,
}

/// One phase as the application felt it.
#[derive(Debug, Clone, Serialize)]
pub struct PhaseFigures {
    /// Its name.
    pub name: String,
    /// Statements answered in it.
    pub statements: u64,
    /// Half of them took at most this.
    pub p50_us: u64,
    /// All but one in a hundred took at most this.
    pub p99_us: u64,
    /// How long it lasted.
    pub seconds: f64,
}

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether every fact holds.
    pub ok: bool,
    /// Rows in the table at the end.
    pub rows: u64,
    /// Rows missing or with a wrong value.
    pub lost_rows: u64,
    /// Rows that should not be there.
    pub unexpected_rows: u64,
    /// The most rows that were ever seen with two columns that differ, once they had to agree.
    pub drift_rows: u64,
    /// How often the proxy was killed.
    pub kills: u32,
    /// Statements and errors.
    pub app: AppFigures,
    /// Latency by phase, in the order of time.
    pub phases: Vec<PhaseFigures>,
    /// What was checked.
    pub facts: Vec<Fact>,
    /// The whole run.
    pub seconds: f64,
}

impl From<Summary> for AppFigures {
    fn from(summary: Summary) -> AppFigures {
        AppFigures {
            statements: summary.statements,
            errors: summary.errors,
            first_errors: summary.first_errors,
            connections_lost: summary.connections_lost,
        }
    }
}

impl From<&Chapter> for PhaseFigures {
    fn from(chapter: &Chapter) -> PhaseFigures {
        PhaseFigures {
            name: chapter.name.clone(),
            statements: chapter.latencies.count(),
            p50_us: chapter.latencies.quantile(0.5),
            p99_us: chapter.latencies.quantile(0.99),
            seconds: (chapter.lasted.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

/// Phases with fewer statements have no 99th percentile worth printing.
const STATEMENTS_FOR_P99: u64 = 100;

impl Report {
    /// For a person.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write_verdict(&mut out);
        self.write_phases(&mut out);
        self.write_facts(&mut out);
        out
    }

    fn write_verdict(&self, out: &mut String) {
        let verdict = if self.ok { "PASSED" } else { "FAILED" };
        let mut line = |label: &str, text: String| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "  {label:<12} {text}");
        };
        line("verdict", verdict.to_owned());
        let app = &self.app;
        line("application", format!("{} statements, {} errors", grouped(app.statements), grouped(app.errors)));
        if self.kills > 0 {
            let lost = grouped(app.connections_lost);
            line(
                "kills",
                format!("{} times SIGKILL to the proxy; the application reconnected {lost} times", self.kills),
            );
        }
        let (rows, lost) = (grouped(self.rows), grouped(self.lost_rows));
        line("rows", format!("{rows} compared one by one: {lost} lost, {} unexpected", grouped(self.unexpected_rows)));
        line("drift", format!("{} rows", grouped(self.drift_rows)));
        line("time", format!("{:.0} s", self.seconds));
    }

    fn write_phases(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "\n  {:<26} {:>8} {:>11} {:>9} {:>9}",
            "latency", "seconds", "statements", "p50 ms", "p99 ms"
        );
        for phase in &self.phases {
            let p50 = if phase.statements == 0 { "-".to_owned() } else { milliseconds(phase.p50_us) };
            let p99 = if phase.statements < STATEMENTS_FOR_P99 { "-".to_owned() } else { milliseconds(phase.p99_us) };
            let (seconds, statements) = (phase.seconds, grouped(phase.statements));
            let _ = writeln!(out, "  {:<26} {seconds:>8.1} {statements:>11} {p50:>9} {p99:>9}", phase.name);
        }
    }

    fn write_facts(&self, out: &mut String) {
        out.push('\n');
        for fact in &self.facts {
            let _ = writeln!(out, "  {:<6} {}: {}", if fact.ok { "ok" } else { "FAILED" }, fact.name, fact.found);
        }
        for error in &self.app.first_errors {
            let _ = writeln!(out, "  error  {error}");
        }
    }
}

fn milliseconds(micros: u64) -> String {
    format!("{:.2}", micros as f64 / 1000.0)
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let shown: Vec<_> = [0, 12, 999, 1_000, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(shown, ["0", "12", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_report_says_its_verdict_first() {
        let phase = PhaseFigures { name: "direct".into(), statements: 200, p50_us: 130, p99_us: 1_900, seconds: 5.0 };
        let report = Report {
            ok: false,
            rows: 10,
            lost_rows: 1,
            unexpected_rows: 0,
            drift_rows: 0,
            kills: 0,
            app: AppFigures { statements: 200, errors: 0, first_errors: Vec::new(), connections_lost: 0 },
            phases: vec![phase],
            facts: vec![Fact { name: "no row is lost".into(), ok: false, found: "1".into() }],
            seconds: 9.0,
        };
        let text = report.text();
        assert!(text.starts_with("  verdict      FAILED\n"), "{text}");
        assert!(text.contains("direct") && text.contains("0.13") && text.contains("1.90"), "{text}");
        assert!(text.contains("FAILED no row is lost: 1"), "{text}");
    }
}
