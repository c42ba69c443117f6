//! PostgreSQL's errors about stored columns, told in the names of the client's shape.
//!
//! Pure. Conservative: only the places where PostgreSQL itself puts a column's name are touched, and only for columns
//! that do not exist in the client's shape (`TableView::twins`); values are never searched. Positions are the session's work.

use super::lex::{self, Lexer, TokenKind};
use crate::migration::TableView;
use crate::schema::Ident;

/// The texts of one error that may name a column of a table under migration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorTexts {
    /// Field `M`.
    pub message: Option<String>,
    /// Field `D`.
    pub detail: Option<String>,
    /// Field `H`.
    pub hint: Option<String>,
    /// Field `W`: where it happened (`COPY users, line 1, column handle: ...`).
    pub context: Option<String>,
    /// Field `c`: the column that the error is about.
    pub column: Option<String>,
    /// Field `t`: the table that the error is about.
    pub table: Option<String>,
    /// Field `s`: the schema of that table.
    pub schema: Option<String>,
    /// The table that the statement writes in which it failed, by its bare name, where that was sent with edits. Otherwise
    /// every name in it is the client's own.
    pub target: Option<String>,
}

/// The bare name of the table that is written at this byte of a text: the last one before it behind `INTO` or `UPDATE`.
pub fn target_at(text: &str, byte: usize, standard_conforming_strings: bool) -> Option<String> {
    let text = text.as_bytes();
    let (mut target, mut named) = (None, false);
    let mut opens = false;
    for token in Lexer::new(text, standard_conforming_strings).take_while(|token| token.start < byte) {
        let name = lex::name(text, &token, '\\');
        let word = name.as_deref().filter(|_| token.kind == TokenKind::Word);
        if matches!(word, Some("into" | "update")) {
            (opens, named) = (true, false);
            continue;
        }
        match name {
            _ if opens && word == Some("only") => {}
            // `ON CONFLICT DO UPDATE SET`, `FOR UPDATE OF`.
            Some(_) if opens && !named && matches!(word, Some("set" | "of" | "nowait" | "skip")) => opens = false,
            Some(name) if opens && !named => (target, named) = (Some(name), true),
            None if named && token.is_mark(b'.') => named = false,
            _ => opens = false,
        }
    }
    target
}

/// Whether PostgreSQL would tell no place: of the columns that `TABLE users` gives. A place in the client's text, and the one in
/// the sent text that it comes from.
pub fn stands_nowhere(source: (&str, usize), sent: (&str, usize)) -> bool {
    let says_table = |(text, at): (&str, usize)| {
        text.as_bytes().get(at..at + 5).is_some_and(|word| word.eq_ignore_ascii_case(b"table"))
    };
    says_table(source) && !says_table(sent)
}

/// Tells the error in the names of that view. An error that says it is about another table stays as it is.
pub fn mask_error(view: &TableView, mut error: ErrorTexts) -> ErrorTexts {
    let about_another =
        |field: &Option<String>, ours: &Ident| field.as_deref().is_some_and(|name| name != ours.as_str());
    if about_another(&error.table, &view.storage.name) || about_another(&error.schema, &view.storage.schema) {
        return error;
    }
    for (stored, seen) in &view.twins {
        let table = &view.storage.name;
        let copied = error.context.as_ref().is_some_and(|text| text.starts_with(&format!("COPY {table}, line ")));
        let written = error.target.as_deref() == Some(table.as_str());
        let pair = Pair { stored, seen, table, written, copied };
        if error.column.as_deref() == Some(stored.as_str()) {
            error.column = Some(seen.to_string());
        }
        error.message = error.message.map(|text| pair.in_message(&text));
        error.detail = error.detail.map(|text| pair.in_detail(&text));
        error.context = error.context.map(|text| pair.in_context(&text));
    }
    // The row of a view's check option has no table to it: it may be any table's.
    if error.table.is_some() {
        error.detail = error.detail.map(|text| failing_row(view, &text).unwrap_or(text));
    }
    // PostgreSQL 16 tells some of it as a detail.
    error.hint = error.hint.filter(|text| !suggests_hidden(view, text));
    error.detail = error.detail.filter(|text| !suggests_hidden(view, text));
    error
}

