//! What statements become, for people to read: one file per case.

use crossfade::migration::{Phase, Route, Shape};
use crossfade::sql::Rewrite;

use crate::fixture::rewritten;

pub fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(".");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

fn check(name: &str, phase: Phase, shape: Shape, route: Route, sql: &str) {
    let explained = rewritten(phase, shape, route, sql);
    let shown = match explained.rewrite {
        Rewrite::Unchanged => "unchanged".to_owned(),
        Rewrite::Rewritten(edits) => edits.apply(sql),
        Rewrite::Refused(refusal) => format!("refused: {refusal}\nOFFSET: {:?}", refusal.offset),
    };
    let reasons: Vec<String> = explained.reasons.iter().map(|reason| format!("-- {reason}")).collect();
    let way = format!("{}, shape {}, route {}", phase.name(), shape.name(), route.name());
    settings().bind(|| {
        insta::assert_snapshot!(name, format!("{way}\n{sql}\n=>\n{shown}\n{}", reasons.join("\n")));
    });
}

const OLD: Route = Route::Old;
const NEW: Route = Route::New;

#[test]
fn reads_become_inline_views_only_where_needed() {
    let sql = "SELECT u.* /* hint */, count(*) FROM users AS u JOIN posts p ON p.user_id = u.id GROUP BY u.id";
    check("read_star_shielded", Phase::Shielded, Shape::Old, OLD, sql);
    check("read_star_contracted", Phase::Contracted, Shape::Old, OLD, sql);
    check(
        "read_unicode_names",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "SELECT U&\"user!006eame\" UESCAPE '!' FROM U&\"!0070ublic\"/* ' */uescape'!'.U&\"!0075sers\" UESCAPE '!' WHERE U&\"!0075sers\" UESCAPE '!'.id = 1",
    );
    check("read_plain_dual", Phase::DualWriting, Shape::Auto, OLD, "SELECT username FROM users WHERE id = $1");
    check("read_plain_new_route", Phase::Ramping, Shape::Old, NEW, "SELECT username FROM users WHERE id = $1");
    check("read_new_shape_expanded", Phase::Expanded, Shape::New, OLD, "SELECT handle FROM users FOR UPDATE OF users");
    check("read_auto_fallback", Phase::Ramping, Shape::Auto, NEW, "SELECT id, handle FROM users WHERE username > 'a'");
    check(
        "read_auto_not_captured",
        Phase::Ramping,
        Shape::Auto,
        OLD,
        "SELECT handle FROM posts JOIN users ON users.id = posts.user_id",
    );
    check(
        "read_schema_qualified",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "SELECT \"public\".\"users\".\"username\" FROM \"public\".\"users\" TABLESAMPLE system (10)",
    );
    check("read_system_column_and_star", Phase::Contracted, Shape::Old, OLD, "SELECT *, ctid FROM users");
    check(
        "read_hidden_column_of_correlated_query",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "SELECT id FROM posts WHERE EXISTS (SELECT 1 FROM users WHERE handle = 'ha')",
    );
    check(
        "read_only_a_cte_of_that_name",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "WITH users AS (SELECT 1 AS username) SELECT * FROM users",
    );
    check("read_computed_column", Phase::Contracted, Shape::Old, OLD, "SELECT age FROM people WHERE age = $1");
    check("copy_to", Phase::Contracted, Shape::Old, OLD, "COPY users TO STDOUT (FORMAT csv, HEADER)");
}

