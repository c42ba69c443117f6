//! What has become of a table since its migration began, as far as the migration cannot follow it.
//!
//! Through a proxy such statements are refused; whoever comes by no proxy may run them all the same. What stood in the way at
//! the start stands in the way of moving reads and of the contract, too.

use super::ddl::attributes;
use super::resolve::{Migration, wrong_column, wrong_table};
use super::{Blocker, Phase};
use crate::schema::TableDetail;

/// Everything about the table that keeps the migration from going on; nothing where it is as the migration left it. `None`:
/// the table is not there.
pub fn changed(migration: &Migration, detail: Option<&TableDetail>, phase: Phase) -> Vec<Blocker> {
    let table = &migration.lens.table;
    let again = format!("Roll back, and start again: crossfade rollback {}", migration.name);
    let Some(detail) = detail else {
        return vec![Blocker::new(
            "table_gone",
            format!("table {table} does not exist any more"),
            "It was dropped, or given another name, while the migration was under way.",
            again,
        )];
    };
    let mut found = wrong_table(table, detail);
    for (old, new) in migration.lens.old.iter().zip(&migration.lens.new) {
        let (Some(column), Some(was)) = (detail.relation.column(old.stored()), detail.column(old.stored())) else {
            found.push(column_gone(old.stored().as_str(), again.clone()));
            continue;
        };
        found.extend(wrong_column(detail, column));
        let Some(is) = detail.column(new.stored()) else {
            found.push(column_gone(new.stored().as_str(), again.clone()));
            continue;
        };
        let (expected, found_now) = (attributes(migration, new, was), attributes(migration, new, is));
        let missing = expected.iter().filter(|statement| !found_now.contains(statement));
        let surplus = found_now.iter().filter(|statement| !expected.contains(statement));
        let differing: Vec<&str> = missing.chain(surplus).map(String::as_str).collect();
        if !differing.is_empty() {
            found.push(Blocker::new(
                "attributes_changed",
                format!("columns {:?} and {:?} have not the same attributes", old.stored().as_str(), new.stored().as_str()),
                format!(
                    "Comment, privileges, statistics target or storage of one of them were changed past the proxy since the \
                     migration began: {}.",
                    differing.join("; ")
                ),
                "Change the other one in the same way, in psql.",
            ));
        }
        let moved = phase == Phase::Contracting;
        if !moved && column.default != migration.carried.default {
            let text =
                |default: &Option<String>| default.as_deref().map_or_else(|| "none".to_owned(), ToOwned::to_owned);
            found.push(Blocker::new(
                "default_changed",
                format!("the default of column {:?} is {}", old.stored().as_str(), text(&column.default)),
                format!(
                    "It was {} when the migration began, which is what the new column would get.",
                    text(&migration.carried.default)
                ),
                "Set it back, in psql, and change it when the migration is complete; or roll back.",
            ));
        }
    }
    found
}

fn column_gone(column: &str, todo: String) -> Blocker {
    Blocker::new(
        "column_gone",
        format!("column {column:?} is not there"),
        "It was dropped past the proxy while the migration was under way, or the table was made again.",
        todo,
    )
}
