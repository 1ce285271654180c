//! With oblivious look-ups a model gives the same answers and the same probabilities.

use tacit_inference::{
    Backend as _, EngineSettings, FinishReason, InferenceError, LlamaCpp, ModelStore, OutputFormat, Prompt, Sampling,
};

use crate::embeddings::add;
use crate::models::{chat, completion, fetched, greedy, open, small, smollm, whole};

fn hidden() -> EngineSettings {
    EngineSettings { constant_shape: true, ..small() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_probabilities_are_the_same() {
    let Some(weights) = smollm() else { return };
    let plain = LlamaCpp::load(&open(&weights), 1, &small()).unwrap();
    let hidden = LlamaCpp::load(&open(&weights), 1, &hidden()).unwrap();
    assert_eq!(plain.identity(), hidden.identity());
    for sampling in [
        Sampling { logprobs: Some(3), ..greedy(40) },
        Sampling { logprobs: Some(1), seed: Some(9), max_tokens: Some(40), choices: 2, ..Sampling::default() },
    ] {
        let ask = async |model: &LlamaCpp| {
            let generation = model.chat(chat("Why is the sea salty?", sampling.clone())).await.unwrap();
            whole(generation, sampling.choices as usize).await
        };
        let (expected, found) = (ask(&plain).await, ask(&hidden).await);
        assert_eq!((found.texts, found.logprobs), (expected.texts, expected.logprobs));
    }
    let format = async |model: &LlamaCpp| {
        let mut request = chat("Give me a fruit and its colour.", greedy(60));
        request.format = OutputFormat::JsonObject;
        whole(model.chat(request).await.unwrap(), 1).await.texts
    };
    assert_eq!(format(&hidden).await, format(&plain).await);
    // Several at once, whose tokens share steps.
    let topics = ["bees", "bread", "rain", "paper"];
    let tell = async |topic: &str, tokens| {
        whole(hidden.chat(chat(&format!("Tell me about {topic}."), greedy(tokens))).await.unwrap(), 1).await
    };
    let [one, two, three, four] = topics;
    let (one, two, three, four) = tokio::join!(tell(one, 30), tell(two, 30), tell(three, 30), tell(four, 30));
    for (topic, together) in topics.iter().zip([one, two, three, four]) {
        let alone = tell(topic, 8).await;
        let begin: String = alone.texts[0].chars().take(12).collect();
        assert!(together.texts[0].starts_with(&begin), "{topic}: {together:?} {alone:?}");
        assert_eq!(together.reasons, [Some(FinishReason::Length)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_hidden_is_refused() {
    let Some(weights) = smollm() else { return };
    let hidden = LlamaCpp::load(&open(&weights), 1, &hidden()).unwrap();
    let refused = |result: Result<tacit_inference::Generation, InferenceError>| match result.map(drop) {
        Err(InferenceError::Parameter { parameter, reason }) => format!("{parameter} {reason}"),
        other => panic!("{other:?}"),
    };
    let long = hidden.complete(completion(&"a".repeat(1025), greedy(1))).await;
    assert_eq!(refused(long), "prompt has a word of more than 1024 bytes");
    let many = hidden.complete(completion(&"a ".repeat(5000), greedy(1))).await;
    assert!(refused(many).starts_with("prompt is longer than 8192 bytes"));
    let unknown = completion("", greedy(1));
    let unknown = tacit_inference::CompletionRequest { prompt: Prompt::Tokens(vec![u32::MAX]), ..unknown };
    assert!(refused(hidden.complete(unknown).await).contains("is not in the vocabulary"));

    if let Some(weights) = fetched("all-minilm-l6-v2/model.safetensors") {
        let folder = tempfile::tempdir().unwrap();
        let store = ModelStore::at(folder.path());
        add(&store, &weights, "minilm").await.unwrap();
        match LlamaCpp::open(&store, "minilm", 1, &self::hidden()).map(drop) {
            Err(InferenceError::Engine(reason)) => {
                assert_eq!(reason, "constant_shape is not possible: it makes embeddings");
            }
            other => panic!("{other:?}"),
        }
    }
}
