//! Collateral from the files that stand beside raw evidence, whatever form each has.

use tacit_attest::nvidia::GpuCollateral;
use tacit_attest::{AmdCollateral, Collateral, Evidence, IntelCollateral, NitroCollateral, Platform, Wanted};

use crate::VerifyError;

/// Most files beside one piece of evidence.
const MOST: usize = 16;

/// Puts collateral together; nothing if no file was given and some is needed.
pub(super) fn assemble(evidence: &Evidence, files: &[&[u8]]) -> Result<Option<Collateral>, VerifyError> {
    if files.len() > MOST {
        return Err(VerifyError::Unreadable(format!("more than {MOST} files of collateral")));
    }
    if evidence.platform() == Platform::Nitro && files.is_empty() {
        // The document carries its certificates.
        return Ok(Some(Collateral::Nitro(NitroCollateral::default())));
    }
    let [first, ..] = files else { return Ok(None) };
    if let [file] = files
        && file.trim_ascii_start().starts_with(b"{")
    {
        return json(file).map(Some);
    }
    match evidence.platform() {
        Platform::Sgx | Platform::Tdx => json(first).map(Some),
        Platform::SevSnp => Ok(Some(Collateral::Amd(Box::new(AmdCollateral::from_files(files)?)))),
        Platform::Nitro => Err(VerifyError::Unreadable("a Nitro document needs no collateral".to_owned())),
    }
}

/// Which collateral is missing, and how to get it: nothing is fetched here.
pub(super) fn missing(evidence: &Evidence) -> VerifyError {
    let which = match Wanted::by(evidence) {
        Ok(wanted) => wanted.to_string(),
        // The bytes do not say which chip it is; whether they are evidence at all, verification says.
        Err(_) if evidence.platform() == Platform::SevSnp => {
            "AMD's certificates of this chip (ASK, VCEK) and AMD's revocation list".to_owned()
        }
        Err(error) => format!("its collateral, and the evidence itself cannot be read ({error})"),
    };
    VerifyError::Missing(
        format!("{which}; hint: `tacit tcb collateral FILE > collateral.json` fetches it, --collateral FILE gives it")
            .into(),
    )
}

/// What vouches for GPUs: reference manifests (XML), a token, or both in our own form.
pub(super) fn assemble_gpus(files: &[&[u8]]) -> Result<GpuCollateral, VerifyError> {
    if files.len() > MOST {
        return Err(VerifyError::Unreadable(format!("more than {MOST} files of collateral")));
    }
    let (mut manifests, mut token) = (Vec::new(), None);
    for file in files {
        match file.trim_ascii_start().first() {
            Some(b'{') => return Ok(GpuCollateral::from_json(file)?),
            Some(b'[') => {
                let text = std::str::from_utf8(file).map_err(|error| VerifyError::Unreadable(error.to_string()))?;
                token = Some(text.to_owned());
            }
            _ => manifests.push(file.to_vec()),
        }
    }
    Ok(GpuCollateral::new(manifests, token))
}

/// Our own form, or the one that DCAP tools write.
fn json(file: &[u8]) -> Result<Collateral, VerifyError> {
    let own = match Collateral::from_json(file) {
        Ok(collateral) => return Ok(collateral),
        Err(error) => error,
    };
    match IntelCollateral::from_dcap_json(file) {
        Ok(collateral) => Ok(Collateral::Intel(Box::new(collateral))),
        Err(_) => Err(own.into()),
    }
}
