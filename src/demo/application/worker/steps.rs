//! The steps: what an application does, each with the exact answer that it expects.
//!
//! Every write is noted as a change in doubt before it is sent.

use std::time::Instant;

use rand::Rng;

use super::super::connection::Failure;
use super::super::model::{Change, Row};
use super::super::statements::{Ask, Value};
use super::{Returns, Trouble, Worker};

/// Names grow by appending; past this length a row gets a new short one.
const NAME_CHARS_MAX: usize = 90;

impl Worker {
    // Reads.

    pub(super) async fn read(&mut self) -> Result<(), Trouble> {
        let (Some(row), Some(other)) = (self.any_row(), self.any_row()) else { return self.insert().await };
        let on = self.random.random_range(0..2);
        let id = Value::Int(row.id);
        let name = Value::text(&row.username);
        let some = |cells: &[&str]| cells.iter().map(|cell| Some((*cell).to_owned())).collect::<Vec<_>>();
        match self.random.random_range(0..8) {
            0 => self.expect(on, Ask::ById, &[id], vec![row.cells()]).await,
            1 => {
                let mut cells = row.cells();
                cells.truncate(3);
                self.expect(on, Ask::ByName, &[name], vec![cells]).await
            }
            2 => self.expect(on, Ask::NameOf, &[id], vec![some(&[&row.username])]).await,
            3 => {
                let cells = some(&[&row.id.to_string(), &row.username, &format!("team {}", row.team_id)]);
                self.expect(on, Ask::Join, &[name], vec![cells]).await
            }
            4 => {
                let ids = [id, Value::Int(other.id), Value::Int(-1), name];
                let count = u64::from(row.id != other.id);
                self.expect(on, Ask::Count, &ids, vec![some(&[&count.to_string()])]).await
            }
            5 => {
                // Names of the same alphabet in any order of theirs would do; PostgreSQL's order here is by byte.
                let mut names = vec![row.username.clone(), other.username.clone()];
                names.sort_unstable();
                names.dedup();
                let rows = names.iter().map(|name| some(&[name, "1"])).collect();
                self.expect(on, Ask::Ordered, &[id, Value::Int(other.id)], rows).await
            }
            6 => self.expect(on, Ask::Nested, &[name], vec![row.cells()]).await,
            _ => self.expect(on, Ask::ByName, &[Value::text("nobody has this name")], Vec::new()).await,
        }
    }

    // Writes, each one statement.

    pub(super) async fn insert(&mut self) -> Result<(), Trouble> {
        let first = self.new_row();
        let five = |row: &Row| {
            vec![
                Value::text(&row.username),
                Value::Text(row.email.clone()),
                Value::Text(row.bio.clone()),
                Value::Int(row.visits),
                Value::Int(row.team_id),
            ]
        };
        match self.random.random_range(0..3) {
            0 => {
                let values = five(&first);
                self.write(Ask::Insert, &values, Vec::new(), vec![first], Returns::Rows).await
            }
            1 => {
                let values = five(&first);
                self.write(Ask::InsertPlain, &values, Vec::new(), vec![first], Returns::Rows).await
            }
            _ => {
                let two = [first, self.new_row()].map(|row| Row { bio: None, visits: 0, team_id: 0, ..row });
                let values: Vec<_> =
                    two.iter().flat_map(|r| [Value::text(&r.username), Value::Text(r.email.clone())]).collect();
                self.write(Ask::InsertTwo, &values, Vec::new(), two.to_vec(), Returns::Rows).await
            }
        }
    }

    pub(super) async fn upsert(&mut self) -> Result<(), Trouble> {
        let email = Some(format!("{}@upsert.example.org", self.random.random_range(0..1_000_000)));
        let known = if self.random.random_bool(0.7) { self.any_row() } else { None };
        let (before, after) = match known {
            Some(row) => (vec![row.clone()], Row { email: email.clone(), visits: row.visits + 1, ..row }),
            None => (Vec::new(), Row { email: email.clone(), bio: None, visits: 1, team_id: 0, ..self.new_row() }),
        };
        let values = [Value::text(&after.username), Value::Text(email)];
        self.write(Ask::Upsert, &values, before, vec![after], Returns::Rows).await
    }

    pub(super) async fn update(&mut self) -> Result<(), Trouble> {
        let Some(row) = self.any_row() else { return self.insert().await };
        let before = vec![row.clone()];
        match self.random.random_range(0..3) {
            0 if row.username.chars().count() < NAME_CHARS_MAX => {
                let after = Row { username: format!("{}x", row.username), ..row };
                let returns = Returns::Cell(after.username.clone());
                self.write(Ask::Append, &[Value::Int(after.id)], before, vec![after], returns).await
            }
            0 | 1 => {
                let after = Row { username: self.new_name(), ..row };
                let values = [Value::text(&after.username), Value::Int(after.id)];
                self.write(Ask::Rename, &values, before, vec![after], Returns::Count(1)).await
            }
            _ => {
                let after = Row { visits: row.visits + 1, ..row };
                let values = [Value::text(&after.username)];
                self.write(Ask::Visit, &values, before, vec![after], Returns::Count(1)).await
            }
        }
    }

