//! What unqualified names mean in a session: the question that is put to PostgreSQL, its answer, and which statements
//! may change it.
//!
//! The session's shape comes with the answer, so that `SET LOCAL`, `RESET`, rollback, role defaults and startup options
//! are all followed by the one who knows: PostgreSQL.

use std::fmt::Write;

use crate::migration::{Rules, Shape};
use crate::schema::{Column, Ident, QualifiedName, Relation, RelationKind, RowFunction};
use crate::sql::lex::{self, TokenKind};
use crate::sql::{Kind, Names, Statement, Statements, Temporary, Word};

/// The question about these tables under migration. Each name goes and comes as the hexadecimal digits of its UTF-8,
/// whatever the session's encoding and string syntax are.
///
/// A name under migration that is found, but in another schema than a migrating table's, counts as hidden: our catalog may
/// not know yet what was found.
pub(super) fn names_question(rules: &Rules) -> String {
    question(rules, &[])
}

/// The same, and what columns the tables of migrations that have begun have; empty where there are none.
pub(super) fn tables_question(rules: &Rules) -> String {
    let tables = rules.tables_begun();
    if tables.is_empty() { String::new() } else { question(rules, &tables) }
}

fn question(rules: &Rules, tables: &[&QualifiedName]) -> String {
    let mut question = format!("{NAMES_QUESTION}UNION ALL SELECT 6, 0, {RELATION}{TEMPORARY}");
    // What was made since the rules' catalog was read: PostgreSQL counts OIDs up. Where it has begun anew, such a
    // relation stays unknown until the catalog is read again.
    let migrating: Vec<String> = rules.names().iter().map(|name| decoded(name.as_str())).collect();
    if let (Some(newest), false) = (rules.catalog().newest(), migrating.is_empty()) {
        let _ = write!(
            question,
            "UNION ALL SELECT 8, 0, {RELATION} c.oid OPERATOR(pg_catalog.>) '{newest}'::pg_catalog.oid \
             AND c.relpersistence OPERATOR(pg_catalog.<>) 't' AND pg_catalog.pg_table_is_visible(c.oid) \
             AND c.relname::pg_catalog.text OPERATOR(pg_catalog.<>) ALL (ARRAY[{}]) ",
            migrating.join(", ")
        );
    }
    for (number, table) in tables.iter().enumerate() {
        let _ = write!(
            question,
            "UNION ALL SELECT 7, {number}, pg_catalog.concat_ws(' ', '{number}', {TABLE_COLUMN} WHERE c.oid OPERATOR(pg_catalog.=) \
             pg_catalog.to_regclass(pg_catalog.concat(pg_catalog.quote_ident({}), '.', pg_catalog.quote_ident({})))::pg_catalog.oid ",
            decoded(table.schema.as_str()),
            decoded(table.name.as_str())
        );
    }
    for (number, table) in tables.iter().enumerate() {
        let _ = write!(
            question,
            "UNION ALL SELECT 9, {number}, pg_catalog.concat_ws(' ', '{number}', {ROW_FUNCTION} \
             WHERE t.oid OPERATOR(pg_catalog.=) \
             pg_catalog.to_regclass(pg_catalog.concat(pg_catalog.quote_ident({}), '.', pg_catalog.quote_ident({})))::pg_catalog.oid \
             AND p.oid OPERATOR(pg_catalog.>=) '16384'::pg_catalog.oid \
             AND p.prokind OPERATOR(pg_catalog.=) ANY ('{{f,w}}'::pg_catalog.\"char\"[]) GROUP BY s.nspname, p.proname ",
            decoded(table.schema.as_str()),
            decoded(table.name.as_str())
        );
    }
    for name in rules.names() {
        let schemas = rules.tables().filter(|table| &table.table.name == name);
        let schemas: Vec<String> = schemas.map(|table| decoded(table.table.schema.as_str())).collect();
        let _ = write!(
            question,
            "UNION ALL SELECT 2, 0, c.relname::pg_catalog.text FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS s ON s.oid OPERATOR(pg_catalog.=) c.relnamespace \
             WHERE c.oid OPERATOR(pg_catalog.=) \
             pg_catalog.to_regclass(pg_catalog.quote_ident({}))::pg_catalog.oid \
             AND s.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) ALL (ARRAY[{}]) ",
            decoded(name.as_str()),
            schemas.join(", ")
        );
    }
    question.push_str(") AS a WHERE v IS NOT NULL ORDER BY k, n /* crossfade */");
    question
}

