//! Devices and kernels.
//!
//! Owns the choice of a device ([`device`]), the kernels that burn does not have ([`kernels`]), which set of them a device
//! gets ([`tier`]), how much work it gets at once ([`pace`]), launches that are
//! played back ([`replay`]), the numeric test that a kernel passes on a device before its first use ([`self_test`]), the clock that
//! says where the time goes ([`spans`]), and large tensors on their way to a device ([`upload`]).
//!
//! Why burn is built without some of its features: with `vulkan` or `metal` it compiles kernels by itself and refuses WGSL ones;
//! `cuda` fetches a compiler when it is built, and WGSL does not run there; `autotune` picks kernels by timing, so that two runs
//! of one recipe could differ.

pub mod device;
pub mod kernels;
pub mod pace;
pub mod replay;
pub mod self_test;
pub mod shader;
pub mod spans;
pub mod tier;
pub mod upload;
