//! ONNX models that the tests write themselves: what they compute, what they refuse, and files that are none.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use tacit_inference::{
    Backend, ChatRequest, CompletionRequest, Dimension, Element, Embedding, EmbeddingRequest, EngineSettings,
    Generation, InferenceError, LlamaCpp, ModelIdentity, ModelManifest, ModelProcess, ModelStore, NamedTensor,
    OnnxModel, TensorAnswer, TensorRequest,
    manifest::FileRole,
    onnx::OnnxError,
    store::{NewModel, Source, StoreError},
};
use tacit_types::formats::sha256;

use crate::{
    models::{chat, fetched},
    processes::{launch, smuggle},
    protobuf::{self, Graph, LAYERS, Name, Size, expected, integer, numbers, perceptron},
};

/// A model of these bytes, in this process.
fn open(file: &[u8]) -> Result<OnnxModel, InferenceError> {
    let folder = tempfile::tempdir().unwrap();
    smuggle(folder.path(), "model", FileRole::Onnx, file);
    OnnxModel::open(&ModelStore::at(folder.path()), "model", 1)
}

/// A model in a process of its own. The folder goes when it does.
async fn process(file: &[u8]) -> (tempfile::TempDir, Result<ModelProcess, InferenceError>) {
    let folder = tempfile::tempdir().unwrap();
    smuggle(folder.path(), "model", FileRole::Onnx, file);
    let model = ModelProcess::start(launch(folder.path(), "model", &EngineSettings::default())).await;
    (folder, model)
}

fn x(rows: usize) -> NamedTensor {
    NamedTensor::of_f32("x", &[rows, LAYERS[0]], &numbers(9, rows * LAYERS[0]))
}

async fn run(model: &dyn Backend, inputs: &[NamedTensor]) -> Result<TensorAnswer, InferenceError> {
    model.run(TensorRequest { inputs: inputs.to_vec() }).await
}

/// Checks an answer of the perceptron against plain Rust: the logits bit by bit, the softmax nearly.
fn check(answer: &TensorAnswer, rows: usize) {
    let (logits, probabilities) = expected(&x(rows).to_f32().unwrap());
    let [first, second] = answer.outputs.as_slice() else { panic!("{answer:?}") };
    assert_eq!((first.name.as_str(), first.shape.as_slice()), ("logits", &[rows, LAYERS[2]][..]));
    assert_eq!(first.to_f32().unwrap(), logits);
    assert_eq!((second.name.as_str(), second.shape.as_slice()), ("probabilities", &[rows, LAYERS[2]][..]));
    for (found, wanted) in second.to_f32().unwrap().iter().zip(probabilities) {
        assert!((found - wanted).abs() < 1e-6, "{found} and not {wanted}");
    }
}

#[tokio::test]
async fn a_perceptron_computes_what_plain_rust_does() {
    let model = open(&perceptron(Size(3)).file()).unwrap();
    let interface = model.identity().tensors.clone().unwrap();
    assert_eq!(interface.inputs[0].shape, [Dimension::Fixed(3), Dimension::Fixed(37)]);
    assert_eq!(interface.inputs[0].element, Element::F32);
    let names: Vec<&str> = interface.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["logits", "probabilities"]);
    assert!(interface.kernels.starts_with("tract 0."), "{interface:?}");
    assert!(!model.identity().generates && model.identity().embedding.is_none());
    check(&run(&model, &[x(3)]).await.unwrap(), 3);
}

#[tokio::test]
async fn a_free_dimension_is_bound_by_each_request() {
    let model = open(&perceptron(Name("batch")).file()).unwrap();
    let shape = &model.identity().tensors.as_ref().unwrap().inputs[0].shape;
    assert_eq!(*shape, [Dimension::Free("batch".to_owned()), Dimension::Fixed(37)]);
    // More shapes than are kept, in turn.
    for rows in [1, 2, 33, 5, 4, 3, 1, 33, 7, 2] {
        check(&run(&model, &[x(rows)]).await.unwrap(), rows);
    }
}

