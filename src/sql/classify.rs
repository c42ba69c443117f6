//! Splits a text into its statements and says what each is, as far as a session must know to follow its state.
//!
//! Pure, by tokens alone: no reader is asked, so every text has an answer. Judges no statement's meaning.

use std::ops::Range;

use memchr::{memchr, memchr_iter};

use super::lex::{self, Lexer, Token, TokenKind};
use super::word::Word;

const SET_CONFIG: Word = Word::new(b"set_config");

/// The statements of one text, empty ones left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statements {
    statements: Vec<Statement>,
}

/// One statement: where it stands and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its bytes, from its first token to its last, without the semicolon.
    pub range: Range<usize>,
    /// What it is.
    pub kind: Kind,
    /// Whether it names `set_config`, which changes settings from within an expression.
    pub calls_set_config: bool,
}

/// What a statement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `SELECT`, also behind `WITH` or in brackets, and `SELECT INTO`.
    Select,
    /// `VALUES`.
    Values,
    /// `TABLE name`.
    Table,
    /// `INSERT`, also behind `WITH`.
    Insert,
    /// `UPDATE`, also behind `WITH`.
    Update,
    /// `DELETE`, also behind `WITH`.
    Delete,
    /// `MERGE`, also behind `WITH`.
    Merge,
    /// `EXPLAIN`.
    Explain,
    /// `COPY`.
    Copy(CopyEnd),
    /// `BEGIN` or `START TRANSACTION`.
    Begin,
    /// `COMMIT` or `END`.
    Commit {
        /// `AND CHAIN`: a new transaction begins at once.
        chain: bool,
    },
    /// `ROLLBACK` or `ABORT` of the whole transaction.
    Rollback {
        /// `AND CHAIN`: a new transaction begins at once.
        chain: bool,
    },
    /// `ROLLBACK TO SAVEPOINT`.
    RollbackTo,
    /// `SAVEPOINT`.
    Savepoint,
    /// `RELEASE`.
    Release,
    /// `PREPARE TRANSACTION`: the transaction leaves the session.
    PrepareTransaction,
    /// `COMMIT PREPARED` or `ROLLBACK PREPARED`.
    FinishPrepared,
    /// `SET`.
    Set(Setting),
    /// `RESET name`.
    Reset(String),
    /// `RESET ALL`.
    ResetAll,
    /// `SHOW`.
    Show,
    /// SQL-level `PREPARE`.
    Prepare {
        /// The statement's name.
        name: String,
        /// The bytes of the statement behind `AS`.
        body: Range<usize>,
    },
    /// SQL-level `EXECUTE`.
    Execute {
        /// The statement's name.
        name: String,
    },
    /// `DEALLOCATE`.
    Deallocate {
        /// The statement's name; `None` for `ALL`.
        name: Option<String>,
    },
    /// `DISCARD`, with what (`all`, `plans`, `sequences`, `temp`, `temporary`).
    Discard(String),
    /// `DECLARE ... CURSOR`.
    Declare,
    /// `FETCH` or `MOVE`.
    Fetch,
    /// `CLOSE`.
    Close,
    /// `CALL`: a procedure, which may do anything, also commit.
    Call,
    /// `DO`: a code block, which may do anything.
    Do,
    /// `LOCK`.
    Lock,
    /// `TRUNCATE`.
    Truncate,
    /// `LISTEN`, `UNLISTEN` or `NOTIFY`.
    Notify,
    /// `CREATE`, `ALTER`, `DROP`, `COMMENT`, `GRANT` and whatever else changes or tends the schema.
    Ddl,
    /// Something that this list does not know.
    Other,
}

/// Where `COPY` reads from or writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyEnd {
    /// `FROM STDIN`: the client sends data.
    FromStdin,
    /// `TO STDOUT`: the server sends data.
    ToStdout,
    /// A file or program of the server.
    Server,
}

/// A `SET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The parameter, folded: `search_path` (also for `SET SCHEMA`), `client_encoding` (also for `SET NAMES`),
    /// `timezone`, `crossfade.shape`; `transaction`, `session characteristics`, `session authorization`, `role` and
    /// `constraints` for the statements that look like a SET and are none.
    pub name: String,
    /// The values, quotes undone; empty for `DEFAULT` and for what has no values.
    pub values: Vec<String>,
    /// `SET LOCAL`: until the end of the transaction.
    pub local: bool,
}

