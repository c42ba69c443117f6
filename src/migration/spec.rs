//! Migration files: TOML in, a checked description or every mistake at once out.
//!
//! Pure: knows no file system and no database. What can be known without a database is checked here, the rest by
//! `catalog::preflight`. Rendering mistakes with their source is the cli's.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::near::nearest;
use super::{Expr, Invalid, OnUnsupported};
use crate::schema::{Ident, QualifiedName};

/// The longest migration name, in bytes: what leaves room for our prefixes in 63.
pub const NAME_BYTES_MAX: usize = 40;

/// The name of a migration: `[a-z0-9-]`, at most [`NAME_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MigrationName(String);

impl MigrationName {
    /// The name, if it is one.
    pub fn new(text: &str) -> Result<MigrationName, String> {
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !plain {
            return Err(format!(
                "a migration's name has 1 to {NAME_BYTES_MAX} characters, each a-z, 0-9 or -; this one is {text:?}"
            ));
        }
        Ok(MigrationName(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MigrationName {
    type Error = String;
    fn try_from(text: String) -> Result<MigrationName, String> {
        MigrationName::new(&text)
    }
}

impl From<MigrationName> for String {
    fn from(name: MigrationName) -> String {
        name.0
    }
}

impl fmt::Display for MigrationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A migration as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSpec {
    /// Its name.
    pub name: MigrationName,
    /// What to do with statements that cannot be rewritten.
    pub on_unsupported: OnUnsupported,
    /// What changes.
    pub change: Change,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A column gets another name, and perhaps another type.
    RenameColumn(ColumnChange),
    /// A column gets another type, and keeps its name.
    ChangeType(ColumnChange),
}

impl Change {
    /// The one column that becomes another one.
    pub fn column(&self) -> &ColumnChange {
        match self {
            Change::RenameColumn(change) | Change::ChangeType(change) => change,
        }
    }

    /// The same, to be changed.
    pub(crate) fn column_mut(&mut self) -> &mut ColumnChange {
        match self {
            Change::RenameColumn(change) | Change::ChangeType(change) => change,
        }
    }
}

/// One column that becomes another one of the same table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnChange {
    /// The table.
    pub table: QualifiedName,
    /// The column as it is.
    pub column: Ident,
    /// The column as it shall be; the same name where only the type changes.
    pub to: Ident,
    /// The type it shall have, as SQL; the old one's when absent.
    pub type_sql: Option<String>,
    /// The new value over the old column; absent for the value as it is, cast to the new type.
    pub up: Option<Expr>,
    /// The old value over the new column; absent for the value as it is, cast to the old type.
    pub down: Option<Expr>,
    /// What to do with rows that do not fit.
    pub invalid: Invalid,
}

/// One mistake in a migration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecError {
    /// The bytes of the file that it is about.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Every mistake in a migration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecErrors {
    /// The file's name.
    pub file: String,
    /// Its text, for excerpts.
    #[serde(skip)]
    pub text: String,
    /// The mistakes, in order of place. Never empty.
    pub errors: Vec<SpecError>,
}

impl fmt::Display for SpecErrors {
    /// One mistake a line, as compilers do it, with what to do below.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{}:{}: {}\n  {}", self.file, error.line, error.column, error.message, error.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}

impl MigrationSpec {
    /// Reads a migration file's text; `file` is its name for messages.
    pub fn from_toml(text: &str, file: &str) -> Result<MigrationSpec, SpecErrors> {
        let (root, syntax) = DeTable::parse_recoverable(text);
        let mut reader = Reader { text, errors: Vec::new() };
        for error in &syntax {
            let span = error.span().unwrap_or(0..0);
            reader.error(span, format!("this is not TOML: {}", error.message()), "See https://toml.io for the format.");
        }
        let spec = reader.migration(root.get_ref(), !syntax.is_empty());
        let mut errors = reader.errors;
        errors.sort_by_key(|error| error.span.start);
        match spec {
            Some(spec) if errors.is_empty() => Ok(spec),
            Some(_) | None => Err(SpecErrors { file: file.to_owned(), text: text.to_owned(), errors }),
        }
    }
}

/// The keys of a file.
const FILE_KEYS: &[&str] = &["name", "on_unsupported", "change"];

/// The keys of `kind = "rename_column"`.
const RENAME_KEYS: &[&str] = &["kind", "table", "column", "to", "type", "up", "down", "invalid"];

/// The keys of `kind = "change_type"`.
const CHANGE_TYPE_KEYS: &[&str] = &["kind", "table", "column", "type", "up", "down", "invalid"];

/// The kinds that are built.
const RENAME_COLUMN: &str = "rename_column";
const CHANGE_TYPE: &str = "change_type";
const BUILT: &str = "This version has: rename_column, change_type.";

/// Kinds of the design that are not built yet.
const FUTURE_KINDS: &[&str] = &[
    "add_column",
    "drop_column",
    "split_column",
    "merge_columns",
    "split_table",
    "merge_tables",
    "change_primary_key",
    "add_index",
    "add_foreign_key",
    "add_check",
    "set_not_null",
    "add_unique",
];

type Value<'t, 'i> = &'t Spanned<DeValue<'i>>;

struct Reader<'i> {
    text: &'i str,
    errors: Vec<SpecError>,
}

impl<'i> Reader<'i> {
    fn error(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        self.errors.push(SpecError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span,
            message: message.into(),
            help: help.into(),
        });
    }

    /// `broken`: the text is not TOML in places, so that a missing key may only be one that was not understood.
    fn migration(&mut self, root: &DeTable<'i>, broken: bool) -> Option<MigrationSpec> {
        self.unknown_keys(root, FILE_KEYS, "a migration file");
        let name = match root.get("name") {
            Some(value) => self.name(value),
            None => {
                if !broken {
                    self.error(
                        0..0,
                        "`name` is missing",
                        "Add name = \"...\" at the top: it names the migration in every command.",
                    );
                }
                None
            }
        };
        let on_unsupported = self.choice(
            root.get("on_unsupported"),
            "on_unsupported",
            &[("refuse", OnUnsupported::Refuse), ("warn", OnUnsupported::Warn)],
        );
        let change = match root.get("change") {
            Some(value) => self.changes(value),
            None => {
                if !broken {
                    let help = "Add a [[change]] with kind = \"rename_column\".";
                    self.error(0..0, "there is no `[[change]]`", help);
                }
                None
            }
        };
        Some(MigrationSpec { name: name?, on_unsupported: on_unsupported?, change: change? })
    }

    fn name(&mut self, value: Value<'_, 'i>) -> Option<MigrationName> {
        let text = self.string(value, "name")?;
        let named = MigrationName::new(text);
        named.map_err(|message| self.error(value.span(), message, "Write it like \"users-username-to-handle\".")).ok()
    }

    fn changes(&mut self, value: Value<'_, 'i>) -> Option<Change> {
        let help = "Write the change as a table: [[change]] on a line, its keys below.";
        let found = value.get_ref().type_str();
        let Some(changes) = value.get_ref().as_array() else {
            self.error(value.span(), format!("`change` is {}, not a list of tables", article(found)), help);
            return None;
        };
        if let Some(second) = changes.get(1) {
            self.error(
                second.span(),
                "more than one [[change]] in a file is not built yet",
                "Make a file for each; they can run one behind the other.",
            );
        }
        let read: Vec<Option<Change>> = changes
            .iter()
            .map(|change| match change.get_ref().as_table() {
                Some(table) => self.change(table, change.span()),
                None => {
                    let found = article(change.get_ref().type_str());
                    self.error(change.span(), format!("a change is {found}, not a table"), help);
                    None
                }
            })
            .collect();
        if read.is_empty() {
            self.error(value.span(), "there is no change in `change`", help);
        }
        read.into_iter().next().flatten()
    }

    fn change(&mut self, table: &DeTable<'i>, span: Range<usize>) -> Option<Change> {
        let Some(value) = table.get("kind") else {
            self.error(span, "`kind` is missing", "Add kind = \"rename_column\".");
            return None;
        };
        let kind = self.string(value, "kind")?;
        if kind == RENAME_COLUMN {
            return self.rename_column(table, span).map(Change::RenameColumn);
        }
        if kind == CHANGE_TYPE {
            return self.change_type(table, span).map(Change::ChangeType);
        }
        if FUTURE_KINDS.contains(&kind) {
            self.error(value.span(), format!("kind {kind:?} is not built yet"), BUILT);
            return None;
        }
        let known = FUTURE_KINDS.iter().copied().chain([RENAME_COLUMN, CHANGE_TYPE]);
        let help = match nearest(kind, known) {
            Some(near) => format!("Did you mean {near:?}? {BUILT}"),
            None => BUILT.to_owned(),
        };
        self.error(value.span(), format!("there is no kind {kind:?}"), help);
        None
    }

    fn rename_column(&mut self, table: &DeTable<'i>, span: Range<usize>) -> Option<ColumnChange> {
        self.unknown_keys(table, RENAME_KEYS, "a rename_column");
        let name = self.required(table, "table", &span).and_then(|value| self.table_name(value));
        let column = self.required(table, "column", &span).and_then(|value| self.column_name(value, "column"));
        let to = self.required(table, "to", &span).and_then(|value| self.column_name(value, "to"));
        if let (Some(column), Some(to), Some(value)) = (&column, &to, table.get("to"))
            && column == to
        {
            let help = "Give the column another name; a change of type alone is the kind change_type.";
            self.error(value.span(), format!("the column is called {:?} already", to.as_str()), help);
        }
        let type_sql = table.get("type").map(|value| self.type_name(value));
        let (up, down, invalid) = self.conversions(table, column.as_ref(), to.as_ref());
        if let (Some(Some(expr)), None, Some(value)) = (&up, &down, table.get("up"))
            && expr.as_column().is_none()
        {
            let help = "Add down = \"...\": the old value over the new column. Old sessions read it for ever.";
            self.error(value.span(), "`up` is an expression, and there is no `down`", help);
        }
        Some(ColumnChange {
            table: name?,
            column: column?,
            to: to?,
            type_sql: lift(type_sql)?,
            up: lift(up)?,
            down: lift(down)?,
            invalid: invalid?,
        })
    }

    fn change_type(&mut self, table: &DeTable<'i>, span: Range<usize>) -> Option<ColumnChange> {
        self.unknown_keys(table, CHANGE_TYPE_KEYS, "a change_type");
        let name = self.required(table, "table", &span).and_then(|value| self.table_name(value));
        let column = self.required(table, "column", &span).and_then(|value| self.column_name(value, "column"));
        let type_sql = self.required(table, "type", &span).and_then(|value| self.type_name(value));
        let (up, down, invalid) = self.conversions(table, column.as_ref(), column.as_ref());
        Some(ColumnChange {
            table: name?,
            to: column.clone()?,
            column: column?,
            type_sql: Some(type_sql?),
            up: lift(up)?,
            down: lift(down)?,
            invalid: invalid?,
        })
    }

    /// `up`, `down` and `invalid`: what becomes of values.
    fn conversions(
        &mut self,
        table: &DeTable<'i>,
        old: Option<&Ident>,
        new: Option<&Ident>,
    ) -> (Option<Option<Expr>>, Option<Option<Expr>>, Option<Invalid>) {
        let up = table.get("up").map(|value| self.expression(value, "up", old));
        let down = table.get("down").map(|value| self.expression(value, "down", new));
        (up, down, self.invalid(table.get("invalid"), old))
    }

    /// One of the words, or an expression over the old column.
    fn invalid(&mut self, value: Option<Value<'_, 'i>>, column: Option<&Ident>) -> Option<Invalid> {
        let Some(value) = value else { return Some(Invalid::default()) };
        match self.string(value, "invalid")? {
            "quarantine" => Some(Invalid::Quarantine),
            "null" => Some(Invalid::Null),
            "reject" => Some(Invalid::Reject),
            text => match Expr::parse(text, std::slice::from_ref(column?)) {
                Ok(expr) => Some(Invalid::Fallback(expr)),
                Err(error) => {
                    let help = "Write \"quarantine\", \"null\", \"reject\", or an SQL expression over the old column \
                                that gives the new value, such as \"0\".";
                    self.error(self.inside(value, error.offset), format!("`invalid`: {}", error.message), help);
                    None
                }
            },
        }
    }

    fn unknown_keys(&mut self, table: &DeTable<'i>, known: &[&str], of: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let word = key.get_ref();
            let help = match nearest(word, known.iter().copied()) {
                Some(near) => format!("Did you mean `{near}`? The keys of {of} are: {}.", known.join(", ")),
                None => format!("The keys of {of} are: {}.", known.join(", ")),
            };
            self.error(key.span(), format!("unknown key `{word}`"), help);
        }
    }

