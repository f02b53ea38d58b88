//! Values of the interpreted shader, and what operators make of them.

use std::rc::Rc;

use naga::{BinaryOperator, Literal, MathFunction, ScalarKind, UnaryOperator};

/// A scalar, a whole matrix, or memory that nobody wrote.
#[derive(Clone, Debug)]
pub enum Slot {
    Uint(u32),
    Int(i32),
    Float(f32),
    Bool(bool),
    /// 16x16, row by row.
    Matrix(Rc<Vec<f32>>),
    Junk,
}

pub use Slot::{Bool, Float, Int, Matrix, Uint};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variable {
    Global(usize),
    Local(usize),
}

#[derive(Clone, Debug)]
pub enum Value {
    One(Slot),
    Many(Vec<Slot>),
    /// A variable and a place in it.
    Place(Variable, usize),
}

impl Value {
    pub fn uint(&self) -> u32 {
        match self {
            Value::One(Uint(x)) => *x,
            Value::One(Int(x)) => *x as u32,
            other => panic!("not an integer: {other:?}"),
        }
    }

    pub fn truth(&self) -> bool {
        match self {
            Value::One(Bool(x)) => *x,
            other => panic!("not a truth: {other:?}"),
        }
    }

    pub fn slots(&self) -> Vec<Slot> {
        match self {
            Value::One(s) => vec![s.clone()],
            Value::Many(m) => m.clone(),
            Value::Place(..) => panic!("a pointer is no value"),
        }
    }

    pub fn of(mut slots: Vec<Slot>) -> Value {
        if slots.len() == 1 { Value::One(slots.remove(0)) } else { Value::Many(slots) }
    }
}

pub fn literal(l: &Literal) -> Value {
    Value::One(match l {
        Literal::F32(x) => Float(*x),
        Literal::F16(x) => Float(x.to_f32()),
        Literal::U32(x) => Uint(*x),
        Literal::I32(x) => Int(*x),
        Literal::Bool(x) => Bool(*x),
        other => panic!("{other:?}"),
    })
}

/// What a value of 16 bits can hold.
pub fn rounded_to_half(slot: Slot) -> Slot {
    match slot {
        Float(x) => Float(half::f16::from_f32(x).to_f32()),
        other => other,
    }
}

pub fn unary(operator: UnaryOperator, slot: Slot) -> Slot {
    match (operator, slot) {
        (UnaryOperator::Negate, Float(x)) => Float(-x),
        (UnaryOperator::Negate, Int(x)) => Int(-x),
        (UnaryOperator::LogicalNot, Bool(x)) => Bool(!x),
        other => panic!("{other:?}"),
    }
}

/// `convert` is false where the bits stay.
pub fn cast(slot: Slot, kind: ScalarKind, convert: bool) -> Slot {
    match (slot, kind, convert) {
        (Uint(x), ScalarKind::Float, false) => Float(f32::from_bits(x)),
        (Float(x), ScalarKind::Uint, false) => Uint(x.to_bits()),
        (Uint(x), ScalarKind::Float, _) => Float(x as f32),
        (Int(x), ScalarKind::Float, _) => Float(x as f32),
        (Float(x), ScalarKind::Float, _) => Float(x),
        (Uint(x), ScalarKind::Sint, _) => Int(x as i32),
        (Int(x), ScalarKind::Uint, _) => Uint(x as u32),
        (same @ Uint(_), ScalarKind::Uint, _) | (same @ Int(_), ScalarKind::Sint, _) => same,
        other => panic!("{other:?}"),
    }
}

