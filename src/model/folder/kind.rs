//! What a folder holds, by its `config.json`.

use serde_json::Value;

use super::CONFIG;
use super::error::FolderError;
use super::files::ModelFiles;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum FolderKind {
    /// The text-to-video transformer of Open-Sora-Plan 1.2.
    Transformer,
    /// The causal video VAE of Open-Sora-Plan 1.2.
    Vae,
    /// An mT5 encoder.
    TextEncoder,
    /// Some other network, named in words.
    Foreign(String),
}

/// The kind of a folder; none if it has no `config.json` at all.
pub(super) fn kind_of(files: &ModelFiles) -> Result<Option<FolderKind>, FolderError> {
    if !files.exists(CONFIG) {
        return Ok(None);
    }
    files.read_json(CONFIG).map(|config| Some(kind_of_config(&config)))
}

fn kind_of_config(config: &Value) -> FolderKind {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    if let Some(class) = text("_class_name") {
        return match class {
            "OpenSoraT2V" => FolderKind::Transformer,
            "CausalVAEModel" => FolderKind::Vae,
            other => FolderKind::Foreign(describe_class(other)),
        };
    }
    let architecture = config
        .get("architectures")
        .and_then(Value::as_array)
        .and_then(|architectures| architectures.first())
        .and_then(Value::as_str);
    let model_type = text("model_type");
    if model_type == Some("mt5") || architecture.is_some_and(|name| name.starts_with("MT5")) {
        return FolderKind::TextEncoder;
    }
    match (architecture, model_type) {
        (Some(name), _) => FolderKind::Foreign(format!("a network of architecture {}", short(name))),
        (None, Some(name)) => FolderKind::Foreign(format!("a network of model type {}", short(name))),
        (None, None) => FolderKind::Foreign(
            "something whose config.json names neither a class (_class_name) nor a model type (model_type)".to_owned(),
        ),
    }
}

/// Families that people are likely to try, so that the message can say more than a class name.
fn describe_class(class: &str) -> String {
    let family = if class.starts_with("OpenSoraInpaint") {
        "an image-to-video model of Open-Sora-Plan"
    } else if class.starts_with("OpenSoraT2V_v") {
        "a transformer of a later Open-Sora-Plan (1.3 or newer)"
    } else if class.contains("Latte") {
        "a Latte transformer (Open-Sora-Plan 1.0 and 1.1, Latte)"
    } else if class.starts_with("UDiT") {
        "a U-shaped diffusion transformer"
    } else if class.starts_with("UNet") {
        "a diffusion UNet, not a transformer"
    } else if class.starts_with("WFVAE") {
        "a wavelet VAE (Open-Sora-Plan 1.3 and newer)"
    } else if class.starts_with("Autoencoder") || class.contains("VAE") {
        "a VAE of another family"
    } else if class.contains("Transformer") {
        "a diffusion transformer of another family"
    } else {
        "a network of another family"
    };
    format!("{family} (_class_name {})", short(class))
}

/// A name from a file as it may be shown.
fn short(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_told_by_class_or_model_type() {
        assert_eq!(kind_of_config(&json!({"_class_name": "OpenSoraT2V"})), FolderKind::Transformer);
        assert_eq!(kind_of_config(&json!({"_class_name": "CausalVAEModel"})), FolderKind::Vae);
        assert_eq!(kind_of_config(&json!({"model_type": "mt5"})), FolderKind::TextEncoder);
        assert_eq!(kind_of_config(&json!({"architectures": ["MT5EncoderModel"]})), FolderKind::TextEncoder);
    }

    #[test]
    fn other_families_are_named() {
        for (config, words) in [
            (json!({"_class_name": "UNet2DConditionModel"}), "UNet2DConditionModel"),
            (json!({"_class_name": "OpenSoraT2V_v1_3"}), "1.3"),
            (json!({"_class_name": "LatteT2V"}), "Latte transformer"),
            (json!({"_class_name": "WFVAEModel"}), "wavelet VAE"),
            (json!({"model_type": "umt5"}), "umt5"),
            (json!({"architectures": ["CLIPTextModel"], "model_type": "clip"}), "CLIPTextModel"),
            (json!({"_class_name": 3, "architectures": "MT5"}), "neither"),
            (json!({}), "neither"),
        ] {
            let FolderKind::Foreign(found) = kind_of_config(&config) else { panic!("{config} is foreign") };
            assert!(found.contains(words), "{config}: {found}");
        }
    }
}
