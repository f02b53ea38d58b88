// GELU in its tanh form, or its derivative times the gradient of what follows; every value for itself. All in f32: the cube
// would overflow f16.
#if half
enable f16;
#end

const THREADS = 256u;

@group(0) @binding(0) var<storage, read_write> input: array<{{ stored }}>;
#if gradient
@group(0) @binding(1) var<storage, read_write> gradient: array<{{ stored }}>;
@group(0) @binding(2) var<storage, read_write> output: array<{{ stored }}>;
@group(0) @binding(3) var<storage, read> info: array<u32>;
#else
@group(0) @binding(1) var<storage, read_write> output: array<{{ stored }}>;
@group(0) @binding(2) var<storage, read> info: array<u32>;
#end

// Words of `info`; the launcher writes them in this order.
const COUNT = 0u;             // of elements of the arrays

const LINEAR = 1.5957691216057308;     // 2 sqrt(2 / pi)
const CUBIC = 0.071354816272600;       // LINEAR * 0.044715

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = (group.y * groups.x + group.x) * THREADS + thread;
    if at >= info[COUNT] {
        return;
    }
    let x = {{ wide }}(input[at]);
    // 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2u)), kept finite.
#if gradient
    // Beyond 12 the derivative is 0 or 1 to the last bit, and the square of x may be no number.
    let c = clamp(x, {{ wide }}(-12.0), {{ wide }}(12.0));
    let gate = 1.0 / (1.0 + exp(min(-c * (LINEAR + CUBIC * c * c), {{ wide }}(80.0))));
    let slope = gate + c * gate * (1.0 - gate) * (LINEAR + 3.0 * CUBIC * c * c);
    output[at] = {{ stored }}({{ wide }}(gradient[at]) * slope);
#else
    let gate = 1.0 / (1.0 + exp(min(-x * (LINEAR + CUBIC * x * x), {{ wide }}(80.0))));
    output[at] = {{ stored }}(x * gate);
#end
}
