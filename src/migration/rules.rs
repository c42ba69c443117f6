//! What the lenses mean at one epoch: for each table under migration, how each shape and route reads and writes it.
//!
//! Pure. This is the whole of what `sql` knows of a migration: it sees views and stores, never a kind of change or a
//! phase. The truth table is on [`TableRules`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::masks::{Masks, Seen};
use super::resolve::copy_view;
use super::text::distinct;
use super::{Bucket, Epoch, Expr, Lens, LensColumn, Misfits, OnUnsupported, Percent, Phase, Route, Shape};
use crate::schema::{Catalog, Ident, QualifiedName, Relation, RowFunction};

/// A migration as the proxies need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveMigration {
    /// Its name.
    pub name: String,
    /// The two shapes.
    pub lens: Lens,
    /// Where it is.
    pub phase: Phase,
    /// The share of sessions that reads from new storage.
    pub reads: Percent,
    /// What to do with statements that cannot be rewritten.
    pub on_unsupported: OnUnsupported,
}

/// Everything that a rewrite depends on besides the session: one epoch's migrations over one catalog.
///
/// Immutable, and shared: a transaction holds it from its first statement to its end, so that an epoch is settled when
/// nobody holds the rules of an older one.
#[derive(Debug, Default)]
pub struct Rules {
    epoch: Epoch,
    migrations: Arc<[ActiveMigration]>,
    catalog: Arc<Catalog>,
    tables: HashMap<QualifiedName, TableRules>,
    names: HashSet<Ident>,
    row_functions: HashMap<QualifiedName, RowFunction>,
    masks: [Masks; 3],
    held: bool,
}

impl Rules {
    /// The rules of these migrations. Planned and rolled-back ones change nothing for anybody and are left out; so is
    /// one whose table the catalog does not have (the server will say so itself), or has another table in place of.
    pub fn new(epoch: Epoch, migrations: &[ActiveMigration], catalog: Arc<Catalog>) -> Rules {
        Rules::derive(epoch, migrations.into(), catalog)
    }

    fn derive(epoch: Epoch, migrations: Arc<[ActiveMigration]>, catalog: Arc<Catalog>) -> Rules {
        let mut tables = HashMap::new();
        for migration in migrations.iter() {
            let Some(relation) = catalog.relation(&migration.lens.table) else { continue };
            if migration.phase == Phase::Contracted && !is_what_it_left(&migration.lens, relation) {
                continue;
            }
            if let Some(rules) = TableRules::new(migration, relation) {
                tables.insert(migration.lens.table.clone(), rules);
            }
        }
        let names = tables.keys().map(|table: &QualifiedName| table.name.clone()).collect();
        let of_these = catalog.row_functions().iter().filter(|function| tables.contains_key(&function.table));
        let row_functions = of_these.map(|function| (function.name.clone(), function.clone())).collect();
        let masks = Shape::ALL.map(|shape| Masks::new(seen(&tables, shape), &catalog));
        Rules { epoch, migrations, catalog, tables, names, row_functions, masks, held: false }
    }

    /// The same rules over a catalog in which these tables are as they are told (`None`: it is not there), and the functions
    /// are those that give rows of them.
    pub fn over(&self, tables: &[(QualifiedName, Option<Relation>)], functions: Vec<RowFunction>) -> Rules {
        let mut catalog = Catalog::clone(&self.catalog);
        for (name, relation) in tables {
            catalog.replace(name, relation.clone());
        }
        let names: Vec<&QualifiedName> = tables.iter().map(|(name, _)| name).collect();
        catalog.replace_row_functions(&names, functions);
        Rules::derive(self.epoch, Arc::clone(&self.migrations), Arc::new(catalog)).hold(self.held)
    }

    /// The tables of all migrations that have begun, in one order in every process: sessions may change them, while a
    /// migration runs by additions.
    pub fn tables_begun(&self) -> Vec<&QualifiedName> {
        let begun = self.migrations.iter().filter(|m| !matches!(m.phase, Phase::Planned | Phase::RolledBack));
        begun.map(|migration| &migration.lens.table).collect()
    }

