pub mod clip;
pub mod generate;
pub mod gpu;
pub mod mask;
pub mod model;
