//! Expressions of the site's configuration in CEL: compiled and tried when they are read, bounded when they run.

mod bounds;
mod variables;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::{Env, ExecutionError, Program};
use serde_json::{Map, Value, json};

use self::bounds::Bounds;
pub use self::variables::Variables;

/// The longest expression, in bytes.
const LONGEST: usize = 2000;
/// The parser goes down into each parenthesis.
const PARSER_STACK: usize = 256 << 20;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What an expression is about, and what it has to give.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// `when` of a rule: true or false.
    Condition,
    /// `expression` of `[flavors.authentication]`: the attributes of a user.
    Attributes,
    /// `ssh_recreate_at_start` of a hub: true or false.
    Tunnel,
}

impl Purpose {
    /// The names of its variables.
    const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Condition => &["hub", "user", "groups", "misc", "user_options", "flavor", "profile"],
            Self::Attributes => &["hub", "authentication"],
            Self::Tunnel => &["hub", "server"],
        }
    }

    fn sample(self) -> Variables {
        let mut variables = Variables::default();
        for name in self.variables() {
            match *name {
                "groups" => variables.set(name, &json!(["group"])),
                "server" => variables.set(name, &super::tunnels::sample()),
                "misc" | "user_options" | "authentication" => variables.set(name, &Value::Object(Map::new())),
                _ => variables.set(name, &json!(name)),
            }
        }
        variables
    }

    fn takes(self, value: &cel::Value) -> Result<(), &'static str> {
        match (self, value) {
            (Self::Condition | Self::Tunnel, cel::Value::Bool(_)) | (Self::Attributes, cel::Value::Map(_)) => Ok(()),
            (Self::Condition | Self::Tunnel, _) => Err("its value is neither true nor false"),
            (Self::Attributes, _) => Err("its value is no map of attributes"),
        }
    }
}

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
    purpose: Purpose,
    program: Arc<Program>,
    bounds: Bounds,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        (self.purpose, &self.source) == (other.purpose, &other.source)
    }
}

impl Expression {
    /// Compiles an expression, checks its names and its size, and tries it on a sample.
    ///
    /// # Errors
    /// A sentence with what is wrong about it.
    pub fn parse(source: &str, purpose: Purpose) -> Result<Self, String> {
        let mistake = |what: &str| format!("`{source}` is no usable CEL expression: {what}");
        if source.len() > LONGEST {
            return Err(format!("a CEL expression must not have more than {LONGEST} bytes"));
        }
        let text = source.to_owned();
        let compile = move || {
            let program = ENVIRONMENT.compile(&text).map_err(|errors| errors.to_string())?;
            let bounds = Bounds::of(program.expression(), purpose.variables())?;
            Ok::<_, String>((program, bounds))
        };
        let compiled = std::thread::Builder::new()
            .stack_size(PARSER_STACK)
            .spawn(move || catch_unwind(AssertUnwindSafe(compile)))
            .map_err(|error| mistake(&format!("there is no thread to compile it: {error}")))?
            .join()
            .and_then(|compiled| compiled)
            .unwrap_or_else(|_| Err("it cannot be parsed".to_owned()));
        let (program, bounds) = compiled.map_err(|what| mistake(&what))?;
        let expression = Self { source: source.into(), purpose, program: Arc::new(program), bounds };
        match expression.run(&purpose.sample()) {
            Ok(value) => purpose.takes(&value).map_err(mistake)?,
            Err(Fault { of_the_data: true, .. }) => {}
            Err(fault) => return Err(mistake(&fault.cause)),
        }
        Ok(expression)
    }

    /// Evaluates a condition.
    ///
    /// # Errors
    /// Why it gives neither true nor false, for the log: no value of the request is in it.
    pub fn holds(&self, variables: &Variables) -> Result<bool, String> {
        match self.run(variables).map_err(|fault| fault.cause)? {
            cel::Value::Bool(holds) => Ok(holds),
            _ => Err("its value is neither true nor false".to_owned()),
        }
    }

    /// Evaluates an expression that gives attributes.
    ///
    /// # Errors
    /// Why it gives none, for the log: no value of the request is in it.
    pub fn attributes(&self, variables: &Variables) -> Result<Map<String, Value>, String> {
        let value = self.run(variables).map_err(|fault| fault.cause)?;
        match value.json() {
            Ok(Value::Object(attributes)) => Ok(attributes),
            _ => Err("its value is no map of attributes".to_owned()),
        }
    }

