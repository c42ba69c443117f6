//! A blocking PostgreSQL client that keeps everything a client can see: names, type OIDs, tags, error fields.
//!
//! Refuses to interpret: values stay the text that the server sent. Trusts the server (it is our own).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A column of a result, as `RowDescription` tells it. Where it comes from (table OID, attribute number) is left out:
/// it differs between any two databases.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
}

/// The fields of an ErrorResponse that belong to what the client sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub position: Option<usize>,
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub constraint: Option<String>,
    pub context: Option<String>,
}

pub type Row = Vec<Option<String>>;

/// What one statement gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultSet {
    pub columns: Option<Vec<Column>>,
    pub rows: Vec<Row>,
    pub tag: Option<String>,
    pub copied_out: Vec<u8>,
}

/// What one text (one message of the simple protocol, or one Parse/Bind/Execute) gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    pub parameters: Option<Vec<u32>>,
    pub results: Vec<ResultSet>,
    pub error: Option<ServerError>,
}

pub struct Client {
    stream: UnixStream,
    buffered: Vec<u8>,
    from: usize,
}

impl Client {
    pub fn connect(socket_directory: &Path, port: u16, database: &str) -> io::Result<Client> {
        let stream = UnixStream::connect(socket_directory.join(format!(".s.PGSQL.{port}")))?;
        let mut client = Client { stream, buffered: Vec::new(), from: 0 };
        let mut body = 196_608u32.to_be_bytes().to_vec();
        for text in ["user", "postgres", "database", database, "options", "-c client_min_messages=error"] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
        packet.extend_from_slice(&body);
        client.stream.write_all(&packet)?;
        match client.reply(None)?.error {
            None => Ok(client),
            Some(error) => Err(io::Error::other(error.message)),
        }
    }

    /// One message of the simple protocol. `copied_in` is what a COPY FROM STDIN is fed.
    pub fn simple(&mut self, sql: &str, copied_in: Option<&[u8]>) -> io::Result<Reply> {
        let mut out = Vec::new();
        message(&mut out, b'Q', &[sql.as_bytes(), &[0]]);
        self.stream.write_all(&out)?;
        self.reply(Some(copied_in.unwrap_or_default()))
    }

    /// Runs statements of the harness's own; panics where one fails.
    #[track_caller]
    pub fn must(&mut self, sql: &str) -> Reply {
        let reply = self.simple(sql, None).expect("the throwaway server answers");
        if let Some(error) = &reply.error {
            panic!("{}: {} in\n{sql}", error.code, error.message);
        }
        reply
    }

    /// Parse, Describe, Bind, Execute, Sync with text parameters and text results.
    pub fn extended(&mut self, sql: &str, parameters: &[Option<String>]) -> io::Result<Reply> {
        let mut out = Vec::new();
        message(&mut out, b'P', &[&[0], sql.as_bytes(), &[0, 0, 0]]);
        message(&mut out, b'D', &[b"S\0"]);
        let mut bind = vec![0, 0, 0, 0];
        bind.extend_from_slice(&(parameters.len() as u16).to_be_bytes());
        for parameter in parameters {
            match parameter {
                None => bind.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(text) => {
                    bind.extend_from_slice(&(text.len() as i32).to_be_bytes());
                    bind.extend_from_slice(text.as_bytes());
                }
            }
        }
        bind.extend_from_slice(&[0, 0]);
        message(&mut out, b'B', &[&bind]);
        message(&mut out, b'E', &[&[0, 0, 0, 0, 0]]);
        message(&mut out, b'S', &[]);
        self.stream.write_all(&out)?;
        self.reply(None)
    }

    /// Everything up to ReadyForQuery.
    fn reply(&mut self, copied_in: Option<&[u8]>) -> io::Result<Reply> {
        let mut reply = Reply::default();
        let mut current = ResultSet::default();
        loop {
            let (kind, body) = self.frame()?;
            match kind {
                b'Z' => return Ok(reply),
                b'T' => current.columns = Some(columns(&body)),
                b't' => reply.parameters = Some(parameter_types(&body)),
                b'D' => current.rows.push(row(&body)),
                b'C' => {
                    current.tag = Some(text_until_nul(&body).0);
                    reply.results.push(std::mem::take(&mut current));
                }
                b'I' => reply.results.push(std::mem::take(&mut current)),
                b'E' => {
                    reply.error = Some(server_error(&body));
                    current = ResultSet::default();
                }
                b'd' => current.copied_out.extend_from_slice(&body),
                b'G' => {
                    let mut out = Vec::new();
                    message(&mut out, b'd', &[copied_in.unwrap_or_default()]);
                    message(&mut out, b'c', &[]);
                    self.stream.write_all(&out)?;
                }
                // Authentication, parameters, keys, notices, completions of Parse and Bind, COPY OUT's begin and end.
                _ => {}
            }
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        self.fill(5)?;
        let head = &self.buffered[self.from..];
        let kind = head[0];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        self.fill(1 + length)?;
        let body = self.buffered[self.from + 5..self.from + 1 + length].to_vec();
        self.from += 1 + length;
        Ok((kind, body))
    }

    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        if self.from > 0 && self.buffered.len() - self.from < bytes {
            self.buffered.drain(..self.from);
            self.from = 0;
        }
        while self.buffered.len() - self.from < bytes {
            let mut chunk = [0; 16 * 1024];
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffered.extend_from_slice(&chunk[..read]);
        }
        Ok(())
    }
}

fn message(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind);
    out.extend_from_slice(&(length as u32 + 4).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn text_until_nul(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (String::from_utf8_lossy(&bytes[..end]).into_owned(), bytes.get(end + 1..).unwrap_or_default())
}

fn number16(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn number32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn columns(body: &[u8]) -> Vec<Column> {
    let mut rest = &body[2..];
    (0..number16(body))
        .map(|_| {
            let (name, after) = text_until_nul(rest);
            let column = Column { name, type_oid: number32(&after[6..]), type_modifier: number32(&after[12..]) as i32 };
            rest = &after[18..];
            column
        })
        .collect()
}

fn parameter_types(body: &[u8]) -> Vec<u32> {
    body[2..].chunks_exact(4).map(number32).collect()
}

fn row(body: &[u8]) -> Row {
    let mut rest = &body[2..];
    (0..number16(body))
        .map(|_| {
            let length = number32(rest) as i32;
            rest = &rest[4..];
            let length = usize::try_from(length).ok()?;
            let value = String::from_utf8_lossy(&rest[..length]).into_owned();
            rest = &rest[length..];
            Some(value)
        })
        .collect()
}

fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    let mut rest = body;
    while let [kind, after @ ..] = rest {
        if *kind == 0 {
            break;
        }
        let (text, next) = text_until_nul(after);
        rest = next;
        match kind {
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'P' => error.position = text.parse().ok(),
            b's' => error.schema = Some(text),
            b't' => error.table = Some(text),
            b'c' => error.column = Some(text),
            b'n' => error.constraint = Some(text),
            b'W' => error.context = Some(text),
            _ => {}
        }
    }
    error
}
