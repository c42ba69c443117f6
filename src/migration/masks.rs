//! How the system catalogs are read for a session's shape: for each relation of `pg_catalog` and `information_schema`
//! that tells of columns, indexes, constraints or triggers, the view of it in which the tables under migration look as
//! they do in that shape.
//!
//! Pure: SQL over PostgreSQL's own relations, derived from the views of the tables. Which of two stored columns stands
//! for a column of the shape is looked up by the SQL itself (the old one for as long as it is there: it has the indexes,
//! constraints and grants under the names that everybody knows), so that it is right at every moment of a migration.
//! Column numbers stay those of storage, so that every join over them still holds.

use std::collections::HashMap;

use super::resolve::{FIRST_PREFIX, OWN_PREFIX};
use super::text::text;
use super::{TableView, ViewColumn};
use crate::schema::{Catalog, Ident, QualifiedName, Relation};

const PG: &str = "pg_catalog";
const INFORMATION: &str = "information_schema";

/// The relations that are masked, by schema.
const PG_RELATIONS: &[&str] =
    &["pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_index", "pg_indexes", "pg_stats", "pg_trigger"];
const INFORMATION_RELATIONS: &[&str] = &[
    "check_constraints",
    "column_domain_usage",
    "column_privileges",
    "column_udt_usage",
    "columns",
    "constraint_column_usage",
    "constraint_table_usage",
    "key_column_usage",
    "referential_constraints",
    "role_column_grants",
    "table_constraints",
    "triggered_update_columns",
    "triggers",
];

/// Functions whose result or argument is a stored column's name.
const FUNCTIONS: &[&str] = &["pg_get_constraintdef", "pg_get_expr", "pg_get_indexdef", "pg_get_serial_sequence"];

/// What every masked name of `pg_catalog` begins with, and the schema of the others: what the screen looks for.
pub const CATALOG_NEEDLES: [&str; 2] = ["pg_", INFORMATION];

/// Whether an identifier can mean something that is masked. `unqualified`: relations of `information_schema` may be
/// named without it.
pub fn is_catalog_name(name: &str, unqualified: bool) -> bool {
    name == INFORMATION
        || PG_RELATIONS.contains(&name)
        || FUNCTIONS.contains(&name)
        || (unqualified && INFORMATION_RELATIONS.contains(&name))
}

/// Whether relations of `information_schema` are found without naming it.
pub fn finds_unqualified(path: &[Ident]) -> bool {
    path.iter().any(|schema| schema.as_str() == INFORMATION)
}

/// The relations whose columns must be known: what `catalog` reads beside the user's own.
pub fn masked_relations() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |schema| move |name: &&'static str| (schema, *name);
    PG_RELATIONS.iter().map(of(PG)).chain(INFORMATION_RELATIONS.iter().map(of(INFORMATION)))
}

/// One table under migration as sessions of one shape see it, where that differs from what is stored.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    oid: u32,
    table: QualifiedName,
    columns: Vec<SeenColumn>,
    /// Stored columns that do not exist for the session, whatever else is there.
    hidden: Vec<Ident>,
}

/// A column of the shape that is, or may be, stored under another name.
#[derive(Debug, Clone)]
struct SeenColumn {
    name: Ident,
    /// The stored columns that can stand for it, the preferred one first.
    stored: Vec<Ident>,
    type_sql: String,
    base_type_sql: String,
    /// Whether a stored one has another type.
    retyped: bool,
}

impl Seen {
    /// From the shape's views over old and over new storage. `lens` are the names of the columns of both shapes.
    pub(super) fn new(relation: &Relation, over_old: &TableView, over_new: &TableView, lens: &[&Ident]) -> Seen {
        let plain =
            |name: &Ident| [over_old, over_new].iter().all(|view| view.column(name).is_some_and(ViewColumn::is_plain));
        let columns: Vec<SeenColumn> = over_old
            .columns
            .iter()
            .filter(|column| !plain(&column.name))
            .map(|column| {
                let both = [Some(column), over_new.column(&column.name)];
                let mut stored: Vec<Ident> = Vec::new();
                for name in both.into_iter().flatten().filter_map(stored_column) {
                    if !plain(name) && !stored.contains(name) {
                        stored.push(name.clone());
                    }
                }
                SeenColumn::new(relation, column, stored)
            })
            .collect();
        let mut hidden: Vec<Ident> = Vec::new();
        for name in over_old.hidden.iter().chain(&over_new.hidden).chain(lens.iter().copied()) {
            let stands = columns.iter().any(|column| column.stored.contains(name)) || plain(name);
            if !stands && !hidden.contains(name) {
                hidden.push(name.clone());
            }
        }
        Seen { oid: relation.oid, table: relation.name.clone(), columns, hidden }
    }

