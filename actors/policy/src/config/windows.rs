//! Which layers attend through a sliding window.

use super::raw::Raw;
use super::{Architecture, RawError, invalid, refuse, unsupported};

/// What transformers takes where the key is absent.
const DEFAULT_WINDOW: i64 = 4096;
const DEFAULT_WINDOW_LAYERS: i64 = 28;

/// [`super::ModelConfig::windows`].
pub(super) fn read(raw: &Raw, architecture: Architecture) -> Result<Vec<Option<i64>>, RawError> {
    let window = window(raw, architecture);
    invalid(window.is_some_and(|w| !(1..=1 << 30).contains(&w)), || {
        format!("sliding_window must be between 1 and 2^30, got {}", window.unwrap_or_default())
    })?;
    let slides = match &raw.layer_types {
        Some(types) => by_type(types, raw, architecture, window)?,
        None => by_depth(raw, architecture),
    };
    // A window over all positions is none.
    let window = window.filter(|w| *w < raw.max_position_embeddings);
    let windows: Vec<_> = slides.into_iter().map(|slides| window.filter(|_| slides)).collect();
    Ok(if windows.iter().all(Option::is_none) { Vec::new() } else { windows })
}

fn window(raw: &Raw, architecture: Architecture) -> Option<i64> {
    let in_use = match architecture {
        Architecture::Llama => false,
        Architecture::Mistral => true,
        Architecture::Qwen2 | Architecture::Qwen3 => raw.use_sliding_window.unwrap_or(false),
    };
    raw.sliding_window.unwrap_or(Some(DEFAULT_WINDOW)).filter(|_| in_use)
}

/// Without a word on single layers: in Mistral all slide, in Qwen the upper ones.
fn by_depth(raw: &Raw, architecture: Architecture) -> Vec<bool> {
    let first = match architecture {
        Architecture::Qwen2 | Architecture::Qwen3 => raw.max_window_layers.unwrap_or(DEFAULT_WINDOW_LAYERS),
        Architecture::Llama | Architecture::Mistral => 0,
    };
    (0..raw.num_hidden_layers).map(|layer| layer as i64 >= first).collect()
}

fn by_type(
    types: &[String],
    raw: &Raw,
    architecture: Architecture,
    window: Option<i64>,
) -> Result<Vec<bool>, RawError> {
    invalid(types.len() != raw.num_hidden_layers, || {
        format!("layer_types names {} layers, num_hidden_layers is {}", types.len(), raw.num_hidden_layers)
    })?;
    let slides = |name: &String| match name.as_str() {
        "full_attention" => Ok(false),
        "sliding_attention" => Ok(true),
        other => {
            let hint = "\"full_attention\" and \"sliding_attention\" are";
            Err(unsupported(format!("layer type \"{other}\""), hint))
        }
    };
    let slides: Vec<bool> = types.iter().map(slides).collect::<Result<_, _>>()?;
    let any = slides.contains(&true);
    match architecture {
        // Their code does not read layer_types, so it may only say what holds anyhow.
        Architecture::Llama => {
            refuse(any, || "\"sliding_attention\" in model_type \"llama\"".to_owned(), "full attention is")?;
        }
        Architecture::Mistral => {
            let all = slides.iter().all(|slides| *slides == window.is_some());
            let what = || "layer_types that contradict sliding_window in model_type \"mistral\"".to_owned();
            refuse(!all, what, "one window for all layers, or none, is")?;
        }
        Architecture::Qwen2 | Architecture::Qwen3 => invalid(any && window.is_none(), || {
            "layer_types names \"sliding_attention\", but there is no window: use_sliding_window must be true and \
             sliding_window a number"
                .to_owned()
        })?,
    }
    Ok(slides)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::raw::tests::edited;

    fn windows(model_type: &str, more: Value) -> Result<Vec<Option<i64>>, String> {
        let config = edited(|v| {
            v["model_type"] = model_type.into();
            v["num_hidden_layers"] = 3.into();
            v.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        });
        config.map(|config| config.windows)
    }

    const NONE: Vec<Option<i64>> = Vec::new();

    #[test]
    fn mistral_slides_everywhere_unless_its_window_is_null() {
        assert_eq!(windows("mistral", json!({"sliding_window": 16})), Ok(vec![Some(16); 3]));
        assert_eq!(windows("mistral", json!({"sliding_window": null})), Ok(NONE));
        assert_eq!(windows("mistral", json!({})), Ok(NONE), "4096 is longer than its 512 positions");
        let long = json!({"max_position_embeddings": 8192});
        assert_eq!(windows("mistral", long), Ok(vec![Some(4096); 3]));
        let agrees = json!({"sliding_window": 16, "layer_types": vec!["sliding_attention"; 3]});
        assert_eq!(windows("mistral", agrees), Ok(vec![Some(16); 3]));
        let contradicts = json!({"sliding_window": 16, "layer_types": vec!["full_attention"; 3]});
        assert!(windows("mistral", contradicts).unwrap_err().starts_with("layer_types that contradict sliding_window"));
    }

    #[test]
    fn qwen_slides_in_the_upper_layers_if_it_is_switched_on() {
        for qwen in ["qwen2", "qwen3"] {
            let off = json!({"sliding_window": 16, "max_window_layers": 1});
            assert_eq!(windows(qwen, off), Ok(NONE));
            let upper = json!({"use_sliding_window": true, "sliding_window": 16, "max_window_layers": 1});
            assert_eq!(windows(qwen, upper), Ok(vec![None, Some(16), Some(16)]));
            let above_all = json!({"use_sliding_window": true, "sliding_window": 16});
            assert_eq!(windows(qwen, above_all), Ok(NONE), "the first 28 layers do not slide");
            let named = json!({"use_sliding_window": true, "sliding_window": 16,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]});
            assert_eq!(windows(qwen, named), Ok(vec![Some(16), None, Some(16)]));
        }
    }

    #[test]
    fn llama_never_slides() {
        assert_eq!(windows("llama", json!({"sliding_window": 16})), Ok(NONE));
        assert_eq!(windows("llama", json!({"layer_types": vec!["full_attention"; 3]})), Ok(NONE));
        assert_eq!(
            windows("llama", json!({"layer_types": vec!["sliding_attention"; 3]})),
            Err("\"sliding_attention\" in model_type \"llama\": full attention is".into())
        );
    }

    #[test]
    fn windows_that_cannot_be_are_named() {
        assert_eq!(
            windows("mistral", json!({"sliding_window": 0})),
            Err("sliding_window must be between 1 and 2^30, got 0".into())
        );
        assert_eq!(
            windows("qwen2", json!({"layer_types": ["full_attention"]})),
            Err("layer_types names 1 layers, num_hidden_layers is 3".into())
        );
        assert_eq!(
            windows("qwen3", json!({"layer_types": vec!["linear_attention"; 3]})),
            Err("layer type \"linear_attention\": \"full_attention\" and \"sliding_attention\" are".into())
        );
        let no_window = windows("qwen2", json!({"layer_types": vec!["sliding_attention"; 3]}));
        assert!(no_window.unwrap_err().contains("use_sliding_window must be true"));
    }
}
