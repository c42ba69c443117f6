//! What PostgreSQL's own parser (libpg_query) says about a text: tokens, statements, their kinds and the relations they
//! name.
//!
//! Knows nothing of Crossfade's readers; `agreement.rs` compares.

use pg_query::protobuf::Token;
use pg_query::{NodeEnum, ParserOptions};

/// What a token is, as far as boundaries matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A string constant of any form.
    String,
    /// A comment.
    Comment,
    /// A quoted name.
    Quoted,
    /// An identifier or keyword.
    Word,
    /// A parameter, number, operator or mark.
    Other,
}

/// One token: what it is, and its bytes.
pub type Piece = (Class, usize, usize);

/// The tokens of a text (with `standard_conforming_strings` on); `None` where the scanner refuses it.
pub fn tokens(text: &str) -> Option<Vec<Piece>> {
    let scanned = pg_query::scan_tokens(text).ok()?;
    let class = |token: i32, start: usize| match Token::try_from(token) {
        Ok(Token::Sconst | Token::Usconst | Token::Bconst | Token::Xconst) => Class::String,
        Ok(Token::SqlComment | Token::CComment) => Class::Comment,
        Ok(Token::Uident) => Class::Quoted,
        Ok(Token::Ident) if text.as_bytes()[start] == b'"' => Class::Quoted,
        Ok(Token::Ident) => Class::Word,
        // Keywords are behind the last of the other tokens.
        Ok(other) if other as i32 >= Token::AbortP as i32 && text.as_bytes()[start].is_ascii_alphabetic() => {
            Class::Word
        }
        Ok(_) | Err(_) => Class::Other,
    };
    Some(scanned.iter().map(|t| (class(t.token, t.start as usize), t.start as usize, t.end as usize)).collect())
}

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    Copy,
    Explain,
    Transaction,
    Set,
    Prepare,
    Execute,
    Deallocate,
    Discard,
    Declare,
    Fetch,
    Close,
    Call,
    Do,
    Lock,
    Truncate,
    Notify,
    Show,
    Other,
}

/// A relation that a statement names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The schema, or empty.
    pub schema: String,
    /// The name.
    pub name: String,
    /// The first byte of its name in the text, where PostgreSQL tells.
    pub place: Option<usize>,
    /// Whether the statement makes it (`INTO`, `CREATE TABLE`, `CREATE VIEW`), or it is the name of another reference
    /// (`FOR UPDATE OF`).
    pub made: bool,
}

/// One statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its bytes as the grammar has them: blanks and comments before it are in.
    pub start: usize,
    pub end: usize,
    pub verb: Verb,
    /// All that it names, at any depth.
    pub relations: Vec<Named>,
    /// The names of its common table expressions.
    pub ctes: Vec<String>,
}

/// The statements of a text; `None` where PostgreSQL's parser refuses it.
pub fn statements(text: &str, standard_conforming_strings: bool) -> Option<Vec<Statement>> {
    let options = match standard_conforming_strings {
        true => ParserOptions::DEFAULT,
        false => ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS,
    };
    let parsed = pg_query::parse(text, options).ok()?.protobuf;
    let statements = parsed.stmts.iter().map(|raw| {
        let start = raw.stmt_location as usize;
        let end = if raw.stmt_len == 0 { text.len() } else { start + raw.stmt_len as usize };
        let node = raw.stmt.as_ref().and_then(|node| node.node.as_ref());
        let shown = format!("{node:?}");
        let found = Dump::read(&shown);
        let verb = node.map_or(Verb::Other, verb_of);
        Statement { start, end, verb, relations: found.relations, ctes: found.ctes }
    });
    Some(statements.collect())
}