    /// The same rules, held or not: under rules that are held no transaction begins.
    pub fn hold(mut self, held: bool) -> Rules {
        self.held = held;
        self
    }

    /// Whether no transaction may begin under these rules. They are for the moment in which storage changes: after it
    /// they may be wrong, so they are never applied to a statement on a table under migration.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The epoch these rules belong to.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The catalog they were derived over.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Whether no table is under migration, so that every statement passes as it is.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The rules of that table, if it is under migration.
    pub fn table(&self, name: &QualifiedName) -> Option<&TableRules> {
        self.tables.get(name)
    }

    /// All tables under migration, in no order.
    pub fn tables(&self) -> impl Iterator<Item = &TableRules> {
        self.tables.values()
    }

    /// How sessions of that shape read the system catalogs.
    pub fn masks(&self, shape: Shape) -> &Masks {
        &self.masks[shape as usize]
    }

    /// The unqualified names of the tables under migration: what the screen looks for.
    pub fn names(&self) -> &HashSet<Ident> {
        &self.names
    }

    /// The functions whose results are rows of tables under migration: the screen looks for their names too.
    pub fn row_functions(&self) -> impl Iterator<Item = &RowFunction> {
        self.row_functions.values()
    }

    /// The one of them that a call by that name means: with its schema, else the first on the path.
    pub fn row_function(&self, path: &[Ident], name: &[String]) -> Option<&RowFunction> {
        let [qualifier @ .., name] = name else { return None };
        let name = Ident::new(name).ok()?;
        let find =
            |schema: &Ident| self.row_functions.get(&QualifiedName { schema: schema.clone(), name: name.clone() });
        if self.row_functions.is_empty() {
            return None;
        }
        // Of the temporary schema a function is found by its qualified name only.
        let temporary = |schema: &&Ident| schema.as_str().starts_with("pg_temp_");
        match qualifier.last() {
            Some(schema) if schema == "pg_temp" => path.iter().filter(temporary).find_map(find),
            Some(schema) => find(&Ident::new(schema).ok()?),
            None => path.iter().filter(|schema| !temporary(schema)).find_map(find),
        }
    }
}

/// Whether the table is the one that a completed migration left. One that was dropped and made anew is no more under it: it
/// lacks the new column or, where that has the name of the old one, has the old one's type.
fn is_what_it_left(lens: &Lens, relation: &Relation) -> bool {
    lens.new.iter().all(|new| {
        let Some(stored) = relation.column(&new.name) else { return false };
        let same = new.origin.is_none_or(|(oid, _)| oid == relation.oid) || stored.base_type_sql == new.base_type_sql;
        same || lens.old.iter().all(|old| old.name != new.name || old.base_type_sql != stored.base_type_sql)
    })
}

/// The tables as sessions of that shape see them, in one order in every process.
fn seen(tables: &HashMap<QualifiedName, TableRules>, shape: Shape) -> Vec<Seen> {
    let mut sorted: Vec<&TableRules> = tables.values().collect();
    sorted.sort_by_key(|rules| &rules.table);
    sorted.into_iter().map(|rules| rules.seen[shape as usize].clone()).collect()
}

/// How sessions see one table under migration.
///
/// | phase | old shape reads | old shape writes | new shape reads | new shape writes |
/// |---|---|---|---|---|
/// | shielded, rolling_back | old | old | as the old shape | as the old shape |
/// | expanded | old | old | up(old) | both |
/// | dual_writing, backfilling, verified | old | both | up(old) | both |
/// | ramping, soaking | by route: old, down(new) | both | by route: up(old), new | both |
/// | contracting | down(new) | new (the sync trigger fills old) | new | new |
/// | contracted | down(new) | new | new | new |
///
/// In ramping and soaking `down(new)` is the old storage's own value where the new one holds what stands for values that
/// do not fit (`LensColumn::misfits`).
///
/// The target of a write statement (its `SET`, `WHERE`, `RETURNING`) is read from old storage until contracting,
/// whatever the route, so that most writes keep their own text.
#[derive(Debug, Clone)]
pub struct TableRules {
    /// The migration's name, for messages.
    pub migration: String,
    /// Its phase, for messages.
    pub phase: Phase,
    /// The table.
    pub table: QualifiedName,
    /// What to do with statements that cannot be rewritten.
    pub on_unsupported: OnUnsupported,
    /// Whether nothing of the migration is still to come, so that the stored table is its users' own again.
    pub over: bool,
    reads: Percent,
    read_views: [[TableView; 2]; 3],
    write_views: [TableView; 3],
    copy_view: Option<QualifiedName>,
    seen: [Seen; 3],
}

