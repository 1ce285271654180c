//! `/v1/embeddings`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tacit_api::openai::{EmbeddingAnswer, EmbeddingItem, EmbeddingUsage, EmbeddingVector, EncodingFormat};
use tacit_inference::Embedding;

/// The answer.
pub(crate) fn embedding_answer(
    embedding: Embedding,
    model: String,
    format: EncodingFormat,
) -> serde_json::Result<Value> {
    let vector = |vector: Vec<f32>| match format {
        EncodingFormat::Float => EmbeddingVector::Float(vector),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            EmbeddingVector::Base64(STANDARD.encode(bytes))
        }
    };
    let item = |(index, numbers)| EmbeddingItem { object: "embedding", index, embedding: vector(numbers) };
    serde_json::to_value(EmbeddingAnswer {
        object: "list",
        data: (0..).zip(embedding.vectors).map(item).collect(),
        model,
        usage: EmbeddingUsage { prompt_tokens: embedding.prompt_tokens, total_tokens: embedding.prompt_tokens },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_written_both_ways() {
        let embedding = Embedding { vectors: vec![vec![1.0, -0.5]], prompt_tokens: 3 };
        let floats = embedding_answer(embedding.clone(), "m".into(), EncodingFormat::Float).unwrap();
        assert_eq!(floats["data"][0]["embedding"], serde_json::json!([1.0, -0.5]));
        let base64 = embedding_answer(embedding, "m".into(), EncodingFormat::Base64).unwrap();
        assert_eq!(base64["data"][0]["embedding"], "AACAPwAAAL8=");
        assert_eq!(base64["usage"]["total_tokens"], 3);
    }
}
