//! Runs the statements of a phase: short lock waits, each step checked for being done already.
//!
//! Never waits long for a lock: a waiting ACCESS EXCLUSIVE lock stops every reader behind it. Tries once; the
//! coordinator tries again. Knows nothing of what the statements mean.

use std::time::Duration;

use tokio_postgres::{GenericClient, Transaction};

use super::Error;
use super::db::Session;
use crate::migration::ddl::{Lock, Step};

/// How much longer than for a lock the server waits for this process within a transaction that has locks. Where the process
/// is stopped, or cut off, the server ends the transaction, and with it the locks.
pub(super) const IDLE_GRACE: Duration = Duration::from_secs(1);

/// Runs each step that is not done yet, in order.
pub async fn run(session: &mut Session, steps: &[Step], lock_timeout: Duration) -> Result<(), Error> {
    for step in steps {
        if is_done(session.client(), step).await? {
            continue;
        }
        tracing::info!(step = %step.name, "DDL step begins");
        if step.transactional {
            let transaction = session.transaction().await?;
            run_in(&transaction, step, lock_timeout).await?;
            transaction.commit().await?;
        } else {
            run_alone(session, step, lock_timeout).await?;
        }
    }
    Ok(())
}

/// Runs a transactional step in the caller's transaction.
pub async fn run_in(transaction: &Transaction<'_>, step: &Step, lock_timeout: Duration) -> Result<(), Error> {
    let (lock, idle) = (lock_timeout.as_millis(), (lock_timeout + IDLE_GRACE).as_millis());
    let timeouts = format!("SET LOCAL lock_timeout TO {lock}; SET LOCAL idle_in_transaction_session_timeout TO {idle}");
    transaction.batch_execute(&timeouts).await?;
    for statement in &step.statements {
        transaction.batch_execute(statement).await?;
    }
    Ok(())
}

async fn run_alone(session: &mut Session, step: &Step, lock_timeout: Duration) -> Result<(), Error> {
    // CREATE INDEX CONCURRENTLY waits for transactions as for locks, and stands in nobody's way meanwhile: a timeout
    // would only leave an invalid index behind.
    let timeout = match step.lock {
        Lock::None | Lock::RowExclusive | Lock::ShareUpdateExclusive => 0,
        Lock::ShareRowExclusive | Lock::AccessExclusive => lock_timeout.as_millis(),
    };
    session.batch_execute(&format!("SET lock_timeout TO {timeout}")).await?;
    for statement in &step.statements {
        session.batch_execute(statement).await?;
    }
    session.batch_execute("SET lock_timeout TO 0").await?;
    Ok(())
}

/// Whether the step is done, as the database shows it.
pub async fn is_done(client: &impl GenericClient, step: &Step) -> Result<bool, Error> {
    match &step.done_when {
        Some(query) => Ok(client.query_one(query.as_str(), &[]).await?.try_get::<_, Option<bool>>(0)?.unwrap_or(false)),
        None => Ok(false),
    }
}