impl TableRules {
    fn new(migration: &ActiveMigration, relation: &Relation) -> Option<TableRules> {
        match migration.phase {
            Phase::Planned | Phase::RolledBack => return None,
            Phase::Shielded
            | Phase::Expanded
            | Phase::DualWriting
            | Phase::Backfilling
            | Phase::Verified
            | Phase::Ramping
            | Phase::Soaking
            | Phase::Contracting
            | Phase::Contracted
            | Phase::RollingBack => {}
        }
        let lens: Vec<&Ident> =
            migration.lens.old.iter().chain(&migration.lens.new).map(|column| &column.name).collect();
        let derive = |shape, storage| View { lens: &migration.lens, phase: migration.phase, relation, shape, storage };
        Some(TableRules {
            migration: migration.name.clone(),
            phase: migration.phase,
            table: migration.lens.table.clone(),
            on_unsupported: migration.on_unsupported,
            over: migration.phase == Phase::Contracted,
            reads: effective_reads(migration.phase, migration.reads),
            read_views: Shape::ALL
                .map(|shape| Route::ALL.map(|route| derive(shape, storage_read(migration.phase, route)).derive())),
            write_views: Shape::ALL.map(|shape| derive(shape, storage_read(migration.phase, Route::Old)).derive()),
            copy_view: copies_through_view(migration).then(|| copy_view(&migration.name)),
            seen: Shape::ALL.map(|shape| {
                let [old, new] = [Storage::Old, Storage::New].map(|storage| derive(shape, storage).derive());
                Seen::new(relation, &old, &new, &lens)
            }),
        })
    }

    /// Whether the new storage of every row holds what the old one says, for as long as any proxy can be in this phase.
    pub fn is_filled(&self) -> bool {
        filled(self.phase)
    }

    /// The route of a session at that place in the ramp.
    pub fn route(&self, bucket: Bucket) -> Route {
        bucket.route(self.reads)
    }

    /// How a reading reference (an item of FROM) sees the table.
    pub fn read_view(&self, shape: Shape, route: Route) -> &TableView {
        &self.read_views[shape as usize][route as usize]
    }

    /// How the target of INSERT, UPDATE, DELETE, MERGE or COPY FROM sees the table.
    pub fn write_view(&self, shape: Shape) -> &TableView {
        &self.write_views[shape as usize]
    }

    /// The view through which COPY FROM stores columns of the old shape that it cannot store as they come. Not there where
    /// the migration was completed by a proxy that did not know of it.
    pub fn copy_view(&self) -> Option<&QualifiedName> {
        self.copy_view.as_ref()
    }
}

/// Whether the old shape's values are stored in the new storage alone, and are converted.
fn copies_through_view(migration: &ActiveMigration) -> bool {
    let written = written(migration.phase, Side::Old);
    !written.old && migration.lens.converts()
}

/// The table as an old session sees and writes it in that phase.
pub(super) fn old_view(lens: &Lens, phase: Phase, relation: &Relation) -> TableView {
    View { lens, phase, relation, shape: Shape::Old, storage: storage_read(phase, Route::Old) }.derive()
}