/// A text as an expression that has no quote or backslash in it.
fn decoded(text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("pg_catalog.convert_from(pg_catalog.decode('{hex}', 'hex'), 'UTF8')")
}

const NAMES_QUESTION: &str = "\
SELECT k, pg_catalog.encode(pg_catalog.convert_to(v, 'UTF8'), 'hex') FROM (\
SELECT 1 AS k, n, s::pg_catalog.text AS v FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS p(s, n) \
UNION ALL SELECT 4, 0, pg_catalog.pg_backend_pid()::pg_catalog.text \
UNION ALL SELECT 5, 0, pg_catalog.pg_is_in_recovery()::pg_catalog.text \
UNION ALL \
SELECT 3, 0, pg_catalog.current_setting('crossfade.shape', true) ";

/// A relation of some kinds with its columns.
const RELATION: &str = "\
pg_catalog.concat(pg_catalog.encode(pg_catalog.convert_to(c.relname::pg_catalog.text, 'UTF8'), 'hex'), \
(SELECT pg_catalog.string_agg(pg_catalog.concat(' ', \
pg_catalog.encode(pg_catalog.convert_to(a.attname::pg_catalog.text, 'UTF8'), 'hex')), '' ORDER BY a.attnum) \
FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid \
AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped)) FROM pg_catalog.pg_class AS c \
WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,S}'::pg_catalog.\"char\"[]) AND ";

/// Which of them are temporary and the session's own.
const TEMPORARY: &str = "pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0 \
AND c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() ";

/// A column of a relation: OID, kind, number, whether it is NOT NULL, generated, an identity, its place in the primary key
/// (from 1, else 0), and as hexadecimal digits its name, its type with and without modifier, its default (else `-`).
const TABLE_COLUMN: &str = "\
c.oid::pg_catalog.text, c.relkind::pg_catalog.text, a.attnum::pg_catalog.text, a.attnotnull::pg_catalog.text, \
(a.attgenerated OPERATOR(pg_catalog.<>) '')::pg_catalog.text, (a.attidentity OPERATOR(pg_catalog.<>) '')::pg_catalog.text, \
COALESCE((SELECT p.place FROM pg_catalog.pg_index AS i, \
pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS p(key, place) \
WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisprimary AND p.key OPERATOR(pg_catalog.=) a.attnum \
AND p.place OPERATOR(pg_catalog.<=) i.indnkeyatts), 0)::pg_catalog.text, \
pg_catalog.encode(pg_catalog.convert_to(a.attname::pg_catalog.text, 'UTF8'), 'hex'), \
pg_catalog.encode(pg_catalog.convert_to(pg_catalog.format_type(a.atttypid, a.atttypmod), 'UTF8'), 'hex'), \
pg_catalog.encode(pg_catalog.convert_to(pg_catalog.format_type(a.atttypid, -1), 'UTF8'), 'hex'), \
COALESCE(pg_catalog.encode(pg_catalog.convert_to(pg_catalog.pg_get_expr(d.adbin, d.adrelid), 'UTF8'), 'hex'), '-')) \
FROM pg_catalog.pg_class AS c \
JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid AND d.adnum OPERATOR(pg_catalog.=) a.attnum \
AND a.attgenerated OPERATOR(pg_catalog.=) ''";