    pub(super) async fn delete(&mut self) -> Result<(), Trouble> {
        let Some(row) = self.any_row() else { return self.insert().await };
        let values = [Value::text(&row.username)];
        self.write(Ask::Delete, &values, vec![row], Vec::new(), Returns::Rows).await
    }

    /// A name that is taken must be refused, by the constraint's own name.
    pub(super) async fn clash(&mut self) -> Result<(), Trouble> {
        let Some(row) = self.any_row() else { return self.insert().await };
        let values = [Value::text(&row.username), Value::Text(None), Value::Text(None), Value::Int(0), Value::Int(0)];
        let on = self.random.random_range(0..2);
        self.doubt = Some(Change { before: vec![row.clone()], after: vec![row.clone()], sent: true });
        let began = Instant::now();
        match self.connections[on].ask(&self.truth, Ask::Insert, &values).await {
            Err(Failure::Refused { code, constraint, .. })
                if code == "23505" && constraint.as_deref() == Some("users_username_key") =>
            {
                self.book.answered(began.elapsed());
                self.doubt = None;
                self.expect(1 - on, Ask::ById, &[Value::Int(row.id)], vec![row.cells()]).await
            }
            Ok(_) => Err(self.wrong(on, Ask::Insert, "a name that is taken was accepted")),
            Err(failure) => Err(self.failed(on, Ask::Insert, failure)),
        }
    }

    // Transactions.

    /// Locks and renames a row, tries something and takes it back, adds a row, and commits or not; the other
    /// connection sees none of it before, and all or nothing after.
    pub(super) async fn transaction(&mut self) -> Result<(), Trouble> {
        let Some(row) = self.any_row() else { return self.insert().await };
        let on = self.random.random_range(0..2);
        let renamed = Row { username: self.new_name(), ..row.clone() };
        let mut added = self.new_row();
        let mut change = Change { before: vec![row.clone()], after: vec![renamed.clone(), added.clone()], sent: false };
        self.doubt = Some(change.clone());
        let id = Value::Int(row.id);

        self.command(on, "BEGIN").await?;
        self.expect(on, Ask::Lock, std::slice::from_ref(&id), vec![row.cells()]).await?;
        let values = [Value::text(&renamed.username), id.clone()];
        self.ask(on, Ask::Rename, &values, &[], &Returns::Count(1)).await?;
        self.command(on, "SAVEPOINT here").await?;
        let gone = [Value::text(&renamed.username)];
        self.ask(on, Ask::Delete, &gone, std::slice::from_ref(&renamed), &Returns::Rows).await?;
        self.expect(on, Ask::ById, std::slice::from_ref(&id), Vec::new()).await?;
        self.command(on, "ROLLBACK TO SAVEPOINT here").await?;
        let email = [Value::text(&added.username), Value::Text(added.email.clone())];
        added = Row { bio: None, visits: 1, team_id: 0, ..added };
        let inserted = self.ask(on, Ask::Upsert, &email, std::slice::from_ref(&added), &Returns::Rows).await?;
        change.after = std::iter::once(renamed.clone()).chain(inserted).collect();
        self.expect(1 - on, Ask::ById, std::slice::from_ref(&id), vec![row.cells()]).await?;

        let commit = self.random.random_bool(0.7);
        change.sent = commit;
        self.doubt = Some(change.clone());
        self.command(on, if commit { "COMMIT" } else { "ROLLBACK" }).await?;
        self.doubt = None;
        if commit {
            self.model.apply(&change);
        }
        let now = if commit { renamed } else { row };
        self.expect(1 - on, Ask::ById, &[id], vec![now.cells()]).await
    }

    // Choices.

    fn any_row(&mut self) -> Option<Row> {
        let count = self.model.len();
        if count == 0 {
            return None;
        }
        self.model.nth(self.random.random_range(0..count)).cloned()
    }

    fn new_name(&mut self) -> String {
        let number = self.model.next_number();
        let flavour = ["", " O'Hara", " żółć", " \\n \"q\"", " $1 username"];
        let flavour = flavour[self.random.random_range(0..flavour.len())];
        format!("w{}_{number}{flavour}", self.index)
    }

    fn new_row(&mut self) -> Row {
        let username = self.new_name();
        let email = self.random.random_bool(0.8).then(|| format!("{username}@example.org"));
        let bio = self.random.random_bool(0.5).then(|| "likes schemas".repeat(self.random.random_range(0..4)));
        Row {
            id: 0,
            username,
            email,
            bio,
            visits: self.random.random_range(0..100),
            team_id: self.random.random_range(0..10),
            created_at: String::new(),
        }
    }
}