    /// True of a name of the table's stored columns that does not exist for the session.
    fn is_hidden(&self, name: &str) -> Option<String> {
        let mut any: Vec<String> = Vec::new();
        if !self.hidden.is_empty() {
            any.push(format!("{name} IN ({})", list(&self.hidden)));
        }
        for column in &self.columns {
            if let [first, others @ ..] = column.stored.as_slice()
                && !others.is_empty()
            {
                any.push(format!(
                    "({name} IN ({}) AND EXISTS (SELECT FROM pg_catalog.pg_attribute AS f WHERE f.attrelid = {} \
                     AND f.attname = {}))",
                    list(others),
                    self.oid,
                    text(first.as_str())
                ));
            }
        }
        (!any.is_empty()).then(|| format!("({})", any.join(" OR ")))
    }

    /// The numbers of the stored columns that do not exist for the session, as an array.
    fn hidden_numbers(&self) -> Option<String> {
        Some(self.numbers(&self.is_hidden("h.attname")?))
    }

    /// The numbers of the stored columns `which`, as an array.
    fn numbers(&self, which: &str) -> String {
        let oid = self.oid;
        format!("ARRAY(SELECT h.attnum FROM pg_catalog.pg_attribute AS h WHERE h.attrelid = {oid} AND {which})")
    }

    /// Stored names with the name that the session has for each, where they differ.
    fn renames(&self) -> impl Iterator<Item = (&Ident, &Ident)> {
        self.columns.iter().flat_map(|column| {
            column.stored.iter().filter(move |stored| **stored != column.name).map(move |stored| (stored, &column.name))
        })
    }

    /// True of a row of `information_schema` that is about the table.
    fn is_table(&self, schema: &str, table: &str) -> String {
        format!("{schema} = {} AND {table} = {}", text(self.table.schema.as_str()), text(self.table.name.as_str()))
    }

    /// The names of the table's NOT NULL constraints, for the columns `which`: those that `information_schema` makes up,
    /// and from PostgreSQL 18 on, those that they have.
    fn not_null_names(&self, which: &str) -> String {
        let oid = self.oid;
        format!(
            "(SELECT pg_catalog.concat(c.relnamespace, '_', c.oid, '_', h.attnum, '_not_null') \
             FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS h ON h.attrelid = c.oid \
             WHERE c.oid = {oid} AND {which} \
             UNION ALL SELECT k.conname::pg_catalog.text FROM pg_catalog.pg_constraint AS k \
             JOIN pg_catalog.pg_attribute AS h ON h.attrelid = k.conrelid AND h.attnum = ANY (k.conkey) \
             WHERE k.conrelid = {oid} AND k.contype = 'n' AND {which})"
        )
    }
}

impl SeenColumn {
    fn new(relation: &Relation, column: &ViewColumn, stored: Vec<Ident>) -> SeenColumn {
        let other = |name: &Ident| relation.column(name).is_some_and(|stored| stored.type_sql != column.type_sql);
        SeenColumn {
            name: column.name.clone(),
            retyped: stored.iter().any(other),
            stored,
            type_sql: column.type_sql.clone(),
            base_type_sql: column.base_type_sql.clone(),
        }
    }

    /// The OID of its type.
    fn type_oid(&self) -> String {
        format!("pg_catalog.to_regtype({})::pg_catalog.oid", text(&self.base_type_sql))
    }

    /// A field of `pg_type` for its type.
    fn of_type(&self, field: &str) -> String {
        format!("(SELECT y.{field} FROM pg_catalog.pg_type AS y WHERE y.oid = {})", self.type_oid())
    }
}

/// The one stored column that a column is read from.
fn stored_column(column: &ViewColumn) -> Option<&Ident> {
    let mut names = column.read.columns();
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

/// How the sessions of one shape read the system catalogs.
#[derive(Debug, Clone, Default)]
pub struct Masks {
    relations: HashMap<QualifiedName, Mask>,
    tables: Vec<Seen>,
}

/// A relation of the system catalogs as a session sees it: a SELECT of these columns with this condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Its columns with the expression of each over the relation's own, in order.
    pub columns: Vec<(Ident, String)>,
    /// True of the rows that the session sees.
    pub filter: Option<String>,
    /// The columns on which all others depend.
    pub key: Vec<Ident>,
}

