//! What a pickle says: values that refer to each other.

/// A value's place in its [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(pub(super) u32);

/// One value. Containers hold [`Id`]s, so values may be shared and even contain themselves.
#[derive(Clone, Debug, PartialEq)]
pub enum PickleNode {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// A longer integer, little-endian two's complement.
    BigInt(Box<[u8]>),
    /// A float.
    Float(f64),
    /// A text.
    Str(Box<str>),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// A list.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Box<[Id]>),
    /// A set or frozen set.
    Set(Vec<Id>),
    /// A dict in insertion order; of equal keys the last counts.
    Dict(Vec<(Id, Id)>),
    /// A class or function, by name only.
    Global {
        /// `torch._utils`
        module: Box<str>,
        /// `_rebuild_tensor_v2`
        name: Box<str>,
    },
    /// What a call would have made.
    Call(Box<Call>),
    /// An object that lives outside the pickle, by its identifier.
    Persistent(Id),
}

/// A call that was not made.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The class or function.
    pub callable: Id,
    /// Its arguments, usually a tuple.
    pub args: Id,
    /// Keyword arguments (protocol 4).
    pub kwargs: Option<Id>,
    /// What `__setstate__` would have got.
    pub state: Option<Id>,
    /// What would have been appended.
    pub elements: Vec<Id>,
    /// What would have been set by key.
    pub items: Vec<(Id, Id)>,
}

/// A finished pickle: its values and which of them is the result.
#[derive(Clone, Debug)]
pub struct Pickle {
    pub(super) nodes: Vec<PickleNode>,
    pub(super) root: Id,
}

impl Pickle {
    /// The result.
    pub fn root(&self) -> Id {
        self.root
    }

    /// The value at `id`.
    pub fn node(&self, id: Id) -> &PickleNode {
        &self.nodes[id.0 as usize]
    }

    /// Every value, in the order of creation.
    pub fn nodes(&self) -> &[PickleNode] {
        &self.nodes
    }

    /// The entry `key` of a dict.
    pub fn get(&self, dict: Id, key: &str) -> Option<Id> {
        self.items(dict)?
            .iter()
            .rev()
            .find(|(k, _)| self.str(*k) == Some(key))
            .map(|&(_, value)| value)
    }

    /// The entries of a dict, or of an object that is filled by key, as those of dict's subclasses are.
    pub fn items(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            PickleNode::Dict(items) => Some(items),
            PickleNode::Call(call) if !call.items.is_empty() => Some(&call.items),
            _ => None,
        }
    }

    /// The elements of a list or tuple.
    pub fn elements(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            PickleNode::List(elements) => Some(elements),
            PickleNode::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text at `id`.
    pub fn str(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            PickleNode::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer at `id`.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            PickleNode::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Module and name of the class or function at `id`.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.node(id) {
            PickleNode::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }
}
