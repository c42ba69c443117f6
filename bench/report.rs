//! What was measured: rows, their ratios within one run, and how they are printed.
//!
//! Measures nothing itself.

use serde_json::{Value, json};

/// What one target did under one load: medians over the rounds.
#[derive(Debug, Clone)]
pub struct Row {
    pub section: String,
    pub load: String,
    pub target: &'static str,
    /// Transactions, connections or megabytes each second.
    pub per_second: f64,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    /// CPU time of the proxy's process for 1,000 of them.
    pub cpu_ms_per_1000: Option<f64>,
    /// The most memory that the process had.
    pub peak_kb: Option<u64>,
}

impl Row {
    fn json(&self, rows: &[Row]) -> Value {
        json!({
            "section": self.section, "load": self.load, "target": self.target, "per_second": self.per_second,
            "p50_us": self.p50_us, "p99_us": self.p99_us, "cpu_ms_per_1000": self.cpu_ms_per_1000,
            "peak_kb": self.peak_kb,
            "cpu_to_pgbouncer": self.cpu_ratio(rows, "pgbouncer"), "cpu_to_pass_through": self.cpu_ratio(rows, "pass-through"),
            "per_second_to_pgbouncer": self.speed_ratio(rows, "pgbouncer"),
            "per_second_to_pass_through": self.speed_ratio(rows, "pass-through"),
        })
    }

    fn beside<'r>(&self, rows: &'r [Row], target: &str) -> Option<&'r Row> {
        let same = |row: &&Row| row.section == self.section && row.load == self.load && row.target == target;
        rows.iter().find(same).filter(|row| row.target != self.target)
    }

    fn cpu_ratio(&self, rows: &[Row], target: &str) -> Option<f64> {
        Some(self.cpu_ms_per_1000? / self.beside(rows, target)?.cpu_ms_per_1000.filter(|cpu| *cpu > 0.0)?)
    }

    fn speed_ratio(&self, rows: &[Row], target: &str) -> Option<f64> {
        Some(self.per_second / self.beside(rows, target)?.per_second)
    }
}

/// All rows, printed as they come or at the end as JSON.
#[derive(Debug)]
pub struct Report {
    pub as_json: bool,
    rows: Vec<Row>,
    facts: Vec<Value>,
}

impl Report {
    pub fn new(as_json: bool) -> Report {
        Report { as_json, rows: Vec::new(), facts: Vec::new() }
    }

    pub fn heading(&self, title: &str) {
        if self.as_json {
            return;
        }
        println!("\n{title}");
        println!(
            "  {:<34} {:<13} {:>10} {:>8} {:>8} {:>9} {:>9} {:>14} {:>14}",
            "load",
            "target",
            "per second",
            "p50 us",
            "p99 us",
            "cpu/1000",
            "peak MB",
            "cpu (speed) to",
            "cpu (speed) to"
        );
        println!(
            "  {:<34} {:<13} {:>10} {:>8} {:>8} {:>9} {:>9} {:>14} {:>14}",
            "", "", "", "", "", "ms", "", "pgbouncer", "pass-through"
        );
    }

    /// Takes the rows of one load.
    pub fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            if self.as_json {
                break;
            }
            let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
            let ratio = |target: &str| match (row.cpu_ratio(&rows, target), row.speed_ratio(&rows, target)) {
                (Some(cpu), Some(speed)) => format!("{cpu:.2} ({speed:.2})"),
                (None, _) | (_, None) => "-".to_owned(),
            };
            println!(
                "  {:<34} {:<13} {:>10.0} {:>8} {:>8} {:>9} {:>9} {:>14} {:>14}",
                row.load,
                row.target,
                row.per_second,
                number(row.p50_us, 0),
                number(row.p99_us, 0),
                number(row.cpu_ms_per_1000, 2),
                number(row.peak_kb.map(|kb| kb as f64 / 1024.0), 1),
                ratio("pgbouncer"),
                ratio("pass-through")
            );
        }
        self.rows.extend(rows);
    }

    /// Takes one figure that is no load.
    pub fn fact(&mut self, name: &str, target: &str, value: f64, unit: &str) {
        if !self.as_json {
            println!("  {name:<34} {target:<13} {value:>10.3} {unit}");
        }
        self.facts.push(json!({ "name": name, "target": target, "value": value, "unit": unit }));
    }

    pub fn note(&self, text: &str) {
        if !self.as_json {
            println!("  {text}");
        }
    }

    /// Prints the JSON, where that is wanted.
    pub fn finish(&self) {
        if self.as_json {
            let rows: Vec<Value> = self.rows.iter().map(|row| row.json(&self.rows)).collect();
            println!("{}", json!({ "rows": rows, "figures": self.facts }));
        }
    }
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
