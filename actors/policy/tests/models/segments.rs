//! Answers packed behind one copy of their prompt give what each gives behind a copy of its own.

use counterpoint_policy::{
    Attend, CausalAttention, Device, Kind, PackedAttention, Parameters, Tensor, Transformer, token_logprobs,
};
use proptest::prelude::*;

use crate::{MODELS, distance, model};

/// A prompt, its answers and so many tokens of padding behind them.
#[derive(Clone, Debug)]
struct Case {
    prompt: Vec<i64>,
    answers: Vec<Vec<i64>>,
    padding: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let tokens = |most: usize| prop::collection::vec(0i64..18, 1..=most);
    (tokens(12), prop::collection::vec(tokens(9), 1..=5), 0usize..4).prop_map(|(prompt, answers, padding)| Case {
        prompt,
        answers,
        padding,
    })
}

/// One row of tokens, and which token (`target`) is predicted where (`source`).
#[derive(Default)]
struct Row {
    tokens: Vec<i64>,
    positions: Vec<i64>,
    segments: Vec<i64>,
    sources: Vec<i64>,
    targets: Vec<i64>,
}

impl Row {
    fn new(prompt: &[i64]) -> Self {
        let mut row = Self::default();
        row.extend(prompt, 0, 0);
        row
    }

    fn extend(&mut self, tokens: &[i64], first_position: i64, segment: i64) {
        self.positions.extend(first_position..first_position + tokens.len() as i64);
        self.segments.extend(tokens.iter().map(|_| segment));
        self.tokens.extend(tokens);
    }

    /// An answer; its first token is predicted by the last of the prompt.
    fn answer(&mut self, prompt: &[i64], answer: &[i64], segment: i64) {
        let start = self.tokens.len() as i64;
        self.sources.push(prompt.len() as i64 - 1);
        self.sources.extend(start..start + answer.len() as i64 - 1);
        self.targets.extend(answer);
        self.extend(answer, prompt.len() as i64, segment);
    }

    fn logprobs(&self, transformer: &Transformer, parameters: &Parameters, attend: &mut dyn Attend) -> Tensor {
        let row = |values: &[i64]| Tensor::from_slice(values).unsqueeze(0);
        let weights = &parameters.weights().unwrap();
        let hidden = transformer.hidden(weights, &row(&self.tokens), &row(&self.positions), attend).unwrap();
        let hidden = hidden.squeeze_dim(0).index_select(0, &Tensor::from_slice(&self.sources));
        let logits = transformer.logits(weights, &hidden).unwrap();
        token_logprobs(&logits, &Tensor::from_slice(&self.targets), 1.0).unwrap()
    }
}

/// Log-probabilities of all answer tokens and the gradient of a weighted sum of them, in `kind`.
fn both_ways(name: &str, case: &Case, kind: Kind) -> [(Tensor, Tensor); 2] {
    let (config, flat, _) = model(name);
    let transformer = Transformer::new(&config, 32, Device::Cpu).unwrap();
    let parameters = Parameters::new(&config, flat.to_kind(kind)).unwrap();
    let mut packed = Row::new(&case.prompt);
    for (number, answer) in case.answers.iter().enumerate() {
        packed.answer(&case.prompt, answer, number as i64 + 1);
    }
    packed.extend(&vec![0; case.padding], 0, -1);
    let mut parameters = parameters;
    [true, false].map(|together| {
        parameters.zero_grad().unwrap();
        let logprobs = if together {
            let mut attend = PackedAttention::segmented(&Tensor::from_slice(&packed.segments).unsqueeze(0)).unwrap();
            packed.logprobs(&transformer, &parameters, &mut attend)
        } else {
            let alone = |answer: &Vec<i64>| {
                let mut row = Row::new(&case.prompt);
                row.answer(&case.prompt, answer, 1);
                row.logprobs(&transformer, &parameters, &mut CausalAttention)
            };
            Tensor::cat(&case.answers.iter().map(alone).collect::<Vec<Tensor>>(), 0)
        };
        // Weights of both signs, different for each token, so that no two tokens could be swapped unnoticed.
        let weights = Tensor::arange(logprobs.size()[0], (kind, Device::Cpu)).sin() + 0.3;
        (&logprobs * weights).sum(kind).backward();
        (logprobs.detach(), Tensor::cat(&parameters.gradients(None).unwrap(), 0))
    })
}

/// Both ways agree to `tolerance`: log-probabilities absolutely, the gradient relative to its norm.
fn assert_equal(name: &str, case: &Case, kind: Kind, tolerance: f64) {
    let [(together, packed_gradient), (separate, gradient)] = both_ways(name, case, kind);
    let off = distance(&together, &separate);
    assert!(off < tolerance, "{name}: log-probabilities are off by {off}");
    let off = f64::try_from((&packed_gradient - &gradient).norm()).unwrap();
    let size = f64::try_from(gradient.norm()).unwrap();
    assert!(size > 0.0 && off < tolerance * size, "{name}: the gradient is off by {off} of {size}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// In float64, where rounding cannot hide a mistake.
    #[test]
    fn a_packed_row_is_its_separate_sequences(case in cases(), llama: bool) {
        assert_equal(if llama { "tiny-llama" } else { "tiny-qwen2" }, &case, Kind::Double, 1e-11);
    }
}

#[test]
fn a_packed_row_is_its_separate_sequences_in_float32_too() {
    let answers = vec![vec![4, 10, 1], vec![1], vec![3, 9, 16, 0, 5, 1], vec![13, 2, 1]];
    let case = Case { prompt: vec![3, 7, 12, 11, 5, 15], answers, padding: 2 };
    for name in MODELS {
        // The sums over a row differ in length and therefore in order.
        assert_equal(name, &case, Kind::Float, 1e-5);
    }
}

#[test]
fn other_answers_and_padding_do_not_change_an_answer() {
    let prompt = vec![3, 12, 4, 15];
    let alone = Case { prompt: prompt.clone(), answers: vec![vec![7, 1]], padding: 0 };
    let crowded = Case { prompt, answers: vec![vec![7, 1], vec![9, 9, 1], vec![2]], padding: 3 };
    let [(first, _), _] = both_ways("arith", &alone, Kind::Double);
    let [(all, _), _] = both_ways("arith", &crowded, Kind::Double);
    assert!(distance(&first, &all.narrow(0, 0, 2)) < 1e-12);
}
