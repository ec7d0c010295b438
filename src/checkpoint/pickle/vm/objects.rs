//! Instructions of the pickle machine: names of classes, calls, states and persistent identifiers: recorded, never made.

use super::machine::Machine;
use super::reader::Result;
use crate::checkpoint::pickle::policy::is_forbidden;
use crate::checkpoint::pickle::{Call, Id, Node, PickleError};

impl Machine<'_> {
    /// Executes `opcode` if it is of this class; false if not.
    pub(super) fn objects(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b'c' => {
                let module = self.reader.line()?;
                let name = self.reader.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let (Node::Str(module), Node::Str(name)) =
                    (self.node(names[0]).clone(), self.node(names[1]).clone())
                else {
                    return Err(self.malformed("a class is named by two texts"));
                };
                self.global(&module, &name)?;
            }
            0x82..=0x84 => {
                return Err(self.malformed("extension codes are not used by checkpoints"));
            }
            b'R' => {
                let [callable, args] = self.pop_array()?;
                self.call(callable, args, None)?;
            }
            0x81 => {
                let [class, args] = self.pop_array()?;
                self.call(class, args, None)?;
            }
            0x92 => {
                let [class, args, kwargs] = self.pop_array()?;
                self.call(class, args, Some(kwargs))?;
            }
            b'i' => {
                let module = self.reader.line()?;
                let name = self.reader.line()?;
                let args = self.pop_to_mark()?;
                self.global(module, name)?;
                let callable = self.pop()?;
                self.push(Node::Tuple(args.into()))?;
                let args = self.pop()?;
                self.call(callable, args, None)?;
            }
            b'o' => {
                let mut args = self.pop_to_mark()?;
                if args.is_empty() {
                    return Err(self.malformed("an object without a class"));
                }
                let callable = args.remove(0);
                self.push(Node::Tuple(args.into()))?;
                let args = self.pop()?;
                self.call(callable, args, None)?;
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                // The state of a dict or list subclass is its attributes, such as OrderedDict's `_metadata`.
                if let Node::Call(call) = self.node_mut(target) {
                    call.state = Some(state);
                }
            }
            b'P' => {
                let line = self.reader.line()?.to_owned();
                self.push(Node::Str(line.into()))?;
                let id = self.pop()?;
                self.push(Node::Persistent(id))?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        if is_forbidden(module, name) {
            return Err(PickleError::Forbidden {
                name: format!("{module}.{name}"),
            });
        }
        self.push(Node::Global {
            module: module.into(),
            name: name.into(),
        })
    }

    /// Pushes what `callable(*args)` makes, where that is a plain container; else a record of the call.
    fn call(&mut self, callable: Id, args: Id, kwargs: Option<Id>) -> Result<()> {
        let plain = match (self.node(callable), self.node(args), kwargs) {
            (Node::Global { module, name }, Node::Tuple(args), None) => {
                self.container(module, name, args)
            }
            _ => None,
        };
        let node = plain.unwrap_or_else(|| {
            Node::Call(Box::new(Call {
                callable,
                args,
                kwargs,
                state: None,
                elements: Vec::new(),
                items: Vec::new(),
            }))
        });
        self.push(node)
    }

    fn container(&self, module: &str, name: &str, args: &[Id]) -> Option<Node> {
        let elements = |id: &Id| match self.node(*id) {
            Node::List(list) | Node::Set(list) => Some(list.clone()),
            Node::Tuple(tuple) => Some(tuple.to_vec()),
            _ => None,
        };
        let first = || args.first().map_or(Some(Vec::new()), elements);
        match (module, name) {
            ("collections", "OrderedDict") | ("builtins" | "__builtin__", "dict") => {
                let pairs = first()?;
                let pair = |id: &Id| match *elements(id)?.as_slice() {
                    [key, value] => Some((key, value)),
                    _ => None,
                };
                Some(Node::Dict(pairs.iter().map(pair).collect::<Option<_>>()?))
            }
            ("collections", "defaultdict") => Some(Node::Dict(Vec::new())),
            ("builtins" | "__builtin__", "list") => Some(Node::List(first()?)),
            ("builtins" | "__builtin__", "tuple") | ("torch", "Size") => {
                Some(Node::Tuple(first()?.into()))
            }
            ("builtins" | "__builtin__", "set" | "frozenset") => Some(Node::Set(first()?)),
            // How protocol 2 spells bytes.
            ("builtins" | "__builtin__", "bytes") if args.is_empty() => {
                Some(Node::Bytes(Box::default()))
            }
            ("_codecs", "encode") => match (self.node(*args.first()?), self.node(*args.get(1)?)) {
                (Node::Str(text), Node::Str(codec)) if &**codec == "latin1" => {
                    let bytes: Option<Vec<u8>> = text
                        .chars()
                        .map(|c| u8::try_from(u32::from(c)).ok())
                        .collect();
                    Some(Node::Bytes(bytes?.into()))
                }
                _ => None,
            },
            _ => None,
        }
    }
}
