//! Whether a device computes rightly what a training needs: asked once, before the first step.

use super::TrainError;
use crate::gpu::device::ComputeDevice;
use crate::gpu::self_test::{self, Part};

/// Runs the self-test's lines of both parts on an adapter. The CPU's kernels are tested with the program.
///
/// # Errors
/// A kernel computes wrongly. The device may still be right for making clips: what a clip needs is the other part.
pub fn check_kernels(device: &ComputeDevice) -> Result<(), TrainError> {
    if device.is_cpu() {
        return Ok(());
    }
    for part in Part::ALL {
        if let Some(line) = self_test::run(device, part).failed() {
            return Err(TrainError::WrongKernel {
                device: device.name.clone(),
                kernel: line.kernel.to_string(),
                reason: line.fault(),
            });
        }
    }
    Ok(())
}
