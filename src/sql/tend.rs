//! Statements that are no query: which of them pass although they name a migrating table, and which must not.
//!
//! Judged by tokens. DDL that could touch what a migration owns (its columns, the table's identity) is refused, and so is
//! code that would find other columns than the session's shape has.

use std::collections::HashSet;
use std::ops::Range;

use super::Context;
use super::lex;
use super::plan::{refuse, sensitive};
use super::read::{Piece, Text};
use super::survey::{Meaning, relation_meaning};
use crate::migration::{Phase, Store, TableRules, TableView, ViewColumn};
use crate::schema::{Ident, Refusal};

/// What to do with a statement of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Forward it; why.
    Passes(String),
    /// Forward it with these names in place of the session's: its columns are stored as they are, under other names.
    Renamed(Vec<(Range<usize>, String)>),
    /// Read it and plan.
    Read,
}

/// Statements that cannot read or write a table's columns, whatever they name.
const HARMLESS: &[&str] = &[
    "abort",
    "begin",
    "call",
    "checkpoint",
    "close",
    "cluster",
    "commit",
    "deallocate",
    "discard",
    "end",
    "execute",
    "fetch",
    "listen",
    "load",
    "lock",
    "move",
    "notify",
    "release",
    "reset",
    "rollback",
    "savepoint",
    "set",
    "show",
    "start",
    "truncate",
    "unlisten",
];

/// Actions of ALTER TABLE that leave columns as they are.
const ALTER_HARMLESS: &[&[&str]] = &[
    &["validate", "constraint"],
    &["drop", "constraint"],
    &["add", "constraint"],
    &["enable"],
    &["disable"],
    &["force"],
    &["owner"],
    &["cluster"],
    &["replica", "identity"],
    &["set", "("],
    &["reset", "("],
    &["set", "tablespace"],
    &["set", "logged"],
    &["set", "without"],
];

/// What to do about a refusal: in the new shape a table is as it is stored once the migration is complete.
const WHEN_INSTEAD: &str = "Run it before the migration starts, after it is rolled back or, once it is complete, in a session \
     of the new shape (SET crossfade.shape = new).";

/// Actions on a column, which the migration does not own, that leave its type and name as they are.
const ALTER_COLUMN_HARMLESS: &[&[&str]] = &[
    &["set", "default"],
    &["drop", "default"],
    &["set", "not", "null"],
    &["drop", "not", "null"],
    &["set", "statistics"],
    &["set", "storage"],
    &["set", "compression"],
    &["set", "("],
    &["reset", "("],
];

/// How deep strings with code stand in strings with code before nobody looks any more.
const CODE_DEPTH_MAX: usize = 4;

/// The words that a string in code begins with if it is code too (`EXECUTE 'UPDATE ...'`).
const CODE_WORDS: &[&str] =
    &["copy", "delete", "explain", "insert", "merge", "select", "table", "update", "values", "with"];

/// Whether the code of a `DO`, or of a function that is made, names a migrating table.
pub(super) fn has_code_of_table(piece: &Piece<'_>, cx: &Context<'_>) -> bool {
    let is_code = piece.is_word(0, "do") || (piece.is_word(0, "create") && routine_name(piece).is_some());
    is_code && !Code::of(piece, cx).tables.is_empty()
}

/// Where a `CREATE FUNCTION` or `CREATE PROCEDURE` has its name.
fn routine_name(piece: &Piece<'_>) -> Option<usize> {
    (1..4).find(|at| ["function", "procedure"].iter().any(|word| piece.is_word(*at, word))).map(|at| at + 1)
}

/// What the code in a statement's strings names.
#[derive(Debug, Default)]
struct Code<'a> {
    /// The migrating tables.
    tables: Vec<&'a TableRules>,
    /// Every name, whatever it means.
    names: HashSet<String>,
    /// Whether it has an INSERT into one of them.
    inserts: bool,
    /// Whether it has one that gives values by place.
    by_place: bool,
    /// Whether it may take whole rows: a star that is not `count(*)`, or `%ROWTYPE`.
    takes_rows: bool,
}

