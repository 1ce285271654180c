//! Turns requests into jobs: template, tokens, samplers, grammars. On a thread of its own, so that the engine never waits for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc::{Receiver, Sender},
};

use llama_cpp_2::{model::LlamaModel, sampling::LlamaSampler, token::LlamaToken};
use rand::RngExt as _;
use tacit_types::Digest;

use super::{
    Request,
    choice::{Choice, ToolUse},
    engine::Job,
    grammar,
    sampler::TokenSampler,
    vocabulary::Vocabulary,
};
use crate::{
    ChatRequest, CompletionRequest, Generation, InferenceError, OutputFormat, Prompt, Sampling, Tool, ToolChoice,
    limits::{self, parameter},
    template::ChatTemplate,
    text::{Characters, StopFilter, ToolParser},
};

/// Turns requests into jobs.
pub(super) struct Preparer {
    model: Arc<LlamaModel>,
    vocabulary: Vocabulary,
    template: ChatTemplate,
    context: u32,
    slots: u32,
    cells: u32,
    can_reuse: bool,
}

/// What is common to chats and completions.
struct Wanted<'a> {
    prompt: Vec<LlamaToken>,
    sampling: &'a Sampling,
    group: Option<Digest>,
    grammar: Option<LlamaSampler>,
    tools: Option<Tools>,
    echo: Option<String>,
}

/// Tools of a chat that may call them.
struct Tools {
    names: Vec<String>,
    grammar: Option<LlamaSampler>,
    several: bool,
}

