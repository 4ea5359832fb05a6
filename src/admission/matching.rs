//! What documents of flavors compare hubs and attributes of users with.

use serde_json::Value;

use crate::model::{FullMatch, Glob};

/// What a document of flavors compares a hub or an attribute of a user with.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// One of these, as they are.
    Members(Vec<Value>),
    /// A text that is tried as each of these, and literally.
    Text {
        /// As it is written.
        text: String,
        /// As a regular expression.
        regex: Option<Box<FullMatch>>,
        /// As a glob.
        glob: Option<Box<Glob>>,
    },
}

impl Pattern {
    /// A pattern for names of hubs: a text is a glob only if it is no regular expression.
    #[must_use]
    pub fn of_hub(value: &Value) -> Option<Self> {
        Some(match Self::of_attribute(value)? {
            Self::Text { text, regex: Some(regex), .. } => Self::Text { text, regex: Some(regex), glob: None },
            pattern => pattern,
        })
    }

    /// A pattern for attributes of users: a text is tried as a regular expression and as a glob. `None` for a value that is
    /// neither a text nor a list, number or boolean.
    #[must_use]
    pub fn of_attribute(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text {
                text: text.clone(),
                regex: FullMatch::parse(text).ok().map(Box::new),
                glob: Glob::parse(text).ok().map(Box::new),
            }),
            Value::Array(members) => Some(Self::Members(members.clone())),
            Value::Number(_) | Value::Bool(_) => Some(Self::Members(vec![value.clone()])),
            Value::Null | Value::Object(_) => None,
        }
    }

    /// Whether it fits this text. `None`: that is not known.
    #[must_use]
    pub fn fits_text(&self, candidate: &str) -> Option<bool> {
        match self {
            Self::Members(members) => Some(members.iter().any(|member| member.as_str() == Some(candidate))),
            Self::Text { text, glob, .. }
                if text == candidate || glob.as_ref().is_some_and(|glob| glob.matches(candidate)) =>
            {
                Some(true)
            }
            Self::Text { regex, .. } => regex.as_ref().map_or(Some(false), |regex| regex.matches(candidate)),
        }
    }

    /// Whether it fits this value or, of a list, any element. `None`: that is not known.
    #[must_use]
    pub fn fits(&self, candidate: &Value) -> Option<bool> {
        let Value::Array(elements) = candidate else { return self.fits_scalar(candidate) };
        let mut fits = Some(false);
        for element in elements {
            match self.fits_scalar(element) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => fits = None,
            }
        }
        fits
    }

    fn fits_scalar(&self, candidate: &Value) -> Option<bool> {
        match (self, candidate) {
            (_, Value::String(text)) => self.fits_text(text),
            (Self::Members(members), candidate) => Some(members.contains(candidate)),
            (Self::Text { .. }, _) => Some(false),
        }
    }

    /// What looks like a regular expression and is none, so that it stands for less than was meant: why.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let Self::Text { text, regex: None, glob } = self else { return None };
        let signs: &[char] =
            if glob.is_some() { &['(', ')', '|', '+', '^', '$', '\\'] } else { &['(', ')', '[', ']', '{', '}'] };
        let mistake = FullMatch::parse(text).err()?;
        text.contains(signs).then(|| format!("{mistake}, so that it is taken as it stands or as a glob"))
    }
}
#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!("hub.*"), "hub1", true)]
    #[case(json!("hub"), "hub1", false)]
    #[case(json!("hub*"), "hub1", false)] // a regular expression: `hu`, and any number of `b`
    #[case(json!("*hub"), "my-hub", true)] // none, so a glob
    #[case(json!("hub[1"), "hub[1", true)] // neither
    #[case(json!(["hub1", "hub.*"]), "hub1", true)]
    #[case(json!(["hub1", "hub.*"]), "hub2", false)]
    #[case(json!(r"(?!old).*"), "new", true)]
    #[case(json!(r"(?!old).*"), "old-hub", false)]
    #[case(json!("a|ab"), "ab", true)]
    #[case(json!("a)|(b"), "b", false)]
    fn hubs(#[case] pattern: Value, #[case] hub: &str, #[case] fits: bool) {
        assert_eq!(Pattern::of_hub(&pattern).unwrap().fits_text(hub), Some(fits));
    }

    #[rstest]
    #[case(json!(".*@site.org"), json!("ada@site.org"), true)]
    #[case(json!(".*@site.org"), json!("ada@site.org.evil"), false)]
    #[case(json!("ada*"), json!("adam"), true)] // as a glob
    #[case(json!("urn:*:group"), json!(["x", "urn:a:group"]), true)]
    #[case(json!("urn:geant:group"), json!(["x"]), false)]
    #[case(json!(["a", "b"]), json!("b"), true)]
    #[case(json!(["a", "b"]), json!(["c", "b"]), true)]
    #[case(json!(["a.*"]), json!("ab"), false)]
    #[case(json!(true), json!(true), true)]
    #[case(json!([1]), json!(1), true)]
    #[case(json!(".*"), json!({"a": 1}), false)]
    #[case(json!(".*"), json!(null), false)]
    fn attributes(#[case] pattern: Value, #[case] value: Value, #[case] fits: bool) {
        assert_eq!(Pattern::of_attribute(&pattern).unwrap().fits(&value), Some(fits));
    }

    #[test]
    fn whether_an_expression_fits_that_goes_back_for_ever_is_not_known() {
        let pattern = Pattern::of_attribute(&json!(r"(a|b|ab)*(?=c)")).unwrap();
        let text = "ab".repeat(50);
        assert_eq!(pattern.fits(&json!(text)), None);
        assert_eq!(pattern.fits(&json!([text, "x"])), None);
        assert_eq!(pattern.fits(&json!([text, r"(a|b|ab)*(?=c)"])), Some(true), "another element fits");
    }

    #[rstest]
    #[case(json!("(b"), true)]
    #[case(json!("hub[1"), true)]
    #[case(json!("*(a|b)"), true)]
    #[case(json!("*-hub"), false)]
    #[case(json!("*[0-9]"), false)]
    #[case(json!("a.*"), false)]
    #[case(json!(["(b"]), false)]
    fn a_broken_expression_is_doubtful(#[case] pattern: Value, #[case] doubtful: bool) {
        assert_eq!(Pattern::of_attribute(&pattern).unwrap().doubt().is_some(), doubtful);
    }

    proptest! {
        #[test]
        fn matching_is_total(pattern in ".{0,40}", text in any::<String>()) {
            for compiled in [Pattern::of_hub(&json!(pattern)), Pattern::of_attribute(&json!(pattern))] {
                let compiled = compiled.unwrap();
                let _ = compiled.fits_text(&text);
                prop_assert_eq!(compiled.fits_text(&pattern), Some(true), "a text fits itself");
            }
        }

        #[test]
        fn odd_patterns_do_not_panic(pattern in r"[*?\[\]{}()|+\\^$a-c!:=<>.,0-9]{0,30}", text in r"[a-c*\[\]\n/]{0,20}") {
            let _ = Pattern::of_attribute(&json!(pattern)).unwrap().fits_text(&text);
        }
    }
}
