//! Migrations, proxies and the audit log, for the eyes of somebody who was woken by them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::control::status::{MigrationStatus, Overview};
use crate::control::store::AuditEntry;
use crate::migration::Phase;

/// Rows of the quarantine that are shown.
const MISFITS_SHOWN: usize = 5;

/// Everything at a glance.
pub(super) fn overview(overview: &Overview) -> String {
    let mut text = String::new();
    if overview.migrations.is_empty() {
        text.push_str("no migrations\n");
    } else {
        let mut rows = vec![["MIGRATION", "TABLE", "PHASE", "READS", "ROWS", "NOTE"].map(str::to_owned).to_vec()];
        rows.extend(overview.migrations.iter().map(|m| {
            vec![m.name.clone(), m.table.clone(), m.phase.to_string(), format!("{} %", m.reads), copied(m), note(m)]
        }));
        text.push_str(&table(&rows));
    }
    text.push('\n');
    let mut rows = vec![["PROXY", "HOST", "PID", "LEASE", "EPOCH", "VERSION"].map(str::to_owned).to_vec()];
    rows.extend(overview.proxies.iter().map(|p| {
        let lease = if p.alive { "held" } else { "expired" };
        let epoch = match p.epoch_acked {
            acked if acked >= overview.epoch => acked.to_string(),
            acked => format!("{acked} (behind {})", overview.epoch),
        };
        vec![p.address.clone(), p.host.clone(), p.pid.to_string(), lease.to_owned(), epoch, p.version.clone()]
    }));
    text.push_str(&table(&rows));
    text
}

/// One migration in full.
pub(super) fn migration(m: &MigrationStatus) -> String {
    let mut rows = vec![
        ("phase", phase(m)),
        ("reads", format!("{} % of sessions from the new column", m.reads)),
        ("copy", copied(m)),
        ("quarantine", quarantine(m)),
        ("drift", drift(m)),
    ];
    if let Some(target) = &m.target {
        rows.push(("on its way to", target.clone()));
    }
    if let Some(waiting) = m.waiting.as_ref().filter(|_| !m.phase.is_final()) {
        rows.push(("waiting for", waiting.clone()));
    }
    if let Some(error) = &m.error {
        rows.push(("error", error.clone()));
    }
    if m.holds.ended > 0 {
        let (last, longest) = (m.holds.last_ms, m.holds.longest_ms);
        rows.push((
            "holds",
            format!("{} of new transactions, the last {last} ms, the longest {longest} ms", m.holds.ended),
        ));
    }
    if m.speed != 100 {
        rows.push(("speed", format!("{} % of what the throttle allows", m.speed)));
    }
    rows.push(("epoch", m.epoch.to_string()));
    rows.push(("changed", moment(m.updated_at)));
    if let Some(next) = &m.next {
        rows.push(("next", next.clone()));
    }
    let columns = format!("{} -> {}", m.old_columns.join(", "), m.new_columns.join(", "));
    let mut text = format!("{}: {} on {}\n", m.name, columns, m.table);
    for (label, value) in rows {
        for (number, line) in value.lines().enumerate() {
            text.push_str(&format!("  {:<14}{line}\n", if number == 0 { label } else { "" }));
        }
    }
    text
}

/// One migration in one line.
pub(super) fn line(m: &MigrationStatus) -> String {
    let mut line = format!("{}  {:<13} reads {:>3} %  {}", m.name, m.phase.name(), m.reads, copied(m));
    let note = note(m);
    if !note.is_empty() {
        line.push_str(&format!("  {note}"));
    }
    line
}

/// What matters most about a migration now, in a few words.
pub(super) fn note(m: &MigrationStatus) -> String {
    if let Some(error) = &m.error {
        return format!("ERROR: {}", first_line(error));
    }
    if m.paused && !m.phase.is_final() {
        return "paused".to_owned();
    }
    if m.quarantine.rows > 0 {
        return format!("{} rows do not fit", m.quarantine.rows);
    }
    match (&m.waiting, &m.next) {
        (Some(waiting), _) if !m.phase.is_final() => first_line(waiting).to_owned(),
        (_, Some(next)) => format!("next: {next}"),
        (_, None) => String::new(),
    }
}

