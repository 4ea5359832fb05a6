//! What a hub may ask of this backend (`misc` on the wire), typed. Admission has decided before which keys come through.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::values::{Argv, Bytes};
use crate::error::{Error, Result};
use crate::model::quantity;
use crate::spawner::OptionTable;

/// The options of this backend. Those that hand over the machine are never granted but by name.
pub const OPTIONS: OptionTable = OptionTable {
    known: &["port", "environment", "default_url", "notebook_dir", "cmd", "args", "mem_limit", "cpu_limit"],
    sensitive: &[
        ("cmd", "it decides which program runs on this machine"),
        ("args", "it can decide which program runs on this machine"),
    ],
    check: |key, value| {
        let alone = Map::from_iter([(key.to_owned(), value.clone())]);
        Options::read_typed(&alone).map(drop).map_err(|(_, expected)| expected.to_owned())
    },
};

/// An option, and what it has to be.
type Mistake = (&'static str, &'static str);

/// The options of one launch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The port that the hub proposes.
    pub port: Option<u16>,
    /// More variables, over the hub's and below the configuration's. `None` takes one of the hub's away.
    pub environment: BTreeMap<String, Option<String>>,
    /// Instead of the configuration's.
    pub default_url: Option<String>,
    /// Instead of the configuration's.
    pub notebook_dir: Option<String>,
    /// Instead of the configuration's.
    pub cmd: Option<Argv>,
    /// Instead of the configuration's.
    pub args: Option<Argv>,
    /// In bytes, instead of the configuration's: admission has decided how much it may be.
    pub mem_limit: Option<Bytes>,
    /// In processors, instead of the configuration's, likewise.
    pub cpu_limit: Option<f64>,
}

impl Options {
    /// Reads the options; `null` is absent, as are an empty command and the port 0.
    ///
    /// # Errors
    /// [`Error::Refused`] that names the key and what it has to be. The value is not repeated: it may be a secret.
    pub fn read(options: &Map<String, Value>) -> Result<Self> {
        Self::read_typed(options).map_err(|(key, expected)| {
            Error::Refused(format!("The option `{key}` of this JupyterHub has to be {expected}."))
        })
    }

    fn read_typed(options: &Map<String, Value>) -> Result<Self, Mistake> {
        Ok(Self {
            port: value(options, "port", "a port number")?.filter(|port| *port > 0),
            environment: environment(options)?,
            default_url: text(options, "default_url")?,
            notebook_dir: text(options, "notebook_dir")?,
            cmd: value(options, "cmd", "a program or a list of texts")?.filter(Argv::is_command),
            args: value(options, "args", "a text or a list of texts")?,
            mem_limit: value(options, "mem_limit", "a size in bytes like \"2G\"")?,
            cpu_limit: processors(options)?,
        })
    }
}

impl Argv {
    fn is_command(&self) -> bool {
        self.0.first().is_some_and(|program| !program.is_empty())
    }
}

fn value<T: DeserializeOwned>(
    options: &Map<String, Value>,
    key: &'static str,
    expected: &'static str,
) -> Result<Option<T>, Mistake> {
    match options.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value).map(Some).map_err(|_| (key, expected)),
    }
}

fn processors(options: &Map<String, Value>) -> Result<Option<f64>, Mistake> {
    let limit = options.get("cpu_limit").filter(|limit| !limit.is_null());
    let amount = limit.map(|limit| quantity("cpu_limit", limit)).transpose();
    amount.map_err(|_| ("cpu_limit", "a number of processors, 0.01 or more"))
}

fn text(options: &Map<String, Value>, key: &'static str) -> Result<Option<String>, Mistake> {
    match value::<String>(options, key, "a text")? {
        Some(text) if text.contains('\0') => Err((key, "a text without NUL characters")),
        text => Ok(text.filter(|text| !text.is_empty())),
    }
}

