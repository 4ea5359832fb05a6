//! What is told about options: to users, so that neither their hub's secrets nor endless texts are in it.

use serde_json::Value;

use crate::model::{Counted, has_login, quantity};

/// The most characters of a name or a value that are repeated.
const LONGEST: usize = 80;

const END: &str = "Please choose another option or ask the administrators of the system.";

/// The name of an option, quoted.
pub fn quoted(key: &str) -> String {
    shortened(&format!("{key:?}"))
}

/// The option with its value, unless that may be a secret: `"image" with the value "x"`.
pub fn with_value(key: &str, value: &Value) -> String {
    match key {
        "environment" | "args" | "cmd" => quoted(key),
        _ if is_secret(key, value) => quoted(key),
        _ => format!("{} with the value {}", quoted(key), shortened(&value.to_string())),
    }
}

/// How much an option may be, in units that people know: `4 GiB`, `2 CPUs`.
pub fn amount(key: &str, written: &Value) -> String {
    match (key, quantity(key, written)) {
        ("mem_limit" | "mem_guarantee", Ok(bytes)) => Counted::Memory.in_words(bytes as i64),
        ("cpu_limit" | "cpu_guarantee", Ok(processors)) => Counted::Cpu.in_words((processors * 1000.0) as i64),
        _ => written.to_string(),
    }
}

/// The sentence of a start that is refused: each option with the reason as a part of a sentence ("it …").
pub fn refusal(refused: &[(String, String)]) -> String {
    match refused {
        [(option, why)] => {
            format!("The option {option} is not allowed for this JupyterHub on this system: {why}. {END}")
        }
        several => {
            let several: Vec<_> = several.iter().map(|(option, why)| format!("{option} ({why})")).collect();
            format!("These options are not allowed for this JupyterHub on this system: {}. {END}", several.join("; "))
        }
    }
}

/// The line of progress about an option that was left out.
pub fn dropped(option: &str, why: &str) -> String {
    format!("This server starts without the option {option}: {why}.")
}

fn is_secret(key: &str, value: &Value) -> bool {
    const SIGNS: [&str; 8] = ["token", "secret", "pass", "pwd", "key", "credential", "auth", "cookie"];
    let key = key.to_ascii_lowercase();
    SIGNS.iter().any(|sign| key.contains(sign))
        || match value {
            Value::Object(entries) => entries.iter().any(|(key, value)| is_secret(key, value)),
            // A variable of Kubernetes has its name as a value: {"name": "TOKEN", "value": …}.
            Value::Array(elements) => elements.iter().any(|element| element.is_object() || is_secret("", element)),
            Value::String(text) => has_login(text),
            _ => false,
        }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
