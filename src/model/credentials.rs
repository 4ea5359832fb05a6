//! What looks like a credential.

/// Whether there is a URL in a text that says as whom to log in: `https://user:password@host`.
#[must_use]
pub fn has_login(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#')).unwrap_or(rest.len());
        rest[..end].contains('@')
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("postgresql://ada:pass@db/x", true)]
    #[case("https://token@example.org", true)]
    #[case("a, https://b.example.org/c and redis://:pass@d:1", true)]
    #[case("https://example.org/user/ada@example.org", false)]
    #[case("https://example.org?mail=ada@example.org", false)]
    #[case("ada:pass@example.org", false)]
    #[case("", false)]
    fn logins(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(has_login(text), expected);
    }
}
