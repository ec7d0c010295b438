//! Values of a pickle for people and for configuration code: Python's notation, and JSON.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::numpy::NumpyArray;
use super::{Id, Pickle, PickleNode};

/// Nesting beyond this is cut; hyper-parameters nest three or four deep.
const MAX_DEPTH: usize = 40;
/// Values and text bytes beyond this many are cut, since sharing can make a small pickle large when written out.
const MAX_SIZE: usize = 1_000_000;

impl Pickle {
    /// The value as Python prints it; classes as `<class 'module.name'>`, cut with `...` where too deep or too large.
    pub fn repr(&self, id: Id) -> String {
        let mut out = String::new();
        let mut budget = MAX_SIZE;
        self.write_repr(id, 0, &mut budget, &mut out);
        out
    }

    /// The value as JSON: tuples and sets are arrays, keys are texts, classes and other objects are texts in Python's
    /// notation, cut with `"..."` where too deep or too large.
    pub fn json(&self, id: Id) -> Value {
        let mut budget = MAX_SIZE;
        self.to_json(id, 0, &mut budget)
    }

    /// `module.name` if `id` names a class: directly, or as the legacy format's `('module', class, file, source)`.
    pub fn class_name(&self, id: Id) -> Option<String> {
        let class = match self.node(id) {
            PickleNode::Persistent(tuple) => match self.elements(*tuple)? {
                [tag, class, ..] if self.str(*tag) == Some("module") => *class,
                _ => return None,
            },
            _ => id,
        };
        let (module, name) = self.global(class)?;
        Some(format!("{module}.{name}"))
    }

    fn write_repr(&self, id: Id, depth: usize, budget: &mut usize, out: &mut String) {
        if depth > MAX_DEPTH || *budget == 0 {
            out.push_str("...");
            return;
        }
        *budget -= 1;
        match self.node(id) {
            PickleNode::None => out.push_str("None"),
            PickleNode::Bool(true) => out.push_str("True"),
            PickleNode::Bool(false) => out.push_str("False"),
            PickleNode::Int(value) => out.push_str(&value.to_string()),
            PickleNode::BigInt(bytes) => out.push_str(&decimal(bytes)),
            PickleNode::Float(value) => out.push_str(&python_float(*value)),
            PickleNode::Str(text) => {
                *budget = budget.saturating_sub(text.len());
                quote(text, out);
            }
            PickleNode::Bytes(bytes) => {
                *budget = budget.saturating_sub(bytes.len());
                out.push('b');
                let text: String = bytes.iter().map(|&b| char::from(b)).collect();
                quote(&text, out);
            }
            PickleNode::List(elements) => {
                self.write_sequence("[", elements, "]", depth, budget, out)
            }
            PickleNode::Tuple(elements) => {
                let close = if elements.len() == 1 { ",)" } else { ")" };
                self.write_sequence("(", elements, close, depth, budget, out);
            }
            PickleNode::Set(elements) => {
                self.write_sequence("{", elements, "}", depth, budget, out)
            }
            PickleNode::Dict(items) => {
                out.push('{');
                for (i, (key, value)) in items.iter().enumerate() {
                    if *budget == 0 {
                        break;
                    }
                    out.push_str(if i == 0 { "" } else { ", " });
                    self.write_repr(*key, depth + 1, budget, out);
                    out.push_str(": ");
                    self.write_repr(*value, depth + 1, budget, out);
                }
                out.push('}');
            }
            PickleNode::Global { module, name }
                if matches!(&**module, "builtins" | "__builtin__") =>
            {
                let _ = write!(out, "<class '{name}'>");
            }
            PickleNode::Global { module, name } => {
                let _ = write!(out, "<class '{module}.{name}'>");
            }
            PickleNode::Call(call) => match self.class_name(call.callable) {
                Some(name) if matches!(&*name, "builtins.getattr" | "__builtin__.getattr") => {
                    self.write_attribute(call.args, depth, budget, out);
                }
                Some(name) => {
                    let _ = write!(out, "<{name} object>");
                }
                None => out.push_str("<object>"),
            },
            PickleNode::Persistent(_) => match self.class_name(id) {
                Some(name) => {
                    let _ = write!(out, "<class '{name}'>");
                }
                None => out.push_str("<storage>"),
            },
        }
    }

    /// A bound method, or another attribute of an object: `getattr(object, name)`.
    fn write_attribute(&self, args: Id, depth: usize, budget: &mut usize, out: &mut String) {
        let Some(&[object, attribute, ..]) = self.elements(args) else {
            out.push_str("<attribute>");
            return;
        };
        out.push_str("<attribute ");
        self.write_repr(attribute, depth + 1, budget, out);
        out.push_str(" of ");
        self.write_repr(object, depth + 1, budget, out);
        out.push('>');
    }

