//! What a model's process and its parent say to each other: JSON behind its length.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    ChatRequest, CompletionRequest, Embedding, EmbeddingRequest, Event, InferenceError, ModelIdentity, TensorAnswer,
    TensorRequest,
};

/// Most bytes of one message.
const MAX_FRAME: u32 = 64 << 20;

/// From the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    Chat(u64, ChatRequest),
    Completion(u64, CompletionRequest),
    Embedding(u64, EmbeddingRequest),
    Tensors(u64, TensorRequest),
    /// Nobody waits for it any more.
    Cancel(u64),
}

/// From the model's process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The model is loaded; the first message.
    Ready(ModelIdentity),
    /// The model could not be loaded; the only message.
    Failed(InferenceError),
    /// A generation has begun.
    Accepted(u64),
    Refused(u64, InferenceError),
    Event(u64, Event),
    Embedded(u64, Embedding),
    Ran(u64, TensorAnswer),
}

pub(super) async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).ok().filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a message is too long"))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame).await
}

/// The next message; `None` at the end.
pub(super) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame).await?;
    Ok(Some(serde_json::from_slice(&frame)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_as_they_were_sent_and_long_ones_are_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Ask::Cancel(7)).await.unwrap();
        let error = InferenceError::Unsupported { model: "m".to_owned(), what: "make embeddings" };
        write(&mut bytes, &Answer::Refused(1, error.clone())).await.unwrap();
        let mut from = bytes.as_slice();
        assert!(matches!(read::<Ask>(&mut from).await.unwrap(), Some(Ask::Cancel(7))));
        match read::<Answer>(&mut from).await.unwrap() {
            Some(Answer::Refused(1, read)) => assert_eq!(read, error),
            other => panic!("{other:?}"),
        }
        assert!(read::<Answer>(&mut from).await.unwrap().is_none());
        let long = (MAX_FRAME + 1).to_le_bytes();
        assert!(read::<Ask>(&mut long.as_slice()).await.is_err());
        assert!(read::<Ask>(&mut [2, 0, 0, 0, b'{'].as_slice()).await.is_err());
    }
}