#[tokio::test]
async fn integers_are_multiplied_exactly() {
    let weights: [i8; 6] = [-128, 127, 3, -4, 5, -6];
    let graph = Graph::new()
        .input("a", protobuf::U8, &[Size(2), Size(3)])
        .holds(&protobuf::tensor("w", protobuf::I8, &[3, 2], &weights.map(i8::cast_unsigned)))
        .node("MatMulInteger", &["a", "w"], &["y"])
        .output("y", protobuf::I32, &[Size(2), Size(2)]);
    let model = open(&graph.file()).unwrap();
    let data = vec![255, 0, 7, 1, 200, 99];
    let input = NamedTensor { name: "a".to_owned(), element: Element::U8, shape: vec![2, 3], data: data.clone() };
    let answer = run(&model, &[input]).await.unwrap();
    let cell = |row: usize, column: usize| {
        (0..3).map(|k| i32::from(data[row * 3 + k]) * i32::from(weights[k * 2 + column])).sum::<i32>()
    };
    let wanted: Vec<u8> = [(0, 0), (0, 1), (1, 0), (1, 1)]
        .into_iter()
        .flat_map(|(row, column)| cell(row, column).to_le_bytes())
        .collect();
    assert_eq!((answer.outputs[0].element, &answer.outputs[0].data), (Element::I32, &wanted));
}

#[tokio::test]
async fn every_element_type_comes_back_as_it_went() {
    let types = [
        (protobuf::F32, Element::F32),
        (protobuf::F64, Element::F64),
        (protobuf::I8, Element::I8),
        (protobuf::I16, Element::I16),
        (protobuf::I32, Element::I32),
        (protobuf::I64, Element::I64),
        (protobuf::U8, Element::U8),
        (protobuf::U16, Element::U16),
        (protobuf::U32, Element::U32),
        (protobuf::U64, Element::U64),
        (protobuf::BOOL, Element::Bool),
    ];
    for (number, element) in types {
        let graph = Graph::new()
            .input("x", number, &[Size(2), Name("n")])
            .node_with("Transpose", &["x"], &["y"], &[])
            .output("y", number, &[Name("n"), Size(2)]);
        let model = open(&graph.file()).unwrap();
        let width = element.width();
        let data: Vec<u8> =
            (0..6 * width).map(|at| if element == Element::Bool { at as u8 % 2 } else { at as u8 }).collect();
        let input = NamedTensor { name: "x".to_owned(), element, shape: vec![2, 3], data: data.clone() };
        let output = run(&model, &[input]).await.unwrap().outputs.remove(0);
        let turned: Vec<u8> =
            [0, 3, 1, 4, 2, 5].iter().flat_map(|at| data[at * width..(at + 1) * width].to_vec()).collect();
        assert_eq!((output.element, output.shape, output.data), (element, vec![3, 2], turned));
    }
}

