use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

fn profiles(value: Value) -> Result<Profiles, String> {
    Profiles::deserialize(&value).map_err(|error| error.to_string())
}

/// The image and the memory that this person gets with these choices, or the sentence.
fn chosen(profiles: &Profiles, who: &Value, user_options: Value) -> Result<Value, String> {
    let text = |key: &'static str, default: &'static str| who[key].as_str().unwrap_or(default).to_owned();
    let groups: Vec<&str> = who["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (hub, user) = (text("hub", "hub1"), text("user", "ann"));
    let user_options = user_options.as_object().unwrap();
    let choice = Choice { hub: &hub, user: &user, groups: &groups, user_options };
    let mut merged = Map::new();
    for chosen in profiles.choose(&choice)? {
        crate::model::merge(&mut merged, chosen.filled());
    }
    Ok(Value::Object(merged))
}

fn site() -> Profiles {
    profiles(json!([
        {"display_name": "Small", "kubespawner_override": {"image": "small", "environment": {"A": "1"}}},
        {"display_name": "Big one", "default": true, "kubespawner_override": {"image": "big", "environment": {"A": "1", "B": "2"}},
         "profile_options": {
            "image": {"display_name": "Image", "choices": {
                "new": {"display_name": "New", "kubespawner_override": {"image": "new"}},
                "old": {"display_name": "Old", "default": true, "kubespawner_override": {"image": "old", "environment": {"B": null}}},
                "secret": {"display_name": "Secret", "users": "bob", "kubespawner_override": {"image": "secret"}}},
              "unlisted_choice": {"enabled": true, "validation_regex": "site/[a-z:]+", "validation_message": "Write site/….",
                "kubespawner_override": {"image": "r.example.org/{value}", "environment": {"N_{value}": "{value} {username}"}}}},
            "size": {"choices": {"s": {"kubespawner_override": {"mem_limit": "1G"}}, "l": {"kubespawner_override": {"mem_limit": "2G"}}}}}},
        {"display_name": "GPU", "hubs": ["hub2", "lab-*"], "kubespawner_override": {"image": "gpu"}},
        {"display_name": "Staff", "slug": "crew", "groups": ["staff"], "kubespawner_override": {"image": "crew"}}
    ]))
    .unwrap()
}

#[rstest]
#[case(json!({}), json!({"image": "old", "environment": {"A": "1", "B": null}, "mem_limit": "1G"}))]
#[case(json!({"profile": ""}), json!({"image": "old", "environment": {"A": "1", "B": null}, "mem_limit": "1G"}))]
#[case(json!({"profile": "small", "image": "new"}), json!({"image": "small", "environment": {"A": "1"}}))]
#[case(json!({"profile": "big-one", "image": "new", "size": "l", "other": 5}),
    json!({"image": "new", "environment": {"A": "1", "B": "2"}, "mem_limit": "2G"}))]
#[case(json!({"profile": "big-one", "image": "new", "image--unlisted-choice": "site/lab:a"}),
    json!({"image": "r.example.org/site/lab:a", "mem_limit": "1G",
        "environment": {"A": "1", "B": "2", "N_site/lab:a": "site/lab:a {username}"}}))]
fn what_is_chosen_is_merged_in_order(#[case] user_options: Value, #[case] expected: Value) {
    assert_eq!(chosen(&site(), &json!({}), user_options), Ok(expected));
}

#[rstest]
#[case(json!({}), json!({"profile": "none"}),
    r#"There is no profile "none" for you on this system. You can choose "small", "big-one"."#)]
#[case(json!({}), json!({"profile": "gpu"}), r#"There is no profile "gpu" for you"#)]
#[case(json!({"groups": ["students"]}), json!({"profile": "crew"}), r#"There is no profile "crew" for you"#)]
#[case(json!({}), json!({"profile": 5}), r#"The choice "profile" has to be a text."#)]
#[case(json!({}), json!({"image": "other"}),
    r#"There is no choice "other" for "Image" of the profile "Big one". You can choose "new", "old"."#)]
#[case(json!({}), json!({"image": "secret"}), r#"There is no choice "secret""#)]
#[case(json!({}), json!({"size--unlisted-choice": "x"}), "You cannot write a value of your own")]
#[case(json!({}), json!({"image--unlisted-choice": "other/x"}), "What you wrote for \"Image\" of the profile \"Big one\" is not")]
// All of the text has to fit, not only its beginning as in Python.
#[case(json!({}), json!({"image--unlisted-choice": "site/x@evil"}), "Write site/….")]
fn what_cannot_be_had_is_told(#[case] who: Value, #[case] user_options: Value, #[case] sentence: &str) {
    let refusal = chosen(&site(), &who, user_options).unwrap_err();
    assert!(refusal.contains(sentence), "{refusal}");
}

#[rstest]
#[case(json!({"hub": "lab-5"}), "gpu", "gpu")]
#[case(json!({"groups": ["a", "staff"]}), "crew", "crew")]
#[case(json!({"user": "bob"}), "small", "small")]
fn profiles_are_for_hubs_groups_and_users(#[case] who: Value, #[case] profile: &str, #[case] image: &str) {
    assert_eq!(chosen(&site(), &who, json!({"profile": profile})).unwrap()["image"], image);
}

