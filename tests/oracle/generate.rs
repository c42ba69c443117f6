//! Random statements over the fixture's tables, each made from bytes: fewer and smaller bytes make a simpler statement, so
//! that proptest can shrink one that differs.
//!
//! Makes statements whose result is the same under every plan (no LIMIT without a unique order, no update that may join a
//! row twice, no sequence over several rows): two databases must be comparable.

use crossfade::migration::Shape;

use crate::case::{Auto, Case};

/// The statement that these bytes make.
pub fn case(bytes: &[u8]) -> Case {
    let mut maker = Maker { bytes: bytes.iter(), new_names: false, depth: 0, aliases: 0 };
    // Mostly the old application; what the new one sends is not judged for `auto`, whose `*` stays the old one.
    maker.new_names = maker.pick(3) == 2;
    let sql = maker.statement();
    Case {
        group: "generated".to_owned(),
        steps: vec![sql],
        refusable: Some("generated".to_owned()),
        auto: Auto::Free,
        shapes: if maker.new_names { vec![Shape::Old, Shape::New] } else { Vec::new() },
        unordered: true,
        // Which of several errors comes first is judged by the written cases.
        class_only: true,
        ..Case::default()
    }
}

struct Maker<'a> {
    bytes: std::slice::Iter<'a, u8>,
    new_names: bool,
    depth: usize,
    aliases: usize,
}

/// A table in FROM: the name that its columns are qualified by, and which table it is.
#[derive(Clone)]
struct Item {
    alias: String,
    table: Table,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Users,
    Scores,
    Quoted,
    Orders,
    AppUsers,
}

impl Table {
    const ALL: [Table; 5] = [Table::Users, Table::Scores, Table::Quoted, Table::Orders, Table::AppUsers];

    fn name(self) -> &'static str {
        match self {
            Table::Users => "users",
            Table::Scores => "scores",
            Table::Quoted => "\"User\"",
            Table::Orders => "orders",
            Table::AppUsers => "app.users",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Table::Quoted => "\"Id\"",
            Table::Users | Table::Scores | Table::Orders | Table::AppUsers => "id",
        }
    }

    /// Columns that are text or close to it, in the old names and in the new ones.
    fn texts(self, new_names: bool) -> &'static [&'static str] {
        match (self, new_names) {
            (Table::Users, false) => &["username", "email"],
            (Table::Users, true) => &["handle", "email"],
            (Table::Scores, false) => &["score", "player"],
            (Table::Scores, true) => &["score_int::text", "player"],
            (Table::Quoted, false) => &["\"Screen Name\""],
            (Table::Quoted, true) => &["\"Handle!\""],
            (Table::Orders | Table::AppUsers, _) => &["username", "handle"],
        }
    }

    /// What a write may assign a text to.
    fn target(self, new_names: bool) -> &'static str {
        match (self, new_names) {
            (Table::Users, false) => "username",
            (Table::Users, true) => "handle",
            (Table::Scores, _) => "player",
            (Table::Quoted, false) => "\"Screen Name\"",
            (Table::Quoted, true) => "\"Handle!\"",
            (Table::Orders | Table::AppUsers, _) => "handle",
        }
    }
}

