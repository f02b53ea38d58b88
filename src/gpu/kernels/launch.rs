//! What all WGSL launchers share: the kernel's identity, its bindings and its dispatch.

use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;

use burn::backend::wgpu::{CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous};
use burn::cubecl::Device as CubeDevice;
use burn::cubecl::prelude::*;
use burn::cubecl::server::{KernelArguments, MetadataBindingInfo};
use burn::tensor::{DType, Shape};

use crate::gpu::shader::Variant;

/// The most workgroups that WebGPU allows in one dimension.
const DISPATCH_LIMIT: u32 = 65_535;

/// A kernel could not run on this device. It is raised as a panic's payload, because burn's operations return no errors;
/// the engine's thread turns it into its own error.
#[derive(Debug, thiserror::Error)]
#[error(
    "The kernel {kernel} does not run on this device: {reason}. Use `--device cpu`, and report this with the output of `tilereel doctor`."
)]
pub struct KernelError {
    pub kernel: &'static str,
    pub reason: String,
}

/// One variant of one shader file.
#[derive(Clone, Debug)]
pub struct Shader {
    pub name: &'static str,
    pub template: &'static str,
    pub variant: Variant,
    pub workgroup_size: u32,
    /// Constants of the WGSL text that the launcher counts on. A test holds them against the text.
    pub constants: &'static [(&'static str, usize)],
}

/// A shader with what a launch of it needs besides its tensors.
#[derive(Clone, Debug)]
pub struct ShaderCall {
    pub shader: Shader,
    pub workgroups: [u32; 3],
    /// The words of the last binding.
    pub info: Vec<u32>,
}

impl KernelSource for Shader {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.variant.expand(self.template))
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>()
            .info((self.name, self.variant.clone()))
            .cube_dim(CubeDim::new_1d(self.workgroup_size).into())
            .mode(ExecutionMode::Unchecked)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Runs a shader with the inputs and then the outputs as bindings 0, 1, .. and the words of information as the last one.
pub(crate) fn launch(call: ShaderCall, inputs: &[&CubeTensor], outputs: &[&CubeTensor]) {
    let ShaderCall { shader, workgroups, info } = call;
    assert!(
        workgroups.iter().all(|&count| count <= DISPATCH_LIMIT),
        "{}: {workgroups:?} workgroups are more than {DISPATCH_LIMIT} in one dimension",
        shader.name
    );
    let mut arguments = KernelArguments::new();
    for tensor in inputs.iter().chain(outputs) {
        arguments = arguments.with_buffer(tensor.handle.clone().binding());
    }
    let words = info.chunks(2).map(|pair| u64::from(pair[0]) | u64::from(pair.get(1).copied().unwrap_or(0)) << 32);
    arguments.info = MetadataBindingInfo::custom(words.collect());

    let (name, variant) = (shader.name, shader.variant.clone());
    let output = outputs[0];
    let kernel = SourceKernel::new(shader.clone(), CubeDim::new_1d(shader.workgroup_size));
    let [x, y, z] = workgroups;
    output.client.launch(Box::new(kernel), CubeCount::Static(x, y, z), arguments);
    check_first_use(name, variant, output);
}

/// Kernels that have run: name, variant and device.
type Launched = HashSet<(&'static str, Variant, CubeDevice)>;

/// A shader that does not compile shows only when it is asked for; later launches of the same variant cannot fail that way.
fn check_first_use(name: &'static str, variant: Variant, output: &CubeTensor) {
    static CHECKED: Mutex<Option<Launched>> = Mutex::new(None);
    let launched = (name, variant, output.device.clone());
    let mut checked = CHECKED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let checked = checked.get_or_insert_default();
    if checked.contains(&launched) {
        return;
    }
    if let Err(error) = output.client.check([&output.handle]) {
        std::panic::panic_any(KernelError { kernel: name, reason: error.to_string() });
    }
    checked.insert(launched);
}

/// So many workgroups in the first two dimensions, where one may be too short for them. There may be more than asked for.
pub(super) fn folded(count: usize) -> [u32; 2] {
    let down = count.div_ceil(DISPATCH_LIMIT as usize).max(1);
    [count.div_ceil(down) as u32, down as u32]
}

/// What a shader that moves values one by one or in fours sees its tensors as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vectors {
    element: &'static str,
    in_fours: bool,
}

impl Vectors {
    /// For tensors of a storage type whose rows (or what else may not be torn apart) have so many values.
    pub fn of(dtype: DType, row: usize) -> Self {
        Self::new(element(dtype), row.is_multiple_of(4))
    }

    pub(super) const fn new(element: &'static str, in_fours: bool) -> Self {
        Self { element, in_fours }
    }

    /// Whether these are the ones for rows of so many values.
    pub(super) fn fit(self, row: usize) -> bool {
        self.in_fours == row.is_multiple_of(4)
    }

    /// Values of an element.
    pub fn length(self) -> usize {
        if self.in_fours { 4 } else { 1 }
    }

    /// Puts in `half`, `in_fours`, `stored` (an element of storage) and `wide` (the same in f32).
    pub(super) fn put_into(self, variant: Variant) -> Variant {
        let (stored, wide) =
            if self.in_fours { (format!("vec4<{}>", self.element), "vec4<f32>") } else { (self.element.to_owned(), "f32") };
        let variant = variant.switch("half", self.element == "f16").switch("in_fours", self.in_fours);
        variant.value("stored", stored).value("wide", wide)
    }
}

/// As variants are named: the storage type, and whether values go one by one.
impl fmt::Display for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.element, if self.in_fours { "" } else { " single" })
    }
}

/// A new, not yet written tensor on the device of `like`.
pub(crate) fn empty(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let buffer = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, buffer, dtype)
}

/// Row-major and of the wanted type, as the shaders read it.
pub(super) fn row_major(tensor: CubeTensor, dtype: DType) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    assert_eq!(tensor.dtype, dtype, "all tensors of a kernel have one storage type");
    tensor
}

/// Name of a storage type in WGSL.
pub(super) fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        other => panic!("the kernels store f32 or f16, not {other:?}"),
    }
}