/// A function that gives rows of a table: schema and name as hexadecimal digits, and whether no function of its name gives
/// anything else.
const ROW_FUNCTION: &str = "\
pg_catalog.encode(pg_catalog.convert_to(s.nspname::pg_catalog.text, 'UTF8'), 'hex'), \
pg_catalog.encode(pg_catalog.convert_to(p.proname::pg_catalog.text, 'UTF8'), 'hex'), \
pg_catalog.bool_and(NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS o WHERE o.proname OPERATOR(pg_catalog.=) p.proname \
AND o.prorettype OPERATOR(pg_catalog.<>) p.prorettype))::pg_catalog.text) \
FROM pg_catalog.pg_class AS t JOIN pg_catalog.pg_proc AS p ON p.prorettype OPERATOR(pg_catalog.=) t.reltype \
JOIN pg_catalog.pg_namespace AS s ON s.oid OPERATOR(pg_catalog.=) p.pronamespace";

/// The question for the text of a prepared statement that the session has not seen being made.
pub(super) const PREPARED_QUESTION: &str = "\
SELECT pg_catalog.encode(pg_catalog.convert_to(statement, 'UTF8'), 'hex'), \
parameter_types::pg_catalog.oid[]::pg_catalog.text, from_sql::pg_catalog.text \
FROM pg_catalog.pg_prepared_statements WHERE name OPERATOR(pg_catalog.=) $1 /* crossfade */";

/// One row of an answer.
pub(super) type Row = Vec<Option<Vec<u8>>>;

/// What PostgreSQL said about names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NamesAnswer {
    pub names: Names,
    /// `crossfade.shape`, where it is set; the text itself where it is no shape.
    pub shape: Option<Result<Shape, String>>,
    /// The process that answered, and whether it is a standby's.
    pub server: Option<(u32, bool)>,
    /// Whether there are relations that are newer than the rules' catalog.
    pub newer: bool,
    /// Columns of the tables that were asked about, each with its table's number in the question.
    pub columns: Vec<TableColumn>,
    /// Functions that give rows of them: the table's number, schema and name, and whether they are alone of that name.
    pub functions: Vec<(usize, QualifiedName, bool)>,
}

/// A column of a table under migration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TableColumn {
    pub table: usize,
    pub oid: u32,
    pub kind: RelationKind,
    /// From 1; 0 for none.
    pub key_place: usize,
    pub column: Column,
}

impl NamesAnswer {
    /// The tables as PostgreSQL has them now, in the session's transaction.
    pub fn tables(&self, asked: &[&QualifiedName]) -> Vec<(QualifiedName, Option<Relation>)> {
        let relation = |(number, name): (usize, &&QualifiedName)| {
            let own: Vec<&TableColumn> = self.columns.iter().filter(|column| column.table == number).collect();
            let mut keys: Vec<&&TableColumn> = own.iter().filter(|column| column.key_place > 0).collect();
            keys.sort_by_key(|column| column.key_place);
            let mut columns: Vec<Column> = own.iter().map(|column| column.column.clone()).collect();
            columns.sort_by_key(|column| column.number);
            let relation = own.first().map(|first| Relation {
                oid: first.oid,
                name: (*name).clone(),
                kind: first.kind,
                columns,
                primary_key: keys.iter().map(|column| column.column.name.clone()).collect(),
            });
            ((*name).clone(), relation)
        };
        asked.iter().enumerate().map(relation).collect()
    }

    /// The functions that give rows of the tables.
    pub fn row_functions(&self, asked: &[&QualifiedName]) -> Vec<RowFunction> {
        let functions = self.functions.iter().filter_map(|(table, name, alone)| {
            let table = QualifiedName::clone(asked.get(*table)?);
            Some(RowFunction { name: name.clone(), table, alone: *alone })
        });
        functions.collect()
    }
}