impl Maker<'_> {
    /// A choice from 0 to `count` - 1; 0 when the bytes have run out.
    fn pick(&mut self, count: usize) -> usize {
        self.bytes.next().map_or(0, |byte| usize::from(*byte) % count)
    }

    fn one_of<'b>(&mut self, choices: &[&'b str]) -> &'b str {
        choices[self.pick(choices.len())]
    }

    fn statement(&mut self) -> String {
        match self.pick(12) {
            0..=4 => self.select(),
            5 | 6 => self.update(),
            7 => self.delete(),
            8 => self.insert(),
            9 => self.merge(),
            10 => self.writing_with(),
            _ => self.with(),
        }
    }

    fn item(&mut self) -> (Item, String) {
        let table = Table::ALL[self.pick(Table::ALL.len())];
        self.item_of(table)
    }

    fn item_of(&mut self, table: Table) -> (Item, String) {
        self.aliases += 1;
        let name = match (table, self.pick(4)) {
            (Table::Users, 1) => "public.users",
            (Table::Users, 2) => "\"users\"",
            (Table::Users, 3) => "ONLY users",
            _ => table.name(),
        };
        let alias = format!("t{}", self.aliases);
        match self.pick(4) {
            0 => (Item { alias: alias.clone(), table }, format!("{name} {alias}")),
            1 => (Item { alias: alias.clone(), table }, format!("{name} AS {alias}")),
            2 if self.aliases == 1 && table != Table::AppUsers => {
                (Item { alias: table.name().to_owned(), table }, name.to_owned())
            }
            _ => (Item { alias: alias.clone(), table }, format!("(SELECT * FROM {name}) {alias}")),
        }
    }

    /// FROM with one or two tables.
    fn from(&mut self) -> (Vec<Item>, String) {
        let (first, first_sql) = self.item();
        match self.pick(9) {
            0 | 1 => (vec![first], first_sql),
            2 => {
                let (second, sql) = self.item();
                let on = format!("{}.{} = {}.{}", first.alias, first.table.key(), second.alias, second.table.key());
                let join = self.one_of(&["JOIN", "LEFT JOIN", "FULL JOIN", "RIGHT JOIN"]);
                (vec![first, second], format!("{first_sql} {join} {sql} ON {on}"))
            }
            3 => {
                let (second, sql) = self.item();
                let items = vec![first, second];
                let on = self.condition(&items);
                (items, format!("{first_sql} JOIN {sql} ON {on}"))
            }
            4 => {
                let (second, sql) = self.item_of(first.table);
                let column = self.one_of(&["id", "username", "handle", "email"]);
                (vec![first, second], format!("{first_sql} JOIN {sql} USING ({column})"))
            }
            5 => {
                let (second, sql) = self.item();
                (vec![first, second], format!("{first_sql}, {sql}"))
            }
            6 => {
                let (second, sql) = self.item_of(first.table);
                (vec![first, second], format!("{first_sql} NATURAL JOIN {sql}"))
            }
            7 => {
                let ((second, two), (third, three)) = (self.item(), self.item());
                let key = |item: &Item| format!("{}.{}", item.alias, item.table.key());
                let inner = format!("{two} LEFT JOIN {three} ON {} = {}", key(&second), key(&third));
                let on = format!("{} = {}", key(&first), key(&second));
                (vec![first, second, third], format!("{first_sql} JOIN ({inner}) ON {on}"))
            }
            _ => {
                let (second, sql) = self.item();
                let both = [first.clone(), second.clone()];
                let (filter, alias) = (self.condition(&both), format!("l{}", self.aliases));
                let inner = format!("(SELECT {}.* FROM {sql} WHERE {filter}) {alias}", second.alias);
                (vec![first, Item { alias, table: second.table }], format!("{first_sql} CROSS JOIN LATERAL {inner}"))
            }
        }
    }

    fn column(&mut self, items: &[Item]) -> String {
        let item = items[self.pick(items.len())].clone();
        let names = item.table.texts(self.new_names);
        let name = names[self.pick(names.len())];
        match self.pick(4) {
            3 => name.to_owned(),
            _ => format!("{}.{name}", item.alias),
        }
    }

    fn text(&mut self, items: &[Item]) -> String {
        if self.depth > 3 {
            return self.column(items);
        }
        self.depth += 1;
        let made = match self.pick(14) {
            0..=3 => self.column(items),
            4 => self.one_of(&["'alice'", "'bob'", "'10'", "'x'", "NULL::text"]).to_owned(),
            5 => format!("lower({})", self.text(items)),
            6 => format!("({} || {})", self.text(items), self.text(items)),
            7 => format!("coalesce({}, {})", self.text(items), self.text(items)),
            8 => format!("CASE WHEN {} THEN {} ELSE 'no' END", self.condition(items), self.text(items)),
            9 => format!("({})::varchar(20)", self.text(items)),
            10 => format!("CAST({} AS text) COLLATE \"C\"", self.column(items)),
            11 => {
                let item = items[self.pick(items.len())].clone();
                let field = item.table.target(self.new_names);
                format!("(row_to_json({})->>'{}')", item.alias, field.trim_matches('"'))
            }
            12 => {
                let (inner, sql) = self.item();
                format!("(ARRAY(SELECT {} FROM {sql} ORDER BY 1))[1]", self.text(&[inner]))
            }
            _ => {
                let (inner, sql) = self.item();
                let both = self.correlated(items, &inner);
                let value = self.text(&both);
                format!("(SELECT max({value}) FROM {sql} WHERE {})", self.condition(&both))
            }
        };
        self.depth -= 1;
        made
    }

    /// What an inner query may name: its own tables, and now and then those around it.
    fn correlated(&mut self, outer: &[Item], inner: &Item) -> Vec<Item> {
        let mut both = vec![inner.clone()];
        if self.pick(2) == 1 {
            both.extend_from_slice(outer);
        }
        both
    }

    fn condition(&mut self, items: &[Item]) -> String {
        if self.depth > 3 {
            return "true".to_owned();
        }
        self.depth += 1;
        let made = match self.pick(15) {
            0 => "true".to_owned(),
            1 => format!("{} = {}", self.text(items), self.text(items)),
            2 => format!("{} < {}", self.text(items), self.text(items)),
            3 => format!("{} LIKE '%a%'", self.column(items)),
            4 => format!("{} IS NOT NULL", self.column(items)),
            5 => format!("({} OR {})", self.condition(items), self.condition(items)),
            6 => format!("NOT ({})", self.condition(items)),
            7 => format!("{} IN ('alice', 'bob', '7')", self.column(items)),
            8 => {
                let (inner, sql) = self.item();
                let value = self.column(&[inner]);
                format!("{} IN (SELECT {value} FROM {sql})", self.text(items))
            }
            9 => format!("{} IS DISTINCT FROM {}", self.text(items), self.text(items)),
            10 => format!("({}, {}) >= ({}, 'b')", self.text(items), self.text(items), self.text(items)),
            11 => format!("{} = ANY (ARRAY['alice', 'bob', {}])", self.text(items), self.text(items)),
            12 => {
                let alias = items[self.pick(items.len())].alias.clone();
                let test = self.one_of(&["IS NOT NULL", "IS NULL", "::text LIKE '%a%'"]);
                format!("{alias} {test}")
            }
            13 => {
                let (one, two) = (items[self.pick(items.len())].clone(), items[self.pick(items.len())].clone());
                let operator = self.one_of(&["=", "<>", "IS NOT DISTINCT FROM"]);
                if one.table == two.table {
                    format!("{}.* {operator} {}.*", one.alias, two.alias)
                } else {
                    "true".to_owned()
                }
            }
            _ => {
                let (inner, sql) = self.item();
                let both = self.correlated(items, &inner);
                format!("EXISTS (SELECT 1 FROM {sql} WHERE {})", self.condition(&both))
            }
        };
        self.depth -= 1;
        made
    }

    fn output(&mut self, items: &[Item]) -> String {
        let item = items[self.pick(items.len())].clone();
        match self.pick(13) {
            8 => format!("{}::text AS whole", item.alias),
            9 => format!("count(*) OVER (PARTITION BY {})", self.text(items)),
            10 => format!("rank() OVER w AS username, max({}) OVER w", self.text(items)),
            11 => format!("ROW({}.*, 1)::text", item.alias),
            12 => format!("({}).{}", item.alias, item.table.target(self.new_names)),
            0 => "*".to_owned(),
            1 => format!("{}.*", item.alias),
            2 => format!("row_to_json({})", item.alias),
            3 => format!("{} AS handle", self.text(items)),
            4 => format!("{} AS username", self.text(items)),
            _ => self.text(items),
        }
    }

    fn select(&mut self) -> String {
        let (items, from) = self.from();
        let filter = self.condition(&items);
        match self.pick(11) {
            6 => {
                let (value, least) = (self.text(&items), self.text(&items));
                format!("SELECT {value}, min({least}) FROM {from} WHERE {filter} GROUP BY 1 HAVING max({least}) > 'a'")
            }
            7 => {
                let (one, two) = (self.column(&items), self.column(&items));
                format!(
                    "SELECT {one} AS one, {two} AS two, count(*), grouping({one}) FROM {from} WHERE {filter} \
                         GROUP BY GROUPING SETS (({one}), ({two}), ())"
                )
            }
            8 => {
                let name = self.one_of(&["v", "username", "handle"]);
                let (value, other) = (self.text(&items), self.text(&items));
                format!(
                    "SELECT {name}, w FROM (SELECT {value}, {other} FROM {from} WHERE {filter}) AS q({name}, w) \
                         ORDER BY {name}, w"
                )
            }
            9 => {
                let first = &items[0];
                let key = format!("{}.{}", first.alias, first.table.key());
                let value = self.text(&items);
                format!(
                    "SELECT DISTINCT ON ({key}, v) {key}, {value} AS v FROM {from} WHERE {filter} ORDER BY {key}, v"
                )
            }
            10 => {
                let alias = items[0].alias.clone();
                let lock = self.one_of(&["FOR UPDATE", "FOR SHARE OF", "FOR NO KEY UPDATE OF"]);
                let of = if lock.ends_with("OF") { alias } else { String::new() };
                format!("SELECT {} FROM {from} WHERE {filter} {lock} {of} SKIP LOCKED", self.text(&items))
            }
            0..=2 => {
                let outputs: Vec<String> = (0..=self.pick(3)).map(|_| self.output(&items)).collect();
                let outputs = outputs.join(", ");
                let window = if outputs.contains("OVER w") { self.text(&items) } else { String::new() };
                let window = if window.is_empty() { window } else { format!(" WINDOW w AS (ORDER BY {window})") };
                format!("SELECT {outputs} FROM {from} WHERE {filter}{window}")
            }
            3 => {
                let value = self.text(&items);
                format!("SELECT {value} AS v, count(*) FROM {from} WHERE {filter} GROUP BY {value} ORDER BY v, 2")
            }
            4 => {
                let first = &items[0];
                let key = format!("{}.{}", first.alias, first.table.key());
                let value = self.column(&items[..1]);
                format!("SELECT {key}, {value}, count(*) FROM {from} WHERE {filter} GROUP BY {key}")
            }
            _ => {
                let (other_items, other) = self.item();
                let (one, two) = (self.text(&items), self.text(&[other_items]));
                let operator = self.one_of(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
                format!("SELECT {one} AS v FROM {from} WHERE {filter} {operator} SELECT {two} FROM {other} ORDER BY v")
            }
        }
    }

    /// The target of a write, with or without an alias.
    fn target(&mut self) -> (Item, String) {
        let table = Table::ALL[self.pick(Table::ALL.len())];
        let name = table.name();
        if table != Table::AppUsers && self.pick(2) == 0 {
            return (Item { alias: name.to_owned(), table }, name.to_owned());
        }
        (Item { alias: "t".to_owned(), table }, format!("{name} AS t"))
    }

    fn returning(&mut self, items: &[Item]) -> String {
        match self.pick(3) {
            0 => String::new(),
            1 => " RETURNING *".to_owned(),
            _ => format!(" RETURNING {}", self.output(items)),
        }
    }

    fn update(&mut self) -> String {
        let (target, sql) = self.target();
        let column = target.table.target(self.new_names);
        let mut items = vec![target.clone()];
        let mut from = String::new();
        let mut filter = String::new();
        if self.pick(3) == 2 {
            let (other, other_sql) = self.item();
            from = format!(" FROM {other_sql}");
            filter = format!("{}.{} = {}.{} AND ", target.alias, target.table.key(), other.alias, other.table.key());
            items.push(other);
        }
        let value = match self.pick(6) {
            // A value of its own for each row, since the column is unique.
            0..=2 => format!("{}.{} || '-' || {}", target.alias, target.table.key(), self.text(&items)),
            3 => "'one'".to_owned(),
            4 => "DEFAULT".to_owned(),
            _ => self.text(&items),
        };
        let set = match self.pick(4) {
            1 => format!("({column}) = ROW({value})"),
            2 if value != "DEFAULT" => format!("({column}) = (SELECT {value})"),
            _ => format!("{column} = {value}"),
        };
        let condition = self.condition(&items);
        let returning = self.returning(&items);
        format!("UPDATE {sql} SET {set}{from} WHERE {filter}{condition}{returning}")
    }

    fn delete(&mut self) -> String {
        let (target, sql) = self.target();
        let mut items = vec![target.clone()];
        let mut using = String::new();
        if self.pick(3) == 2 {
            let (other, other_sql) = self.item();
            using = format!(" USING {other_sql}");
            items.push(other);
        }
        let condition = self.condition(&items);
        // A row that joins twice is returned once, but by which of the two is the plan's choice.
        let returning = self.returning(&items[..1]);
        let returning = if using.is_empty() { returning } else { String::new() };
        format!("DELETE FROM {sql}{using} WHERE {condition}{returning}")
    }

    fn insert(&mut self) -> String {
        let (target, sql) = self.target();
        let (key, column) = (target.table.key(), target.table.target(self.new_names));
        let value = self.one_of(&["'n1'", "'alice'", "lower('N1')", "'n' || nextval('probe')", "DEFAULT", "NULL"]);
        let source = match self.pick(4) {
            0 => format!("({key}, {column}) VALUES (500, {value})"),
            1 => format!("({column}, {key}) VALUES ({value}, 500), ('n2', 1)"),
            2 => {
                let (from, from_sql) = self.item();
                let text = self.text(std::slice::from_ref(&from));
                format!(
                    "({key}, {column}) SELECT {0}.{1} + 500, {0}.{1} || {text} FROM {from_sql}",
                    from.alias,
                    from.table.key()
                )
            }
            // A text that is no number would be refused from ramping on.
            _ if target.table == Table::Scores => format!("VALUES (500, DEFAULT, {value})"),
            _ => format!("VALUES (500, {value})"),
        };
        let conflict = match self.pick(4) {
            0 | 1 => String::new(),
            2 => " ON CONFLICT DO NOTHING".to_owned(),
            _ => {
                format!(" ON CONFLICT ({key}) DO UPDATE SET {column} = excluded.{column} || {}.{column}", target.alias)
            }
        };
        let returning = self.returning(std::slice::from_ref(&target));
        format!("INSERT INTO {sql} {source}{conflict}{returning}")
    }

    fn merge(&mut self) -> String {
        let (target, sql) = self.target();
        let (source, source_sql) = self.item();
        let (key, column) = (target.table.key(), target.table.target(self.new_names));
        let value = self.text(std::slice::from_ref(&source));
        let using =
            format!("(SELECT {0}.{1} AS k, {value} AS v FROM {source_sql}) s", source.alias, source.table.key());
        let alias = &target.alias;
        let condition = self.condition(std::slice::from_ref(&target));
        let matched = match self.pick(4) {
            0 => format!("UPDATE SET {column} = s.k || coalesce(s.v, {alias}.{column})"),
            1 => format!("UPDATE SET {column} = {alias}.{column} || s.k"),
            2 => format!("UPDATE SET ({column}) = ROW(s.k || 'm')"),
            _ => "DELETE".to_owned(),
        };
        let missing = match self.pick(3) {
            0 => "DO NOTHING".to_owned(),
            1 => format!("INSERT ({key}, {column}) VALUES (s.k + 900, s.k || 'n')"),
            _ => format!("INSERT ({column}, {key}) VALUES ('n' || s.k, s.k + 900)"),
        };
        format!(
            "MERGE INTO {sql} USING {using} ON s.k = {alias}.{key} WHEN MATCHED AND {condition} THEN {matched} \
             WHEN NOT MATCHED THEN {missing}"
        )
    }

    /// A write in a CTE, and what is made of what it returned.
    fn writing_with(&mut self) -> String {
        let write = match self.pick(3) {
            0 => self.update(),
            1 => self.delete(),
            _ => self.insert(),
        };
        let write = match write.find(" RETURNING ") {
            Some(at) => write[..at].to_owned(),
            None => write,
        };
        let returned = self.one_of(&["1 AS v", "*", "xmax IS NOT NULL AS v"]);
        let (item, sql) = self.item();
        let then = match self.pick(3) {
            0 => "SELECT * FROM w".to_owned(),
            1 => format!("SELECT (SELECT count(*) FROM w), {} FROM {sql}", self.text(&[item])),
            _ => format!(
                "INSERT INTO log (message) SELECT 'x' FROM w WHERE EXISTS (SELECT 1 FROM {sql}) RETURNING message"
            ),
        };
        format!("WITH w AS ({write} RETURNING {returned}) {then}")
    }

    fn with(&mut self) -> String {
        let (items, from) = self.from();
        let value = self.text(&items);
        let name = self.one_of(&["c", "users", "orders"]);
        let then = match self.pick(3) {
            0 => format!("SELECT * FROM {name}"),
            1 => {
                let (other, sql) = self.item();
                format!("SELECT {name}.v FROM {name} JOIN {sql} ON {name}.v = {}", self.column(&[other]))
            }
            _ => format!("DELETE FROM public.users WHERE email IN (SELECT v FROM {name})"),
        };
        format!("WITH {name} AS (SELECT {value} AS v FROM {from}) {then}")
    }
}
