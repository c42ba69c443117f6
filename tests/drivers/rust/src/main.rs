//! tokio-postgres and sqlx, each on connections that stay: prepared statements, unnamed ones, pipelines, COPY, typed
//! rows. Usage: rust-drivers tokio-postgres|sqlx URL; one round for each line on standard input.

use std::io::{BufRead, Cursor};
use std::pin::pin;

use futures_util::{SinkExt, TryStreamExt, future};
use sqlx::{Connection, Executor, Row};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments[1].as_str() {
        "tokio-postgres" => {
            let mut rounds = TokioPostgres::connect(&arguments[2]).await?;
            for number in lines() {
                answer(rounds.round(number).await);
            }
        }
        _ => {
            let mut rounds = Sqlx::connect(&arguments[2]).await?;
            for number in lines() {
                answer(rounds.round(number).await);
            }
        }
    }
    Ok(())
}

fn lines() -> impl Iterator<Item = usize> {
    println!("ready");
    std::io::stdin().lock().lines().map_while(Result::ok).enumerate().map(|(number, _)| number)
}

fn answer(result: Result<(), Failure>) {
    match result {
        Ok(()) => println!("ok"),
        Err(error) => println!("failed: {}", format!("{error:?}").replace('\n', " | ")),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Result<(), Failure> {
    if got == wanted { Ok(()) } else { Err(format!("got {got:?}, wanted {wanted:?}").into()) }
}

struct TokioPostgres {
    client: tokio_postgres::Client,
    add: tokio_postgres::Statement,
    find: tokio_postgres::Statement,
}

impl TokioPostgres {
    async fn connect(url: &str) -> Result<TokioPostgres, Failure> {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let add = client.prepare("INSERT INTO users (username, email) VALUES ($1, $2) RETURNING id, username").await?;
        let find = client.prepare("SELECT * FROM users WHERE username = $1").await?;
        Ok(TokioPostgres { client, add, find })
    }

    async fn round(&mut self, number: usize) -> Result<(), Failure> {
        let name = format!("tokio-{number}");
        self.client.batch_execute("DELETE FROM users WHERE username LIKE 'tokio-%'").await?;
        let added = self.client.query_one(&self.add, &[&name, &Some("e")]).await?;
        same(added.get::<_, String>("username"), name.clone())?;
        let row = self.client.query_one(&self.find, &[&name]).await?;
        let columns: Vec<&str> = row.columns().iter().map(|column| column.name()).collect();
        same(columns, vec!["id", "username", "email"])?;
        same(row.columns()[1].type_().name(), "varchar")?;
        // A pipeline: all are sent before the first is answered.
        let (first, second) = (format!("{name}-1"), format!("{name}-2"));
        let (one, two, found) = future::join3(
            self.client.query_one(&self.add, &[&first, &None::<String>]),
            self.client.query_one(&self.add, &[&second, &None::<String>]),
            self.client.query("SELECT username FROM users WHERE username = $1", &[&name]),
        )
        .await;
        same((one?.get::<_, String>(1), two?.get::<_, String>(1)), (first.clone(), second))?;
        same(found?.len(), 1)?;
        let duplicate = self.client.query_one(&self.add, &[&first, &None::<String>]).await.unwrap_err();
        let duplicate = duplicate.as_db_error().ok_or("no error of the database")?;
        same((duplicate.code().code(), duplicate.constraint()), ("23505", Some("users_username_key")))?;
        self.transaction(&name).await?;
        self.copies(&name).await
    }

    async fn transaction(&mut self, name: &str) -> Result<(), Failure> {
        let mut transaction = self.client.transaction().await?;
        let update = "UPDATE users SET username = username || $1 WHERE username = $2";
        same(transaction.execute(update, &[&"x", &name]).await?, 1)?;
        let point = transaction.savepoint("point").await?;
        point.execute("DELETE FROM users WHERE username LIKE 'tokio-%'", &[]).await?;
        point.rollback().await?;
        let portal =
            transaction.bind("SELECT username FROM users WHERE username LIKE 'tokio-%' ORDER BY 1", &[]).await?;
        same(transaction.query_portal(&portal, 2).await?.len(), 2)?;
        same(transaction.query_portal(&portal, 2).await?.len(), 1)?;
        transaction.commit().await?;
        Ok(())
    }

    async fn copies(&mut self, name: &str) -> Result<(), Failure> {
        let sink = self.client.copy_in::<_, Cursor<Vec<u8>>>("COPY users (username) FROM STDIN").await?;
        let mut sink = pin!(sink);
        let row = format!("{name}-copy\n");
        sink.send(Cursor::new(row.clone().into_bytes())).await?;
        same(sink.finish().await?, 1)?;
        let copied = self.client.copy_out(
            "COPY (SELECT username FROM users WHERE username LIKE '%-copy' AND username LIKE 'tokio-%') TO STDOUT",
        );
        let parts: Vec<_> = pin!(copied.await?).try_collect().await?;
        same(parts.concat(), row.into_bytes())?;
        let simple =
            self.client.simple_query("SELECT username FROM users WHERE username LIKE 'tokio-%'; SELECT 1").await?;
        let rows = simple.iter().filter(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_)));
        same(rows.count(), 5)
    }
}