/// One table as one session sees it: what its columns are, where each is read from, and what storing into one sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableView {
    /// The table that stores it.
    pub storage: QualifiedName,
    /// The columns that the session sees, in order: what `*` means.
    pub columns: Vec<ViewColumn>,
    /// Columns that a name reaches only when it resolves in no other way (shape `auto`). Never part of `*`.
    pub fallback: Vec<ViewColumn>,
    /// All columns of the stored table, in order.
    pub stored: Vec<Ident>,
    /// Columns of the stored table that do not exist for this session.
    pub hidden: Vec<Ident>,
    /// Stored columns, each with the one column of this view that says the same: what errors about it are told of.
    pub twins: Vec<(Ident, Ident)>,
    /// What assigning to `columns` sets: each stored column with its value over `columns`. A column that stands for
    /// itself has a store that is the bare column of the same name.
    pub stores: Vec<Store>,
    /// The same for `fallback`, each over `fallback`.
    pub fallback_stores: Vec<Store>,
    /// Whether the sync trigger keeps both storages in step, so that a value which cannot be computed twice may be
    /// stored on one side only.
    pub synced: bool,
    /// The primary key, in names of this view.
    pub primary_key: Vec<Ident>,
}

/// A column as a session sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewColumn {
    /// Its name.
    pub name: Ident,
    /// Its type with modifier, in this shape.
    pub type_sql: String,
    /// Its type without modifier, in this shape.
    pub base_type_sql: String,
    /// Its value over the stored columns: the bare column of the same name where nothing is under migration.
    pub read: Expr,
    /// The stored column whose unique indexes arbitrate `ON CONFLICT` over this one, and that `COPY` may name for it.
    pub arbiter: Option<Ident>,
}

impl ViewColumn {
    /// Whether the column is stored under its own name, as it is.
    pub fn is_plain(&self) -> bool {
        self.read.as_column() == Some(&self.name)
    }
}

/// One stored column and the value that a write gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The stored column.
    pub column: Ident,
    /// Its value over the view's columns. A bare column leaves the conversion to the assignment cast.
    pub value: Expr,
    /// Whether the session's own column is this one's source of truth, so that it must be stored by the statement
    /// itself; a store that is not primary may be left to the sync trigger where the view is `synced`.
    pub primary: bool,
    /// Where the view is `synced`: whether the trigger carries whatever an UPDATE stores in the session's own column
    /// over to this one. Not so for the old side while the new one is being filled: a NULL that a new session stores
    /// over the NULL of a row that was not copied yet is no change that a trigger could see.
    pub follows: bool,
}

impl TableView {
    /// The column of that name that every name lookup finds.
    pub fn column(&self, name: &Ident) -> Option<&ViewColumn> {
        self.columns.iter().find(|column| &column.name == name)
    }

    /// The column of that name that a lookup finds when nothing else has the name.
    pub fn fallback_column(&self, name: &Ident) -> Option<&ViewColumn> {
        self.fallback.iter().find(|column| &column.name == name)
    }

    /// Whether the view is the stored table, as it is: no hidden column, each column plain, each store plain.
    pub fn is_plain(&self) -> bool {
        self.hidden.is_empty()
            && self.fallback.is_empty()
            && self.columns.iter().all(ViewColumn::is_plain)
            && self.stores.iter().all(|store| store.value.as_column() == Some(&store.column))
    }
}

/// Which side's storage a read is answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storage {
    Old,
    New,
}

fn storage_read(phase: Phase, route: Route) -> Storage {
    match phase {
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::RollingBack
        | Phase::RolledBack => Storage::Old,
        Phase::Ramping | Phase::Soaking => match route {
            Route::Old => Storage::Old,
            Route::New => Storage::New,
        },
        Phase::Contracting | Phase::Contracted => Storage::New,
    }
}

/// The share as the phase allows it: nothing is read from new storage before it is proved complete.
fn effective_reads(phase: Phase, reads: Percent) -> Percent {
    match phase {
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::RollingBack
        | Phase::RolledBack => Percent::ZERO,
        Phase::Ramping => reads,
        Phase::Soaking | Phase::Contracting | Phase::Contracted => Percent::ALL,
    }
}

/// Which sides a write by a session sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    old: bool,
    new: bool,
}

fn written(phase: Phase, side: Side) -> Written {
    match phase {
        Phase::Planned | Phase::Shielded | Phase::RollingBack | Phase::RolledBack => Written { old: true, new: false },
        Phase::Expanded => Written { old: true, new: side == Side::New },
        Phase::DualWriting | Phase::Backfilling | Phase::Verified | Phase::Ramping | Phase::Soaking => {
            Written { old: true, new: true }
        }
        Phase::Contracting | Phase::Contracted => Written { old: false, new: true },
    }
}