impl Mask {
    /// The names of its columns.
    pub fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.as_str().to_owned()).collect()
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallMask {
    /// This goes before it, and that behind it.
    Around(String, String),
    /// The same for its second argument.
    AroundSecond(String, String),
}

impl Masks {
    pub(super) fn new(tables: Vec<Seen>, catalog: &Catalog) -> Masks {
        let mut relations = HashMap::new();
        for relation in catalog.system_relations().filter(|_| !tables.is_empty()) {
            let name = (relation.name.schema.as_str(), relation.name.name.as_str());
            let mut view = Masking { tables: &tables, columns: HashMap::new(), filter: Vec::new() };
            view.derive(name.0, name.1);
            if view.columns.is_empty() && view.filter.is_empty() {
                continue;
            }
            let masked = |name: &Ident| view.columns.get(name.as_str()).cloned().unwrap_or_else(|| name.quoted());
            let mask = Mask {
                columns: relation.columns.iter().map(|c| (c.name.clone(), masked(&c.name))).collect(),
                filter: (!view.filter.is_empty()).then(|| view.filter.join(" AND ")),
                key: relation.primary_key.clone(),
            };
            relations.insert(relation.name.clone(), mask);
        }
        Masks { relations, tables }
    }

    /// How that relation is read, if not as it is.
    pub fn relation(&self, name: &QualifiedName) -> Option<&Mask> {
        self.relations.get(name)
    }

    /// What becomes of a call of that function of `pg_catalog`, given its arguments as SQL.
    pub fn call(&self, function: &str, arguments: &[&str]) -> Option<CallMask> {
        if self.tables.iter().all(|table| table.renames().next().is_none()) {
            return None;
        }
        let own = Told { table: "k.r", from: "", until: "" };
        let oids = self.oids();
        match (function, arguments) {
            ("pg_get_indexdef", [index, ..]) => {
                let told = self.told(
                    &[Told { table: "k.indrelid", from: "USING", until: "" }],
                    "\"~d\".t",
                    &format!("pg_catalog.pg_index AS k WHERE k.indexrelid = \"~d\".i AND k.indrelid IN ({oids})"),
                );
                Some(around(function, index, &told))
            }
            ("pg_get_constraintdef", [constraint, ..]) => {
                let sides = [
                    Told { table: "k.conrelid", from: "", until: "REFERENCES" },
                    Told { table: "k.confrelid", from: "REFERENCES", until: "" },
                ];
                let about = format!("(k.conrelid IN ({oids}) OR k.confrelid IN ({oids}))");
                let from = format!("pg_catalog.pg_constraint AS k WHERE k.oid = \"~d\".i AND {about}");
                Some(around(function, constraint, &self.told(&sides, "\"~d\".t", &from)))
            }
            ("pg_get_expr", [_, relation, ..]) => {
                let from = format!("(SELECT \"~d\".i AS r) AS k WHERE k.r IN ({oids})");
                Some(around(function, relation, &self.told(&[own], "\"~d\".t", &from)))
            }
            ("pg_get_serial_sequence", [table, column]) => {
                let cases = self.stored_names(table, column);
                let (before, after) = (format!("CASE{cases} ELSE ("), ")::pg_catalog.text END".to_owned());
                Some(CallMask::AroundSecond(before, after))
            }
            _ => None,
        }
    }

    fn oids(&self) -> String {
        let oids: Vec<String> = self.tables.iter().map(|table| table.oid.to_string()).collect();
        oids.join(", ")
    }

    fn told(&self, sides: &[Told], source: &str, from: &str) -> String {
        told(&self.tables, sides, source, from)
    }

    /// The names of the stored columns that columns' names stand for, where the table is one of ours.
    fn stored_names(&self, table: &str, column: &str) -> String {
        let mut cases = String::new();
        for seen in &self.tables {
            for shown in seen.columns.iter().filter(|c| c.stored.iter().any(|stored| stored != &c.name)) {
                let Some(first) = shown.stored.first() else { continue };
                cases.push_str(&format!(
                    " WHEN ({column})::pg_catalog.text = {} AND pg_catalog.to_regclass(({table})::pg_catalog.text)::\
                     pg_catalog.oid = {oid} THEN (SELECT s.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS s \
                     WHERE s.attrelid = {oid} AND s.attname IN ({}) ORDER BY s.attname = {} DESC LIMIT 1)",
                    text(shown.name.as_str()),
                    list(&shown.stored),
                    text(first.as_str()),
                    oid = seen.oid,
                ));
            }
        }
        cases
    }
}

