//! From what the user wrote and what the database has to a migration: its lens and all that is derived once.
//!
//! Pure: the types and columns are facts that `catalog` brings.

use serde::{Deserialize, Serialize};

use super::near::nearest;
use super::spec::{Change, MigrationName, MigrationSpec, RenameColumn};
use super::{Blocker, Conversion, Expr, Invalid, Lens, LensColumn, OnUnsupported};
use crate::schema::{Column, ConstraintKind, ForeignKey, Ident, RelationKind, TableDetail};

/// A migration, resolved against the database that it will run on. Stored as JSON in `crossfade.migrations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Its name.
    pub name: MigrationName,
    /// The two shapes.
    pub lens: Lens,
    /// Functions that the lens's expressions call, in the schema `crossfade`.
    pub functions: Vec<LensFunction>,
    /// The primary key: what the copy walks by.
    pub key: Vec<KeyColumn>,
    /// What is carried over from the old column.
    pub carried: Carried,
    /// What to do with statements that cannot be rewritten.
    pub on_unsupported: OnUnsupported,
    /// What to do with rows that do not fit.
    pub invalid: Invalid,
}

/// A column of the primary key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its name.
    pub name: Ident,
    /// Its type with modifier.
    pub type_sql: String,
}

/// What the old column has that the new one gets as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Whether the values are the same ones (no `up` of the user's): checks and foreign keys hold for them too.
    pub same_values: bool,
    /// The collation as qualified SQL, where it is not the type's own.
    pub collation: Option<String>,
    /// The old column's default.
    pub default: Option<String>,
    /// Whether the old column is NOT NULL.
    pub not_null: bool,
}

/// A function that a conversion calls because it cannot be said inline: PL/pgSQL, immutable, without a search path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LensFunction {
    /// Its schema: `crossfade`.
    pub schema: String,
    /// Its name.
    pub name: Ident,
    /// Its parameters: the columns of the expression, with their types.
    pub parameters: Vec<(Ident, String)>,
    /// What it computes, over its parameters' columns.
    pub body: Expr,
    /// The type with modifier that the value must fit.
    pub type_sql: String,
    /// The type without modifier that it returns.
    pub returns: String,
    /// What it returns.
    pub kind: FunctionKind,
}

/// What a lens function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionKind {
    /// The value; raises PostgreSQL's error for what does not fit.
    Value,
    /// The value, or NULL for what does not fit.
    Safe,
    /// The text of the error for what does not fit, or NULL.
    Error,
}

/// A type as PostgreSQL knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedType {
    /// With modifier: `character varying(100)`.
    pub type_sql: String,
    /// Without.
    pub base_type_sql: String,
    /// The modifier (`atttypmod`), -1 without one.
    pub modifier: i32,
    /// Whether columns of it have a collation.
    pub collatable: bool,
    /// Whether it is a domain, whose checks may refuse a value.
    pub domain: bool,
}

/// The migration that a file means on that table, whose column has the type `old` and shall get `new`.
///
/// The table must have no [`table_blockers`]. Fails only where the column is missing all the same.
pub fn resolve(
    spec: &MigrationSpec,
    detail: &TableDetail,
    old: &ResolvedType,
    new: &ResolvedType,
) -> Result<Migration, Vec<Blocker>> {
    resolve_in("crossfade", spec, detail, old, new)
}

