//! After trouble: new connections, and a look at what became of the change in doubt.
//!
//! Accepts two states only, all of a change or none of it; anything else is an error in the book.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::super::connection::{Connection, Failure};
use super::super::model::{Change, Outcome, Row};
use super::{Trouble, Worker, styles};

/// How long a worker tries to come back after a lost connection.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// A pause between two tries to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(25);

impl Worker {
    /// Comes back to a state in which the model is what the table holds.
    pub(super) async fn recover(&mut self, trouble: Trouble) {
        let deadline = Instant::now() + RECONNECT_TIMEOUT;
        let mut connected = match trouble {
            Trouble::Wrong => self.roll_back().await,
            Trouble::Lost => false,
        };
        loop {
            if !connected {
                connected = self.reconnect().await;
            }
            if connected && self.resolve().await {
                return;
            }
            connected = false;
            if Instant::now() > deadline {
                self.book.error("no connection could be made for a minute");
                return;
            }
            sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn roll_back(&mut self) -> bool {
        for connection in &self.connections {
            if connection.command("ROLLBACK").await.is_err() {
                return false;
            }
        }
        true
    }

    /// New connections in place of the old ones, once the server sessions behind the old ones have ended: until then a
    /// statement whose answer was lost may still take effect.
    async fn reconnect(&mut self) -> bool {
        let old = self.connections.iter().map(|c| c.backend().to_string()).collect::<Vec<_>>().join(", ");
        let mut fresh = Vec::new();
        for style in styles(self.index) {
            match Connection::open(&self.workload.url, style).await {
                Ok(connection) => fresh.push(connection),
                Err(_) => return false,
            }
        }
        // Closes the half that was not lost.
        self.connections = fresh;
        let alive = format!("SELECT 1 FROM pg_stat_activity WHERE pid IN ({old})");
        let deadline = Instant::now() + RECONNECT_TIMEOUT;
        while Instant::now() < deadline {
            match self.connections[0].text(&alive).await {
                Ok(answer) if answer.rows.is_empty() => return true,
                Ok(_) => sleep(RECONNECT_PAUSE).await,
                Err(_) => return false,
            }
        }
        false
    }

    /// Reads what became of the change in doubt. `false` when the connection was lost again.
    async fn resolve(&mut self) -> bool {
        let Some(change) = self.doubt.clone() else { return true };
        let ids: Vec<_> = change.rows().map(|row| row.id.to_string()).collect();
        let names: Vec<_> = change.rows().map(|row| format!("'{}'", row.username.replace('\'', "''"))).collect();
        let sql = format!("SELECT * FROM users WHERE id IN ({}) OR username IN ({})", ids.join(", "), names.join(", "));
        let rows = match self.connections[0].text(&sql).await {
            Ok(answer) => answer.rows.iter().filter_map(|cells| Row::parse(cells)).collect::<Vec<_>>(),
            Err(Failure::Lost(_)) => return false,
            Err(other) => {
                self.book.error(&format!("{sql}: {other:?}"));
                return true;
            }
        };
        self.doubt = None;
        match change.outcome(&rows) {
            Outcome::Undone => {}
            Outcome::Done => self.model.apply(&Change { after: rows, ..change }),
            Outcome::Neither => {
                // The model keeps what should be there, so that the last comparison counts it too.
                self.book.error(&format!("a change was torn: {change:?} became {rows:?}"));
            }
        }
        true
    }
}
