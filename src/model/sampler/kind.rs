//! The samplers by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SamplerError;

/// The samplers: the ten that the reference's command line offers, and the few-step one of the distilled model.
///
/// Text (command line, recipes) uses the short name; the reference's class names are understood too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SamplerKind {
    /// Deterministic DDIM over "leading" timesteps (eta 0).
    Ddim,
    /// DDIM over "trailing" timesteps 999, 999 - 1000/n, ..: the milestones that the few-step model was distilled at.
    DdimTrailing,
    /// Euler's method on the probability flow.
    Euler,
    /// Euler steps that go too far down and come up again with fresh noise: the reference's default.
    EulerAncestral,
    /// The ancestral sampling of the original diffusion papers.
    Ddpm,
    /// DPM-Solver++ 2M: second order from the step before.
    DpmSolverMultistep,
    /// DPM-Solver++ 2S: second order from pairs of steps.
    DpmSolverSinglestep,
    /// Pseudo numerical methods: three Runge-Kutta steps, then a linear multistep method; n + 9 model calls.
    Pndm,
    /// Heun's method: 2n - 1 model calls.
    Heun,
    /// DEIS, second order in log rho.
    Deis,
    /// DPM-Solver-2 with ancestral noise, after k-diffusion: 2n - 1 model calls.
    Kdpm2Ancestral,
}

impl SamplerKind {
    /// Every kind, in the order in which they are listed to people.
    pub const ALL: [SamplerKind; 11] = [
        SamplerKind::DdimTrailing,
        SamplerKind::EulerAncestral,
        SamplerKind::Ddim,
        SamplerKind::Euler,
        SamplerKind::Ddpm,
        SamplerKind::DpmSolverMultistep,
        SamplerKind::DpmSolverSinglestep,
        SamplerKind::Pndm,
        SamplerKind::Heun,
        SamplerKind::Deis,
        SamplerKind::Kdpm2Ancestral,
    ];

    /// The name on the command line and in recipes.
    pub fn name(self) -> &'static str {
        match self {
            SamplerKind::Ddim => "ddim",
            SamplerKind::DdimTrailing => "ddim-trailing",
            SamplerKind::Euler => "euler",
            SamplerKind::EulerAncestral => "euler-ancestral",
            SamplerKind::Ddpm => "ddpm",
            SamplerKind::DpmSolverMultistep => "dpm-solver-multistep",
            SamplerKind::DpmSolverSinglestep => "dpm-solver-singlestep",
            SamplerKind::Pndm => "pndm",
            SamplerKind::Heun => "heun",
            SamplerKind::Deis => "deis",
            SamplerKind::Kdpm2Ancestral => "kdpm2-ancestral",
        }
    }

    /// The name in the reference, a diffusers class without `Scheduler`; none for the sampler that it lacks.
    pub fn reference_name(self) -> Option<&'static str> {
        Some(match self {
            SamplerKind::Ddim => "DDIM",
            SamplerKind::DdimTrailing => return None,
            SamplerKind::Euler => "EulerDiscrete",
            SamplerKind::EulerAncestral => "EulerAncestralDiscrete",
            SamplerKind::Ddpm => "DDPM",
            SamplerKind::DpmSolverMultistep => "DPMSolverMultistep",
            SamplerKind::DpmSolverSinglestep => "DPMSolverSinglestep",
            SamplerKind::Pndm => "PNDM",
            SamplerKind::Heun => "HeunDiscrete",
            SamplerKind::Deis => "DEISMultistep",
            SamplerKind::Kdpm2Ancestral => "KDPM2AncestralDiscrete",
        })
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SamplerKind {
    type Err = SamplerError;

    fn from_str(text: &str) -> Result<SamplerKind, SamplerError> {
        let class = text.strip_suffix("Scheduler").unwrap_or(text);
        SamplerKind::ALL
            .into_iter()
            .find(|kind| kind.name() == text || kind.reference_name() == Some(class))
            .ok_or_else(|| SamplerError::UnknownKind(text.to_owned()))
    }
}

impl From<SamplerKind> for String {
    fn from(kind: SamplerKind) -> String {
        kind.name().to_owned()
    }
}

impl TryFrom<String> for SamplerKind {
    type Error = SamplerError;

    fn try_from(text: String) -> Result<SamplerKind, SamplerError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_out_and_come_back() {
        for kind in SamplerKind::ALL {
            assert_eq!(kind.to_string().parse::<SamplerKind>().unwrap(), kind);
            if let Some(name) = kind.reference_name() {
                assert_eq!(name.parse::<SamplerKind>().unwrap(), kind);
                assert_eq!(format!("{name}Scheduler").parse::<SamplerKind>().unwrap(), kind);
            }
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<SamplerKind>(&json).unwrap(), kind);
        }
        let recipe: SamplerKind = serde_json::from_str("\"EulerAncestralDiscrete\"").unwrap();
        assert_eq!(recipe, SamplerKind::EulerAncestral);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = "unipc".parse::<SamplerKind>().unwrap_err().to_string();
        assert!(message.contains("unipc"), "{message}");
        for kind in SamplerKind::ALL {
            assert!(message.contains(kind.name()), "{message}");
        }
    }
}