/// Puts the call into a subquery that tells its result in the session's names. `subject`: what the text is about.
fn around(function: &str, subject: &str, told: &str) -> CallMask {
    CallMask::Around(
        format!("(SELECT COALESCE({told}, \"~d\".t) AS {function} FROM (SELECT ({subject})::pg_catalog.oid AS i, "),
        " AS t) AS \"~d\")".to_owned(),
    )
}

/// Which words of a text name columns of a table.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// The table's OID, as SQL.
    table: &'static str,
    /// Only behind this word, where there is one.
    from: &'static str,
    /// Only before this word, where there is one.
    until: &'static str,
}

/// A text of PostgreSQL's (an expression, an index, a constraint) with its columns under the session's names; NULL where
/// it is about no table of ours. Goes by words: strings stay, and so does what is called or follows a dot or a cast.
fn told(tables: &[Seen], sides: &[Told], source: &str, from: &str) -> String {
    let mut cases = String::new();
    for side in sides {
        let behind = if side.from.is_empty() {
            String::new()
        } else {
            format!(" AND w.n > COALESCE({}, 0)", place_of(side.from))
        };
        let before = if side.until.is_empty() {
            String::new()
        } else {
            format!(" AND w.n < COALESCE({}, w.n + 1)", place_of(side.until))
        };
        for (table, (stored, seen)) in tables.iter().flat_map(|t| t.renames().map(move |pair| (t, pair))) {
            let quoted = format!("\"{}\"", stored.as_str().replace('"', "\"\""));
            cases.push_str(&format!(
                " WHEN w.t IN ({}, {}) AND {} = {}{behind}{before} THEN {}",
                text(&stored.quoted()),
                text(&quoted),
                side.table,
                table.oid,
                text(&seen.quoted())
            ));
        }
    }
    format!(
        "(SELECT pg_catalog.string_agg(CASE WHEN w.a = '(' OR w.b IN ('.', ':') THEN w.t{cases} ELSE w.t END, '' \
         ORDER BY w.n) FROM (SELECT m.t[1] AS t, m.n, pg_catalog.lead(m.t[1]) OVER (ORDER BY m.n) AS a, \
         pg_catalog.lag(m.t[1]) OVER (ORDER BY m.n) AS b, \
         pg_catalog.min(m.n) FILTER (WHERE m.t[1] = 'USING') OVER () AS using_at, \
         pg_catalog.min(m.n) FILTER (WHERE m.t[1] = 'REFERENCES') OVER () AS references_at \
         FROM pg_catalog.regexp_matches({source}, \
         '((?:''(?:[^'']|'''')*'')|(?:\"(?:[^\"]|\"\")*\")|[[:alnum:]_$]+|.)', 'g') \
         WITH ORDINALITY AS m(t, n)) AS w, {from})"
    )
}

fn place_of(word: &str) -> &'static str {
    if word == "USING" { "w.using_at" } else { "w.references_at" }
}

/// One relation's mask in the making.
struct Masking<'a> {
    tables: &'a [Seen],
    columns: HashMap<&'static str, String>,
    filter: Vec<String>,
}

