//! Whether a device computes rightly what a training needs: asked once, before the first step.

use super::TrainError;
use crate::gpu::device::ComputeDevice;
use crate::gpu::self_test::{self, Part};
use crate::gpu::tier::{self, KernelTier};

/// Runs the self-test's lines of both parts on an adapter. The CPU's kernels are tested with the program. Where what only
/// training needs fails on subgroups and not on the plain tier, gradients run on the plain one.
///
/// # Errors
/// A kernel computes wrongly. The device may still be right for making clips: what a clip needs is the other part.
pub fn check_kernels(device: &ComputeDevice) -> Result<(), TrainError> {
    if device.is_cpu() {
        return Ok(());
    }
    for part in Part::ALL {
        if let Some(line) = self_test::run(device, part).failed() {
            if part == Part::Training && passes_on_the_plain_tier(device) {
                log::warn!(
                    "{}: the subgroup kernels of training failed their self-test ({}: {}), so gradients run on the plain tier",
                    device.name,
                    line.kernel,
                    line.fault()
                );
                tier::take_plain_gradients(device);
                continue;
            }
            return Err(TrainError::WrongKernel {
                device: device.name.clone(),
                kernel: line.kernel.to_string(),
                reason: line.fault(),
            });
        }
    }
    Ok(())
}

/// Whether the kernels of training are right on the plain tier of a device that runs on subgroups.
fn passes_on_the_plain_tier(device: &ComputeDevice) -> bool {
    let tier = KernelTier::Plain { reason: "its gradients are tried".into() };
    matches!(device.tier, KernelTier::Subgroup { .. })
        && self_test::run(&ComputeDevice { tier, ..device.clone() }, Part::Training).passed
}
