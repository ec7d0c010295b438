//! Control flow: basic blocks, loops, and the order that makes divergent lanes meet again.
//!
//! The interpreter always runs the lanes that are furthest behind in the order of instructions ("thread frontiers":
//! Diamos et al., "SIMD re-convergence at thread frontiers", 2011). Basic blocks are therefore put in an order with two
//! properties: every block comes after its predecessors, except across the backward edges of loops, and the blocks of a
//! loop stand together. Lanes that leave a branch or a loop early then wait at its immediate post-dominator, or before
//! it, until the others arrive.

use super::code::{Function, Inst, Op};

/// An instruction or a label, before basic blocks are formed.
pub(super) enum Flat {
    Label(u32),
    Inst(Inst),
}

struct BasicBlock {
    insts: Vec<Inst>,
    successors: Vec<usize>,
    /// The block that control falls through to.
    falls_to: Option<usize>,
}

fn ends_block(inst: &Inst) -> bool {
    match inst.op {
        Op::Branch(_) | Op::BranchIndex(..) => true,
        Op::Return | Op::Exit | Op::Trap => inst.guard.is_none(),
        _ => false,
    }
}

/// Forms blocks, orders them and fills in `f.insts`. `labels` is the number of labels.
pub(super) fn order(flat: Vec<Flat>, labels: u32, f: &mut Function) -> Result<(), String> {
    let mut blocks: Vec<BasicBlock> = Vec::new();
    let mut label_block = vec![usize::MAX; labels as usize];
    let mut open = false;
    let fresh = || BasicBlock {
        insts: Vec::new(),
        successors: Vec::new(),
        falls_to: None,
    };
    for item in flat {
        match item {
            Flat::Label(id) => {
                if !open || blocks.last().is_some_and(|b| !b.insts.is_empty()) {
                    blocks.push(fresh());
                    open = true;
                }
                label_block[id as usize] = blocks.len() - 1;
            }
            Flat::Inst(inst) => {
                if !open {
                    blocks.push(fresh());
                }
                let ends = ends_block(&inst);
                if let Some(b) = blocks.last_mut() {
                    b.insts.push(inst);
                }
                open = !ends;
            }
        }
    }
    let count = blocks.len();
    for (at, block) in blocks.iter_mut().enumerate() {
        let target = |id: u32| match label_block.get(id as usize) {
            Some(b) if *b < count => Ok(*b),
            _ => Err(String::from("a branch leaves its function")),
        };
        let (mut successors, mut falls) = (Vec::new(), true);
        if let Some(last) = block.insts.last() {
            match &last.op {
                Op::Branch(t) => {
                    successors.push(target(*t)?);
                    falls = last.guard.is_some();
                }
                Op::BranchIndex(_, targets) => {
                    for t in targets {
                        successors.push(target(*t)?);
                    }
                    falls = last.guard.is_some();
                }
                Op::Return | Op::Exit | Op::Trap => falls = last.guard.is_some(),
                _ => {}
            }
        }
        if falls {
            if at + 1 >= count {
                return Err(String::from("control runs off the end of a function"));
            }
            successors.push(at + 1);
            block.falls_to = Some(at + 1);
        }
        successors.dedup();
        block.successors = successors;
    }
    let sequence = schedule(&blocks);
    // Emission, with a jump where the block that control falls through to isn't the next one.
    let mut start = vec![u32::MAX; count];
    let mut insts: Vec<Inst> = Vec::new();
    let mut jumps: Vec<(usize, usize)> = Vec::new();
    for (n, at) in sequence.iter().enumerate() {
        start[*at] = insts.len() as u32;
        let block = &mut blocks[*at];
        insts.append(&mut block.insts);
        if let Some(next) = block.falls_to
            && sequence.get(n + 1) != Some(&next)
        {
            let site = insts.last().map_or(0, |i| i.site);
            jumps.push((insts.len(), next));
            insts.push(Inst {
                op: Op::Jump(0),
                guard: None,
                site,
            });
        }
    }
    for inst in &mut insts {
        match &mut inst.op {
            Op::Branch(t) => *t = start[label_block[*t as usize]],
            Op::BranchIndex(_, targets) => {
                for t in targets {
                    *t = start[label_block[*t as usize]];
                }
            }
            _ => {}
        }
    }
    for (at, block) in jumps {
        insts[at].op = Op::Jump(start[block]);
    }
    f.insts = insts;
    Ok(())
}