/// The same with its functions in that schema; `pg_temp` for a trial.
pub(crate) fn resolve_in(
    schema: &'static str,
    spec: &MigrationSpec,
    detail: &TableDetail,
    old: &ResolvedType,
    new: &ResolvedType,
) -> Result<Migration, Vec<Blocker>> {
    let Change::RenameColumn(change) = &spec.change;
    let others = detail.relation.columns.iter().filter(|column| column.name != change.to);
    let Some((position, column)) = others.enumerate().find(|(_, column)| column.name == change.column) else {
        return Err(vec![no_column(change, detail)]);
    };
    let ways = Ways { name: &spec.name, schema };
    let up = ways.conversion(Direction::Up, &change.column, old, new, custom(&change.up));
    let down = ways.conversion(Direction::Down, &change.to, new, old, custom(&change.down));
    let same_values = custom(&change.up).is_none() && custom(&change.down).is_none() && (up.keeps || down.keeps);
    let twin = |name: &Ident| same_values.then(|| name.clone());
    let lens_column = |name: &Ident, of: &ResolvedType, twin, from| LensColumn {
        name: name.clone(),
        type_sql: of.type_sql.clone(),
        base_type_sql: of.base_type_sql.clone(),
        position,
        twin,
        from,
    };
    let collation = detail.column(&change.column).and_then(|column| column.collation.clone());
    Ok(Migration {
        name: spec.name.clone(),
        lens: Lens {
            table: change.table.clone(),
            old: vec![lens_column(&change.column, old, twin(&change.to), down.conversion)],
            new: vec![lens_column(&change.to, new, twin(&change.column), up.conversion)],
        },
        functions: up.functions.into_iter().chain(down.functions).collect(),
        key: key(detail),
        carried: Carried {
            same_values,
            collation: collation.filter(|_| new.collatable),
            default: column.default.clone(),
            not_null: column.not_null,
        },
        on_unsupported: spec.on_unsupported,
        invalid: change.invalid,
    })
}

impl Migration {
    /// The sync trigger's name: sorts behind every ASCII name, so that it fires last.
    pub fn trigger(&self) -> Ident {
        own_name(format!("{}{}", OWN_PREFIX, self.name))
    }

    /// What the names of our indexes and constraints on the table begin with.
    pub fn object_prefix(&self) -> String {
        format!("{}{}_", OWN_PREFIX, self.name)
    }

    /// Our twin of an index or constraint, for as long as both are there. `kind` is one letter.
    pub fn twin(&self, kind: char, original: &Ident) -> Ident {
        own_name(format!("{}{kind}_{:08x}", self.object_prefix(), hash(original.as_str())))
    }

    /// The call that says why a value does not fit, for a new column that is converted by trying.
    pub(super) fn error_function(&self, column: &LensColumn) -> Option<Expr> {
        let reads: Vec<&Ident> = column.from.safe.columns().collect();
        let function = self.functions.iter().find(|function| {
            function.kind == FunctionKind::Error && function.parameters.iter().all(|(name, _)| reads.contains(&name))
        })?;
        let mut call = Expr::build().text(format!("{}(", function.called()));
        for (at, (name, _)) in function.parameters.iter().enumerate() {
            call = call.text(if at == 0 { "" } else { ", " }).column(name.clone());
        }
        Some(call.text(")").done())
    }

    /// The sync trigger's function, in the schema `crossfade`.
    pub fn sync_function(&self) -> Ident {
        own_name(format!("{}_sync", mangled(&self.name)))
    }
}

/// What every name of ours on a user's table begins with: it sorts behind every other ASCII name.
pub const OWN_PREFIX: &str = "~crossfade_";

/// Our own names fit by their parts: 11 bytes of prefix, 40 of migration name, 11 of what it is.
fn own_name(text: String) -> Ident {
    Ident::new(&text).expect("a migration's name leaves room for our prefix and suffix")
}

fn mangled(name: &MigrationName) -> String {
    name.as_str().replace('-', "_")
}

/// FNV-1a, 32 bits: short, and the same for ever.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The user's expression where it is more than the bare column.
fn custom(expr: &Option<Expr>) -> Option<&Expr> {
    expr.as_ref().filter(|expr| expr.as_column().is_none())
}

fn key(detail: &TableDetail) -> Vec<KeyColumn> {
    let columns = detail.relation.primary_key.iter().filter_map(|name| detail.relation.column(name));
    columns.map(|column| KeyColumn { name: column.name.clone(), type_sql: column.type_sql.clone() }).collect()
}

/// How values get from one type to another.
enum Way {
    /// The same type.
    Same,
    /// Every value fits and comes out unchanged.
    Widening,
    /// Strings, cut to that many characters by a cast, so that longer ones must be kept out.
    Narrowing(i32),
    /// Only PostgreSQL can tell, by trying.
    Trying,
}

