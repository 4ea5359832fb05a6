//! What is different between two documents, for people.

use serde_json::Value;

/// One line a change, in the order of the documents.
pub fn between(old: &Value, new: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare(&mut Vec::new(), old, new, &mut lines);
    lines
}

/// Keys as one text; those that are no plain words are quoted.
pub fn dotted(path: &[String]) -> String {
    let is_plain =
        |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/'));
    let keys = path.iter().map(|key| if is_plain(key) { key.clone() } else { format!("{key:?}") });
    keys.collect::<Vec<_>>().join(".")
}

fn compare(path: &mut Vec<String>, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                path.push(key.clone());
                match new.get(key) {
                    Some(changed) => compare(path, value, changed, lines),
                    None => lines.push(format!("{}: {value} -> removed", dotted(path))),
                }
                path.pop();
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                path.push(key.clone());
                lines.push(format!("{}: added {value}", dotted(path)));
                path.pop();
            }
            // Of equally heavy sets the order decides.
            let kept = new.keys().filter(|key| old.contains_key(*key));
            if path.len() == 1 && !kept.eq(old.keys().filter(|key| new.contains_key(*key))) {
                lines.push(format!("{}: the order is another", dotted(path)));
            }
        }
        (old, new) if old == new => {}
        (old, new) if path.is_empty() => lines.push(format!("{old} -> {new}")),
        (old, new) => lines.push(format!("{}: {old} -> {new}", dotted(path))),
    }
}
