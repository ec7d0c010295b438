//! Lifetimes and offsets: which bytes of the arena each value takes, and the proof that no two
//! live values share one.

use std::collections::HashMap;
use std::ops::Range;

use super::{Location, Plan, PlanOptions, PlannedValue, Step, root};
use crate::graph::Value;

/// Alignment of every value, one cache line and one AVX-512 vector.
const ALIGNMENT: usize = 64;

pub(super) struct ArenaLayout {
    pub offsets: HashMap<Value, usize>,
    pub workspaces: Vec<Range<usize>>,
    pub arena_bytes: usize,
}

/// A block of memory that is needed during `first..=last`.
struct ArenaBlock {
    bytes: usize,
    first: usize,
    last: usize,
}

/// Lays out all values that steps produce, and the steps' workspaces.
///
/// Blocks are placed largest first at the lowest offset where no block that is alive at the same
/// time stands: greedy by size, within a few percent of the largest sum of live bytes in practice.
pub(super) fn plan_memory(
    steps: &[Step],
    values: &[PlannedValue],
    outputs: &[(String, Value)],
    options: PlanOptions,
) -> ArenaLayout {
    let mut last_use: HashMap<Value, usize> = HashMap::new();
    for (index, step) in steps.iter().enumerate() {
        for &input in &step.inputs {
            last_use.insert(root(values, input), index);
        }
    }
    for &(_, value) in outputs {
        last_use.insert(root(values, value), steps.len());
    }

    let mut blocks: Vec<ArenaBlock> = Vec::new();
    let mut block_of: HashMap<Value, usize> = HashMap::new();
    let mut workspace_block = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        for (position, &output) in step.outputs.iter().enumerate() {
            let bytes = values[output.index()].ty.bytes();
            let last = last_use.get(&output).copied().unwrap_or(index);
            let taken_over = options.in_place.then(|| {
                step.op
                    .operator()
                    .in_place()
                    .iter()
                    .find_map(|&(result, operand)| {
                        if result != position {
                            return None;
                        }
                        let input = root(values, *step.inputs.get(operand)?);
                        let &block = block_of.get(&input)?;
                        let sole = step
                            .inputs
                            .iter()
                            .filter(|v| block_of.get(&root(values, **v)) == Some(&block))
                            .count()
                            == 1;
                        let dies = blocks[block].last == index;
                        // Not the padded sizes: a scalar that is broadcast is no room for its result.
                        let fits = values[input.index()].ty.bytes() == bytes;
                        (sole && dies && fits).then_some(block)
                    })
            });
            let block = match taken_over.flatten() {
                Some(block) => {
                    blocks[block].last = last;
                    block
                }
                None => {
                    blocks.push(ArenaBlock {
                        bytes: bytes.next_multiple_of(ALIGNMENT),
                        first: index,
                        last,
                    });
                    blocks.len() - 1
                }
            };
            block_of.insert(output, block);
        }
        let bytes = step.workspace.len();
        workspace_block.push((bytes > 0).then(|| {
            blocks.push(ArenaBlock {
                bytes: bytes.next_multiple_of(ALIGNMENT),
                first: index,
                last: index,
            });
            blocks.len() - 1
        }));
    }

    let (offsets, arena_bytes) = place(&blocks, options.reuse);
    ArenaLayout {
        offsets: block_of
            .into_iter()
            .map(|(value, block)| (value, offsets[block]))
            .collect(),
        workspaces: steps
            .iter()
            .zip(workspace_block)
            .map(|(step, block)| {
                let start = block.map_or(0, |s| offsets[s]);
                start..start + step.workspace.len()
            })
            .collect(),
        arena_bytes,
    }
}

fn place(blocks: &[ArenaBlock], reuse: bool) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; blocks.len()];
    let mut end = 0;
    if !reuse {
        for (offset, block) in offsets.iter_mut().zip(blocks) {
            *offset = end;
            end += block.bytes;
        }
        return (offsets, end);
    }
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&s| (std::cmp::Reverse(blocks[s].bytes), blocks[s].first, s));
    // Placed blocks in order of offset.
    let mut placed: Vec<usize> = Vec::with_capacity(blocks.len());
    for index in order {
        let block = &blocks[index];
        let mut offset = 0;
        for &other in &placed {
            let neighbour = &blocks[other];
            let overlaps = neighbour.first <= block.last && block.first <= neighbour.last;
            if !overlaps {
                continue;
            }
            if offsets[other] >= offset + block.bytes {
                break;
            }
            offset = offset.max(offsets[other] + neighbour.bytes);
        }
        offsets[index] = offset;
        end = end.max(offset + block.bytes);
        let at = placed.partition_point(|&other| offsets[other] <= offset);
        placed.insert(at, index);
    }
    (offsets, end)
}

/// Proves from the finished plan alone that no two values that are alive at the same step share
/// a byte of the arena, except for a result that its op may write in the memory of an operand.
///
/// # Errors
/// The first overlap, in words.
pub fn verify_disjoint(plan: &Plan) -> Result<(), String> {
    let arena = |value: Value| -> Option<Range<usize>> {
        match plan.value(value).location {
            Location::Arena(offset) => Some(offset..offset + plan.value(value).ty.bytes()),
            _ => None,
        }
    };
    let mut last_use: HashMap<Value, usize> = HashMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        for &input in &step.inputs {
            last_use.insert(plan.root(input), index);
        }
    }
    for &(_, value) in &plan.outputs {
        last_use.insert(plan.root(value), plan.steps.len());
    }

    let mut live: Vec<Value> = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        // Everything that a step may not disturb, and what it writes, by offset.
        let mut blocks: Vec<(Range<usize>, String, Option<Value>)> = live
            .iter()
            .filter_map(|&v| Some((arena(v)?, format!("live value {}", v.index()), Some(v))))
            .collect();
        for (position, &output) in step.outputs.iter().enumerate() {
            let Some(range) = arena(output) else { continue };
            if range.end > plan.arena_bytes {
                return Err(format!("step {index} writes beyond the arena"));
            }
            for &(result, operand) in step.op.operator().in_place() {
                let Some(&input) = step.inputs.get(operand) else {
                    continue;
                };
                let input = plan.root(input);
                let dies = last_use.get(&input) == Some(&index);
                if result == position && dies && arena(input) == Some(range.clone()) {
                    blocks.retain(|(_, _, v)| *v != Some(input));
                }
            }
            blocks.push((range, format!("result {position}"), None));
        }
        if !step.workspace.is_empty() {
            blocks.push((step.workspace.clone(), "workspace".to_owned(), None));
        }
        blocks.retain(|(range, ..)| !range.is_empty());
        blocks.sort_by_key(|(range, ..)| range.start);
        for pair in blocks.windows(2) {
            if pair[1].0.start < pair[0].0.end {
                return Err(format!(
                    "step {index} ({} at '{}'): {} {:?} overlaps {} {:?}",
                    step.op, step.path, pair[0].1, pair[0].0, pair[1].1, pair[1].0
                ));
            }
        }
        live.extend(&step.outputs);
        live.retain(|v| last_use.get(v).is_some_and(|&last| last > index));
    }
    Ok(())
}
