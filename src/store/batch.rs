//! SQLite commits one transaction at a time, so that statements which wait for their turn go into one transaction
//! together. Each is answered only when it is committed, as if it had been alone.

use std::sync::{Mutex, PoisonError};

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::oneshot::{self, error::TryRecvError};

/// The most statements in one transaction: one that waits for its answer has a time-out.
const LARGEST: usize = 256;

type Statement = Query<'static, Sqlite, SqliteArguments>;
type Answer = oneshot::Sender<sqlx::Result<u64>>;

/// The statements that wait.
#[derive(Default)]
pub(super) struct Batch {
    waiting: Mutex<Vec<(Statement, Answer)>>,
    /// Held by whoever commits for all.
    turn: tokio::sync::Mutex<()>,
}

impl Batch {
    /// Runs one statement and says how many rows it changed. Whoever gets its turn runs all that wait.
    pub(super) async fn execute(&self, pool: &SqlitePool, statement: Statement) -> sqlx::Result<u64> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((statement, answer));
        let _turn = tokio::select! {
            biased;
            // An error: who committed for us was cancelled, and its transaction with it.
            result = &mut answered => return result.unwrap_or(Err(sqlx::Error::WorkerCrashed)),
            turn = self.turn.lock() => turn,
        };
        loop {
            let batch: Vec<_> = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let count = waiting.len().min(LARGEST);
                // Nobody waits any more for what took too long: it must not happen behind their backs.
                waiting.drain(..count).filter(|(_, answer)| !answer.is_closed()).collect()
            };
            if !batch.is_empty() {
                commit(pool, batch).await;
            }
            match answered.try_recv() {
                Ok(result) => return result,
                Err(TryRecvError::Closed) => return Err(sqlx::Error::WorkerCrashed),
                // More wait than fit into one transaction, and we are behind them.
                Err(TryRecvError::Empty) => {}
            }
        }
    }
}

async fn commit(pool: &SqlitePool, mut batch: Vec<(Statement, Answer)>) {
    if batch.len() == 1
        && let Some((statement, answer)) = batch.pop()
    {
        let _ = answer.send(statement.execute(pool).await.map(|done| done.rows_affected()));
        return;
    }
    let (statements, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let results = async {
        let mut write = pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut results = Vec::with_capacity(statements.len());
        for statement in statements {
            // A statement that fails changes nothing; the others are not concerned.
            results.push(statement.execute(&mut *write).await.map(|done| done.rows_affected()));
        }
        write.commit().await.map(|()| results)
    }
    .await;
    match results {
        Ok(results) => {
            for (answer, result) in answers.into_iter().zip(results) {
                let _ = answer.send(result);
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(sqlx::Error::Protocol(format!("the transaction failed: {error}"))));
            }
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Batch")
    }
}
