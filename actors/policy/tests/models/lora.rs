//! Low-rank adapters: beside the model and folded into it they are one function, and their gradient is that of W + s·B·A.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use counterpoint_policy::checkpoint::load;
use counterpoint_policy::{
    Adapted, CausalAttention, Device, Kind, Layout, LoraConfig, ModelConfig, Parameters, Publish, Snapshot,
    TargetModules, Tensor, Transformer, Weights,
};
use counterpoint_rollout::PolicyVersion;

use crate::distance;
use crate::golden::logits;

const MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Biased and not, with norms of queries and keys, tied and untied.
const FAMILIES: [&str; 5] = ["qwen2", "qwen3", "qwen3-tied-window", "llama-linear-biased", "smollm2"];

fn golden_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn several(names: &[&str]) -> TargetModules {
    TargetModules::Several(names.iter().map(|name| (*name).to_owned()).collect())
}

fn adapted(name: &str, kind: Kind, config: LoraConfig) -> Adapted {
    let (model, flat) = load(&golden_dir(name), Kind::Float, Device::Cpu).unwrap();
    Adapted::new(Arc::new(model), flat.to_kind(kind), config, 7).unwrap()
}

fn config(target_modules: TargetModules) -> LoraConfig {
    LoraConfig { rank: 3, alpha: 5.0, target_modules, ..LoraConfig::default() }
}

/// Values with which the adapter counts: A and B both far from zero.
fn values(adapted: &Adapted) -> Tensor {
    let base = adapted.base();
    Tensor::arange(adapted.layout().numel(), (Kind::Double, Device::Cpu)).sin().g_mul_scalar(0.1).to_kind(base.kind())
}

fn tokens() -> Tensor {
    Tensor::from_slice(&[3i64, 17, 5, 40, 2, 9, 33, 21, 8, 47, 11, 30]).view([2, 6])
}

fn logits_of(model: &ModelConfig, weights: &Weights) -> Tensor {
    logits(model, weights, &tokens(), &mut CausalAttention)
}

#[test]
fn an_adapter_beside_the_model_and_folded_into_it_have_the_same_logits() {
    for name in FAMILIES {
        for targets in [several(&MODULES), several(&["q_proj", "v_proj", "up_proj"]), several(&["k_proj", "down_proj"])]
        {
            let snapshot = |publish: Publish| -> Snapshot {
                let adapted = adapted(name, Kind::Float, LoraConfig { publish, ..config(targets.clone()) });
                adapted.snapshot(&values(&adapted), PolicyVersion(1), Kind::Float).unwrap()
            };
            let (merged, separate) = (snapshot(Publish::Merged), snapshot(Publish::Separate));
            let (folded, beside) =
                (logits_of(merged.config(), merged.weights()), logits_of(separate.config(), separate.weights()));
            // Relative to the logits, which are up to ten here.
            let size = f64::try_from(folded.abs().max()).unwrap().max(1.0);
            let off = distance(&folded, &beside) / size;
            assert!(off < 1e-5, "{name}, {targets:?}: off by {off} of {size}");
            let base = adapted(name, Kind::Float, config(targets.clone()));
            let plain = Weights::view(base.model(), &Layout::new(base.model()), base.base()).unwrap();
            let moved = distance(&folded, &logits_of(base.model(), &plain));
            assert!(moved > 1e-3, "{name}, {targets:?}: the adapter changes the logits by {moved} only");
            assert!(separate.bytes() < merged.bytes(), "only the adapter is new");
            assert_eq!(separate.bytes(), 4 * base.layout().numel() as u64);
        }
    }
}

#[test]
fn a_fresh_adapter_is_the_model_and_a_function_of_the_seed() {
    let (model, flat) = load(&golden_dir("qwen2"), Kind::Float, Device::Cpu).unwrap();
    let model = Arc::new(model);
    let with =
        |seed: u64| Adapted::new(Arc::clone(&model), flat.shallow_clone(), config(several(&MODULES)), seed).unwrap();
    let adapted = with(1);
    let initial = adapted.initial().unwrap();
    assert_eq!(adapted.merged(&initial).unwrap(), flat);
    assert_eq!(initial, with(1).initial().unwrap());
    assert_ne!(initial, with(2).initial().unwrap());
    for target in adapted.layout().targets() {
        let a = initial.narrow(0, target.a, 3 * target.columns);
        let bound = 1.0 / (target.columns as f64).sqrt();
        let (most, mean) = (f64::try_from(a.abs().max()).unwrap(), f64::try_from(a.abs().mean(Kind::Double)).unwrap());
        // Uniform: the mean magnitude is half of the largest. 96 numbers at least.
        assert!(
            most <= bound && most > 0.9 * bound && (mean / bound - 0.5).abs() < 0.15,
            "{}: {most} {mean}",
            target.module
        );
    }
}