fn way(from: &ResolvedType, to: &ResolvedType, custom: Option<&Expr>) -> Way {
    const WIDENINGS: &[(&str, &str)] = &[
        ("smallint", "integer"),
        ("smallint", "bigint"),
        ("integer", "bigint"),
        ("smallint", "numeric"),
        ("integer", "numeric"),
        ("bigint", "numeric"),
        ("real", "double precision"),
    ];
    if custom.is_some() {
        return Way::Trying;
    }
    if from.type_sql == to.type_sql {
        return Way::Same;
    }
    if from.domain || to.domain {
        return Way::Trying;
    }
    let string = |of: &ResolvedType| matches!(of.base_type_sql.as_str(), "text" | "character varying");
    if string(from) && string(to) {
        return match (string_limit(from), string_limit(to)) {
            (_, None) => Way::Widening,
            (Some(had), Some(has)) if had <= has => Way::Widening,
            (_, Some(has)) => Way::Narrowing(has),
        };
    }
    let unlimited = to.modifier < 0;
    let wider = from.base_type_sql == to.base_type_sql && to.base_type_sql != "character"
        || WIDENINGS.contains(&(from.base_type_sql.as_str(), to.base_type_sql.as_str()));
    if unlimited && wider { Way::Widening } else { Way::Trying }
}

/// The characters that a `varchar(n)` holds: its modifier counts a header of four.
fn string_limit(of: &ResolvedType) -> Option<i32> {
    (of.base_type_sql == "character varying" && of.modifier >= 4).then_some(of.modifier - 4)
}

/// Which shape a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Old to new.
    Up,
    /// New to old.
    Down,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

struct Ways<'a> {
    name: &'a MigrationName,
    schema: &'static str,
}

struct Made {
    conversion: Conversion,
    functions: Vec<LensFunction>,
    /// Whether every value that fits comes out as the same value: then the way back of such a value does so too.
    keeps: bool,
}

impl Ways<'_> {
    fn conversion(
        &self,
        direction: Direction,
        column: &Ident,
        from: &ResolvedType,
        to: &ResolvedType,
        custom: Option<&Expr>,
    ) -> Made {
        let bare = Expr::column(column.clone());
        let cast = Expr::build().column(column.clone()).text(format!("::{}", to.type_sql)).done();
        let inline = |conversion| Made { conversion, functions: Vec::new(), keeps: true };
        match way(from, to, custom) {
            Way::Same => inline(Conversion::identity(column)),
            Way::Widening => inline(Conversion { assign: bare, read: cast.clone(), safe: cast, fits: None }),
            Way::Narrowing(limit) => self.narrowing(direction, column, from, to, limit),
            Way::Trying => self.trying(direction, column, from, to, custom.unwrap_or(&bare)),
        }
    }

    /// Strings: said inline, since a call for each row would be felt.
    fn narrowing(
        &self,
        direction: Direction,
        column: &Ident,
        from: &ResolvedType,
        to: &ResolvedType,
        limit: i32,
    ) -> Made {
        let short = |built: super::ExprBuilder| {
            built.text("pg_catalog.char_length(").column(column.clone()).text(format!(") <= {limit}"))
        };
        let begin = || {
            let when = short(Expr::build().text("CASE WHEN ")).text(" THEN ");
            when.column(column.clone()).text(format!("::{}", to.type_sql))
        };
        // Without a cast the result of CASE has no modifier, and the client would see another type.
        let safe = typed(begin().text(" END").done(), to);
        let (read, functions) = match direction {
            // New storage is read once everything fits.
            Direction::Up => (safe.clone(), Vec::new()),
            // Old sessions read what the new application wrote, for ever: a value that their type cannot hold is
            // PostgreSQL's own error, raised by the function; a cast would cut it in silence.
            Direction::Down => {
                let bare = Expr::column(column.clone());
                let function = self.function(direction, FunctionKind::Value, column, from, to, &bare);
                let call = begin().text(format!(" ELSE {}(", function.called())).column(column.clone());
                (typed(call.text(") END").done(), to), vec![function])
            }
        };
        let conversion = Conversion {
            assign: Expr::column(column.clone()),
            read,
            safe,
            fits: Some(short(Expr::build().text("((")).text(") IS NOT FALSE)").done()),
        };
        Made { conversion, functions, keeps: true }
    }

    fn trying(
        &self,
        direction: Direction,
        column: &Ident,
        from: &ResolvedType,
        to: &ResolvedType,
        body: &Expr,
    ) -> Made {
        let function = |kind| self.function(direction, kind, column, from, to, body);
        let call = |function: &LensFunction| {
            Expr::build().text(format!("{}(", function.called())).column(column.clone()).text(")").done()
        };
        let (value, safe, error) =
            (function(FunctionKind::Value), function(FunctionKind::Safe), function(FunctionKind::Error));
        let conversion = Conversion {
            assign: body.clone(),
            read: typed(call(&value), to),
            safe: typed(call(&safe), to),
            fits: Some(Expr::build().text("(").expr(&call(&error)).text(" IS NULL)").done()),
        };
        Made { conversion, functions: vec![value, safe, error], keeps: false }
    }

    fn function(
        &self,
        direction: Direction,
        kind: FunctionKind,
        column: &Ident,
        from: &ResolvedType,
        to: &ResolvedType,
        body: &Expr,
    ) -> LensFunction {
        let suffix = match kind {
            FunctionKind::Value => "value",
            FunctionKind::Safe => "safe",
            FunctionKind::Error => "error",
        };
        LensFunction {
            name: own_name(format!("{}_{}_{suffix}", mangled(self.name), direction.name())),
            parameters: vec![(column.clone(), from.base_type_sql.clone())],
            body: body.clone(),
            type_sql: to.type_sql.clone(),
            returns: match kind {
                FunctionKind::Value | FunctionKind::Safe => to.base_type_sql.clone(),
                FunctionKind::Error => "text".to_owned(),
            },
            kind,
            schema: self.schema.to_owned(),
        }
    }
}

