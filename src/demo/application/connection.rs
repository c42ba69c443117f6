//! One connection of the old application, in one of the ways in which drivers talk to PostgreSQL.
//!
//! Sends and decodes; what an answer should have been is the worker's affair.

use std::collections::HashMap;

use bytes::BytesMut;
use futures_util::{StreamExt, pin_mut};
use time::OffsetDateTime;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, RowStream, SimpleQueryMessage, Statement};

use super::statements::{Ask, Value};

/// How a connection sends its statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Extended protocol: each statement is prepared by name once, at the start, and used to the end.
    Prepared,
    /// Extended protocol: each statement is parsed anew, without a name.
    Unnamed,
    /// Simple protocol: the values stand in the text.
    Simple,
}

/// What a statement's parameters and columns are, as the database itself said before anything began.
#[derive(Debug)]
pub struct Truth(HashMap<Ask, Statement>);

impl Truth {
    /// Asks the database, through a connection that no proxy touches.
    pub async fn learn(direct: &Client) -> Result<Truth, tokio_postgres::Error> {
        let mut statements = HashMap::new();
        for ask in Ask::ALL {
            statements.insert(ask, direct.prepare(ask.sql()).await?);
        }
        Ok(Truth(statements))
    }

    /// The names and types of the columns of the answer.
    pub fn columns(&self, ask: Ask) -> Vec<(String, Type)> {
        self.0[&ask].columns().iter().map(|column| (column.name().to_owned(), column.type_().clone())).collect()
    }

    fn parameters(&self, ask: Ask) -> &[Type] {
        self.0[&ask].params()
    }
}

/// What a statement was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Names, and types where the protocol tells them. `None` where there was nothing to tell them by.
    pub columns: Option<Vec<(String, Option<Type>)>>,
    /// Values as PostgreSQL writes them in text.
    pub rows: Vec<Vec<Option<String>>>,
    /// The number in the command tag.
    pub affected: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The connection is gone, or the server is going: nobody knows whether the statement took effect.
    Lost(String),
    /// The statement was refused, and had no effect.
    Refused {
        /// `SQLSTATE`.
        code: String,
        /// The constraint that it broke.
        constraint: Option<String>,
        /// What was said.
        message: String,
    },
    /// The answer makes no sense.
    Garbled(String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        let Some(refusal) = error.as_db_error() else { return Failure::Lost(error.to_string()) };
        let code = refusal.code().code();
        // Class 08: the connection. Class 57: the operator (a terminated backend, a proxy without a lease).
        if code.starts_with("08") || code.starts_with("57") {
            return Failure::Lost(format!("{code}: {}", refusal.message()));
        }
        let mut message = refusal.message().to_owned();
        if let Some(detail) = refusal.detail() {
            message = format!("{message} ({detail})");
        }
        Failure::Refused { code: code.to_owned(), constraint: refusal.constraint().map(str::to_owned), message }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    style: Style,
    prepared: HashMap<Ask, Statement>,
    backend: i32,
}

impl Connection {
    /// Connects, and prepares what its style prepares.
    pub async fn open(url: &str, style: Style) -> Result<Connection, tokio_postgres::Error> {
        let (client, driver) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(async move {
            // An error ends the client's requests too; they report it.
            let _ = driver.await;
        });
        client.batch_execute("SET TimeZone = 'UTC'").await?;
        let backend = client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
        let mut prepared = HashMap::new();
        if style == Style::Prepared {
            for ask in Ask::ALL {
                prepared.insert(ask, client.prepare(ask.sql()).await?);
            }
        }
        Ok(Connection { client, style, prepared, backend })
    }

    /// The process id of the server session.
    pub fn backend(&self) -> i32 {
        self.backend
    }

    /// How it talks.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Sends a statement without rows (`BEGIN`, `SAVEPOINT s`).
    pub async fn command(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Sends a statement and reads the whole answer.
    pub async fn ask(&self, truth: &Truth, ask: Ask, values: &[Value]) -> Result<Answer, Failure> {
        match self.style {
            Style::Prepared => {
                let statement = &self.prepared[&ask];
                let columns =
                    statement.columns().iter().map(|c| (c.name().to_owned(), Some(c.type_().clone()))).collect();
                let mut answer = collect(self.client.query_raw(statement, values).await?).await?;
                answer.columns = Some(columns);
                Ok(answer)
            }
            Style::Unnamed => {
                let typed = values.iter().zip(truth.parameters(ask)).map(|(value, kind)| (value, kind.clone()));
                collect(self.client.query_typed_raw(ask.sql(), typed).await?).await
            }
            Style::Simple => self.text(&ask.inline(values)).await,
        }
    }

    /// Sends a text in the simple protocol, whatever the style.
    pub async fn text(&self, sql: &str) -> Result<Answer, Failure> {
        let mut answer = Answer { columns: None, rows: Vec::new(), affected: 0 };
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    answer.columns = Some(columns.iter().map(|c| (c.name().to_owned(), None)).collect());
                }
                SimpleQueryMessage::Row(row) => {
                    answer.rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
                }
                SimpleQueryMessage::CommandComplete(count) => answer.affected = count,
                other => return Err(Failure::Garbled(format!("an unexpected message: {other:?}"))),
            }
        }
        Ok(answer)
    }
}

async fn collect(stream: RowStream) -> Result<Answer, Failure> {
    pin_mut!(stream);
    let mut answer = Answer { columns: None, rows: Vec::new(), affected: 0 };
    while let Some(row) = stream.next().await {
        let row = row?;
        if answer.columns.is_none() {
            answer.columns =
                Some(row.columns().iter().map(|c| (c.name().to_owned(), Some(c.type_().clone()))).collect());
        }
        let cells: Result<Vec<_>, _> = (0..row.len()).map(|at| cell(&row, at)).collect();
        answer.rows.push(cells?);
    }
    answer.affected = stream.rows_affected().unwrap_or(0);
    Ok(answer)
}

/// A binary value as PostgreSQL writes it in text.
fn cell(row: &tokio_postgres::Row, at: usize) -> Result<Option<String>, Failure> {
    let garbled = |error: tokio_postgres::Error| Failure::Garbled(error.to_string());
    let kind = row.columns()[at].type_();
    match *kind {
        Type::INT8 => Ok(row.try_get::<_, Option<i64>>(at).map_err(garbled)?.map(|number| number.to_string())),
        Type::VARCHAR | Type::TEXT => row.try_get(at).map_err(garbled),
        Type::TIMESTAMPTZ => Ok(row.try_get::<_, Option<OffsetDateTime>>(at).map_err(garbled)?.map(timestamp)),
        _ => Err(Failure::Garbled(format!("a column of type {kind}"))),
    }
}

/// `2024-02-03 04:05:06.78+00`
fn timestamp(moment: OffsetDateTime) -> String {
    let (date, (hour, minute, second)) = (moment.date(), moment.to_hms());
    let mut text = format!("{date} {hour:02}:{minute:02}:{second:02}");
    if moment.microsecond() != 0 {
        text.push_str(format!(".{:06}", moment.microsecond()).trim_end_matches('0'));
    }
    text + "+00"
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Int(number) => number.to_sql(kind, out),
            Value::Text(text) => text.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::VARCHAR | Type::TEXT)
    }

    to_sql_checked!();
}
