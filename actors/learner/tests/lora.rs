//! Training an adapter: what moves, what does not, and a resume to the last bit.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{batch, completion, group, model_dir, setup};
use counterpoint_learner::checkpoint::load_latest;
use counterpoint_learner::{
    Additions, CheckpointConfig, CheckpointStore, Learner, LearnerConfig, LearnerSetup, ObjectiveConfig,
    WeightDecayGroups,
};
use counterpoint_policy::{
    Adapted, CausalAttention, Device, Kind, LoraConfig, Snapshot, TargetModules, Tensor, Transformer, checkpoint,
    token_logprobs,
};
use counterpoint_rollout::{Batch, Completion, PolicyVersion, Verdict};

const PROMPT: &[u32] = &[4, 2, 12, 8, 9, 15];

fn lora() -> LoraConfig {
    LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() }
}

fn adapted(kind: Kind, lora: LoraConfig) -> Adapted {
    let (model, flat) = checkpoint::load(&model_dir(), Kind::Float, Device::Cpu).unwrap();
    Adapted::new(Arc::new(model), flat.to_kind(kind), lora, 5).unwrap()
}

fn start(kind: Kind, lora: LoraConfig, config: LearnerConfig) -> LearnerSetup {
    let adapted = adapted(kind, lora);
    let flat = adapted.initial().unwrap();
    LearnerSetup { flat, lora: Some(adapted), ..setup(kind, config, ObjectiveConfig::default()) }
}

fn config() -> LearnerConfig {
    LearnerConfig { learning_rate: 1e-2, ..LearnerConfig::default() }
}

/// Log-probs of an answer under the weights that generators get.
fn logprobs(snapshot: &Snapshot, answer: &[u32]) -> Vec<f32> {
    let _guard = tch::no_grad_guard();
    let ids: Vec<i64> = PROMPT.iter().chain(answer).map(|t| i64::from(*t)).collect();
    let (length, from, count) = (ids.len() as i64, PROMPT.len() as i64 - 1, answer.len() as i64);
    let transformer = Transformer::new(snapshot.config(), length, Device::Cpu).unwrap();
    let (tokens, positions) = (Tensor::from_slice(&ids), Tensor::arange(length, (Kind::Int64, Device::Cpu)));
    let row = |t: &Tensor| t.view([1, length]);
    let hidden = transformer.hidden(snapshot.weights(), &row(&tokens), &row(&positions), &mut CausalAttention).unwrap();
    let logits = transformer.logits(snapshot.weights(), &hidden.narrow(1, from, count).squeeze_dim(0)).unwrap();
    let targets = tokens.narrow(0, from + 1, count);
    Vec::try_from(token_logprobs(&logits, &targets, 1.0).unwrap().to_kind(Kind::Float)).unwrap()
}

/// Two groups, as the learner's published weights would sample them.
fn on_policy(learner: &Learner) -> Batch {
    let snapshot = learner.snapshot(Kind::Float).unwrap();
    let answer = |tokens: &[u32]| -> Completion {
        Completion { logprobs: logprobs(&snapshot, tokens), ..completion(tokens, learner.version().0) }
    };
    let groups = (0..2).map(|id| {
        let right = (answer(&[10, 9, 1]), Verdict::Correct);
        group(
            id,
            PROMPT.to_vec(),
            vec![(answer(&[10, 8, 1]), Verdict::Incorrect), right, (answer(&[1]), Verdict::Incorrect)],
        )
    });
    batch(learner.version().0, groups.collect())
}

fn step(learner: &mut Learner) -> counterpoint_rollout::contract::StepReport {
    let batch = on_policy(learner);
    learner.train_step(&batch).unwrap()
}

#[test]
fn steps_move_the_adapter_and_leave_the_model_alone() {
    let (_, base) = checkpoint::load(&model_dir(), Kind::Float, Device::Cpu).unwrap();
    for publish in [counterpoint_policy::Publish::Merged, counterpoint_policy::Publish::Separate] {
        let mut learner = Learner::new(start(Kind::Float, LoraConfig { publish, ..lora() }, config())).unwrap();
        let before = learner.flat().copy();
        for number in 1..=3 {
            let report = step(&mut learner);
            assert!(report.grad_norm > 1e-4, "{report:?}");
            // The sampler's weights are the learner's but for rounding: of W + s·B·A, or of another order of additions.
            assert!(
                report.mismatch_tokens == 14 && report.mismatch_max < 1e-4,
                "step {number}, {publish:?}: {report:?}"
            );
        }
        assert!(*learner.adapted().unwrap().base() == base, "the frozen model moved");
        assert!(f64::try_from((learner.flat() - before).abs().max()).unwrap() > 1e-3, "the adapter did not move");
    }
}

#[test]
fn steps_make_the_right_answer_likelier_against_the_wrong_one() {
    let sum = |learner: &Learner, answer: &[u32]| -> f32 {
        logprobs(&learner.snapshot(Kind::Float).unwrap(), answer).into_iter().sum()
    };
    let mut learner = Learner::new(start(Kind::Float, lora(), config())).unwrap();
    let (right, wrong) = (sum(&learner, &[10, 9, 1]), sum(&learner, &[10, 8, 1]));
    for _ in 0..5 {
        step(&mut learner);
    }
    let (right_after, wrong_after) = (sum(&learner, &[10, 9, 1]), sum(&learner, &[10, 8, 1]));
    let words = format!("right {right} to {right_after}, wrong {wrong} to {wrong_after}");
    assert!(right_after - wrong_after > right - wrong + 0.1, "{words}");
}

