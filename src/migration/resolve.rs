//! From what the user wrote and what the database has to a migration: its lens and all that is derived once.
//!
//! Pure: the types and columns are facts that `catalog` brings.

use serde::{Deserialize, Serialize};

use super::near::nearest;
use super::spec::{Change, ColumnChange, MigrationName, MigrationSpec};
use super::{Blocker, Conversion, Expr, Invalid, Lens, LensColumn, Misfits, OnUnsupported, coercion};
use crate::schema::{Column, ConstraintKind, ForeignKey, Ident, QualifiedName, RelationKind, TableDetail};

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
    /// The new column's default, where it is not simply what storing the old one's gives.
    #[serde(default)]
    pub new_default: Option<String>,
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
    /// Its parameter's value computed back from [`VALUE`], where a value fits only if that is what it was.
    #[serde(default)]
    pub back: Option<Expr>,
    /// What it computes where `body` does not fit.
    #[serde(default)]
    pub fallback: Option<Expr>,
    /// Whether the fallback may not be NULL.
    #[serde(default)]
    pub not_null: bool,
    /// Settings that it runs under, since the text of a value depends on them.
    #[serde(default)]
    pub settings: Vec<(String, String)>,
}

/// What a lens function calls the value that it computed.
pub const VALUE: &str = "~value";

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
    /// The value; raises an error for what does not fit and for what does not come back.
    Exact,
    /// The value for what does not fit, or NULL where that fails.
    Fallback,
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

/// The column's two types, and how PostgreSQL casts one to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Types {
    /// The type that it has.
    pub old: ResolvedType,
    /// The type that it shall have.
    pub new: ResolvedType,
    /// From old to new.
    pub up: Cast,
    /// From new to old.
    pub down: Cast,
}

/// How PostgreSQL casts one type to another when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// By a cast.
    Direct,
    /// There is no cast; by way of the value's text.
    ViaText,
}

/// The migration that a file means on that table, whose column has these types.
///
/// The table must have no [`table_blockers`]. Fails only where the column is missing all the same.
pub fn resolve(spec: &MigrationSpec, detail: &TableDetail, types: &Types) -> Result<Migration, Vec<Blocker>> {
    resolve_in("crossfade", spec, detail, types)
}

/// The same with its functions in that schema; `pg_temp` for a trial.
pub(crate) fn resolve_in(
    schema: &'static str,
    spec: &MigrationSpec,
    detail: &TableDetail,
    types: &Types,
) -> Result<Migration, Vec<Blocker>> {
    let change = spec.change.column();
    let stored = (change.to == change.column).then(|| own_storage(&spec.name, &change.column));
    let made = stored.as_ref().unwrap_or(&change.to);
    let others = detail.relation.columns.iter().filter(|column| &column.name != made);
    let Some((position, column)) = others.enumerate().find(|(_, column)| column.name == change.column) else {
        return Err(vec![no_column(change, detail)]);
    };
    let collation = detail.column(&change.column).and_then(|column| column.collation.clone());
    let declared = custom(&change.up).is_some() || custom(&change.down).is_some();
    let ways = Ways { name: &spec.name, schema, exact: !declared };
    let (up, down) = ways.both(change, column, types);
    let invented = matches!(change.invalid, Invalid::Fallback(_));
    let same_values = !declared && !invented && (up.keeps || down.keeps);
    // Equal new values then mean equal old ones, and the other way round.
    let exact = same_values || is_exact_type(&types.old.base_type_sql) && is_exact_type(&types.new.base_type_sql);
    let comparable = !declared && exact && kept_apart(&change.invalid);
    let twin = |name: &Ident| comparable.then(|| name.clone());
    let column_of = |name: &Ident, of: &ResolvedType, twin, from| LensColumn {
        name: name.clone(),
        stored: None,
        misfits: Misfits::Never,
        type_sql: of.type_sql.clone(),
        base_type_sql: of.base_type_sql.clone(),
        position,
        origin: Some((detail.relation.oid, column.number)),
        twin,
        from,
    };
    let mut old = column_of(&change.column, &types.old, twin(&change.to), down.conversion);
    if let Some(name) = collation.as_ref().filter(|_| !types.new.collatable && old.from.read.as_column().is_none()) {
        old.from.read = Expr::build().text("(").expr(&old.from.read).text(format!(" COLLATE {name})")).done();
    }
    let mut new = column_of(&change.to, &types.new, twin(&change.column), up.conversion);
    new.misfits = up.misfits;
    new.stored = stored;
    Ok(Migration {
        name: spec.name.clone(),
        lens: Lens { table: change.table.clone(), old: vec![old], new: vec![new] },
        functions: up.functions.into_iter().chain(down.functions).collect(),
        key: key(detail),
        carried: Carried {
            same_values,
            collation: collation.filter(|_| types.new.collatable),
            new_default: column.default.as_ref().and_then(|text| {
                let text = coercion::default_of(text, &types.old.type_sql, &types.old.base_type_sql);
                Some(up.cast?.render(|_| format!("({text})")))
            }),
            default: column.default.clone(),
            not_null: column.not_null,
        },
        on_unsupported: spec.on_unsupported,
        invalid: change.invalid.clone(),
    })
}

