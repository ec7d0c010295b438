//! What a person should know of a file that could be read.

use std::fmt;

/// Something about a file that a person should know though its model could be read. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// Tensors that belong to no part of the model were left out, by group.
    LeftOut(Vec<LeftOut>),
    /// Tensors are of types or kinds that are not read.
    Unreadable {
        /// How many.
        tensors: usize,
        /// The first by name, and why.
        first: (String, String),
    },
    /// Members of the archive carry no checksum, so that damage in them does not show.
    NoChecksum {
        /// How many.
        members: usize,
        /// How many members there are.
        of: usize,
    },
}

/// Tensors that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The first component of their names, or the first two where the first is a part of a pipeline.
    pub name: String,
    /// How many there are.
    pub tensors: usize,
    /// Their size, without those that cannot be read.
    pub bytes: usize,
}

/// `lpips (1), val_fid (3)`, the first few.
pub(super) fn listed(groups: &[LeftOut]) -> String {
    /// A line is for reading.
    const MOST: usize = 8;
    let shown = groups.iter().take(MOST);
    let shown: Vec<String> = shown
        .map(|group| format!("{} ({})", group.name, group.tensors))
        .collect();
    let mut text = shown.join(", ");
    if groups.len() > MOST {
        text += &format!(" and {} more", groups.len() - MOST);
    }
    text
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOut(groups) => {
                let tensors: usize = groups.iter().map(|group| group.tensors).sum();
                let (noun, verb) = match tensors {
                    1 => ("tensor", "is"),
                    _ => ("tensors", "are"),
                };
                write!(
                    f,
                    "left out {tensors} {noun} that {verb} no part of the model: {}",
                    listed(groups)
                )
            }
            Self::Unreadable {
                tensors,
                first: (name, why),
            } => write!(f, "{tensors} tensors cannot be read; `{name}` {why}"),
            Self::NoChecksum { members, of } => write!(
                f,
                "{members} of the archive's {of} members were written without a checksum: damage in them would not show"
            ),
        }
    }
}
