//! `outpost hub ssh-key …`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::super::output::{json, table, time};
use super::super::{BAD_CONFIGURATION, Context, FAILED, Failure, Outcome};
use crate::admin::{SshKeySummary, ssh_keys};
use crate::model::AuthorizedKey;

#[derive(Subcommand)]
pub(in crate::cli) enum Command {
    /// Let a hub forward with a key. One that it has already gets the options of this line.
    Add {
        /// The hub's name.
        name: String,
        /// The public key, as a line of authorized_keys, in quotes; `-` reads lines from standard input.
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        line: Option<String>,
        /// A file of such lines, as ~/.ssh/id_ed25519.pub.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the keys of a hub, or of all.
    List {
        /// The hub's name.
        name: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a key from a hub. Its connections end.
    Remove {
        /// The hub's name.
        name: String,
        /// The key's fingerprint (`SHA256:…`) or its comment.
        key: String,
    },
}

pub(in crate::cli) async fn run(context: &Context, command: Command) -> Outcome {
    let store = context.existing_store().await?;
    let admin = context.admin(&store);
    match command {
        Command::Add { name, line, file, json: as_json } => {
            let before = ssh_keys(&store, None).await?;
            let mut added = Vec::new();
            for key in read(line, file.as_deref())? {
                added.push(admin.add_ssh_key(&name, &key).await?);
            }
            if as_json {
                return json(&added);
            }
            for key in added {
                println!("Hub {:?} may forward with {}.", key.hub, key.fingerprint);
                let known = before.iter().find(|known| known.fingerprint == key.fingerprint);
                if let Some(known) = known.filter(|known| known.options != key.options) {
                    println!("Its options were {}, and are {} now.", or_none(&known.options), or_none(&key.options));
                }
                if let Some(problem) = key.problem {
                    eprintln!("It is of no use, though: {problem}.");
                }
            }
            Ok(())
        }
        Command::List { name, json: as_json } => {
            let keys = ssh_keys(&store, name.as_deref()).await?;
            if as_json { json(&keys) } else { list(keys) }
        }
        Command::Remove { name, key } => {
            let fingerprint = admin.remove_ssh_key(&name, &key).await?;
            println!("Hub {name:?} may not forward with {fingerprint} any more.");
            Ok(())
        }
    }
}

fn or_none(options: &str) -> &str {
    if options.is_empty() { "none" } else { options }
}

/// The keys of a line, of a file, or of standard input; one at least.
fn read(line: Option<String>, file: Option<&Path>) -> Result<Vec<AuthorizedKey>, Failure> {
    let wrong = |text: String| Failure(BAD_CONFIGURATION, text);
    let (place, text) = match (line, file) {
        (Some(line), _) if line != "-" => {
            return Ok(vec![AuthorizedKey::parse(&line).map_err(|mistake| wrong(format!("the key {mistake}")))?]);
        }
        (_, Some(file)) if file != Path::new("-") => (file.display().to_string(), std::fs::read_to_string(file)),
        _ => {
            let mut text = String::new();
            ("standard input".to_owned(), std::io::stdin().read_to_string(&mut text).map(|_| text))
        }
    };
    let text = text.map_err(|error| Failure(FAILED, format!("{place} cannot be read: {error}")))?;
    let keys = AuthorizedKey::parse_file(&text).map_err(|mistake| wrong(format!("{place}: {mistake}")))?;
    if keys.is_empty() { Err(wrong(format!("{place} holds no key"))) } else { Ok(keys) }
}

fn list(keys: Vec<SshKeySummary>) -> Outcome {
    let rows = keys.into_iter().map(|key| {
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        vec![
            key.hub,
            key.fingerprint,
            format!("{} {}", key.kind, key.bits),
            or_dash(key.options),
            or_dash(key.comment),
            key.source,
            key.expires_at.map_or_else(|| "-".to_owned(), time),
            or_dash(key.problem.unwrap_or_default()),
        ]
    });
    table(
        &["HUB", "FINGERPRINT", "TYPE", "OPTIONS", "COMMENT", "FROM", "EXPIRES (UTC)", "OF NO USE"],
        rows,
        "There are no SSH keys yet; `outpost hub ssh-key add` adds one.",
    );
    Ok(())
}
