//! Instructions of the pickle machine: names of classes, calls, states and persistent identifiers: recorded, never made.

use super::machine::Machine;
use super::reader::Result;
use crate::checkpoint::pickle::numpy;
use crate::checkpoint::pickle::policy::{forbidden_argument, is_forbidden};
use crate::checkpoint::pickle::{Call, Id, PickleError, PickleNode};

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
                let (PickleNode::Str(module), PickleNode::Str(name)) =
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
                self.push(PickleNode::Tuple(args.into()))?;
                let args = self.pop()?;
                self.call(callable, args, None)?;
            }
            b'o' => {
                let mut args = self.pop_to_mark()?;
                if args.is_empty() {
                    return Err(self.malformed("an object without a class"));
                }
                let callable = args.remove(0);
                self.push(PickleNode::Tuple(args.into()))?;
                let args = self.pop()?;
                self.call(callable, args, None)?;
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                // The state of a dict or list subclass is its attributes, such as OrderedDict's `_metadata`.
                if let PickleNode::Call(call) = self.node_mut(target) {
                    call.state = Some(state);
                }
            }
            b'P' => {
                let line = self.reader.line()?.to_owned();
                self.push(PickleNode::Str(line.into()))?;
                let id = self.pop()?;
                self.push(PickleNode::Persistent(id))?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(PickleNode::Persistent(id))?;
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
        self.push(PickleNode::Global {
            module: module.into(),
            name: name.into(),
        })
    }

    /// Pushes what `callable(*args)` makes, where that is a plain container; else a record of the call.
    fn call(&mut self, callable: Id, args: Id, kwargs: Option<Id>) -> Result<()> {
        self.check_arguments(callable, args)?;
        let plain = match (self.node(callable), self.node(args), kwargs) {
            (PickleNode::Global { module, name }, PickleNode::Tuple(args), None) => {
                self.container(module, name, args)
            }
            _ => None,
        };
        let node = plain.unwrap_or_else(|| {
            PickleNode::Call(Box::new(Call {
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

    /// Refuses a call that is harmless by its name, but not by what it reaches for.
    fn check_arguments(&self, callable: Id, args: Id) -> Result<()> {
        let (PickleNode::Global { module, name }, PickleNode::Tuple(args)) =
            (self.node(callable), self.node(args))
        else {
            return Ok(());
        };
        // Both of those that are looked at are among the first two.
        let texts = args.iter().take(2).map(|&id| match self.node(id) {
            PickleNode::Str(text) => Some(&**text),
            _ => None,
        });
        match forbidden_argument(module, name, &texts.collect::<Vec<_>>()) {
            Some(what) => Err(PickleError::Forbidden {
                name: format!("{module}.{name}({what})"),
            }),
            None => Ok(()),
        }
    }

    fn container(&self, module: &str, name: &str, args: &[Id]) -> Option<PickleNode> {
        let elements = |id: &Id| match self.node(*id) {
            PickleNode::List(list) | PickleNode::Set(list) => Some(list.clone()),
            PickleNode::Tuple(tuple) => Some(tuple.to_vec()),
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
                Some(PickleNode::Dict(
                    pairs.iter().map(pair).collect::<Option<_>>()?,
                ))
            }
            ("collections", "defaultdict") => Some(PickleNode::Dict(Vec::new())),
            ("builtins" | "__builtin__", "list") => Some(PickleNode::List(first()?)),
            ("builtins" | "__builtin__", "tuple") | ("torch", "Size") => {
                Some(PickleNode::Tuple(first()?.into()))
            }
            ("builtins" | "__builtin__", "set" | "frozenset") => Some(PickleNode::Set(first()?)),
            // How protocol 2 spells bytes.
            ("builtins" | "__builtin__", "bytes") if args.is_empty() => {
                Some(PickleNode::Bytes(Box::default()))
            }
            (module, "scalar") if numpy::is_multiarray(module) => {
                numpy::scalar(&self.nodes, *args.first()?, *args.get(1)?)
            }
            ("_codecs", "encode") => match (self.node(*args.first()?), self.node(*args.get(1)?)) {
                (PickleNode::Str(text), PickleNode::Str(codec)) if &**codec == "latin1" => {
                    let bytes: Option<Vec<u8>> = text
                        .chars()
                        .map(|c| u8::try_from(u32::from(c)).ok())
                        .collect();
                    Some(PickleNode::Bytes(bytes?.into()))
                }
                _ => None,
            },
            _ => None,
        }
    }
}
