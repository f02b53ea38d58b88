//! Every shader variant, without a GPU: parsed, validated, written for Vulkan, Metal and DirectX, and its numbers compared
//! with the launcher's.

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Literal, Module, StorageAccess};
use tilereel::gpu::kernels::{Shader, variants};
use tilereel::gpu::tier::{MATRIX_WORKGROUP_BYTES, WORKGROUP_BYTES};
use tilereel::world::renderer;

/// 16x16 matrices exist in SPIR-V only: naga has none in HLSL, and Metal would refuse the text that naga writes.
fn on_matrices(text: &str) -> bool {
    text.contains("enable wgpu_cooperative_matrix")
}

fn on_subgroups(text: &str) -> bool {
    text.contains("@builtin(subgroup_id)")
}

#[test]
fn the_list_of_variants_is_complete() {
    let listed: Vec<&str> = include_str!("../../shaders/variants.txt")
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let known: Vec<String> = variants::all().into_iter().map(|(name, _)| name).collect();
    let missing: Vec<_> = known.iter().filter(|name| !listed.contains(&name.as_str())).collect();
    let unknown: Vec<_> = listed.iter().filter(|line| !known.iter().any(|name| name == **line)).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "shaders/variants.txt lacks {missing:#?} and has {unknown:#?} that no launcher asks for"
    );
    assert_eq!(listed.len(), known.len(), "shaders/variants.txt names a variant twice");
}

