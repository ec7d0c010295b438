//! Which nodes of a graph are needed.

use super::Graph;

/// Which nodes an output or an update needs.
pub fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut needed = vec![false; graph.value_count()];
    for &(_, value) in graph.outputs() {
        needed[value.index()] = true;
    }
    let mut live = vec![false; graph.nodes().len()];
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        let updates = !node.op.operator().updates().is_empty();
        if updates || node.outputs.iter().any(|v| needed[v.index()]) {
            live[index] = true;
            for input in &node.inputs {
                needed[input.index()] = true;
            }
        }
    }
    live
}
