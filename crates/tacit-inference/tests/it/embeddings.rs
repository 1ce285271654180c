//! MiniLM, converted from the form in which it is published, and adapters.

use std::path::Path;

use tacit_inference::{
    Backend as _, EmbeddingRequest, EngineSettings, InferenceError, LlamaCpp, ModelStore, Prompt,
    gguf::{self, Metadata},
    store::{NewModel, Source, StoreError},
};

use crate::models::{completion, fetched, greedy, small, smollm, whole};

pub async fn add(store: &ModelStore, path: &Path, name: &str) -> Result<tacit_inference::ModelManifest, StoreError> {
    let source = Source::Path(path.to_owned());
    let licence = Some("Apache-2.0".to_owned());
    store.add(NewModel { source, sha256: None, name: Some(name.to_owned()), licence }).await
}

fn texts(inputs: &[&str]) -> EmbeddingRequest {
    let inputs = inputs.iter().map(|text| Prompt::Text((*text).to_owned())).collect();
    EmbeddingRequest { inputs, dimensions: None }
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minilm_tells_what_means_the_same() {
    let Some(weights) = fetched("all-minilm-l6-v2/model.safetensors") else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::at(folder.path());
    let manifest = add(&store, &weights, "minilm").await.unwrap();
    assert_eq!((manifest.embedding, manifest.context), (Some(384), 512));
    assert!(manifest.converted_from.is_some());
    let model = LlamaCpp::open(&store, "minilm", 1, &small()).unwrap();
    assert_eq!(model.identity().embedding, Some(384));

    let inputs = [
        "A man is eating food.",
        "A man is eating a piece of bread.",
        "The girl is carrying a baby.",
        "A cheetah is running behind its prey.",
        "Señor Müller ordered a naïve façade.",
    ];
    let together = model.embed(texts(&inputs)).await.unwrap();
    assert_eq!(together.vectors.len(), inputs.len());
    for vector in &together.vectors {
        assert_eq!(vector.len(), 384);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-5);
    }
    let [food, bread, baby, cheetah, _] = together.vectors.as_slice() else { panic!() };
    let figures = [cosine(food, bread), cosine(food, baby), cosine(food, cheetah)];
    println!("cosines with {:?}: {figures:?}", inputs[0]);
    // The publishers' own example: the paraphrase stands far above the others.
    assert!(figures[0] > 0.7 && figures[1] < 0.2 && figures[2] < 0.25, "{figures:?}");
    // Alone or with others, a text has the same vector.
    for (input, vector) in inputs.iter().zip(&together.vectors) {
        let alone = model.embed(texts(&[input])).await.unwrap();
        assert!(cosine(&alone.vectors[0], vector) > 0.9999, "{input}");
    }
    // [CLS] a man is eating food . [SEP]
    assert_eq!(model.embed(texts(&[inputs[0]])).await.unwrap().prompt_tokens, 8);

    let many: Vec<String> = (0..40).map(|number| format!("Sentence number {number} about nothing much.")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(model.embed(texts(&many)).await.unwrap().vectors.len(), 40);

    assert!(matches!(model.embed(texts(&[&"word ".repeat(600)])).await, Err(InferenceError::ContextLength { .. })));
    for refused in [texts(&[]), texts(&[""; 2049]), EmbeddingRequest { dimensions: Some(7), ..texts(&["a"]) }] {
        assert!(matches!(model.embed(refused).await, Err(InferenceError::Parameter { .. })));
    }
    let chat = model.complete(completion("a", greedy(1))).await;
    assert!(matches!(chat, Err(InferenceError::Unsupported { what: "continue texts", .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_converted_is_refused_and_leaves_nothing() {
    let Some(weights) = fetched("all-minilm-l6-v2/model.safetensors") else { return };
    let folder = tempfile::tempdir().unwrap();
    let published = weights.parent().unwrap();
    let copy = folder.path().join("published");
    std::fs::create_dir_all(copy.join("1_Pooling")).unwrap();
    for name in ["config.json", "vocab.txt", "1_Pooling/config.json"] {
        std::fs::copy(published.join(name), copy.join(name)).unwrap();
    }
    let store = ModelStore::at(&folder.path().join("models"));
    let file = copy.join("model.safetensors");
    for bytes in [b"".to_vec(), b"\xff\xff\xff\xff\xff\xff\xff\x7f{}".to_vec(), b"\x02\0\0\0\0\0\0\0{}".to_vec()] {
        std::fs::write(&file, bytes).unwrap();
        assert!(matches!(add(&store, &file, "minilm").await, Err(StoreError::Convert(_))));
    }
    std::fs::write(copy.join("vocab.txt"), "one\n").unwrap();
    std::fs::copy(&weights, &file).unwrap();
    assert!(matches!(add(&store, &file, "minilm").await, Err(StoreError::Convert(_))));
    assert!(store.list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(folder.path().join("models/files")).unwrap().count(), 0);
}

/// An adapter that adds a multiple of one direction to every value of the first layer.
fn adapter(path: &Path, strength: f32) {
    let line = |count: usize, step: usize| (0..count).map(|at| if at % step == 0 { strength } else { 0.0 }).collect();
    let tensors = [
        ("blk.0.attn_v.weight.lora_a".to_owned(), vec![576, 2], line(1152, 3)),
        ("blk.0.attn_v.weight.lora_b".to_owned(), vec![2, 192], line(384, 2)),
    ];
    let metadata = [
        ("general.architecture", Metadata::Text("llama".to_owned())),
        ("general.type", Metadata::Text("adapter".to_owned())),
        ("adapter.type", Metadata::Text("lora".to_owned())),
        ("adapter.lora.alpha", Metadata::F32(2.0)),
    ];
    gguf::write(std::fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapters_change_answers_and_are_named() {
    let Some(weights) = smollm() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::at(&folder.path().join("models"));
    add(&store, &weights, "plain").await.unwrap();
    let path = |name: &str| folder.path().join(name);
    adapter(&path("nothing"), 0.0);
    adapter(&path("strong"), 2.0);
    store.add_adapter("plain", "same", &path("nothing"), None, None).unwrap();
    let tuned = store.add_adapter("plain", "tuned", &path("strong"), None, None).unwrap();
    // A second adapter on top of the first: the sum of both.
    let both = store.add_adapter("tuned", "both", &path("nothing"), None, None).unwrap();
    assert_eq!((tuned.lineage.len(), both.lineage.len()), (1, 2));
    assert_ne!(tuned.digest().unwrap(), both.digest().unwrap());

    let answer = async |name: &str, constant_shape| {
        let settings = EngineSettings { slots: 1, constant_shape, ..small() };
        let model = LlamaCpp::open(&store, name, 1, &settings).unwrap();
        let answer = whole(model.complete(completion("1, 2, 3, 4,", greedy(12))).await.unwrap(), 1).await;
        (model.identity().adapters.len(), answer.texts[0].clone())
    };
    let (plain, same) = (answer("plain", false).await, answer("same", false).await);
    let (tuned, both) = (answer("tuned", false).await, answer("both", false).await);
    assert_eq!((plain.0, same.0, tuned.0, both.0), (0, 1, 1, 2));
    assert_eq!(plain.1, same.1);
    assert_ne!(plain.1, tuned.1);
    assert_eq!(tuned.1, both.1);
    // With constant-shape look-ups they work alike.
    assert_eq!((answer("tuned", true).await, answer("both", true).await), (tuned, both));

    assert!(matches!(store.add_adapter("plain", "x", &weights, None, None), Err(StoreError::Gguf(_))));
    assert!(matches!(store.add_adapter("none", "x", &path("strong"), None, None), Err(StoreError::Unknown(_))));
    assert!(matches!(add(&store, &path("strong"), "x").await, Err(StoreError::Gguf(_))));
}