/// Whether rows that do not fit get no value which rows that do may have too.
fn kept_apart(invalid: &Invalid) -> bool {
    match invalid {
        Invalid::Quarantine | Invalid::Reject => true,
        Invalid::Null | Invalid::Fallback(_) => false,
    }
}

/// Whether two values of the type are equal only where a client sees the same. Not so for `1.0` and `1.00`.
pub(super) fn is_exact_type(base_type_sql: &str) -> bool {
    super::text::EXACT.contains(&base_type_sql) || matches!(base_type_sql, "text" | "character varying")
}

impl Migration {
    /// The sync trigger's names, by which it fires before a table's own triggers and behind them: PostgreSQL fires triggers
    /// of one kind in the order of their names (<https://www.postgresql.org/docs/current/trigger-definition.html>).
    pub fn triggers(&self) -> [Ident; 2] {
        [FIRST_PREFIX, OWN_PREFIX].map(|prefix| own_name(format!("{prefix}{}", self.name)))
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
        let fits = column.from.fits.as_ref()?;
        let function = self
            .functions
            .iter()
            .find(|function| function.kind == FunctionKind::Error && function.is_called_by(fits))?;
        let mut call = Expr::build().text(format!("{}(", function.called()));
        for (at, (name, _)) in function.parameters.iter().enumerate() {
            call = call.text(if at == 0 { "" } else { ", " }).column(name.clone());
        }
        Some(call.text(")").done())
    }

    /// The new column's default when it takes the place of the old one.
    pub(crate) fn moved_default(&self, column: &LensColumn) -> Option<String> {
        let default = self.carried.default.as_ref()?;
        let plain = || {
            let old = self.lens.old.iter().find(|old| old.type_sql != column.type_sql);
            let default = old.map(|old| coercion::default_of(default, &old.type_sql, &old.base_type_sql));
            let default = default.as_ref().or(self.carried.default.as_ref()).map_or("NULL", String::as_str);
            column.from.assign.render(|_| format!("({default})"))
        };
        Some(self.carried.new_default.clone().unwrap_or_else(plain))
    }

    /// The sync trigger's function, in the schema `crossfade`.
    pub fn sync_function(&self) -> Ident {
        own_name(format!("{}_sync", mangled(self.name.as_str())))
    }

    /// The function that gives the key of a row in quarantine, in the schema `crossfade`.
    pub(crate) fn key_function(&self) -> Ident {
        own_name(format!("{}_key", mangled(self.name.as_str())))
    }

    /// The view that old sessions copy into once only the new storage is left (see `copies`).
    pub(crate) fn copy_view(&self) -> QualifiedName {
        copy_view(self.name.as_str())
    }
}

/// The same of the migration of that name.
pub(super) fn copy_view(migration: &str) -> QualifiedName {
    QualifiedName { schema: own_name("crossfade".to_owned()), name: own_name(format!("{}_copy", mangled(migration))) }
}

/// What every name of ours on a user's table begins with: it sorts behind every other ASCII name.
pub const OWN_PREFIX: &str = "~crossfade_";

/// What the name of the trigger begins with that fires first: it sorts before every other printable ASCII name.
pub const FIRST_PREFIX: &str = "!crossfade_";

/// The new column until it gets the name of the old one, where that is the same.
fn own_storage(name: &MigrationName, column: &Ident) -> Ident {
    own_name(format!("{OWN_PREFIX}{name}_s_{:08x}", hash(column.as_str())))
}

/// Our own names fit by their parts: 11 bytes of prefix, 40 of migration name, 11 of what it is.
fn own_name(text: String) -> Ident {
    Ident::new(&text).expect("a migration's name leaves room for our prefix and suffix")
}