/// Where a row of COPY failed that went through the view which converts it, told as of COPY into the table.
///
/// PostgreSQL tells places from the innermost to the outermost: the trigger's INSERT and its function stand before
/// `COPY users_age_copy, line 3: ...`; what stands before these is the user's own (a trigger's function).
pub fn mask_copy(table: &Ident, through: &Ident, context: &str) -> String {
    let copied = format!("COPY {through}, line ");
    let starts_line = |at: &usize| *at == 0 || context.as_bytes()[at - 1] == b'\n';
    let Some(at) = context.match_indices(&copied).map(|(at, _)| at).filter(starts_line).last() else {
        return context.to_owned();
    };
    let inner = &context[..at];
    let function = format!("PL/pgSQL function crossfade.{through}_row() line ");
    let ours = inner.rfind(&function).map_or(inner.len(), |function| {
        let statement = inner[..function].rfind("SQL statement \"INSERT INTO ");
        statement.unwrap_or(function)
    });
    format!("{}COPY {table}, line {}", &inner[..ours], &context[at + copied.len()..])
}

/// `Failing row contains (1, null, none).`: the stored row, told as a row of the view.
///
/// `None` where it is none, or where it cannot be told for certain: a value may have a comma in it, and a column's value
/// may be a conversion of what is stored.
fn failing_row(view: &TableView, text: &str) -> Option<String> {
    if view.is_plain() {
        return None;
    }
    let values = text.strip_prefix("Failing row contains (")?.strip_suffix(").")?;
    // Whoever may not read all columns is told `(id, email) = (1, none)`.
    if values.contains(") = (") {
        return None;
    }
    let values: Vec<&str> = values.split(", ").collect();
    if values.len() != view.stored.len() {
        return None;
    }
    let seen = view.columns.iter().map(|column| {
        let source = column.read.as_column().or(column.arbiter.as_ref())?;
        Some(values[view.stored.iter().position(|stored| stored == source)?])
    });
    let seen: Vec<&str> = seen.collect::<Option<_>>()?;
    Some(format!("Failing row contains ({}).", seen.join(", ")))
}

/// `Perhaps you meant to reference the column "users.handle".` and `There is a column named "handle" in table "users", but
/// it cannot be referenced from this part of the query.`, to a session that has no such column.
fn suggests_hidden(view: &TableView, text: &str) -> bool {
    let openings = ["Perhaps you meant to reference the column \"", "There is a column named \""];
    let Some(rest) = openings.iter().find_map(|opening| text.strip_prefix(opening)) else { return false };
    // The names are not quoted within the quotes: a suggestion too few is better than one that does not exist.
    view.hidden.iter().any(|hidden| rest.split('"').next().is_some_and(|name| ends_with_part(name, hidden.as_str())))
}

fn ends_with_part(name: &str, part: &str) -> bool {
    name.strip_suffix(part).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

struct Pair<'a> {
    stored: &'a Ident,
    seen: &'a Ident,
    table: &'a Ident,
    /// The statement writes the table where it failed.
    written: bool,
    /// The error is about a line of COPY into the table.
    copied: bool,
}