    fn required<'t>(&mut self, table: &'t DeTable<'i>, key: &str, span: &Range<usize>) -> Option<Value<'t, 'i>> {
        let value = table.get(key);
        if value.is_none() {
            let help = match key {
                "table" => "Add table = \"schema.name\".",
                "column" => "Add column = \"...\": the column as it is now.",
                "type" => "Add type = \"...\": the type that the column shall have.",
                _ => "Add to = \"...\": the name that the column shall have.",
            };
            self.error(span.clone(), format!("`{key}` is missing"), help);
        }
        value
    }

    fn string<'t>(&mut self, value: Value<'t, 'i>, key: &str) -> Option<&'t str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            let found = article(value.get_ref().type_str());
            self.error(value.span(), format!("`{key}` is {found}, not a string"), "Write it in quotes.");
        }
        text
    }

    /// One of several words; the first one where the key is absent.
    fn choice<T: Copy>(&mut self, value: Option<Value<'_, 'i>>, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let Some(value) = value else { return choices.first().map(|(_, choice)| *choice) };
        let text = self.string(value, key)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if chosen.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            let help = format!("Write {}.", words.join(" or "));
            self.error(value.span(), format!("`{key}` cannot be {text:?}"), help);
        }
        chosen
    }

    fn table_name(&mut self, value: Value<'_, 'i>) -> Option<QualifiedName> {
        let text = self.string(value, "table")?;
        let mut parts = self.parts(value, "table", text)?;
        match (parts.pop(), parts.pop(), parts.pop()) {
            (Some(name), None, None) => {
                let schema = Ident::new("public").ok()?;
                Some(QualifiedName { schema, name })
            }
            (Some(name), Some(schema), None) => Some(QualifiedName { schema, name }),
            _ => {
                let help = "Write \"schema.name\", or \"name\" for schema public.";
                self.error(value.span(), "a table's name has one or two parts", help);
                None
            }
        }
    }

    fn column_name(&mut self, value: Value<'_, 'i>, key: &str) -> Option<Ident> {
        let text = self.string(value, key)?;
        let mut parts = self.parts(value, key, text)?;
        match (parts.pop(), parts.pop()) {
            (Some(name), None) => Some(name),
            _ => {
                let help = "Write the column's name alone; a dot inside it goes into quotes: '\"a.b\"'.";
                self.error(value.span(), format!("`{key}` is a name with several parts"), help);
                None
            }
        }
    }

    /// Names as SQL writes them, between dots.
    fn parts(&mut self, value: Value<'_, 'i>, key: &str, text: &str) -> Option<Vec<Ident>> {
        let mut fail = |message: String, help: String| {
            self.error(value.span(), message, help);
            None
        };
        let Some(texts) = split_name(text) else {
            let help =
                format!("Put a name that is not plain in double quotes: {key} = '\"{}\"'.", text.replace('"', ""));
            return fail(format!("{text:?} is not a name as SQL writes it"), help);
        };
        let mut parts = Vec::new();
        for part in texts {
            match Ident::new(&part) {
                Ok(ident) => parts.push(ident),
                Err(error) => return fail(error.to_string(), "Choose a name of 1 to 63 bytes.".to_owned()),
            }
        }
        Some(parts)
    }

    fn type_name(&mut self, value: Value<'_, 'i>) -> Option<String> {
        let text = self.string(value, "type")?;
        match super::read::check_type(text) {
            Ok(()) => Some(text.to_owned()),
            Err(error) => {
                self.error(self.inside(value, error.offset), error.message, error.help);
                None
            }
        }
    }

    fn expression(&mut self, value: Value<'_, 'i>, key: &str, column: Option<&Ident>) -> Option<Expr> {
        let text = self.string(value, key)?;
        // Without its column (a mistake of its own) there is nothing to read it over.
        let column = column?;
        match Expr::parse(text, std::slice::from_ref(column)) {
            Ok(expr) => Some(expr),
            Err(error) => {
                self.error(self.inside(value, error.offset), format!("`{key}`: {}", error.message), error.help);
                None
            }
        }
    }

    /// The place of a byte of a string's value in the file, where the string is written without escapes; else the
    /// whole string.
    fn inside(&self, value: Value<'_, 'i>, offset: Option<usize>) -> Range<usize> {
        let span = value.span();
        let raw = self.text.get(span.start + 1..span.end.saturating_sub(1));
        match (raw, value.get_ref().as_str(), offset) {
            (Some(raw), Some(text), Some(offset)) if raw == text && offset <= text.len() => {
                let start = span.start + 1 + offset;
                start..(start + 1).min(span.end)
            }
            _ => span,
        }
    }
}

/// An optional key that is absent is fine; one that is there and wrong is not.
fn lift<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
    }
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

/// The parts of a dotted name: plain lower-case ones, or quoted ones. Upper case without quotes is not taken, since
/// SQL and people read it differently.
fn split_name(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let (part, after) = rest.split_at(end);
                let starts = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_' || !c.is_ascii());
                let plain =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$' || !c.is_ascii();
                if !starts || !part.chars().all(plain) {
                    return None;
                }
                (part.to_owned(), after)
            }
        };
        parts.push(part);
        if after.is_empty() {
            return Some(parts);
        }
        rest = after.strip_prefix('.')?;
    }
}

/// The name up to the closing quote, and what follows it.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests;
