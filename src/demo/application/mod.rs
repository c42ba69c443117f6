//! The old application: several connections that know only `username`, and know what each answer must be.
//!
//! Works over any connection string, with a proxy behind it or not. Knows nothing of migrations; it is told only the
//! name of the moment, for its record.

mod book;
mod connection;
mod model;
mod statements;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use book::{Book, Chapter, Latencies, Summary};
pub use connection::Truth;
pub use model::{Model, Row, read_all};
pub use statements::{SCHEMA, seed_sql};
use tokio::task::JoinHandle;
use worker::Worker;

/// How the application behaves.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Where it connects to.
    pub url: String,
    /// Pairs of connections; each pair has rows of its own.
    pub workers: usize,
    /// How long a worker thinks between two steps.
    pub pause: Duration,
    /// Whether a lost connection is expected (something is killed on purpose) or an error.
    pub losses_expected: bool,
    /// Where the choices begin, so that a run can be repeated.
    pub seed: u64,
}

/// An application at work.
#[derive(Debug)]
pub struct Application {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Model>>,
}

impl Application {
    /// Opens every connection, prepares its statements, and begins; one worker for each model.
    pub async fn start(
        workload: &Workload,
        models: Vec<Model>,
        truth: &Arc<Truth>,
        book: &Arc<Book>,
    ) -> Result<Application, tokio_postgres::Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut ready = Vec::new();
        for (index, model) in models.into_iter().enumerate() {
            ready.push(Worker::connect(workload, index, model, truth, book).await?);
        }
        let workers = ready.into_iter().map(|worker| tokio::spawn(worker.work(stop.clone()))).collect();
        Ok(Application { stop, workers })
    }

    /// Lets every worker finish its step, and gives back what each believes the table holds.
    pub async fn stop(self) -> Result<Vec<Model>, tokio::task::JoinError> {
        self.stop.store(true, Ordering::Relaxed);
        let mut models = Vec::new();
        for worker in self.workers {
            models.push(worker.await?);
        }
        Ok(models)
    }
}