impl Pair<'_> {
    /// `null value in column "handle" of relation "users" violates ...`, `column "handle" is of type ...`,
    /// `cannot assign to field "x" of column "handle" because ...`, `subscripted assignment to "handle" requires type ...`
    /// (`array assignment` before PostgreSQL 14), `missing data for column "handle"`.
    ///
    /// A name that does not exist is one that the client wrote itself: it stays. Where the table is not named, the column
    /// may be another table's of the same name.
    fn in_message(&self, text: &str) -> String {
        if text.ends_with("does not exist") {
            return text.to_owned();
        }
        let named = ["column", "array assignment to", "subscripted assignment to"].iter().find_map(|before| {
            let at = text.find(&format!("{before} \"{}\"", self.stored))? + before.len() + 1;
            Some((*before, at, at + self.stored.as_str().len() + 2))
        });
        let Some((kind, at, end)) = named else { return text.to_owned() };
        let (before, after) = (&text[..at], &text[end..]);
        let of_table = format!(" of relation \"{}\"", self.table);
        let is_target = match kind {
            "column" => {
                after.starts_with(" is of type ")
                    || after == " specified more than once"
                    || (before.starts_with("cannot assign to field ") && after.starts_with(" because "))
            }
            _ => at == kind.len() + 1 && after.starts_with(" requires type "),
        };
        let is_ours = after.starts_with(&of_table)
            || (self.written && is_target)
            || (self.copied && *before == *"missing data for column ");
        if !is_ours {
            return text.to_owned();
        }
        format!("{before}\"{}\"{after}", self.seen)
    }

    /// `Key (handle, id)=(...) already exists.`, `Key (handle)=(x) is not present in table "names".`
    ///
    /// Only what stands before `)=(` is a list of names; what follows is data.
    fn in_detail(&self, text: &str) -> String {
        let Some(rest) = text.strip_prefix("Key (") else { return text.to_owned() };
        let Some(end) = rest.find(")=(") else { return text.to_owned() };
        format!("Key ({}{}", self.in_keys(&rest[..end]), &rest[end..])
    }

    /// Columns, and expressions over them as `pg_get_indexdef` writes them.
    fn in_keys(&self, keys: &str) -> String {
        let mut told = String::new();
        let mut at = 0;
        for token in Lexer::new(keys.as_bytes(), true) {
            let Some(text) = keys.get(token.start..token.end) else { continue };
            // A function or a type of that name is not the column.
            let other = keys[token.end..].starts_with('(') || keys[..token.start].ends_with("::");
            let named = matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
                && lex::name(keys.as_bytes(), &token, '\\').is_some_and(|name| name == self.stored.as_str());
            told.push_str(&keys[at..token.start]);
            if named && !other {
                told.push_str(&self.seen.quoted())
            } else {
                told.push_str(text)
            }
            at = token.end;
        }
        told.push_str(&keys[at..]);
        told
    }

    /// `COPY users, line 3, column handle: "..."`
    fn in_context(&self, text: &str) -> String {
        let Some(rest) = text.strip_prefix(&format!("COPY {}, line ", self.table)) else { return text.to_owned() };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let named = format!(", column {}", self.stored);
        let Some(after) =
            rest[digits..].strip_prefix(&named).filter(|after| after.is_empty() || after.starts_with([':', ',']))
        else {
            return text.to_owned();
        };
        format!("COPY {}, line {}, column {}{after}", self.table, &rest[..digits], self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::{Expr, ViewColumn};
    use crate::schema::QualifiedName;

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn plain(name: &str) -> ViewColumn {
        seen_as(name, name)
    }

    fn seen_as(name: &str, stored: &str) -> ViewColumn {
        ViewColumn {
            name: ident(name),
            type_sql: "text".to_owned(),
            base_type_sql: "text".to_owned(),
            read: Expr::column(ident(stored)),
            arbiter: Some(ident(stored)),
        }
    }

    /// An old session's view after contract: `username` is stored in `handle`.
    fn contracted() -> TableView {
        TableView {
            storage: QualifiedName { schema: ident("public"), name: ident("users") },
            columns: vec![plain("id"), seen_as("username", "handle"), plain("email")],
            fallback: Vec::new(),
            stored: vec![ident("id"), ident("email"), ident("handle")],
            hidden: vec![ident("handle")],
            twins: vec![(ident("handle"), ident("username"))],
            stores: Vec::new(),
            fallback_stores: Vec::new(),
            synced: false,
            primary_key: vec![ident("id")],
        }
    }

    #[track_caller]
    fn check(error: ErrorTexts, message: &str, detail: &str, context: &str, column: &str) {
        let masked = mask_error(&contracted(), error);
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        assert_eq!(
            [text(&masked.message), text(&masked.detail), text(&masked.context), text(&masked.column)],
            [message, detail, context, column].map(str::to_owned)
        );
    }

    fn error(message: &str, detail: &str, table: &str) -> ErrorTexts {
        ErrorTexts {
            message: Some(message.to_owned()),
            detail: Some(detail.to_owned()),
            table: Some(table.to_owned()),
            ..ErrorTexts::default()
        }
    }

    #[test]
    fn a_row_that_is_converted_fails_where_its_copy_does() {
        let masked = |context: &str| {
            let ident = |name| Ident::new(name).expect("a name");
            mask_copy(&ident("users"), &ident("users_age_copy"), context)
        };
        let ours = "SQL statement \"INSERT INTO public.users (a)\n  VALUES (1)\"\n\
                    PL/pgSQL function crossfade.users_age_copy_row() line 8 at SQL statement\n\
                    COPY users_age_copy, line 2: \"x\ty\"";
        assert_eq!(masked(ours), "COPY users, line 2: \"x\ty\"");
        let users = format!("PL/pgSQL function f() line 3 at RAISE\n{ours}");
        assert_eq!(masked(&users), "PL/pgSQL function f() line 3 at RAISE\nCOPY users, line 2: \"x\ty\"");
        let value = "COPY users_age_copy, line 2, column age: \"COPY users_age_copy, line 9\"";
        assert_eq!(masked(value), "COPY users, line 2, column age: \"COPY users_age_copy, line 9\"");
        assert_eq!(masked("COPY users, line 1"), "COPY users, line 1");
    }

    #[test]
    fn a_null_in_the_stored_column_is_told_of_the_seen_one() {
        let mut seen =
            error("null value in column \"handle\" of relation \"users\" violates not-null constraint", "", "users");
        seen.column = Some("handle".into());
        let told = "null value in column \"username\" of relation \"users\" violates not-null constraint";
        check(seen, told, "", "", "username");
    }

    #[test]
    fn a_duplicate_key_names_the_seen_column_and_keeps_its_value() {
        let seen = error(
            "duplicate key value violates unique constraint \"k\"",
            "Key (handle, id)=(handle, 1) already exists.",
            "users",
        );
        check(
            seen,
            "duplicate key value violates unique constraint \"k\"",
            "Key (username, id)=(handle, 1) already exists.",
            "",
            "",
        );
    }

    #[test]
    fn a_key_that_is_computed_names_the_seen_column() {
        let key = "Key (lower(handle::text), handle(id), (id::handle), \"Handle\")=(handle, 1, 2, 3) already exists.";
        let told =
            "Key (lower(username::text), handle(id), (id::handle), \"Handle\")=(handle, 1, 2, 3) already exists.";
        check(error("duplicate key value", key, "users"), "duplicate key value", told, "", "");
    }

    #[test]
    fn an_error_about_another_table_stays() {
        let seen = error(
            "null value in column \"handle\" of relation \"orders\" violates not-null constraint",
            "Key (handle)=(x) already exists.",
            "orders",
        );
        check(
            seen,
            "null value in column \"handle\" of relation \"orders\" violates not-null constraint",
            "Key (handle)=(x) already exists.",
            "",
            "",
        );
    }

    #[test]
    fn a_name_that_the_client_wrote_itself_stays() {
        let written = "column \"handle\" of relation \"users\" does not exist";
        check(error(written, "", "users"), written, "", "", "");
    }

    #[test]
    fn copy_names_the_seen_column() {
        let seen = ErrorTexts {
            context: Some("COPY users, line 3, column handle: \"column handle: x\"".into()),
            ..ErrorTexts::default()
        };
        check(seen, "", "", "COPY users, line 3, column username: \"column handle: x\"", "");
    }

    #[test]
    fn a_line_of_copy_that_is_too_short_misses_the_seen_column() {
        let seen = |context: &str| ErrorTexts {
            message: Some("missing data for column \"handle\"".into()),
            context: Some(context.into()),
            ..ErrorTexts::default()
        };
        let line = "COPY users, line 1: \"7\"";
        check(seen(line), "missing data for column \"username\"", "", line, "");
        let other = "COPY orders, line 1: \"7\"";
        check(seen(other), "missing data for column \"handle\"", "", other, "");
    }

    #[test]
    fn another_columns_error_that_only_contains_the_name_stays() {
        let seen = error("column \"handle\" does not exist", "Key (handles)=(1) already exists.", "users");
        check(seen, "column \"handle\" does not exist", "Key (handles)=(1) already exists.", "", "");
    }

    #[test]
    fn a_failing_row_is_told_as_a_row_of_the_view() {
        let row = |detail: &str, told: &str| check(error("", detail, "users"), "", told, "", "");
        row("Failing row contains (7, none, null).", "Failing row contains (7, null, none).");
        // Which comma is a value's own is not known.
        row("Failing row contains (7, a, b, null).", "Failing row contains (7, a, b, null).");
    }

    #[test]
    fn a_failing_row_of_no_table_that_is_told_stays() {
        // A view's check option: as many values, but of which table?
        let told = "Failing row contains (7, none, null).";
        let seen = ErrorTexts { detail: Some(told.to_owned()), ..ErrorTexts::default() };
        check(seen, "", told, "", "");
    }

    #[test]
    fn a_column_of_another_type_is_told_of_only_where_the_statement_writes_the_table() {
        let message = "column \"handle\" is of type integer but expression is of type text";
        let seen = ErrorTexts { message: Some(message.to_owned()), ..ErrorTexts::default() };
        check(seen.clone(), message, "", "", "");
        let told = "column \"username\" is of type integer but expression is of type text";
        let written = |target: &str| ErrorTexts { target: Some(target.to_owned()), ..seen.clone() };
        check(written("orders"), message, "", "", "");
        check(written("users"), told, "", "", "");
        for (message, told) in [
            (
                "subscripted assignment to \"handle\" requires type int",
                "subscripted assignment to \"username\" requires type int",
            ),
            ("array assignment to \"handle\" requires type int", "array assignment to \"username\" requires type int"),
            (
                "cannot assign to field \"x\" of column \"handle\" because of",
                "cannot assign to field \"x\" of column \"username\" because of",
            ),
        ] {
            check(ErrorTexts { message: Some(message.to_owned()), ..written("users") }, told, "", "", "");
        }
    }

    #[test]
    fn the_table_that_is_written_stands_before() {
        let at = |text: &str| target_at(text, text.find('!').unwrap_or(text.len()), true);
        let users = Some("users".to_owned());
        assert_eq!(at("INSERT INTO public.users (username) VALUES (!1)"), users);
        assert_eq!(at("UPDATE ONLY app.public.\"users\" AS u SET username = !1"), users);
        assert_eq!(at("INSERT INTO users VALUES (1) ON CONFLICT (id) DO UPDATE SET username = !1"), users);
        assert_eq!(at("WITH w AS (INSERT INTO orders VALUES (1)) UPDATE users SET username = !1"), users);
        assert_eq!(
            at("WITH w AS (INSERT INTO orders VALUES (!1)) UPDATE users SET username = 1").as_deref(),
            Some("orders")
        );
        assert_eq!(at("INSERT INTO users SELECT 1 FROM orders FOR UPDATE OF orders; SELECT !1"), users);
        assert_eq!(at("SELECT '\"INTO\" orders' !"), None);
        assert_eq!(at("UPDATE"), None);
    }

    #[test]
    fn a_column_that_the_session_does_not_have_is_not_suggested() {
        let hint = |column: &str| {
            let text = Some(format!("Perhaps you meant to reference the column \"{column}\"."));
            mask_error(&contracted(), ErrorTexts { hint: text, ..ErrorTexts::default() }).hint
        };
        assert_eq!(hint("users.handle"), None);
        assert!(hint("users.email").is_some());
        assert!(hint("users.the_handle").is_some());
        let there = |column: &str| {
            let text = format!(
                "There is a column named \"{column}\" in table \"u\", but it cannot be referenced from this part of the query."
            );
            let masked = mask_error(
                &contracted(),
                ErrorTexts { hint: Some(text.clone()), detail: Some(text), ..ErrorTexts::default() },
            );
            (masked.hint.is_some(), masked.detail.is_some())
        };
        assert_eq!((there("handle"), there("email")), ((false, false), (true, true)));
    }
}