pub fn math(function: MathFunction, first: &Slot, second: Option<Slot>, third: Option<Slot>) -> Slot {
    match (function, first, second, third) {
        (MathFunction::Min, Uint(x), Some(Uint(y)), _) => Uint(y.min(*x)),
        (MathFunction::Max, Uint(x), Some(Uint(y)), _) => Uint(y.max(*x)),
        (MathFunction::Min, Int(x), Some(Int(y)), _) => Int(y.min(*x)),
        (MathFunction::Max, Int(x), Some(Int(y)), _) => Int(y.max(*x)),
        (MathFunction::Min, Float(x), Some(Float(y)), _) => Float(x.min(y)),
        (MathFunction::Max, Float(x), Some(Float(y)), _) => Float(x.max(y)),
        (MathFunction::Exp, Float(x), ..) => Float(x.exp()),
        (MathFunction::Exp2, Float(x), ..) => Float(x.exp2()),
        (MathFunction::Log, Float(x), ..) => Float(x.ln()),
        (MathFunction::Log2, Float(x), ..) => Float(x.log2()),
        (MathFunction::Sqrt, Float(x), ..) => Float(x.sqrt()),
        (MathFunction::Fma, Float(x), Some(Float(y)), Some(Float(z))) => Float(x.mul_add(y, z)),
        other => panic!("{other:?}"),
    }
}

pub fn binary(op: BinaryOperator, l: &Slot, r: &Slot) -> Slot {
    match (l, r) {
        (Uint(a), Uint(b)) => match op {
            BinaryOperator::Add => Uint(a.wrapping_add(*b)),
            BinaryOperator::Subtract => Uint(a.wrapping_sub(*b)),
            BinaryOperator::Multiply => Uint(a.wrapping_mul(*b)),
            BinaryOperator::Divide => Uint(a / b),
            BinaryOperator::Modulo => Uint(a % b),
            BinaryOperator::And => Uint(a & b),
            BinaryOperator::InclusiveOr => Uint(a | b),
            BinaryOperator::ExclusiveOr => Uint(a ^ b),
            BinaryOperator::ShiftLeft => Uint(a << b),
            BinaryOperator::ShiftRight => Uint(a >> b),
            BinaryOperator::Equal => Bool(a == b),
            BinaryOperator::NotEqual => Bool(a != b),
            BinaryOperator::Less => Bool(a < b),
            BinaryOperator::LessEqual => Bool(a <= b),
            BinaryOperator::Greater => Bool(a > b),
            BinaryOperator::GreaterEqual => Bool(a >= b),
            other => panic!("{other:?}"),
        },
        (Int(a), Int(b)) => match op {
            BinaryOperator::Add => Int(a.wrapping_add(*b)),
            BinaryOperator::Subtract => Int(a.wrapping_sub(*b)),
            BinaryOperator::Multiply => Int(a.wrapping_mul(*b)),
            BinaryOperator::Less => Bool(a < b),
            BinaryOperator::GreaterEqual => Bool(a >= b),
            BinaryOperator::LessEqual => Bool(a <= b),
            BinaryOperator::Greater => Bool(a > b),
            other => panic!("{other:?}"),
        },
        (Float(a), Float(b)) => match op {
            BinaryOperator::Add => Float(a + b),
            BinaryOperator::Subtract => Float(a - b),
            BinaryOperator::Multiply => Float(a * b),
            BinaryOperator::Divide => Float(a / b),
            BinaryOperator::Less => Bool(a < b),
            BinaryOperator::LessEqual => Bool(a <= b),
            BinaryOperator::Greater => Bool(a > b),
            BinaryOperator::GreaterEqual => Bool(a >= b),
            other => panic!("{other:?}"),
        },
        (Bool(a), Bool(b)) => match op {
            BinaryOperator::LogicalAnd | BinaryOperator::And => Bool(*a && *b),
            BinaryOperator::LogicalOr | BinaryOperator::InclusiveOr => Bool(*a || *b),
            other => panic!("{other:?}"),
        },
        (Matrix(a), Matrix(b)) if op == BinaryOperator::Add => {
            Matrix(Rc::new(a.iter().zip(b.iter()).map(|(a, b)| a + b).collect()))
        }
        (Matrix(a), Float(b)) | (Float(b), Matrix(a)) if op == BinaryOperator::Multiply => {
            Matrix(Rc::new(a.iter().map(|a| a * b).collect()))
        }
        other => panic!("{op:?} of {other:?}"),
    }
}