fn environment(options: &Map<String, Value>) -> Result<BTreeMap<String, Option<String>>, Mistake> {
    const EXPECTED: &str = "an object of variables whose values are texts, numbers, booleans or null";
    let sound = |name: &str, value: &str| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
    value::<BTreeMap<String, Value>>(options, "environment", EXPECTED)?
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| {
            // As Python's `str()`, like the environment of the request.
            let value = match value {
                Value::String(text) => Some(text),
                Value::Bool(true) => Some("True".to_owned()),
                Value::Bool(false) => Some("False".to_owned()),
                Value::Null => None,
                Value::Number(number) => Some(number.to_string()),
                Value::Array(_) | Value::Object(_) => return Err(("environment", EXPECTED)),
            };
            if sound(&name, value.as_deref().unwrap_or_default()) {
                Ok((name, value))
            } else {
                Err(("environment", EXPECTED))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Options> {
        Options::read(value.as_object().unwrap())
    }

    #[test]
    fn what_every_hub_sends_is_fine() {
        let options = read(json!({"dns_name_template": "x", "pod_name_template": "x", "internal_ssl": false,
            "port": 55713, "ip": "0.0.0.0", "services_enabled": true, "extra_labels": {}}));
        assert_eq!(options.unwrap(), Options { port: Some(55713), ..Options::default() });
        let nothing = json!({"port": 0, "cmd": [], "args": null, "environment": null, "default_url": ""});
        assert_eq!(read(nothing).unwrap(), Options::default());
    }

    #[test]
    fn a_script_is_one_argument() {
        let options = read(json!({"cmd": ["/bin/bash", "-lc"], "args": "echo a; echo b"})).unwrap();
        assert_eq!(options.args, Some(Argv(vec!["echo a; echo b".to_owned()])));
        assert_eq!(read(json!({"args": ["a", "b"]})).unwrap().args.unwrap().0, ["a", "b"]);
    }

    #[test]
    fn null_takes_a_variable_away() {
        let options = read(json!({"environment": {"A": null, "B": 1}})).unwrap();
        assert_eq!(options.environment, [("A".to_owned(), None), ("B".to_owned(), Some("1".to_owned()))].into());
    }

    #[test]
    fn processors_are_a_quantity() {
        assert_eq!(read(json!({"cpu_limit": "1500m"})).unwrap().cpu_limit, Some(1.5));
    }

    /// Else a flavor could be defined that nobody can start.
    #[rstest]
    fn what_a_flavor_may_say_can_be_started(
        #[values("mem_limit", "cpu_limit")] key: &str,
        #[values(json!("1G"), json!("1.5M"), json!("1e9"), json!(1e9), json!(1.5), json!(0), json!("0"), json!("0.001"), json!(-1),
            json!(1 << 30), json!("2Gi"), json!("500m"), json!("9m"), json!(" 1G "), json!("1E"), json!("9999T"), json!([]))]
        amount: Value,
    ) {
        let accepted = crate::model::check_resource(key, &amount).is_ok();
        assert_eq!(read(json!({key: amount})).is_ok(), accepted);
    }

    #[rstest]
    #[case("port", json!("x"))]
    #[case("port", json!(70000))]
    #[case("cmd", json!({}))]
    #[case("args", json!([1]))]
    #[case("mem_limit", json!("lots"))]
    #[case("cpu_limit", json!("s3cret"))]
    #[case("cpu_limit", json!(0))]
    #[case("environment", json!([]))]
    #[case("environment", json!({"A=": "x"}))]
    #[case("environment", json!({"A": {}}))]
    #[case("notebook_dir", json!("a\u{0}"))]
    fn a_wrong_type_is_refused_by_name(#[case] key: &str, #[case] value: Value) {
        let sentence = read(json!({key: value})).unwrap_err().to_string();
        assert!(sentence.contains(&format!("`{key}`")) && !sentence.contains("s3cret"), "{sentence}");
    }
}
