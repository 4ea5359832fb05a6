use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// Name, slug, slug for a label and slug of old versions, as KubeSpawner 7.1 makes them.
#[rstest]
#[case("", "x---e3b0c442", "", "")]
#[case("has-hyphen", "has-hyphen", "has-hyphen", "has-2dhyphen")]
#[case("Capital", "capital---1a1cf792", "Capital", "-43apital")]
#[case("ALLCAPS", "allcaps---27c6794c", "ALLCAPS", "-41-4c-4c-43-41-50-53")]
#[case(
    "a-very-long-name-that-is-too-long-for-sixty-four-character-labels",
    "a-very-long-name-that-is-too-long-for---29ac5fd2",
    "a-very-long-name-that---29ac5fd2",
    "a-2dvery-2dlong-2dname-2dthat-2dis-2dtoo-2dlong-2dfor-2dsixty-2dfour-2dcharacter-2dlabels"
)]
#[case("jupyter", "jupyter", "jupyter", "jupyter")]
#[case("abc-123", "abc-123", "abc-123", "abc-2d123")]
#[case("a", "a", "a", "a")]
#[case("A", "a---559aead0", "A", "-41")]
#[case("user@email.com", "user-email-com---0925f997", "user-email-com---0925f997", "user-40email-2ecom")]
#[case("Some Name", "some-name---3a8b1764", "some-name---3a8b1764", "-53ome-20-4eame")]
#[case("user--name", "user-name---49c4bf12", "user-name---49c4bf12", "user-2d-2dname")]
#[case("-a", "a---c2748917", "a---c2748917", "-2da")]
#[case("a-", "a---9baf4407", "a---9baf4407", "a-2d")]
#[case("1", "x-1---6b86b273", "1", "1")]
#[case("1a", "x-1a---a73fcf33", "1a", "1a")]
#[case("x---b", "x-b---ce170a95", "x-b---ce170a95", "x-2d-2d-2db")]
#[case("\u{e4}", "x---33e6d73f", "x---33e6d73f", "-c3-a4")]
#[case("Gr\u{fc}\u{df}e", "gr-e---f83e0397", "gr-e---f83e0397", "-47r-c3-bc-c3-9fe")]
#[case("\u{7528}\u{6237}", "x---0d0e1a86", "x---0d0e1a86", "-e7-94-a8-e6-88-b7")]
#[case("\u{e9}", "x---4a99557e", "x---4a99557e", "-c3-a9")]
#[case("a_b", "a-b---648fa9b3", "a_b", "a-5fb")]
#[case("a.b", "a-b---2e7336dc", "a.b", "a-2eb")]
#[case("UPPER", "upper---9cba1c65", "UPPER", "-55-50-50-45-52")]
#[case(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)]
#[case(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa---8f9bec6a",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)]
#[case(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa---7d3e74a0",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)]
#[case(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa---ffe054fe",
    "aaaaaaaaaaaaaaaaaaaaa---ffe054fe",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)]
#[case(
    "1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "x-1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa---361478c0",
    "1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)]