#[tokio::test]
async fn every_unfit_input_is_refused_by_its_name() {
    let graph = Graph::new()
        .input("x", protobuf::F32, &[Name("n"), Size(2)])
        .input("mask", protobuf::BOOL, &[Name("n")])
        .node("Not", &["mask"], &["other"])
        .node("Relu", &["x"], &["y"])
        .output("y", protobuf::F32, &[Name("n"), Size(2)])
        .output("other", protobuf::BOOL, &[Name("n")]);
    let (_folder, other) = process(&graph.file()).await;
    let (here, there) = (open(&graph.file()).unwrap(), other.unwrap());
    let x = |shape: &[usize]| NamedTensor::of_f32("x", shape, &vec![1.0; shape.iter().product()]);
    let mask = |data: &[u8]| NamedTensor {
        name: "mask".to_owned(),
        element: Element::Bool,
        shape: vec![data.len()],
        data: data.to_vec(),
    };
    let named = |name: &str| NamedTensor { name: name.to_owned(), ..x(&[1, 2]) };
    let huge = NamedTensor { shape: vec![1 << 40, 1 << 40, 1 << 40], ..x(&[1, 2]) };
    let mut inputs: Vec<(&str, &str, Vec<NamedTensor>)> = vec![
        ("mask", "is missing", vec![x(&[1, 2])]),
        ("x", "is missing", vec![mask(&[1])]),
        ("z", "is no input", vec![x(&[1, 2]), named("z")]),
        ("x", "is given twice", vec![x(&[1, 2]), mask(&[1]), x(&[1, 2])]),
        ("x", "is of i64", vec![NamedTensor::of_i64("x", &[1, 2], &[1, 2]), mask(&[1])]),
        ("x", "has 1 dimensions", vec![x(&[2]), mask(&[1])]),
        ("x", "has 3 in dimension 1", vec![x(&[1, 3]), mask(&[1])]),
        ("mask", "has 2 in dimension 0, and 3 is needed", vec![x(&[3, 2]), mask(&[1, 1])]),
        ("x", "has a dimension of 0", vec![x(&[0, 2]), mask(&[1])]),
        ("x", "has 7 bytes, and its shape says 8", vec![NamedTensor { data: vec![0; 7], ..x(&[1, 2]) }, mask(&[1])]),
        ("x", "has at most 16777216 bytes", vec![huge, mask(&[1])]),
        ("x", "has at most 16777216 bytes", vec![x(&[4 << 20, 2]), mask(&[1])]),
        ("x", "has at most 8 dimensions", vec![x(&[1; 9]), mask(&[1])]),
        ("mask", "neither 0 nor 1", vec![x(&[1, 2]), mask(&[2])]),
        ("inputs[1]", "has a name of at most 256 bytes", vec![x(&[1, 2]), named(&"z".repeat(257))]),
        ("inputs", "are at most 64", vec![x(&[1, 2]); 65]),
        ("x", "is missing", Vec::new()),
    ];
    let many: Vec<NamedTensor> =
        (0..3).map(|index| NamedTensor { name: index.to_string(), ..x(&[1 << 20, 2]) }).collect();
    inputs.push(("inputs", "have at most 16777216 bytes together", many));
    for model in [&here as &dyn Backend, &there] {
        for (name, reason, inputs) in &inputs {
            match run(model, inputs).await {
                Err(InferenceError::Parameter { parameter, reason: found }) => {
                    assert_eq!(parameter, *name, "{found}");
                    assert!(found.contains(reason), "{found} and not {reason}");
                }
                other => panic!("{name} {reason}: {other:?}"),
            }
        }
        // Any order will do.
        let answer = run(model, &[mask(&[1, 0]), x(&[2, 2])]).await.unwrap();
        assert_eq!(answer.outputs[1].data, [0, 1]);
    }
}

#[tokio::test]
async fn what_a_model_does_not_do_is_unsupported() {
    struct Silent(ModelIdentity);
    #[async_trait]
    impl Backend for Silent {
        fn identity(&self) -> &ModelIdentity {
            &self.0
        }
        async fn chat(&self, _: ChatRequest) -> Result<Generation, InferenceError> {
            unreachable!()
        }
        async fn complete(&self, _: CompletionRequest) -> Result<Generation, InferenceError> {
            unreachable!()
        }
        async fn embed(&self, _: EmbeddingRequest) -> Result<Embedding, InferenceError> {
            unreachable!()
        }
    }
    let (_folder, other) = process(&perceptron(Size(1)).file()).await;
    let (here, there) = (open(&perceptron(Size(1)).file()).unwrap(), other.unwrap());
    let silent = Silent(ModelIdentity { tensors: None, ..here.identity().clone() });
    let unsupported = |what| InferenceError::Unsupported { model: "model".to_owned(), what };
    assert_eq!(run(&silent, &[x(1)]).await, Err(unsupported("run tensors")));
    for model in [&here as &dyn Backend, &there] {
        let refusal = model.chat(chat("Hello", tacit_inference::Sampling::default())).await.map(drop);
        assert_eq!(refusal, Err(unsupported("answer chats")));
        let refusal = model.embed(EmbeddingRequest { inputs: Vec::new(), dimensions: None }).await;
        assert_eq!(refusal, Err(unsupported("make embeddings")));
    }
}