impl Masking<'_> {
    fn derive(&mut self, schema: &str, relation: &str) {
        match (schema, relation) {
            (PG, "pg_attribute") => self.attribute(),
            (PG, "pg_attrdef") => self.defaults(),
            (PG, "pg_class") => {
                self.filter.push(format!("NOT (relkind IN ('i', 'I') AND oid IN {})", self.indexes()));
                self.counts();
            }
            (PG, "pg_index") => {
                self.filter.push(format!("NOT (indrelid IN ({}) AND indexrelid IN {})", self.oids(), self.indexes()));
            }
            (PG, "pg_constraint") => {
                self.filter.push(format!("NOT (conrelid IN ({}) AND {})", self.oids(), is_own("conname")));
                self.without_numbers("conrelid", |numbers| format!("COALESCE(conkey && {numbers}, false)"));
            }
            (PG, "pg_trigger") => {
                let oids = self.oids();
                self.filter.push(format!("NOT (tgrelid IN ({oids}) AND {})", is_own_trigger("tgname")));
                self.filter.push(format!(
                    "NOT (tgconstraint <> 0 AND tgconstraint IN (SELECT k.oid FROM pg_catalog.pg_constraint AS k \
                     WHERE k.conrelid IN ({oids}) AND {}))",
                    is_own("k.conname")
                ));
            }
            (PG, "pg_indexes") => {
                self.filter.push(format!("NOT {}", is_own("indexname")));
                self.index_text();
            }
            (PG, "pg_stats") => self.names("schemaname", "tablename", "attname", "pg_catalog.name"),
            (INFORMATION, "columns") => {
                self.information_names();
                self.information_types(&INFORMATION_TYPES.map(|(field, _, _)| field));
                self.information_defaults();
            }
            (INFORMATION, "column_udt_usage") => {
                self.information_names();
                self.information_types(&["udt_schema", "udt_name"]);
            }
            (INFORMATION, "column_privileges" | "role_column_grants" | "column_domain_usage") => {
                self.information_names();
            }
            (INFORMATION, "key_column_usage" | "constraint_column_usage") => {
                self.filter.push(format!("NOT {}", is_own("constraint_name")));
                self.information_names();
            }
            (INFORMATION, "constraint_table_usage" | "referential_constraints") => {
                self.filter.push(format!("NOT {}", is_own("constraint_name")));
            }
            (INFORMATION, "table_constraints" | "check_constraints") => {
                self.filter.push(format!("NOT {}", is_own("constraint_name")));
                self.not_null_constraints();
                if relation == "check_constraints" {
                    self.check_text();
                }
            }
            (INFORMATION, "triggers") => {
                self.filter.push(format!("NOT {}", is_own_trigger("trigger_name")));
                // As PostgreSQL's own view counts, over those that are left.
                let order = "(pg_catalog.rank() OVER (PARTITION BY event_object_schema, event_object_table, event_manipulation, \
                             action_orientation, action_timing ORDER BY trigger_name))::information_schema.cardinal_number";
                self.columns.insert("action_order", order.to_owned());
            }
            (INFORMATION, "triggered_update_columns") => {
                self.filter.push(format!("NOT {}", is_own_trigger("trigger_name")));
                let column = "event_object_column";
                self.names("event_object_schema", "event_object_table", column, "information_schema.sql_identifier");
            }
            _ => {}
        }
    }

    fn oids(&self) -> String {
        let oids: Vec<String> = self.tables.iter().map(|table| table.oid.to_string()).collect();
        oids.join(", ")
    }

    /// The indexes of the tables that no session sees: our own, and those over columns that do not exist for it.
    fn indexes(&self) -> String {
        let mut any = vec![is_own("c.relname")];
        for table in self.tables {
            any.extend(
                table.hidden_numbers().map(|numbers| {
                    format!("(i.indrelid = {} AND i.indkey::pg_catalog.int2[] && {numbers})", table.oid)
                }),
            );
        }
        format!(
            "(SELECT i.indexrelid FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
             WHERE i.indrelid IN ({}) AND ({}))",
            self.oids(),
            any.join(" OR ")
        )
    }

    /// What `pg_class` says of the tables' columns, constraints and triggers.
    fn counts(&mut self) {
        let (mut columns, mut checks, mut triggers) = (String::new(), String::new(), String::new());
        for seen in self.tables {
            let oid = seen.oid;
            checks.push_str(&format!(
                " WHEN oid = {oid} THEN (SELECT pg_catalog.count(*)::pg_catalog.int2 FROM pg_catalog.pg_constraint AS k \
                 WHERE k.conrelid = {oid} AND k.contype = 'c' AND NOT {})",
                is_own("k.conname")
            ));
            triggers.push_str(&format!(
                " WHEN oid = {oid} THEN EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid = {oid} AND NOT {})",
                is_own_trigger("g.tgname")
            ));
        }
        for seen in self.tables {
            if let Some(hidden) = seen.hidden_numbers() {
                columns.push_str(&format!(
                    " WHEN oid = {} THEN (relnatts - pg_catalog.cardinality({hidden}))::pg_catalog.int2",
                    seen.oid
                ));
            }
        }
        if !columns.is_empty() {
            self.columns.insert("relnatts", format!("CASE{columns} ELSE relnatts END"));
        }
        self.columns.insert("relchecks", format!("CASE{checks} ELSE relchecks END"));
        self.columns.insert("relhastriggers", format!("CASE{triggers} ELSE relhastriggers END"));
    }

    /// Leaves out what is about a stored column that does not exist for the session.
    fn without_numbers(&mut self, table: &str, holds: impl Fn(&str) -> String) {
        for seen in self.tables {
            if let Some(numbers) = seen.hidden_numbers() {
                self.filter.push(format!("NOT ({table} = {} AND {})", seen.oid, holds(&numbers)));
            }
        }
    }

    /// The default of a stored column that another one stands in for is that one's: it moves before the column goes.
    fn defaults(&mut self) {
        let mut numbers = String::new();
        for (seen, column) in self.tables.iter().flat_map(|s| s.columns.iter().map(move |c| (s, c))) {
            let [first, others @ ..] = column.stored.as_slice() else { continue };
            if !others.is_empty() {
                numbers.push_str(&format!(
                    " WHEN adrelid = {oid} AND adnum = ANY ({}) THEN COALESCE((SELECT f.attnum \
                     FROM pg_catalog.pg_attribute AS f WHERE f.attrelid = {oid} AND f.attname = {}), adnum)",
                    seen.numbers(&format!("h.attname IN ({})", list(others))),
                    text(first.as_str()),
                    oid = seen.oid,
                ));
            }
        }
        if !numbers.is_empty() {
            self.columns.insert("adnum", format!("CASE{numbers} ELSE adnum END"));
        }
        for seen in self.tables.iter().filter(|seen| !seen.hidden.is_empty()) {
            let hidden = seen.numbers(&format!("h.attname IN ({})", list(&seen.hidden)));
            self.filter.push(format!("NOT (adrelid = {} AND adnum = ANY ({hidden}))", seen.oid));
        }
    }

    fn attribute(&mut self) {
        for seen in self.tables {
            if let Some(hidden) = seen.is_hidden("attname") {
                self.filter.push(format!("NOT (attrelid = {} AND {hidden})", seen.oid));
            }
        }
        let mut names = String::new();
        for (seen, (stored, shown)) in self.tables.iter().flat_map(|seen| seen.renames().map(move |pair| (seen, pair)))
        {
            // An index's own attributes have the names of the columns that they index.
            names.push_str(&format!(
                " WHEN attname = {} AND (attrelid = {oid} OR attrelid IN (SELECT x.indexrelid \
                 FROM pg_catalog.pg_index AS x WHERE x.indrelid = {oid})) THEN {}::pg_catalog.name",
                text(stored.as_str()),
                text(shown.as_str()),
                oid = seen.oid,
            ));
        }
        if !names.is_empty() {
            self.columns.insert("attname", format!("CASE{names} ELSE attname END"));
        }
        let mut defaults = String::new();
        for (seen, column) in self.tables.iter().flat_map(|s| s.columns.iter().map(move |c| (s, c))) {
            if column.stored.len() > 1 {
                let (oid, stored) = (seen.oid, list(&column.stored));
                defaults.push_str(&format!(
                    " WHEN attrelid = {oid} AND attname IN ({stored}) THEN EXISTS (SELECT FROM pg_catalog.pg_attribute AS h \
                     WHERE h.attrelid = {oid} AND h.attname IN ({stored}) AND h.atthasdef)"
                ));
            }
        }
        if !defaults.is_empty() {
            self.columns.insert("atthasdef", format!("CASE{defaults} ELSE atthasdef END"));
        }
        self.retyped("atttypid", |column| format!("COALESCE({}, atttypid)", column.type_oid()));
        self.retyped("atttypmod", |column| modifier(&column.type_sql).to_string());
        self.retyped("attlen", |column| column.of_type("typlen"));
        self.retyped("attbyval", |column| column.of_type("typbyval"));
        self.retyped("attalign", |column| column.of_type("typalign"));
        self.retyped("attstorage", |column| column.of_type("typstorage"));
        self.retyped("attcollation", |column| column.of_type("typcollation"));
    }

    /// A field of `pg_attribute` for columns that are stored with another type.
    fn retyped(&mut self, field: &'static str, value: impl Fn(&SeenColumn) -> String) {
        let mut cases = String::new();
        for (seen, column) in self.tables.iter().flat_map(|s| s.columns.iter().map(move |c| (s, c))) {
            if column.retyped {
                let stored = list(&column.stored);
                let value = value(column);
                cases.push_str(&format!(" WHEN attrelid = {} AND attname IN ({stored}) THEN {value}", seen.oid));
            }
        }
        if !cases.is_empty() {
            self.columns.insert(field, format!("CASE{cases} ELSE {field} END"));
        }
    }

    fn information_names(&mut self) {
        self.names("table_schema", "table_name", "column_name", "information_schema.sql_identifier");
    }

    /// Names of columns: hidden ones are left out, and stored ones have the session's names.
    fn names(&mut self, schema: &str, table: &str, column: &'static str, type_sql: &str) {
        let mut cases = String::new();
        for seen in self.tables {
            let is_table = seen.is_table(schema, table);
            if let Some(hidden) = seen.is_hidden(column) {
                self.filter.push(format!("NOT ({is_table} AND {hidden})"));
            }
            for (stored, shown) in seen.renames() {
                let (stored, shown) = (text(stored.as_str()), text(shown.as_str()));
                cases.push_str(&format!(" WHEN {is_table} AND {column} = {stored} THEN {shown}::{type_sql}"));
            }
        }
        if !cases.is_empty() {
            self.columns.insert(column, format!("CASE{cases} ELSE {column} END"));
        }
    }

    /// The fields that a column's type decides.
    fn information_types(&mut self, fields: &[&str]) {
        for (field, value, domain) in INFORMATION_TYPES.iter().filter(|(field, _, _)| fields.contains(field)) {
            let mut cases = String::new();
            for (seen, column) in self.tables.iter().flat_map(|s| s.columns.iter().map(move |c| (s, c))) {
                if !column.retyped {
                    continue;
                }
                let value = value.replace("{modifier}", &modifier(&column.type_sql).to_string());
                cases.push_str(&format!(
                    " WHEN {} AND column_name IN ({}) THEN (SELECT {value} FROM pg_catalog.pg_type AS y \
                     JOIN pg_catalog.pg_namespace AS s ON s.oid = y.typnamespace WHERE y.oid = {})\
                     ::information_schema.{domain}",
                    seen.is_table("table_schema", "table_name"),
                    list(&column.stored),
                    column.type_oid()
                ));
            }
            if !cases.is_empty() {
                self.columns.insert(*field, format!("CASE{cases} ELSE {field} END"));
            }
        }
    }

    /// A default that has moved to the stored column that stays (see `defaults`).
    fn information_defaults(&mut self) {
        let mut cases = String::new();
        for (seen, column) in self.tables.iter().flat_map(|s| s.columns.iter().map(move |c| (s, c))) {
            if column.stored.len() > 1 {
                cases.push_str(&format!(
                    " WHEN column_default IS NULL AND {} AND column_name IN ({stored}) THEN (SELECT \
                     pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef AS d \
                     JOIN pg_catalog.pg_attribute AS h ON h.attrelid = d.adrelid AND h.attnum = d.adnum \
                     WHERE h.attrelid = {} AND h.attname IN ({stored}) AND h.attgenerated = '')::information_schema.character_data",
                    seen.is_table("table_schema", "table_name"),
                    seen.oid,
                    stored = list(&column.stored),
                ));
            }
        }
        if !cases.is_empty() {
            self.columns.insert("column_default", format!("CASE{cases} ELSE column_default END"));
        }
    }

    /// NOT NULL of a column that does not exist for the session.
    fn not_null_constraints(&mut self) {
        for seen in self.tables {
            if let Some(hidden) = seen.is_hidden("h.attname") {
                let (schema, names) = (text(seen.table.schema.as_str()), seen.not_null_names(&hidden));
                self.filter.push(format!(
                    "NOT (constraint_schema = {schema} AND constraint_name::pg_catalog.text IN {names})"
                ));
            }
        }
    }

    fn index_text(&mut self) {
        let mut cases = String::new();
        for seen in self.tables.iter().filter(|seen| seen.renames().next().is_some()) {
            let side = Told { table: "k.r", from: "USING", until: "" };
            let from = format!("(SELECT {} AS r) AS k", seen.oid);
            let told = told(std::slice::from_ref(seen), &[side], "indexdef", &from);
            cases.push_str(&format!(" WHEN {} THEN {told}", seen.is_table("schemaname", "tablename")));
        }
        if !cases.is_empty() {
            self.columns.insert("indexdef", format!("CASE{cases} ELSE indexdef END"));
        }
    }

    fn check_text(&mut self) {
        let mut cases = String::new();
        for seen in self.tables.iter().filter(|seen| seen.renames().next().is_some()) {
            let side = Told { table: "k.r", from: "", until: "" };
            let from = format!("(SELECT {} AS r) AS k", seen.oid);
            let told = told(std::slice::from_ref(seen), &[side], "check_clause::pg_catalog.text", &from);
            let schema = text(seen.table.schema.as_str());
            // There the name stands as it is, without quotes.
            for (stored, shown) in seen.renames() {
                cases.push_str(&format!(
                    " WHEN constraint_schema = {schema} AND check_clause = {} AND constraint_name::pg_catalog.text IN {} \
                     THEN {}",
                    text(&format!("{stored} IS NOT NULL")),
                    seen.not_null_names("h.attnum > 0"),
                    text(&format!("{shown} IS NOT NULL")),
                ));
            }
            cases.push_str(&format!(
                " WHEN constraint_schema = {schema} AND constraint_name IN (SELECT k.conname \
                 FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = {}) THEN {told}",
                seen.oid,
            ));
        }
        if !cases.is_empty() {
            let sql = format!("(CASE{cases} ELSE check_clause END)::information_schema.character_data");
            self.columns.insert("check_clause", sql);
        }
    }
}