impl<'a> Code<'a> {
    fn of(piece: &Piece<'_>, cx: &Context<'a>) -> Code<'a> {
        let mut code = Code::default();
        code.read(piece, cx, 0);
        code
    }

    fn read(&mut self, piece: &Piece<'_>, cx: &Context<'a>, depth: usize) {
        for (token, _) in piece.tokens.iter().filter(|(token, _)| token.kind.is_text()) {
            let Some(code) = lex::string_value(piece.source.as_bytes(), token) else { continue };
            let Ok(text) = Text::new(&code, cx.standard_conforming_strings) else { continue };
            let inner = text.piece(0..text.tokens.len());
            if depth > 0 && !CODE_WORDS.iter().any(|word| inner.is_word(0, word)) {
                continue;
            }
            self.tables.extend(tables_named(&inner, cx));
            self.inserts = self.inserts || (0..inner.tokens.len()).any(|at| inserts(&inner, cx, at));
            self.by_place = self.by_place || (0..inner.tokens.len()).any(|at| inserts_by_place(&inner, cx, at));
            self.takes_rows = self.takes_rows || (0..inner.tokens.len()).any(|at| takes_rows(&inner, at));
            self.names.extend(inner.tokens.iter().filter_map(|(_, name)| name.clone()));
            if depth < CODE_DEPTH_MAX {
                self.read(&inner, cx, depth + 1);
            }
        }
    }

    /// Whether what it names is stored as the session sees it. Code is not rewritten: it runs over what is stored.
    fn means_stored(&self, cx: &Context<'_>, rules: &TableRules) -> bool {
        let view = rules.write_view(cx.shape);
        let named = |column: &&ViewColumn| self.names.contains(column.name.as_str());
        // A session that may mean either shape means the one whose names it says.
        let other = view.fallback.iter().filter(named).any(ViewColumn::is_plain);
        let own = view.columns.iter().filter(named).any(|column| !column.is_plain());
        let foreign = |name: &&Ident| view.fallback_column(name).is_none() && self.names.contains(name.as_str());
        let none = !self.takes_rows && !sensitive(view).any(|name| self.names.contains(name.as_str()));
        let by_name = none || (other && !own) || view.columns.iter().all(ViewColumn::is_plain);
        let hidden = view.hidden.iter().any(|name| foreign(&name));
        // The default of the column that it does not give would win over the value that it gives.
        let relation = cx.rules.catalog().relation(&view.storage);
        let default = |name: &&Ident| relation.and_then(|r| r.column(name)).is_some_and(|c| c.default.is_some());
        let ungiven = |name: &&Ident| !self.names.contains(name.as_str());
        let given = view.fallback.iter().any(|column| named(&column));
        let loses = self.inserts && owned_names(cx, rules).filter(ungiven).any(|name| default(&name));
        // Until the new column is filled, not all that it would find is there, or nothing keeps the old one in step.
        !hidden
            && !(given && (!rules.is_filled() || loses))
            && (begins_as_stored(cx, view) || (by_name && !self.by_place))
    }
}

/// Whether a star that stands for columns, or the type of a row, stands here.
fn takes_rows(piece: &Piece<'_>, at: usize) -> bool {
    let word = |at: usize, words: &[&str]| words.iter().any(|word| piece.is_word(at, word));
    let mark = |mark: u8| at > 0 && piece.tokens[at - 1].0.is_mark(mark);
    let star = piece.tokens[at].0.bytes(piece.source.as_bytes()) == b"*";
    // Between two operands it multiplies.
    let lists = mark(b'.') || mark(b',') || (at > 0 && word(at - 1, &["select", "returning", "distinct", "all"]));
    word(at, &["rowtype"]) || (star && (lists || word(at + 1, &["from", "into"])))
}

/// Whether an INSERT into a migrating table, or of a MERGE, stands here.
fn inserts(piece: &Piece<'_>, cx: &Context<'_>, at: usize) -> bool {
    piece.is_word(at, "insert") && (!piece.is_word(at + 1, "into") || table_at(piece, cx, at + 2).is_some())
}

/// Whether one stands here that has no list of columns.
fn inserts_by_place(piece: &Piece<'_>, cx: &Context<'_>, at: usize) -> bool {
    let word = |at: usize, words: &[&str]| words.iter().any(|word| piece.is_word(at, word));
    if !word(at, &["insert"]) {
        return false;
    }
    if !word(at + 1, &["into"]) {
        return word(at + 1, &["values"]);
    }
    let mut behind = path_at(piece, at + 2).1;
    if word(behind, &["as"]) {
        behind += 2;
    }
    let bracket = piece.tokens.get(behind).is_some_and(|(token, _)| token.is_mark(b'('));
    let listed = bracket && !word(behind + 1, &["select", "table", "values", "with"]);
    !listed && table_at(piece, cx, at + 2).is_some()
}

/// Code passes where what is stored begins with the session's columns, under their names and in their order.
fn code(piece: &Piece<'_>, cx: &Context<'_>, what: &str) -> Result<Kind, Refusal> {
    let code = Code::of(piece, cx);
    let Some(rules) = code.tables.iter().find(|rules| !code.means_stored(cx, rules)) else {
        return Ok(Kind::Passes("its code finds what it names as it is stored".to_owned()));
    };
    let why = "Its code is not rewritten, and would find the columns that are stored instead of those of the session's schema.";
    Err(refuse(rules, what, why).hint(
        "Send the statements in it to the proxy one by one or, once the migration is complete, write it for the new \
         schema and run it in a session of the new shape (SET crossfade.shape = new).",
    ))
}

