//! The demo itself, small: undisturbed, and with its proxy killed at random moments.

use crossfade::demo::progress::Mode;
use crossfade::demo::report::Report;
use crossfade::demo::{Options, play};

use crate::common::program;

fn options(kills: u32) -> Options {
    Options {
        rows: 3_000,
        seconds_per_phase: 0.7,
        connections: 4,
        json: true,
        keep: false,
        kills,
        progress: Mode::None,
        seed: 11,
        program: Some(program().to_owned()),
    }
}

#[track_caller]
fn check(report: &Report) {
    assert!(report.ok, "\n{}", report.text());
    assert_eq!((report.app.errors, report.lost_rows, report.unexpected_rows, report.drift_rows), (0, 0, 0, 0));
    assert!(report.app.statements > 1_000, "\n{}", report.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_sees_no_error_while_its_column_is_renamed() {
    let report = play(&options(0)).await.unwrap();
    check(&report);
    assert_eq!(report.app.connections_lost, 0);
    let phases: Vec<_> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
    for phase in ["direct", "proxy, no migration", "verified", "ramping, reads 100 %", "contracted"] {
        assert!(phases.contains(&phase), "{phases:?}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["app"]["errors"], 0);
    assert!(json["phases"][0]["p50_us"].as_u64() > Some(0) && json["phases"][0]["p99_us"].as_u64() > Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_proxy_at_any_moment_loses_nothing() {
    let report = play(&options(8)).await.unwrap();
    check(&report);
    assert_eq!(report.kills, 8);
    assert!(report.app.connections_lost > 0, "\n{}", report.text());
}
