//! One user of the old application: two connections, rows of its own, and an exact idea of each answer.
//!
//! A step is one thing that an application does (a read, a write, a transaction). What a step was about to change is
//! noted before it is sent; when the connection is lost in between, the worker reads what became of it.

mod recovery;
mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::Workload;
use super::book::Book;
use super::connection::{Answer, Connection, Failure, Style, Truth};
use super::model::{Change, Model, Row};
use super::statements::{Ask, Value};

/// A worker with its connections.
pub struct Worker {
    workload: Workload,
    index: usize,
    connections: Vec<Connection>,
    model: Model,
    truth: Arc<Truth>,
    book: Arc<Book>,
    random: StdRng,
    /// The change whose outcome is not known yet.
    doubt: Option<Change>,
}

/// Why a step ended early. It is in the book already.
enum Trouble {
    /// Connections must be made anew.
    Lost,
    /// The answer was wrong or an error.
    Wrong,
}

/// What a write returns.
enum Returns {
    /// No rows, and this count.
    Count(u64),
    /// One row of this one cell.
    Cell(String),
    /// The rows as they are afterwards (or, of a delete, were before).
    Rows,
}

impl Worker {
    /// Opens both connections; which styles a pair has depends on its place.
    pub async fn connect(
        workload: &Workload,
        index: usize,
        model: Model,
        truth: &Arc<Truth>,
        book: &Arc<Book>,
    ) -> Result<Worker, tokio_postgres::Error> {
        let mut connections = Vec::new();
        for style in styles(index) {
            connections.push(Connection::open(&workload.url, style).await?);
        }
        let random = StdRng::seed_from_u64(workload.seed.wrapping_add(index as u64));
        let (workload, truth, book) = (workload.clone(), truth.clone(), book.clone());
        Ok(Worker { workload, index, connections, model, truth, book, random, doubt: None })
    }

    /// Steps until told to stop.
    pub async fn work(mut self, stop: Arc<AtomicBool>) -> Model {
        while !stop.load(Ordering::Relaxed) {
            if let Err(trouble) = self.step().await {
                self.recover(trouble).await;
            }
            sleep(self.workload.pause).await;
        }
        self.model
    }

    async fn step(&mut self) -> Result<(), Trouble> {
        match self.random.random_range(0..100) {
            0..=49 => self.read().await,
            50..=58 => self.insert().await,
            59..=65 => self.upsert().await,
            66..=75 => self.update().await,
            76..=83 => self.delete().await,
            84..=86 => self.clash().await,
            _ => self.transaction().await,
        }
    }

    // What all steps are made of.

    async fn expect(
        &mut self,
        on: usize,
        ask: Ask,
        values: &[Value],
        expected: Vec<Vec<Option<String>>>,
    ) -> Result<(), Trouble> {
        let answer = self.answer(on, ask, values).await?;
        if answer.rows != expected || answer.affected != expected.len() as u64 {
            let what = format!("expected {expected:?}, got {:?} (tag says {})", answer.rows, answer.affected);
            return Err(self.wrong(on, ask, &what));
        }
        Ok(())
    }

    /// A write in a statement of its own, and now and then a look at it through the other connection.
    async fn write(
        &mut self,
        ask: Ask,
        values: &[Value],
        before: Vec<Row>,
        after: Vec<Row>,
        returns: Returns,
    ) -> Result<(), Trouble> {
        let on = self.random.random_range(0..2);
        let mut change = Change { before, after, sent: true };
        self.doubt = Some(change.clone());
        let of_interest = if change.after.is_empty() { &change.before } else { &change.after };
        let returned = self.ask(on, ask, values, &of_interest.clone(), &returns).await?;
        self.doubt = None;
        if let (Returns::Rows, false) = (&returns, change.after.is_empty()) {
            change.after = returned;
        }
        self.model.apply(&change);
        if self.random.random_bool(0.5) {
            return Ok(());
        }
        for row in &change.after {
            self.expect(1 - on, Ask::ById, &[Value::Int(row.id)], vec![row.cells()]).await?;
        }
        for row in change.before.iter().filter(|row| change.after.iter().all(|now| now.username != row.username)) {
            self.expect(1 - on, Ask::ByName, &[Value::text(&row.username)], Vec::new()).await?;
        }
        Ok(())
    }

