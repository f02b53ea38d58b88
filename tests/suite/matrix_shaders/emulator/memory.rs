//! Reads and writes, and whether they are allowed.

use naga::{AddressSpace, CooperativeData, Expression, Handle, TypeInner};

use super::values::{Float, Slot, Value, Variable};
use super::{Access, Frame, Machine, Mask, Trace};

impl Machine<'_> {
    /// Slots of the elements that a stride counts.
    pub(super) fn unit(&self, frame: &Frame<'_>, pointer: Handle<Expression>) -> usize {
        match frame.info[pointer].ty.inner_with(&self.module.types) {
            TypeInner::Pointer { base, .. } => self.slots(*base),
            TypeInner::ValuePointer { size, .. } => size.map_or(1, |s| s as usize),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn cooperative(
        &mut self,
        frame: &mut Frame<'_>,
        mask: &Mask,
        s: usize,
        data: &CooperativeData,
    ) -> Option<(usize, usize, Variable, usize)> {
        let lanes: Vec<usize> = (s * self.width..(s + 1) * self.width).collect();
        let first = *lanes.iter().find(|&&t| mask[t])?;
        if lanes.iter().any(|&t| !mask[t]) {
            self.complain("a matrix operation that not all lanes reach".into());
        }
        let (var, at) = self.pointer(frame, data.pointer, first);
        let stride = self.value(frame, data.stride, first).uint() as usize;
        for &t in &lanes {
            if mask[t]
                && (self.pointer(frame, data.pointer, t) != (var, at)
                    || self.value(frame, data.stride, t).uint() as usize != stride)
            {
                self.complain("a matrix operation whose place differs among lanes".into());
            }
        }
        let unit = self.unit(frame, data.pointer);
        let size = match frame.info[data.pointer].ty.inner_with(&self.module.types) {
            TypeInner::Pointer { base, .. } => self.scalar(*base).1,
            TypeInner::ValuePointer { scalar, .. } => scalar.width as usize,
            _ => 4,
        };
        if !(at * size).is_multiple_of(16) || !(stride * unit * size).is_multiple_of(16) {
            self.complain(format!("a matrix at {} bytes with a row of {}: not multiples of 16", at * size, stride * unit * size));
        }
        Some((first, at, var, stride))
    }

    pub(super) fn pointer(&mut self, frame: &mut Frame<'_>, h: Handle<Expression>, t: usize) -> (Variable, usize) {
        match self.value(frame, h, t) {
            Value::Place(v, at) => (v, at),
            other => panic!("no pointer: {other:?}"),
        }
    }

    /// Remembers an access to workgroup memory, and complains if it meets an earlier one. `lane` is None for a whole subgroup.
    fn note(&mut self, global: usize, at: usize, thread: usize, lane: Option<usize>, write: bool) {
        if self.space[global] != AddressSpace::WorkGroup {
            return;
        }
        let subgroup = thread / self.width;
        let me = Access { subgroup, lane, epoch: self.epoch, subgroup_epoch: self.subgroup_epochs[subgroup] };
        let clash = |old: Option<Access>| {
            old.is_some_and(|old| {
                let unordered = old.subgroup_epoch == me.subgroup_epoch && old.lane != me.lane;
                old.epoch == me.epoch && (old.subgroup != me.subgroup || unordered)
            })
        };
        let entry = self.trace.entry((global, at)).or_default();
        let bad = clash(entry.write) || (write && clash(entry.read));
        if write {
            *entry = Trace { write: Some(me), read: None };
        } else if entry.read.is_none_or(|read| read.epoch != me.epoch || read.subgroup == me.subgroup) {
            entry.read = Some(me);
        }
        if bad {
            let name = self.module.global_variables.iter().nth(global).and_then(|(_, variable)| variable.name.clone());
            let what = if write { "write" } else { "read" };
            self.complain(format!("two lanes touch {} without a barrier between ({what})", name.unwrap_or_default()));
        }
    }

    pub(super) fn store(
        &mut self,
        frame: &mut Frame<'_>,
        var: Variable,
        at: usize,
        slots: Vec<Slot>,
        t: usize,
        lane: Option<usize>,
    ) {
        match var {
            Variable::Local(l) => frame.locals[l][t][at..at + slots.len()].clone_from_slice(&slots),
            Variable::Global(g) => {
                if at + slots.len() > self.globals[g].len() {
                    self.complain(format!("a write behind the end of global {g}: {at}"));
                    return;
                }
                for (i, s) in slots.into_iter().enumerate() {
                    self.note(g, at + i, t, lane, true);
                    self.globals[g][at + i] = s;
                }
            }
        }
    }

    pub(super) fn load(
        &mut self,
        frame: &Frame<'_>,
        var: Variable,
        at: usize,
        count: usize,
        t: usize,
        lane: Option<usize>,
    ) -> Vec<Slot> {
        match var {
            Variable::Local(l) => frame.locals[l][t][at..at + count].to_vec(),
            Variable::Global(g) => {
                if at + count > self.globals[g].len() {
                    self.complain(format!("a read behind the end of global {g}: {at} of {}", self.globals[g].len()));
                    return vec![Float(f32::NAN); count];
                }
                for i in 0..count {
                    self.note(g, at + i, t, lane, false);
                }
                let out = self.globals[g][at..at + count].to_vec();
                if out.iter().any(|s| matches!(s, Slot::Junk)) {
                    self.complain(format!("a read of workgroup memory that nothing wrote, global {g}"));
                    return vec![Float(f32::NAN); count];
                }
                out
            }
        }
    }
}
