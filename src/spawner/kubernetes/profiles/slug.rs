//! Slugs of profiles' names, as the hub's form has them.

use deunicode::deunicode;

/// Small letters and digits of ASCII with single hyphens between, as Python's `slugify` makes them of a text.
#[must_use]
pub fn slugify(text: &str) -> String {
    let latin = deunicode(&text.replace('\'', "-")).to_lowercase();
    let mut slug = String::new();
    let mut letters = latin.chars().filter(|letter| *letter != '\'').peekable();
    while let Some(letter) = letters.next() {
        let in_number =
            slug.ends_with(|c: char| c.is_ascii_digit()) && letters.peek().is_some_and(char::is_ascii_digit);
        match letter {
            'a'..='z' | '0'..='9' => slug.push(letter),
            // The comma of a number, `1,000`.
            ',' if in_number => {}
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// As python-slugify 9 makes them.
    #[rstest]
    #[case("Small", "small")]
    #[case("Deep Learning (GPU)", "deep-learning-gpu")]
    #[case("8 CPUs, 1,000 GB", "8-cpus-1000-gb")]
    #[case("Große Maschine", "grosse-maschine")]
    #[case("L'été à Jülich", "l-ete-a-julich")]
    #[case("用户 環境", "yong-hu-huan-jing")]
    #[case("a_b.c", "a-b-c")]
    #[case("  x  ", "x")]
    #[case("--", "")]
    #[case("Ångström & Co.", "angstrom-co")]
    #[case("C++ / R", "c-r")]
    #[case("1,2 and 3, 4", "12-and-3-4")]
    #[case("It’s", "its")]
    #[case("naïve – test", "naive-test")]
    #[case("½ GPU", "1-2-gpu")]
    #[case("Python 3.11", "python-3-11")]
    fn slugs_are_those_of_python(#[case] name: &str, #[case] slug: &str) {
        assert_eq!(slugify(name), slug);
    }
}