    fn write_sequence(
        &self,
        open: &str,
        elements: &[Id],
        close: &str,
        depth: usize,
        budget: &mut usize,
        out: &mut String,
    ) {
        out.push_str(open);
        for (i, element) in elements.iter().enumerate() {
            if *budget == 0 {
                break;
            }
            out.push_str(if i == 0 { "" } else { ", " });
            self.write_repr(*element, depth + 1, budget, out);
        }
        out.push_str(close);
    }

    fn to_json(&self, id: Id, depth: usize, budget: &mut usize) -> Value {
        if depth > MAX_DEPTH || *budget == 0 {
            return "...".into();
        }
        *budget -= 1;
        match self.node(id) {
            PickleNode::None => Value::Null,
            PickleNode::Bool(value) => (*value).into(),
            PickleNode::Int(value) => (*value).into(),
            // JSON has no infinity; a text says what it was.
            PickleNode::Float(value) if !value.is_finite() => python_float(*value).into(),
            PickleNode::Float(value) => (*value).into(),
            PickleNode::Str(text) => {
                *budget = budget.saturating_sub(text.len());
                (**text).into()
            }
            PickleNode::Tuple(elements) => self.json_array(elements, depth, budget),
            PickleNode::List(elements) | PickleNode::Set(elements) => {
                self.json_array(elements, depth, budget)
            }
            PickleNode::Dict(items) => self.json_object(items, depth, budget),
            PickleNode::Call(call) if !call.items.is_empty() => {
                self.json_object(&call.items, depth, budget)
            }
            PickleNode::Call(_) => match self.numpy_array(id) {
                Some(array) if array.len() <= *budget => {
                    *budget -= array.len();
                    array_json(&array, &array.strides(), 0, 0)
                        .unwrap_or_else(|| self.repr(id).into())
                }
                _ => self.repr(id).into(),
            },
            PickleNode::BigInt(_)
            | PickleNode::Bytes(_)
            | PickleNode::Global { .. }
            | PickleNode::Persistent(_) => self.repr(id).into(),
        }
    }

    fn json_object(&self, items: &[(Id, Id)], depth: usize, budget: &mut usize) -> Value {
        let mut map = Map::new();
        for (key, value) in items {
            if *budget == 0 {
                break;
            }
            let key = match self.node(*key) {
                PickleNode::Str(text) => {
                    *budget = budget.saturating_sub(text.len());
                    text.to_string()
                }
                _ => self.repr(*key),
            };
            map.insert(key, self.to_json(*value, depth + 1, budget));
        }
        Value::Object(map)
    }

    fn json_array(&self, elements: &[Id], depth: usize, budget: &mut usize) -> Value {
        let mut array = Vec::new();
        for element in elements {
            if *budget == 0 {
                break;
            }
            array.push(self.to_json(*element, depth + 1, budget));
        }
        Value::Array(array)
    }
}

/// The array from axis `axis` on, whose first element is `first`; `None` if its elements have no value.
fn array_json(
    array: &NumpyArray<'_>,
    strides: &[usize],
    axis: usize,
    first: usize,
) -> Option<Value> {
    // Of an empty array only its being empty is told: `(1 << 40, 0)` has no elements and a great many rows.
    if array.len() == 0 {
        return Some(Value::Array(Vec::new()));
    }
    let Some(&extent) = array.shape.get(axis) else {
        return Some(match array.value(first)? {
            PickleNode::Bool(value) => value.into(),
            PickleNode::Int(value) => value.into(),
            PickleNode::Float(value) if !value.is_finite() => python_float(value).into(),
            PickleNode::Float(value) => value.into(),
            PickleNode::BigInt(bytes) => decimal(&bytes).into(),
            PickleNode::Str(text) => text.into_string().into(),
            _ => return None,
        });
    };
    let row = |i: usize| array_json(array, strides, axis + 1, first + i * strides[axis]);
    let rows: Option<Vec<Value>> = (0..extent).map(row).collect();
    rows.map(Value::Array)
}

/// A float as Python prints it: the shortest digits that give it back, an exponent from 1e16 and below 1e-4.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = value.to_string();
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

fn quote(text: &str, out: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == mark => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push(mark);
}

/// Decimal digits of a little-endian two's complement number; very long ones are only described.
fn decimal(bytes: &[u8]) -> String {
    if bytes.len() > 128 {
        return format!("<integer of {} bytes>", bytes.len());
    }
    let negative = bytes.last().is_some_and(|&b| b >= 0x80);
    let mut magnitude: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in &mut magnitude {
            let (value, overflow) = (!*byte).overflowing_add(u8::from(carry));
            *byte = value;
            carry = overflow;
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|&b| b != 0) {
        let mut remainder = 0u32;
        for byte in magnitude.iter_mut().rev() {
            let value = remainder * 256 + u32::from(*byte);
            *byte = (value / 10) as u8;
            remainder = value % 10;
        }
        digits.push(char::from(b'0' + remainder as u8));
    }
    if digits.is_empty() {
        digits.push('0');
    }
    if negative {
        digits.push('-');
    }
    digits.iter().rev().collect()
}
