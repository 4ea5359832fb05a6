//! Patterns over names, compiled when they are read. Matching never fails and never panics, whatever the text.

use std::fmt;

use fancy_regex::{Regex, RegexBuilder};
use globset::GlobMatcher;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// How many steps back a regular expression may take: whether one that needs more fits is not known.
const BACKTRACK_LIMIT: usize = 100_000;
/// The most bytes that a compiled regular expression may take up.
const COMPILED_SIZE: usize = 10 << 20;
/// The longest pattern, in bytes.
const LONGEST: usize = 4096;

/// What is not literal in a glob.
const GLOB_SIGNS: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// A name, in which `*` stands for any text, `?` for any character of ASCII, `[a-z]` for a set and `{a,b}` for a choice.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    /// Absent for a plain name.
    matcher: Option<GlobMatcher>,
}

impl Glob {
    /// Compiles a glob.
    ///
    /// # Errors
    /// A sentence that names it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut glob = Self { text: text.to_owned(), matcher: None };
        if text.len() > LONGEST {
            return Err(format!("a glob must not have more than {LONGEST} bytes"));
        }
        if text.contains(GLOB_SIGNS) {
            let compiled = globset::Glob::new(text);
            glob.matcher =
                Some(compiled.map_err(|error| format!("`{text}` is no glob: {}", error.kind()))?.compile_matcher());
        }
        Ok(glob)
    }

    /// Whether it stands for this text, which it does in any case for itself.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.text == text
            || self.matcher.as_ref().is_some_and(|matcher| {
                // Most names differ at their beginning, which is much cheaper to see.
                let literal = self.text.find(GLOB_SIGNS).unwrap_or(self.text.len());
                text.starts_with(&self.text[..literal]) && matcher.is_match(text)
            })
    }

    /// The glob as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// One or more globs: a text, or a list of texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Names(Vec<Glob>);

impl Names {
    /// Whether one of the globs stands for this text.
    #[must_use]
    pub fn fit(&self, text: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(text))
    }

    /// Whether they stand for any text.
    #[must_use]
    pub fn fit_all(&self) -> bool {
        self.0.iter().any(|glob| glob.text == "*")
    }

    /// Those that stand for none of these texts.
    pub fn idle(&self, texts: &[&str]) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|glob| !texts.iter().any(|text| glob.matches(text))).map(Glob::as_str)
    }

    /// Compiles the globs.
    ///
    /// # Errors
    /// A sentence that names the glob, or says that there is none.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let globs = texts.into_iter().map(Glob::parse).collect::<Result<Vec<_>, _>>()?;
        if globs.is_empty() { Err("expected at least one name".to_owned()) } else { Ok(Self(globs)) }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(|glob| format!("{:?}", glob.text)).collect();
        write!(f, "[{}]", texts.join(", "))
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor;

        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names, in which * and ? stand for any text and any character")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Names, E> {
                Names::parse([text]).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut texts: Vec<String> = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Names::parse(texts.iter().map(String::as_str)).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(NamesVisitor)
    }
}

/// A regular expression that has to fit all of a text, with the look-around of Python's.
#[derive(Clone, Debug)]
pub struct FullMatch {
    text: String,
    /// How many bytes at its beginning stand for themselves.
    literal: usize,
    regex: Regex,
}

impl FullMatch {
    /// Compiles a regular expression.
    ///
    /// # Errors
    /// A sentence with what is wrong about it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a regular expression must not have more than {LONGEST} bytes"));
        }
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern)
                .backtrack_limit(BACKTRACK_LIMIT)
                .delegate_size_limit(COMPILED_SIZE)
                .build()
                .map_err(|error| format!("`{text}` is no regular expression: {error}"))
        };
        // By itself first: `a)|(b` is sound only between our parentheses.
        compile(text)?;
        Ok(Self { text: text.to_owned(), literal: literal_prefix(text), regex: compile(&format!(r"\A(?:{text})\z"))? })
    }

    /// Whether all of the text fits. `None`: that would take too many steps to find out.
    #[must_use]
    pub fn matches(&self, text: &str) -> Option<bool> {
        if text.starts_with(&self.text[..self.literal]) { self.regex.is_match(text).ok() } else { Some(false) }
    }

    /// The expression as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for FullMatch {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// The length of the text that everything a regular expression fits begins with: 0 where that is not plain to see.
fn literal_prefix(pattern: &str) -> usize {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '@' | '/' | '-' | '=' | ',');
    let end = pattern.find(|c| !is_plain(c)).unwrap_or(pattern.len());
    match pattern[end..].chars().next() {
        _ if pattern.contains('|') || pattern.contains("(?") => 0,
        Some('?' | '*' | '+' | '{') => end.saturating_sub(1),
        _ => end,
    }
}
#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("lab", "lab", true)]
    #[case("lab", "labs", false)]
    #[case("site/*", "site/lab/5", true)]
    #[case("h?b", "hub", true)]
    #[case("*", "", true)]
    #[case("", "", true)]
    #[case("", "x", false)]
    #[case("[a]", "[a]", true)]
    #[case("hub{1,2}", "hub2", true)]
    fn globs(#[case] glob: &str, #[case] text: &str, #[case] fits: bool) {
        assert_eq!(Glob::parse(glob).unwrap().matches(text), fits);
    }

    #[rstest]
    #[case("names = 5", "a name or a list of names")]
    #[case("names = []", "at least one name")]
    #[case("names = ['a', 1]", "expected a string")]
    #[case("names = ['[a']", "is no glob")]
    fn mistakes(#[case] toml: &str, #[case] expected: &str) {
        #[derive(Debug, Deserialize)]
        struct Holder {
            #[expect(dead_code)]
            names: Names,
        }
        let error = toml::from_str::<Holder>(toml).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("line 1"), "{error}");
    }

    proptest! {
        #[test]
        fn looking_at_the_beginning_first_changes_nothing(pattern in "[ab:]{0,3}[a.*+?{}0-2()|\\\\]{0,5}", text in "[ab:]{0,5}") {
            if let Ok(regex) = FullMatch::parse(&pattern) {
                prop_assert_eq!(regex.matches(&text), regex.regex.is_match(&text).ok());
            }
            if let Ok(Glob { matcher: Some(matcher), text: glob }) = Glob::parse(&pattern) {
                let compiled = Glob { matcher: Some(matcher.clone()), text: glob };
                prop_assert_eq!(compiled.matches(&text), matcher.is_match(&text) || pattern == text);
            }
        }
    }
}