/// The order of the reachable blocks: topological except for backward edges, with loops contiguous.
fn schedule(blocks: &[BasicBlock]) -> Vec<usize> {
    let count = blocks.len();
    if count == 0 {
        return Vec::new();
    }
    // Depth-first search without recursion: finds the backward edges.
    let mut state = vec![0u8; count];
    let mut stack = vec![(0usize, 0usize)];
    let mut back = Vec::new();
    state[0] = 1;
    while let Some((at, next)) = stack.last_mut() {
        if let Some(to) = blocks[*at].successors.get(*next).copied() {
            *next += 1;
            match state[to] {
                0 => {
                    state[to] = 1;
                    stack.push((to, 0));
                }
                1 => back.push((*at, to)),
                _ => {}
            }
        } else {
            state[*at] = 2;
            stack.pop();
        }
    }
    let reachable = |b: usize| state[b] != 0;
    let mut predecessors = vec![Vec::new(); count];
    for (at, b) in blocks.iter().enumerate().filter(|(at, _)| reachable(*at)) {
        for to in &b.successors {
            predecessors[*to].push(at);
        }
    }
    // Natural loops: the blocks that reach the backward jump without passing the header.
    let words = count.div_ceil(64);
    let has = |set: &[u64], b: usize| set[b / 64] >> (b % 64) & 1 != 0;
    let mut loops: std::collections::BTreeMap<usize, Vec<u64>> = std::collections::BTreeMap::new();
    for (from, header) in &back {
        let body = loops.entry(*header).or_insert_with(|| vec![0; words]);
        body[*header / 64] |= 1 << (*header % 64);
        let mut work = vec![*from];
        while let Some(b) = work.pop() {
            if has(body, b) {
                continue;
            }
            body[b / 64] |= 1 << (b % 64);
            work.extend(predecessors[b].iter().copied());
        }
    }
    let is_back: std::collections::HashSet<(usize, usize)> = back.into_iter().collect();
    let mut waiting = vec![0usize; count];
    for (at, b) in blocks.iter().enumerate().filter(|(at, _)| reachable(*at)) {
        for to in &b.successors {
            if !is_back.contains(&(at, *to)) {
                waiting[*to] += 1;
            }
        }
    }
    let mut ready = std::collections::BTreeSet::from([0usize]);
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut out = Vec::with_capacity(count);
    loop {
        let inner = open.iter().rev().find_map(|(header, _)| {
            let body = loops.get(header)?;
            ready.iter().copied().find(|b| has(body, *b))
        });
        let Some(at) = inner.or_else(|| ready.first().copied()) else {
            break;
        };
        ready.remove(&at);
        out.push(at);
        if let Some(body) = loops.get(&at) {
            open.push((at, body.iter().map(|w| w.count_ones() as usize).sum()));
        }
        for (header, left) in &mut open {
            if loops.get(header).is_some_and(|body| has(body, at)) {
                *left -= 1;
            }
        }
        open.retain(|(_, left)| *left > 0);
        for to in &blocks[at].successors {
            if !is_back.contains(&(at, *to)) {
                waiting[*to] -= 1;
                if waiting[*to] == 0 {
                    ready.insert(*to);
                }
            }
        }
    }
    out
}

/// Whether control can get from one instruction to another (not only to itself) in a function.
pub fn reaches(f: &Function, from: u32, to: u32) -> bool {
    let mut seen = vec![false; f.insts.len()];
    let mut work = vec![from];
    let mut first = true;
    while let Some(at) = work.pop() {
        let Some(inst) = f.insts.get(at as usize) else {
            continue;
        };
        if !first && at == to {
            return true;
        }
        first = false;
        if std::mem::replace(&mut seen[at as usize], true) {
            continue;
        }
        match &inst.op {
            Op::Jump(t) => work.push(*t),
            Op::Branch(t) => {
                work.push(*t);
                if inst.guard.is_some() {
                    work.push(at + 1);
                }
            }
            Op::BranchIndex(_, targets) => {
                work.extend(targets);
                if inst.guard.is_some() {
                    work.push(at + 1);
                }
            }
            Op::Return | Op::Exit | Op::Trap if inst.guard.is_none() => {}
            _ => work.push(at + 1),
        }
    }
    false
}

/// An estimate of the registers per thread: the most 32-bit registers that are live at once in the order of the text. A
/// register that is live at a loop's begin is live until its end. `uses` are (instruction, register, words) as the
/// lowering saw them; `loops` are (first, last) instruction.
pub(super) fn register_estimate(uses: &[(u32, u64, u32)], loops: &[(u32, u32)]) -> u32 {
    let mut ranges: std::collections::HashMap<u64, (u32, u32, u32)> =
        std::collections::HashMap::new();
    for (at, register, words) in uses {
        let range = ranges.entry(*register).or_insert((*at, *at, *words));
        range.0 = range.0.min(*at);
        range.1 = range.1.max(*at);
    }
    let mut ranges: Vec<(u32, u32, u32)> = ranges.into_values().collect();
    for _ in 0..3 {
        for (first, last) in loops {
            for r in &mut ranges {
                if r.0 < *first && r.1 >= *first && r.1 < *last {
                    r.1 = *last;
                }
            }
        }
    }
    let mut events: Vec<(u32, i64)> = Vec::with_capacity(2 * ranges.len());
    for (first, last, words) in ranges {
        events.push((2 * first + 1, i64::from(words)));
        events.push((2 * last, -i64::from(words)));
    }
    events.sort_unstable();
    let (mut alive, mut most) = (0i64, 0i64);
    for (_, change) in events {
        alive += change;
        most = most.max(alive);
    }
    // The assembler needs some for addresses and the stack.
    let most = most.clamp(0, 1 << 20) as u32 + 6;
    most.next_multiple_of(2).clamp(16, 255)
}