/// Whether the first stored columns are those of the view, as they are.
fn begins_as_stored(cx: &Context<'_>, view: &TableView) -> bool {
    let relation = cx.rules.catalog().relation(&view.storage);
    view.columns.iter().all(ViewColumn::is_plain)
        && relation.is_some_and(|relation| {
            let mut stored = relation.columns.iter().map(|column| &column.name);
            view.columns.iter().all(|column| stored.next() == Some(&column.name))
        })
}

/// Decides by the statement's first words, and for DDL by the names in it.
pub(super) fn passes_by_kind(piece: &Piece<'_>, cx: &Context<'_>) -> Result<Kind, Refusal> {
    if HARMLESS.iter().any(|word| piece.is_word(0, word)) {
        return Ok(Kind::Passes("this kind of statement reads no column".to_owned()));
    }
    let first = |words: &[&str]| words.iter().any(|word| piece.is_word(0, word));
    if first(&["do"]) {
        return code(piece, cx, "DO");
    }
    if first(&["create"]) && !creates_from_query(piece) {
        return create(piece, cx);
    }
    if first(&["drop", "alter", "comment", "grant", "revoke", "security", "vacuum", "analyze", "analyse", "reindex"]) {
        return tend(piece, cx);
    }
    if first(&["refresh", "import", "reassign"]) {
        return Ok(Kind::Passes("this kind of statement names no column".to_owned()));
    }
    Ok(Kind::Read)
}

/// `CREATE [...] TABLE x AS`, `CREATE VIEW`, `CREATE MATERIALIZED VIEW`: a query stands inside.
fn creates_from_query(piece: &Piece<'_>) -> bool {
    let at = |word: &str| (1..piece.tokens.len().min(7)).find(|index| piece.is_word(*index, word));
    let routine = ["function", "procedure", "rule", "trigger", "policy", "index", "type", "schema", "aggregate"];
    let table = at("table").is_some() && has_query(piece);
    !routine.iter().any(|word| at(word).is_some()) && (at("view").is_some() || table)
}

/// Whether an AS stands outside of brackets: `GENERATED ALWAYS AS` stands inside.
fn has_query(piece: &Piece<'_>) -> bool {
    let mut depth = 0usize;
    piece.tokens.iter().enumerate().any(|(index, (token, _))| {
        depth += usize::from(token.is_mark(b'('));
        depth -= usize::from(token.is_mark(b')') && depth > 0);
        depth == 0 && piece.is_word(index, "as")
    })
}

/// The path of names that begins at this token, and the index behind it.
fn path_at(piece: &Piece<'_>, mut index: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some((_, Some(name))) = piece.tokens.get(index) {
        path.push(name.clone());
        index += 1;
        if !piece.tokens.get(index).is_some_and(|(token, _)| token.is_mark(b'.')) {
            break;
        }
        index += 1;
    }
    (path, index)
}

/// The migrating table that the path at this token means.
fn table_at<'a>(piece: &Piece<'_>, cx: &Context<'a>, index: usize) -> Option<&'a TableRules> {
    match relation_meaning(cx, &path_at(piece, index).0) {
        Meaning::Migrating(rules) => Some(rules),
        Meaning::Known(_) | Meaning::Columns(_) | Meaning::Unknown => None,
    }
}

/// How a `CREATE TABLE`, `CREATE TYPE` or `ALTER TABLE` names a table besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// `LIKE`, `INHERITS`, `PARTITION OF`, `ATTACH PARTITION`, `INHERIT`: its columns are taken.
    Columns,
    /// A column is of the table's row type, or an array of it.
    Row,
    /// `REFERENCES`: this column of it is pointed at, if it is one of the migration's.
    Key(Option<usize>),
}

/// The migrating tables that the statement names besides its own.
fn links<'a>(piece: &Piece<'_>, cx: &Context<'a>) -> Vec<(&'a TableRules, Link)> {
    let mut found = Vec::new();
    let mark = |index: usize, mark: u8| piece.tokens.get(index).is_some_and(|(token, _)| token.is_mark(mark));
    for index in 1..piece.tokens.len() {
        let takes = (piece.is_word(index, "like") && (mark(index - 1, b'(') || mark(index - 1, b',')))
            || (piece.is_word(index, "of") && piece.is_word(index - 1, "partition"))
            || (piece.is_word(index, "partition") && ["attach", "detach"].iter().any(|w| piece.is_word(index - 1, w)))
            || piece.is_word(index, "inherit");
        if takes {
            found.extend(table_at(piece, cx, index + 1).map(|rules| (rules, Link::Columns)));
        }
        // A column's name stands before its type, and before that what begins it.
        let begins = mark(index - 1, b'(')
            || mark(index - 1, b',')
            || ["add", "column", "exists", "attribute"].iter().any(|word| piece.is_word(index - 1, word));
        let named = !["column", "constraint", "attribute"].iter().any(|word| piece.is_word(index, word));
        if begins && !takes && named && piece.tokens[index].1.is_some() {
            found.extend(table_at(piece, cx, index + 1).map(|rules| (rules, Link::Row)));
        }
        if piece.is_word(index, "inherits") {
            let parents = (index + 1..piece.tokens.len()).take_while(|at| !mark(*at, b')'));
            found.extend(parents.filter_map(|at| table_at(piece, cx, at)).map(|rules| (rules, Link::Columns)));
        }
        if piece.is_word(index, "references")
            && let Some(rules) = table_at(piece, cx, index + 1)
        {
            let behind = path_at(piece, index + 1).1;
            let mut listed = (behind..piece.tokens.len()).take_while(|at| mark(behind, b'(') && !mark(*at, b')'));
            let owned = listed.find(|at| {
                piece.tokens[*at]
                    .1
                    .as_deref()
                    .is_some_and(|name| owned_names(cx, rules).any(|own| own.as_str() == name))
            });
            found.push((rules, Link::Key(owned)));
        }
    }
    found
}

