//! Expressions, one invocation after the other; those on matrices once for a subgroup.

use std::rc::Rc;

use naga::{ArraySize, Expression, Handle, ScalarKind, TypeInner};

use super::values::{Bool, Float, Matrix, Slot, Value, Variable, binary, cast, literal, math, rounded_to_half, unary};
use super::{Frame, Machine, Mask};

impl Machine<'_> {
    fn constant(&mut self, h: Handle<Expression>) -> Value {
        if let Some(v) = self.constants.get(&h) {
            return v.clone();
        }
        let module = self.module;
        let v = match &module.global_expressions[h] {
            Expression::Literal(l) => literal(l),
            Expression::ZeroValue(ty) => Value::of(self.zero(&module.types[*ty].inner)),
            Expression::Constant(c) => self.constant(module.constants[*c].init),
            Expression::Splat { size, value } => {
                let v = self.constant(*value).slots();
                Value::Many(vec![v[0].clone(); *size as usize])
            }
            Expression::Compose { components, .. } => {
                Value::of(components.iter().flat_map(|&c| self.constant(c).slots()).collect())
            }
            other => panic!("constant {other:?}"),
        };
        self.constants.insert(h, v.clone());
        v
    }

    pub(super) fn value(&mut self, frame: &mut Frame<'_>, h: Handle<Expression>, t: usize) -> Value {
        if let Some(Some(v)) = frame.values[h.index()].get(t) {
            return v.clone();
        }
        self.eval(frame, h, t)
    }

    pub(super) fn emit(&mut self, frame: &mut Frame<'_>, h: Handle<Expression>, mask: &Mask) {
        let function = frame.function;
        let mut out: Vec<Option<Value>> = vec![None; self.threads];
        match &function.expressions[h] {
            Expression::CooperativeLoad { data, .. } => {
                let unit = self.unit(frame, data.pointer);
                for s in 0..self.threads / self.width {
                    let Some((t, at, var, stride)) = self.cooperative(frame, mask, s, data) else { continue };
                    let mut x = vec![0.0; 256];
                    for i in 0..16 {
                        for j in 0..16 {
                            let place = if data.row_major { i * stride * unit + j } else { j * stride * unit + i };
                            x[i * 16 + j] = match self.load(frame, var, at + place, 1, t, None).remove(0) {
                                Float(v) => v,
                                other => panic!("{other:?}"),
                            };
                        }
                    }
                    let v = Value::One(Matrix(Rc::new(x)));
                    out[s * self.width..(s + 1) * self.width].fill(Some(v));
                }
            }
            Expression::CooperativeMultiplyAdd { a, b, c } => {
                for s in 0..self.threads / self.width {
                    let Some(t) = (s * self.width..(s + 1) * self.width).find(|&t| mask[t]) else { continue };
                    let mut get = |h| match self.value(frame, h, t) {
                        Value::One(Matrix(x)) => x,
                        other => panic!("{other:?}"),
                    };
                    let (a, b, c) = (get(*a), get(*b), get(*c));
                    let mut d = (*c).clone();
                    for i in 0..16 {
                        for k in 0..16 {
                            let l = a[i * 16 + k];
                            for j in 0..16 {
                                d[i * 16 + j] += l * b[k * 16 + j];
                            }
                        }
                    }
                    let v = Value::One(Matrix(Rc::new(d)));
                    out[s * self.width..(s + 1) * self.width].fill(Some(v));
                }
            }
            _ => {
                for t in 0..self.threads {
                    if mask[t] {
                        out[t] = Some(self.eval(frame, h, t));
                    }
                }
            }
        }
        frame.values[h.index()] = out;
    }

    fn eval(&mut self, frame: &mut Frame<'_>, h: Handle<Expression>, t: usize) -> Value {
        let function = frame.function;
        let info = frame.info;
        let ty = info[h].ty.inner_with(&self.module.types);
        let v = match &function.expressions[h] {
            Expression::Literal(l) => literal(l),
            Expression::Constant(c) => self.constant(self.module.constants[*c].init),
            Expression::ZeroValue(ty) => Value::of(self.zero(&self.module.types[*ty].inner)),
            Expression::Compose { components, .. } => {
                Value::of(components.iter().flat_map(|&c| self.value(frame, c, t).slots()).collect())
            }
            Expression::Splat { size, value } => {
                let s = self.value(frame, *value, t).slots();
                Value::Many(vec![s[0].clone(); *size as usize])
            }
            Expression::Swizzle { size, vector, pattern } => {
                let s = self.value(frame, *vector, t).slots();
                Value::of((0..*size as usize).map(|i| s[pattern[i] as usize].clone()).collect())
            }
            Expression::FunctionArgument(i) => frame.arguments[*i as usize][t].clone(),
            Expression::GlobalVariable(g) => Value::Place(Variable::Global(g.index()), 0),
            Expression::LocalVariable(l) => Value::Place(Variable::Local(l.index()), 0),
            Expression::Access { base, index } => {
                let i = self.value(frame, *index, t).uint() as usize;
                self.access(frame, *base, i, t)
            }
            Expression::AccessIndex { base, index } => self.access(frame, *base, *index as usize, t),
            Expression::Load { pointer } => {
                let count = self.slots_of(ty);
                let (var, at) = self.pointer(frame, *pointer, t);
                Value::of(self.load(frame, var, at, count, t, Some(t % self.width)))
            }
            Expression::Unary { op, expr } => {
                let slots = self.value(frame, *expr, t).slots();
                Value::of(slots.into_iter().map(|slot| unary(*op, slot)).collect())
            }
            Expression::Binary { op, left, right } => {
                let (l, r) = (self.value(frame, *left, t).slots(), self.value(frame, *right, t).slots());
                let n = l.len().max(r.len());
                Value::of((0..n).map(|i| binary(*op, &l[i % l.len()], &r[i % r.len()])).collect())
            }
            Expression::Select { condition, accept, reject } => {
                let c = self.value(frame, *condition, t).slots();
                let (a, r) = (self.value(frame, *accept, t).slots(), self.value(frame, *reject, t).slots());
                Value::of(
                    (0..a.len())
                        .map(|i| if matches!(c[i % c.len()], Bool(true)) { a[i].clone() } else { r[i].clone() })
                        .collect(),
                )
            }
            Expression::Math { fun, arg, arg1, arg2, .. } => {
                let first = self.value(frame, *arg, t).slots();
                let [second, third] = [arg1, arg2].map(|more| more.map(|more| self.value(frame, more, t).slots()));
                let at = |more: &Option<Vec<Slot>>, i: usize| more.as_ref().map(|slots| slots[i].clone());
                Value::of((0..first.len()).map(|i| math(*fun, &first[i], at(&second, i), at(&third, i))).collect())
            }
            Expression::As { expr, kind, convert } => {
                let slots = self.value(frame, *expr, t).slots();
                Value::of(slots.into_iter().map(|slot| cast(slot, *kind, convert.is_some())).collect())
            }
            other => panic!("expression {other:?}"),
        };
        match (&v, ty.scalar()) {
            (Value::One(_) | Value::Many(_), Some(scalar)) if scalar.kind == ScalarKind::Float && scalar.width == 2 => {
                Value::of(v.slots().into_iter().map(rounded_to_half).collect())
            }
            _ => v,
        }
    }

    fn access(&mut self, frame: &mut Frame<'_>, base: Handle<Expression>, index: usize, t: usize) -> Value {
        let step = match frame.info[base].ty.inner_with(&self.module.types) {
            TypeInner::Pointer { base, .. } => match &self.module.types[*base].inner {
                TypeInner::Array { base, size, .. } => {
                    if let ArraySize::Constant(n) = size
                        && index >= n.get() as usize
                    {
                        self.complain(format!("index {index} of an array of {n}"));
                    }
                    self.slots(*base)
                }
                TypeInner::Vector { .. } => 1,
                other => panic!("{other:?}"),
            },
            TypeInner::Array { base, .. } => self.slots(*base),
            TypeInner::Vector { .. } => 1,
            other => panic!("{other:?}"),
        };
        match self.value(frame, base, t) {
            Value::Place(var, at) => Value::Place(var, at + index * step),
            Value::Many(slots) => Value::of(slots[index * step..(index + 1) * step].to_vec()),
            Value::One(_) => panic!("an index into a scalar"),
        }
    }
}
