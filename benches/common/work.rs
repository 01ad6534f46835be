//! Groups for the learner, as if a policy had sampled them.

use std::sync::Arc;
use std::time::Duration;

use counterpoint_rollout::{
    Batch, Completion, FinishReason, GeneratorId, Group, GroupId, Lease, PolicyVersion, Prompt, PromptContent,
    ScoredGroup, Verdict,
};
use serde::Deserialize;

/// Tokens of a prompt and of its answers.
#[derive(Deserialize)]
pub(crate) struct GivenGroup {
    pub(crate) prompt: Vec<u32>,
    pub(crate) answers: Vec<Vec<u32>>,
}

/// The groups as if the policy had sampled them; every third answer is right.
pub(crate) fn batch(groups: &[GivenGroup], version: PolicyVersion) -> Batch {
    let scored = |(number, given): (usize, &GivenGroup)| {
        let prompt = Prompt {
            id: number.to_string(),
            content: PromptContent::Text(String::new()),
            answer: String::new(),
            source: String::new(),
            info: Default::default(),
        };
        let lease = Lease {
            group: GroupId(number as u64),
            prompt: Arc::new(prompt),
            epoch: 0,
            attempt: 0,
            answers: given.answers.len() as u32,
            position: number as u64,
            min_version: version,
            deadline: Duration::from_secs(1),
        };
        let completions = given.answers.iter().map(|tokens| completion(tokens, version)).collect();
        let verdict = |number| if number % 3 == 0 { Verdict::Correct } else { Verdict::Incorrect };
        let verdicts = (0..given.answers.len()).map(verdict).collect();
        let prompt_tokens = given.prompt.clone();
        let generator = GeneratorId(0);
        let group = Group { lease, prompt_tokens, completions, start_version: version, generator };
        Arc::new(ScoredGroup { group: Arc::new(group), verdicts })
    };
    Batch { version, groups: groups.iter().enumerate().map(scored).collect() }
}

fn completion(tokens: &[u32], version: PolicyVersion) -> Completion {
    let mut completion = Completion {
        tokens: vec![],
        logprobs: vec![],
        versions: vec![],
        finish: FinishReason::Stop,
        text: String::new(),
    };
    for token in tokens {
        completion.push(*token, -3.0, version);
    }
    completion
}