#[test]
fn every_variant_is_sound_on_every_platform() {
    let mut faults = Vec::new();
    for (name, shader) in variants::all().into_iter().chain([("world_render".into(), renderer::shader())]) {
        faults.extend(faults_of(&shader).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// A check that passes everything is no check.
#[test]
fn faults_are_found() {
    let (_, sound) = variants::all().into_iter().next().expect("a variant");
    let broken = |from: &str, to: &str| {
        let template: &'static str = Box::leak(sound.template.replacen(from, to, 1).into_boxed_str());
        assert_ne!(template, sound.template, "{from} is not in the shader");
        faults_of(&Shader { template, ..sound.clone() })
    };
    assert!(faults_of(&sound).is_empty());
    for (from, to) in [
        ("@workgroup_size(128)", "@workgroup_size(64)"),
        ("const QUERY_BLOCK = 32u", "const QUERY_BLOCK = 16u"),
        ("@binding(1) var<storage, read_write>", "@binding(9) var<storage, read_write>"),
        ("var<storage, read_write> key:", "var<storage, read> key:"),
        ("array<f32, QUERY_BLOCK * HEAD_PADDED>", "array<f32, 10000>"),
        ("f32(value[", "f32(key["),
        ("workgroupBarrier();", "workgroupBarrier(1);"),
    ] {
        assert!(!broken(from, to).is_empty(), "nobody noticed {to}");
    }
}

fn faults_of(shader: &Shader) -> Vec<String> {
    let text = shader.variant.expand(shader.template);
    let module = match naga::front::wgsl::parse_str(&text) {
        Ok(module) => module,
        Err(error) => return vec![error.emit_to_string(&text)],
    };
    let mut capabilities = if text.contains("enable f16") { Capabilities::SHADER_FLOAT16 } else { Capabilities::empty() };
    if on_subgroups(&text) {
        capabilities |= Capabilities::SUBGROUP;
    }
    if on_matrices(&text) {
        capabilities |= Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP | Capabilities::SUBGROUP_BARRIER;
    }
    let info = match Validator::new(ValidationFlags::all(), capabilities).validate(&module) {
        Ok(info) => info,
        Err(error) => return vec![error.emit_to_string(&text)],
    };
    let mut faults =
        if on_matrices(&text) { spirv_fault(&module, &info).into_iter().collect() } else { writing_faults(&module, &info) };
    faults.extend(number_faults(shader, &module, if on_matrices(&text) { MATRIX_WORKGROUP_BYTES } else { WORKGROUP_BYTES }));
    faults.extend(binding_faults(&module, &info));
    faults
}

fn spirv_fault(module: &Module, info: &ModuleInfo) -> Option<String> {
    spv::write_vec(module, info, &spv::Options::default(), None).err().map(|error| format!("SPIR-V: {error}"))
}

fn writing_faults(module: &Module, info: &ModuleInfo) -> Vec<String> {
    let spirv = spirv_fault(module, info).map_or(Ok(()), Err);
    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    let metal = msl::write_string(module, info, &options, &msl::PipelineOptions::default())
        .map_err(|error| format!("MSL: {error}"))
        .and_then(|(_, written)| {
            written.entry_point_names.into_iter().try_for_each(|name| name.map(drop).map_err(|e| format!("MSL: {e}")))
        });
    let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, ..Default::default() };
    let mut text = String::new();
    let direct_x = hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
        .write(module, info, None)
        .map_err(|error| format!("HLSL: {error}"))
        .and_then(|written| {
            written.entry_point_names.into_iter().try_for_each(|name| name.map(drop).map_err(|e| format!("HLSL: {e}")))
        });
    [spirv, metal, direct_x].into_iter().filter_map(Result::err).collect()
}

/// Workgroup size, the constants that the launcher counts on, and workgroup memory.
fn number_faults(shader: &Shader, module: &Module, most_bytes: u32) -> Vec<String> {
    let mut faults = Vec::new();
    let [entry] = module.entry_points.as_slice() else { return vec!["there is not one entry point".into()] };
    if entry.workgroup_size != [shader.workgroup_size, 1, 1] {
        faults.push(format!("the workgroup is {:?}, the launcher's {}", entry.workgroup_size, shader.workgroup_size));
    }
    for &(name, wanted) in shader.constants {
        let constant = module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name));
        let value = constant.map(|(_, constant)| &module.global_expressions[constant.init]);
        if !matches!(value, Some(Expression::Literal(Literal::U32(value))) if *value as usize == wanted) {
            faults.push(format!("{name} is {value:?}, the launcher's {wanted}"));
        }
    }
    let shared = module.global_variables.iter().filter(|(_, variable)| variable.space == AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum();
    if bytes > most_bytes {
        faults.push(format!("{bytes} bytes of workgroup memory are more than {most_bytes}"));
    }
    faults
}

/// Bindings count from 0 without holes, all are used, tensors are read_write (burn packs several into one buffer, and one
/// buffer cannot be bound for reading and for writing at once), and the last one is the words of information.
fn binding_faults(module: &Module, info: &ModuleInfo) -> Vec<String> {
    let mut bindings = Vec::new();
    let mut faults = Vec::new();
    for (handle, variable) in module.global_variables.iter() {
        let Some(binding) = &variable.binding else { continue };
        let name = variable.name.clone().unwrap_or_default();
        let used = info.get_entry_point(0)[handle].intersects(GlobalUse::READ | GlobalUse::WRITE);
        if !used {
            faults.push(format!("{name} is not used, so the driver's layout would lack it"));
        }
        let AddressSpace::Storage { access } = variable.space else {
            faults.push(format!("{name} is no storage buffer"));
            continue;
        };
        let is_info = name == "info";
        let wanted = if is_info { StorageAccess::LOAD } else { StorageAccess::LOAD | StorageAccess::STORE };
        if access != wanted {
            faults.push(format!("{name} is bound for {access:?}, not for {wanted:?}"));
        }
        bindings.push((binding.group, binding.binding, is_info));
    }
    bindings.sort_unstable();
    let count = bindings.len() as u32;
    let expected: Vec<_> = (0..count).map(|index| (0, index, index + 1 == count)).collect();
    if bindings != expected {
        faults.push(format!("the bindings are {bindings:?}, not 0 to {} with the information last", count.saturating_sub(1)));
    }
    faults
}
