//! What fuzzers do with hostile bytes: the parsers of this crate as plain functions that may refuse but never panic.
//!
//! `fuzz/` calls them under libFuzzer, `tacit-verify`'s tests with a seeded mutator.

use tacit_types::Digest;

use crate::{
    gguf::{self, GgufError, Metadata, Value},
    manifest::{FileRole, MODEL_VERSION, ModelFile, ModelManifest},
    onnx,
    tensors::{self, Dimension, Element, NamedTensor, TensorKind, TensorRequest},
    upstream::SseParser,
};

/// A parser, as a fuzzer calls it.
pub type Body = fn(&[u8]);

/// Each parser by name.
pub const BODIES: [(&str, Body); 5] = [
    ("gguf_header", gguf_header),
    ("model_manifest", model_manifest),
    ("onnx_header", onnx_header),
    ("server_events", server_events),
    ("tensor_request", tensor_request),
];

/// Messages that these functions accept, for a fuzzer to begin with: by the name of the function.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| Metadata::Text(text.to_owned());
    let model = [
        ("general.architecture", text("llama")),
        ("llama.block_count", Metadata::U32(1)),
        ("llama.context_length", Metadata::U32(8)),
        ("llama.embedding_length", Metadata::U32(2)),
        ("llama.attention.head_count", Metadata::U32(1)),
        ("tokenizer.ggml.tokens", Metadata::Texts(["a", "b", "c"].map(str::to_owned).to_vec())),
        ("tokenizer.ggml.token_type", Metadata::I32s(vec![1, 1, 3])),
        ("tokenizer.ggml.eos_token_id", Metadata::U32(2)),
    ];
    let adapter = [
        ("general.architecture", text("llama")),
        ("general.type", text("adapter")),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", Metadata::F32(2.0)),
    ];
    let embeddings = [("token_embd.weight".to_owned(), vec![2, 3], vec![0.5; 6])];
    let halves = [
        ("blk.0.attn_q.weight.lora_a".to_owned(), vec![2, 1], vec![1.0; 2]),
        ("blk.0.attn_q.weight.lora_b".to_owned(), vec![1, 2], vec![1.0; 2]),
    ];
    let written = |metadata: &[(&str, Metadata)], tensors: &[(String, Vec<u64>, Vec<f32>)]| {
        let mut bytes = Vec::new();
        gguf::write(&mut bytes, metadata, tensors).map(|()| bytes).unwrap_or_default()
    };
    let manifest = ModelManifest {
        version: MODEL_VERSION.to_owned(),
        name: "a".to_owned(),
        licence: "MIT".to_owned(),
        source: "a.gguf".to_owned(),
        files: vec![ModelFile { role: FileRole::Weights, sha256: Digest::ZERO, size: 1 }],
        template: None,
        converted_from: None,
        lineage: Vec::new(),
        context: 8,
        embedding: None,
        upstream: None,
    };
    let request = TensorRequest {
        inputs: vec![NamedTensor::of_f32("x", &[1, 2], &[1.0, 2.0]), NamedTensor::of_i64("n", &[1], &[3])],
    };
    vec![
        ("gguf_header", written(&model, &embeddings)),
        ("gguf_header", written(&adapter, &halves)),
        ("model_manifest", manifest.to_bytes().unwrap_or_default()),
        // Version, producer, graph, version of the operators, licence.
        ("onnx_header", b"\x08\x09\x12\x01t:\x03\x12\x01gB\x02\x10\x11r\x0e\x0a\x07license\x12\x03MIT".to_vec()),
        ("server_events", b"data: {\"choices\":[]}\n\n: comment\r\ndata: [DONE]\r\n\r\n".to_vec()),
        ("tensor_request", serde_json::to_vec(&request).unwrap_or_default()),
    ]
}

/// The header of a model file, then what is asked of models and adapters.
pub fn gguf_header(bytes: &[u8]) {
    let Ok(header) = gguf::read(bytes, bytes.len() as u64) else { return };
    for tensor in &header.tensors {
        assert!(header.data + tensor.offset + tensor.size <= bytes.len() as u64, "a tensor lies within its file");
    }
    for (key, value) in &header.metadata {
        let Value::Array { kind, length } = value else { continue };
        match gguf::texts(bytes, key) {
            Ok(texts) => assert!(*kind == 8 && texts.len() as u64 == *length, "all texts of an array"),
            Err(error) => assert!(matches!(error, GgufError::Kind(_) | GgufError::Text(_)), "it was read before"),
        }
    }
    let _ = header.check_model();
    if header.check_adapter().is_ok()
        && let Ok(combined) = gguf::combine(&[(header.clone(), bytes.to_vec()), (header, bytes.to_vec())])
    {
        let again = gguf::read(combined.as_slice(), combined.len() as u64).expect("it was written here");
        again.check_adapter().expect("several adapters are one");
    }
}