/// Whether the sync trigger is on the table for as long as any proxy can be in this phase.
fn synced(phase: Phase) -> bool {
    match phase {
        Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting => true,
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::Contracted
        | Phase::RollingBack
        | Phase::RolledBack => false,
    }
}

/// See [`TableRules::is_filled`].
fn filled(phase: Phase) -> bool {
    match phase {
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::RollingBack
        | Phase::RolledBack => false,
        Phase::Verified | Phase::Ramping | Phase::Soaking | Phase::Contracting | Phase::Contracted => true,
    }
}

/// Whether the new shape can be seen at all.
fn new_shape_exists(phase: Phase) -> bool {
    match phase {
        Phase::Planned | Phase::Shielded | Phase::RollingBack | Phase::RolledBack => false,
        Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting
        | Phase::Contracted => true,
    }
}

/// The name of a new column's storage in that phase.
fn new_storage(column: &LensColumn, phase: Phase) -> &Ident {
    match phase {
        Phase::Contracted => &column.name,
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting
        | Phase::RollingBack
        | Phase::RolledBack => column.stored(),
    }
}

/// Whether the old storage may be read, and says of every row what the old shape has.
fn old_storage_tells(phase: Phase) -> bool {
    match phase {
        Phase::Contracting | Phase::Contracted => false,
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::RollingBack
        | Phase::RolledBack => true,
    }
}

/// An old column as it is read from new storage in that phase, over stored columns.
pub(super) fn read_from_new(lens: &Lens, old: &LensColumn, phase: Phase) -> Expr {
    let stored = |name: &Ident| {
        let new = lens.new.iter().find(|new| &new.name == name);
        Expr::column(new.map_or(name, |new| new_storage(new, phase)).clone())
    };
    let down = old.from.read.substitute(stored);
    let inputs: Vec<&LensColumn> =
        lens.new.iter().filter(|new| old.from.read.columns().any(|name| name == &new.name)).collect();
    let mut unfit = Vec::new();
    for new in inputs.into_iter().filter(|_| old_storage_tells(phase)) {
        let storage = new_storage(new, phase);
        let null = || Expr::build().column(storage.clone()).text(" IS NULL").done();
        match &new.misfits {
            Misfits::Never => {}
            Misfits::Null => unfit.push(null()),
            Misfits::Fallback(value) => {
                let value = value.substitute(|name| Expr::column(lens.old_stored(name)));
                unfit.push(null());
                unfit.push(same(&new.base_type_sql, &Expr::column(storage.clone()), &value));
            }
        }
    }
    let Some(first) = unfit.first() else { return down };
    let any = unfit.iter().skip(1).fold(Expr::build().expr(first), |built, next| built.text(" OR ").expr(next)).done();
    let case = Expr::build().text("(CASE WHEN ").expr(&any).text(" THEN ").column(old.stored().clone());
    let case = case.text(" ELSE ").expr(&down).text(" END)").done();
    // CASE keeps no modifier.
    if old.type_sql == old.base_type_sql {
        case
    } else {
        Expr::build().expr(&case).text(format!("::{}", old.type_sql)).done()
    }
}

/// Whether two values of that type are the same, NULL being a value.
fn same(base_type_sql: &str, a: &Expr, b: &Expr) -> Expr {
    const PLACE: &str = "\0";
    let text = distinct(base_type_sql, PLACE, PLACE);
    let mut pieces = text.split(PLACE).map(str::to_owned);
    let mut next = || pieces.next().unwrap_or_default();
    Expr::build().text(format!("NOT {}", next())).expr(a).text(next()).expr(b).text(next()).done()
}

/// One side of the lens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Old,
    New,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Old => Side::New,
            Side::New => Side::Old,
        }
    }
}

/// What one view is derived from.
struct View<'a> {
    lens: &'a Lens,
    phase: Phase,
    relation: &'a Relation,
    shape: Shape,
    storage: Storage,
}

