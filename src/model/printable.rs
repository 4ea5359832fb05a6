//! Text from hubs, for terminals: what could steer one is shown as an escape.

/// Whether a character steers a terminal or turns the direction of what follows.
const fn steers(char: char) -> bool {
    matches!(char, '\0'..='\x1f' | '\x7f'..='\u{9f}')
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with escapes as in `\n` and `\u{1b}`.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|char| if steers(char) { char.escape_default().to_string() } else { char.to_string() }).collect()
}

/// JSON that means the same, with escapes as in `\u009b`. The ends of its lines stay.
#[must_use]
pub fn printable_json(json: String) -> String {
    let steers = |char: char| char != '\n' && steers(char);
    if !json.contains(steers) {
        return json;
    }
    let escaped = |char: char| if steers(char) { format!("\\u{:04x}", u32::from(char)) } else { char.to_string() };
    json.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that steers is in the first plane, of which JSON's escapes have the four digits.
    #[test]
    fn nothing_steers_a_terminal() {
        let bad = ['\0', '\n', '\r', '\t', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}', '\u{61c}', '\u{200e}', '\u{200f}'];
        let bidi = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let text: String = bad.into_iter().chain(bidi).chain("jürgen 🐧".chars()).collect();
        let shown = printable(&text);
        assert!(!shown.contains(steers) && shown.starts_with("\\u{0}\\n\\r\\t\\u{1b}"), "{shown}");
        assert!(shown.ends_with("jürgen 🐧"), "{shown}");
        let json = printable_json(serde_json::to_string_pretty(&[&text]).unwrap());
        assert!(!json.lines().any(|line| line.contains(steers)) && json.lines().count() == 3, "{json}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
    }
}
