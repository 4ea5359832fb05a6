//! How deep an expression is and how often it can go over its input.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, operators};

/// The deepest expression, so that its evaluation stays within a thread's stack.
const DEEPEST: usize = 48;
/// The most steps through the input.
const STEPS: f64 = 1e6;

/// The functions of CEL that there are, beside its operators and macros.
const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "int",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
    "value",
];
/// Names of types, which are values in CEL.
const TYPES: &[&str] = &["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// What is known about an expression before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many loops are in each other, or feed each other.
    loops: i32,
    /// How many parts the expression has: lists that are written in it are input, too.
    parts: usize,
}

impl Bounds {
    /// Measures an expression that may use these variables.
    ///
    /// # Errors
    /// It is too deep, or names what there is not.
    pub fn of(expression: &IdedExpr, variables: &[&str]) -> Result<Self, String> {
        let mut walk = Walk { names: variables.to_vec(), results: Vec::new(), parts: 0 };
        let loops = walk.visit(expression, 0)?;
        Ok(Self { loops, parts: walk.parts })
    }

    /// Whether an evaluation over an input of this size is short.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, size: usize) -> Result<(), String> {
        let steps = ((size + self.parts) as f64).powi(self.loops);
        if steps <= STEPS { Ok(()) } else { Err("the request is too much for the loops of the expression".to_owned()) }
    }
}

struct Walk<'a> {
    names: Vec<&'a str>,
    /// What the loops around gather their results in.
    results: Vec<&'a str>,
    parts: usize,
}

impl<'a> Walk<'a> {
    /// Gives the number of loops.
    fn visit(&mut self, node: &'a IdedExpr, depth: usize) -> Result<i32, String> {
        if depth > DEEPEST {
            return Err(format!("its parts are more than {DEEPEST} deep in each other"));
        }
        self.parts += 1;
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(0),
            Expr::Ident(name) if self.names.contains(&name.as_str()) || TYPES.contains(&name.as_str()) => Ok(0),
            Expr::Ident(name) => Err(format!("there is no variable {name}, only {}", self.names.join(", "))),
            Expr::Select(select) => self.visit(&select.operand, depth + 1),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if name.starts_with(|first: char| first.is_ascii_alphabetic()) && !FUNCTIONS.contains(&name) {
                    return Err(format!("there is no function {name}, only {}", FUNCTIONS.join(", ")));
                }
                let loops = self.visit_all(call.target.as_deref().into_iter().chain(&call.args), depth)?;
                Ok(if !self.results.is_empty() && self.goes_through_input(call) { loops + 1 } else { loops })
            }
            Expr::List(list) => self.visit_all(&list.elements, depth),
            Expr::Map(map) => self.visit_entries(map.entries.iter().map(|entry| &entry.expr), depth),
            Expr::Struct(_) => Err("there are no messages to make".to_owned()),
            Expr::Comprehension(comprehension) => {
                let input = self.visit_all([&comprehension.iter_range, &comprehension.accu_init], depth)?;
                let outer = self.names.len();
                self.names.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                self.names.extend(comprehension.iter_var2.as_deref());
                self.results.push(comprehension.accu_var.as_str());
                let body = [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result];
                let inner = self.visit_all(body, depth);
                self.results.pop();
                self.names.truncate(outer);
                Ok(1 + input + inner?)
            }
        }
    }

    /// Whether a call is a loop of its own: it goes through lists or long texts.
    fn goes_through_input(&self, call: &CallExpr) -> bool {
        let literal = |node: &IdedExpr| matches!(node.expr, Expr::Literal(_));
        let literals = |node: &IdedExpr| matches!(&node.expr, Expr::List(list) if list.elements.iter().all(literal));
        let gathers =
            |node: &IdedExpr| matches!(&node.expr, Expr::Ident(name) if self.results.contains(&name.as_str()));
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::IN, [_, list]) => !literals(list),
            (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => !literal(one) && !literal(other),
            // The lists that `map` and `filter` make grow in their place.
            (operators::ADD, [list, _]) => !gathers(list),
            ("contains", _) => true,
            _ => false,
        }
    }

    fn visit_all(&mut self, nodes: impl IntoIterator<Item = &'a IdedExpr>, depth: usize) -> Result<i32, String> {
        nodes.into_iter().try_fold(0, |loops, node| Ok(loops.max(self.visit(node, depth + 1)?)))
    }

    fn visit_entries(&mut self, entries: impl Iterator<Item = &'a EntryExpr>, depth: usize) -> Result<i32, String> {
        entries
            .map(|entry| match entry {
                EntryExpr::MapEntry(entry) => self.visit_all([&entry.key, &entry.value], depth),
                EntryExpr::StructField(field) => self.visit(&field.value, depth + 1),
            })
            .try_fold(0, |loops, entry| Ok(loops.max(entry?)))
    }
}
