//! What only some majors of PostgreSQL have means the same in every phase: MERGE, RETURNING of the row before and after,
//! columns that are computed when they are read, protocol 3.2.
//!
//! On an older server the newer constructs are left out, and said to be.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crossfade::wire::{Peer, header};
use serde_json::json;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::common::{MIGRATION, Subject, connect, server};

const LIMIT: Duration = Duration::from_secs(60);

/// A statement that the old application sends, the oldest major that has it, and what it answers in every phase.
const STATEMENTS: &[(u32, &str, &str)] = &[
    (13, "UPDATE users SET username = 'x' WHERE id = 1 RETURNING *", "id,username,email,score 1,x,a,1"),
    (
        15,
        "MERGE INTO users u USING (VALUES (1, 'm'), (9, 'n')) v(id, name) ON u.id = v.id \
         WHEN MATCHED THEN UPDATE SET username = v.name WHEN NOT MATCHED THEN INSERT (id, username) VALUES (v.id, v.name); \
         SELECT username FROM users WHERE id IN (1, 9) ORDER BY id",
        "username m n",
    ),
    (
        17,
        "MERGE INTO users u USING (VALUES (1, 'm')) v(id, name) ON u.id = v.id \
         WHEN MATCHED THEN UPDATE SET username = v.name RETURNING merge_action(), u.username",
        "merge_action,username UPDATE,m",
    ),
    (
        18,
        "UPDATE users SET username = 'x' WHERE id = 1 RETURNING old.username, new.username AS after, old.*, new.email",
        "username,after,id,username,email,score,email u1,x,1,u1,a,1,a",
    ),
    (
        18,
        "DELETE FROM users WHERE id = 1 RETURNING WITH (OLD AS o, NEW AS n) o.*, n.username",
        "id,username,email,score,username 1,u1,a,1,NULL",
    ),
    (
        18,
        "INSERT INTO users (id, username) VALUES (8, 'new') RETURNING new.*, old.username IS NULL AS fresh",
        "id,username,email,score,fresh 8,new,NULL,8,t",
    ),
    (
        18,
        "INSERT INTO users (id, username) VALUES (1, 'up') ON CONFLICT (id) DO UPDATE SET username = excluded.username \
         RETURNING old.username, new.username",
        "username,username u1,up",
    ),
    (18, "UPDATE users SET email = 'z' WHERE id = 1 RETURNING (SELECT old.username || new.email) AS both", "both u1z"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_only_some_majors_have_means_the_same_in_every_phase() {
    let server = server();
    let direct = connect(&server.url("postgres")).await;
    let version: i32 = answer(&direct, "SHOW server_version_num").await.split(' ').nth(1).unwrap().parse().unwrap();
    let major = version as u32 / 10_000;
    // From 18 on a column is computed when it is read.
    let computed = if major >= 18 { "VIRTUAL" } else { "STORED" };
    let schema = format!(
        "CREATE TABLE users (id bigint PRIMARY KEY, username varchar(255) NOT NULL UNIQUE, email text, \
         score bigint GENERATED ALWAYS AS (id) {computed}); \
         INSERT INTO users SELECT n, 'u' || n, 'a' FROM generate_series(1, 5) n"
    );
    let subject = Subject::start(&server, &schema).await;
    let client = connect(&subject.url()).await;
    let mut wrong = check(&client, major, "before").await;
    subject.start_migration(MIGRATION).await;
    let mut phase = subject.phase_after("none", LIMIT).await;
    while phase != "verified" {
        wrong.extend(check(&client, major, &phase).await);
        phase = subject.phase_after(&phase, LIMIT).await;
    }
    for percent in [50, 100] {
        subject.reads(percent).await;
        wrong.extend(check(&client, major, &format!("reads at {percent} %")).await);
    }
    subject.post("complete", json!({ "confirm": true })).await;
    subject.until_phase("contracted", LIMIT).await;
    subject.caught_up().await;
    wrong.extend(check(&client, major, "contracted").await);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

async fn check(client: &Client, major: u32, phase: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (since, sql, wanted) in STATEMENTS {
        if major < *since {
            println!("left out: PostgreSQL {since} is the first that has it: {sql}");
            continue;
        }
        client.batch_execute("BEGIN").await.unwrap();
        let got = answer(client, sql).await;
        client.batch_execute("ROLLBACK").await.unwrap();
        if got != *wanted {
            wrong.push(format!("{phase}: {sql}\n  got    {got}\n  wanted {wanted}"));
        }
    }
    wrong
}

/// Column names and rows; an error as its message.
async fn answer(client: &Client, sql: &str) -> String {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => return format!("{error:?}"),
    };
    let mut lines = Vec::new();
    for message in &messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                lines.push(columns.iter().map(|column| column.name().to_owned()).collect::<Vec<_>>());
            }
            SimpleQueryMessage::Row(row) => {
                lines.push((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect());
            }
            _ => {}
        }
    }
    lines.iter().map(|line| line.join(",")).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_protocol_passes_with_its_long_cancel_key() {
    let server = server();
    let direct = connect(&server.url("postgres")).await;
    let version: i32 = answer(&direct, "SHOW server_version_num").await.split(' ').nth(1).unwrap().parse().unwrap();
    let subject = Subject::start(&server, "CREATE TABLE users (id bigint PRIMARY KEY, username text)").await;
    let (port, database) = (subject.port(), subject.database.clone());
    let talk = move || {
        let mut client = Wire::connect(port);
        client.send(&first_packet(3 << 16 | 2, format!("user\0postgres\0database\0{database}\0\0")));
        let login = client.until(b'Z');
        let of = |kind: u8| login.iter().find(|(of, _)| *of == kind).map(|(_, body)| body.clone());
        let key = of(b'K').expect("a cancel key");
        if version >= 180_000 {
            assert!(of(b'v').is_none());
            assert_eq!(key.len(), 36);
        } else {
            // The server answers that it speaks 3.0 only.
            assert_eq!(of(b'v').map(|body| body[..4].to_vec()), Some((3u32 << 16).to_be_bytes().to_vec()));
            assert_eq!(key.len(), 8);
        }
        client.send(&message(b'Q', b"SELECT pg_sleep(300)\0"));
        // A cancel may come before the server begins the statement: sent until it is heard.
        let cancelled = loop {
            let mut canceller = Wire::connect(port);
            canceller.send(&first_packet(80_877_102, &key));
            canceller.ended();
            if let Some(answers) = client.within_a_moment(b'Z') {
                break answers;
            }
        };
        let error = cancelled.iter().find(|(kind, _)| *kind == b'E').map(|(_, body)| body.clone()).expect("an error");
        assert!(error.windows(6).any(|window| window == b"C57014"), "{}", String::from_utf8_lossy(&error));
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
}

fn first_packet(code: u32, rest: impl AsRef<[u8]>) -> Vec<u8> {
    let rest = rest.as_ref();
    let length = (rest.len() + 8) as u32;
    [&length.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A client that speaks bytes.
struct Wire {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    fn connect(port: u16) -> Wire {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        Wire { socket, buffer: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// The messages up to one of that kind.
    fn until(&mut self, last: u8) -> Vec<(u8, Vec<u8>)> {
        self.read(last, LIMIT).expect("the messages come in time")
    }

    fn within_a_moment(&mut self, last: u8) -> Option<Vec<(u8, Vec<u8>)>> {
        self.read(last, Duration::from_millis(500))
    }

    fn read(&mut self, last: u8, limit: Duration) -> Option<Vec<(u8, Vec<u8>)>> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut messages = Vec::new();
        let mut at = 0;
        loop {
            while let Ok(Some(header)) = header(&self.buffer[at..], Peer::Server)
                && self.buffer.len() >= at + header.size
            {
                messages.push((header.kind, self.buffer[at + 5..at + header.size].to_vec()));
                at += header.size;
                if header.kind == last {
                    self.buffer.drain(..at);
                    return Some(messages);
                }
            }
            let mut more = [0; 4096];
            match self.socket.read(&mut more) {
                Ok(0) => panic!("the connection ended"),
                Ok(size) => self.buffer.extend_from_slice(&more[..size]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits for the other side to close.
    fn ended(&mut self) {
        self.socket.set_read_timeout(Some(LIMIT)).unwrap();
        assert_eq!(self.socket.read(&mut [0; 16]).unwrap(), 0);
    }
}