impl Statements {
    /// The statements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Statement> {
        self.statements.iter()
    }

    /// The statement, where there is exactly one.
    pub fn single(&self) -> Option<&Statement> {
        match self.statements.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Whether there is none (an empty query).
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }
}

/// Splits a text and names its statements. A text of one statement is not read beyond what its kind needs.
pub fn classify(text: &[u8], standard_conforming_strings: bool) -> Statements {
    if let Some(statement) = classify_plain(text, standard_conforming_strings) {
        return Statements { statements: vec![statement] };
    }
    let tokens: Vec<Token> = Lexer::new(text, standard_conforming_strings).significant().collect();
    let statements = split(text, &tokens).into_iter().filter_map(|range| describe(text, tokens.get(range)?)).collect();
    Statements { statements }
}

/// The quick way for what makes up almost all traffic: one statement whose kind its first word gives.
fn classify_plain(text: &[u8], standard_conforming_strings: bool) -> Option<Statement> {
    let body = text.trim_ascii_end();
    let body = body.strip_suffix(b";").unwrap_or(body).trim_ascii_end();
    if memchr(b';', body).is_some() || memchr_iter(b'-', body).any(|at| body.get(at + 1) == Some(&b'-')) {
        return None;
    }
    let end = last_token_end(body)?;
    let first = Lexer::new(body, standard_conforming_strings).significant().next()?;
    let kind = match_word(first.bytes(body), |word| match word {
        b"select" => Some(Kind::Select),
        b"insert" => Some(Kind::Insert),
        b"update" => Some(Kind::Update),
        b"delete" => Some(Kind::Delete),
        b"begin" => Some(Kind::Begin),
        _ => None,
    })?;
    (first.kind == TokenKind::Word).then(|| Statement {
        range: first.start..end,
        kind,
        calls_set_config: SET_CONFIG.is_in(body),
    })
}

/// Where a text ends without the comments at its end, of which tools add one to every statement; `None` where one of them
/// may have others in it.
fn last_token_end(body: &[u8]) -> Option<usize> {
    let mut rest = body;
    while let Some(comment) = rest.strip_suffix(b"*/") {
        let start = memchr::memmem::rfind(comment, b"/*")?;
        if memchr::memmem::find(&comment[start + 2..], b"*/").is_some() {
            return None;
        }
        rest = comment[..start].trim_ascii_end();
    }
    Some(rest.len())
}

fn match_word<T>(bytes: &[u8], choose: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    let mut folded = [0u8; 16];
    let folded = folded.get_mut(..bytes.len())?;
    folded.copy_from_slice(bytes);
    folded.make_ascii_lowercase();
    choose(folded)
}

/// The token ranges between the semicolons that end statements: none inside brackets or a `BEGIN ATOMIC` body.
pub(super) fn split(text: &[u8], tokens: &[Token]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut depth, mut atomic) = (0usize, 0usize, 0usize);
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Mark(b'(' | b'[') => depth += 1,
            TokenKind::Mark(b')' | b']') => depth = depth.saturating_sub(1),
            // Behind a dot or AS these words are names.
            TokenKind::Word if atomic > 0 && index > start && is_label(text, &tokens[index - 1]) => {}
            TokenKind::Word if atomic > 0 && token.is_word(text, "case") => atomic += 1,
            TokenKind::Word if atomic > 0 && token.is_word(text, "end") => atomic -= 1,
            TokenKind::Word if token.is_word(text, "atomic") => {
                let begins = index > start && tokens[index - 1].is_word(text, "begin");
                atomic += usize::from(begins && tokens[start].is_word(text, "create"));
            }
            TokenKind::Mark(b';') if depth == 0 && atomic == 0 => {
                ranges.push(start..index);
                start = index + 1;
            }
            TokenKind::Word
            | TokenKind::Quoted
            | TokenKind::UnicodeQuoted
            | TokenKind::Text
            | TokenKind::EscapeText
            | TokenKind::UnicodeText
            | TokenKind::BitText
            | TokenKind::DollarText
            | TokenKind::Param
            | TokenKind::Number
            | TokenKind::Operator
            | TokenKind::Mark(_)
            | TokenKind::Comment
            | TokenKind::Unterminated => {}
        }
    }
    ranges.push(start..tokens.len());
    ranges.retain(|range| !range.is_empty());
    ranges
}