/// The migrating table that some path of names in the statement means.
fn table_named<'a>(piece: &Piece<'_>, cx: &Context<'a>) -> Option<&'a TableRules> {
    tables_named(piece, cx).next()
}

/// The migrating tables that the paths of names in the statement mean.
fn tables_named<'p, 'a>(piece: &'p Piece<'_>, cx: &'p Context<'a>) -> impl Iterator<Item = &'a TableRules> + 'p {
    let parts = |index: usize| -> Vec<String> {
        let own = piece.tokens[index].1.clone().unwrap_or_default();
        let dotted = index >= 2 && piece.tokens[index - 1].0.is_mark(b'.');
        match piece.tokens.get(index.wrapping_sub(2)).and_then(|(_, name)| name.clone()) {
            Some(schema) if dotted => vec![schema, own],
            _ => vec![own],
        }
    };
    (0..piece.tokens.len()).filter(|index| piece.tokens[*index].1.is_some()).filter_map(move |index| {
        match relation_meaning(cx, &parts(index)) {
            Meaning::Migrating(rules) => Some(rules),
            Meaning::Known(_) | Meaning::Columns(_) | Meaning::Unknown => None,
        }
    })
}

/// The names that the migration owns: columns of either shape.
fn owned_names<'a>(cx: &Context<'a>, rules: &'a TableRules) -> impl Iterator<Item = &'a Ident> {
    let views = [rules.write_view(cx.shape), rules.write_view(crate::migration::Shape::Auto)];
    views.into_iter().flat_map(|view| {
        let computed = view.stores.iter().filter(|store| store.value.as_column() != Some(&store.column));
        let inputs = computed.flat_map(|store| store.value.columns().chain(std::iter::once(&store.column)));
        sensitive(view).chain(inputs)
    })
}

/// A name in the statement that the migration owns.
fn owned_name(piece: &Piece<'_>, cx: &Context<'_>, rules: &TableRules) -> Option<Ident> {
    owned_names(cx, rules).find(|name| super::plan::has_name(piece, name.as_str())).cloned()
}

/// Nothing of the migration is still to come, and the session sees the table as it is stored.
fn is_their_own(rules: &TableRules, cx: &Context<'_>) -> Option<Kind> {
    let own = rules.over && rules.write_view(cx.shape).is_plain();
    own.then(|| Kind::Passes("the migration is over, and the session sees the table as it is stored".to_owned()))
}

/// Whether an index or constraint over the columns that the statement names is built on the new column too, by the
/// coordinator: the session has the old columns under their own names, and the new ones have the same values.
fn is_followed(piece: &Piece<'_>, cx: &Context<'_>, rules: &TableRules) -> bool {
    let view = rules.write_view(cx.shape);
    let same = |name: &Ident| {
        view.stores
            .iter()
            .filter(|store| store.value.columns().any(|own| own == name))
            .all(|store| store.value.as_column() == Some(name))
    };
    let own = |name: &Ident| view.column(name).is_some_and(|column| column.is_plain() && same(name));
    let mut named = owned_names(cx, rules).filter(|name| super::plan::has_name(piece, name.as_str()));
    rules.phase != Phase::Contracting && !rules.over && named.all(own)
}

