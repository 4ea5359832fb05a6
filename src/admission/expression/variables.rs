//! What expressions are evaluated over: JSON as values of CEL.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::Context;
use cel::objects::Key;
use serde_json::Value;

use super::ENVIRONMENT;

/// So many bytes of text count as one step.
const TEXT: usize = 64;

/// The variables of an evaluation.
pub struct Variables {
    context: Context<'static, 'static>,
    size: usize,
}

impl fmt::Debug for Variables {
    /// Without the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Default for Variables {
    fn default() -> Self {
        Self { context: Context::with_env(ENVIRONMENT.clone()), size: 0 }
    }
}

impl Variables {
    /// Sets a variable. All whole numbers become signed ones, so that they go with those of expressions.
    pub fn set(&mut self, name: &str, value: &Value) {
        let value = self.converted(value);
        self.context.add_variable_from_value(name, value);
    }

    pub(super) const fn context(&self) -> &Context<'static, 'static> {
        &self.context
    }

    /// How many values and pieces of text there are.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    fn converted(&mut self, value: &Value) -> cel::Value {
        self.size += 1;
        match value {
            Value::Null => cel::Value::Null,
            Value::Bool(value) => cel::Value::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => cel::Value::Int(whole),
                None => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => {
                self.size += text.len() / TEXT;
                cel::Value::String(Arc::new(text.clone()))
            }
            Value::Array(elements) => {
                cel::Value::List(Arc::new(elements.iter().map(|element| self.converted(element)).collect()))
            }
            Value::Object(entries) => {
                let entries = entries.iter().map(|(key, value)| (Key::from(key.as_str()), self.converted(value)));
                let map = Arc::new(entries.collect::<HashMap<_, _>>());
                cel::Value::Map(cel::objects::Map { map })
            }
        }
    }
}