/// What a column's type decides in `information_schema`: the field, its value for type y in schema s, and its domain.
const INFORMATION_TYPES: [(&str, &str, &str); 9] = [
    ("data_type", DATA_TYPE_SQL, "character_data"),
    ("character_maximum_length", "information_schema._pg_char_max_length(y.oid, {modifier})", "cardinal_number"),
    ("character_octet_length", "information_schema._pg_char_octet_length(y.oid, {modifier})", "cardinal_number"),
    ("numeric_precision", "information_schema._pg_numeric_precision(y.oid, {modifier})", "cardinal_number"),
    ("numeric_precision_radix", "information_schema._pg_numeric_precision_radix(y.oid, {modifier})", "cardinal_number"),
    ("numeric_scale", "information_schema._pg_numeric_scale(y.oid, {modifier})", "cardinal_number"),
    ("datetime_precision", "information_schema._pg_datetime_precision(y.oid, {modifier})", "cardinal_number"),
    ("udt_schema", "s.nspname", "sql_identifier"),
    ("udt_name", "y.typname", "sql_identifier"),
];

/// `information_schema.columns.data_type` of type y in schema s.
const DATA_TYPE_SQL: &str = "CASE WHEN y.typelem <> 0 AND y.typlen = -1 THEN 'ARRAY' \
     WHEN s.nspname = 'pg_catalog' THEN pg_catalog.format_type(y.oid, NULL) ELSE 'USER-DEFINED' END";

