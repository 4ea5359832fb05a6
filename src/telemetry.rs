//! Log lines. One reads alone and carries its facts as fields; what comes from a hub is quoted, and no secret is in it.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// `[log]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives as of tracing's `EnvFilter` (`info,outpost::hub=debug`). The SSH
    /// library says something only if it is named (`info,russh=debug`).
    pub level: String,
    /// `human` or `json`.
    pub format: Format,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Human }
    }
}

impl Settings {
    /// Checks the level.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        self.filter().map(drop)
    }

    fn filter(&self) -> Result<EnvFilter, String> {
        // A lone word that is no level would be taken for a module, and nothing else would be logged.
        for word in self.level.split(',').map(str::trim).filter(|word| !word.contains(['=', '[', ':'])) {
            if word.parse::<LevelFilter>().is_err() {
                return Err(format!("level: `{word}` is no log level; there are error, warn, info, debug and trace"));
            }
        }
        // Strangers decide what russh has to say; `ssh` tells what matters of it, bounded. Who wants it anyway names it.
        EnvFilter::try_new(format!("russh=off,{}", self.level))
            .map_err(|error| format!("level: `{}` is no log level: {error}", self.level))
    }
}

/// Changes the level while Outpost runs.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Takes over a level that was checked.
    ///
    /// # Errors
    /// A sentence.
    pub fn set(&self, settings: &Settings) -> Result<(), String> {
        self.0.reload(settings.filter()?).map_err(|error| format!("level: {error}"))
    }
}

/// Begins to write log lines, to standard error.
///
/// # Errors
/// A sentence: the level is none, or lines are being written already.
pub fn init(settings: &Settings) -> Result<Level, String> {
    let (filter, level) = reload::Layer::new(settings.filter()?);
    let lines = tracing_subscriber::registry().with(filter);
    let result = match settings.format {
        Format::Human => {
            // Colours are for people, not for a journal or a file.
            let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
            lines.with(layer.with_target(false)).try_init()
        }
        Format::Json => lines.with(fmt::layer().json().with_writer(std::io::stderr).with_current_span(true)).try_init(),
    };
    result.map_err(|error| format!("log: {error}"))?;
    Ok(Level(level))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tracing::enabled;

    use super::*;

    #[rstest]
    #[case("info", false)]
    #[case("trace", false)]
    #[case("info,outpost::ssh=debug", false)]
    #[case("info,russh=info", true)]
    #[case("info,russh::server=debug", true)]
    fn what_strangers_make_the_ssh_library_say_is_logged_only_if_it_is_wanted(
        #[case] level: &str,
        #[case] wanted: bool,
    ) {
        let filter = Settings { level: level.to_owned(), ..Settings::default() }.filter().unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter), || {
            assert_eq!(enabled!(target: "russh::server::encrypted", tracing::Level::INFO), wanted);
            assert!(!enabled!(target: "russh::client", tracing::Level::ERROR) || wanted);
            assert!(enabled!(target: "outpost::ssh", tracing::Level::INFO));
        });
    }
}
