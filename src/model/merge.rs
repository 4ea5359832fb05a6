//! Options over options.

use serde_json::{Map, Value};

/// Puts `over` over `base`: objects merge key by key, `null` stands for "delete" until [`without_nulls`], everything else
/// replaces. The order of `base` stays; what is new comes after it.
pub fn merge(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            (Some(under), value) => *under = value,
            (None, value) => drop(base.insert(key, value)),
        }
    }
}

/// Carries out the deletions. `environment` keeps its own: there they delete variables of the hub.
pub fn without_nulls(options: &mut Map<String, Value>) {
    options.retain(|key, value| {
        if let Value::Object(inner) = value
            && key != "environment"
        {
            without_nulls(inner);
        }
        !value.is_null()
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn merged(base: &Value, over: &Value) -> Value {
        let mut base = base.as_object().unwrap().clone();
        merge(&mut base, over.as_object().unwrap().clone());
        Value::Object(base)
    }

    #[rstest]
    #[case(json!({"a": 1}), json!({"a": 2, "b": 3}), json!({"a": 2, "b": 3}))]
    #[case(json!({"a": {"x": 1, "y": 2}}), json!({"a": {"y": 3}}), json!({"a": {"x": 1, "y": 3}}))]
    #[case(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}))]
    #[case(json!({"a": {"x": 1}}), json!({"a": 5}), json!({"a": 5}))]
    #[case(json!({"a": {"x": 1, "y": 2}, "b": 1}), json!({"a": {"x": null}, "b": null}), json!({"a": {"y": 2}}))]
    #[case(json!({}), json!({"environment": {"A": null}}), json!({"environment": {"A": null}}))]
    fn options_over_options(#[case] base: Value, #[case] over: Value, #[case] expected: Value) {
        let mut result = merged(&base, &over).as_object().unwrap().clone();
        without_nulls(&mut result);
        assert_eq!(Value::Object(result), expected);
    }

    /// Objects of one shape: `a`, `b` hold numbers or nothing, `c` is an object.
    fn shaped() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(None), Just(Some(Value::Null)), (0..5).prop_map(|number| Some(json!(number)))];
        (leaf.clone(), leaf.clone(), proptest::option::of((leaf.clone(), leaf))).prop_map(|(a, b, c)| {
            let object = |entries: [(&str, Option<Value>); 2]| -> Value {
                entries
                    .into_iter()
                    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                    .collect::<Map<_, _>>()
                    .into()
            };
            let mut value = object([("a", a), ("b", b)]);
            if let Some((x, y)) = c {
                value["c"] = object([("x", x), ("y", y)]);
            }
            value
        })
    }

    proptest! {
        #[test]
        fn merging_is_associative_where_shapes_agree(a in shaped(), b in shaped(), c in shaped()) {
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        }

        #[test]
        fn nothing_changes_nothing(a in shaped()) {
            prop_assert_eq!(merged(&a, &json!({})), a.clone());
            prop_assert_eq!(merged(&json!({}), &a), a.clone());
            prop_assert_eq!(merged(&a, &a), a);
        }

        #[test]
        fn null_deletes(a in shaped(), key in "[abc]") {
            let mut result = merged(&a, &json!({&key: null})).as_object().unwrap().clone();
            without_nulls(&mut result);
            prop_assert!(!result.contains_key(&key));
        }
    }
}
