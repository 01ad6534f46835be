//! `counterpoint generate`: JSONL prompts in, JSONL completions with log-probs out, in flat memory.
//!
//! In: {"prompt"} (a text or chat messages) or {"messages"}, and optionally "id". Out: one line per completion:
//! {"id", "sample", "text", "tokens", "logprobs", "finish"}, in the order of the input or as they finish. Log-probs are of the
//! distribution really sampled from, every filter applied. A completion depends on the seed, its prompt's id and its sample
//! number, and not on the other prompts.

use std::cell::RefCell;
use std::collections::HashMap;

use counterpoint_generator::{EngineOptions, Filters, GeneratorConfig, OnSwap, Outcome, Request, Sampled, sample_all};
use counterpoint_policy::Tokenizer;
use counterpoint_policy::kernels::WeightFormat;
use counterpoint_rollout::{FinishReason, GroupId, Prompt, PromptContent};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::jsonl::{Input, Output};
use super::sampler::{Sampler, noise};
use crate::cli::{GenerateArgs, SamplingArgs};
use crate::data::{prompt_content, scalar};
use crate::error::Failure;

#[derive(Deserialize)]
struct Line {
    id: Option<Value>,
    prompt: Option<Value>,
    messages: Option<Value>,
}

#[derive(Serialize)]
struct Generated<'a> {
    id: &'a str,
    sample: usize,
    text: &'a str,
    tokens: &'a [u32],
    logprobs: &'a [f32],
    finish: FinishReason,
}

/// A prompt that is being answered.
struct Asked {
    id: String,
    line: usize,
    tokens: usize,
}

/// What the engine draws requests from while their answers are written.
struct Source<'a> {
    input: Input,
    tokenizer: &'a Tokenizer,
    sampling: &'a SamplingArgs,
    asked: HashMap<GroupId, Asked>,
    /// What ended the input early.
    failure: Option<Failure>,
    groups: u64,
}

pub(crate) fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let sampling = &args.sampling;
    let input = Input::open(Some(&args.input.input))?;
    let options = |tokenizer: &Tokenizer| EngineOptions {
        slots: sampling.slots,
        max_prompt_tokens: sampling.max_prompt_tokens,
        max_new_tokens: sampling.max_new_tokens,
        max_time: None,
        prefill_chunk: GeneratorConfig::default().prefill_chunk,
        kv_bytes: None,
        kernels: true,
        kernel_weights: WeightFormat::Float32,
        temperature: sampling.temperature,
        filters: Filters {
            repetition_penalty: sampling.repetition_penalty,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
        },
        on_swap: OnSwap::Keep,
        eos_tokens: tokenizer.eos_tokens().to_vec(),
        stop: sampling.stop.clone(),
    };
    let chat = args.model.chat.options()?;
    let Sampler { mut engine, tokenizer } = Sampler::load(&args.model.model, &args.model.device, &chat, options)?;
    let source = Source { input, tokenizer: &tokenizer, sampling, asked: HashMap::new(), failure: None, groups: 0 };
    let source = RefCell::new(source);
    let mut output = Output::stdout();
    let requests = std::iter::from_fn(|| source.borrow_mut().next());
    let sampling_all = sample_all(&mut engine, requests);
    for outcome in if args.as_finished { sampling_all.as_finished() } else { sampling_all } {
        let outcome = outcome.map_err(Failure::failed)?;
        // One outcome per request.
        let Some(asked) = source.borrow_mut().asked.remove(&outcome.group()) else { break };
        match outcome {
            Outcome::Answered(sampled) => write(&mut output, &asked, &sampled)?,
            Outcome::Dropped { .. } => return Err(too_long(&source.borrow().input, &asked, sampling)),
        }
    }
    output.flush()?;
    source.into_inner().failure.map_or(Ok(()), Err)
}

impl Source<'_> {
    /// The next request; `None` at the end of the input, or at a line that is none, which is kept.
    fn next(&mut self) -> Option<Request> {
        let made = match self.input.json::<Line>() {
            Ok(None) => return None,
            Ok(Some(line)) => self.request(line).map_err(|e| self.input.malformed(e)),
            Err(failure) => Err(failure),
        };
        made.map_err(|failure| self.failure = Some(failure)).ok()
    }

    fn request(&mut self, line: Line) -> Result<Request, String> {
        let content = content(&line)?;
        let number = self.input.number();
        let id = line.id.as_ref().map_or(Ok(format!("line:{number}")), scalar).map_err(|e| format!("id: {e}"))?;
        let prompt = Prompt { id, content, answer: String::new(), source: String::new(), info: Default::default() };
        let group = GroupId(self.groups);
        let request = Request::new(group, &prompt, self.sampling.samples, noise(self.sampling.seed), self.tokenizer)
            .map_err(|e| e.to_string())?;
        if request.prompt.is_empty() {
            return Err("the prompt has no token".to_owned());
        }
        self.groups += 1;
        self.asked.insert(group, Asked { id: prompt.id, line: number, tokens: request.prompt.len() });
        Ok(request)
    }
}

fn content(line: &Line) -> Result<PromptContent, String> {
    match (&line.prompt, &line.messages) {
        (Some(prompt), None) => prompt_content(prompt).map_err(|e| format!("prompt: {e}")),
        (None, Some(messages @ Value::Array(_))) => prompt_content(messages).map_err(|e| format!("messages: {e}")),
        (None, Some(_)) => Err("messages: expected an array of chat messages".to_owned()),
        _ => Err("expected either \"prompt\" or \"messages\"".to_owned()),
    }
}

fn write(output: &mut Output, asked: &Asked, sampled: &Sampled) -> Result<(), Failure> {
    for (sample, completion) in sampled.completions.iter().enumerate() {
        output.write(&Generated {
            id: &asked.id,
            sample,
            text: &completion.text,
            tokens: &completion.tokens,
            logprobs: &completion.logprobs,
            finish: completion.finish,
        })?;
    }
    output.flush()
}

fn too_long(input: &Input, asked: &Asked, sampling: &SamplingArgs) -> Failure {
    let problem = format!(
        "the prompt has {} tokens; with {} new ones it must fit the model's context, and --max-prompt-tokens ({})",
        asked.tokens, sampling.max_new_tokens, sampling.max_prompt_tokens
    );
    input.malformed_at(asked.line, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_prompt_or_messages() {
        let read = |text: &str| content(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"prompt":"1+1="}"#), Ok(PromptContent::Text("1+1=".into())));
        assert!(
            matches!(read(r#"{"messages":[{"role":"user","content":"q"}]}"#), Ok(PromptContent::Chat(m)) if m.len() == 1)
        );
        assert!(read(r#"{"prompt":"a","messages":[]}"#).unwrap_err().contains("either"));
        assert!(read("{}").unwrap_err().contains("either"));
    }
}