/// A model manifest.
pub fn model_manifest(bytes: &[u8]) {
    if let Ok(manifest) = ModelManifest::parse(bytes) {
        assert_eq!(manifest.to_bytes().expect("it was read"), bytes, "one manifest has one spelling");
    }
}

/// Events of a server, in pieces of two sizes.
pub fn server_events(bytes: &[u8]) {
    let [one, other] = [3, 4096].map(|size| {
        let mut parser = SseParser::default();
        bytes.chunks(size).map(|piece| parser.push(piece)).collect::<Result<Vec<_>, _>>().map(|events| events.concat())
    });
    assert_eq!(one, other, "pieces change nothing");
}

/// What stands around the graph of an ONNX file.
pub fn onnx_header(bytes: &[u8]) {
    if let Ok(header) = onnx::read(bytes, bytes.len() as u64) {
        assert!(bytes.first().is_some_and(|byte| onnx::may_begin(*byte)), "it begins as such files do");
        assert!(header.graph <= bytes.len() as u64, "the graph lies within its file");
    }
}

/// A request for tensors, against what a model takes, and against its own shapes.
pub fn tensor_request(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<TensorRequest>(bytes) else { return };
    let kind = |name: &str, element, shape: Vec<Dimension>| TensorKind { name: name.to_owned(), element, shape };
    let free = || Dimension::Free("n".to_owned());
    let fixed = [kind("x", Element::F32, vec![free(), Dimension::Fixed(2)]), kind("n", Element::I64, vec![free()])];
    let shape = |tensor: &NamedTensor| tensor.shape.iter().map(|size| Dimension::Fixed(*size)).collect();
    let own: Vec<TensorKind> =
        request.inputs.iter().map(|tensor| kind(&tensor.name, tensor.element, shape(tensor))).collect();
    for takes in [&fixed[..], &own] {
        if tensors::check(&request, takes).is_ok() {
            for tensor in &request.inputs {
                assert_eq!(tensors::length(&tensor.shape, tensor.element), Some(tensor.data.len()), "whole elements");
            }
        }
    }
    let again = serde_json::to_vec(&request).expect("it was read");
    assert_eq!(serde_json::from_slice::<TensorRequest>(&again).expect("it was written here"), request);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_what_is_near_them_panic_nowhere() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % below
        };
        for (name, seed) in seeds() {
            let body = BODIES.iter().find(|(body, _)| *body == name).unwrap().1;
            (0..=seed.len()).for_each(|end| body(&seed[..end]));
            for _ in 0..5_000 {
                let mut bytes = seed.clone();
                for _ in 0..=next(4) {
                    let at = next(bytes.len());
                    bytes[at] = u8::try_from(next(256)).unwrap();
                }
                body(&bytes);
            }
        }
        assert!(BODIES.iter().all(|(name, _)| seeds().iter().any(|(seed, _)| seed == name)));
    }

    /// Found by a long run: the file was accepted, and its first byte said that it was something else.
    #[test]
    fn a_field_that_is_longer_than_it_must_be_is_refused() {
        let seeds = seeds();
        let (_, seed) = seeds.iter().find(|(name, _)| *name == "onnx_header").unwrap();
        let padded = [&[seed[0] | 0x80, 0], &seed[1..]].concat();
        assert_eq!(onnx::read(padded.as_slice(), padded.len() as u64), Err(onnx::OnnxError::Form("a field")));
    }

    #[test]
    fn seeds_are_accepted() {
        for (name, seed) in seeds() {
            let accepted = match name {
                "onnx_header" => onnx::read(seed.as_slice(), seed.len() as u64).is_ok(),
                "tensor_request" => serde_json::from_slice::<TensorRequest>(&seed).is_ok(),
                _ => true,
            };
            assert!(accepted, "{name}");
        }
    }
}
