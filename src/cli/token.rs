//! `outpost token …`

use chrono::TimeDelta;
use clap::{Subcommand, ValueEnum};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::output::{json, table, time};
use super::{Context, Outcome};
use crate::admin::{parse_length, tokens};
use crate::auth::TokenScope;
use crate::store::Store;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a token for the admin API and print it once.
    Add {
        /// What it is called in the audit table: who or what uses it.
        name: String,
        /// What it may do: look, or change things as well.
        #[arg(long, value_enum, default_value_t = Scope::Read)]
        scope: Scope,
        /// How long it is valid, for example 90d [default: until it is revoked]
        #[arg(long, value_name = "LENGTH", value_parser = parse_length)]
        expires: Option<TimeDelta>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the tokens, without their secrets.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a token at once.
    Revoke {
        /// Its name.
        name: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Scope {
    /// Look.
    Read,
    /// Look and change.
    Write,
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let store = match command {
        Command::Add { .. } => context.store().await?,
        _ => context.existing_store().await?,
    };
    match command {
        Command::Add { name, scope, expires, json: as_json } => {
            let scope = match scope {
                Scope::Read => TokenScope::Read,
                Scope::Write => TokenScope::Write,
            };
            let (token, expires_at) = context.admin(&store).add_token(&name, scope, expires).await?;
            context.say_where();
            let token = token.expose_secret();
            if as_json {
                let scope = scope.as_str();
                return json(&json!({ "name": name, "scope": scope, "expires_at": expires_at, "token": token }));
            }
            eprintln!("It is shown this once: send it as `Authorization: Bearer …` to http.admin_listen.");
            println!("{token}");
            Ok(())
        }
        Command::List { json } => list(&store, json).await,
        Command::Revoke { name } => {
            context.admin(&store).revoke_token(&name).await?;
            println!("Token {name:?} is not valid any more.");
            Ok(())
        }
    }
}

async fn list(store: &Store, as_json: bool) -> Outcome {
    let tokens = tokens(store).await?;
    if as_json {
        return json(&tokens);
    }
    let never = || "never".to_owned();
    let rows = tokens.into_iter().map(|token| {
        let expiry = token.expires_at.map_or_else(never, time);
        vec![
            token.name,
            token.scope,
            time(token.created_at),
            if token.expired { format!("{expiry} (over)") } else { expiry },
            token.used_at.map_or_else(never, time),
        ]
    });
    table(
        &["NAME", "SCOPE", "MADE (UTC)", "EXPIRES", "USED"],
        rows,
        "There are no tokens yet; `outpost token add NAME` makes one.",
    );
    Ok(())
}
