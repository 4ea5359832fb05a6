//! `outpost ssh …`

use clap::Subcommand;

use super::output::json;
use super::{Context, FAILED, Failure, Outcome};
use crate::admin::{HostKeySummary, host_keys};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show by which host keys hubs know this installation, with the lines for their known_hosts files.
    Fingerprint {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make the next host key. To rotate: run this, have the hubs trust both keys, run it with `--finish`.
    Rotate {
        /// Put the next key in the current one's place; new connections get it within seconds.
        #[arg(long)]
        finish: bool,
    },
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let store = context.existing_store().await?;
    match command {
        Command::Fingerprint { json: as_json } => {
            let keys = host_keys(&store, &context.config).await?;
            if as_json {
                return json(&keys);
            }
            if keys.is_empty() {
                let text = "there is no host key yet; it is made when Outpost starts with `[ssh] listen`";
                return Err(Failure(FAILED, text.to_owned()));
            }
            show(&keys);
        }
        Command::Rotate { finish: false } => {
            context.admin(&store).rotate_host_key().await?;
            println!(
                "The next key is made. Add its line to the known_hosts files of all hubs, then run this with --finish.\n"
            );
            show(&host_keys(&store, &context.config).await?);
        }
        Command::Rotate { finish: true } => {
            context.admin(&store).finish_host_key_rotation().await?;
            println!("New connections get this key within seconds; open ones go on with the one before.\n");
            show(&host_keys(&store, &context.config).await?);
        }
    }
    Ok(())
}

fn show(keys: &[HostKeySummary]) {
    for key in keys {
        println!("{:<8} {} ({})", key.state, key.fingerprint, key.kind);
    }
    println!("\n# known_hosts");
    for key in keys {
        println!("{}", key.known_hosts.as_deref().unwrap_or(&key.public_key));
    }
    if keys.iter().any(|key| key.known_hosts.is_none()) {
        eprintln!("(The name is missing: set ssh.public_address to how hubs reach this machine.)");
    }
}