#[case(
    "1-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a",
    "x-1-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a---1a4bcfba",
    "x-1-a-a-a-a-a-a-a-a-a---1a4bcfba",
    "1-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da-2da"
)]
#[case("a\u{a}", "a---87428fc5", "a---87428fc5", "a-a")]
#[case("a b  c", "a-b-c---67f6081a", "a-b-c---67f6081a", "a-20b-20-20c")]
#[case("\u{212a}", "k---2bc4fb87", "k---2bc4fb87", "-e2-84-aa")]
#[case("\u{130}", "i---a65018cf", "i---a65018cf", "-c4-b0")]
#[case("\u{17f}", "x---3a421dcc", "x---3a421dcc", "-c5-bf")]
#[case("a-b--c", "a-b-c---72010136", "a-b-c---72010136", "a-2db-2d-2dc")]
#[case("--", "x---d8156bae", "x---d8156bae", "-2d-2d")]
#[case("---", "x---cb3f91d5", "x---cb3f91d5", "-2d-2d-2d")]
#[case("x", "x", "x", "x")]
#[case("user-", "user---b5d4a457", "user---b5d4a457", "user-2d")]
#[case("_", "x---d2e2adf7", "x---d2e2adf7", "-5f")]
#[case(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbbbbbb",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa---528ca492",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbbbbbb",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-2dbbbbbbbbbbbbbbbbbbbb"
)]
#[case(
    "Some-Very-Long_name@of.some.site.example.org with spaces",
    "some-very-long-name-of-some-site-exam---7bf602a0",
    "some-very-long-name-o---7bf602a0",
    "-53ome-2d-56ery-2d-4cong-5fname-40of-2esome-2esite-2eexample-2eorg-20with-20spaces"
)]
#[case("\u{1f600}", "x---f0443a34", "x---f0443a34", "-f0-9f-98-80")]
#[case("\u{a}\u{1}", "x---426e75c2", "x---426e75c2", "-a-1")]
#[case("a\u{0}b", "a-b---59b271ae", "a-b---59b271ae", "a-0b")]
#[case(
    "1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbbbbbb",
    "x-1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa----6e745eae",
    "1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbbbbbb",
    "1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-2dbbbbbbbbbbbbbbbbbbbb"
)]
#[case(
    "12345678901234567890123456789012345678901234567890",
    "x-12345678901234567890123456789012345---f58fffba",
    "12345678901234567890123456789012345678901234567890",
    "12345678901234567890123456789012345678901234567890"
)]
fn slugs_are_those_of_kubespawner(
    #[case] name: &str,
    #[case] slug: &str,
    #[case] of_label: &str,
    #[case] escaped: &str,
) {
    assert_eq!((safe(name).as_str(), label(name).as_str(), escape(name).as_str()), (slug, of_label, escaped));
}

#[rstest]
#[case("user", "", "user")]
#[case("user@email.com", "", "user-email-com---0925f997")]
#[case("user", "Some Name", "user--some-name---3a8b1764")]
#[case("user@email.com", "Some Name", "user-email-com---0925f997--some-name---3a8b1764")]
#[case("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "", "aaaaaaaaaaaaaaaaa--x---51eb9331")]
#[case("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
#[case("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "", "aaaaaaaaaaaaaaaaa--x---b191b19d")]
#[case("aaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaaaaaaaaa--bbbbbbbbbbbbbbbbbbbbbbb")]
#[case("aaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaaa--bbbbbbbbbbbbbbbbb---3aca0188")]
#[case("user", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "user--aaaaaaaaaaaaaaaaa---a20d8729")]
#[case("1", "2", "x-1---6b86b273--x-2---d4735e3a")]
#[case("\u{e9}", "\u{fc}", "x---4a99557e--x---607474ca")]
#[case(
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "1-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a",
    "xxxxxxxxxxxxxxxxx--x-1-a-a-a-a-a-a-a---ebed0b54"
)]
fn user_and_server_are_one_slug(#[case] user: &str, #[case] server: &str, #[case] slug: &str) {
    assert_eq!(user_server(user, server), slug);
}

proptest! {
    #[test]
    fn a_slug_is_a_name_that_kubernetes_takes(name in "\\PC{0,80}") {
        let slug = safe(&name);
        prop_assert!(is_object_name(&slug) && slug.len() <= FIELD, "{}", slug);
        let slug = label(&name);
        prop_assert!(slug.is_empty() || is_label_value(&slug), "{}", slug);
        let slug = pair(&name, &slug);
        prop_assert!(is_object_name(&slug) && slug.len() <= FIELD, "{}", slug);
    }

    #[test]
    fn slugs_differ_where_names_do(one in "[a-zA-Z0-9@. -]{0,60}", other in "[a-zA-Z0-9@. -]{0,60}") {
        prop_assert_eq!(safe(&one) == safe(&other), one == other);
        prop_assert_eq!(label(&one) == label(&other), one == other);
        prop_assert_eq!(escape(&one) == escape(&other), one == other);
        prop_assert_eq!(pair(&one, &other) == pair(&other, &one), one == other);
    }
}
