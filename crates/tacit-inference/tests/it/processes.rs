//! Models in processes of their own, and files that are none.

use std::{io::Write as _, path::Path, time::Duration};

use tacit_inference::{
    Backend as _, EngineSettings, Event, InferenceError, ModelProcess, ModelStore, gguf,
    manifest::{FileRole, MODEL_VERSION, ModelFile},
    process::Launch,
    store::{NewModel, Source, StoreError},
};
use tacit_types::formats::sha256;

use crate::models::{chat, completion, first_text, greedy, small, smollm, whole};

/// The process that the example beside these tests runs.
pub fn launch(store: &Path, name: &str, settings: &EngineSettings) -> Launch {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/model_process");
    let settings = serde_json::to_string(settings).unwrap();
    Launch { program, arguments: vec![store.into(), name.into(), settings.into()] }
}

async fn add(store: &ModelStore, path: &Path, name: &str) -> Result<tacit_inference::ModelManifest, StoreError> {
    let source = Source::Path(path.to_owned());
    store.add(NewModel { source, sha256: None, name: Some(name.to_owned()), licence: None }).await
}

/// Puts a file into a store behind its right digest, past every check.
pub fn smuggle(folder: &Path, name: &str, role: FileRole, bytes: &[u8]) {
    std::fs::create_dir_all(folder.join("files")).unwrap();
    let digest = sha256(bytes);
    std::fs::write(folder.join("files").join(&digest.to_string()[2..]), bytes).unwrap();
    let manifest = tacit_inference::ModelManifest {
        version: MODEL_VERSION.to_owned(),
        name: name.to_owned(),
        licence: "MIT".to_owned(),
        source: "tests".to_owned(),
        files: vec![ModelFile { role, sha256: digest, size: bytes.len() as u64 }],
        template: None,
        converted_from: None,
        lineage: Vec::new(),
        context: 512,
        embedding: None,
        upstream: None,
    };
    std::fs::write(folder.join(format!("{name}.json")), manifest.to_bytes().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_the_store_answers_from_its_own_process() {
    let Some(weights) = smollm() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::at(folder.path());
    let manifest = add(&store, &weights, "smollm2").await.unwrap();
    assert_eq!((manifest.licence.as_str(), manifest.context, manifest.embedding), ("Apache-2.0", 8192, None));
    assert!(matches!(add(&store, &weights, "smollm2").await, Err(StoreError::Taken { .. })));
    assert_eq!(store.list().unwrap(), std::slice::from_ref(&manifest));

    let settings = EngineSettings { slots: 1, queue: 1, ..small() };
    let model = ModelProcess::start(launch(folder.path(), "smollm2", &settings)).await.unwrap();
    assert_eq!(model.identity().digest, manifest.digest().unwrap());
    let answer = whole(model.chat(chat("What is the capital of France?", greedy(24))).await.unwrap(), 1).await;
    assert!(answer.texts[0].starts_with("L'Étoile, la Marseillaise"), "{answer:?}");
    match model.complete(completion("Hello", greedy(512))).await {
        Err(InferenceError::ContextLength { limit: 512, .. }) => {}
        other => panic!("{other:?}"),
    }
    // Whoever goes away frees the slot over there.
    let mut long = model.complete(completion("The history of the world", greedy(400))).await.unwrap();
    first_text(&mut long).await;
    drop(long);
    let next = model.complete(completion("Hello", greedy(1))).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), whole(next, 1)).await.expect("the slot was not freed");

    // A file that was changed behind the manifest's back is not loaded.
    let file = folder.path().join("files").join(&manifest.files[0].sha256.to_string()[2..]);
    std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"x").unwrap();
    match ModelProcess::start(launch(folder.path(), "smollm2", &settings)).await {
        Err(InferenceError::Engine(reason)) => assert!(reason.contains("bytes or more"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_files_behind_right_digests_end_no_more_than_their_process() {
    let Some(weights) = smollm() else { return };
    let whole = std::fs::read(weights).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let header = gguf::read(whole.as_slice(), whole.len() as u64).unwrap();
    let begin = usize::try_from(header.data).unwrap();
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let place = |text: &[u8]| whole[..begin].windows(text.len()).position(|window| window == text).unwrap();
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("empty-header", b"GGUF".to_vec()),
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("tensors", patched(8, &u64::MAX.to_le_bytes())),
        ("entries", patched(16, &(1_u64 << 40).to_le_bytes())),
        ("version", patched(4, &9_u32.to_le_bytes())),
        ("key", patched(24, &u64::MAX.to_le_bytes())),
        // Sound for a reader, and absurd: only llama.cpp itself sees that the layers are not there.
        ("layers", patched(place(b"llama.block_count") + 17 + 4, &29_u32.to_le_bytes())),
        ("heads", patched(place(b"llama.attention.head_count") + 26 + 4, &7_u32.to_le_bytes())),
        ("norm", patched(place(b"llama.embedding_length") + 22 + 4, &577_u32.to_le_bytes())),
        ("names", patched(place(b"blk.0.attn_q.weight"), b"blk.0.attn_x.weight")),
    ];
    for (name, bytes) in files {
        smuggle(folder.path(), name, FileRole::Weights, &bytes);
        let started = ModelProcess::start(launch(folder.path(), name, &small())).await;
        match started {
            Err(InferenceError::Engine(reason)) => println!("{name}: {reason}"),
            Err(other) => panic!("{name}: {other}"),
            Ok(_) => panic!("{name} was loaded"),
        }
        std::fs::remove_file(folder.path().join("files").join(&sha256(&bytes).to_string()[2..])).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_fails_its_requests_and_is_started_again() {
    let Some(weights) = smollm() else { return };
    let folder = tempfile::tempdir().unwrap();
    add(&ModelStore::at(folder.path()), &weights, "smollm2").await.unwrap();
    let model = ModelProcess::start(launch(folder.path(), "smollm2", &small())).await.unwrap();
    let mut long = model.complete(completion("The history of the world", greedy(400))).await.unwrap();
    first_text(&mut long).await;
    model.kill().await;
    let mut last = None;
    while let Some(event) = long.next().await {
        last = Some(event);
    }
    match last {
        Some(Event::Failed(InferenceError::Engine(reason))) => assert!(reason.contains("signal"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let started = std::time::Instant::now();
    loop {
        assert!(started.elapsed() < Duration::from_secs(30), "it was not started again");
        match model.complete(completion("Hello", greedy(2))).await {
            Ok(generation) => break assert_eq!(whole(generation, 1).await.usage.completion_tokens, 2),
            Err(InferenceError::Engine(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(other) => panic!("{other}"),
        }
    }
}
