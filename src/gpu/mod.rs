//! Devices and kernels.
//!
//! Owns the choice of a device ([`device`]), the kernels that burn does not have ([`kernels`]) and the numeric test that a
//! kernel passes on a device before its first use ([`self_test`]).

pub mod device;
pub mod kernels;
pub mod self_test;
pub mod shader;