/// The audit log, newest first.
pub(super) fn audit(entries: &[AuditEntry]) -> String {
    if entries.is_empty() {
        return "nothing was changed yet".to_owned();
    }
    let mut rows = vec![["WHEN", "MIGRATION", "WHAT", "WHO", "FROM", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        let move_ = match (entry.detail["from"].as_str(), entry.detail["to"].as_str()) {
            (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
            (Some(_), Some(_)) => format!("reads {} -> {} %", entry.detail["reads_from"], entry.detail["reads"]),
            (_, _) => entry.what.clone(),
        };
        vec![
            moment(entry.at),
            entry.migration.clone().unwrap_or_default(),
            move_,
            entry.who.clone(),
            entry.from_address.clone(),
            first_line(&entry.why).to_owned(),
        ]
    }));
    table(&rows)
}

fn phase(m: &MigrationStatus) -> String {
    let about = match m.phase {
        Phase::Planned => "recorded; nothing differs yet",
        Phase::Shielded => "the proxies are ready for a new column",
        Phase::Expanded => "the new column exists",
        Phase::DualWriting => "every write sets both columns",
        Phase::Backfilling => "history is being copied and compared",
        Phase::Verified => "old and new agree; reads may move",
        Phase::Ramping => "both columns are complete; reads may move to any share",
        Phase::Soaking => "all reads come from the new column; there is still a way back",
        Phase::Contracting => "the proxies no longer name the old column",
        Phase::Contracted => "the old column is gone; old sessions go on",
        Phase::RollingBack => "the new column is being taken away",
        Phase::RolledBack => "the table is as it was",
    };
    let paused = if m.paused && !m.phase.is_final() { ", PAUSED" } else { "" };
    format!("{}{paused}: {about}", m.phase)
}

fn copied(m: &MigrationStatus) -> String {
    let b = &m.backfill;
    if b.done {
        return format!("{} rows, done", grouped(b.rows_done));
    }
    if b.rows_done == 0 && b.rows_total == 0 {
        return "not begun".to_owned();
    }
    let left = b.eta_seconds.map(|seconds| format!(", {} left", span(seconds))).unwrap_or_default();
    format!("{} of {} rows ({:.0} %{left})", grouped(b.rows_done), grouped(b.rows_total), b.percent)
}

fn quarantine(m: &MigrationStatus) -> String {
    let mut text = match m.quarantine.rows {
        0 => "empty".to_owned(),
        1 => "1 row does not fit the new column".to_owned(),
        rows => format!("{} rows do not fit the new column", grouped(rows)),
    };
    for row in m.quarantine.sample.iter().take(MISFITS_SHOWN) {
        text.push_str(&format!("\n{}: {}", row.key, first_line(&row.error)));
    }
    text
}

fn drift(m: &MigrationStatus) -> String {
    let v = &m.verification;
    let when = v.scanned_at.map(|at| format!(" (compared at {})", moment(at))).unwrap_or_default();
    match v.drift_rows {
        None if v.rows_scanned > 0 => format!("comparing; {} rows so far", grouped(v.rows_scanned)),
        None => "not compared yet".to_owned(),
        Some(0) => format!("none{when}"),
        Some(rows) => format!("{} rows differ{when}", grouped(rows)),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn moment(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_default()
}

fn span(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// Columns as wide as their widest cell; the last one is as long as it is.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_numbers_are_grouped() {
        let rows = [vec!["A".to_owned(), "B".to_owned()], vec!["longer".to_owned(), "x".to_owned()]];
        assert_eq!(table(&rows), "A       B\nlonger  x\n");
        assert_eq!(
            [grouped(0), grouped(999), grouped(1_000), grouped(-1_234_567)],
            ["0", "999", "1,000", "-1,234,567"]
        );
        assert_eq!([span(5), span(600), span(7_260)], ["5 s", "10 min", "2 h 1 min"]);
    }
}
