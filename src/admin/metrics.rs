//! `/metrics`: what passed through this process, and where the migrations are, as Prometheus reads it.
//!
//! A registry is made for each scrape over one snapshot: nothing is counted here, and nothing global is kept.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::control::status::{MigrationStatus, Overview};
use crate::control::traffic::{BUCKETS, Histogram, Outcome, Snapshot, StatementKind, bucket_limit};
use crate::migration::{Phase, Route};

/// What the text is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How many buckets of a histogram are shown as one: bounds double.
const BUCKETS_MERGED: usize = 4;

/// Everything that one scrape shows.
#[derive(Debug)]
pub(super) struct Scrape {
    /// What passed.
    pub traffic: Snapshot,
    /// The epoch whose rules are in force.
    pub epoch: u64,
    /// The oldest epoch that a transaction of this process still holds.
    pub epoch_oldest: u64,
    /// Whether no transaction may begin under those rules.
    pub held: bool,
    /// Whether this process's lease is good.
    pub leased: bool,
    /// Whether sessions on migrating tables are served.
    pub ready: bool,
    /// Whether this process coordinates.
    pub coordinates: bool,
    /// The migrations; nothing when the database did not answer.
    pub overview: Option<Overview>,
}

impl Scrape {
    /// The text.
    pub fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.encode_sessions(&mut encoder)?;
        self.encode_statements(&mut encoder)?;
        self.encode_process(&mut encoder)?;
        match &self.overview {
            Some(overview) => encode_migrations(&mut encoder, &overview.migrations),
            None => Ok(()),
        }
    }
}

impl Scrape {
    fn encode_sessions(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let traffic = &self.traffic;
        gauge(encoder, "crossfade_sessions", "Client sessions that are open", traffic.sessions as i64)?;
        counter(encoder, "crossfade_sessions_accepted", "Client sessions accepted", traffic.sessions_total)?;
        let mut bytes = family(encoder, "crossfade_bytes", "Bytes read, by side", MetricType::Counter)?;
        count(&mut bytes, &[("from", "clients")], traffic.bytes_from_clients)?;
        count(&mut bytes, &[("from", "server")], traffic.bytes_from_server)
    }

    fn encode_statements(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let traffic = &self.traffic;
        let help = "Statements by kind and by what became of them";
        let mut statements = family(encoder, "crossfade_statements", help, MetricType::Counter)?;
        for kind in StatementKind::ALL {
            for outcome in Outcome::ALL {
                let labels = [("kind", kind.name()), ("outcome", outcome.name())];
                count(&mut statements, &labels, traffic.statements(kind, outcome))?;
            }
        }
        let help = "Prepared statements that were prepared again because their plan was stale";
        counter(encoder, "crossfade_repreparations", help, traffic.repreparations)?;
        let help = "Questions to the server about what names mean in a session";
        counter(encoder, "crossfade_name_probes", help, traffic.probes)?;
        let help = "Statements refused because this process held no lease";
        counter(encoder, "crossfade_refused_unleased", help, traffic.refused_unleased)?;
        let help = "Time of one rewrite; one that was remembered counts as no time";
        let mut rewrite = encoder.encode_descriptor("crossfade_rewrite_seconds", help, None, MetricType::Histogram)?;
        encode_histogram(&mut rewrite, &traffic.rewrite)?;
        let help = "Time of statements on tables under migration, by the storage that answered";
        let mut latency = family(encoder, "crossfade_statement_seconds", help, MetricType::Histogram)?;
        for route in Route::ALL {
            encode_histogram(&mut latency.encode_family(&[("route", route.name())])?, traffic.latency(route))?;
        }
        let help = "Statements on tables under migration that the server answered with an error";
        let mut errors = family(encoder, "crossfade_statement_errors", help, MetricType::Counter)?;
        for route in Route::ALL {
            count(&mut errors, &[("route", route.name())], traffic.errors(route))?;
        }
        Ok(())
    }

    fn encode_process(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        gauge(encoder, "crossfade_epoch", "Epoch of the rules in force", self.epoch as i64)?;
        let help = "Oldest epoch that a transaction of this process holds";
        gauge(encoder, "crossfade_epoch_oldest", help, self.epoch_oldest as i64)?;
        let help = "Whether new transactions are held";
        gauge(encoder, "crossfade_held", help, i64::from(self.held))?;
        gauge(encoder, "crossfade_lease_held", "Whether the lease is good", i64::from(self.leased))?;
        gauge(encoder, "crossfade_ready", "Whether /readyz says yes", i64::from(self.ready))?;
        let help = "Whether this process drives the migrations";
        gauge(encoder, "crossfade_coordinator", help, i64::from(self.coordinates))?;
        let help = "Whether the database answered this scrape";
        gauge(encoder, "crossfade_upstream_up", help, i64::from(self.overview.is_some()))
    }
}

/// What a gauge reads from a migration.
type Reading = fn(&MigrationStatus) -> i64;