/// Sums, exponentials, sigmoids, normalisation and a convolution, over rows whose beginnings lie at uneven places in memory.
fn varied() -> Graph {
    let rows = 13;
    Graph::new()
        .input("x", protobuf::F32, &[Size(1), Size(rows), Size(37)])
        .holds(&protobuf::floats("kernel", &[5, rows, 3], &numbers(5, 5 * 13 * 3)))
        .holds(&protobuf::floats("scale", &[37], &numbers(6, 37)))
        .node_with("Softmax", &["x"], &["soft"], &[integer("axis", -1)])
        .node_with("ReduceSum", &["x"], &["sum"], &[integer("keepdims", 1)])
        .node("Sigmoid", &["x"], &["sigmoid"])
        .node("Tanh", &["x"], &["tanh"])
        .node("Exp", &["x"], &["exp"])
        .node("Erf", &["x"], &["erf"])
        .node("Sin", &["x"], &["sin"])
        .node("Pow", &["exp", "x"], &["pow"])
        .node_with("LayerNormalization", &["x", "scale"], &["normal"], &[integer("axis", -1)])
        .node("Conv", &["sigmoid", "kernel"], &["convolved"])
        .node("Sum", &["soft", "tanh", "erf", "sin", "pow", "normal", "sum"], &["all"])
        .output("all", protobuf::F32, &[Size(1), Size(rows), Size(37)])
        .output("convolved", protobuf::F32, &[Size(1), Size(5), Size(35)])
        .output("soft", protobuf::F32, &[Size(1), Size(rows), Size(37)])
}

fn digest(answer: &TensorAnswer) -> String {
    let data: Vec<u8> = answer.outputs.iter().flat_map(|output| output.data.clone()).collect();
    sha256(&data).to_string()
}

/// Pinned: another digest on another machine says that its results do not repeat there.
const VARIED: &str = "0x5314813fec2b2751391db5ef4be971482fd4fe4c0369591282791d3123aeeced";

#[tokio::test]
async fn the_same_bytes_come_from_every_run_load_and_process() {
    let file = varied().file();
    let input = NamedTensor::of_f32("x", &[1, 13, 37], &numbers(7, 13 * 37));
    let model = open(&file).unwrap();
    let first = run(&model, std::slice::from_ref(&input)).await.unwrap();
    let mut kept = Vec::new();
    for round in 0..50_usize {
        // Other places in memory each time.
        kept.push(vec![0_u8; 16 * (round % 7) + 8 * round + 1]);
        assert_eq!(run(&model, std::slice::from_ref(&input)).await.unwrap(), first, "run {round}");
    }
    for _ in 0..5 {
        let again = open(&file).unwrap();
        assert_eq!(run(&again, std::slice::from_ref(&input)).await.unwrap(), first);
        assert_eq!(again.identity().tensors, model.identity().tensors);
    }
    for _ in 0..3 {
        let (_folder, other) = process(&file).await;
        let other = other.unwrap();
        assert_eq!(run(&other, std::slice::from_ref(&input)).await.unwrap(), first);
        assert_eq!(other.identity().tensors, model.identity().tensors);
    }
    assert_eq!(digest(&first), VARIED);
}

