//! Flavors and credits: which are in force, and how they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::Outpost;
use crate::admission::{Definitions, Document, Format, Kind, Normalise, Policy};
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::store::{NewVersion, Store};

/// How often somebody else may be faster.
const ROUNDS: usize = 10;

/// The most characters of the first difference in a version's summary.
const LONGEST_SUMMARY: usize = 100;

/// The largest file of flavors or credits, in bytes.
const LARGEST: u64 = 4 << 20;

/// `[flavors]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Flavors, their limits, and who has which: YAML as for the Python service, or the same in TOML or JSON, by the file's
    /// ending. Applied at start and whenever it changes.
    pub file: Option<PathBuf>,
    /// Credits, likewise.
    pub credits_file: Option<PathBuf>,
    /// How long before the end of its run time a server's user is told.
    #[serde(with = "humantime_serde")]
    pub warn_before: Duration,
    /// What is done to the attributes of a user before they are matched.
    pub authentication: Normalise,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            file: None,
            credits_file: None,
            warn_before: Duration::from_secs(600),
            authentication: Normalise::default(),
        }
    }
}

impl Settings {
    /// The files, by what they define.
    #[must_use]
    pub fn files(&self) -> Vec<(Kind, &Path)> {
        let files = [(Kind::Flavors, &self.file), (Kind::Credits, &self.credits_file)];
        files.into_iter().filter_map(|(kind, file)| Some((kind, file.as_deref()?))).collect()
    }

    /// Reads the files, and says what in them may not be meant so.
    ///
    /// # Errors
    /// A sentence that names the file, the line and the key.
    pub fn check_files(&self) -> Result<Vec<String>, String> {
        let mut warnings = Vec::new();
        for (kind, path) in self.files() {
            let (document, _) = read_file(kind, path)?;
            warnings.extend(document.warnings().iter().map(|warning| format!("{}: {warning}", path.display())));
        }
        Ok(warnings)
    }
}

/// The definitions that are in force, and their versions (flavors, credits; 0: none).
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// What is defined.
    pub definitions: Definitions,
    /// The versions of flavors and credits.
    pub versions: [i64; 2],
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The version that is in force now.
    pub version: i64,
    /// What differs from the one before, a line each; none: nothing does, and the version stayed.
    pub differences: Vec<String>,
    /// What may not be meant so.
    pub warnings: Vec<String>,
    /// Whether there is a new version.
    pub made: bool,
}

/// Which version a change is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    /// Whichever is in force, and nothing as well.
    Whichever,
    /// Whichever is in force: something has to be defined.
    Something,
    /// This one; 0: nothing was ever defined.
    Version(i64),
}

impl Expected {
    const fn is(self, version: i64) -> bool {
        match self {
            Self::Whichever => true,
            Self::Something => version > 0,
            Self::Version(expected) => version == expected,
        }
    }
}