impl Preparer {
    pub(super) fn new(
        model: Arc<LlamaModel>,
        vocabulary: Vocabulary,
        context: u32,
        slots: u32,
        cells: u32,
    ) -> Result<Self, InferenceError> {
        let text = |token: LlamaToken| {
            let bytes = if token.0 < 0 { Vec::new() } else { model.vocab().token_to_piece(token, true, None) };
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let source = model.meta_val_str("tokenizer.chat_template").ok();
        let template = ChatTemplate::parse(source.as_deref(), &text(model.vocab().bos()), &text(model.vocab().eos()))?;
        // The memory of these models cannot be cut back to a common beginning.
        let can_reuse = !model.is_recurrent() && !model.is_hybrid();
        Ok(Self { model, vocabulary, template, context, slots, cells, can_reuse })
    }

    /// Prepares until nobody can ask any more.
    pub(super) fn run(self, requests: &Receiver<Request>, jobs: &Sender<Job>, queued: &AtomicUsize) {
        for request in requests {
            let (prepared, reply) = match request {
                Request::Chat(request, reply) => (self.chat(&request), reply),
                Request::Completion(request, reply) => (self.completion(&request), reply),
                Request::Embedding(_, reply) => {
                    queued.fetch_sub(1, Ordering::Relaxed);
                    let _ = reply.send(Err(InferenceError::Engine("a request went to the wrong engine".to_owned())));
                    continue;
                }
            };
            match prepared {
                Ok((job, generation)) => {
                    // Whoever asks is told first: a job that nobody awaits is not begun.
                    if reply.send(Ok(generation)).is_err() || jobs.send(job).is_err() {
                        queued.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    // Its place is free before it is told so: the next request may follow at once.
                    queued.fetch_sub(1, Ordering::Relaxed);
                    let _ = reply.send(Err(error));
                }
            }
        }
    }

    fn chat(&self, request: &ChatRequest) -> Result<(Job, Generation), InferenceError> {
        limits::sampling(&request.sampling, self.slots, self.model.n_vocab().unsigned_abs())?;
        let offered: Vec<&Tool> = match &request.tool_choice {
            ToolChoice::None => Vec::new(),
            ToolChoice::Named(name) => request.tools.iter().filter(|tool| tool.name == *name).collect(),
            ToolChoice::Auto | ToolChoice::Required => request.tools.iter().collect(),
        };
        let is_forced = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        if is_forced && request.format != OutputFormat::Text {
            return Err(parameter("response_format", "has no meaning where a tool must be called"));
        }
        let described: Vec<Tool> = offered.iter().map(|tool| (*tool).clone()).collect();
        let text = self.template.render(request, &described)?;
        let prompt = self.tokens(&text, "messages", false)?;
        let (format, form) = (grammar::of_format(&request.format)?, grammar::parameter_of(&request.format));
        let (grammar, tools) = if offered.is_empty() {
            (format.map(|text| grammar::sampler(&self.model, form, &text)).transpose()?, None)
        } else {
            let several = request.parallel_tool_calls;
            let names = offered.iter().map(|tool| tool.name.clone()).collect();
            if is_forced {
                let calls = grammar::of_calls(&offered, several)?;
                let tools = Tools { names, grammar: None, several };
                (Some(grammar::sampler(&self.model, "tools", &calls)?), Some(tools))
            } else if let Some(format) = format {
                // The form of the answer is prescribed, so no call can come.
                (Some(grammar::sampler(&self.model, form, &format)?), None)
            } else {
                let begun = grammar::of_begun_call(&offered)?;
                let grammar = Some(grammar::sampler(&self.model, "tools", &begun)?);
                (None, Some(Tools { names, grammar, several }))
            }
        };
        let (sampling, group) = (&request.sampling, request.reuse_group);
        self.job(Wanted { prompt, sampling, group, grammar, tools, echo: None })
    }

    fn completion(&self, request: &CompletionRequest) -> Result<(Job, Generation), InferenceError> {
        limits::sampling(&request.sampling, self.slots, self.model.n_vocab().unsigned_abs())?;
        if request.echo && request.sampling.logprobs.is_some() {
            return Err(parameter("logprobs", "are not given for an echoed prompt"));
        }
        let prompt = match &request.prompt {
            Prompt::Text(text) => self.tokens(text, "prompt", true)?,
            Prompt::Tokens(tokens) => known(&self.model, "prompt", tokens)?,
        };
        let echo = request.echo.then(|| match &request.prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Tokens(_) => {
                let pieces = prompt.iter().flat_map(|token| self.vocabulary.piece(*token, true));
                String::from_utf8_lossy(&pieces.collect::<Vec<u8>>()).into_owned()
            }
        });
        let form = grammar::parameter_of(&request.format);
        let grammar = grammar::of_format(&request.format)?;
        let grammar = grammar.map(|text| grammar::sampler(&self.model, form, &text)).transpose()?;
        let (sampling, group) = (&request.sampling, request.reuse_group);
        self.job(Wanted { prompt, sampling, group, grammar, tools: None, echo })
    }

    /// Tokens of a text. Special tokens are read in what a template made, and in a completion's prompt, whose author may know them.
    fn tokens(&self, text: &str, name: &str, add_special: bool) -> Result<Vec<LlamaToken>, InferenceError> {
        let most = self.context as usize * self.vocabulary.bytes_per_token();
        if text.len() > most {
            return Err(parameter(
                name,
                format!("is longer than {most} bytes, the most that is read for a context of this length"),
            ));
        }
        let vocabulary = self.model.vocab();
        // A template writes the first token itself where its model wants one.
        let bos = vocabulary.bos();
        let starts = bos.0 >= 0
            && text.as_bytes().starts_with(vocabulary.token_to_piece(bos, true, None).as_slice())
            && vocabulary.should_add_bos();
        let add_special = (add_special || vocabulary.should_add_bos()) && !starts;
        let tokens = self.vocabulary.tokens(text, name, add_special)?;
        if tokens.is_empty() {
            return Err(parameter(name, "is empty"));
        }
        Ok(tokens)
    }

    fn job(&self, wanted: Wanted<'_>) -> Result<(Job, Generation), InferenceError> {
        let Wanted { prompt, sampling, group, grammar, tools, echo } = wanted;
        let length = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let needed = length.saturating_add(sampling.max_tokens.unwrap_or(1));
        if needed > self.context {
            return Err(InferenceError::ContextLength { limit: self.context, prompt: length, needed });
        }
        // What all choices may write together also has to fit beside the prompt.
        let share = (self.cells - length) / sampling.choices;
        let answer = sampling.max_tokens.unwrap_or_else(|| (self.context - length).min(share));
        if answer > share || answer == 0 {
            return Err(parameter("n", "choices of that length do not fit into the engine's memory together"));
        }
        let seed = sampling.seed.unwrap_or_else(|| u64::from(rand::rng().random::<u32>()));
        let choices = (0..sampling.choices).map(|index| Choice {
            index,
            sampler: {
                let seed = choice_seed(seed, index);
                let mut sampler = TokenSampler::new(sampling, self.model.n_vocab(), self.context, seed);
                if let Some(grammar) = &grammar {
                    sampler.constrain(grammar.clone());
                }
                sampler
            },
            stop: StopFilter::new(&sampling.stop),
            tools: tools.as_ref().map(|tools| ToolUse {
                parser: ToolParser::new(tools.names.clone()),
                grammar: tools.grammar.clone(),
                several: tools.several,
            }),
            logprobs: sampling.logprobs,
            limit: answer,
            produced: 0,
            characters: Characters::default(),
            untold: Vec::new(),
        });
        let choices = choices.collect();
        // Room for every event: at most a few for each token.
        let room = sampling.choices as usize * (answer as usize * 5 + 64);
        let (events, generation) = Generation::new(room);
        let group = group.filter(|_| self.can_reuse);
        Ok((Job { prompt, group, answer, choices, seed, echo, events }, generation))
    }
}

/// Tokens that a request names, if the vocabulary has them.
///
/// # Errors
/// [`InferenceError::Parameter`] about `name`.
pub(super) fn known(model: &LlamaModel, name: &str, tokens: &[u32]) -> Result<Vec<LlamaToken>, InferenceError> {
    let vocabulary = model.n_vocab().unsigned_abs();
    if tokens.is_empty() {
        return Err(parameter(name, "is empty"));
    }
    if let Some(unknown) = tokens.iter().find(|token| **token >= vocabulary) {
        return Err(parameter(name, format!("token {unknown} is not in the vocabulary of {vocabulary}")));
    }
    Ok(tokens.iter().map(|token| LlamaToken(token.cast_signed())).collect())
}

/// The engine's seed of one choice: 32 bits that depend on all of the request's seed. The greatest number means "random" there.
fn choice_seed(seed: u64, choice: u32) -> u32 {
    let mut mixed = seed.wrapping_add(u64::from(choice).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 27;
    #[allow(clippy::cast_possible_truncation)]
    let folded = (mixed ^ (mixed >> 32)) as u32;
    folded.min(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_have_seeds_of_their_own() {
        let mut seeds: Vec<u32> =
            (0..1000).flat_map(|seed| (0..4).map(move |choice| choice_seed(seed, choice))).collect();
        assert!(!seeds.contains(&u32::MAX));
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 4000);
        assert_eq!(choice_seed(7, 1), choice_seed(7, 1));
    }
}
