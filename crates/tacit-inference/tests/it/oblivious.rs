//! With oblivious look-ups a model gives the same tokens, the same answers and the same probabilities.

use std::{fs::File, io::Read as _, path::Path};

use tacit_inference::{
    Backend as _, EngineSettings, FinishReason, InferenceError, LlamaCpp, ModelStore, OutputFormat, Prompt, Sampling,
};

use crate::embeddings::add;
use crate::models::{chat, completion, fetched, greedy, open, small, smollm, whole};

fn hidden() -> EngineSettings {
    EngineSettings { constant_shape: true, ..small() }
}

/// The model with another name of its tokenizer's style in its file.
fn styled(weights: &Path, style: &str) -> tempfile::NamedTempFile {
    let mut bytes = Vec::new();
    File::open(weights).unwrap().read_to_end(&mut bytes).unwrap();
    let key = b"tokenizer.ggml.pre";
    let place = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    let length = u64::from_le_bytes(bytes[place..][..8].try_into().unwrap()) as usize;
    assert_eq!(&bytes[place + 8..][..length], b"smollm");
    // What the name has more or less, the template that follows it somewhere has less or more, so that no tensor moves.
    let key = b"tokenizer.chat_template";
    let template = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    assert!(template > place, "the template follows");
    let old = u64::from_le_bytes(bytes[template..][..8].try_into().unwrap());
    let spaces = old + length as u64 - style.len() as u64;
    bytes[template..][..8].copy_from_slice(&spaces.to_le_bytes());
    let text = template + 8;
    if style.len() > length {
        bytes.drain(text..text + style.len() - length);
    } else {
        bytes.splice(text..text, vec![b' '; length - style.len()]);
    }
    bytes[place..][..8].copy_from_slice(&(style.len() as u64).to_le_bytes());
    bytes.splice(place + 8..place + 8 + length, style.bytes());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

/// What a text is after it went through tokens, and how many those are.
async fn echoed(model: &LlamaCpp, text: &str) -> Result<(String, u32), InferenceError> {
    let mut request = completion(text, greedy(1));
    request.echo = true;
    let whole = whole(model.complete(request).await?, 1).await;
    Ok((whole.texts[0].clone(), whole.usage.prompt_tokens))
}

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "It's  12 o'clock,\n\n  naïve façade ",
        "   leading\t\ttabs \r\n\r\nand breaks\n",
        "x = f(a[0], b{1}) -> \"str'ing\" // 100% #1 @me",
        "日本語のテキスト、それと한국어 и русский ١٢٣ ½ ⅷ",
        "emoji 👩‍👩‍👧‍👦 and 🇨🇭, combining e\u{301}\u{302}, \u{200b}zero\u{feff}",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start",
        "I'LL WE'VE you'd it'S 'tis '",
        "1234567890 3.14159 1,000,000 v2.0.1",
        "\u{a0}\u{2003}\u{3000}spaces \u{85}of\u{2028}kinds",
        "a",
        " ",
        "\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "------------------------------------------------------------------========",
    ]
    .map(str::to_owned)
    .to_vec();
    // Characters of everywhere, each with something before and after it.
    let step = if std::env::var_os("TACIT_TEST_LONG").is_some() { 7 } else { 397 };
    let mut state = 0x2545_f491_u32;
    let characters = (0..0x11_0000_u32).step_by(step).filter_map(char::from_u32).filter(|character| *character != '\0');
    let beside = ["a", " ", "1", "'s ", "\n", ".", " b"];
    let mut text = String::new();
    for character in characters {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(beside[(state >> 16) as usize % beside.len()]);
        text.push(character);
        if text.len() > 300 {
            texts.push(std::mem::take(&mut text));
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_style_cuts_texts_into_the_same_tokens() {
    let Some(weights) = smollm() else { return };
    for style in ["smollm", "gpt-2", "qwen2", "llama-bpe"] {
        let file = styled(&weights, style);
        let plain = LlamaCpp::load(&open(file.path()), 1, &small()).unwrap();
        let hidden = LlamaCpp::load(&open(file.path()), 1, &hidden()).unwrap();
        let (mut same, mut other) = (0, Vec::new());
        for text in texts() {
            let (expected, found) = (echoed(&plain, &text).await, echoed(&hidden, &text).await);
            if expected == found { same += 1 } else { other.push(text) }
        }
        // Both know letters of a version of Unicode; what was added since is a letter to one of them alone.
        println!("{style}: {same} texts have the same tokens, {} have others", other.len());
        assert!(other.len() * 100 <= same, "{style}: {other:?}");
        assert!(texts()[..14].iter().all(|text| !other.contains(text)), "{style}: {other:?}");
    }
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

    let load = |weights: &Path| match LlamaCpp::load(&open(weights), 1, &self::hidden()).map(drop) {
        Err(InferenceError::Engine(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let other = styled(&weights, "tekken");
    assert_eq!(load(other.path()), "constant_shape is not possible: its tokenizer is of the kind \"tekken\"");
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