#[test]
fn writes_are_edited_in_place() {
    check(
        "delete_returning_whole_row",
        Phase::DualWriting,
        Shape::Old,
        OLD,
        "DELETE FROM users RETURNING row_to_json(users)",
    );
    check(
        "update_volatile_new_shape",
        Phase::DualWriting,
        Shape::New,
        OLD,
        "UPDATE users SET handle = gen_random_uuid()::text",
    );
    check(
        "update_multiple_new_shape",
        Phase::DualWriting,
        Shape::New,
        OLD,
        "UPDATE users SET (handle, email) = (SELECT $1, $2) WHERE id = 1",
    );
    check(
        "insert_dual",
        Phase::DualWriting,
        Shape::Auto,
        OLD,
        "INSERT INTO users (username, email) VALUES ($1, $2), (lower($3), DEFAULT) RETURNING id, username",
    );
    check(
        "insert_volatile_is_left_to_the_trigger",
        Phase::DualWriting,
        Shape::Old,
        OLD,
        "INSERT INTO users (username) VALUES (gen_random_uuid()::text), (DEFAULT)",
    );
    check(
        "insert_without_list_contracted",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "INSERT INTO users VALUES (1, 'a', 'b') RETURNING *",
    );
    check(
        "insert_new_shape_dual_select",
        Phase::DualWriting,
        Shape::New,
        OLD,
        "INSERT INTO users (id, handle) SELECT id, title FROM posts UNION SELECT 1, 'x' ORDER BY 1",
    );
    check(
        "upsert_contracted",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "INSERT INTO users (username) VALUES ($1) ON CONFLICT (username) DO UPDATE SET username = excluded.username || users.username WHERE users.username <> 'x' RETURNING users.username",
    );
    check(
        "insert_converted",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "INSERT INTO people (id, age) VALUES (1, $1), (2, random()::text)",
    );
    check(
        "update_dual",
        Phase::DualWriting,
        Shape::Old,
        OLD,
        "UPDATE users SET username = username || $1, email = 'x' WHERE id = $2",
    );
    check(
        "update_returning_old_and_new",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "UPDATE users SET username = 'x' RETURNING old.username, old.*, new.username AS is, old, (SELECT new.username), email",
    );
    check(
        "delete_returning_old_star",
        Phase::DualWriting,
        Shape::Old,
        OLD,
        "DELETE FROM users u USING posts old RETURNING old.*, u.username, new.*",
    );
    check(
        "update_returning_with_aliases",
        Phase::Contracting,
        Shape::New,
        OLD,
        "UPDATE users SET handle = 'x' RETURNING WITH (OLD AS before, NEW AS \"Af ter\") before.handle, \"Af ter\".*, old.handle",
    );
    check(
        "update_contracted",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "UPDATE users SET username = username || $1 FROM posts p WHERE username = p.username RETURNING username, lower(users.username)",
    );
    check(
        "update_swap_contracted",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "UPDATE users u SET (username, email) = (u.email, u.username) WHERE u.username = 'a' RETURNING *",
    );
    check(
        "update_subquery_dual",
        Phase::DualWriting,
        Shape::Old,
        OLD,
        "UPDATE users SET username = (SELECT title FROM posts WHERE posts.id = users.id)",
    );
    check("update_both_sides", Phase::DualWriting, Shape::Auto, OLD, "UPDATE users SET username = 'a', handle = 'b'");
    check("update_default_new_shape", Phase::DualWriting, Shape::New, OLD, "UPDATE users SET handle = DEFAULT");
    check(
        "delete_contracted",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "DELETE FROM users USING posts WHERE posts.handle = 'x' AND handle = 'y' AND users.username = title RETURNING *",
    );
    check(
        "update_current_of",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "UPDATE users SET username = 'x' WHERE CURRENT OF c",
    );
    check(
        "merge_contracted",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "MERGE INTO users u USING posts p ON u.username = p.username WHEN MATCHED THEN UPDATE SET username = p.title WHEN NOT MATCHED THEN INSERT (username) VALUES (p.username)",
    );
    check("copy_from_dual", Phase::DualWriting, Shape::Old, OLD, "COPY users FROM STDIN");
    check("copy_from_contracted", Phase::Contracted, Shape::Old, OLD, "COPY users (id, username) FROM STDIN");
    check(
        "prepare_contracted",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "PREPARE p (text) AS DELETE FROM users WHERE username = $1",
    );
    check(
        "several_statements",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "BEGIN; UPDATE users SET username = 'a;b' WHERE id = 1; SELECT 1; SELECT username FROM users; COMMIT",
    );
}

#[test]
fn what_cannot_be_done_soundly_is_refused() {
    check("refuse_hidden_column", Phase::DualWriting, Shape::Old, OLD, "UPDATE users SET email = handle");
    check(
        "refuse_hidden_target",
        Phase::DualWriting,
        Shape::Old,
        OLD,
        "INSERT INTO users (id, handle) VALUES (1, 'x')",
    );
    check(
        "refuse_ambiguous",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "UPDATE users SET email = username FROM posts WHERE posts.user_id = users.id",
    );
    check(
        "refuse_unknown_item",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "UPDATE users SET email = username FROM f() WHERE f.id = users.id",
    );
    check(
        "refuse_copy_with_where",
        Phase::Contracted,
        Shape::Old,
        OLD,
        "COPY users (id, username) FROM STDIN WHERE username > 'a'",
    );
    check("refuse_alter", Phase::DualWriting, Shape::Old, OLD, "ALTER TABLE users DROP COLUMN username");
    // Once it is over, the new shape is the table as it is stored.
    check("alter_contracted_new_shape", Phase::Contracted, Shape::New, NEW, "ALTER TABLE users ADD COLUMN age integer");
    check(
        "refuse_typed_whole_row",
        Phase::DualWriting,
        Shape::Old,
        OLD,
        "UPDATE users SET email = made(users.*) WHERE id = 1",
    );
    check("ask_syntax_error", Phase::DualWriting, Shape::Old, OLD, "SELECT FROM WHERE users");
    check(
        "refuse_volatile_twice_unsynced",
        Phase::Expanded,
        Shape::New,
        OLD,
        "INSERT INTO users (handle) VALUES (gen_random_uuid()::text)",
    );
}