#[test]
fn choices_are_for_users_too() {
    assert_eq!(chosen(&site(), &json!({"user": "bob"}), json!({"image": "secret"})).unwrap()["image"], "secret");
}

#[test]
fn without_profiles_everything_fits() {
    assert_eq!(chosen(&Profiles::default(), &json!({}), json!({"profile": "x"})), Ok(json!({})));
    let none = profiles(json!([{"display_name": "A", "users": ["bob"]}])).unwrap();
    assert_eq!(chosen(&none, &json!({}), json!({})), Err("There is no profile for you on this system.".to_owned()));
}

#[test]
fn a_default_that_somebody_cannot_have_is_not_taken() {
    let profiles = profiles(json!([
        {"display_name": "A", "default": true, "users": ["bob"], "kubespawner_override": {"image": "a"}},
        {"display_name": "B", "kubespawner_override": {"image": "b"}, "profile_options": {"o": {"choices": {
            "x": {"default": true, "groups": ["staff"], "kubespawner_override": {"image": "x"}},
            "y": {"kubespawner_override": {"image": "y"}}}}}},
    ]));
    let profiles = profiles.unwrap();
    assert_eq!(chosen(&profiles, &json!({}), json!({})).unwrap()["image"], "y");
    assert_eq!(chosen(&profiles, &json!({"groups": ["staff"]}), json!({})).unwrap()["image"], "x");
}

#[test]
fn a_value_that_has_to_be_written_is_asked_for() {
    let profiles =
        profiles(json!([{"display_name": "A", "profile_options": {"o": {"unlisted_choice": {"enabled": true}}}}]));
    let refusal = chosen(&profiles.unwrap(), &json!({}), json!({})).unwrap_err();
    assert_eq!(refusal, "Please write a value for \"o\" of the profile \"A\".");
}

#[test]
fn a_patch_that_deletes_is_null_in_tables() {
    let delete = json!({"$patch": "delete"});
    let overrides = json!({"uid": delete, "node_selector": {"a": delete, "b": "1"}, "args": [delete]});
    let read = json!({"uid": null, "node_selector": {"a": null, "b": "1"}, "args": [delete]});
    let choice = json!({"choices": {"c": {"kubespawner_override": overrides}},
        "unlisted_choice": {"enabled": true, "kubespawner_override": overrides}});
    let profiles =
        profiles(json!([{"display_name": "A", "kubespawner_override": overrides, "profile_options": {"o": choice}}]))
            .unwrap();
    let profile = &profiles.0[0];
    let option = &profile.profile_options[0].1;
    let all = [
        &profile.kubespawner_override,
        &option.choices[0].1.kubespawner_override,
        &option.unlisted_choice.kubespawner_override,
    ];
    all.into_iter().for_each(|overrides| assert_eq!(json!(overrides), read));
}

#[test]
fn a_table_counts_in_the_order_of_its_keys() {
    let profiles = profiles(json!({"b": {"display_name": "B"}, "a": {"display_name": "A A"}})).unwrap();
    let slugs: Vec<_> = profiles.0.iter().map(|profile| profile.slug.as_str()).collect();
    assert_eq!(slugs, ["a-a", "b"]);
}

#[rstest]
#[case(json!([{"slug": "x"}]), "missing field `display_name`")]
#[case(json!([{"display_name": "A", "allowed_groups": ["x"]}]), "unknown field `allowed_groups`")]
#[case(json!([{"display_name": "A"}, {"display_name": "a"}]), "two profiles have the slug \"a\"")]
#[case(json!([{"display_name": "A", "kubespawner_override": {"profile_list": []}}]), "`profile_list` is no option")]
#[case(json!([{"display_name": "A", "profile_options": {"o": {}}}]), "an option \"o\" without choices")]
#[case(json!([{"display_name": "A", "profile_options": {"o": {"unlisted_choice": {"validation_regex": "("}}}}]), "is no regular expression")]
#[case(json!([{"display_name": "A", "users": []}]), "at least one name")]
#[case(json!("x"), "a list or a table of profiles")]
fn mistakes(#[case] value: Value, #[case] expected: &str) {
    let mistake = profiles(value).unwrap_err();
    assert!(mistake.contains(expected), "{mistake}");
}

proptest! {
    #[test]
    fn no_choice_makes_it_panic(profile in "[a-z-]{0,8}", option in "[a-z-]{0,12}", value in "\\PC{0,20}") {
        let _ = chosen(&site(), &json!({}), json!({"profile": profile, option: value}));
    }

    #[test]
    fn what_a_user_writes_is_no_template(value in "\\PC{0,20}") {
        let options = json!({"environment": {"A": "{value}"}, "image": "{value}"});
        let filled = Override { options: options.as_object().unwrap(), value: Some(&value) }.filled();
        prop_assert_eq!(&filled["image"], &json!(value.clone()));
        let template = crate::model::Template::parse(filled["environment"]["A"].as_str().unwrap(), &[]).unwrap();
        prop_assert_eq!(template.render(&[].into()).unwrap(), value);
    }
}