fn mangled(name: &str) -> String {
    name.replace('-', "_")
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
    /// Every value has a text, from which it comes back.
    Writing,
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
    /// Types whose text depends on no setting.
    const WRITTEN: &[&str] = &["smallint", "integer", "bigint", "numeric", "boolean", "uuid", "jsonb"];
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
    if unlimited && string(to) && WRITTEN.contains(&from.base_type_sql.as_str()) {
        return Way::Writing;
    }
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
    /// Whether a value fits only if it comes back as it was: no expression of the user's says otherwise.
    exact: bool,
}

/// One direction of a lens, as it is asked for.
struct Asked<'a> {
    direction: Direction,
    column: &'a Ident,
    from: &'a ResolvedType,
    to: &'a ResolvedType,
    /// There, and back.
    casts: (Cast, Cast),
    custom: Option<&'a Expr>,
    invalid: &'a Invalid,
    /// Whether the fallback may not be NULL.
    not_null: bool,
}

struct Made {
    conversion: Conversion,
    functions: Vec<LensFunction>,
    misfits: Misfits,
    /// Whether every value that fits comes out as the same value: then the way back of such a value does so too.
    keeps: bool,
    /// The bare cast, where storing does more than that.
    cast: Option<Expr>,
}

impl Ways<'_> {
    /// There, and back.
    fn both(&self, change: &ColumnChange, column: &Column, types: &Types) -> (Made, Made) {
        let up = self.conversion(&Asked {
            direction: Direction::Up,
            column: &change.column,
            from: &types.old,
            to: &types.new,
            casts: (types.up, types.down),
            custom: custom(&change.up),
            invalid: &change.invalid,
            not_null: column.not_null,
        });
        let down = self.conversion(&Asked {
            direction: Direction::Down,
            column: &change.to,
            from: &types.new,
            to: &types.old,
            casts: (types.down, types.up),
            custom: custom(&change.down),
            invalid: &Invalid::Quarantine,
            not_null: false,
        });
        (up, down)
    }

    fn conversion(&self, asked: &Asked<'_>) -> Made {
        let bare = Expr::column(asked.column.clone());
        let cast = Expr::build().column(asked.column.clone()).text(format!("::{}", asked.to.type_sql)).done();
        let inline =
            |conversion, keeps| Made { conversion, functions: Vec::new(), misfits: Misfits::Never, keeps, cast: None };
        match way(asked.from, asked.to, asked.custom) {
            Way::Same => inline(Conversion::identity(asked.column), true),
            Way::Widening => inline(Conversion { assign: bare, read: cast.clone(), safe: cast, fits: None }, true),
            Way::Writing => {
                let cast = Expr::build().text("(").expr(&cast).text(")").done();
                inline(Conversion { assign: cast.clone(), read: cast.clone(), safe: cast, fits: None }, false)
            }
            Way::Narrowing(limit) => match asked.invalid {
                Invalid::Fallback(_) => self.casting(asked),
                Invalid::Quarantine | Invalid::Null | Invalid::Reject => self.narrowing(asked, limit),
            },
            Way::Trying => match asked.custom {
                Some(custom) => Made { cast: Some(custom.clone()), ..self.trying(asked, custom, None) },
                None => self.casting(asked),
            },
        }
    }

    /// By PostgreSQL's own cast. What does not come back is kept out, unless the user gave a word of his own.
    fn casting(&self, asked: &Asked<'_>) -> Made {
        const INTEGERS: &[&str] = &["smallint", "integer", "bigint"];
        let column = Expr::column(asked.column.clone());
        let value = Expr::column(Ident::new(VALUE).expect("a short name"));
        // Without the modifier, which a cast would cut to in silence; the function's variable has it.
        let body = cast_to(&column, asked.casts.0, &asked.to.base_type_sql);
        let integers = |of: &ResolvedType| INTEGERS.contains(&of.base_type_sql.as_str());
        let checked = self.exact && !(integers(asked.from) && integers(asked.to));
        let back = checked.then(|| cast_to(&value, asked.casts.1, &asked.from.type_sql));
        let mut made = self.trying(asked, &body, back);
        if !checked && asked.casts.0 == Cast::Direct && integers(asked.from) && integers(asked.to) {
            // The assignment cast says the same, and the planner sees through it.
            made.conversion.assign = match asked.invalid {
                Invalid::Quarantine | Invalid::Reject => column.clone(),
                Invalid::Null | Invalid::Fallback(_) => made.conversion.assign,
            };
        }
        made.cast = Some(cast_to(&column, asked.casts.0, &asked.to.type_sql));
        made
    }

    /// Strings: said inline, since a call for each row would be felt.
    fn narrowing(&self, asked: &Asked<'_>, limit: i32) -> Made {
        let (column, to) = (asked.column, asked.to);
        let short = |built: super::ExprBuilder| {
            built.text("pg_catalog.char_length(").column(column.clone()).text(format!(") <= {limit}"))
        };
        let begin = || {
            let when = short(Expr::build().text("CASE WHEN ")).text(" THEN ");
            when.column(column.clone()).text(format!("::{}", to.type_sql))
        };
        // Without a cast the result of CASE has no modifier, and the client would see another type.
        let safe = typed(begin().text(" END").done(), to);
        let bare = Expr::column(column.clone());
        let (stored, read, functions) = match asked.direction {
            // New storage is read once everything fits.
            Direction::Up => (bare.clone(), safe.clone(), Vec::new()),
            // Old sessions read what the new application wrote, for ever: a value that their type cannot hold is
            // PostgreSQL's own error, raised by the function; a cast would cut it in silence.
            Direction::Down => {
                let function = self.function(asked, FunctionKind::Value, &bare, None);
                let call = begin().text(format!(" ELSE {}(", function.called())).column(column.clone());
                // An assignment cuts blanks in silence, which the new application would not get back.
                let value = Expr::column(Ident::new(VALUE).expect("a short name"));
                let back = cast_to(&value, asked.casts.1, &asked.from.type_sql);
                let exact = self.function(asked, FunctionKind::Exact, &bare, Some(&back));
                let stored = Expr::build().text(format!("{}(", exact.called())).column(column.clone()).text(")").done();
                (typed(stored, to), typed(call.text(") END").done(), to), vec![function, exact])
            }
        };
        let fits = short(Expr::build().text("((")).text(") IS NOT FALSE)").done();
        let (assign, fits, misfits) = match asked.invalid {
            Invalid::Null => (safe.clone(), None, Misfits::Null),
            Invalid::Quarantine | Invalid::Reject | Invalid::Fallback(_) => (stored, Some(fits), Misfits::Never),
        };
        let cast = Some(bare);
        Made { conversion: Conversion { assign, read, safe, fits }, functions, misfits, keeps: true, cast }
    }

    /// By a function with an exception handler. `back` is the value computed back, where it must come back.
    fn trying(&self, asked: &Asked<'_>, body: &Expr, back: Option<Expr>) -> Made {
        let function = |kind| self.function(asked, kind, body, back.as_ref());
        let call = |function: &LensFunction| {
            Expr::build().text(format!("{}(", function.called())).column(asked.column.clone()).text(")").done()
        };
        let value = function(if back.is_some() && asked.direction == Direction::Up {
            FunctionKind::Exact
        } else {
            FunctionKind::Value
        });
        let (safe, error) = (function(FunctionKind::Safe), function(FunctionKind::Error));
        let mut conversion = Conversion {
            assign: body.clone(),
            read: typed(call(&value), asked.to),
            safe: typed(call(&safe), asked.to),
            fits: Some(Expr::build().text("(").expr(&call(&error)).text(" IS NULL)").done()),
        };
        let mut functions = vec![value, safe, error];
        if back.is_some() {
            // Storing refuses what would not come back; reading gives what there is.
            let exact = function(FunctionKind::Exact);
            conversion.assign = typed(call(&exact), asked.to);
            if functions.iter().all(|function| function.name != exact.name) {
                functions.push(exact);
            }
        }
        let misfits = match (asked.direction, asked.invalid) {
            (Direction::Down, _) | (Direction::Up, Invalid::Reject) => Misfits::Never,
            (Direction::Up, Invalid::Quarantine) => Misfits::Null,
            (Direction::Up, Invalid::Null) => {
                conversion.assign = conversion.safe.clone();
                conversion.fits = None;
                functions.retain(|function| function.kind == FunctionKind::Safe);
                conversion.read = conversion.safe.clone();
                Misfits::Null
            }
            (Direction::Up, Invalid::Fallback(_)) => {
                // The value functions know the fallback themselves.
                conversion.assign = conversion.read.clone();
                let fallback = function(FunctionKind::Fallback);
                let called = typed(call(&fallback), asked.to);
                functions.push(fallback);
                Misfits::Fallback(called)
            }
        };
        Made { conversion, functions, misfits, keeps: false, cast: None }
    }

    fn function(&self, asked: &Asked<'_>, kind: FunctionKind, body: &Expr, back: Option<&Expr>) -> LensFunction {
        let suffix = match kind {
            FunctionKind::Value => "value",
            FunctionKind::Safe => "safe",
            FunctionKind::Error => "error",
            FunctionKind::Exact => "exact",
            FunctionKind::Fallback => "misfit",
        };
        let fallback = match asked.invalid {
            Invalid::Fallback(expr) => Some(expr),
            Invalid::Quarantine | Invalid::Null | Invalid::Reject => None,
        };
        let checked = kind != FunctionKind::Value && kind != FunctionKind::Fallback;
        let declared = asked.custom.is_some();
        LensFunction {
            name: own_name(format!("{}_{}_{suffix}", mangled(self.name.as_str()), asked.direction.name())),
            parameters: vec![(asked.column.clone(), asked.from.base_type_sql.clone())],
            body: match (kind, fallback) {
                (FunctionKind::Fallback, Some(fallback)) => fallback.clone(),
                (_, _) => body.clone(),
            },
            type_sql: asked.to.type_sql.clone(),
            returns: match kind {
                FunctionKind::Value | FunctionKind::Safe | FunctionKind::Exact | FunctionKind::Fallback => {
                    asked.to.base_type_sql.clone()
                }
                FunctionKind::Error => "text".to_owned(),
            },
            kind,
            schema: self.schema.to_owned(),
            back: back.filter(|_| checked).cloned(),
            fallback: fallback.filter(|_| kind != FunctionKind::Fallback).cloned(),
            not_null: asked.not_null && fallback.is_some(),
            settings: if declared { Vec::new() } else { settings(asked.from, asked.to) },
        }
    }
}