fn verb_of(node: &NodeEnum) -> Verb {
    match node {
        NodeEnum::SelectStmt(_) => Verb::Select,
        NodeEnum::InsertStmt(_) => Verb::Insert,
        NodeEnum::UpdateStmt(_) => Verb::Update,
        NodeEnum::DeleteStmt(_) => Verb::Delete,
        NodeEnum::MergeStmt(_) => Verb::Merge,
        NodeEnum::CopyStmt(_) => Verb::Copy,
        NodeEnum::ExplainStmt(_) => Verb::Explain,
        NodeEnum::TransactionStmt(_) => Verb::Transaction,
        NodeEnum::VariableSetStmt(_) | NodeEnum::ConstraintsSetStmt(_) => Verb::Set,
        NodeEnum::VariableShowStmt(_) => Verb::Show,
        NodeEnum::PrepareStmt(_) => Verb::Prepare,
        NodeEnum::ExecuteStmt(_) => Verb::Execute,
        NodeEnum::DeallocateStmt(_) => Verb::Deallocate,
        NodeEnum::DiscardStmt(_) => Verb::Discard,
        NodeEnum::DeclareCursorStmt(_) => Verb::Declare,
        NodeEnum::FetchStmt(_) => Verb::Fetch,
        NodeEnum::ClosePortalStmt(_) => Verb::Close,
        NodeEnum::CallStmt(_) => Verb::Call,
        NodeEnum::DoStmt(_) => Verb::Do,
        NodeEnum::LockStmt(_) => Verb::Lock,
        NodeEnum::TruncateStmt(_) => Verb::Truncate,
        NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) | NodeEnum::NotifyStmt(_) => Verb::Notify,
        _ => Verb::Other,
    }
}

/// The relations and CTEs in the written form of a parse tree.
///
/// The crate's own walk leaves out some kinds of node; the written form has them all, and string constants in it are
/// quoted, so that nothing in them is taken for a node.
#[derive(Debug, Default)]
struct Dump {
    relations: Vec<Named>,
    ctes: Vec<String>,
}

impl Dump {
    fn read(shown: &str) -> Dump {
        let mut dump = Dump::default();
        // The nodes that are open, and the relations among them.
        let mut levels: Vec<&str> = Vec::new();
        let mut open: Vec<Named> = Vec::new();
        let (mut rest, mut word, mut field) = (shown, "", "");
        while let Some(first) = rest.chars().next() {
            let within = levels.last() == Some(&"RangeVar");
            let length = match first {
                'a'..='z' | 'A'..='Z' | '_' | '0'..='9' => {
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                    word = &rest[..end];
                    if let (true, "location", Some(named)) = (within, field, open.last_mut()) {
                        named.place = word.parse().ok();
                    }
                    end
                }
                '"' => {
                    let end = end_of_string(rest);
                    let value = unescaped(&rest[1..end - 1]);
                    match (within, field, open.last_mut()) {
                        (true, "schemaname", Some(named)) => named.schema = value,
                        (true, "relname", Some(named)) => named.name = value,
                        (_, "ctename", _) if levels.last() == Some(&"CommonTableExpr") => dump.ctes.push(value),
                        _ => {}
                    }
                    end
                }
                other => {
                    match other {
                        '{' => {
                            if word == "RangeVar" {
                                let made = field == "view"
                                    || levels.last() == Some(&"IntoClause")
                                    || levels.contains(&"LockingClause")
                                    || (levels.last() == Some(&"CreateStmt") && field == "relation");
                                open.push(Named { schema: String::new(), name: String::new(), place: None, made });
                            }
                            levels.push(word);
                        }
                        '}' => {
                            if levels.pop() == Some("RangeVar") {
                                dump.relations.extend(open.pop());
                            }
                        }
                        _ => {}
                    }
                    match other {
                        ':' => field = word,
                        // A place that is not told is -1.
                        '{' | '}' | ',' | '-' => field = "",
                        _ => {}
                    }
                    other.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        dump
    }
}

fn end_of_string(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// Undoes what `{:?}` does to a string.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('0') => out.push('\0'),
                Some('u') => {
                    let code: String = characters.by_ref().take_while(|c| *c != '}').filter(|c| *c != '{').collect();
                    out.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                }
                Some(other) => out.push(other),
                None => {}
            },
            (other, false) => out.push(other),
        }
    }
    out
}
