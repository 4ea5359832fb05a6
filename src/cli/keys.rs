//! `outpost keys …`

use clap::Subcommand;

use super::{Context, Outcome};
use crate::store::Ring;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print a new key for OUTPOST_CRYPT_KEY or a key file. Nothing is changed.
    Generate,
    /// Encrypt everything that is stored with the first of the configured keys.
    ///
    /// To rotate: put a new key before the old one (separated by a comma or a line break), restart Outpost, run this, take
    /// the old key away.
    Rotate,
}

pub(super) fn generate() -> Outcome {
    println!("{}", Ring::generate_key());
    Ok(())
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Generate => generate(),
        Command::Rotate => {
            let changed = {
                let store = context.existing_store().await?;
                context.admin(&store).rotate_keys().await?
            };
            println!("{changed} values were encrypted anew; all that is stored can be read with the first key alone.");
            Ok(())
        }
    }
}