/// The value of that type, by PostgreSQL's cast or by way of its text.
fn cast_to(value: &Expr, cast: Cast, type_sql: &str) -> Expr {
    let way = match cast {
        Cast::Direct => "",
        Cast::ViaText => "::text",
    };
    Expr::build().text("(").expr(value).text(format!("{way}::{type_sql})")).done()
}

/// Settings under which a cast by way of a text is one and the same for every session; none where no setting matters.
fn settings(from: &ResolvedType, to: &ResolvedType) -> Vec<(String, String)> {
    const FREE: &[&str] = &[
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "boolean",
        "uuid",
        "json",
        "jsonb",
        "text",
        "character varying",
        "bpchar",
        "oid",
        "name",
    ];
    if [from, to].iter().all(|of| FREE.contains(&of.base_type_sql.as_str())) {
        return Vec::new();
    }
    let fixed = [
        ("search_path", "pg_catalog"),
        ("DateStyle", "ISO, YMD"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("extra_float_digits", "1"),
        ("bytea_output", "hex"),
    ];
    fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

impl LensFunction {
    /// Its qualified name as SQL.
    pub fn called(&self) -> String {
        format!("{}.{}", self.schema, self.name.quoted())
    }

    /// Whether that expression calls it.
    pub(super) fn is_called_by(&self, expr: &Expr) -> bool {
        expr.sql().contains(&format!("{}(", self.called()))
    }
}

fn no_column(change: &ColumnChange, detail: &TableDetail) -> Blocker {
    let known: Vec<&str> = detail.relation.columns.iter().map(|column| column.name.as_str()).collect();
    let todo = match nearest(change.column.as_str(), known.iter().copied()) {
        Some(near) => format!("Did you mean {near:?}? The table has: {}.", known.join(", ")),
        None => format!("The table has: {}.", known.join(", ")),
    };
    Blocker::new(
        "no_such_column",
        format!("there is no column {:?} in {}", change.column.as_str(), change.table),
        "The column to be changed must exist.",
        todo,
    )
}

/// What about the table itself makes the migration impossible, as far as its description tells.
pub fn table_blockers(spec: &MigrationSpec, detail: &TableDetail) -> Vec<Blocker> {
    let change = spec.change.column();
    let mut found = Vec::new();
    found.extend(wrong_table(&change.table, detail));
    match detail.relation.column(&change.column) {
        None => found.push(no_column(change, detail)),
        Some(column) => {
            found.extend(wrong_column(detail, column));
            found.extend(null_for_not_null(change, column));
        }
    }
    match &spec.change {
        Change::RenameColumn(_) => found.extend(name_taken(change, detail)),
        Change::ChangeType(_) => found.extend(serial(change, detail)),
    }
    found.extend(left_over(spec, detail));
    found
}

fn name_taken(change: &ColumnChange, detail: &TableDetail) -> Option<Blocker> {
    detail.relation.column(&change.to).map(|_| {
        Blocker::new(
            "name_taken",
            format!("{} already has a column {:?}", change.table, change.to.as_str()),
            "The new column must be new.",
            "Choose another name in `to`, or rename or drop that column.",
        )
    })
}

/// The sequence counts in the old type, and its values come from the default.
fn serial(change: &ColumnChange, detail: &TableDetail) -> Option<Blocker> {
    detail.column(&change.column)?.owned_sequence.as_ref().map(|sequence| {
        Blocker::new(
            "serial",
            format!("column {:?} takes its values from its own sequence {sequence}", change.column.as_str()),
            "The type of a serial column is that of its sequence too, which is not changed.",
            "Nothing can be done in this version.",
        )
    })
}

fn null_for_not_null(change: &ColumnChange, column: &Column) -> Option<Blocker> {
    (change.invalid == Invalid::Null && column.not_null).then(|| {
        Blocker::new(
            "null_in_not_null",
            format!("column {:?} is NOT NULL, and what does not fit would be NULL", change.column.as_str()),
            "The new column is NOT NULL as well, and would refuse such rows.",
            "Choose another `invalid`: \"quarantine\", \"reject\", or an expression that gives a value.",
        )
    })
}

pub(super) fn wrong_table(table: &QualifiedName, detail: &TableDetail) -> Vec<Blocker> {
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
            format!("{table} is {what}"),
            "Only ordinary tables can be migrated so far.",
            "Nothing can be done in this version.",
        ));
    } else if detail.relation.primary_key.is_empty() {
        found.push(Blocker::new(
            "no_primary_key",
            format!("{table} has no primary key"),
            "The copy walks the table by its primary key, and rows in quarantine are named by it.",
            "Add one: CREATE UNIQUE INDEX CONCURRENTLY, then ALTER TABLE ... ADD PRIMARY KEY USING INDEX.",
        ));
    }
    found
}

