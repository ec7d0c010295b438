//! Trading time for memory: activations that the backward pass reads are computed again there instead of being kept.
//!
//! The forward pass falls into blocks, which the networks declare ([`Graph::block`]); nodes between two blocks form one too. Of a block only what other
//! blocks read is kept; the rest is dropped after its last forward use and computed again, by copies of the same
//! nodes, just before the first backward node that reads it. Values are bit for bit those of the original plan.
//!
//! Each block offers two steps: dropping what cheap ops made (normalisations, activations, sums: about a read and a
//! write each), then dropping convolutions, products and attention too. Steps are taken in order of work per byte
//! saved, as many as the budget asks for.
//!
//! Source: Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016.

use std::collections::{HashMap, HashSet};

use crate::compile::report::{PassReport, Unit};
use crate::graph::{Graph, Node, Op, Rebuild, Source, Value, live_nodes, op_types};
use crate::ops::{Attention, Conv2d, Linear};

/// Values smaller than this are always kept: statistics, scalars.
const SMALLEST_BYTES: usize = 16 * 1024;

/// A graph in which some nodes run a second time.
struct Fitted {
    graph: Graph,
    /// Forward nodes that run a second time.
    recomputed: usize,
}

/// The graph with as much recomputation as it takes for `measure` (bytes of the planned graph) to stay within
/// `budget`; `forward` is the number of nodes of the forward pass.
///
/// # Errors
/// The smallest measure found, if none is within the budget.
pub fn fit(
    graph: &Graph,
    forward: usize,
    budget: usize,
    measure: impl Fn(&Graph) -> usize,
) -> Result<(Graph, PassReport), usize> {
    let mut report = PassReport::new("recompute");
    let whole = measure(graph);
    if whole <= budget {
        return Ok((graph.clone(), report));
    }
    let fitted = search(graph, forward, budget, whole, &measure)?;
    report.count("nodes computed twice", fitted.recomputed);
    report.compare(graph, &fitted.graph);
    let after = measure(&fitted.graph);
    report.change("memory", whole as u64, after as u64, Unit::Bytes);
    Ok((fitted.graph, report))
}

/// The fewest steps that fit, found by bisection.
fn search(
    graph: &Graph,
    forward: usize,
    budget: usize,
    whole: usize,
    measure: impl Fn(&Graph) -> usize,
) -> Result<Fitted, usize> {
    let mut smallest = whole;
    let choices = Choices::new(graph, forward);
    let mut attempt = |steps: usize| -> Option<Fitted> {
        let fitted = choices.rewrite(graph, steps);
        let bytes = measure(&fitted.graph);
        smallest = smallest.min(bytes);
        (bytes <= budget).then_some(fitted)
    };
    let all = choices.steps.len();
    let Some(mut found) = attempt(all) else {
        // More is not always less: a copy may live longer than it saves.
        return (1..8)
            .rev()
            .find_map(|eighths| attempt(all * eighths / 8))
            .ok_or(smallest);
    };
    let (mut too_few, mut enough) = (0, all);
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        match attempt(middle) {
            Some(fitted) => (found, enough) = (fitted, middle),
            None => too_few = middle,
        }
    }
    Ok(found)
}

/// One block's values dropped.
struct RecomputeStep {
    block: usize,
    /// Convolutions, products and attention too.
    all: bool,
    flops: u64,
    bytes: usize,
}

struct Choices {
    forward: usize,
    live: Vec<bool>,
    /// Block of each forward node.
    block: Vec<usize>,
    /// Read by another block's forward nodes, or an output of the graph.
    boundary: Vec<bool>,
    /// Read by the backward pass.
    saved: Vec<bool>,
    steps: Vec<RecomputeStep>,
}

fn is_expensive(op: &Op) -> bool {
    op.is::<Conv2d>() || op.is::<Linear>() || op.is::<Attention>()
}

