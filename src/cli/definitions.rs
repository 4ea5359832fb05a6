//! `outpost flavors …` and `outpost credits …`: the same for both.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{json, table, time};
use super::{BAD_CONFIGURATION, Context, Failure, Outcome};
use crate::admin::{definition, definition_versions};
use crate::admission::{Document, Format, Kind};
use crate::model::printable;
use crate::outpost::{Changed, Expected, read_entry, read_file};
use crate::store::Store;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show what is defined, as YAML.
    Show {
        /// Show an older version.
        #[arg(long, value_name = "VERSION", conflicts_with = "versions")]
        at: Option<i64>,
        /// Show which versions there are, the newest first.
        #[arg(long)]
        versions: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replace everything that is defined by a file, and print what is different.
    Apply {
        /// YAML, or TOML or JSON by its ending; `-`: YAML from standard input.
        file: PathBuf,
        /// Only print what would be different.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Define one, or change some of its keys; the others stay as they are.
    Set(Set),
    /// Remove one.
    Remove {
        /// Its name.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what is different in a file.
    Diff {
        /// YAML, or TOML or JSON by its ending; `-`: YAML from standard input.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct Set {
    /// Its name.
    name: String,
    /// Keys and values: `max=5`, `resources.mem_limit=4G`. Values are YAML; `null` takes a key away.
    #[arg(value_name = "KEY=VALUE", required_unless_present = "file", value_parser = assignment)]
    keys: Vec<(String, Value)>,
    /// All of its keys, in a file: YAML, or TOML or JSON by its ending; `-`: YAML from standard input.
    #[arg(long, conflicts_with = "keys")]
    file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn assignment(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("has to be KEY=VALUE")?;
    let value = Format::Yaml.read(value).map_err(|error| format!("the value of {key} is no YAML: {error}"))?;
    Ok((key.to_owned(), value))
}

pub(super) async fn run(context: &Context, kind: Kind, command: Command) -> Outcome {
    let store = match command {
        Command::Apply { dry_run: false, .. } | Command::Set(_) => context.store().await?,
        _ => context.existing_store().await?,
    };
    let admin = context.admin(&store);
    let (changed, as_json) = match command {
        Command::Show { versions: true, json, .. } => return versions(&store, kind, json).await,
        Command::Show { at, json, .. } => return show(&store, kind, at, json).await,
        Command::Diff { file, json } | Command::Apply { file, dry_run: true, json } => {
            return diff(&store, &document(kind, &file)?, json).await;
        }
        Command::Apply { file, json, .. } => (admin.apply(&document(kind, &file)?, Expected::Whichever).await?, json),
        Command::Set(Set { name, file: Some(file), json, .. }) => {
            let entry = entry(kind, &name, &file)?;
            (admin.set_entry(kind, &name, &entry, Expected::Whichever).await?, json)
        }
        Command::Set(Set { name, keys, json, .. }) => (admin.set_keys(kind, &name, &keys).await?, json),
        Command::Remove { name, json } => (admin.remove_entry(kind, &name, Expected::Whichever).await?, json),
    };
    let Changed { version, differences, warnings, .. } = changed;
    tell(version, &differences, &warnings, as_json)?;
    if !as_json {
        println!("Version {version} of the {} is in force.", kind.as_str());
    }
    Ok(())
}

/// The document of a file.
fn document(kind: Kind, file: &Path) -> Result<Document, Failure> {
    let mistake = |text: String| Failure(BAD_CONFIGURATION, text);
    if file == Path::new("-") {
        let text = standard_input()?;
        return Document::parse(kind, &text, Format::Yaml).map_err(|error| mistake(format!("standard input: {error}")));
    }
    read_file(kind, file).map(|(document, _)| document).map_err(mistake)
}

/// One flavor or credit of a file.
fn entry(kind: Kind, name: &str, file: &Path) -> Result<Value, Failure> {
    let mistake = |text: String| Failure(BAD_CONFIGURATION, text);
    if file == Path::new("-") {
        let entry = Document::parse_entry(kind, name, &standard_input()?, Format::Yaml);
        return entry.map_err(|error| mistake(format!("standard input: {error}")));
    }
    read_entry(kind, name, file).map_err(mistake)
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Failure(BAD_CONFIGURATION, format!("standard input: {error}")))?;
    Ok(text)
}

async fn show(store: &Store, kind: Kind, at: Option<i64>, as_json: bool) -> Outcome {
    let definition = definition(store, kind, at).await?;
    let version = definition.version;
    if as_json {
        let mut shown = json!(version);
        shown["document"] = definition.document.raw().clone();
        return json(&shown);
    }
    match (version.author, version.changed_at) {
        (Some(author), Some(at)) => {
            println!("# {}, version {}, by {} at {} UTC", kind.as_str(), version.version, printable(&author), time(at));
            println!("# {}", printable(version.summary.as_deref().unwrap_or_default()));
            for line in definition.document.to_yaml().lines() {
                println!("{}", printable(line));
            }
        }
        _ => println!("# No {} are defined.", kind.as_str()),
    }
    Ok(())
}

async fn versions(store: &Store, kind: Kind, as_json: bool) -> Outcome {
    let versions = definition_versions(store, kind).await?;
    if as_json {
        return json(&versions);
    }
    let rows = versions.into_iter().map(|version| {
        vec![
            version.version.to_string(),
            version.author.unwrap_or_default(),
            version.changed_at.map(time).unwrap_or_default(),
            version.summary.unwrap_or_default(),
        ]
    });
    table(&["VERSION", "AUTHOR", "AT (UTC)", "CHANGE"], rows, "There are no versions yet.");
    Ok(())
}

async fn diff(store: &Store, document: &Document, as_json: bool) -> Outcome {
    let newest = definition(store, document.kind(), None).await?;
    let differences = newest.document.differences(document);
    tell(newest.version.version, &differences, document.warnings(), as_json)
}

fn tell(version: i64, differences: &[String], warnings: &[String], as_json: bool) -> Outcome {
    if as_json {
        return json(&json!({ "version": version, "differences": differences, "warnings": warnings }));
    }
    for warning in warnings {
        eprintln!("Warning: {}", printable(warning));
    }
    for line in differences {
        println!("{}", printable(line));
    }
    if differences.is_empty() {
        println!("Nothing is different.");
    }
    Ok(())
}