    /// The expression as it is written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    fn run(&self, variables: &Variables) -> Result<cel::Value, Fault> {
        self.bounds.check(variables.size()).map_err(|cause| Fault { cause, of_the_data: false })?;
        let run = || self.program.execute(variables.context());
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Fault::from(&error)),
            Err(_) => Err(Fault { cause: "it cannot be evaluated".to_owned(), of_the_data: false }),
        }
    }
}

/// Why an evaluation gave nothing.
struct Fault {
    cause: String,
    /// Whether another request may be without it, so that it says nothing about the expression.
    of_the_data: bool,
}

impl From<&ExecutionError> for Fault {
    /// Errors of the crate quote values of the request, which are none of the log's business: kinds are told, and names of
    /// the expression.
    fn from(error: &ExecutionError) -> Self {
        let data = |cause: &str| Self { cause: cause.to_owned(), of_the_data: true };
        let expression = |cause: String| Self { cause, of_the_data: false };
        match error {
            ExecutionError::NoSuchKey(_) => data("a key that it names is not there; `has(…)` asks whether one is"),
            ExecutionError::IndexOutOfBounds(_) => data("an element that it names is not there"),
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => data("it divides by zero"),
            ExecutionError::Overflow(..) => data("a number is too large"),
            ExecutionError::FunctionError { function, .. } => data(&format!("the function {function} fails")),
            ExecutionError::UndeclaredReference(name) => expression(format!("there is no {name}")),
            ExecutionError::NoSuchOverload(error) => expression(error.to_string()),
            _ => expression("values of these types do not go together".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn condition(source: &str) -> Result<Expression, String> {
        Expression::parse(source, Purpose::Condition)
    }

    fn variables(misc: &Value) -> Variables {
        let mut variables = Purpose::Condition.sample();
        variables.set("misc", misc);
        variables
    }

    #[rstest]
    #[case("true", true)]
    #[case("hub == 'hub' && 'group' in groups", true)]
    #[case("has(misc.cpu_limit) && misc.cpu_limit <= 2", true)]
    #[case("has(misc.no) && misc.no > 1", false)]
    #[case("misc.image.startsWith('site/')", true)]
    #[case("misc.list.all(x, x > 0) && size(misc.list) == 3", true)]
    #[case("misc.list.exists(x, x == 2) ? user == 'user' : false", true)]
    #[case("misc.cpu_limit + 1 == 3", true)]
    #[case("misc[?'nothing'].orValue('x') == 'x'", true)]
    #[case("misc.list.filter(x, x > 1).map(x, x * 2) == [4, 6]", true)]
    fn conditions(#[case] source: &str, #[case] expected: bool) {
        let misc = json!({"cpu_limit": 2, "image": "site/lab", "list": [1, 2, 3]});
        assert_eq!(condition(source).unwrap().holds(&variables(&misc)), Ok(expected), "{source}");
    }

    #[rstest]
    #[case("", "no usable CEL")]
    #[case("hub ==", "no usable CEL")]
    #[case("hubb == 'x'", "there is no variable hubb")]
    #[case("hub == 'x' && usr == 'y'", "there is no variable usr")]
    #[case("true || lower(hub) == 'x'", "there is no function lower")]
    #[case("hub.matches('x')", "there is no function matches")]
    #[case("groups.all(x, y == 'a')", "there is no variable y")]
    #[case("hub", "neither true nor false")]
    #[case("size(groups)", "neither true nor false")]
    #[case("hub + 1 == 'x'", "do not go together")]
    #[case("hub.size", "no usable CEL")]
    fn mistakes(#[case] source: &str, #[case] expected: &str) {
        let error = condition(source).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[rstest]
    #[case("misc.no == 1", "is not there")]
    #[case("misc.list[7] == 1", "is not there")]
    #[case("misc.secret", "neither true nor false")]
    #[case("1 / size(misc.none) == 1", "divides by zero")]
    #[case("misc.secret > 5", "found no matching")]
    #[case("int(misc.secret) > 5", "function")]
    fn a_failure_says_why_but_not_the_value(#[case] source: &str, #[case] expected: &str) {
        let misc = json!({"secret": "s3cret", "list": [], "none": []});
        let error = condition(source).unwrap().holds(&variables(&misc)).unwrap_err();
        assert!(
            (error.contains(expected) || error.contains("do not go together")) && !error.contains("s3cret"),
            "{error}"
        );
    }

    #[test]
    fn work_is_bounded() {
        let nested = condition("misc.l.all(a, misc.l.all(b, misc.l.all(c, a >= 0 && b >= 0 && c >= 0)))").unwrap();
        assert_eq!(nested.holds(&variables(&json!({"l": (0..20).collect::<Vec<_>>()}))), Ok(true));
        let error = nested.holds(&variables(&json!({"l": (0..500).collect::<Vec<_>>()}))).unwrap_err();
        assert!(error.contains("too much"), "{error}");
        let lists = json!({"l": vec!["x".repeat(50); 5000], "m": vec!["y".repeat(50); 5000]});
        for source in [
            "misc.l.exists(g, g in misc.m)",
            "misc.l.exists(g, misc.m == misc.l)",
            "misc.l.exists(g, size(misc.m + misc.l) == 0)",
            "misc.l.exists(g, misc.m[0].contains(g))",
        ] {
            let error = condition(source).unwrap().holds(&variables(&lists)).unwrap_err();
            assert!(error.contains("too much"), "{source}: {error}");
        }
        for source in ["misc.l.exists(g, g == 'x')", "misc.l.filter(g, g in ['x', 'y']).map(g, g).exists(g, g == 'x')"]
        {
            let short = json!({"l": vec!["z"; 50]});
            assert_eq!(condition(source).unwrap().holds(&variables(&short)), Ok(false), "{source}");
        }
        assert!(condition(&format!("hub == '{}'", "x".repeat(3000))).unwrap_err().contains("bytes"));
    }

    /// Web servers give threads 2 MiB.
    #[test]
    fn depth_is_bounded() {
        let sources = [
            format!("{}true{}", "(".repeat(990), ")".repeat(990)),
            format!("{}true", "!".repeat(1900)),
            format!("{}true", "! ".repeat(900)),
            format!("size({}{}) > 0", "[".repeat(900), "]".repeat(900)),
            format!("hub == {}", "-".repeat(1900)),
            vec!["hub == ''"; 150].join(" && "),
            vec!["hub"; 300].join(" + ") + " == ''",
            format!("hub{} == ''", "[0]".repeat(500)),
            format!("hub{} == ''", ".a".repeat(800)),
            format!("{}true{}", "true ? ".repeat(150), " : false".repeat(150)),
            "[".repeat(2000),
            "{".repeat(2000),
            "groups.all(x, ".repeat(60) + "true" + &")".repeat(60),
        ];
        let misc = json!({});
        let run = move || {
            for source in &sources {
                if let Ok(expression) = condition(source) {
                    let _ = expression.holds(&variables(&misc));
                }
            }
            let nested: [(&str, &str, &str); 6] = [
                ("(", "true", ")"),
                ("!", "true", ""),
                ("groups.all(x, ", "true", ")"),
                ("groups.exists(x, x == 'group' && ", "true", ")"),
                ("true ? (", "true", ") : false"),
                ("", "true", " && hub == 'hub'"),
            ];
            for (open, middle, close) in nested {
                let deeper = (1..200).map(|depth| open.repeat(depth) + middle + &close.repeat(depth));
                let sound: Vec<_> = deeper.map_while(|source| condition(&source).ok()).collect();
                assert!(sound.len() >= 2, "{open} {}", sound.len());
                assert_eq!(sound.last().unwrap().holds(&variables(&misc)).err(), None, "{open} {}", sound.len());
            }
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn attributes_are_a_map() {
        let expression = Expression::parse("{'name': authentication.name, 'hub': hub}", Purpose::Attributes).unwrap();
        let mut variables = Purpose::Attributes.sample();
        variables.set("authentication", &json!({"name": "ada"}));
        assert_eq!(Value::Object(expression.attributes(&variables).unwrap())["name"], "ada");
        assert!(Expression::parse("'x'", Purpose::Attributes).unwrap_err().contains("no map"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_text_panics(source in r#"[a-z"'()\[\]{}!&|.,?:+<=\- 0-9]{0,60}"#) {
            let _ = condition(&source);
        }
    }
}
