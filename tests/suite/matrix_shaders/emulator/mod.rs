//! Runs a shader on the CPU, straight from naga's representation: all invocations of a workgroup in step, matrices included.
//!
//! It proves the logic where no device has cooperative matrices, and reports what a device would not: reads and writes out of
//! bounds, reads of workgroup memory that nothing wrote, and accesses of two lanes without a barrier between them. It knows
//! what the project's shaders use, and panics at anything else.

mod expressions;
mod memory;
mod statements;
mod values;

use std::collections::HashMap;
use std::rc::Rc;

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{AddressSpace, ArraySize, Binding, BuiltIn, Expression, Function, Handle, Module, ScalarKind, Type, TypeInner};

use values::{Bool, Float, Int, Matrix, Slot, Uint, Value};

/// Who touched a word, and after how many barriers.
#[derive(Clone, Copy)]
struct Access {
    subgroup: usize,
    /// None: the whole subgroup, by a matrix.
    lane: Option<usize>,
    epoch: u64,
    subgroup_epoch: u64,
}

/// The last accesses to a word of workgroup memory.
#[derive(Clone, Copy, Default)]
struct Trace {
    write: Option<Access>,
    read: Option<Access>,
}

/// One dispatch of a module's only entry point.
pub struct Machine<'a> {
    module: &'a Module,
    info: &'a ModuleInfo,
    globals: Vec<Vec<Slot>>,
    space: Vec<AddressSpace>,
    trace: HashMap<(usize, usize), Trace>,
    /// Barriers of the workgroup so far, and of each subgroup.
    epoch: u64,
    subgroup_epochs: Vec<u64>,
    /// Lanes of a subgroup.
    width: usize,
    threads: usize,
    group: [u32; 3],
    groups: [u32; 3],
    /// What was wrong.
    pub complaints: Vec<String>,
    constants: HashMap<Handle<Expression>, Value>,
}

/// The invocations that are active.
type Mask = Vec<bool>;

/// One call of a function by all active invocations.
struct Frame<'f> {
    function: &'f Function,
    info: &'f FunctionInfo,
    arguments: Vec<Vec<Value>>,
    locals: Vec<Vec<Vec<Slot>>>,
    values: Vec<Vec<Option<Value>>>,
    returned: Mask,
    result: Vec<Option<Value>>,
    /// Of each loop around: who left it, and who goes on with its next round.
    loops: Vec<(Mask, Mask)>,
}

fn any(mask: &Mask) -> bool {
    mask.iter().any(|&active| active)
}