impl Choices {
    fn new(graph: &Graph, forward: usize) -> Self {
        let live = live_nodes(graph);
        let mut block = Vec::with_capacity(forward);
        let mut current = None;
        for node in &graph.nodes()[..forward] {
            let name = graph.block_of(&node.path);
            if current != Some(name) {
                current = Some(name);
                block.push(block.last().map_or(0, |b| b + 1));
            } else {
                block.push(*block.last().expect("a block goes on"));
            }
        }
        let mut boundary = vec![false; graph.value_count()];
        let mut saved = vec![false; graph.value_count()];
        for &(_, value) in graph.outputs() {
            boundary[value.index()] = true;
        }
        for (index, node) in graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            for &input in &node.inputs {
                let Source::Node { node: producer, .. } = graph.info(input).source else {
                    continue;
                };
                if index >= forward {
                    saved[input.index()] |= producer < forward;
                } else if block[producer] != block[index] {
                    boundary[input.index()] = true;
                }
            }
        }
        let mut choices = Self {
            forward,
            live,
            block,
            boundary,
            saved,
            steps: Vec::new(),
        };
        let blocks = choices.block.last().map_or(0, |b| b + 1);
        let mut steps = Vec::new();
        for block in 0..blocks {
            let mut before = (0, 0);
            for all in [false, true] {
                let (flops, bytes) = choices.price(graph, block, all);
                if bytes > before.1 {
                    steps.push(RecomputeStep {
                        block,
                        all,
                        flops: flops.saturating_sub(before.0),
                        bytes: bytes - before.1,
                    });
                    before = (flops, bytes);
                }
            }
        }
        let price = |step: &RecomputeStep| step.flops as f64 / step.bytes as f64;
        steps.sort_by(|a, b| {
            (price(a).total_cmp(&price(b))).then((a.block, a.all).cmp(&(b.block, b.all)))
        });
        choices.steps = steps;
        choices
    }

    fn producer<'g>(&self, graph: &'g Graph, value: Value) -> Option<(usize, &'g Node)> {
        match graph.info(value).source {
            Source::Node { node, .. } if node < self.forward => Some((node, &graph.nodes()[node])),
            _ => None,
        }
    }

    /// Whether `value` is computed again if its block is dropped that far.
    fn droppable(&self, graph: &Graph, value: Value, all: bool) -> bool {
        let Some((_, producer)) = self.producer(graph, value) else {
            return false;
        };
        !self.boundary[value.index()]
            && graph.ty(value).bytes() >= SMALLEST_BYTES
            && (all || !is_expensive(&producer.op))
            && producer.op.operator().updates().is_empty()
    }

    /// Work that is done again and bytes that are not kept, if `block` is dropped.
    fn price(&self, graph: &Graph, block: usize, all: bool) -> (u64, usize) {
        let (mut flops, mut bytes) = (0, 0);
        for (index, node) in graph.nodes()[..self.forward].iter().enumerate() {
            if self.block[index] != block || !self.live[index] {
                continue;
            }
            let drops = node.outputs.iter().any(|&v| self.droppable(graph, v, all));
            if !drops {
                continue;
            }
            let types = |list: &[Value]| op_types(graph, list);
            let operator = node.op.operator();
            flops += operator.flops(&types(&node.inputs), &types(&node.outputs));
            // Moving bytes takes time too, about as much as ten operations each.
            flops += 10 * operator.bytes(&types(&node.inputs), &types(&node.outputs));
            for &output in &node.outputs {
                if self.saved[output.index()] && self.droppable(graph, output, all) {
                    bytes += graph.ty(output).bytes();
                }
            }
        }
        (flops, bytes)
    }

    /// The graph with the first `steps` steps taken.
    fn rewrite(&self, graph: &Graph, steps: usize) -> Fitted {
        let mut depth: HashMap<usize, bool> = HashMap::new();
        for step in &self.steps[..steps] {
            *depth.entry(step.block).or_default() |= step.all;
        }
        let mut rewriter = Rewriter {
            choices: self,
            original: graph,
            depth,
            rebuild: Rebuild::of(graph),
            copies: HashMap::new(),
            copied: HashSet::new(),
        };
        for (index, node) in graph.nodes().iter().enumerate() {
            let mut node = node.clone();
            if index >= self.forward && self.live[index] {
                for input in &mut node.inputs {
                    if self.saved[input.index()] {
                        *input = rewriter.again(*input);
                    }
                }
            }
            rewriter.rebuild.push(node);
        }
        Fitted {
            graph: rewriter.rebuild.finish(),
            recomputed: rewriter.copied.len(),
        }
    }
}

struct Rewriter<'a> {
    choices: &'a Choices,
    original: &'a Graph,
    /// Dropped blocks, and whether down to their expensive ops.
    depth: HashMap<usize, bool>,
    rebuild: Rebuild,
    /// The second life of a value.
    copies: HashMap<Value, Value>,
    copied: HashSet<usize>,
}

impl Rewriter<'_> {
    /// `value` itself, or the copy that the backward pass reads; makes the copy where there is none.
    fn again(&mut self, value: Value) -> Value {
        if let Some(&copy) = self.copies.get(&value) {
            return copy;
        }
        let Some((index, node)) = self.choices.producer(self.original, value) else {
            return value;
        };
        let Some(&all) = self.depth.get(&self.choices.block[index]) else {
            return value;
        };
        if !self.choices.droppable(self.original, value, all) {
            return value;
        }
        let mut node = node.clone();
        for input in &mut node.inputs {
            // Only values of the same block can be dropped at this depth; others are kept as they are.
            let same_block = self
                .choices
                .producer(self.original, *input)
                .is_some_and(|(other, _)| self.choices.block[other] == self.choices.block[index]);
            if same_block {
                *input = self.again(*input);
            }
        }
        for output in &mut node.outputs {
            let copy = self.rebuild.value(self.original.ty(*output).clone());
            self.copies.insert(*output, copy);
            *output = copy;
        }
        self.copied.insert(index);
        self.rebuild.push(node);
        self.copies[&value]
    }
}