fn encode_migrations(encoder: &mut DescriptorEncoder, migrations: &[MigrationStatus]) -> fmt::Result {
    let help = "1 for the phase that a migration is in";
    let mut phases = family(encoder, "crossfade_migration_phase", help, MetricType::Gauge)?;
    for migration in migrations {
        for phase in Phase::ALL {
            let labels = [("migration", migration.name.as_str()), ("phase", phase.name())];
            phases.encode_family(&labels)?.encode_gauge(&i64::from(phase == migration.phase))?;
        }
    }
    let help = "Rows looked at by the copy";
    let mut rows = family(encoder, "crossfade_backfill_rows", help, MetricType::Counter)?;
    for migration in migrations {
        count(&mut rows, &[("migration", migration.name.as_str())], migration.backfill.rows_done.unsigned_abs())?;
    }
    encode_holds(encoder, migrations)?;
    let gauges: [(&str, &str, Reading); 6] = [
        ("crossfade_backfill_rows_expected", "Rows that the copy has to look at, about", |m| m.backfill.rows_total),
        ("crossfade_reads_percent", "Share of sessions that reads from new storage", |m| i64::from(m.reads)),
        ("crossfade_quarantine_rows", "Rows that do not fit the new shape", |m| m.quarantine.rows),
        ("crossfade_drift_rows", "Rows whose old and new values differ, by the latest full scan", |m| {
            m.verification.drift_rows.unwrap_or(0)
        }),
        ("crossfade_migration_paused", "Whether a migration is paused", |m| i64::from(m.paused)),
        ("crossfade_migration_failing", "Whether the latest step of a migration failed", |m| {
            i64::from(m.error.is_some())
        }),
    ];
    for (name, help, value) in gauges {
        let mut family = family(encoder, name, help, MetricType::Gauge)?;
        for migration in migrations {
            family.encode_family(&[("migration", migration.name.as_str())])?.encode_gauge(&value(migration))?;
        }
    }
    Ok(())
}

fn encode_holds(encoder: &mut DescriptorEncoder, migrations: &[MigrationStatus]) -> fmt::Result {
    let help = "Holds of new transactions that ended, those that came to nothing included";
    let mut ended = family(encoder, "crossfade_holds", help, MetricType::Counter)?;
    for migration in migrations {
        count(&mut ended, &[("migration", migration.name.as_str())], migration.holds.ended.unsigned_abs())?;
    }
    let gauges: [(&str, &str, Reading); 2] = [
        ("crossfade_hold_last_seconds", "Length of the last hold", |m| m.holds.last_ms),
        ("crossfade_hold_longest_seconds", "Length of the longest hold", |m| m.holds.longest_ms),
    ];
    for (name, help, millis) in gauges {
        let mut family = family(encoder, name, help, MetricType::Gauge)?;
        for migration in migrations {
            let seconds = millis(migration) as f64 / 1000.0;
            family.encode_family(&[("migration", migration.name.as_str())])?.encode_gauge(&seconds)?;
        }
    }
    Ok(())
}

fn family<'a>(
    encoder: &'a mut DescriptorEncoder,
    name: &'a str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, kind)
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: i64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn count(family: &mut MetricEncoder, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn encode_histogram(encoder: &mut MetricEncoder, histogram: &Histogram) -> fmt::Result {
    let mut buckets = Vec::with_capacity(BUCKETS / BUCKETS_MERGED + 1);
    for (index, counts) in histogram.buckets().chunks(BUCKETS_MERGED).enumerate() {
        let limit = bucket_limit(index * BUCKETS_MERGED + counts.len() - 1);
        let seconds = if limit == Duration::MAX { f64::INFINITY } else { limit.as_secs_f64() };
        buckets.push((seconds, counts.iter().sum()));
    }
    encoder.encode_histogram::<NoLabelSet>(histogram.sum().as_secs_f64(), histogram.count(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::traffic::Traffic;

    #[test]
    fn counters_and_histograms_are_written_with_their_labels() {
        let traffic = Traffic::new();
        let shard = traffic.shard();
        shard.session_opened();
        shard.statement(StatementKind::Select, Outcome::Rewritten);
        shard.answered(Route::New, Duration::from_millis(3), true);
        let scrape = Scrape {
            traffic: traffic.snapshot(),
            epoch: 7,
            epoch_oldest: 6,
            held: false,
            leased: true,
            ready: true,
            coordinates: false,
            overview: None,
        };
        let text = scrape.text().unwrap();
        for line in [
            "crossfade_sessions 1",
            "crossfade_statements_total{kind=\"select\",outcome=\"rewritten\"} 1",
            "crossfade_statement_seconds_count{route=\"new\"} 1",
            "crossfade_statement_seconds_bucket{le=\"+Inf\",route=\"new\"} 1",
            "crossfade_statement_errors_total{route=\"new\"} 1",
            "crossfade_epoch_oldest 6",
            "crossfade_upstream_up 0",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
        }
    }
}
