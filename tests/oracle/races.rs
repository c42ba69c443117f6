//! A rewritten write under a concurrent one keeps PostgreSQL's semantics: after waiting for the row's lock it looks at the
//! row again (conditions and values), and it never reads first and writes later.
//!
//! Each race really commits, on rows of its own that are taken away again.

use crossfade::migration::{Bucket, Rules, Shape};
use crossfade::sql::{Context, Names, Rewrite, rewrite};

use crate::client::{Client, Reply};
use crate::fixture::{State, World, ident};
use crate::run::{Setting, Side, show_row};

/// What the first session does, what the second does while the first holds the row.
pub struct Race {
    pub first: &'static str,
    pub second: &'static str,
}

pub const RACES: [Race; 9] = [
    Race {
        first: "UPDATE users SET username = 'raced1' WHERE id = 900",
        second: "UPDATE users SET username = username || 'x' WHERE id = 900 RETURNING username",
    },
    Race {
        first: "UPDATE users SET username = 'raced1' WHERE id = 900",
        second: "UPDATE users SET username = username || (SELECT 'x') WHERE id = 900 RETURNING username",
    },
    Race {
        first: "UPDATE users SET username = 'raced1' WHERE id = 900",
        second: "UPDATE users SET age = 5 WHERE username = 'racer' RETURNING id",
    },
    Race {
        first: "UPDATE users SET username = 'raced1' WHERE id = 900",
        second: "DELETE FROM users WHERE username = 'racer' RETURNING id",
    },
    Race {
        first: "UPDATE users SET age = 44 WHERE id = 900",
        second: "UPDATE users SET username = username || age WHERE username = 'racer' RETURNING username, age",
    },
    Race { first: "DELETE FROM users WHERE id = 900", second: "UPDATE users SET username = 'late' WHERE id = 900" },
    Race {
        first: "UPDATE users SET username = 'raced1' WHERE id = 900",
        second: "SELECT username FROM users WHERE id = 900 FOR UPDATE",
    },
    Race {
        first: "UPDATE users SET username = 'raced1' WHERE id = 900",
        second: "SELECT id FROM users WHERE username = 'racer' FOR UPDATE",
    },
    Race {
        first: "INSERT INTO users (id, username) VALUES (901, 'raced2')",
        second: "INSERT INTO users (id, username) VALUES (902, 'raced2') ON CONFLICT (username) DO UPDATE SET username = \
                 excluded.username || users.id RETURNING id, username",
    },
];

/// What the race left behind for the second session, and in the table.
pub fn run(world: &World, database: &str, texts: [&str; 2], side: (State, Side)) -> String {
    let (mut one, mut two) = (world.connect(database), world.connect(database));
    let column = match side {
        (State::Contracted, _) | (_, Side::New) => "handle",
        (_, Side::Old) => "username",
    };
    one.must("DELETE FROM users WHERE id BETWEEN 900 AND 910");
    one.must(&format!("INSERT INTO users (id, {column}, age) VALUES (900, 'racer', 7)"));
    one.must("BEGIN");
    one.must(texts[0]);
    let waiting = two.must("SELECT pg_backend_pid()").results[0].rows[0][0].clone().unwrap_or_default();
    let reply = std::thread::scope(|scope| {
        let second = scope.spawn(|| two.simple(texts[1], None));
        wait_until_blocked(world, database, &waiting);
        one.must("COMMIT");
        second.join().expect("the second session runs").expect("the throwaway server answers")
    });
    let mut left = one.must(&format!("SELECT id, {column}, age FROM users WHERE id BETWEEN 900 AND 910 ORDER BY id"));
    if side.0.in_step() {
        let drift = "SELECT id, username, handle FROM users WHERE handle IS DISTINCT FROM username";
        left.results.extend(one.must(drift).results);
    }
    one.must("DELETE FROM users WHERE id BETWEEN 900 AND 910");
    format!("{} then {}", show(&reply), show(&left))
}

fn wait_until_blocked(world: &World, database: &str, process: &str) {
    let mut watcher: Client = world.connect(database);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let blocked = format!("SELECT count(*) FROM pg_locks WHERE pid = {process} AND NOT granted");
    while watcher.must(&blocked).results[0].rows[0][0].as_deref() == Some("0") {
        assert!(std::time::Instant::now() < deadline, "the second session of a race never waited for the first");
        std::thread::yield_now();
    }
}

fn show(reply: &Reply) -> String {
    if let Some(error) = &reply.error {
        return format!("{} {}", error.code, error.message);
    }
    let results = reply.results.iter().map(|result| {
        let rows: Vec<String> = result.rows.iter().map(show_row).collect();
        format!("{} [{}]", result.tag.clone().unwrap_or_default(), rows.join(", "))
    });
    results.collect::<Vec<_>>().join("; ")
}

/// The text as that setting has it for an old session.
pub fn rewritten(text: &str, setting: &Setting) -> String {
    let names = Names { path: vec![ident("pg_catalog"), ident("public")], temporary: Vec::new() };
    let (rules, bucket): (&Rules, Bucket) = (&setting.rules, setting.bucket);
    let cx = Context { rules, names: &names, shape: Shape::Old, bucket, standard_conforming_strings: true };
    match rewrite(text, &cx) {
        Rewrite::Unchanged => text.to_owned(),
        Rewrite::Rewritten(edits) => edits.apply(text),
        Rewrite::Refused(refusal) => panic!("{}: {text} is refused: {}", setting.label, refusal.message),
    }
}