/// Whether any word behind this token is a name.
fn is_label(text: &[u8], token: &Token) -> bool {
    token.is_mark(b'.') || token.is_word(text, "as")
}

fn describe(text: &[u8], tokens: &[Token]) -> Option<Statement> {
    let range = tokens.first()?.start..tokens.last()?.end;
    let calls_set_config = SET_CONFIG.is_in(text.get(range.clone())?);
    Some(Statement { kind: Words { text, tokens }.kind(), range, calls_set_config })
}

/// One statement's tokens, to be asked about.
struct Words<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
}

impl Words<'_> {
    fn is(&self, index: usize, word: &str) -> bool {
        self.tokens.get(index).is_some_and(|token| token.is_word(self.text, word))
    }

    fn name(&self, index: usize) -> String {
        self.tokens
            .get(index)
            .filter(|token| token.kind.is_name())
            .and_then(|token| lex::name(self.text, token, lex::escape_of(self.text, self.tokens, index)))
            .unwrap_or_default()
    }

    /// Whether the word stands outside of brackets from `from` on.
    fn has(&self, from: usize, word: &str) -> bool {
        self.find(from, |token| token.is_word(self.text, word)).is_some()
    }

    fn find(&self, from: usize, wanted: impl Fn(&Token) -> bool) -> Option<usize> {
        let mut depth = 0usize;
        for (index, token) in self.tokens.iter().enumerate().skip(from) {
            if token.is_mark(b'(') {
                depth += 1;
            } else if token.is_mark(b')') {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && wanted(token) {
                return Some(index);
            }
        }
        None
    }

    fn kind(&self) -> Kind {
        let open = self.tokens.iter().take_while(|token| token.is_mark(b'(')).count();
        let first = self.tokens.get(open).map(|token| token.bytes(self.text)).unwrap_or_default();
        match first.to_ascii_lowercase().as_slice() {
            b"with" => self.behind_with(open),
            b"select" => Kind::Select,
            b"values" => Kind::Values,
            b"table" => Kind::Table,
            b"insert" => Kind::Insert,
            b"update" => Kind::Update,
            b"delete" => Kind::Delete,
            b"merge" => Kind::Merge,
            b"explain" => Kind::Explain,
            b"copy" => Kind::Copy(self.copy_end()),
            b"call" => Kind::Call,
            b"do" => Kind::Do,
            b"lock" => Kind::Lock,
            b"truncate" => Kind::Truncate,
            b"listen" | b"unlisten" | b"notify" => Kind::Notify,
            b"declare" => Kind::Declare,
            b"fetch" | b"move" => Kind::Fetch,
            b"close" => Kind::Close,
            b"show" => Kind::Show,
            b"create" | b"alter" | b"drop" | b"comment" | b"grant" | b"revoke" | b"security" | b"import"
            | b"reassign" | b"vacuum" | b"analyze" | b"analyse" | b"cluster" | b"reindex" | b"refresh" => Kind::Ddl,
            _ => self.transaction_or_session(),
        }
    }

    fn behind_with(&self, from: usize) -> Kind {
        let verbs = ["select", "insert", "update", "delete", "merge", "values", "table"];
        let verb = self.find(from + 1, |token| verbs.iter().any(|verb| token.is_word(self.text, verb)));
        match verb.map(|index| self.name(index)).as_deref() {
            Some("insert") => Kind::Insert,
            Some("update") => Kind::Update,
            Some("delete") => Kind::Delete,
            Some("merge") => Kind::Merge,
            _ => Kind::Select,
        }
    }

    fn copy_end(&self) -> CopyEnd {
        let Some(way) = self.find(1, |token| token.is_word(self.text, "from") || token.is_word(self.text, "to")) else {
            return CopyEnd::Server;
        };
        match (self.is(way, "from"), self.name(way + 1).as_str()) {
            (true, "stdin" | "stdout") => CopyEnd::FromStdin,
            (false, "stdin" | "stdout") => CopyEnd::ToStdout,
            _ => CopyEnd::Server,
        }
    }

    fn transaction_or_session(&self) -> Kind {
        let first = self.tokens[0].bytes(self.text).to_ascii_lowercase();
        match first.as_slice() {
            b"begin" => Kind::Begin,
            b"start" if self.is(1, "transaction") => Kind::Begin,
            b"commit" | b"rollback" if self.is(1, "prepared") => Kind::FinishPrepared,
            b"commit" | b"end" => Kind::Commit { chain: self.chains() },
            b"rollback" | b"abort" if self.has(1, "to") => Kind::RollbackTo,
            b"rollback" | b"abort" => Kind::Rollback { chain: self.chains() },
            b"savepoint" => Kind::Savepoint,
            b"release" => Kind::Release,
            b"prepare" if self.is(1, "transaction") => Kind::PrepareTransaction,
            b"prepare" => self.prepare(),
            b"execute" => Kind::Execute { name: self.name(1) },
            b"deallocate" => self.deallocate(),
            b"discard" => Kind::Discard(self.name(1)),
            b"set" => self.set(),
            b"reset" => self.reset(),
            _ => Kind::Other,
        }
    }

    fn chains(&self) -> bool {
        let chain = self.tokens.iter().rposition(|token| token.is_word(self.text, "chain"));
        chain.is_some_and(|at| at > 0 && !self.is(at - 1, "no"))
    }

    fn prepare(&self) -> Kind {
        let body = match (self.find(2, |token| token.is_word(self.text, "as")), self.tokens.last()) {
            (Some(at), Some(last)) => self.tokens.get(at + 1).map_or(last.end..last.end, |t| t.start..last.end),
            (None, _) | (_, None) => 0..0,
        };
        Kind::Prepare { name: self.name(1), body }
    }

    fn deallocate(&self) -> Kind {
        let at = if self.is(1, "prepare") && self.tokens.len() > 2 { 2 } else { 1 };
        Kind::Deallocate { name: if self.is(at, "all") { None } else { Some(self.name(at)) } }
    }

    fn reset(&self) -> Kind {
        if self.is(1, "all") {
            return Kind::ResetAll;
        }
        if self.is(1, "time") && self.is(2, "zone") {
            return Kind::Reset("timezone".to_owned());
        }
        Kind::Reset(self.parameter(1).0)
    }

    /// A parameter's name (`crossfade.shape` is three tokens) and the index behind it.
    fn parameter(&self, mut at: usize) -> (String, usize) {
        let mut name = self.name(at).to_ascii_lowercase();
        while self.tokens.get(at + 1).is_some_and(|token| token.is_mark(b'.')) {
            name.push('.');
            name.push_str(&self.name(at + 2).to_ascii_lowercase());
            at += 2;
        }
        (name, at + 1)
    }

    fn set(&self) -> Kind {
        let local = self.is(1, "local");
        let from = if local || (self.is(1, "session") && !self.is(2, "characteristics") && !self.is(2, "authorization"))
        {
            2
        } else {
            1
        };
        let special = |name: &str, values_from: usize| {
            Kind::Set(Setting { name: name.to_owned(), values: self.values(values_from), local })
        };
        if self.is(from, "time") && self.is(from + 1, "zone") {
            return special("timezone", from + 2);
        }
        if self.is(from, "session") && self.is(from + 1, "authorization") {
            return special("session authorization", from + 2);
        }
        if self.is(from, "session") {
            return special("session characteristics", self.tokens.len());
        }
        let (name, behind) = self.parameter(from);
        let assigns = self.is(behind, "to")
            || self.tokens.get(behind).is_some_and(|t| t.kind == TokenKind::Operator && t.bytes(self.text) == b"=");
        match name.as_str() {
            _ if assigns => special(&name, behind + 1),
            "transaction" | "constraints" => special(&name, self.tokens.len()),
            "schema" => special("search_path", behind),
            "names" => special("client_encoding", behind),
            _ => special(&name, behind),
        }
    }

    fn values(&self, from: usize) -> Vec<String> {
        let tokens = self.tokens.get(from..).unwrap_or_default();
        if let [only] = tokens
            && only.is_word(self.text, "default")
        {
            return Vec::new();
        }
        let value = |index: usize, token: &Token| {
            if token.kind.is_name() {
                return Some(self.name(from + index));
            }
            if token.kind.is_text() {
                return lex::string_value(self.text, token);
            }
            (token.kind == TokenKind::Number).then(|| String::from_utf8_lossy(token.bytes(self.text)).into_owned())
        };
        tokens.iter().enumerate().filter_map(|(index, token)| value(index, token)).collect()
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