/// True of a name of ours.
fn is_own(name: &str) -> String {
    format!("pg_catalog.starts_with({name}::pg_catalog.text, '{OWN_PREFIX}')")
}

/// True of the name of a trigger of ours.
fn is_own_trigger(name: &str) -> String {
    format!("({} OR pg_catalog.starts_with({name}::pg_catalog.text, '{FIRST_PREFIX}'))", is_own(name))
}

fn list(names: &[Ident]) -> String {
    let names: Vec<String> = names.iter().map(|name| text(name.as_str())).collect();
    names.join(", ")
}

/// `atttypmod` of a type as `format_type` writes it; -1 where it has none (or one that is not told by numbers alone).
fn modifier(type_sql: &str) -> i32 {
    let Some((name, rest)) = type_sql.split_once('(') else { return -1 };
    let Some((inside, _)) = rest.split_once(')') else { return -1 };
    let numbers: Vec<i32> = inside.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    match (name.trim().trim_matches('"'), numbers.as_slice()) {
        ("character varying" | "character" | "varchar" | "char" | "bpchar", [length]) => length + 4,
        ("numeric", [precision]) => (precision << 16) + 4,
        ("numeric", [precision, scale]) => ((precision << 16) | (scale & 0x7ff)) + 4,
        ("bit" | "bit varying" | "timestamp" | "time", [number]) => *number,
        ("interval", [precision]) => (0x7fff << 16) | precision,
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_are_those_of_postgresql() {
        for (type_sql, expected) in [
            ("text", -1),
            ("character varying(255)", 259),
            ("character varying(10)[]", 14),
            ("character(3)", 7),
            ("numeric(10,2)", 655_366),
            ("timestamp(3) with time zone", 3),
            ("bit varying(8)", 8),
            ("interval(2)", 2_147_418_114),
        ] {
            assert_eq!(modifier(type_sql), expected, "{type_sql}");
        }
    }
}