pub(super) fn wrong_column(detail: &TableDetail, column: &Column) -> Vec<Blocker> {
    let mut found = Vec::new();
    let name = column.name.as_str();
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
            format!("foreign key {} of {} goes by an index with column {name:?}", reference.name, reference.table),
            "Dropping the column would need the foreign key dropped first, and nothing is dropped with CASCADE.",
            "Drop the foreign key, or let it go by a unique index without the column.",
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
    let [first, ours] = [FIRST_PREFIX, OWN_PREFIX].map(|prefix| format!("{prefix}{}", spec.name));
    let taken = |name: &&Ident| {
        name.as_str() == first || name.as_str() == ours || name.as_str().starts_with(&format!("{ours}_"))
    };
    let triggers = detail.triggers.iter().map(|trigger| &trigger.name);
    let columns = detail.relation.columns.iter().map(|column| &column.name);
    for name in detail.names_taken.iter().chain(triggers).chain(columns).filter(taken) {
        found.push(Blocker::new(
            "left_over",
            format!("{:?} exists already", name.as_str()),
            "It has a name that this migration needs; an earlier one may have left it behind.",
            "Drop it, or give the migration another name.",
        ));
    }
    for trigger in detail.triggers.iter().filter(|trigger| trigger.changes_rows) {
        let name = trigger.name.as_str();
        if name > &*ours {
            found.push(Blocker::new(
                "trigger_fires_later",
                format!("trigger {name:?} would fire behind the sync trigger"),
                "Triggers fire in the order of their names, and the sync trigger must see the row as it is stored.",
                "Rename the trigger so that its name sorts before \"~\".",
            ));
        } else if name < &*first {
            found.push(Blocker::new(
                "trigger_fires_earlier",
                format!("trigger {name:?} would fire before the sync trigger"),
                "Triggers fire in the order of their names, and the sync trigger must see the row as the statement gave it.",
                "Rename the trigger so that its name sorts behind \"!\".",
            ));
        }
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
