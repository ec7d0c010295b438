//! The stack machine: one pass over the instructions, no recursion, every size bounded by the input's length.

use std::collections::HashMap;

use super::policy::is_forbidden;
use super::{Call, Id, Node, Pickle, PickleError};

/// Values a pickle may build. A checkpoint of a thousand tensors builds about 40 000.
const MAX_NODES: usize = 8_000_000;

/// Reads one pickle at the start of `bytes`; returns it and its length.
pub(super) fn run(bytes: &[u8]) -> Result<(Pickle, usize)> {
    let mut machine = Machine {
        reader: Reader { bytes, at: 0 },
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run()?;
    let length = machine.reader.at;
    Ok((
        Pickle {
            nodes: machine.nodes,
            root,
        },
        length,
    ))
}

type Result<T> = std::result::Result<T, PickleError>;

struct Machine<'a> {
    reader: Reader<'a>,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine<'_> {
    /// Executes instructions until STOP and returns the top of the stack.
    fn run(&mut self) -> Result<Id> {
        loop {
            let opcode = self.reader.u8()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    let version = self.reader.u8()?;
                    if version > 5 {
                        return Err(self.malformed(format!(
                            "expected protocol 0 to 5, found protocol {version}"
                        )));
                    }
                }
                0x95 => {
                    let length = self.reader.length8()?;
                    self.reader.check_available(length)?;
                }

                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    // POP removes a mark if that is what lies on top.
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        self.pop()?;
                    }
                }
                b'1' => {
                    self.pop_to_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.push_id(top)?;
                }

                b'N' => self.push(Node::None)?,
                0x88 => self.push(Node::Bool(true))?,
                0x89 => self.push(Node::Bool(false))?,
                b'I' => self.int_line()?,
                b'L' => self.long_line()?,
                b'J' => {
                    let value = i32::from_le_bytes(self.reader.array()?);
                    self.push(Node::Int(value.into()))?;
                }
                b'K' => {
                    let value = self.reader.u8()?;
                    self.push(Node::Int(value.into()))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.reader.array()?);
                    self.push(Node::Int(value.into()))?;
                }
                0x8a => {
                    let length = usize::from(self.reader.u8()?);
                    self.long_bytes(length)?;
                }
                0x8b => {
                    let length = i32::from_le_bytes(self.reader.array()?);
                    let length = usize::try_from(length)
                        .map_err(|_| self.malformed("an integer of negative length"))?;
                    self.long_bytes(length)?;
                }
                b'F' => {
                    let line = self.reader.line()?;
                    let value = line
                        .trim()
                        .parse()
                        .map_err(|_| self.malformed(format!("expected a float, found {line:?}")))?;
                    self.push(Node::Float(value))?;
                }
                b'G' => {
                    let value = f64::from_be_bytes(self.reader.array()?);
                    self.push(Node::Float(value))?;
                }

                b'S' => {
                    let line = self.reader.line()?;
                    let text =
                        unquote(line).ok_or_else(|| self.malformed("expected a quoted string"))?;
                    self.push(Node::Str(text.into()))?;
                }
                b'V' => {
                    // Raw-unicode-escape: bytes are Latin-1, what lies beyond is escaped.
                    let line: String = self
                        .reader
                        .line_bytes()?
                        .iter()
                        .copied()
                        .map(char::from)
                        .collect();
                    let text = unescape_unicode(&line)
                        .ok_or_else(|| self.malformed("invalid \\u escape in a text"))?;
                    self.push(Node::Str(text.into()))?;
                }
                // Python 2 strings: text in every checkpoint that has them.
                b'T' => {
                    let length = self.reader.length4()?;
                    self.latin1(length)?;
                }
                b'U' => {
                    let length = usize::from(self.reader.u8()?);
                    self.latin1(length)?;
                }
                b'X' => {
                    let length = self.reader.length4()?;
                    self.text(length)?;
                }
                0x8c => {
                    let length = usize::from(self.reader.u8()?);
                    self.text(length)?;
                }
                0x8d => {
                    let length = self.reader.length8()?;
                    self.text(length)?;
                }
                b'B' => {
                    let length = self.reader.length4()?;
                    self.bytes(length)?;
                }
                b'C' => {
                    let length = usize::from(self.reader.u8()?);
                    self.bytes(length)?;
                }
                0x8e | 0x96 => {
                    let length = self.reader.length8()?;
                    self.bytes(length)?;
                }
                0x97 | 0x98 => {
                    return Err(self.malformed("out-of-band buffers are not part of a file"));
                }

                b')' => self.push(Node::Tuple(Box::default()))?,
                b't' => {
                    let elements = self.pop_to_mark()?;
                    self.push(Node::Tuple(elements.into()))?;
                }
                0x85..=0x87 => {
                    let count = usize::from(opcode - 0x84);
                    let elements = self.pop_many(count)?;
                    self.push(Node::Tuple(elements.into()))?;
                }
                b']' => self.push(Node::List(Vec::new()))?,
                b'l' => {
                    let elements = self.pop_to_mark()?;
                    self.push(Node::List(elements))?;
                }
                b'a' => {
                    let element = self.pop()?;
                    self.extend(&[element])?;
                }
                b'e' => {
                    let elements = self.pop_to_mark()?;
                    self.extend(&elements)?;
                }
                b'}' => self.push(Node::Dict(Vec::new()))?,
                b'd' => {
                    let flat = self.pop_to_mark()?;
                    self.push(Node::Dict(Vec::new()))?;
                    self.set_items(&flat)?;
                }
                b's' => {
                    let pair = self.pop_many(2)?;
                    self.set_items(&pair)?;
                }
                b'u' => {
                    let flat = self.pop_to_mark()?;
                    self.set_items(&flat)?;
                }
                0x8f => self.push(Node::Set(Vec::new()))?,
                0x90 => {
                    let elements = self.pop_to_mark()?;
                    self.extend(&elements)?;
                }
                0x91 => {
                    let elements = self.pop_to_mark()?;
                    self.push(Node::Set(elements))?;
                }

                b'g' => {
                    let index = self.index_line()?;
                    self.recall(index)?;
                }
                b'h' => {
                    let index = self.reader.u8()?;
                    self.recall(index.into())?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.reader.array()?);
                    self.recall(index.into())?;
                }
                b'p' => {
                    let index = self.index_line()?;
                    self.memoize(index)?;
                }
                b'q' => {
                    let index = self.reader.u8()?;
                    self.memoize(index.into())?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.reader.array()?);
                    self.memoize(index.into())?;
                }
                0x94 => self.memoize(self.memo.len() as u64)?,

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
                _ => {
                    return Err(self.malformed(format!("unknown instruction 0x{opcode:02x}")));
                }
            }
        }
    }

    fn malformed(&self, what: impl Into<String>) -> PickleError {
        self.reader.malformed(what)
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    fn push(&mut self, node: Node) -> Result<()> {
        if self.nodes.len() == MAX_NODES {
            return Err(PickleError::TooLarge {
                what: "values",
                limit: MAX_NODES,
            });
        }
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(node);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        if self.stack.len() == MAX_NODES {
            return Err(PickleError::TooLarge {
                what: "values on its stack",
                limit: MAX_NODES,
            });
        }
        self.stack.push(id);
        Ok(())
    }

    /// What lies above the innermost mark cannot be taken by an instruction that does not ask for the mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err(self.malformed("the stack is empty")),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_array<const N: usize>(&mut self) -> Result<[Id; N]> {
        let mut values = [Id(0); N];
        for value in values.iter_mut().rev() {
            *value = self.pop()?;
        }
        Ok(values)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        if self.stack.len() - self.floor() < count {
            return Err(self.malformed("the stack is empty"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.malformed("no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn recall(&mut self, index: u64) -> Result<()> {
        let id = *self
            .memo
            .get(&index)
            .ok_or_else(|| self.malformed(format!("nothing is remembered under {index}")))?;
        self.push_id(id)
    }

    fn memoize(&mut self, index: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn index_line(&mut self) -> Result<u64> {
        let line = self.reader.line()?;
        line.trim()
            .parse()
            .map_err(|_| self.malformed(format!("expected a memo index, found {line:?}")))
    }

    fn int_line(&mut self) -> Result<()> {
        let line = self.reader.line()?.trim();
        let node = match line {
            "00" => Node::Bool(false),
            "01" => Node::Bool(true),
            _ => Node::Int(line.parse().map_err(|_| {
                self.malformed(format!("expected a 64-bit integer, found {line:?}"))
            })?),
        };
        self.push(node)
    }

    fn long_line(&mut self) -> Result<()> {
        let line = self.reader.line()?.trim();
        let digits = line.strip_suffix('L').unwrap_or(line);
        let value: i128 = digits
            .parse()
            .map_err(|_| self.malformed(format!("expected an integer, found {line:?}")))?;
        self.push(integer(&value.to_le_bytes()))
    }

    fn long_bytes(&mut self, length: usize) -> Result<()> {
        let bytes = self.reader.take(length)?;
        self.push(integer(bytes))
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let bytes = self.reader.take(length)?;
        // Python's `surrogatepass` texts are not UTF-8; a name or a path with a lone surrogate is only shown.
        self.push(Node::Str(String::from_utf8_lossy(bytes).into()))
    }

    fn latin1(&mut self, length: usize) -> Result<()> {
        let bytes = self.reader.take(length)?;
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|&b| char::from(b)).collect(),
        };
        self.push(Node::Str(text.into()))
    }

    fn bytes(&mut self, length: usize) -> Result<()> {
        let bytes = self.reader.take(length)?;
        self.push(Node::Bytes(bytes.into()))
    }

    fn extend(&mut self, elements: &[Id]) -> Result<()> {
        let target = self.top()?;
        match self.node_mut(target) {
            Node::List(list) | Node::Set(list) => list.extend_from_slice(elements),
            Node::Call(call) => call.elements.extend_from_slice(elements),
            _ => return Err(self.malformed("appends to something that is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, flat: &[Id]) -> Result<()> {
        let (pairs, rest) = flat.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without a value"));
        }
        let pairs = pairs.iter().map(|&[key, value]| (key, value));
        let target = self.top()?;
        match self.node_mut(target) {
            Node::Dict(items) => items.extend(pairs),
            Node::Call(call) => call.items.extend(pairs),
            _ => return Err(self.malformed("sets a key of something that is no dict")),
        }
        Ok(())
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

/// An integer of any length from little-endian two's complement.
fn integer(bytes: &[u8]) -> Node {
    let negative = bytes.last().is_some_and(|&b| b >= 0x80);
    let filler = if negative { 0xff } else { 0 };
    // Redundant sign bytes do not make a number long.
    let mut significant = bytes.len();
    while significant > 8
        && bytes[significant - 1] == filler
        && (bytes[significant - 2] >= 0x80) == negative
    {
        significant -= 1;
    }
    if significant > 8 {
        return Node::BigInt(bytes[..significant].into());
    }
    let mut value = [filler; 8];
    value[..significant].copy_from_slice(&bytes[..significant]);
    Node::Int(i64::from_le_bytes(value))
}

/// The text of a Python 2 string literal such as `'a\n'`.
fn unquote(line: &str) -> Option<String> {
    let line = line.trim();
    let quote = line.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = line[1..].strip_suffix(quote)?;
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next()? {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                text.push(char::from(u8::from_str_radix(&digits, 16).ok()?));
            }
            other => text.push(other),
        }
    }
    Some(text)
}

/// The text of a raw-unicode-escape line: only `\uXXXX` and `\UXXXXXXXX` are special.
fn unescape_unicode(line: &str) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\\u").into_iter().chain(rest.find("\\U")).min() {
        text.push_str(&rest[..at]);
        let digits = if rest[at..].starts_with("\\u") { 4 } else { 8 };
        let code = u32::from_str_radix(rest.get(at + 2..at + 2 + digits)?, 16).ok()?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = &rest[at + 2 + digits..];
    }
    text.push_str(rest);
    Some(text)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, what: impl Into<String>) -> PickleError {
        PickleError::Malformed {
            at: self.at,
            what: what.into(),
        }
    }

    fn check_available(&self, length: usize) -> Result<()> {
        if length > self.bytes.len() - self.at {
            return Err(PickleError::Truncated { at: self.at });
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        self.check_available(length)?;
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn length4(&mut self) -> Result<usize> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        self.check_available(length)?;
        Ok(length)
    }

    fn length8(&mut self) -> Result<usize> {
        let length = u64::from_le_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| PickleError::Truncated { at: self.at })?;
        self.check_available(length)?;
        Ok(length)
    }

    /// Text up to a newline, which is consumed.
    fn line(&mut self) -> Result<&'a str> {
        let line = self.line_bytes()?;
        std::str::from_utf8(line).map_err(|_| self.malformed("a line that is not text"))
    }

    fn line_bytes(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or(PickleError::Truncated { at: self.at })?;
        self.at += length + 1;
        Ok(&rest[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Pickle {
        Pickle::parse(bytes).unwrap().0
    }

    fn repr(bytes: &[u8]) -> String {
        let pickle = parse(bytes);
        pickle.repr(pickle.root())
    }

    #[test]
    fn every_protocol_spells_the_same_value() {
        // {'a': [1, -2, 2.5, None, True], 'b': ('x', b'y')}, as CPython 3.12 writes it
        let expected = "{'a': [1, -2, 2.5, None, True], 'b': ('x', b'y')}";
        let protocol0 = b"(dp0\nVa\np1\n(lp2\nI1\naI-2\naF2.5\naNaI01\nasVb\np3\n(Vx\np4\nc_codecs\nencode\np5\n(Vy\np6\nVlatin1\np7\ntp8\nRp9\ntp10\ns.";
        let protocol2 = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00N\x88eX\x01\x00\x00\x00bq\x03X\x01\x00\x00\x00xq\x04c_codecs\nencode\nq\x05X\x01\x00\x00\x00yq\x06X\x06\x00\x00\x00latin1q\x07\x86q\x08Rq\t\x86q\nu.";
        let protocol4 = b"\x80\x04\x95*\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00N\x88e\x8c\x01b\x94\x8c\x01x\x94C\x01y\x94\x86\x94u.";
        for bytes in [&protocol0[..], protocol2, protocol4] {
            assert_eq!(repr(bytes), expected);
        }
    }

    #[test]
    fn texts_of_protocol_0_are_latin_1_with_escapes() {
        assert_eq!(repr(b"V\xfc\\u20ac\\U0001f600\\u005cn\n."), "'ü€😀\\\\n'");
        assert_eq!(repr(b"S'it\\'s \\x41\\n'\n."), "\"it's A\\n\"");
        assert_eq!(repr(b"(c__builtin__\nbytes\n)R."), "b''");
    }

    #[test]
    fn integers_of_any_length() {
        assert_eq!(repr(b"\x80\x02\x8a\x00."), "0");
        assert_eq!(repr(b"\x80\x02\x8a\x01\xff."), "-1");
        assert_eq!(
            repr(b"\x80\x02\x8a\x09\0\0\0\0\0\0\0\x80\0."),
            "9223372036854775808"
        );
        assert_eq!(
            repr(b"L1180591620717411303424L\n."),
            "1180591620717411303424"
        );
        assert_eq!(repr(b"L-5L\n."), "-5");
        assert_eq!(
            repr(b"\x80\x02\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\0."),
            i64::MAX.to_string()
        );
    }

    #[test]
    fn calls_are_recorded_and_never_made() {
        let pickle = parse(b"cmy.module\nThing\n(K\x01tR}(X\x01\0\0\0aK\x02ub.");
        let Node::Call(call) = pickle.node(pickle.root()) else {
            panic!("{:?}", pickle.node(pickle.root()));
        };
        assert_eq!(pickle.global(call.callable), Some(("my.module", "Thing")));
        assert!(call.state.is_some());
    }

    #[test]
    fn dangerous_names_are_refused() {
        let shell = b"cposix\nsystem\n(X\x02\0\0\0lstR.";
        assert_eq!(
            Pickle::parse(shell).unwrap_err().to_string(),
            "the pickle names `posix.system`, which a checkpoint has no business calling; refusing to read it"
        );
        let stack_global = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.";
        assert!(matches!(
            Pickle::parse(stack_global).unwrap_err(),
            PickleError::Forbidden { name } if name == "builtins.eval"
        ));
        assert!(Pickle::parse(b"(S'ls'\nios\nsystem\n.").is_err());
        assert!(Pickle::parse(b"(cos\nsystem\nS'ls'\no.").is_err());
    }

    #[test]
    fn bombs_hit_a_limit() {
        let wide = vec![b'N'; MAX_NODES + 1];
        assert!(matches!(
            Pickle::parse(&wide),
            Err(PickleError::TooLarge {
                limit: MAX_NODES,
                ..
            })
        ));
        // A text that claims 4 GiB.
        assert!(matches!(
            Pickle::parse(b"X\xff\xff\xff\xffabc."),
            Err(PickleError::Truncated { .. })
        ));
        assert!(Pickle::parse(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc.").is_err());
        // A million nested lists neither parse recursively nor print for ever.
        let mut deep = vec![b']'; 1_000_000];
        deep.extend(vec![b'a'; 999_999]);
        deep.push(b'.');
        let pickle = parse(&deep);
        assert!(pickle.repr(pickle.root()).len() < 10_000);
        assert!(pickle.json(pickle.root()).to_string().len() < 10_000);
        // 30 levels of "twice the one before".
        let mut laughs = b"]q\x00".to_vec();
        for level in 0..30u8 {
            laughs.extend([b']', b'q', level + 1, b'(', b'h', level, b'h', level, b'e']);
        }
        laughs.push(b'.');
        let pickle = parse(&laughs);
        assert!(pickle.json(pickle.root()).to_string().len() < 10_000_000);
        // A list that contains itself.
        let pickle = parse(b"]q\x00h\x00a.");
        assert!(pickle.repr(pickle.root()).len() < 10_000);
    }

    #[test]
    fn malformed_streams_are_errors() {
        for bytes in [
            &b""[..],
            b".",
            b"t.",
            b"a.",
            b"(.",
            b"K",
            b"K\x01a.",
            b"K\x01K\x02K\x03s.",
            b"h\x05.",
            b"gabc\n.",
            b"\xff.",
            b"\x80\x09.",
            b"Iabc\n.",
            b"F?\n.",
            b"S'a\n.",
            b"V\\u12\n.",
            b"(K\x01d.",
            b"\x82\x01.",
            b"\x97.",
            b"\x8b\xff\xff\xff\xff.",
            b"(o.",
            b"X\x01",
        ] {
            assert!(Pickle::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