impl View<'_> {
    fn derive(&self) -> TableView {
        let new_exists = new_shape_exists(self.phase);
        let side = match self.shape {
            Shape::New if new_exists => Side::New,
            Shape::Old | Shape::Auto | Shape::New => Side::Old,
        };
        let columns = self.columns(side);
        let fallback = match self.shape {
            Shape::Auto if new_exists => self.fallback(),
            Shape::Old | Shape::New | Shape::Auto => Vec::new(),
        };
        let stored: Vec<Ident> = self.relation.columns.iter().map(|column| column.name.clone()).collect();
        // The new column comes while transactions are open that began before: its name means nothing to them.
        let coming = self.lens.new.iter().map(LensColumn::stored).filter(|name| !stored.contains(name));
        let coming = coming.filter(|_| self.phase == Phase::Shielded);
        let named = |name: &&Ident| columns.iter().any(|column| &column.name == *name);
        let hidden = stored.iter().chain(coming).filter(|name| !named(name)).cloned().collect();
        TableView {
            storage: self.lens.table.clone(),
            stored,
            hidden,
            twins: self.twins(side),
            stores: self.stores(side, &columns),
            fallback_stores: if fallback.is_empty() { Vec::new() } else { self.lens_stores(Side::New) },
            fallback,
            synced: synced(self.phase),
            primary_key: self.primary_key(side),
            columns,
        }
    }

    fn side(&self, side: Side) -> &[LensColumn] {
        match side {
            Side::Old => &self.lens.old,
            Side::New => &self.lens.new,
        }
    }

    /// Whether the lens says what is stored in that column.
    fn is_lens_column(&self, name: &Ident) -> bool {
        self.lens.old.iter().chain(&self.lens.new).any(|column| column.stored() == name)
            || self.lens.new.iter().any(|column| new_storage(column, self.phase) == name)
    }

    /// The stored column of one side's column.
    fn stored<'c>(&self, side: Side, column: &'c LensColumn) -> &'c Ident {
        match side {
            Side::Old => column.stored(),
            Side::New => new_storage(column, self.phase),
        }
    }

    /// An expression over one side's names, over what is stored.
    fn over_stored(&self, side: Side, expr: &Expr) -> Expr {
        expr.substitute(|name| {
            let column = self.side(side).iter().find(|column| &column.name == name);
            Expr::column(column.map_or(name, |column| self.stored(side, column)).clone())
        })
    }

    /// The columns of that shape, in its order: the untouched ones as they are stored, the lens's at their positions.
    fn columns(&self, side: Side) -> Vec<ViewColumn> {
        let mut columns: Vec<ViewColumn> = self
            .relation
            .columns
            .iter()
            .filter(|column| !self.is_lens_column(&column.name))
            .map(|column| ViewColumn {
                name: column.name.clone(),
                type_sql: column.type_sql.clone(),
                base_type_sql: column.base_type_sql.clone(),
                read: Expr::column(column.name.clone()),
                arbiter: Some(column.name.clone()),
            })
            .collect();
        let number = |column: &ViewColumn| self.relation.column(&column.name).map_or(0, |stored| stored.number);
        let mut numbers: Vec<i16> = columns.iter().map(number).collect();
        let mut own: Vec<&LensColumn> = self.side(side).iter().collect();
        own.sort_by_key(|column| column.position);
        for column in own {
            let origin = column.origin.filter(|(oid, _)| *oid == self.relation.oid).map(|(_, number)| number);
            let at = match origin {
                Some(origin) => numbers.iter().position(|number| *number > origin).unwrap_or(columns.len()),
                None => column.position.min(columns.len()),
            };
            columns.insert(at, self.lens_column(side, column));
            numbers.insert(at, origin.unwrap_or(0));
        }
        columns
    }

    /// The new shape's columns whose names mean nothing in the old one.
    fn fallback(&self) -> Vec<ViewColumn> {
        let old_has = |name: &Ident| {
            self.lens.old.iter().any(|column| &column.name == name)
                || (self.relation.column(name).is_some() && !self.is_lens_column(name))
        };
        self.lens
            .new
            .iter()
            .filter(|column| !old_has(&column.name))
            .map(|column| self.lens_column(Side::New, column))
            .collect()
    }

    fn lens_column(&self, side: Side, column: &LensColumn) -> ViewColumn {
        let own_storage = match side {
            Side::Old => self.storage == Storage::Old,
            Side::New => self.storage == Storage::New,
        };
        ViewColumn {
            name: column.name.clone(),
            type_sql: column.type_sql.clone(),
            base_type_sql: column.base_type_sql.clone(),
            // Before the switch a value that does not fit reads as NULL in the new shape; after it there is none.
            read: match (own_storage, side) {
                (true, _) => Expr::column(self.stored(side, column).clone()),
                (false, Side::Old) => read_from_new(self.lens, column, self.phase),
                (false, Side::New) => self.over_stored(Side::Old, &column.from.safe),
            },
            arbiter: if own_storage { Some(self.stored(side, column).clone()) } else { self.twin(side, column) },
        }
    }

    /// The stored column of the other side whose unique indexes say the same.
    fn twin(&self, side: Side, column: &LensColumn) -> Option<Ident> {
        let other = side.other();
        let twin = column.twin.as_ref()?;
        let found = self.side(other).iter().find(|column| &column.name == twin)?;
        Some(self.stored(other, found).clone())
    }

    fn stores(&self, side: Side, columns: &[ViewColumn]) -> Vec<Store> {
        let mut stores: Vec<Store> = columns
            .iter()
            .filter(|column| column.read.as_column().is_some_and(|stored| !self.is_lens_column(stored)))
            .map(|column| Store {
                column: column.name.clone(),
                value: Expr::column(column.name.clone()),
                primary: true,
                follows: true,
            })
            .collect();
        stores.extend(self.lens_stores(side));
        stores
    }

    /// What assigning to the lens's columns of one side sets, in this phase.
    fn lens_stores(&self, side: Side) -> Vec<Store> {
        let written = written(self.phase, side);
        let (own_written, other_written) = match side {
            Side::Old => (written.old, written.new),
            Side::New => (written.new, written.old),
        };
        let (own, other) = (self.side(side), self.side(side.other()));
        let mut stores = Vec::new();
        if own_written {
            stores.extend(own.iter().map(|column| Store {
                column: self.stored(side, column).clone(),
                value: Expr::column(column.name.clone()),
                primary: true,
                follows: true,
            }));
        }
        if other_written {
            stores.extend(other.iter().map(|column| Store {
                column: self.stored(side.other(), column).clone(),
                // Beside its own storage the other side must never fail a write of an old application; alone it must.
                value: match (own_written, side) {
                    (true, Side::Old) => column.from.safe.clone(),
                    (true, Side::New) | (false, _) => column.from.assign.clone(),
                },
                primary: !own_written,
                follows: side == Side::Old || filled(self.phase),
            }));
        }
        stores
    }

    /// Stored columns that this side does not know by their names, with the column of this side that says the same: its
    /// own storage under a name of ours, and the other side's columns that one of its columns is computed from.
    fn twins(&self, side: Side) -> Vec<(Ident, Ident)> {
        let own = self.side(side);
        let aliased = own.iter().map(|column| (self.stored(side, column), &column.name));
        let mut found: Vec<(Ident, Ident)> =
            aliased.filter(|(stored, name)| stored != name).map(|(s, n)| (s.clone(), n.clone())).collect();
        let hidden = self.side(side.other()).iter().filter_map(|column| {
            let stored = self.stored(side.other(), column);
            let mut inputs = column.from.read.columns();
            let first = inputs.next()?;
            let known = own.iter().any(|own| &own.name == stored);
            (!known && inputs.all(|input| input == first)).then(|| (stored.clone(), first.clone()))
        });
        found.extend(hidden);
        found
    }

    fn primary_key(&self, side: Side) -> Vec<Ident> {
        let renamed = |stored: &Ident| {
            self.side(side)
                .iter()
                .find(|column| self.twin(side, column).as_ref() == Some(stored))
                .map(|column| column.name.clone())
        };
        self.relation.primary_key.iter().map(|stored| renamed(stored).unwrap_or_else(|| stored.clone())).collect()
    }
}