#[test]
fn micro_batches_change_nothing_without_dropout() {
    let run = |micro_batch_tokens: usize| {
        let config = LearnerConfig { micro_batch_tokens: Some(micro_batch_tokens), ..config() };
        let targets = TargetModules::Several(vec!["q_proj".into(), "v_proj".into(), "up_proj".into()]);
        let lora = LoraConfig { target_modules: targets, ..lora() };
        let mut learner = Learner::new(start(Kind::Double, lora, config)).unwrap();
        step(&mut learner);
        step(&mut learner);
        learner.flat().copy()
    };
    let off = f64::try_from((run(1000) - run(8)).abs().max()).unwrap();
    assert!(off < 1e-9, "{off}");
}

fn store(root: &Path) -> CheckpointStore {
    CheckpointStore::open(root, &model_dir(), &CheckpointConfig::default()).unwrap()
}

#[test]
fn training_goes_on_from_a_checkpoint_bit_for_bit_with_dropout_too() {
    for dropout in [0.0, 0.3] {
        let root = tempfile::tempdir().unwrap();
        let lora = LoraConfig { dropout, ..lora() };
        let mut unbroken = Learner::new(start(Kind::Float, lora.clone(), config())).unwrap();
        step(&mut unbroken);
        step(&mut unbroken);
        store(root.path()).save(&unbroken, &Additions::default()).unwrap();
        let loaded = load_latest(root.path(), Device::Cpu).unwrap().unwrap();
        let saved = loaded.lora.as_ref().unwrap();
        assert_eq!((saved.rank, saved.alpha, saved.dropout), (4, 8.0, dropout));
        assert_eq!((loaded.version, &loaded.model), (PolicyVersion(2), &**unbroken.model()));
        let mut resumed = Learner::new(LearnerSetup {
            flat: loaded.flat,
            version: loaded.version,
            optimizer: Some(loaded.optimizer),
            ..start(Kind::Float, lora, config())
        })
        .unwrap();
        assert!(unbroken.flat().equal(resumed.flat()));
        for _ in 0..2 {
            step(&mut unbroken);
            step(&mut resumed);
        }
        assert!(unbroken.flat().equal(resumed.flat()), "dropout {dropout}");
    }
}

#[test]
fn a_checkpoint_is_an_adapter_with_a_tokenizer_and_loads_as_the_model_that_it_makes() {
    let root = tempfile::tempdir().unwrap();
    let mut learner = Learner::new(start(Kind::Float, lora(), config())).unwrap();
    step(&mut learner);
    let path = store(root.path()).save(&learner, &Additions::default()).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "state/config.json"] {
        assert!(path.join(file).exists(), "{file}");
    }
    for file in ["model.safetensors", "config.json", "state/weights.safetensors"] {
        assert!(!path.join(file).exists(), "{file}: transformers would take this for a whole model");
    }
    let (_, flat) = checkpoint::load(&path, Kind::Float, Device::Cpu).unwrap();
    let merged = learner.adapted().unwrap().merged(learner.flat()).unwrap();
    assert!(f64::try_from((flat - merged).abs().max()).unwrap() < 1e-6);
    std::fs::write(path.join("adapter_config.json"), "{}").unwrap();
    let error = counterpoint_learner::checkpoint::load(&path, Device::Cpu).unwrap_err().to_string();
    assert!(error.starts_with("checkpoint refused: ") && error.contains("adapter_config.json"), "{error}");
}

#[test]
fn an_adapter_of_another_size_is_refused() {
    let setup =
        LearnerSetup { flat: Tensor::zeros([3], (Kind::Float, Device::Cpu)), ..start(Kind::Float, lora(), config()) };
    assert!(Learner::new(setup).unwrap_err().to_string().contains("an adapter's buffer of [3]"));
}

#[test]
fn the_gradient_norm_by_layer_is_that_of_the_adapters_of_a_layer() {
    let config = LearnerConfig { grad_norm_by_layer: true, ..config() };
    let report = step(&mut Learner::new(start(Kind::Float, lora(), config)).unwrap());
    let names: Vec<&str> = report.grad_norms.keys().map(String::as_str).collect();
    assert_eq!(names, ["layers.0", "layers.1"]);
    let whole = report.grad_norms.values().map(|norm| norm * norm).sum::<f64>().sqrt();
    assert!((whole - report.grad_norm).abs() < 1e-9 * whole, "{whole} is not {}", report.grad_norm);
}

#[test]
fn decay_groups_that_an_adapter_has_not_are_refused() {
    let weight_decay_groups = WeightDecayGroups { embeddings: Some(0.0), norms_and_biases: None };
    let config = LearnerConfig { weight_decay_groups, ..config() };
    let error = Learner::new(start(Kind::Float, lora(), config)).unwrap_err().to_string();
    assert!(error.starts_with("learner.weight_decay_groups: an adapter has neither"), "{error}");
}