impl<'a> Machine<'a> {
    pub fn new(module: &'a Module, info: &'a ModuleInfo, buffers: &[Vec<u8>], groups: [u32; 3], width: usize) -> Machine<'a> {
        let mut globals = Vec::new();
        let mut space = Vec::new();
        let threads = module.entry_points[0].workgroup_size.iter().product::<u32>() as usize;
        let mut m = Machine {
            module,
            info,
            globals: Vec::new(),
            space: Vec::new(),
            trace: HashMap::new(),
            epoch: 1,
            subgroup_epochs: vec![1; threads.div_ceil(width)],
            width,
            threads,
            group: [0; 3],
            groups,
            complaints: Vec::new(),
            constants: HashMap::new(),
        };
        for (_, var) in module.global_variables.iter() {
            space.push(var.space);
            match &var.binding {
                Some(b) => {
                    let bytes = &buffers[b.binding as usize];
                    let (kind, size) = m.scalar(var.ty);
                    globals.push(
                        bytes
                            .chunks_exact(size)
                            .map(|c| match (kind, size) {
                                (ScalarKind::Float, 2) => Float(half::f16::from_le_bytes([c[0], c[1]]).to_f32()),
                                (ScalarKind::Float, _) => Float(f32::from_le_bytes([c[0], c[1], c[2], c[3]])),
                                _ => Uint(u32::from_le_bytes([c[0], c[1], c[2], c[3]])),
                            })
                            .collect(),
                    );
                }
                None => globals.push(vec![Slot::Junk; m.slots(var.ty)]),
            }
        }
        m.globals = globals;
        m.space = space;
        m
    }

    fn scalar(&self, ty: Handle<Type>) -> (ScalarKind, usize) {
        match &self.module.types[ty].inner {
            TypeInner::Array { base, .. } => self.scalar(*base),
            other => other.scalar().map(|s| (s.kind, s.width as usize)).expect("a scalar"),
        }
    }

    pub(super) fn slots_of(&self, inner: &TypeInner) -> usize {
        match inner {
            TypeInner::Scalar(_) | TypeInner::Atomic(_) | TypeInner::CooperativeMatrix { .. } => 1,
            TypeInner::Vector { size, .. } => *size as usize,
            TypeInner::Array { base, size, .. } => match size {
                ArraySize::Constant(n) => n.get() as usize * self.slots(*base),
                _ => 0,
            },
            other => panic!("no slots for {other:?}"),
        }
    }

    fn slots(&self, ty: Handle<Type>) -> usize {
        self.slots_of(&self.module.types[ty].inner)
    }

    fn zero(&self, inner: &TypeInner) -> Vec<Slot> {
        match inner {
            TypeInner::Scalar(s) => vec![match s.kind {
                ScalarKind::Float => Float(0.0),
                ScalarKind::Uint => Uint(0),
                ScalarKind::Sint => Int(0),
                _ => Bool(false),
            }],
            TypeInner::Vector { size, scalar } => {
                (0..*size as usize).flat_map(|_| self.zero(&TypeInner::Scalar(*scalar))).collect()
            }
            TypeInner::CooperativeMatrix { .. } => vec![Matrix(Rc::new(vec![0.0; 256]))],
            TypeInner::Array { base, size: ArraySize::Constant(n), .. } => {
                (0..n.get()).flat_map(|_| self.zero(&self.module.types[*base].inner)).collect()
            }
            other => panic!("no zero for {other:?}"),
        }
    }

    /// Bytes of a storage buffer afterwards.
    pub fn bytes(&self, binding: u32) -> Vec<u8> {
        let (handle, var) = self
            .module
            .global_variables
            .iter()
            .find(|(_, v)| v.binding.as_ref().is_some_and(|b| b.binding == binding))
            .expect("a binding");
        let (_, size) = self.scalar(var.ty);
        self.globals[handle.index()]
            .iter()
            .flat_map(|s| match (s, size) {
                (Float(x), 2) => half::f16::from_f32(*x).to_le_bytes().to_vec(),
                (Float(x), _) => x.to_le_bytes().to_vec(),
                (Uint(x), _) => x.to_le_bytes().to_vec(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    pub fn run(&mut self, group: [u32; 3]) {
        self.group = group;
        self.epoch += 1;
        self.trace.clear();
        for (h, var) in self.module.global_variables.iter() {
            if var.space == AddressSpace::WorkGroup {
                self.globals[h.index()].iter_mut().for_each(|s| *s = Slot::Junk);
            }
        }
        let entry = &self.module.entry_points[0];
        let info = self.info.get_entry_point(0);
        let arguments = entry
            .function
            .arguments
            .iter()
            .map(|a| {
                (0..self.threads)
                    .map(|t| {
                        let three = |v: [u32; 3]| Value::Many(v.iter().map(|&x| Uint(x)).collect());
                        match a.binding {
                            Some(Binding::BuiltIn(BuiltIn::WorkGroupId)) => three(self.group),
                            Some(Binding::BuiltIn(BuiltIn::NumWorkGroups)) => three(self.groups),
                            Some(Binding::BuiltIn(BuiltIn::LocalInvocationIndex)) => Value::One(Uint(t as u32)),
                            Some(Binding::BuiltIn(BuiltIn::SubgroupId)) => Value::One(Uint((t / self.width) as u32)),
                            Some(Binding::BuiltIn(BuiltIn::SubgroupSize)) => Value::One(Uint(self.width as u32)),
                            Some(Binding::BuiltIn(BuiltIn::SubgroupInvocationId)) => Value::One(Uint((t % self.width) as u32)),
                            ref other => panic!("{other:?}"),
                        }
                    })
                    .collect()
            })
            .collect();
        self.call(&entry.function, info, arguments, &vec![true; self.threads]);
    }

    fn call<'f>(
        &mut self,
        function: &'f Function,
        info: &'f FunctionInfo,
        arguments: Vec<Vec<Value>>,
        mask: &Mask,
    ) -> Vec<Option<Value>>
    where
        'a: 'f,
    {
        let n = self.threads;
        let mut frame = Frame {
            function,
            info,
            arguments,
            locals: Vec::new(),
            values: vec![Vec::new(); function.expressions.len()],
            returned: vec![false; n],
            result: vec![None; n],
            loops: Vec::new(),
        };
        for (_, local) in function.local_variables.iter() {
            let start = match local.init {
                Some(init) => self.value(&mut frame, init, mask.iter().position(|&x| x).unwrap_or(0)).slots(),
                None => vec![Slot::Junk; self.slots(local.ty)],
            };
            frame.locals.push(vec![start; n]);
        }
        self.block(&mut frame, &function.body, mask.clone());
        frame.result
    }

    fn complain(&mut self, text: String) {
        if self.complaints.len() < 20 && !self.complaints.contains(&text) {
            self.complaints.push(text);
        }
    }
}