/// Whether the catalog has the relation as the session does. Types and defaults are told with the session's search path,
/// so of a type only its own name is compared, and of a default whether there is one.
pub(super) fn is_known(known: Option<&Relation>, seen: Option<&Relation>) -> bool {
    let same = |known: &Column, seen: &Column| {
        let type_name = |column: &Column| column.type_sql.rsplit('.').next().map(str::to_owned);
        (known.number, &known.name, known.not_null, known.generated, known.identity, known.default.is_some())
            == (seen.number, &seen.name, seen.not_null, seen.generated, seen.identity, seen.default.is_some())
            && type_name(known) == type_name(seen)
    };
    match (known, seen) {
        (None, None) => true,
        (Some(known), Some(seen)) => {
            let columns = known.columns.iter().zip(&seen.columns);
            (known.oid, known.columns.len(), &known.primary_key) == (seen.oid, seen.columns.len(), &seen.primary_key)
                && columns.into_iter().all(|(known, seen)| same(known, seen))
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// One row of an answer about a table.
fn table_column(words: &str) -> Option<TableColumn> {
    let words: Vec<&str> = words.split(' ').collect();
    let [table, oid, kind, number, not_null, generated, identity, key_place, name, type_sql, base, default] = *words
    else {
        return None;
    };
    let text = |hex: &str| String::from_utf8(from_hex(hex.as_bytes())?).ok();
    Some(TableColumn {
        table: table.parse().ok()?,
        oid: oid.parse().ok()?,
        kind: match kind {
            "r" => RelationKind::Table,
            "p" => RelationKind::Partitioned,
            "v" => RelationKind::View,
            "m" => RelationKind::MaterializedView,
            "f" => RelationKind::Foreign,
            _ => return None,
        },
        key_place: key_place.parse().ok()?,
        column: Column {
            name: Ident::new(&text(name)?).ok()?,
            number: number.parse().ok()?,
            type_sql: text(type_sql)?,
            base_type_sql: text(base)?,
            not_null: not_null == "true",
            default: if default == "-" { None } else { Some(text(default)?) },
            generated: generated == "true",
            identity: identity == "true",
        },
    })
}

/// One row of an answer about functions.
fn row_function(words: &str) -> Option<(usize, QualifiedName, bool)> {
    let words: Vec<&str> = words.split(' ').collect();
    let [table, schema, name, alone] = *words else { return None };
    let ident = |hex: &str| Ident::new(&String::from_utf8(from_hex(hex.as_bytes())?).ok()?).ok();
    Some((table.parse().ok()?, QualifiedName { schema: ident(schema)?, name: ident(name)? }, alone == "true"))
}

/// Reads the answer. `None` where it is not what was asked for.
pub(super) fn read_names(rows: &[Row]) -> Option<NamesAnswer> {
    let mut answer = NamesAnswer::default();
    for row in rows {
        let [Some(kind), Some(value)] = row.as_slice() else { return None };
        let value = String::from_utf8(from_hex(value)?).ok()?;
        match kind.as_slice() {
            b"1" => answer.names.path.push(Ident::new(&value).ok()?),
            b"2" => answer.names.temporary.push(Temporary { name: Ident::new(&value).ok()?, columns: None }),
            b"6" => answer.names.temporary.push(temporary(&value)?),
            b"8" => {
                answer.names.temporary.push(temporary(&value)?);
                answer.newer = true;
            }
            b"7" => answer.columns.push(table_column(&value)?),
            b"9" => answer.functions.push(row_function(&value)?),
            b"3" if value.is_empty() => {}
            b"3" => answer.shape = Some(value.trim().parse().map_err(|_| value)),
            b"4" => answer.server = Some((value.parse().ok()?, false)),
            b"5" => answer.server = answer.server.map(|(process, _)| (process, value == "true")),
            _ => return None,
        }
    }
    // Of two the one whose columns are known stays.
    answer.names.temporary.sort_by(|one, other| other.cmp(one));
    answer.names.temporary.dedup_by(|later, first| later.name == first.name);
    Some(answer)
}

/// A relation with its columns: each name as hexadecimal digits.
fn temporary(words: &str) -> Option<Temporary> {
    let mut names = words.split(' ').map(|word| Ident::new(&String::from_utf8(from_hex(word.as_bytes())?).ok()?).ok());
    Some(Temporary { name: names.next()??, columns: Some(names.collect::<Option<_>>()?) })
}

/// A prepared statement as PostgreSQL has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PreparedAnswer {
    pub text: Vec<u8>,
    /// As in a Parse message: a count and so many OIDs.
    pub types: Vec<u8>,
    pub from_sql: bool,
}

/// Reads the answer; `Some(None)` where there is no such statement.
pub(super) fn read_prepared(rows: &[Row]) -> Option<Option<PreparedAnswer>> {
    let Some(row) = rows.first() else { return Some(None) };
    let [Some(text), Some(oids), Some(from_sql)] = row.as_slice() else { return None };
    let oids = std::str::from_utf8(oids).ok()?.strip_prefix('{')?.strip_suffix('}')?;
    let oids: Vec<u32> =
        oids.split(',').filter(|oid| !oid.is_empty()).map(|oid| oid.parse().ok()).collect::<Option<_>>()?;
    let mut types = u16::try_from(oids.len()).ok()?.to_be_bytes().to_vec();
    types.extend(oids.iter().flat_map(|oid| oid.to_be_bytes()));
    Some(Some(PreparedAnswer { text: from_hex(text)?, types, from_sql: from_sql.as_slice() == b"true" }))
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let pairs = digits.chunks(2).map(|pair| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

/// Settings on which it depends what names mean, which shape the session has, or how its texts are read.
const DECISIVE: &[&str] = &[
    "backslash_quote",
    "client_encoding",
    "role",
    "search_path",
    "session authorization",
    "session_authorization",
    "standard_conforming_strings",
];

/// Whether it depends on the setting of that name, folded. Of those with a dot only our own are read.
fn is_decisive(setting: &str) -> bool {
    DECISIVE.contains(&setting) || setting.starts_with("crossfade.") || setting.is_empty()
}

/// Whether every `set_config` of a statement names a setting on which nothing depends, in a plain string constant.
fn sets_nothing_decisive(statement: &[u8]) -> bool {
    // A backslash may be one of two things.
    if memchr::memchr(b'\\', statement).is_some() {
        return false;
    }
    let tokens = lex::named_tokens(statement, true);
    let mut calls = tokens.iter().enumerate().filter(|(_, (_, name))| name.as_deref() == Some("set_config")).peekable();
    calls.peek().is_some()
        && calls.all(|(at, _)| match tokens.get(at + 1..at + 4) {
            Some([(open, _), (constant, _), (comma, _)]) if open.is_mark(b'(') && comma.is_mark(b',') => {
                let name = lex::string_value(statement, constant).filter(|_| constant.kind == TokenKind::Text);
                name.is_some_and(|name| !is_decisive(&name.to_ascii_lowercase()))
            }
            Some(_) | None => false,
        })
}

/// What a statement may do to what names mean, for those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// It ends or turns back the transaction, and with it what was changed there.
    Ends,
    Changes,
}

/// Whether a statement may change what names mean, for those behind it.
pub(super) fn changes_names(text: &[u8], statement: &Statement, unsettled: bool) -> bool {
    match effect_on_names(text, statement) {
        Effect::None => false,
        Effect::Ends => unsettled,
        Effect::Changes => true,
    }
}

/// Whether a statement may change a table.
pub(super) fn alters(statement: &Statement) -> bool {
    matches!(statement.kind, Kind::Ddl | Kind::Do | Kind::Call | Kind::Other)
}

const FUNCTION: Word = Word::new(b"function");

/// Whether a statement may make or change a function.
pub(super) fn makes_functions(text: &[u8], statement: &Statement) -> bool {
    alters(statement) && FUNCTION.is_in(text.get(statement.range.clone()).unwrap_or_default())
}

/// What a statement may do to what names mean.
pub(super) fn effect_on_names(text: &[u8], statement: &Statement) -> Effect {
    let has = |word: &Word| word.is_in(text.get(statement.range.clone()).unwrap_or_default());
    if statement.calls_set_config && !sets_nothing_decisive(text.get(statement.range.clone()).unwrap_or_default()) {
        return Effect::Changes;
    }
    let changes = match &statement.kind {
        Kind::Set(setting) => is_decisive(&setting.name),
        Kind::Reset(name) => is_decisive(name),
        Kind::ResetAll | Kind::Discard(_) | Kind::Call | Kind::Do | Kind::Ddl | Kind::Other => true,
        Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo | Kind::PrepareTransaction => {
            return Effect::Ends;
        }
        // What it runs was judged when it was prepared; the session asks that.
        Kind::Execute { .. } => false,
        Kind::Select | Kind::Explain => has(&INTO) || (statement.kind == Kind::Explain && has(&CREATE)),
        Kind::Values
        | Kind::Table
        | Kind::Insert
        | Kind::Update
        | Kind::Delete
        | Kind::Merge
        | Kind::Copy(_)
        | Kind::Begin
        | Kind::Savepoint
        | Kind::Release
        | Kind::FinishPrepared
        | Kind::Show
        | Kind::Prepare { .. }
        | Kind::Deallocate { .. }
        | Kind::Declare
        | Kind::Fetch
        | Kind::Close
        | Kind::Lock
        | Kind::Truncate
        | Kind::Notify => false,
    };
    if changes { Effect::Changes } else { Effect::None }
}

/// Whether no statement of the text can touch a table's columns, whatever name it mentions: a savepoint may be called
/// `users`. Before LOCK nothing may be asked: a question takes the snapshot that the client wants to take behind it.
pub(super) fn touch_no_table(statements: &Statements) -> bool {
    statements.iter().all(|statement| match statement.kind {
        Kind::Begin
        | Kind::Commit { .. }
        | Kind::Rollback { .. }
        | Kind::RollbackTo
        | Kind::Savepoint
        | Kind::Release
        | Kind::PrepareTransaction
        | Kind::FinishPrepared
        | Kind::Set(_)
        | Kind::Reset(_)
        | Kind::ResetAll
        | Kind::Show
        | Kind::Execute { .. }
        | Kind::Deallocate { .. }
        | Kind::Discard(_)
        | Kind::Fetch
        | Kind::Close
        | Kind::Lock
        | Kind::Notify => true,
        Kind::Select
        | Kind::Values
        | Kind::Table
        | Kind::Insert
        | Kind::Update
        | Kind::Delete
        | Kind::Merge
        | Kind::Explain
        | Kind::Copy(_)
        | Kind::Prepare { .. }
        | Kind::Declare
        | Kind::Call
        | Kind::Do
        | Kind::Truncate
        | Kind::Ddl
        | Kind::Other => false,
    })
}

/// Words whose bytes a text must have in it, to do what they say.
pub(super) const EXECUTE: Word = Word::new(b"execute");
const INTO: Word = Word::new(b"into");
const CREATE: Word = Word::new(b"create");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_relations_of_a_name_the_one_whose_columns_are_known_stays() {
        let row = |kind: &str, value: &str| {
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            vec![Some(kind.as_bytes().to_vec()), Some(hex.into_bytes())]
        };
        // `users` with `id` and `ö b`; `empty`.
        let rows = [row("2", "users"), row("6", "7573657273 6964 c3b62062"), row("6", "656d707479"), row("2", "other")];
        let names = read_names(&rows).expect("an answer").names;
        let shown: Vec<String> =
            names.temporary.iter().map(|t| format!("{} {:?}", t.name.as_str(), t.columns)).collect();
        let ident = |name: &str| Ident::new(name).expect("a name");
        assert_eq!(
            names.temporary(&ident("users")).and_then(|t| t.columns.clone()),
            Some(vec![ident("id"), ident("ö b")])
        );
        assert_eq!(names.temporary(&ident("empty")).and_then(|t| t.columns.clone()), Some(Vec::new()));
        assert_eq!(names.temporary(&ident("other")).and_then(|t| t.columns.clone()), None);
        assert_eq!(shown.len(), 3, "{shown:?}");
    }
}
