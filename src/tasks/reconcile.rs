//! Compares the rows with what exists in the backends.

use std::sync::Arc;

use crate::error::Result;
use crate::model::Phase;
use crate::outpost::Outpost;

/// One pass: ends that nobody reported are noted, and leftovers of servers that ended are removed. A server without a row
/// and without a history is reported and left alone: somebody may have put back an old database.
///
/// # Errors
/// The database does not answer.
pub async fn run_once(outpost: Arc<Outpost>) -> Result<()> {
    outpost.compare().await?;
    for entry in outpost.view.all() {
        let phase = entry.state().server.phase;
        match phase {
            Phase::Running => outpost.look_at(&entry).await,
            Phase::Ended => outpost.settle(&entry).await,
            Phase::Queued | Phase::Starting | Phase::Stopping => {}
        }
    }
    for (name, spawner) in outpost.spawners.all() {
        let found = match spawner.list().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(spawner = name, error = %error, cause = error.cause(), "the servers of a backend cannot be listed");
                continue;
            }
        };
        for found in found {
            if outpost.view.by_uid(&found.uid).is_some() {
                continue;
            }
            let ended = outpost.store.ended(&found.uid).await?.is_some();
            // Asked again after the history: it may have been inserted, or removed, in between.
            if outpost.view.by_uid(&found.uid).is_some() {
                continue;
            }
            if ended {
                tracing::info!(server.uid = %found.uid, spawner = name, "removing what is left of a server that ended");
                if let Err(error) = spawner.stop(&found.uid, &found.handle).await {
                    tracing::warn!(server.uid = %found.uid, error = %error, cause = error.cause(), "it cannot be removed yet");
                }
            } else {
                tracing::warn!(server.uid = %found.uid, spawner = name, "there is a server that the database does not know; it is left alone");
            }
        }
    }
    Ok(())
}