#[test]
fn only_the_named_projections_have_an_adapter() {
    let adapted = adapted("qwen2", Kind::Float, config(several(&["v_proj", "down_proj"])));
    let modules: Vec<&str> = adapted.layout().targets().iter().map(|t| t.module.as_str()).collect();
    let expected: Vec<String> = (0..3)
        .flat_map(|layer| ["self_attn.v_proj", "mlp.down_proj"].map(|module| format!("model.layers.{layer}.{module}")))
        .collect();
    assert_eq!(modules, expected);
    let moved = adapted.merged(&values(&adapted)).unwrap().not_equal_tensor(adapted.base());
    let count: i64 = adapted.layout().targets().iter().map(|t| t.rows * t.columns).sum();
    let inside: i64 = adapted
        .layout()
        .targets()
        .iter()
        .map(|t| i64::try_from(moved.narrow(0, t.base, t.rows * t.columns).sum(Kind::Int64)).unwrap())
        .sum();
    assert_eq!(i64::try_from(moved.sum(Kind::Int64)).unwrap(), inside, "another matrix changed");
    assert!(inside > count * 9 / 10, "{inside} of {count} elements changed");
}

/// A weighted sum of logits, and the gradient that it leaves in the parameters.
fn gradient(model: &ModelConfig, parameters: &Parameters) -> Tensor {
    let transformer = Transformer::new(model, 8, Device::Cpu).unwrap();
    let positions = Tensor::arange(6, (Kind::Int64, Device::Cpu)).repeat([2, 1]);
    let weights = &parameters.weights().unwrap();
    let hidden = transformer.hidden(weights, &tokens(), &positions, &mut CausalAttention).unwrap();
    let logits = transformer.logits(weights, &hidden.view([12, -1])).unwrap();
    let factors = Tensor::arange(logits.numel() as i64, (Kind::Double, Device::Cpu)).cos().view_as(&logits);
    (logits * factors).sum(Kind::Double).backward();
    Tensor::cat(&parameters.gradients(None).unwrap(), 0)
}

/// In float64. The chain rule on a model whose matrices are W + s·B·A: dA = s·Bᵀ·dW, dB = s·dW·Aᵀ.
#[test]
fn the_gradient_of_a_and_b_is_that_of_the_dense_model() {
    for (name, targets) in [
        ("qwen2", several(&MODULES)),
        ("qwen3", several(&["q_proj", "v_proj", "gate_proj"])),
        ("smollm2", several(&["k_proj", "o_proj", "up_proj", "down_proj"])),
    ] {
        for use_rslora in [false, true] {
            let config = LoraConfig { use_rslora, ..config(targets.clone()) };
            let scale = config.scale();
            let adapted = adapted(name, Kind::Double, config);
            let (model, layout, flat) = (adapted.model().clone(), adapted.layout().clone(), values(&adapted));
            let dense = Parameters::new(&model, adapted.merged(&flat).unwrap()).unwrap();
            let of_dense = gradient(&model, &dense);
            let of_adapter = gradient(&model, &Parameters::adapter(adapted, flat.copy()).unwrap());
            assert_eq!(of_adapter.size(), [layout.numel()]);
            for target in layout.targets() {
                let (rank, rows, columns) = (layout.rank(), target.rows, target.columns);
                let dw = of_dense.narrow(0, target.base, rows * columns).view([rows, columns]);
                let part =
                    |from: &Tensor, offset, shape: [i64; 2]| from.narrow(0, offset, shape[0] * shape[1]).view(shape);
                let (a, b) = (part(&flat, target.a, [rank, columns]), part(&flat, target.b, [rows, rank]));
                let expected = [b.transpose(0, 1).matmul(&dw) * scale, dw.matmul(&a.transpose(0, 1)) * scale];
                let found = [part(&of_adapter, target.a, [rank, columns]), part(&of_adapter, target.b, [rows, rank])];
                for (expected, found) in expected.iter().zip(&found) {
                    let size = f64::try_from(expected.abs().max()).unwrap();
                    let off = distance(expected, found);
                    assert!(size > 1e-3 && off < 1e-10 * size, "{name} {}: off by {off} of {size}", target.module);
                }
            }
        }
    }
}

#[test]
fn dropout_is_a_function_of_version_and_pass_and_only_of_training() {
    let adapted = adapted("qwen2", Kind::Float, LoraConfig { dropout: 0.5, ..config(several(&MODULES)) });
    let (model, flat) = (adapted.model().clone(), values(&adapted));
    let parameters = Parameters::adapter(adapted, flat).unwrap();
    let transformer = Transformer::new(&model, 8, Device::Cpu).unwrap();
    let positions = Tensor::arange(6, (Kind::Int64, Device::Cpu)).repeat([2, 1]);
    let training = |version: u64, pass: u32| {
        let _guard = tch::no_grad_guard();
        let weights = parameters.training_weights().unwrap();
        let angles = transformer.angles(&positions, Kind::Float).unwrap();
        let mut x = transformer.embed(&weights, &tokens()).unwrap();
        for layer in 0..weights.layers() {
            parameters.seed_dropout(PolicyVersion(version), pass, layer);
            x = transformer.layer(&weights, layer, &x, &angles, &mut CausalAttention).unwrap();
        }
        transformer.logits(&weights, &x.view([12, -1])).unwrap()
    };
    assert_eq!(training(3, 1), training(3, 1));
    assert!(distance(&training(3, 1), &training(3, 2)) > 1e-3 && distance(&training(3, 1), &training(4, 1)) > 1e-3);
    let still = tch::no_grad(|| logits_of(&model, &parameters.weights().unwrap()).view([12, -1]));
    assert_eq!(still, tch::no_grad(|| logits_of(&model, &parameters.weights().unwrap()).view([12, -1])));
    assert!(distance(&still, &training(3, 1)) > 1e-3);
}