    /// Sends a write and checks what it returns; gives back whole rows where it returns those.
    async fn ask(
        &mut self,
        on: usize,
        ask: Ask,
        values: &[Value],
        rows: &[Row],
        returns: &Returns,
    ) -> Result<Vec<Row>, Trouble> {
        let answer = self.answer(on, ask, values).await?;
        let returned: Vec<Row> = match returns {
            Returns::Rows => answer.rows.iter().filter_map(|cells| Row::parse(cells)).collect(),
            Returns::Count(_) | Returns::Cell(_) => Vec::new(),
        };
        let right = match returns {
            Returns::Count(count) => answer.rows.is_empty() && answer.affected == *count,
            Returns::Cell(cell) => answer.rows == [[Some(cell.clone())]] && answer.affected == 1,
            Returns::Rows => {
                answer.affected == rows.len() as u64
                    && returned.len() == rows.len()
                    && rows.iter().zip(&returned).all(|(expected, actual)| expected.agrees_with(actual))
            }
        };
        if !right {
            let what = format!("expected {rows:?}, got {:?} (tag says {})", answer.rows, answer.affected);
            return Err(self.wrong(on, ask, &what));
        }
        Ok(returned)
    }

    async fn answer(&mut self, on: usize, ask: Ask, values: &[Value]) -> Result<Answer, Trouble> {
        let began = Instant::now();
        match self.connections[on].ask(&self.truth, ask, values).await {
            Ok(answer) => {
                self.book.answered(began.elapsed());
                self.check_columns(on, ask, &answer)?;
                Ok(answer)
            }
            Err(failure) => Err(self.failed(on, ask, failure)),
        }
    }

    fn check_columns(&self, on: usize, ask: Ask, answer: &Answer) -> Result<(), Trouble> {
        let Some(columns) = &answer.columns else { return Ok(()) };
        let expected = self.truth.columns(ask);
        let same = |(expected, actual): (&(String, Type), &(String, Option<Type>))| {
            expected.0 == actual.0 && actual.1.as_ref().is_none_or(|kind| *kind == expected.1)
        };
        if expected.len() == columns.len() && expected.iter().zip(columns).all(same) {
            return Ok(());
        }
        Err(self.wrong(on, ask, &format!("expected the columns {expected:?}, got {columns:?}")))
    }

    async fn command(&mut self, on: usize, sql: &str) -> Result<(), Trouble> {
        let began = Instant::now();
        match self.connections[on].command(sql).await {
            Ok(()) => {
                self.book.answered(began.elapsed());
                Ok(())
            }
            Err(Failure::Lost(why)) => Err(self.lost(sql, &why)),
            Err(other) => {
                self.book.error(&format!("{sql}: {other:?}"));
                Err(Trouble::Wrong)
            }
        }
    }

    fn failed(&self, on: usize, ask: Ask, failure: Failure) -> Trouble {
        match failure {
            Failure::Lost(why) => self.lost(ask.sql(), &why),
            Failure::Refused { code, constraint, message } => {
                let constraint = constraint.map(|name| format!(" [{name}]")).unwrap_or_default();
                self.wrong(on, ask, &format!("{code}{constraint}: {message}"))
            }
            Failure::Garbled(what) => self.wrong(on, ask, &what),
        }
    }

    fn wrong(&self, on: usize, ask: Ask, what: &str) -> Trouble {
        self.book.error(&format!("{:?}, {}: {what}", self.connections[on].style(), ask.sql()));
        Trouble::Wrong
    }

    fn lost(&self, sql: &str, why: &str) -> Trouble {
        self.book.lost_connection();
        if !self.workload.losses_expected {
            self.book.error(&format!("{sql}: the connection was lost: {why}"));
        }
        Trouble::Lost
    }
}

/// Every pair holds prepared statements on one connection; the other talks in one of the other ways.
fn styles(index: usize) -> [Style; 2] {
    [Style::Prepared, if index.is_multiple_of(2) { Style::Simple } else { Style::Unnamed }]
}