/// The statement over the stored names of the session's columns, once the migration is over. `None` where one of them is
/// stored converted, or what stands there may be no column.
fn with_stored_names(piece: &Piece<'_>, cx: &Context<'_>, rules: &TableRules) -> Option<Kind> {
    let view = rules.write_view(cx.shape);
    let relation = cx.rules.catalog().relation(&rules.table).filter(|_| rules.over)?;
    let mark = |at: usize, mark: u8| piece.tokens.get(at).is_some_and(|(token, _)| token.is_mark(mark));
    // A foreign key names another table's columns too.
    if (0..piece.tokens.len()).any(|at| piece.is_word(at, "references")) {
        return None;
    }
    let mut edits = Vec::new();
    for (at, (token, name)) in piece.tokens.iter().enumerate() {
        let Some(name) = name.as_deref().filter(|name| owned_names(cx, rules).any(|own| own.as_str() == *name)) else {
            continue;
        };
        if view.fallback.iter().any(|column| column.name.as_str() == name && column.is_plain()) {
            continue;
        }
        let column = view.columns.iter().find(|column| column.name.as_str() == name)?;
        let bare = |store: &&Store| store.primary && store.value.as_column() == Some(&column.name);
        let stored = &view.stores.iter().find(bare)?.column;
        let same = relation.column(stored).is_some_and(|stored| stored.base_type_sql == column.base_type_sql);
        // `COMMENT ON COLUMN users.username`: behind a dot it is a column where the table stands before.
        let of_table = !mark(at.wrapping_sub(1), b'.') || (at > 1 && is_tables_own(piece, cx, rules, at - 2));
        if !same || !of_table || mark(at + 1, b'(') || mark(at + 1, b'.') {
            return None;
        }
        edits.push((token.start..token.end, stored.quoted()));
    }
    Some(Kind::Renamed(edits))
}

/// Whether a `GRANT`, `ANALYZE` or the like may be about several tables: a name may then be another one's column.
fn names_several(piece: &Piece<'_>) -> bool {
    let list = (1..piece.tokens.len()).find(|at| piece.is_word(*at, "on")).unwrap_or(0);
    let mut depth = 0usize;
    piece.tokens.iter().skip(list).any(|(token, _)| {
        depth += usize::from(token.is_mark(b'('));
        depth -= usize::from(token.is_mark(b')') && depth > 0);
        depth == 0 && token.is_mark(b',')
    })
}

/// Whether the path that ends at this token means the table.
fn is_tables_own(piece: &Piece<'_>, cx: &Context<'_>, rules: &TableRules, end: usize) -> bool {
    let dotted = |at: usize| at > 1 && piece.tokens[at - 1].0.is_mark(b'.');
    let begin = if dotted(end) { end - 2 } else { end };
    let parts: Vec<String> = (begin..=end).step_by(2).filter_map(|at| piece.tokens[at].1.clone()).collect();
    matches!(relation_meaning(cx, &parts), Meaning::Migrating(found) if found.table == rules.table)
}

/// Whether a `CREATE INDEX` or `CREATE STATISTICS` says what it shall be called: PostgreSQL makes a name of the columns'.
fn has_own_name(piece: &Piece<'_>) -> bool {
    let at = (1..4).find(|at| ["index", "statistics"].iter().any(|word| piece.is_word(*at, word)));
    let skipped = ["concurrently", "if", "not", "exists"];
    let first = at.map(|at| (at + 1..).find(|at| !skipped.iter().any(|word| piece.is_word(*at, word))));
    first.flatten().is_some_and(|at| !["on", "("].iter().any(|word| piece.is_word(at, word)))
}

fn create(piece: &Piece<'_>, cx: &Context<'_>) -> Result<Kind, Refusal> {
    let routine = ["function", "procedure", "trigger", "rule", "policy", "index", "type", "aggregate", "publication"];
    let is = |word: &str| (1..piece.tokens.len().min(5)).any(|index| piece.is_word(index, word));
    if is("table") && !routine.iter().any(|word| is(word)) {
        return create_table(piece, cx);
    }
    if let Some(name) = routine_name(piece) {
        return create_routine(piece, cx, name);
    }
    if is("rule") {
        return create_rule(piece, cx);
    }
    if is("type") {
        refuse_rows(piece, cx, "CREATE TYPE")?;
    }
    if piece.is_word(1, "domain") {
        let behind = path_at(piece, 2).1;
        let of = if piece.is_word(behind, "as") { behind + 1 } else { behind };
        table_at(piece, cx, of).map_or(Ok(()), |rules| refuse_row_type(cx, rules, "CREATE DOMAIN"))?;
    }
    let Some(rules) = table_named(piece, cx) else {
        return Ok(Kind::Passes("no name in it means a table under migration".to_owned()));
    };
    if let Some(passes) = is_their_own(rules, cx) {
        return Ok(passes);
    }
    let bound = ["index", "trigger", "policy", "statistics", "publication", "constraint"];
    let what = bound.iter().find(|word| (1..piece.tokens.len().min(6)).any(|index| piece.is_word(index, word)));
    if what == Some(&"trigger") && !rules.over {
        let name = (1..piece.tokens.len().min(6)).find(|at| piece.is_word(*at, "trigger")).map_or(0, |at| at + 1);
        let name = piece.tokens.get(name).and_then(|(_, name)| name.as_deref());
        if name.is_some_and(|name| !("\"".."~").contains(&name)) {
            let why = "It would fire behind the trigger that keeps both columns in step, or before it: that one must see the row as \
                       it was given, and as it is stored.";
            return Err(refuse(rules, "CREATE TRIGGER by this name", why)
                .hint("Give the trigger a name that begins with an ASCII letter."));
        }
    }
    match (what, owned_name(piece, cx, rules)) {
        (Some(what), Some(name)) => {
            let bound = ["index", "statistics"].contains(what) && has_own_name(piece);
            if let Some(renamed) = with_stored_names(piece, cx, rules).filter(|_| bound) {
                return Ok(renamed);
            }
            if *what == "index" && is_followed(piece, cx, rules) {
                return Ok(Kind::Passes("the migration builds the same on the new column".to_owned()));
            }
            let why = format!("The statement names column \"{name}\", which the migration replaces.");
            Err(refuse(rules, &format!("CREATE {}", what.to_ascii_uppercase()), &why).hint(WHEN_INSTEAD))
        }
        (Some(_), None) => Ok(Kind::Passes("it names no column under migration".to_owned())),
        (None, _) => Ok(Kind::Passes("what it creates does not bind to the table's columns".to_owned())),
    }
}

