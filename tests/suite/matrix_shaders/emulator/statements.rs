//! Statements: who is active, and where all must meet.

use naga::{Barrier, Block, Direction, GatherMode, Statement, SubgroupOperation};

use super::values::{Bool, Float, Matrix, Slot, Value};
use super::{Frame, Machine, Mask, any};

/// The active invocations.
fn active(mask: &Mask) -> Vec<usize> {
    (0..mask.len()).filter(|&t| mask[t]).collect()
}

impl Machine<'_> {
    pub(super) fn block(&mut self, frame: &mut Frame<'_>, block: &Block, mut mask: Mask) -> Mask {
        for statement in block.iter() {
            if !any(&mask) {
                return mask;
            }
            match statement {
                Statement::Emit(range) => {
                    for h in range.clone() {
                        self.emit(frame, h, &mask);
                    }
                }
                Statement::Block(b) => mask = self.block(frame, b, mask),
                Statement::If { condition, accept, reject } => {
                    let (mut yes, mut no) = (mask.clone(), mask.clone());
                    for t in 0..self.threads {
                        if mask[t] {
                            let c = self.value(frame, *condition, t).truth();
                            yes[t] = c;
                            no[t] = !c;
                        }
                    }
                    if any(&yes) {
                        yes = self.block(frame, accept, yes);
                    }
                    if any(&no) {
                        no = self.block(frame, reject, no);
                    }
                    mask = yes.iter().zip(&no).map(|(a, b)| *a || *b).collect();
                }
                Statement::Loop { body, continuing, break_if } => {
                    let n = self.threads;
                    let mut out = vec![false; n];
                    let mut live = mask.clone();
                    while any(&live) {
                        frame.loops.push((vec![false; n], vec![false; n]));
                        let mut rest = self.block(frame, body, live.clone());
                        let (broken, continued) = frame.loops.pop().expect("a loop");
                        for t in 0..n {
                            out[t] |= broken[t];
                            rest[t] |= continued[t];
                        }
                        if any(&rest) {
                            frame.loops.push((vec![false; n], vec![false; n]));
                            rest = self.block(frame, continuing, rest);
                            frame.loops.pop();
                        }
                        if let Some(condition) = break_if {
                            for t in 0..n {
                                if rest[t] && self.value(frame, *condition, t).truth() {
                                    rest[t] = false;
                                    out[t] = true;
                                }
                            }
                        }
                        live = rest;
                    }
                    mask = out;
                }
                Statement::Break => {
                    let top = frame.loops.last_mut().expect("a loop");
                    top.0.iter_mut().zip(&mask).for_each(|(left, &active)| *left |= active);
                    mask.fill(false);
                }
                Statement::Continue => {
                    let top = frame.loops.last_mut().expect("a loop");
                    top.1.iter_mut().zip(&mask).for_each(|(left, &active)| *left |= active);
                    mask.fill(false);
                }
                Statement::Return { value } => {
                    for t in active(&mask) {
                        frame.result[t] = value.map(|v| self.value(frame, v, t));
                        frame.returned[t] = true;
                    }
                    mask.fill(false);
                }
                Statement::Store { pointer, value } => {
                    for t in active(&mask) {
                        let (var, at) = self.pointer(frame, *pointer, t);
                        let slots = self.value(frame, *value, t).slots();
                        self.store(frame, var, at, slots, t, Some(t % self.width));
                    }
                }
                Statement::Call { function, arguments, result } => {
                    let arguments: Vec<Vec<Value>> = arguments
                        .iter()
                        .map(|&a| {
                            (0..self.threads)
                                .map(|t| if mask[t] { self.value(frame, a, t) } else { Value::One(Slot::Junk) })
                                .collect()
                        })
                        .collect();
                    let (module, info) = (self.module, self.info);
                    let out = self.call(&module.functions[*function], &info[*function], arguments, &mask);
                    if let Some(r) = result {
                        frame.values[r.index()] = out;
                    }
                }
                Statement::ControlBarrier(flags) => {
                    if flags.contains(Barrier::WORK_GROUP) {
                        if mask.iter().any(|x| !x) && frame.returned.iter().zip(&mask).any(|(r, m)| !r && !m) {
                            self.complain("a workgroup barrier that not all reach".into());
                        }
                        self.epoch += 1;
                    } else {
                        for s in 0..self.subgroup_epochs.len() {
                            let lanes = &mask[s * self.width..((s + 1) * self.width).min(self.threads)];
                            if lanes.iter().any(|&x| x) {
                                if lanes.iter().any(|x| !x) {
                                    self.complain("a subgroup barrier that not all lanes reach".into());
                                }
                                self.subgroup_epochs[s] += 1;
                            }
                        }
                    }
                }
                Statement::SubgroupCollectiveOperation { op, argument, result, .. } => {
                    let mut out = vec![None; self.threads];
                    for s in 0..self.threads / self.width {
                        let lanes: Vec<usize> = (s * self.width..(s + 1) * self.width).filter(|&t| mask[t]).collect();
                        let values: Vec<Value> = lanes.iter().map(|&t| self.value(frame, *argument, t)).collect();
                        if values.is_empty() {
                            continue;
                        }
                        let v = match op {
                            SubgroupOperation::Any => Value::One(Bool(values.iter().any(Value::truth))),
                            SubgroupOperation::All => Value::One(Bool(values.iter().all(Value::truth))),
                            other => panic!("{other:?}"),
                        };
                        for t in lanes {
                            out[t] = Some(v.clone());
                        }
                    }
                    frame.values[result.index()] = out;
                }
                Statement::SubgroupGather { mode, argument, result } => {
                    let mut out = vec![None; self.threads];
                    for t in 0..self.threads {
                        if mask[t] {
                            let lane = t % self.width;
                            let from = match mode {
                                GatherMode::Shuffle(h) => self.value(frame, *h, t).uint() as usize,
                                GatherMode::ShuffleXor(h) => lane ^ self.value(frame, *h, t).uint() as usize,
                                GatherMode::BroadcastFirst => 0,
                                GatherMode::QuadBroadcast(h) => lane / 4 * 4 + self.value(frame, *h, t).uint() as usize,
                                GatherMode::QuadSwap(Direction::X) => lane ^ 1,
                                GatherMode::QuadSwap(Direction::Y) => lane ^ 2,
                                other => panic!("{other:?}"),
                            };
                            let from = t - lane + from;
                            if !mask[from] {
                                self.complain("a shuffle from a lane that is not active".into());
                            }
                            out[t] = Some(self.value(frame, *argument, from));
                        }
                    }
                    frame.values[result.index()] = out;
                }
                Statement::CooperativeStore { target, data } => {
                    for s in 0..self.threads / self.width {
                        let Some((t, at, var, stride)) = self.cooperative(frame, &mask, s, data) else { continue };
                        let Value::One(Matrix(x)) = self.value(frame, *target, t) else { panic!("no matrix") };
                        let unit = self.unit(frame, data.pointer);
                        for i in 0..16 {
                            for j in 0..16 {
                                let place = if data.row_major { i * stride * unit + j } else { j * stride * unit + i };
                                self.store(frame, var, at + place, vec![Float(x[i * 16 + j])], t, None);
                            }
                        }
                    }
                }
                other => panic!("statement {other:?}"),
            }
        }
        mask
    }
}
