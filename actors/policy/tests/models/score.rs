use counterpoint_policy::{CausalAttention, Device, Kind, Scorer, Tensor, Transformer};
use counterpoint_rollout::PromptContent;

use crate::{MODELS, model, model_dir};

fn scorer(name: &str) -> Scorer {
    Scorer::new(&model_dir(name), Device::Cpu, Kind::Float).unwrap()
}

#[test]
fn scores_are_the_log_probabilities_of_a_whole_pass() {
    for name in MODELS {
        // Longer than the number of positions whose logits are taken at a time, and not a multiple of it.
        let ids: Vec<u32> = (0..400).map(|i| (i * 7 + i / 5) % 18).collect();
        let (config, _, weights) = model(name);
        let wide: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let tokens = Tensor::from_slice(&wide).unsqueeze(0);
        let positions = Tensor::arange(400, (Kind::Int64, Device::Cpu)).unsqueeze(0);
        let transformer = Transformer::new(&config, config.max_positions, Device::Cpu).unwrap();
        let hidden = transformer.hidden(&weights, &tokens, &positions, &mut CausalAttention).unwrap().squeeze_dim(0);
        let all = transformer.logits(&weights, &hidden).unwrap().log_softmax(-1, Kind::Float);
        let scores = scorer(name).score_ids(&ids).unwrap();
        assert_eq!(scores.len(), 399);
        for (position, score) in scores.iter().enumerate() {
            let expected = all.double_value(&[position as i64, wide[position + 1]]);
            // Equal but for the order of sums in blocks of rows.
            assert!((f64::from(*score) - expected).abs() < 1e-5, "{name} at {position}: {score} against {expected}");
        }
    }
}

/// The chance of a sampled answer to be right is the probability of the right one with its end: no sampling needed.
#[test]
fn the_policy_of_the_quickstart_is_right_about_every_fourth_time() {
    let scorer = scorer("arith");
    let prompts = std::fs::read_to_string(model_dir("arith").join("prompts.jsonl")).unwrap();
    let chances = prompts.lines().step_by(10).map(|line| {
        let problem: serde_json::Value = serde_json::from_str(line).unwrap();
        let prompt = PromptContent::Text(problem["prompt"].as_str().unwrap().to_owned());
        let answer = format!("{}<eos>", problem["answer"].as_str().unwrap());
        scorer.score_completion(&prompt, &answer).unwrap().logprobs.iter().sum::<f32>().exp()
    });
    let chances: Vec<f32> = chances.collect();
    assert_eq!(chances.len(), 400);
    let mean = chances.iter().sum::<f32>() / 400.0;
    // 0.283 over all 4000 problems.
    assert!((0.25..0.32).contains(&mean), "{mean}");
}

#[test]
fn a_completion_is_scored_as_the_end_of_the_sequence() {
    let scorer = scorer("arith");
    let scored = scorer.score_completion(&PromptContent::Text("3*4=".into()), "12").unwrap();
    let whole = scorer.score_ids(&scorer.tokenizer().encode("3*4=12").unwrap()).unwrap();
    assert_eq!(scored.logprobs, whole[whole.len() - 2..]);
    assert!(scorer.score_completion(&PromptContent::Text("3*4=".into()), "").unwrap().logprobs.is_empty());
    assert!(scorer.score_completion(&PromptContent::Text(String::new()), "12").is_err());
}

#[test]
fn sequences_the_model_cannot_take_are_refused() {
    let scorer = scorer("tiny-qwen2");
    assert!(scorer.score_ids(&[]).unwrap().is_empty());
    assert!(scorer.score_ids(&[3]).unwrap().is_empty());
    assert_eq!(scorer.score_ids(&[3; 512]).unwrap().len(), 511);
    let error = scorer.score_ids(&[3; 513]).unwrap_err().to_string();
    assert!(error.contains("513 tokens, the model takes at most 512"), "{error}");
    let error = scorer.score_ids(&[3, 18]).unwrap_err().to_string();
    assert!(error.contains("token 18 is outside the model's vocabulary of 18"), "{error}");
}