/// A function's code, its types and a body that is no string (`RETURN ...`, `BEGIN ATOMIC`) name what is stored.
fn create_routine(piece: &Piece<'_>, cx: &Context<'_>, name: usize) -> Result<Kind, Refusal> {
    let what = if piece.is_word(name - 1, "procedure") { "CREATE PROCEDURE" } else { "CREATE FUNCTION" };
    let body = ["atomic", "return"].iter().any(|word| (name..piece.tokens.len()).any(|at| piece.is_word(at, word)));
    let mark = |at: usize, marks: &[u8]| marks.iter().any(|m| piece.tokens.get(at).is_some_and(|(t, _)| t.is_mark(*m)));
    let (_, mut at) = path_at(piece, name);
    while at < piece.tokens.len() {
        let behind = path_at(piece, at).1.max(at + 1);
        let ends = mark(behind, b",)[%") || ["default", "as"].iter().any(|word| piece.is_word(behind, word));
        let is_type = ends || ["returns", "setof"].iter().any(|word| piece.is_word(at - 1, word));
        if let Some(rules) = table_at(piece, cx, at).filter(|_| is_type || body)
            && !begins_as_stored(cx, rules.write_view(cx.shape))
        {
            let why = "It would have the columns that are stored, not those of the session's schema.";
            return Err(refuse(rules, &format!("{what} over its rows"), why).hint(WHEN_INSTEAD));
        }
        at = behind;
    }
    code(piece, cx, what)
}

/// What a rule does is bound to what is stored, and is not rewritten: it must say every column by its name, and none of
/// the migration's.
fn create_rule(piece: &Piece<'_>, cx: &Context<'_>) -> Result<Kind, Refusal> {
    let Some(rules) = table_named(piece, cx) else {
        return Ok(Kind::Passes("no name in it means a table under migration".to_owned()));
    };
    let own = is_their_own(rules, cx);
    if let Some(name) = owned_name(piece, cx, rules).filter(|_| own.is_none()) {
        let why = format!("The statement names column \"{name}\", which the migration replaces.");
        return Err(refuse(rules, "CREATE RULE", &why).hint(WHEN_INSTEAD));
    }
    if !names_columns_only(piece, cx) {
        let why = "It takes columns by their places, and would find those that are stored.";
        return Err(refuse(rules, "CREATE RULE", why).hint("Name the columns in it."));
    }
    Ok(Kind::Passes("it names no column under migration".to_owned()))
}

/// Whether a rule has no star, no row as a whole and no INSERT without a list of columns.
fn names_columns_only(piece: &Piece<'_>, cx: &Context<'_>) -> bool {
    let mark = |at: usize, mark: u8| piece.tokens.get(at).is_some_and(|(token, _)| token.is_mark(mark));
    let word = |at: usize, words: &[&str]| words.iter().any(|word| piece.is_word(at, word));
    (1..piece.tokens.len()).all(|at| {
        let star = piece.tokens[at].0.bytes(piece.source.as_bytes()) == b"*";
        let row = word(at, &["new", "old"]) && !mark(at + 1, b'.');
        let places = word(at, &["natural", "table"]);
        if star || row || places {
            return false;
        }
        let (path, behind) = path_at(piece, at);
        if mark(at - 1, b'.') || !matches!(relation_meaning(cx, &path), Meaning::Migrating(_)) {
            return true;
        }
        if word(at - 1, &["into"]) {
            return !inserts_by_place(piece, cx, at - 2);
        }
        word(at - 1, &["from", "join", "update", "to", "only", "using", "on"])
            && (behind >= piece.tokens.len()
                || piece.tokens[behind].1.is_none()
                || word(behind, &["cross", "do", "group", "inner", "join", "left", "on", "order", "returning"])
                || word(behind, &["right", "set", "using", "where"]))
    })
}