impl LensFunction {
    /// Its qualified name as SQL.
    pub fn called(&self) -> String {
        format!("{}.{}", self.schema, self.name.quoted())
    }
}

fn no_column(change: &RenameColumn, detail: &TableDetail) -> Blocker {
    let known: Vec<&str> = detail.relation.columns.iter().map(|column| column.name.as_str()).collect();
    let todo = match nearest(change.column.as_str(), known.iter().copied()) {
        Some(near) => format!("Did you mean {near:?}? The table has: {}.", known.join(", ")),
        None => format!("The table has: {}.", known.join(", ")),
    };
    Blocker::new(
        "no_such_column",
        format!("there is no column {:?} in {}", change.column.as_str(), change.table),
        "The column to be renamed must exist.",
        todo,
    )
}

/// What about the table itself makes the migration impossible, as far as its description tells.
pub fn table_blockers(spec: &MigrationSpec, detail: &TableDetail) -> Vec<Blocker> {
    let Change::RenameColumn(change) = &spec.change;
    let mut found = Vec::new();
    found.extend(wrong_table(change, detail));
    match detail.relation.column(&change.column) {
        None => found.push(no_column(change, detail)),
        Some(column) => found.extend(wrong_column(change, detail, column)),
    }
    if detail.relation.column(&change.to).is_some() {
        found.push(Blocker::new(
            "name_taken",
            format!("{} already has a column {:?}", change.table, change.to.as_str()),
            "The new column must be new.",
            "Choose another name in `to`, or rename or drop that column.",
        ));
    }
    found.extend(left_over(spec, detail));
    found
}

fn wrong_table(change: &RenameColumn, detail: &TableDetail) -> Vec<Blocker> {
    let mut found = Vec::new();
    let what = match detail.relation.kind {
        RelationKind::Table => None,
        RelationKind::Partitioned => Some("a partitioned table"),
        RelationKind::View => Some("a view"),
        RelationKind::MaterializedView => Some("a materialized view"),
        RelationKind::Foreign => Some("a foreign table"),
    };
    let what = what
        .or(detail.inherits.then_some("part of an inheritance tree or a partition"))
        .or(detail.typed.then_some("a typed table"));
    if let Some(what) = what {
        found.push(Blocker::new(
            "not_an_ordinary_table",
            format!("{} is {what}", change.table),
            "Only ordinary tables can be migrated so far.",
            "Nothing can be done in this version.",
        ));
    } else if detail.relation.primary_key.is_empty() {
        found.push(Blocker::new(
            "no_primary_key",
            format!("{} has no primary key", change.table),
            "The copy walks the table by its primary key, and rows in quarantine are named by it.",
            "Add one: CREATE UNIQUE INDEX CONCURRENTLY, then ALTER TABLE ... ADD PRIMARY KEY USING INDEX.",
        ));
    }
    found
}

