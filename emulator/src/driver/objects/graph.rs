//! Graphs, graphs made ready to launch, and captures in progress.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::ThreadId;

use super::super::abi::Handle;
use super::work::{ExecNode, Work};

/// A graph: nodes in the order of their creation.
#[derive(Clone, Default)]
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Owned by the child node that it was cloned into: not to be destroyed on its own.
    pub is_child: bool,
}

/// A node of a graph.
#[derive(Clone)]
pub struct Node {
    /// Its handle.
    pub handle: Handle,
    /// Nodes that must be done before.
    pub after: Vec<Handle>,
    /// What it does.
    pub work: Work,
    /// The graph handle behind a child node; 0 for other nodes.
    pub child: Handle,
}

/// A graph made ready to launch.
pub struct GraphExec {
    /// Its nodes; launches that are in a stream keep those of their time.
    pub nodes: Arc<Vec<ExecNode>>,
    /// `CUgraphInstantiate_flags`.
    pub flags: u64,
    /// Launches so far.
    pub launches: u64,
}

/// A capture in progress.
pub struct Capture {
    /// The graph that is recorded.
    pub graph: Handle,
    /// The stream that the capture began on.
    pub origin: Handle,
    /// Its `CUstreamCaptureMode`.
    pub mode: u32,
    /// The thread that began it.
    pub thread: ThreadId,
    /// False after an error: the capture can only be ended.
    pub active: bool,
}

impl Graph {
    /// Index of a node.
    pub fn position(&self, node: Handle) -> Option<usize> {
        self.nodes.iter().position(|n| n.handle == node)
    }

    /// The nodes with indices for edges, if the edges make no cycle.
    pub fn flatten(&self) -> Option<Vec<ExecNode>> {
        let index: HashMap<Handle, usize> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(i, node)| (node.handle, i))
            .collect();
        let nodes: Vec<ExecNode> = self
            .nodes
            .iter()
            .map(|node| ExecNode {
                source: node.handle,
                after: node
                    .after
                    .iter()
                    .filter_map(|h| index.get(h).copied())
                    .collect(),
                work: node.work.clone(),
                enabled: true,
            })
            .collect();
        let mut done = vec![false; nodes.len()];
        let mut left = nodes.len();
        while left > 0 {
            let before = left;
            for i in 0..nodes.len() {
                if !done[i] && nodes[i].after.iter().all(|&a| done[a]) {
                    done[i] = true;
                    left -= 1;
                }
            }
            if left == before {
                return None;
            }
        }
        Some(nodes)
    }
}