/// The table that is made is another one, or PostgreSQL refuses it; what it is linked to may be under migration.
fn create_table(piece: &Piece<'_>, cx: &Context<'_>) -> Result<Kind, Refusal> {
    for (rules, link) in links(piece, cx) {
        match link {
            Link::Columns if has_stored_rows(cx, rules) => {}
            Link::Columns => {
                let why = "The new table would have the columns that are stored, not those of the session's schema.";
                return Err(refuse(rules, "CREATE TABLE with its columns", why).hint("Name the new table's columns."));
            }
            Link::Row => refuse_row_type(cx, rules, "CREATE TABLE")?,
            Link::Key(Some(column)) => return Err(replaced_column(piece, rules, "CREATE TABLE", column)),
            Link::Key(None) => {}
        }
    }
    Ok(Kind::Passes("it takes no column under migration".to_owned()))
}

/// The migration is over, and a row as it is stored is one of the session's.
fn has_stored_rows(cx: &Context<'_>, rules: &TableRules) -> bool {
    let view = rules.write_view(cx.shape);
    let stored = cx.rules.catalog().relation(&rules.table).map_or(0, |stored| stored.columns.len());
    rules.over && begins_as_stored(cx, view) && stored == view.columns.len()
}

/// A type's attributes of a row type.
fn refuse_rows(piece: &Piece<'_>, cx: &Context<'_>, what: &str) -> Result<(), Refusal> {
    let mut rows = links(piece, cx).into_iter().filter(|(_, link)| *link == Link::Row);
    rows.try_for_each(|(rules, _)| refuse_row_type(cx, rules, what))
}

/// Values of the row type are kept as they are stored, and nothing turns them into the session's.
fn refuse_row_type(cx: &Context<'_>, rules: &TableRules, what: &str) -> Result<(), Refusal> {
    if has_stored_rows(cx, rules) {
        return Ok(());
    }
    let why = "Its row type has the columns that are stored, not those of the session's schema.";
    Err(refuse(rules, &format!("{what} with a column of its row type"), why)
        .hint("Use a type of its own for the column."))
}

fn replaced_column(piece: &Piece<'_>, rules: &TableRules, what: &str, index: usize) -> Refusal {
    let name = piece.tokens[index].1.as_deref().unwrap_or_default();
    refuse(rules, what, &format!("The statement names column \"{name}\", which the migration replaces."))
        .hint(WHEN_INSTEAD)
}

/// The migrating table that an `ALTER TABLE` is about, else what it links its own table to.
fn alter_table(piece: &Piece<'_>, cx: &Context<'_>) -> Result<Kind, Refusal> {
    let hint = WHEN_INSTEAD;
    for (rules, link) in links(piece, cx) {
        match link {
            Link::Columns => {
                return Err(refuse(rules, "ALTER TABLE", "It would make the table part of another one.").hint(hint));
            }
            Link::Row => refuse_row_type(cx, rules, "ALTER TABLE")?,
            Link::Key(Some(column)) => return Err(replaced_column(piece, rules, "ALTER TABLE", column)),
            Link::Key(None) => {}
        }
    }
    let Some(rules) = table_at(piece, cx, altered_table(piece)) else {
        return Ok(Kind::Passes("the table that it alters is not under migration".to_owned()));
    };
    if let Some(passes) = is_their_own(rules, cx) {
        return Ok(passes);
    }
    if let Some(name) = owned_name(piece, cx, rules) {
        let harmless = alters_harmlessly(piece, Changes::None);
        let renamed = with_stored_names(piece, cx, rules).filter(|_| harmless && names_constraints(piece));
        if adds_constraints(piece) && is_followed(piece, cx, rules) {
            return Ok(Kind::Passes("the migration builds the same on the new column".to_owned()));
        }
        let why = format!("The statement names column \"{name}\", which the migration replaces.");
        return renamed.ok_or_else(|| refuse(rules, "ALTER TABLE", &why).hint(hint));
    }
    if !alters_harmlessly(piece, if rules.over { Changes::Any } else { Changes::Additions }) {
        let why = "The statement could drop, rename or retype columns under the migration's hands.";
        return Err(refuse(rules, "ALTER TABLE", why).hint(hint));
    }
    Ok(Kind::Passes("it leaves the table's columns as they are".to_owned()))
}

/// Where an `ALTER TABLE` has its table's name.
fn altered_table(piece: &Piece<'_>) -> usize {
    let mut index = if piece.is_word(1, "foreign") { 3 } else { 2 };
    while ["if", "exists", "only"].iter().any(|word| piece.is_word(index, word)) {
        index += 1;
    }
    index
}

