//! NumPy's scalars and arrays, which hyper-parameters hold where a person computed a setting.

use half::f16;

use super::{Id, Pickle, PickleNode};

/// The module of NumPy's C code, under its names before and since version 2.
pub(super) fn is_multiarray(module: &str) -> bool {
    matches!(module, "numpy.core.multiarray" | "numpy._core.multiarray")
}

/// What `numpy.dtype('f8', False, True)` with the state `(3, '<', …)` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checkpoint) struct ElementType {
    /// `f`, `i`, `u`, `b` (truth value), `U` or `S`.
    pub kind: u8,
    /// Bytes of an element.
    pub bytes: usize,
    /// The first byte is the highest.
    pub big_endian: bool,
}

/// An array as it lies in the pickle.
#[derive(Clone, Debug)]
pub(in crate::checkpoint) struct NumpyArray<'p> {
    /// Extents; none for a single value.
    pub shape: Vec<usize>,
    /// Type of the elements.
    pub element: ElementType,
    /// The first axis varies fastest.
    pub fortran: bool,
    /// As many elements as the shape says.
    pub bytes: &'p [u8],
}

/// The number or text of `numpy.core.multiarray.scalar(dtype, bytes)`.
pub(super) fn scalar(nodes: &[PickleNode], dtype: Id, bytes: Id) -> Option<PickleNode> {
    let element = element_type(nodes, dtype)?;
    match node(nodes, bytes) {
        PickleNode::Bytes(bytes) if bytes.len() == element.bytes => element.value(bytes),
        _ => None,
    }
}

fn node(nodes: &[PickleNode], id: Id) -> &PickleNode {
    &nodes[id.0 as usize]
}

fn element_type(nodes: &[PickleNode], id: Id) -> Option<ElementType> {
    let PickleNode::Call(call) = node(nodes, id) else {
        return None;
    };
    let (PickleNode::Global { module, name }, PickleNode::Tuple(args)) =
        (node(nodes, call.callable), node(nodes, call.args))
    else {
        return None;
    };
    let ("numpy", "dtype", PickleNode::Str(code)) =
        (&**module, &**name, node(nodes, *args.first()?))
    else {
        return None;
    };
    let order = match call.state.map(|state| node(nodes, state)) {
        Some(PickleNode::Tuple(state)) => match node(nodes, *state.get(1)?) {
            PickleNode::Str(order) => order,
            _ => return None,
        },
        _ => "<",
    };
    let (&kind, size) = code.as_bytes().split_first()?;
    let size: usize = std::str::from_utf8(size).ok()?.parse().ok()?;
    let bytes = match kind {
        b'f' | b'i' | b'u' | b'b' | b'S' => size,
        // UTF-32.
        b'U' => size.checked_mul(4)?,
        _ => return None,
    };
    Some(ElementType {
        kind,
        bytes,
        big_endian: order == ">",
    })
}

impl ElementType {
    /// One element; `None` for a type that has no value in a pickle.
    fn value(self, bytes: &[u8]) -> Option<PickleNode> {
        let mut bytes = bytes.to_vec();
        if self.big_endian {
            match self.kind {
                b'U' => bytes.chunks_mut(4).for_each(<[u8]>::reverse),
                b'S' => {}
                _ => bytes.reverse(),
            }
        }
        Some(match (self.kind, bytes.as_slice()) {
            (b'f', &[a, b]) => PickleNode::Float(f16::from_le_bytes([a, b]).to_f64()),
            (b'f', &[a, b, c, d]) => PickleNode::Float(f64::from(f32::from_le_bytes([a, b, c, d]))),
            (b'f', bytes) => PickleNode::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
            (b'b', &[byte]) => PickleNode::Bool(byte != 0),
            (b'i' | b'u', bytes @ ([_] | [_, _] | [_, _, _, _] | [_, _, _, _, _, _, _, _])) => {
                let negative = self.kind == b'i' && bytes.last().is_some_and(|&high| high >= 0x80);
                let mut wide = [if negative { 0xff } else { 0 }; 16];
                wide[..bytes.len()].copy_from_slice(bytes);
                match i64::try_from(i128::from_le_bytes(wide)) {
                    Ok(value) => PickleNode::Int(value),
                    Err(_) => PickleNode::BigInt(wide[..9].into()),
                }
            }
            (b'U', bytes) => {
                let text: Option<String> = bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&code| char::from_u32(u32::from_le_bytes(code)))
                    .collect();
                PickleNode::Str(text?.trim_end_matches('\0').into())
            }
            (b'S', bytes) => PickleNode::Bytes(bytes.into()),
            _ => return None,
        })
    }
}

impl Pickle {
    /// The NumPy array at `id`, if it is one of plain numbers or texts.
    pub(in crate::checkpoint) fn numpy_array(&self, id: Id) -> Option<NumpyArray<'_>> {
        let PickleNode::Call(call) = self.node(id) else {
            return None;
        };
        let (shape, dtype, fortran, bytes) = match self.global(call.callable)? {
            (module, "_reconstruct") if is_multiarray(module) => {
                match *self.elements(call.state?)? {
                    [_, shape, dtype, fortran, bytes] => {
                        let fortran = *self.node(fortran) == PickleNode::Bool(true);
                        (shape, dtype, fortran, bytes)
                    }
                    _ => return None,
                }
            }
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => {
                match *self.elements(call.args)? {
                    [bytes, dtype, shape, order] => (shape, dtype, self.str(order)? == "F", bytes),
                    _ => return None,
                }
            }
            _ => return None,
        };
        let extents = self.elements(shape)?;
        // NumPy has at most 64 dimensions.
        if extents.len() > 64 {
            return None;
        }
        let extent = |&id: &Id| usize::try_from(self.int(id)?).ok();
        let shape: Vec<usize> = extents.iter().map(extent).collect::<Option<_>>()?;
        let element = element_type(&self.nodes, dtype)?;
        let PickleNode::Bytes(bytes) = self.node(bytes) else {
            return None;
        };
        let mut size = element.bytes;
        for &extent in &shape {
            size = size.checked_mul(extent)?;
        }
        (element.bytes > 0 && size == bytes.len()).then_some(NumpyArray {
            shape,
            element,
            fortran,
            bytes,
        })
    }
}

