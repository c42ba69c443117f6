//! A PostgreSQL client that hides nothing: it keeps what the server said, message for message.
//!
//! Blocking, trust authentication only. Knows no SQL.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take before the test fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a client sees of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Type OIDs of the parameters.
    Parameters(Vec<u32>),
    /// Names and type OIDs.
    Columns(Vec<(String, u32)>),
    /// There will be no rows.
    NoData,
    /// Values in text.
    Row(Vec<Option<String>>),
    /// The command tag.
    Tag(String),
    /// SQLSTATE, message, and the constraint it names.
    Error { code: String, message: String, constraint: Option<String> },
    /// An empty query, a suspended portal, or a message that no test expects: its type.
    Other(char),
}

/// A connection.
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects as the superuser to that database, with these startup parameters besides.
    pub fn connect(port: u16, database: &str, parameters: &[(&str, &str)]) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port answers");
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Raw { stream };
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for (name, value) in [("user", "postgres"), ("database", database)].iter().chain(parameters) {
            body.extend_from_slice(&[name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        let length = (body.len() as u32 + 4).to_be_bytes();
        raw.stream.write_all(&[&length[..], &body].concat()).unwrap();
        let seen = raw.until_ready();
        assert!(!seen.iter().any(|seen| matches!(seen, Seen::Error { .. })), "{seen:?}");
        raw
    }

    /// The simple protocol.
    pub fn simple(&mut self, sql: &str) -> Vec<Seen> {
        self.send(&message(b'Q', &text(sql)));
        self.until_ready()
    }

    /// The extended protocol without names: Parse, Describe, Bind, Describe, Execute, Sync.
    pub fn extended(&mut self, sql: &str, values: &[Option<&str>]) -> Vec<Seen> {
        let batch = [parse("", sql), describe(b'S', ""), bind("", values), describe(b'P', ""), execute(), sync()];
        self.send(&batch.concat());
        self.until_ready()
    }

    /// Several texts without names in one batch, which one Sync ends.
    pub fn pipelined(&mut self, texts: &[(&str, &[Option<&str>])]) -> Vec<Seen> {
        let mut batch = Vec::new();
        for (sql, values) in texts {
            let one = [parse("", sql), describe(b'S', ""), bind("", values), describe(b'P', ""), execute()];
            batch.extend_from_slice(&one.concat());
        }
        batch.extend_from_slice(&sync());
        self.send(&batch);
        self.until_ready()
    }

    /// Makes a named statement.
    pub fn prepare(&mut self, name: &str, sql: &str) -> Vec<Seen> {
        self.send(&[parse(name, sql), describe(b'S', name), sync()].concat());
        self.until_ready()
    }

    /// Runs a named statement.
    pub fn run(&mut self, name: &str, values: &[Option<&str>]) -> Vec<Seen> {
        self.send(&[bind(name, values), describe(b'P', ""), execute(), sync()].concat());
        self.until_ready()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection takes it");
    }

    fn until_ready(&mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            let (kind, body) = self.receive();
            match kind {
                b'Z' => return all,
                // Authentication, parameter status, backend key, notices; completions that say nothing more.
                b'R' | b'S' | b'K' | b'N' | b'1' | b'2' | b'3' => {}
                _ => all.push(seen(kind, &body)),
            }
        }
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).expect("the connection gives an answer");
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the connection gives the whole answer");
        (head[0], body)
    }
}

fn text(sql: &str) -> Vec<u8> {
    [sql.as_bytes(), b"\0"].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[text(name), text(sql), vec![0, 0]].concat())
}

fn describe(what: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![what], text(name)].concat())
}

fn bind(name: &str, values: &[Option<&str>]) -> Vec<u8> {
    let mut body = [text(""), text(name), vec![0, 0]].concat();
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            Some(value) => {
                body.extend_from_slice(&(value.len() as u32).to_be_bytes());
                body.extend_from_slice(value.as_bytes());
            }
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

fn execute() -> Vec<u8> {
    message(b'E', &[text(""), vec![0; 4]].concat())
}

fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Reads a body from its front.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken.to_vec()
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn string(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap();
        let taken = self.take(end + 1);
        String::from_utf8_lossy(&taken[..end]).into_owned()
    }
}

fn seen(kind: u8, body: &[u8]) -> Seen {
    let mut body = Body(body);
    match kind {
        b't' => Seen::Parameters((0..body.u16()).map(|_| body.u32()).collect()),
        b'T' => Seen::Columns((0..body.u16()).map(|_| column(&mut body)).collect()),
        b'n' => Seen::NoData,
        b'D' => Seen::Row((0..body.u16()).map(|_| value(&mut body)).collect()),
        b'C' => Seen::Tag(body.string()),
        b'E' => error(&mut body),
        other => Seen::Other(char::from(other)),
    }
}

fn column(body: &mut Body) -> (String, u32) {
    let name = body.string();
    // The table's OID and the column's number differ between databases; so do nothing but the type.
    body.take(6);
    let kind = body.u32();
    body.take(8);
    (name, kind)
}

fn value(body: &mut Body) -> Option<String> {
    let length = body.u32() as i32;
    (length >= 0).then(|| String::from_utf8_lossy(&body.take(length as usize)).into_owned())
}

fn error(body: &mut Body) -> Seen {
    let (mut code, mut message, mut constraint) = (String::new(), String::new(), None);
    loop {
        match body.take(1)[0] {
            0 => return Seen::Error { code, message, constraint },
            b'C' => code = body.string(),
            b'M' => message = body.string(),
            b'n' => constraint = Some(body.string()),
            _ => drop(body.string()),
        }
    }
}