/// Reads a file of flavors or credits, and gives its digest.
///
/// # Errors
/// A sentence that names the file, the line and the key.
pub fn read_file(kind: Kind, path: &Path) -> Result<(Document, String), String> {
    let text = read_text(path)?;
    let document = Document::parse(kind, &text, format_of(path));
    let document = document.map_err(|mistake| format!("{}: {mistake}", path.display()))?;
    let digest = Sha256::digest(text.as_bytes());
    Ok((document, digest.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Reads a file of one flavor or credit.
///
/// # Errors
/// As for [`read_file`].
pub fn read_entry(kind: Kind, name: &str, path: &Path) -> Result<Value, String> {
    let entry = Document::parse_entry(kind, name, &read_text(path)?, format_of(path));
    entry.map_err(|mistake| format!("{}: {mistake}", path.display()))
}

fn read_text(path: &Path) -> Result<String, String> {
    let fail = |mistake: String| format!("{}: {mistake}", path.display());
    let size = std::fs::metadata(path).map_err(|error| fail(format!("cannot be read: {error}")))?.len();
    if size > LARGEST {
        return Err(fail(format!("has {size} bytes; {LARGEST} are the most that is read")));
    }
    let text = config::read_text(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    if text.trim().is_empty() {
        return Err(fail("is empty, which is taken for a file that is still being written".to_owned()));
    }
    Ok(text)
}

/// How a file is written, by its ending.
fn format_of(path: &Path) -> Format {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => Format::Toml,
        Some("json") => Format::Json,
        _ => Format::Yaml,
    }
}

/// Makes a new version out of the newest one. Whoever is not the first tries again on what is the newest then, if that is
/// still `expected`.
///
/// # Errors
/// What `change` says; [`Error::Refused`]: what is in force is not what is expected; the database does not answer.
pub async fn change(
    store: &Store,
    kind: Kind,
    author: &str,
    digest: Option<&str>,
    expected: Expected,
    change: impl Fn(Option<&Document>) -> Result<Document, String>,
) -> Result<Changed> {
    for _ in 0..ROUNDS {
        let newest = store.definitions(kind.as_str()).await?;
        let version = newest.as_ref().map_or(0, |newest| newest.version);
        // Another Outpost may have applied the same file a moment ago, and somebody may have changed it since.
        if digest.is_some() && store.applied_digest(kind.as_str()).await?.as_deref() == digest {
            return Ok(Changed { version, differences: Vec::new(), warnings: Vec::new(), made: false });
        }
        if !expected.is(version) {
            break;
        }
        let before = newest.map(|newest| stored(kind, &newest.document)).transpose()?;
        let after = change(before.as_ref()).map_err(|mistake| Error::invalid(kind.as_str(), mistake))?;
        let differences = match &before {
            Some(before) => before.differences(&after),
            None => Document::empty(kind).map_err(Error::internal)?.differences(&after),
        };
        let warnings = after.warnings().to_vec();
        if before.is_some() && differences.is_empty() && digest.is_none() {
            return Ok(Changed { version, differences, warnings, made: false });
        }
        let document = serde_json::to_string(after.raw()).map_err(Error::internal)?;
        let short = |line: &str| match line.char_indices().nth(LONGEST_SUMMARY) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        };
        let summary = match differences.as_slice() {
            [] => "no difference".to_owned(),
            [only] => short(only),
            [first, rest @ ..] => format!("{} (and {} more)", short(first), rest.len()),
        };
        let new = NewVersion {
            kind: kind.as_str(),
            replaces: version,
            document: &document,
            author,
            summary: &summary,
            digest,
        };
        if store.add_definitions(&new).await? {
            return Ok(Changed { version: version + 1, differences, warnings, made: true });
        }
    }
    let sentence = match expected {
        Expected::Something => "Nothing is defined yet, so that there is nothing to change.",
        _ => "Somebody else changed this at the same time. Please look at it and try again.",
    };
    Err(Error::Refused(sentence.to_owned()))
}

/// Reads a document of the database.
///
/// # Errors
/// [`Error::Internal`]: it is none.
pub fn stored(kind: Kind, text: &str) -> Result<Document> {
    Document::parse(kind, text, Format::Json)
        .map_err(|mistake| Error::internal(format!("the stored {} cannot be read: {mistake}", kind.as_str())))
}

/// What is in force according to the database. (The command line has no more than that.)
///
/// # Errors
/// The database does not answer, or holds what cannot be read.
pub async fn in_force(store: &Store) -> Result<InForce> {
    let mut in_force = InForce::default();
    for (at, kind) in [Kind::Flavors, Kind::Credits].into_iter().enumerate() {
        if let Some(newest) = store.definitions(kind.as_str()).await? {
            let document = Some(Arc::new(stored(kind, &newest.document)?));
            in_force.versions[at] = newest.version;
            match kind {
                Kind::Flavors => in_force.definitions.flavors = document,
                Kind::Credits => in_force.definitions.credits = document,
            }
        }
    }
    Ok(in_force)
}

impl Outpost {
    /// What requests are weighed against.
    pub fn policy<'a>(&self, config: &'a Config, in_force: &'a InForce) -> Policy<'a> {
        Policy {
            rules: &config.overrides,
            definitions: &in_force.definitions,
            normalise: &config.flavors.authentication,
        }
    }

    /// Applies the files of the configuration that are other ones than those that were applied last: what was changed by other
    /// ways since then stays when a file does not change.
    ///
    /// # Errors
    /// [`Error::Internal`] with a sentence that names the file: the version before stays in force; the database does not
    /// answer.
    pub async fn apply_files(self: &Arc<Self>, settings: &Settings) -> Result<()> {
        for (kind, path) in settings.files() {
            let (document, digest) = read_file(kind, path).map_err(Error::internal)?;
            if self.store.applied_digest(kind.as_str()).await?.as_ref() == Some(&digest) {
                continue;
            }
            for warning in document.warnings() {
                tracing::warn!(file = %path.display(), warning, "this may not be meant so");
            }
            let changed =
                change(&self.store, kind, "file", Some(&digest), Expected::Whichever, |_| Ok(document.clone())).await?;
            tracing::info!(
                kind = kind.as_str(), file = %path.display(), version = changed.version,
                differences = changed.differences.len(), "a file was applied"
            );
        }
        self.refresh_definitions().await
    }

    /// Takes over what is newer in the database, and tells the hubs.
    ///
    /// # Errors
    /// The database does not answer, or holds what cannot be read; what was in force stays.
    pub async fn refresh_definitions(self: &Arc<Self>) -> Result<()> {
        let newest = self.store.newest_definitions().await?;
        let number =
            |kind: Kind| newest.iter().find(|(name, _)| name == kind.as_str()).map_or(0, |(_, number)| *number);
        if [number(Kind::Flavors), number(Kind::Credits)] == self.definitions.load().versions {
            return Ok(());
        }
        let in_force = in_force(&self.store).await?;
        tracing::info!(flavors = in_force.versions[0], credits = in_force.versions[1], "definitions are in force");
        self.definitions.store(Arc::new(in_force));
        self.flavor_updates.all_due(self);
        Ok(())
    }

    /// The flavors of a hub, or of one of its users where something is known about it, with their use by this hub. Those in
    /// use come first. Without definitions there are none, which allows everything.
    #[must_use]
    pub fn flavors(&self, hub: &str, authentication: &Map<String, Value>) -> Map<String, Value> {
        let (config, in_force) = (self.config.load(), self.definitions.load());
        let Ok(authentication) = normalised(&config, hub, authentication) else { return Map::new() };
        let selection = in_force.definitions.flavors(hub, &authentication);
        let used = self.view.use_of_flavors(hub);
        let (in_use, others): (Vec<_>, Vec<_>) =
            selection.entries.iter().partition(|entry| used.get(&entry.name).is_some_and(|used| *used > 0));
        in_use
            .into_iter()
            .chain(others)
            .map(|entry| {
                let mut flavor = Map::clone(&entry.raw);
                flavor.insert("current".to_owned(), used.get(&entry.name).copied().unwrap_or_default().into());
                (entry.name.to_string(), Value::Object(flavor))
            })
            .collect()
    }

    /// The credits of a hub, or of one of its users.
    #[must_use]
    pub fn credits(&self, hub: &str, authentication: &Map<String, Value>) -> Map<String, Value> {
        let (config, in_force) = (self.config.load(), self.definitions.load());
        let Ok(authentication) = normalised(&config, hub, authentication) else { return Map::new() };
        let selection = in_force.definitions.credits(hub, &authentication);
        if selection.forbidden {
            // What the Python service says instead of nothing.
            return [("cap", 0), ("grant_value", 0), ("grant_interval", 86_400)]
                .map(|(key, value)| (key.to_owned(), value.into()))
                .into_iter()
                .collect();
        }
        selection.entries.iter().map(|entry| (entry.name.to_string(), Value::Object(Map::clone(&entry.raw)))).collect()
    }
}

/// What is known about a user, as it is matched.
fn normalised(config: &Config, hub: &str, authentication: &Map<String, Value>) -> Result<Map<String, Value>, ()> {
    config.flavors.authentication.apply(hub, authentication.clone()).map_err(|mistake| {
        tracing::error!(hub.name = ?hub, mistake, "flavors.authentication fails: this user has no flavors");
    })
}
