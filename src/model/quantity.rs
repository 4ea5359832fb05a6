//! How much a value is: one way to read amounts, wherever they stand.

use serde_json::Value;

/// How much a value is, in processors, bytes or devices. In `mem_limit`, `mem_guarantee` and `memory` it is a whole number of
/// bytes or a text in which the units K, M, G and T are powers of 1024, as in KubeSpawner; everything else is a quantity of
/// Kubernetes (`500m`, `2G`, `2Gi`, `1e3`). A limit of nothing is none: `mem_limit` is at least 1, `cpu_limit` 0.01.
///
/// # Errors
/// What was expected. The value is not repeated.
pub fn quantity(key: &str, value: &Value) -> Result<f64, String> {
    let (amount, expected) = match key {
        "mem_limit" | "mem_guarantee" | "memory" => {
            let least = if key == "mem_guarantee" { 0.0 } else { 1.0 };
            let bytes = bytes(value).filter(|bytes| *bytes >= least);
            (bytes, "expected a size in bytes like 2000000000 or \"2G\" (K, M, G and T are units)")
        }
        "cpu_limit" => {
            let processors = kubernetes(value).filter(|processors| *processors >= LEAST_PROCESSORS);
            (processors, "expected a number of processors like 2 or \"500m\", 0.01 or more")
        }
        _ => (kubernetes(value), "expected a quantity like 2, \"500m\" or \"2Gi\""),
    };
    amount.ok_or_else(|| expected.to_owned())
}

/// What is less cannot run anything.
const LEAST_PROCESSORS: f64 = 0.01;

/// Where numbers of bytes end.
const TOO_MANY_BYTES: f64 = (1_u64 << 60) as f64;

const BYTES: &[(&str, f64)] = &[("K", KIB), ("M", KIB * KIB), ("G", KIB * KIB * KIB), ("T", KIB * KIB * KIB * KIB)];

const KUBERNETES: &[(&str, f64)] = &[
    ("Ki", KIB),
    ("Mi", KIB * KIB),
    ("Gi", KIB * KIB * KIB),
    ("Ti", KIB * KIB * KIB * KIB),
    ("Pi", KIB * KIB * KIB * KIB * KIB),
    ("Ei", KIB * KIB * KIB * KIB * KIB * KIB),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

const KIB: f64 = 1024.0;

/// Whole bytes.
fn bytes(value: &Value) -> Option<f64> {
    let bytes = match value {
        Value::Number(number) => number.as_u64()? as f64,
        Value::String(text) => {
            let (number, factor) = unit(text.trim(), BYTES);
            decimal(number)? * factor
        }
        _ => return None,
    };
    (bytes < TOO_MANY_BYTES).then(|| bytes.trunc())
}

fn kubernetes(value: &Value) -> Option<f64> {
    let amount = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => return kubernetes_quantity(text),
        _ => return None,
    };
    Some(amount).filter(|amount| amount.is_finite() && *amount >= 0.0)
}

/// How much a quantity as Kubernetes writes it is: `500m`, `2Gi`, `1e3`. Nothing where it is none, or below nothing.
#[must_use]
pub fn kubernetes_quantity(text: &str) -> Option<f64> {
    let (number, factor) = unit(text, KUBERNETES);
    let amount = match number.split_once(['e', 'E']) {
        // An exponent takes the place of a unit.
        Some((digits, exponent)) if factor == 1.0 => decimal(digits)? * 10_f64.powi(exponent.parse().ok()?),
        _ => decimal(number)? * factor,
    };
    Some(amount).filter(|amount| amount.is_finite())
}

/// The number and what its unit stands for.
fn unit<'a>(text: &'a str, units: &[(&str, f64)]) -> (&'a str, f64) {
    units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor))).unwrap_or((text, 1.0))
}

/// Digits, with a point among them or not.
fn decimal(text: &str) -> Option<f64> {
    text.chars().all(|c| c.is_ascii_digit() || c == '.').then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("mem_limit", json!("2G"), Some(2_147_483_648.0))]
    #[case("mem_guarantee", json!("1.5K"), Some(1536.0))]
    #[case("mem_guarantee", json!(0), Some(0.0))]
    #[case("mem_limit", json!(" 1.5 "), Some(1.0))]
    #[case("mem_limit", json!(1000), Some(1000.0))]
    #[case("mem_limit", json!("2Gi"), None)]
    #[case("mem_limit", json!("2GB"), None)]
    #[case("mem_limit", json!("G"), None)]
    #[case("mem_limit", json!(0), None)]
    #[case("mem_limit", json!("0"), None)]
    #[case("mem_limit", json!("0.0001K"), None)]
    #[case("mem_limit", json!(1e9), None)]
    #[case("mem_limit", json!(1.5), None)]
    #[case("mem_limit", json!("1e9"), None)]
    #[case("mem_limit", json!("9999999999T"), None)]
    #[case("mem_limit", json!(-1), None)]
    #[case("cpu_limit", json!("500m"), Some(0.5))]
    #[case("cpu_limit", json!(1.5), Some(1.5))]
    #[case("cpu_limit", json!(0), None)]
    #[case("cpu_limit", json!("9m"), None)]
    #[case("cpu_guarantee", json!(0), Some(0.0))]
    #[case("memory.other", json!("2G"), Some(2e9))]
    #[case("ephemeral-storage", json!("2Gi"), Some(2_147_483_648.0))]
    #[case("ephemeral-storage", json!("1e3"), Some(1000.0))]
    #[case("ephemeral-storage", json!("1E"), Some(1e18))]
    #[case("nvidia.com/gpu", json!("2"), Some(2.0))]
    #[case("cpu_limit", json!(-1), None)]
    #[case("cpu_limit", json!("-1"), None)]
    #[case("cpu_limit", json!("NaN"), None)]
    #[case("cpu_limit", json!("inf"), None)]
    #[case("cpu_limit", json!("1e999"), None)]
    #[case("cpu_limit", json!("1e3m"), None)]
    #[case("cpu_limit", json!(""), None)]
    #[case("cpu_limit", json!("."), None)]
    #[case("cpu_limit", json!("m"), None)]
    #[case("cpu_limit", json!([1]), None)]
    #[case("cpu_limit", json!(true), None)]
    fn quantities(#[case] key: &str, #[case] value: Value, #[case] amount: Option<f64>) {
        assert_eq!(quantity(key, &value).ok(), amount);
    }

    proptest! {
        #[test]
        fn any_text_is_an_amount_or_none(text in any::<String>(), key in prop_oneof!["mem_limit", "cpu_limit", "x/gpu"]) {
            if let Ok(amount) = quantity(&key, &json!(text)) {
                prop_assert!(amount.is_finite() && amount >= 0.0);
            }
        }
    }
}
