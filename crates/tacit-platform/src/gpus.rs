//! Evidence of this machine's GPUs, by the vendor's own tool: the driver's interface is the vendor's and has no stable form.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tacit_attest::{MAX_JSON, nvidia::GpuEvidence};
use tokio::{io::AsyncReadExt as _, process::Command};

use crate::PlatformError;

/// Longest that the tool may take: several GPUs sign one after the other.
const PATIENCE: Duration = Duration::from_secs(60);
/// What errors call it.
const METHOD: &str = "the GPU evidence command";

/// A program that prints what the GPUs of this machine sign over a nonce.
///
/// It gets the nonce as its last argument (64 hexadecimal digits) and prints the list that NVIDIA's tools write
/// (`[{"arch":…,"nonce":…,"certificate":…,"evidence":…},…]`) or the form of [`GpuEvidence`]. It is trusted with nothing: what it
/// prints is signed by the GPUs over the nonce, or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuCommand {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
}

impl GpuCommand {
    /// Evidence over a nonce.
    ///
    /// # Errors
    /// [`PlatformError`]: a program that does not start, fails, takes longer than a minute, or prints something else or too much.
    pub async fn evidence(&self, nonce: &[u8; 32]) -> Result<GpuEvidence, PlatformError> {
        let failed = |source| PlatformError::File { path: self.program.clone(), source };
        let answered = |what: String| PlatformError::Answer { method: METHOD, what };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(hex::encode(nonce))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let Some(stdout) = child.stdout.take() else { return Err(answered("no output".into())) };
        let run = async {
            let mut bytes = Vec::new();
            stdout.take(MAX_JSON as u64 + 1).read_to_end(&mut bytes).await?;
            if bytes.len() <= MAX_JSON {
                return Ok((bytes, Some(child.wait().await?)));
            }
            Ok((bytes, None))
        };
        let run = tokio::time::timeout(PATIENCE, run).await;
        let (bytes, status) =
            run.map_err(|_| PlatformError::Timeout { method: METHOD, seconds: PATIENCE.as_secs() })?.map_err(failed)?;
        match status {
            None => return Err(answered(format!("more than {MAX_JSON} bytes"))),
            Some(status) if !status.success() => return Err(answered(status.to_string())),
            Some(_) => {}
        }
        let list = bytes.trim_ascii_start().starts_with(b"[");
        let evidence = if list { GpuEvidence::from_evidence_list(&bytes) } else { GpuEvidence::from_json(&bytes) };
        Ok(evidence?)
    }
}