impl NumpyArray<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.element.bytes
    }

    /// Elements from one to the next along each axis.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![0; self.shape.len()];
        let mut step = 1usize;
        let axes = 0..self.shape.len();
        let fastest_first: Vec<usize> = match self.fortran {
            true => axes.collect(),
            false => axes.rev().collect(),
        };
        for axis in fastest_first {
            strides[axis] = step;
            step = step.saturating_mul(self.shape[axis]);
        }
        strides
    }

    /// The element that lies at `index` in the pickle.
    pub fn value(&self, index: usize) -> Option<PickleNode> {
        let at = index.checked_mul(self.element.bytes)?;
        let bytes = self.bytes.get(at..at.checked_add(self.element.bytes)?)?;
        self.element.value(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `dtype(code)` with the byte order `order`, as CPython pickles it, left on the stack.
    fn dtype(code: &str, order: &str) -> String {
        format!("cnumpy\ndtype\n(V{code}\nI00\nI01\ntR(I3\nV{order}\nNNNI-1\nI-1\nI0\ntb")
    }

    /// Bytes in protocol 2.
    fn latin1(bytes: &[u8]) -> Vec<u8> {
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        let mut pickle = b"c_codecs\nencode\n(X".to_vec();
        pickle.extend((text.len() as u32).to_le_bytes());
        pickle.extend(text.bytes());
        pickle.extend(b"Vlatin1\ntR");
        pickle
    }

    fn scalar_json(module: &str, code: &str, order: &str, bytes: &[u8]) -> String {
        let mut pickle = format!("c{module}\nscalar\n({}", dtype(code, order)).into_bytes();
        pickle.extend(latin1(bytes));
        pickle.extend(b"tR.");
        let pickle = Pickle::parse(&pickle).unwrap().0;
        pickle.json(pickle.root()).to_string()
    }

    #[test]
    fn scalars_are_numbers_and_texts() {
        for module in ["numpy.core.multiarray", "numpy._core.multiarray"] {
            let json = |code, order, bytes: &[u8]| scalar_json(module, code, order, bytes);
            assert_eq!(json("f8", "<", &0.002f64.to_le_bytes()), "0.002");
            assert_eq!(json("f8", ">", &0.002f64.to_be_bytes()), "0.002");
            assert_eq!(json("f4", "<", &0.25f32.to_le_bytes()), "0.25");
            assert_eq!(json("f2", "<", &f16::from_f32(1.5).to_le_bytes()), "1.5");
            assert_eq!(json("i8", "<", &(-3i64).to_le_bytes()), "-3");
            assert_eq!(json("i4", ">", &1000i32.to_be_bytes()), "1000");
            assert_eq!(json("u1", "|", &[200]), "200");
            assert_eq!(json("i1", "|", &[200]), "-56");
            let large = json("u8", "<", &u64::MAX.to_le_bytes());
            assert_eq!(large, format!("\"{}\"", u64::MAX));
            assert_eq!(json("b1", "|", &[1]), "true");
            assert_eq!(json("U2", "<", b"x\0\0\0_\0\0\0"), "\"x_\"");
            // Of the wrong length, or of a type without a value here.
            assert!(json("f8", "<", &[0; 4]).contains("object"));
            assert!(json("c16", "<", &[0; 16]).contains("object"));
            assert!(json("f16", "<", &[0; 16]).contains("object"));
            assert!(json("U4611686018427387904", "<", &[]).contains("object"));
        }
    }

    fn array_json(shape: &str, fortran: bool, code: &str, bytes: &[u8]) -> String {
        let mut pickle =
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n".to_vec();
        pickle.extend(shape.bytes());
        pickle.extend(dtype(code, "<").bytes());
        pickle.extend(if fortran { b"I01\n" } else { b"I00\n" });
        pickle.extend(latin1(bytes));
        pickle.extend(b"tb.");
        let pickle = Pickle::parse(&pickle).unwrap().0;
        let _ = pickle.repr(pickle.root());
        pickle.json(pickle.root()).to_string()
    }

    #[test]
    fn arrays_are_nested_lists() {
        let bytes: Vec<u8> = (1..=6i16).flat_map(i16::to_le_bytes).collect();
        let json = |shape, fortran| array_json(shape, fortran, "i2", &bytes);
        assert_eq!(json("(I6\nt", false), "[1,2,3,4,5,6]");
        assert_eq!(json("(I2\nI3\nt", false), "[[1,2,3],[4,5,6]]");
        assert_eq!(json("(I2\nI3\nt", true), "[[1,3,5],[2,4,6]]");
        assert_eq!(array_json("(t", false, "i2", &[7, 0]), "7");
        assert_eq!(array_json("(I0\nI1000000000\nt", false, "i2", &[]), "[]");
        // What does not fit is opaque.
        for shape in ["(I7\nt", "(I-6\nt", "(I4611686018427387904\nI4\nt", "N"] {
            let text = json(shape, false);
            assert!(text.contains("object"), "{shape}: {text}");
        }
    }
}
