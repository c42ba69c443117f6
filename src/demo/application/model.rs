//! What the application believes the table holds: one worker's own rows, exactly.
//!
//! Pure but for loading it once, directly from the database, before anything happens. Workers own disjoint rows, so no
//! worker can change what another expects.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::statements::COLUMNS;

/// One row of `users`; values as PostgreSQL writes them in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// 0 while the database has not said it.
    pub id: i64,
    /// The column that is being renamed.
    pub username: String,
    /// May be NULL.
    pub email: Option<String>,
    /// May be NULL.
    pub bio: Option<String>,
    /// A counter.
    pub visits: i64,
    /// A foreign key.
    pub team_id: i64,
    /// Empty while the database has not said it.
    pub created_at: String,
}

impl Row {
    /// The row as `SELECT *` must show it.
    pub fn cells(&self) -> Vec<Option<String>> {
        vec![
            Some(self.id.to_string()),
            Some(self.username.clone()),
            self.email.clone(),
            self.bio.clone(),
            Some(self.visits.to_string()),
            Some(self.team_id.to_string()),
            Some(self.created_at.clone()),
        ]
    }

    /// The row that `SELECT *` showed.
    pub fn parse(cells: &[Option<String>]) -> Option<Row> {
        let [id, username, email, bio, visits, team_id, created_at] = cells else { return None };
        Some(Row {
            id: id.as_ref()?.parse().ok()?,
            username: username.clone()?,
            email: email.clone(),
            bio: bio.clone(),
            visits: visits.as_ref()?.parse().ok()?,
            team_id: team_id.as_ref()?.parse().ok()?,
            created_at: created_at.clone()?,
        })
    }

    /// Whether this is that row, where what only the database can say counts as equal while it is unknown.
    pub fn agrees_with(&self, actual: &Row) -> bool {
        let mut known = self.clone();
        if known.id == 0 {
            known.id = actual.id;
        }
        if known.created_at.is_empty() {
            known.created_at.clone_from(&actual.created_at);
        }
        &known == actual
    }
}

/// A change that commits or does not, as a whole: the rows it touches, before and after.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// These rows, which exist, ...
    pub before: Vec<Row>,
    /// ... become these.
    pub after: Vec<Row>,
    /// Whether the statement that makes it so was sent: before that, only the rows from before are right.
    pub sent: bool,
}

/// How a change in doubt came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The database holds the rows from before.
    Undone,
    /// It holds the rows from after.
    Done,
    /// It holds neither: something was lost or torn.
    Neither,
}

impl Change {
    /// What became of the change, by the rows that the database holds under its keys and names.
    pub fn outcome(&self, actual: &[Row]) -> Outcome {
        let same = |expected: &[Row]| {
            expected.len() == actual.len() && expected.iter().all(|row| actual.iter().any(|a| row.agrees_with(a)))
        };
        match (self.sent && same(&self.after), same(&self.before)) {
            (true, _) => Outcome::Done,
            (false, true) => Outcome::Undone,
            (false, false) => Outcome::Neither,
        }
    }

    /// Every row that the change touches, as it was and as it is to be.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.before.iter().chain(&self.after)
    }
}

/// The rows of one worker.
#[derive(Debug, Default)]
pub struct Model {
    rows: HashMap<i64, Row>,
    names: BTreeMap<String, i64>,
    ids: Vec<i64>,
    places: HashMap<i64, usize>,
    numbers_given: u64,
}

impl Model {
    /// The rows of the table dealt out to that many workers, read through a connection that no proxy touches.
    pub async fn deal(direct: &Client, workers: usize) -> Result<Vec<Model>, tokio_postgres::Error> {
        let mut models: Vec<Model> = (0..workers).map(|_| Model::default()).collect();
        for (number, row) in read_all(direct, "username").await?.into_iter().enumerate() {
            models[number % workers].put(row);
        }
        Ok(models)
    }

    /// Adds or replaces a row.
    pub fn put(&mut self, row: Row) {
        self.remove(row.id);
        self.places.insert(row.id, self.ids.len());
        self.ids.push(row.id);
        self.names.insert(row.username.clone(), row.id);
        self.rows.insert(row.id, row);
    }

    /// Forgets a row.
    pub fn remove(&mut self, id: i64) {
        let Some(row) = self.rows.remove(&id) else { return };
        self.names.remove(&row.username);
        let Some(place) = self.places.remove(&id) else { return };
        self.ids.swap_remove(place);
        if let Some(&moved) = self.ids.get(place) {
            self.places.insert(moved, place);
        }
    }

    /// Makes a change that is known to have been made.
    pub fn apply(&mut self, change: &Change) {
        for row in &change.before {
            self.remove(row.id);
        }
        for row in &change.after {
            self.put(row.clone());
        }
    }

    /// A number that was not given before, to make names of.
    pub fn next_number(&mut self) -> u64 {
        self.numbers_given += 1;
        self.numbers_given
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The row at that place, in no particular order.
    pub fn nth(&self, number: usize) -> Option<&Row> {
        self.rows.get(self.ids.get(number)?)
    }

    /// All rows, in no order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }
}

/// Every row of `users`, its name taken from that column.
pub async fn read_all(direct: &Client, name_column: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
    let columns = COLUMNS.map(|column| if column == "username" { name_column } else { column }).join(", ");
    let sql = format!("SET TimeZone = 'UTC'; SELECT {columns} FROM users ORDER BY id");
    let mut rows = Vec::new();
    for message in direct.simple_query(&sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let cells: Vec<_> = (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect();
            rows.extend(Row::parse(&cells));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, username: &str) -> Row {
        Row {
            id,
            username: username.to_owned(),
            email: None,
            bio: None,
            visits: 0,
            team_id: 0,
            created_at: String::new(),
        }
    }

    #[test]
    fn a_removed_row_leaves_every_other_within_reach() {
        let mut model = Model::default();
        for id in 1..=5 {
            model.put(row(id, &format!("u{id}")));
        }
        model.remove(2);
        model.put(row(3, "renamed"));
        let mut names: Vec<_> =
            (0..model.len()).filter_map(|at| model.nth(at)).map(|row| row.username.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["renamed", "u1", "u4", "u5"]);
    }

    #[test]
    fn a_torn_change_is_neither_done_nor_undone() {
        let change =
            Change { before: vec![row(1, "a"), row(2, "b")], after: vec![row(1, "c"), row(2, "d")], sent: true };
        assert_eq!(change.outcome(&[row(1, "c"), row(2, "d")]), Outcome::Done);
        assert_eq!(change.outcome(&[row(2, "b"), row(1, "a")]), Outcome::Undone);
        assert_eq!(change.outcome(&[row(1, "c"), row(2, "b")]), Outcome::Neither);
        assert_eq!(change.outcome(&[]), Outcome::Neither);
        let not_sent = Change { sent: false, ..change };
        assert_eq!(not_sent.outcome(&[row(1, "c"), row(2, "d")]), Outcome::Neither);
    }
}