struct Sqlx {
    connection: sqlx::PgConnection,
}

impl Sqlx {
    async fn connect(url: &str) -> Result<Sqlx, Failure> {
        Ok(Sqlx { connection: sqlx::PgConnection::connect(url).await? })
    }

    async fn round(&mut self, number: usize) -> Result<(), Failure> {
        let name = format!("sqlx-{number}");
        let connection = &mut self.connection;
        connection.execute("DELETE FROM users WHERE username LIKE 'sqlx-%'; SELECT 1").await?;
        // Prepared on first use, and kept by the driver from then on.
        let id: i64 = sqlx::query_scalar("INSERT INTO users (username, email) VALUES ($1, $2) RETURNING id")
            .bind(&name)
            .bind("e")
            .fetch_one(&mut *connection)
            .await?;
        let row =
            sqlx::query("SELECT * FROM users WHERE username = $1").bind(&name).fetch_one(&mut *connection).await?;
        same((row.get::<i64, _>("id"), row.get::<String, _>("username"), row.len()), (id, name.clone(), 3))?;
        let unkept = sqlx::query("SELECT username FROM users WHERE id = $1").persistent(false).bind(id);
        same(unkept.fetch_one(&mut *connection).await?.get::<String, _>(0), name.clone())?;
        let described = (&mut *connection).describe("SELECT u.* FROM users AS u WHERE u.username = $1").await?;
        same(described.columns.len(), 3)?;
        let mut transaction = connection.begin().await?;
        let update =
            sqlx::query("UPDATE users SET username = $1 WHERE username = $2").bind(format!("{name}x")).bind(&name);
        same(update.execute(&mut *transaction).await?.rows_affected(), 1)?;
        transaction.commit().await?;
        let upsert = "INSERT INTO users (username) VALUES ($1) ON CONFLICT (username) DO UPDATE SET email = excluded.username RETURNING email";
        let email: String = sqlx::query_scalar(upsert).bind(format!("{name}x")).fetch_one(&mut *connection).await?;
        same(email, format!("{name}x"))?;
        let duplicate = sqlx::query("INSERT INTO users (username) VALUES ($1)").bind(format!("{name}x"));
        let duplicate = duplicate.execute(&mut *connection).await.unwrap_err();
        let duplicate = duplicate.as_database_error().ok_or("no error of the database")?;
        same((duplicate.code().as_deref(), duplicate.constraint()), (Some("23505"), Some("users_username_key")))?;
        let mut copy = connection.copy_in_raw("COPY users (username) FROM STDIN").await?;
        copy.send(format!("{name}-copy\n").as_bytes()).await?;
        same(copy.finish().await?, 1)?;
        let all =
            sqlx::query_scalar("SELECT username FROM users WHERE username LIKE $1 ORDER BY username").bind("sqlx-%");
        let all: Vec<String> = all.fetch_all(&mut *connection).await?;
        same(all, vec![format!("{name}-copy"), format!("{name}x")])
    }
}