fn tend(piece: &Piece<'_>, cx: &Context<'_>) -> Result<Kind, Refusal> {
    let on_table = piece.is_word(1, "table") || (piece.is_word(1, "foreign") && piece.is_word(2, "table"));
    if on_table && piece.is_word(0, "alter") {
        return alter_table(piece, cx);
    }
    if piece.is_word(0, "alter") && piece.is_word(1, "type") {
        refuse_rows(piece, cx, "ALTER TYPE")?;
    }
    let Some(rules) = table_named(piece, cx) else {
        return Ok(Kind::Passes("no name in it means a table under migration".to_owned()));
    };
    let verb = piece.tokens[0].0.bytes(piece.source.as_bytes()).to_ascii_uppercase();
    let verb = String::from_utf8_lossy(&verb).into_owned();
    if let Some(passes) = is_their_own(rules, cx) {
        return Ok(passes);
    }
    let hint = WHEN_INSTEAD;
    if let Some(name) = owned_name(piece, cx, rules) {
        let about_columns = ["comment", "grant", "revoke", "analyze", "analyse", "vacuum"];
        if about_columns.iter().any(|word| piece.is_word(0, word))
            && !names_several(piece)
            && let Some(renamed) = with_stored_names(piece, cx, rules)
        {
            return Ok(renamed);
        }
        let why = format!("The statement names column \"{name}\", which the migration replaces.");
        return Err(refuse(rules, &verb, &why).hint(hint));
    }
    if on_table && piece.is_word(0, "drop") && !rules.over {
        return Err(refuse(rules, "DROP TABLE", "The migration works on the table.").hint(hint));
    }
    Ok(Kind::Passes("it leaves the table's columns as they are".to_owned()))
}

/// Whether every constraint that an ALTER TABLE adds has a name: PostgreSQL makes one of the columns'.
fn names_constraints(piece: &Piece<'_>) -> bool {
    (1..piece.tokens.len()).all(|at| !piece.is_word(at, "add") || piece.is_word(at + 1, "constraint"))
}

/// How an ALTER TABLE may change columns that are no migration's. The session asks which there are before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changes {
    None,
    /// While the migration runs: its key must stay.
    Additions,
    Any,
}

/// Whether every action of an ALTER TABLE is one that leaves columns as they are, or changes them as it may.
fn alters_harmlessly(piece: &Piece<'_>, changes: Changes) -> bool {
    let text = piece.source.as_bytes();
    let begins = |at: usize, words: &[&str]| {
        words.iter().enumerate().all(|(offset, word)| {
            piece.is_word(at + offset, word)
                || piece.tokens.get(at + offset).is_some_and(|(t, _)| t.bytes(text) == word.as_bytes())
        })
    };
    actions(piece).into_iter().all(|at| {
        let of_column = piece.is_word(at, "alter") && !piece.is_word(at + 1, "constraint");
        let behind_column = at + 2 + usize::from(piece.is_word(at + 1, "column"));
        let linked = ["inherit", "partition"].iter().any(|word| piece.is_word(at + 1, word));
        let renamed = piece.is_word(at, "rename") && !piece.is_word(at + 1, "to");
        let adds = piece.is_word(at, "add") && !linked;
        let may = match changes {
            Changes::None => false,
            Changes::Additions => adds,
            Changes::Any => adds || of_column || renamed || (piece.is_word(at, "drop") && !linked),
        };
        may || ALTER_HARMLESS.iter().any(|words| begins(at, words))
            || (of_column && ALTER_COLUMN_HARMLESS.iter().any(|words| begins(behind_column, words)))
    })
}

/// Whether every action of an ALTER TABLE adds a constraint that the coordinator builds on a new column too.
fn adds_constraints(piece: &Piece<'_>) -> bool {
    let begins = ["constraint", "check", "unique", "foreign"];
    let other = ["exclude", "primary"].iter().any(|word| (1..piece.tokens.len()).any(|at| piece.is_word(at, word)));
    // A twin would be checked at once.
    let has = |word: &str| (1..piece.tokens.len()).any(|at| piece.is_word(at, word) && !piece.is_word(at - 1, "not"));
    let later = has("unique") && (has("deferrable") || has("deferred"));
    let adds = |at: usize| piece.is_word(at, "add") && begins.iter().any(|word| piece.is_word(at + 1, word));
    !other && !later && actions(piece).into_iter().all(adds)
}

/// Where each action of an ALTER TABLE begins.
fn actions(piece: &Piece<'_>) -> Vec<usize> {
    let mut actions = Vec::new();
    let mut depth = 0usize;
    let text = piece.source.as_bytes();
    let behind = path_at(piece, altered_table(piece)).1;
    let star = piece.tokens.get(behind).is_some_and(|(token, _)| token.bytes(text) == b"*");
    actions.push(behind + usize::from(star));
    for (at, (token, _)) in piece.tokens.iter().enumerate().skip(behind) {
        if token.is_mark(b'(') {
            depth += 1;
        } else if token.is_mark(b')') {
            depth = depth.saturating_sub(1);
        } else if token.is_mark(b',') && depth == 0 {
            actions.push(at + 1);
        }
    }
    actions
}
