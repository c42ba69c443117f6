//! The old application itself: content with a plain database, and not to be fooled.

use std::sync::Arc;
use std::time::Duration;

use crossfade::demo::application::{Application, Book, Model, SCHEMA, Summary, Truth, Workload, seed_sql};
use crossfade::demo::facts::{Comparison, compare};
use tokio_postgres::Client;

use crate::common::{connect, database, server, until};

const TIME_LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_database_answers_everything_right() {
    let (summary, comparison) = run(false, async |_, _| {}).await;
    assert_eq!((summary.errors, &summary.first_errors), (0, &Vec::new()));
    assert_eq!(summary.connections_lost, 0);
    assert_eq!((comparison.lost, comparison.unexpected), (0, 0), "{:?}", comparison.differences);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_leave_no_doubt_behind() {
    let (summary, comparison) = run(true, async |direct, book| {
        until("ten connections were lost", TIME_LIMIT, async || {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                       AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1";
            direct.batch_execute(sql).await.unwrap();
            book.summary().connections_lost >= 10
        })
        .await;
    })
    .await;
    assert_eq!((summary.errors, &summary.first_errors), (0, &Vec::new()));
    assert_eq!((comparison.lost, comparison.unexpected), (0, 0), "{:?}", comparison.differences);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_changed_behind_its_back_are_noticed() {
    let (summary, comparison) = run(false, async |direct, _| {
        let sql = "UPDATE users SET username = 'stolen' WHERE id = (SELECT min(id) FROM users); \
                   DELETE FROM users WHERE id = (SELECT max(id) FROM users WHERE id < 200)";
        direct.batch_execute(sql).await.unwrap();
    })
    .await;
    // Each of the two is seen by the application in passing, or by the comparison in the end.
    assert!(comparison.lost >= 1 && comparison.lost + summary.errors >= 2, "{summary:?} {comparison:?}");
}

/// Runs the application on a database of its own; does that in the middle; gives what it and the database say.
async fn run(losses_expected: bool, middle: impl AsyncFnOnce(&Client, &Book)) -> (Summary, Comparison) {
    let server = server();
    let url = server.url(&database(&server).await);
    let direct = connect(&url).await;
    direct.batch_execute(SCHEMA).await.unwrap();
    direct.batch_execute(&seed_sql(200)).await.unwrap();
    let truth = Arc::new(Truth::learn(&direct).await.unwrap());
    let models = Model::deal(&direct, 2).await.unwrap();
    let book = Arc::new(Book::begin("plain"));
    let workload = Workload { url, workers: 2, pause: Duration::ZERO, losses_expected, seed: 7 };
    let application = Application::start(&workload, models, &truth, &book).await.unwrap();
    let some = async |more: u64| {
        let enough = book.summary().statements + more;
        until("the application works", TIME_LIMIT, async || book.summary().statements >= enough).await;
    };
    some(500).await;
    middle(&direct, &book).await;
    some(1_000).await;
    let models = application.stop().await.unwrap();
    let comparison = compare(&direct, &models, "username").await.unwrap();
    (book.summary(), comparison)
}