#[tokio::test]
async fn constant_shape_is_refused_rather_than_ignored() {
    let (folder, model) = process(&perceptron(Size(1)).file()).await;
    drop(model);
    let settings = EngineSettings { constant_shape: true, ..EngineSettings::default() };
    let refused = ModelProcess::start(launch(folder.path(), "model", &settings)).await.map(drop);
    let reason = "constant_shape is not possible: it runs tensors".to_owned();
    assert_eq!(refused, Err(InferenceError::Engine(reason)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_get_their_own_answers_and_too_many_are_refused() {
    let (_folder, model) = process(&perceptron(Name("batch")).file()).await;
    let model = Arc::new(model.unwrap());
    let ask = |rows: usize| {
        let model = Arc::clone(&model);
        tokio::spawn(async move { (rows, run(&*model, &[x(rows)]).await) })
    };
    for task in (1..60).map(|index| ask(index % 5 + 1)).collect::<Vec<_>>() {
        let (rows, answer) = task.await.unwrap();
        check(&answer.unwrap(), rows);
    }
    // In this process, so that none waits for a pipe.
    let model = Arc::new(open(&perceptron(Name("batch")).file()).unwrap());
    let ask = || {
        let model = Arc::clone(&model);
        tokio::spawn(async move { run(&*model, &[x(2000)]).await })
    };
    let mut busy = 0;
    for task in std::iter::repeat_with(ask).take(300).collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(answer) => assert_eq!(answer.outputs[0].shape[0], 2000),
            Err(InferenceError::Busy { waiting }) => {
                assert_eq!(waiting, 64);
                busy += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(busy > 0);
}

/// What Magika sees of a file: 1024 bytes from its beginning and from its end, filled up with a number that is no byte.
fn features(content: &[u8]) -> Vec<u8> {
    let content = content.trim_ascii();
    let numbers = |bytes: &[u8]| bytes.iter().map(|byte| i32::from(*byte)).collect::<Vec<i32>>();
    let begin = numbers(&content[..content.len().min(1024)]);
    let end = numbers(&content[content.len().saturating_sub(1024)..]);
    let padding = vec![256; 1024 - begin.len()];
    [begin, padding.clone(), padding, end].concat().iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[tokio::test]
async fn a_published_model_knows_the_kinds_of_files() {
    let Some(path) = fetched("magika-standard-v3.3.onnx") else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::at(folder.path());
    let added = NewModel {
        source: Source::Path(path),
        sha256: None,
        name: Some("magika".to_owned()),
        licence: Some("Apache-2.0".to_owned()),
    };
    store.add(added).await.unwrap();
    let model = ModelProcess::start(launch(folder.path(), "magika", &EngineSettings::default())).await.unwrap();
    println!("{:?}", model.identity().tensors);
    // Numbers of the kinds in Magika's list.
    let files: [(&str, usize, &[u8]); 4] = [
        ("rust", 156, include_bytes!("models.rs")),
        ("markdown", 100, include_bytes!("../../README.md")),
        ("json", 87, br#"{"name": "a", "values": [1, 2.5, null, true], "inner": {"b": "c", "d": []}, "last": "x"}"#),
        ("python", 143, b"import os\nfrom sys import argv\n\n\ndef main(name):\n    for part in os.listdir(name):\n        print(part)\n\n\nif __name__ == '__main__':\n    main(argv[1])\n"),
    ];
    let input = |rows: usize, data: Vec<u8>| NamedTensor {
        name: "bytes".to_owned(),
        element: Element::I32,
        shape: vec![rows, 2048],
        data,
    };
    let started = std::time::Instant::now();
    let mut singly = Vec::new();
    for (kind, number, content) in files {
        let answer = run(&model, &[input(1, features(content))]).await.unwrap();
        let scores = answer.outputs[0].to_f32().unwrap();
        assert_eq!(scores.len(), 214);
        let best = scores.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1)).unwrap().0;
        assert_eq!(best, number, "{kind}");
        singly.extend_from_slice(&answer.outputs[0].data);
    }
    println!("four files took {:?}", started.elapsed());
    // Together they are what they are alone, nearly: a product of more rows goes through another kernel.
    let together = files.iter().flat_map(|(_, _, content)| features(content)).collect();
    let together = run(&model, &[input(4, together)]).await.unwrap();
    let singly = NamedTensor { data: singly, ..together.outputs[0].clone() };
    for (one, other) in together.outputs[0].to_f32().unwrap().iter().zip(singly.to_f32().unwrap()) {
        assert!((one - other).abs() < 1e-5, "{one} and {other}");
    }
}

async fn add(store: &ModelStore, path: &Path) -> Result<ModelManifest, StoreError> {
    store.add(NewModel { source: Source::Path(path.to_owned()), sha256: None, name: None, licence: None }).await
}

#[tokio::test]
async fn a_store_knows_an_onnx_file_by_its_content_and_checks_it_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::at(&folder.path().join("store"));
    let path = folder.path().join("Digits.onnx");
    std::fs::write(&path, perceptron(Size(2)).file()).unwrap();
    let manifest = add(&store, &path).await.unwrap();
    assert_eq!((manifest.name.as_str(), manifest.licence.as_str()), ("digits", "MIT"));
    assert_eq!((manifest.files[0].role, manifest.embedding, manifest.template), (FileRole::Onnx, None, None));
    assert!(store.list().unwrap().iter().any(|listed| listed.digest().unwrap() == manifest.digest().unwrap()));
    let model = OnnxModel::open(&store, "digits", 1).unwrap();
    assert_eq!(model.identity().digest, manifest.digest().unwrap());
    check(&run(&model, &[x(2)]).await.unwrap(), 2);
    // Neither engine takes the other's files.
    match LlamaCpp::open(&store, "digits", 1, &EngineSettings::default()) {
        Err(InferenceError::Engine(reason)) => assert!(reason.contains("no weights"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(store.add_adapter("digits", "more", &path, None, None), Err(StoreError::Gguf(_))));

    // Other files are refused, and nothing of them is kept.
    for (name, bytes) in [("cut.onnx", perceptron(Size(2)).file()[..500].to_vec()), ("graph.onnx", vec![8, 8])] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(add(&store, &path).await, Err(StoreError::Onnx(_))), "{name}");
    }
    let path = folder.path().join("text.onnx");
    std::fs::write(&path, "no model").unwrap();
    assert!(matches!(add(&store, &path).await, Err(StoreError::Gguf(_))));
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(folder.path().join("store/files")).unwrap().count(), 1);

    // A file that is changed is not even looked at: what is said of it is its digest.
    let file = folder.path().join("store/files").join(&manifest.files[0].sha256.to_string()[2..]);
    let size = usize::try_from(manifest.files[0].size).unwrap();
    std::fs::write(&file, vec![0xff; size]).unwrap();
    assert!(matches!(store.open("digits"), Err(StoreError::Digest { .. })));
    std::fs::write(&file, vec![8; size + 1]).unwrap();
    assert!(matches!(store.open("digits"), Err(StoreError::Size { .. })));
}

/// Files that are no sound models, by what is wrong with them, and a part of what is said of it.
fn damaged() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let whole = perceptron(Size(2)).file();
    let simple = || Graph::new().input("x", protobuf::F32, &[Size(2)]);
    let out = |graph: Graph| graph.output("y", protobuf::F32, &[Size(2)]).file();
    let mut nested = simple().node("Relu", &["x"], &["y"]);
    for _ in 0..12 {
        let branch = protobuf::subgraph("then_branch", &nested);
        nested = simple().node_with("If", &["x"], &["y"], &[branch]);
    }
    let mut deep = protobuf::text(2, "deep");
    for _ in 0..60 {
        deep = protobuf::bytes(1, &protobuf::bytes(5, &protobuf::bytes(6, &deep)));
    }
    let relu = || simple().node("Relu", &["x"], &["y"]);
    let external = [protobuf::tensor("w", protobuf::F32, &[2], &[]), protobuf::number(14, 1)].concat();
    let location = [protobuf::text(1, "location"), protobuf::text(2, "/etc/passwd")].concat();
    let external = [external, protobuf::bytes(13, &location)].concat();
    vec![
        ("truncated", "ends within", whole[..whole.len() / 2].to_vec()),
        ("graph", "Protobuf", [&[8, 8][..], &protobuf::bytes(7, &[0xff; 40]), &protobuf::bytes(8, &[16, 15])].concat()),
        ("operator", "operator \"Explode\" is not known", out(simple().node("Explode", &["x"], &["y"]))),
        ("random", "draws random numbers", out(simple().node("RandomNormalLike", &["x"], &["y"]))),
        (
            "cycle",
            "which nothing before it makes",
            out(simple().node("Add", &["x", "z"], &["y"]).node("Relu", &["y"], &["z"])),
        ),
        ("twice", "is made twice", out(relu().node("Neg", &["x"], &["y"]))),
        ("nothing", "is made by no node", out(simple().node("Relu", &["x"], &["z"]))),
        ("length", "another length", out(relu().holds(&protobuf::tensor("w", protobuf::F32, &[3], &[0; 8])))),
        (
            "huge-tensor",
            "another length",
            out(relu().holds(&protobuf::tensor("w", protobuf::F32, &[1 << 40], &[0; 8]))),
        ),
        (
            "overflow",
            "a shape that no tensor has",
            out(relu().holds(&protobuf::tensor("w", protobuf::F32, &[1 << 40, 1 << 40], &[0; 8]))),
        ),
        (
            "negative",
            "a shape that no tensor has",
            out(relu().holds(&protobuf::tensor("w", protobuf::F32, &[u64::MAX], &[0; 8]))),
        ),
        ("external", "in another file", out(relu().holds(&external))),
        ("type", "of a type that is not known", out(relu().holds(&protobuf::tensor("w", 99, &[2], &[0; 8])))),
        (
            "huge-input",
            "is larger than any",
            out(Graph::new().input("x", protobuf::F32, &[Size(1 << 40)]).node("Relu", &["x"], &["y"])),
        ),
        (
            "empty-input",
            "a dimension of 0",
            out(Graph::new().input("x", protobuf::F32, &[Size(0)]).node("Relu", &["x"], &["y"])),
        ),
        (
            "half",
            "a type that is not supported",
            out(Graph::new().input("x", 10, &[Size(2)]).node("Relu", &["x"], &["y"])),
        ),
        ("nested", "deeper than", out(nested)),
        ("deep", "", [&[8, 8][..], &protobuf::bytes(7, &deep), &protobuf::bytes(8, &[16, 15])].concat()),
        (
            "shapes",
            "",
            out(relu().holds(&protobuf::floats("w", &[3], &[1.0; 3])).node("Add", &["y", "w"], &["z"]).output(
                "z",
                protobuf::F32,
                &[Size(2)],
            )),
        ),
        // 2^40 values, which only tract's own analysis finds.
        (
            "expanded",
            "",
            out(simple()
                .holds(&protobuf::tensor("shape", protobuf::I64, &[1], &(1_u64 << 40).to_le_bytes()))
                .node("ConstantOfShape", &["shape"], &["large"])
                .node("ReduceMax", &["large"], &["most"])
                .node("Add", &["x", "most"], &["y"])),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_behind_right_digests_end_no_more_than_their_process() {
    for (name, said, file) in damaged() {
        let (_folder, started) = process(&file).await;
        match started {
            Err(InferenceError::Engine(reason)) => {
                println!("{name}: {reason}");
                assert!(reason.contains(said), "{name}: {reason}");
            }
            // Shapes are bound by a request: what does not fit together is found then.
            Ok(model) if said.is_empty() => match run(&model, &[NamedTensor::of_f32("x", &[2], &[1.0, 2.0])]).await {
                Err(InferenceError::Engine(reason)) => println!("{name}, once it is asked: {reason}"),
                other => panic!("{name}: {other:?}"),
            },
            Ok(_) => panic!("{name} was loaded"),
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_needs_more_memory_than_there_is_ends_the_process_alone() {
    // A product of every row with every row: small inputs, and a tensor in the middle that is their square.
    let graph = Graph::new()
        .input("x", protobuf::F32, &[Name("n"), Size(1)])
        .node("Transpose", &["x"], &["t"])
        .node("MatMul", &["x", "t"], &["large"])
        .node_with("ReduceMax", &["large"], &["y"], &[integer("keepdims", 0)])
        .output("y", protobuf::F32, &[]);
    let (_folder, model) = process(&graph.file()).await;
    let model = model.unwrap();
    let size = |rows: usize| NamedTensor::of_f32("x", &[rows, 1], &vec![2.0; rows]);
    assert_eq!(run(&model, &[size(100)]).await.unwrap().outputs[0].to_f32(), Some(vec![4.0]));
    for large in [1 << 17, 1 << 20] {
        match run(&model, &[size(large)]).await {
            Err(InferenceError::Engine(reason)) => println!("{large}: {reason}"),
            other => panic!("{large}: {other:?}"),
        }
        let started = std::time::Instant::now();
        loop {
            assert!(started.elapsed() < Duration::from_secs(30), "it was not started again");
            match run(&model, &[size(10)]).await {
                Ok(_) => break,
                Err(InferenceError::Engine(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn errors_of_files_have_texts() {
    let error = OnnxError::Graph { what: "node", name: "a".to_owned(), reason: "is odd".to_owned() };
    assert_eq!(error.to_string(), "node \"a\" is odd");
}
