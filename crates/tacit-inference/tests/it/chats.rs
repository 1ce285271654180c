//! SmolLM2 answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tacit_inference::{
    Backend as _, EmbeddingRequest, EngineSettings, FinishReason, InferenceError, LlamaCpp, OutputFormat, Prompt,
    Sampling, Tool, ToolChoice,
};
use tacit_types::Digest;

use crate::models::{chat, completion, first_text, greedy, load, small, whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smollm_answers_and_answers_again() {
    let Some(model) = load(&small()) else { return };
    let ask =
        || async { whole(model.chat(chat("What is the capital of France?", greedy(24))).await.unwrap(), 1).await };
    let first = ask().await;
    // So small a model does not know. Upstream's own library gives the same words for the same file.
    assert!(first.texts[0].starts_with("L'Étoile, la Marseillaise"), "{first:?}");
    assert_eq!(first.reasons, [Some(FinishReason::Length)]);
    assert!(first.usage.prompt_tokens > 20 && first.usage.completion_tokens > 4, "{first:?}");
    assert_eq!(first.usage.cached_tokens, 0);
    assert_eq!(ask().await.texts, first.texts);

    // Beside others, in the same steps, sums are added in another order: what is likely by a margin stays the same text, and
    // probabilities stay almost the same. A mix-up of requests would show in both.
    let count = || async {
        let sampling = Sampling { logprobs: Some(1), ..greedy(24) };
        whole(model.complete(completion("1, 2, 3, 4, 5, 6,", sampling)).await.unwrap(), 1).await
    };
    let alone = count().await;
    let others = ["Write a poem about rain.", "Name three colours.", "What is the capital of France?"];
    let [one, two, three] =
        others.map(|question| async { whole(model.chat(chat(question, greedy(40))).await.unwrap(), 1).await });
    let (one, two, three, beside) = tokio::join!(one, two, three, count());
    assert!([one, two, three].iter().all(|other| !other.texts[0].is_empty()));
    assert_eq!(beside.texts, alone.texts);
    for (beside, alone) in beside.logprobs.iter().zip(&alone.logprobs) {
        assert!((beside.logprob - alone.logprob).abs() < 0.2, "{beside:?} {alone:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_is_reused_within_a_group_and_told() {
    let Some(model) = load(&small()) else { return };
    let ask = |group: Option<u8>| {
        let mut request = chat("Say hello to everybody in the room, please.", greedy(4));
        request.reuse_group = group.map(|byte| Digest::from([byte; 32]));
        async { whole(model.chat(request).await.unwrap(), 1).await }
    };
    assert_eq!(ask(Some(1)).await.usage.cached_tokens, 0);
    let again = ask(Some(1)).await.usage;
    assert_eq!(again.cached_tokens, again.prompt_tokens - 1);
    assert_eq!(ask(Some(2)).await.usage.cached_tokens, 0);
    assert_eq!(ask(None).await.usage.cached_tokens, 0);
    assert_eq!(ask(None).await.usage.cached_tokens, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn choices_have_seeds_and_a_seed_repeats_them() {
    let Some(model) = load(&small()) else { return };
    let sampling = Sampling { choices: 3, max_tokens: Some(12), seed: Some(7), ..Sampling::default() };
    let ask = |sampling: Sampling| {
        let request = completion("Once upon a time", sampling);
        async { whole(model.complete(request).await.unwrap(), 3).await }
    };
    let first = ask(sampling.clone()).await;
    assert!(first.texts[0] != first.texts[1] || first.texts[1] != first.texts[2], "{:?}", first.texts);
    assert_eq!(first.usage.seed, 7);
    assert_eq!(ask(sampling.clone()).await.texts, first.texts);
    let drawn = ask(Sampling { seed: None, ..sampling.clone() }).await;
    let repeated = ask(Sampling { seed: Some(drawn.usage.seed), ..sampling }).await;
    assert_eq!(repeated.texts, drawn.texts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_bias_echo_and_probabilities() {
    let Some(model) = load(&small()) else { return };
    let ask = |sampling: Sampling, echo: bool| {
        let mut request = completion("1, 2, 3, 4,", sampling);
        request.echo = echo;
        async { whole(model.complete(request).await.unwrap(), 1).await }
    };
    let plain = ask(greedy(12), false).await;
    assert!(plain.texts[0].starts_with(" 5, 6, 7"), "{plain:?}");
    assert_eq!(plain.reasons, [Some(FinishReason::Length)]);
    assert_eq!(plain.usage.completion_tokens, 12);

    let stopped = ask(Sampling { stop: vec![", 7".to_owned()], ..greedy(12) }, false).await;
    assert_eq!((stopped.texts[0].as_str(), stopped.reasons[0]), (" 5, 6", Some(FinishReason::Stop)));
    assert_eq!(ask(greedy(3), true).await.texts[0], format!("1, 2, 3, 4,{}", &plain.texts[0][..3]));

    let likely = ask(Sampling { logprobs: Some(2), ..greedy(6) }, false).await;
    assert_eq!(likely.logprobs.len(), 6);
    for token in &likely.logprobs {
        assert_eq!((token.top.len(), &token.top[0].0, token.top[0].1), (2, &token.bytes, token.logprob));
        assert!(token.logprob <= 0.0 && token.top[1].1 <= token.logprob, "{token:?}");
    }
    let bytes: Vec<u8> = likely.logprobs.iter().flat_map(|token| token.bytes.clone()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), likely.texts[0]);

    // Token 0 ends a text for this model; biased upwards it is always the first.
    let ended = ask(Sampling { logit_bias: BTreeMap::from([(0, 100.0)]), ..greedy(12) }, false).await;
    assert_eq!((ended.texts[0].as_str(), ended.reasons[0]), ("", Some(FinishReason::Stop)));
    let penalised = ask(Sampling { frequency_penalty: 2.0, presence_penalty: 2.0, ..greedy(40) }, false).await;
    assert_ne!(penalised.texts, ask(greedy(40), false).await.texts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_are_kept_and_bad_ones_refused() {
    let Some(model) = load(&small()) else { return };
    let ask = |format: OutputFormat, tokens: u32| {
        let mut request = chat("Describe Paris.", greedy(tokens));
        request.format = format;
        model.chat(request)
    };
    let schema = json!({
        "type": "object",
        "properties": { "city": { "type": "string", "maxLength": 10 }, "big": { "type": "boolean" } },
        "required": ["city", "big"], "additionalProperties": false,
    });
    let answer = whole(ask(OutputFormat::JsonSchema(schema), 64).await.unwrap(), 1).await;
    let value: Value = serde_json::from_str(&answer.texts[0]).unwrap();
    assert!(value["city"].is_string() && value["big"].is_boolean(), "{value}");
    assert_eq!(answer.reasons, [Some(FinishReason::Stop)]);

    let answer = whole(ask(OutputFormat::JsonObject, 60).await.unwrap(), 1).await;
    assert!(answer.texts[0].starts_with('{'), "{answer:?}");

    let grammar = "root ::= (\"red\" | \"blue\") \" \" [0-9]{3}";
    let answer = whole(ask(OutputFormat::Grammar(grammar.to_owned()), 20).await.unwrap(), 1).await;
    let (colour, number) = answer.texts[0].split_once(' ').unwrap();
    assert!(["red", "blue"].contains(&colour) && number.len() == 3 && number.parse::<u32>().is_ok(), "{answer:?}");

    for (format, parameter) in [
        (OutputFormat::Grammar("root ::= root \"a\"".to_owned()), "grammar"),
        (OutputFormat::Grammar("nothing ::= \"a\"".to_owned()), "grammar"),
        (OutputFormat::Grammar("root ::= missing".to_owned()), "grammar"),
        (OutputFormat::Grammar("root ::= [a-".to_owned()), "grammar"),
        (OutputFormat::JsonSchema(json!({"type": "nonsense"})), "response_format"),
        (OutputFormat::JsonSchema(json!({"$ref": "#/nowhere"})), "response_format"),
        (OutputFormat::JsonSchema(json!({"type": "string", "pattern": "^[a-$"})), "response_format"),
    ] {
        match ask(format.clone(), 4).await {
            Err(InferenceError::Parameter { parameter: named, .. }) => assert_eq!(named, parameter),
            other => panic!("{format:?}: {other:?}"),
        }
    }
    // It works on.
    assert!(!whole(ask(OutputFormat::Text, 4).await.unwrap(), 1).await.texts[0].is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_are_called_with_json_of_their_schema() {
    let Some(model) = load(&EngineSettings { context: 1024, ..small() }) else { return };
    let weather = Tool {
        name: "weather".to_owned(),
        description: Some("Weather of a city.".to_owned()),
        parameters: json!({
            "type": "object",
            "properties": { "city": { "type": "string", "maxLength": 20 }, "days": { "type": "integer" } },
            "required": ["city", "days"], "additionalProperties": false,
        }),
    };
    let time = Tool { name: "time".to_owned(), description: None, parameters: json!({}) };
    let ask = |choice: ToolChoice| {
        let mut request = chat("What is the weather in Oslo?", greedy(80));
        request.tools = vec![time.clone(), weather.clone()];
        request.tool_choice = choice;
        async { whole(model.chat(request).await.unwrap(), 1).await }
    };
    let named = ask(ToolChoice::Named("weather".to_owned())).await;
    assert_eq!(named.reasons, [Some(FinishReason::ToolCalls)]);
    let [(0, name, arguments)] = named.calls.as_slice() else { panic!("{named:?}") };
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert!(name == "weather" && arguments["city"].is_string() && arguments["days"].is_i64(), "{arguments}");
    assert_eq!(named.texts, [""]);

    let required = ask(ToolChoice::Required).await;
    assert_eq!((required.calls.len(), required.reasons[0]), (1, Some(FinishReason::ToolCalls)));

    let none = ask(ToolChoice::None).await;
    assert!(none.calls.is_empty() && !none.texts[0].is_empty());
    // The model is free; if it begins a call, the call is one.
    let auto = ask(ToolChoice::Auto).await;
    assert_eq!(auto.calls.is_empty(), auto.reasons[0] != Some(FinishReason::ToolCalls));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_goes_away_frees_the_slot() {
    let Some(model) = load(&EngineSettings { slots: 1, cells: 512, queue: 2, ..small() }) else { return };
    let long = || model.complete(completion("The history of the world", greedy(400)));
    let mut first = long().await.unwrap();
    first_text(&mut first).await;
    // The slot is taken: two may wait, the third is refused.
    let (second, third) = (long().await.unwrap(), long().await.unwrap());
    assert_eq!(long().await.unwrap_err(), InferenceError::Busy { waiting: 2 });
    drop((first, second, third));
    let started = std::time::Instant::now();
    let mut answered = None;
    while answered.is_none() {
        assert!(started.elapsed().as_secs() < 20, "the slot was not freed");
        match model.complete(completion("Hello", greedy(1))).await {
            Ok(generation) => answered = Some(whole(generation, 1).await),
            Err(InferenceError::Busy { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    // 400 tokens take far longer than this.
    println!("freed and answered after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_refused_before_any_work() {
    let Some(model) = load(&small()) else { return };
    let refused = |result: Result<_, InferenceError>, name: &str| match result {
        Err(InferenceError::Parameter { parameter, .. }) => assert_eq!(parameter, name),
        other => panic!("{name}: {:?}", other.map(|_: tacit_inference::Generation| ())),
    };
    match model.complete(completion("Hello", greedy(512))).await {
        Err(InferenceError::ContextLength { limit: 512, prompt: 1..8, needed: 513.. }) => {}
        other => panic!("{other:?}"),
    }
    match model.complete(completion(&"word ".repeat(600), Sampling::default())).await {
        Err(InferenceError::ContextLength { limit: 512, prompt: 600.., .. }) => {}
        other => panic!("{other:?}"),
    }
    refused(model.complete(completion(&"x".repeat(40_000), greedy(1))).await, "prompt");
    refused(model.complete(completion("", greedy(1))).await, "prompt");
    let tokens = |tokens: Vec<u32>| {
        let mut request = completion("", greedy(1));
        request.prompt = Prompt::Tokens(tokens);
        model.complete(request)
    };
    refused(tokens(vec![49_152]).await, "prompt");
    refused(tokens(vec![]).await, "prompt");
    assert_eq!(whole(tokens(vec![1, 2, 3]).await.unwrap(), 1).await.usage.prompt_tokens, 3);
    refused(model.complete(completion("a", Sampling { choices: 5, ..greedy(1) })).await, "n");
    let crowded = LlamaCpp::load(
        &crate::models::open(&crate::models::smollm().unwrap()),
        1,
        &EngineSettings { cells: 512, ..small() },
    );
    refused(crowded.unwrap().complete(completion("a", Sampling { choices: 4, ..greedy(200) })).await, "n");
    let mut echoed = completion("a", Sampling { logprobs: Some(0), ..greedy(1) });
    echoed.echo = true;
    refused(model.complete(echoed).await, "logprobs");
    let inputs = EmbeddingRequest { inputs: vec![Prompt::Text("a".to_owned())], dimensions: None };
    assert!(matches!(model.embed(inputs).await, Err(InferenceError::Unsupported { .. })));
}