fn wrong_column(change: &RenameColumn, detail: &TableDetail, column: &Column) -> Vec<Blocker> {
    let mut found = Vec::new();
    let name = change.column.as_str();
    if column.generated || column.identity {
        found.push(Blocker::new(
            "generated_column",
            format!("column {name:?} is {}", if column.generated { "generated" } else { "an identity column" }),
            "Its value is not the application's to write, so there is nothing to write twice.",
            "Nothing can be done in this version.",
        ));
    }
    if detail.relation.primary_key.contains(&column.name) {
        found.push(Blocker::new(
            "in_primary_key",
            format!("column {name:?} is part of the primary key"),
            "A key is changed by the kind change_primary_key, which is not built yet.",
            "Nothing can be done in this version.",
        ));
    }
    for reference in detail.referenced_by.iter().filter(|reference| reference.columns.contains(&column.name)) {
        found.push(Blocker::new(
            "referenced",
            format!("foreign key {} of {} points at column {name:?}", reference.name, reference.table),
            "Dropping the column would need the foreign key dropped first, and nothing is dropped with CASCADE.",
            "Drop the foreign key, or point it at another column.",
        ));
    }
    let set_default = |key: &ForeignKey| key.on_delete == "d" || key.on_update == "d";
    for constraint in detail.constraints.iter().filter(|constraint| constraint.columns.contains(&column.name)) {
        let awkward = match constraint.kind {
            ConstraintKind::Exclusion => Some("an exclusion constraint cannot be added to a table in use"),
            ConstraintKind::ForeignKey if constraint.foreign.as_ref().is_some_and(set_default) => {
                Some("ON DELETE or ON UPDATE SET DEFAULT cannot hold for two columns at once")
            }
            ConstraintKind::Unique if constraint.deferrable => {
                Some("a deferrable unique constraint cannot be kept beside an index that is checked at once")
            }
            ConstraintKind::Check
            | ConstraintKind::ForeignKey
            | ConstraintKind::PrimaryKey
            | ConstraintKind::Unique
            | ConstraintKind::NotNull
            | ConstraintKind::Trigger => None,
        };
        found.extend(awkward.map(|why| {
            Blocker::new(
                "constraint",
                format!("constraint {:?} cannot be carried over", constraint.name.as_str()),
                format!("It is about column {name:?}, and {why}."),
                "Drop it before, and add it again on the new column after the migration.",
            )
        }));
    }
    found
}

/// Objects of an earlier migration of that name, and triggers that would fire behind ours.
fn left_over(spec: &MigrationSpec, detail: &TableDetail) -> Vec<Blocker> {
    let mut found = Vec::new();
    let ours = format!("{OWN_PREFIX}{}", spec.name);
    let taken = |name: &&Ident| name.as_str() == ours || name.as_str().starts_with(&format!("{ours}_"));
    let triggers = detail.triggers.iter().map(|trigger| &trigger.name);
    for name in detail.names_taken.iter().chain(triggers).filter(taken) {
        found.push(Blocker::new(
            "left_over",
            format!("{:?} exists already", name.as_str()),
            "It has a name that this migration needs; an earlier one may have left it behind.",
            "Drop it, or give the migration another name.",
        ));
    }
    for trigger in detail.triggers.iter().filter(|trigger| trigger.changes_rows && trigger.name.as_str() > &*ours) {
        found.push(Blocker::new(
            "trigger_fires_later",
            format!("trigger {:?} would fire behind the sync trigger", trigger.name.as_str()),
            "Triggers fire in the order of their names, and the sync trigger must see the row as it is stored.",
            "Rename the trigger so that its name sorts before \"~\".",
        ));
    }
    found
}

/// The value with the type's modifier, which neither CASE nor a function keeps. The value fits: the cast cuts nothing.
fn typed(value: Expr, to: &ResolvedType) -> Expr {
    if to.modifier < 0 {
        return value;
    }
    Expr::build().text("(").expr(&value).text(format!(")::{}", to.type_sql)).done()
}

#[cfg(test)]
mod tests;
