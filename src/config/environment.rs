//! The environment variables of the Python service, so that its deployments carry over. A key that is in the
//! configuration file as well wins over its variable.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;

use super::{Config, Secret};

/// The variables that Outpost was started with.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// A hub's name and password.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The hub's name.
    pub hub: String,
    /// Its password.
    pub password: SecretString,
}

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// Some variables, for tests.
    #[must_use]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `usernames` and `passwords`, separated by `;` and paired by position; empty parts are dropped first, as the Python
    /// service does.
    ///
    /// # Errors
    /// A sentence, if the two lists are not equally long.
    pub fn credentials(&self) -> Result<Vec<Credential>, String> {
        let list = |name: &str| -> Vec<String> {
            let value = self.get(name).unwrap_or_default();
            value.split(';').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let (names, passwords) = (list("usernames"), list("passwords"));
        if names.len() != passwords.len() {
            return Err(format!(
                "the environment variables `usernames` and `passwords` have {} and {} entries; they are paired by position",
                names.len(),
                passwords.len()
            ));
        }
        for name in &names {
            crate::hub::check_name(name)
                .map_err(|mistake| format!("the environment variable `usernames`: {name:?} {mistake}"))?;
        }
        Ok(names
            .into_iter()
            .zip(passwords)
            .map(|(hub, password)| Credential { hub, password: password.into() })
            .collect())
    }

    /// Puts the variables under the configuration.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), String> {
        if config.http.base_path.is_empty()
            && let Some(path) = self.get("OUTPOST_BASE_PATH")
        {
            path.clone_into(&mut config.http.base_path);
        }
        for (file, variable) in [
            (&mut config.flavors.file, "OUTPOST_FLAVORS_PATH"),
            (&mut config.flavors.credits_file, "OUTPOST_CREDITS_PATH"),
        ] {
            if file.is_none() {
                *file = self.get(variable).map(PathBuf::from);
            }
        }
        if config.store.keys.is_empty() && self.get("OUTPOST_CRYPT_KEY").is_some() {
            config.store.keys.push(Secret::Env("OUTPOST_CRYPT_KEY".to_owned()));
        }
        if config.http.tls_cert.is_none() && config.http.tls_key.is_none() {
            config.http.tls_cert = self.get("GUNICORN_SSL_CRT").map(PathBuf::from);
            config.http.tls_key = self.get("GUNICORN_SSL_KEY").map(PathBuf::from);
        }
        if config.store.url.is_none() {
            self.apply_sql(config)?;
        }
        self.credentials().map(drop)
    }

    fn apply_sql(&self, config: &mut Config) -> Result<(), String> {
        match self.get("SQL_TYPE") {
            None if self.get("SQL_DATABASE_URL").is_none() => {}
            None | Some("sqlite" | "sqlite+pysqlite") => {
                if let Some(path) = self.get("SQL_DATABASE_URL") {
                    // SQLAlchemy: `sqlite://` and this; after one more slash comes the path.
                    config.store.url = Some(format!("sqlite:{}", path.strip_prefix('/').unwrap_or(path)));
                }
            }
            Some("postgresql") => {
                let need = |name| {
                    self.get(name).ok_or(format!("the environment variable {name} is needed with SQL_TYPE=postgresql"))
                };
                let mut url = url::Url::parse("postgresql://localhost").map_err(|error| error.to_string())?;
                let bad = |name| format!("the environment variable {name} does not fit into a PostgreSQL URL");
                url.set_host(Some(need("SQL_HOST")?)).map_err(|_| bad("SQL_HOST"))?;
                let port = self.get("SQL_PORT").unwrap_or("5432").parse().map_err(|_| bad("SQL_PORT"))?;
                url.set_port(Some(port)).map_err(|()| bad("SQL_PORT"))?;
                url.set_username(need("SQL_USER")?).map_err(|()| bad("SQL_USER"))?;
                url.set_path(need("SQL_DATABASE")?);
                config.store.url = Some(url.to_string());
                if config.store.password.is_none() && self.get("SQL_PASSWORD").is_some() {
                    config.store.password = Some(Secret::Env("SQL_PASSWORD".to_owned()));
                }
            }
            Some(other) => {
                return Err(format!(
                    "the environment variable SQL_TYPE is {other:?}; it has to be sqlite, sqlite+pysqlite or postgresql"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn the_variables_of_the_python_service_are_understood() {
        let environment = Environment::of(&[
            ("SQL_TYPE", "postgresql"),
            ("SQL_HOST", "db"),
            ("SQL_USER", "u"),
            ("SQL_DATABASE", "outpost"),
            ("SQL_PASSWORD", "p"),
            ("OUTPOST_BASE_PATH", "/outpost"),
            ("usernames", "a;;b"),
            ("passwords", "1;2;"),
        ]);
        let mut config = Config::default();
        environment.apply(&mut config).unwrap();
        assert_eq!(config.store.url.as_deref(), Some("postgresql://u@db:5432/outpost"));
        assert_eq!(config.store.password, Some(Secret::Env("SQL_PASSWORD".to_owned())));
        assert_eq!(config.http.base_path, "/outpost");
        let pairs: Vec<_> = environment.credentials().unwrap();
        assert_eq!((pairs[1].hub.as_str(), pairs[1].password.expose_secret()), ("b", "2"));
    }

    #[test]
    fn lists_of_different_length_are_refused() {
        let error = Environment::of(&[("usernames", "a;b"), ("passwords", "s3cret")]).credentials().unwrap_err();
        assert!(error.contains("2 and 1 entries") && !error.contains("s3cret"), "{error}");
    }
}
