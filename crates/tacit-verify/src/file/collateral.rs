//! Collateral from the files that stand beside raw evidence, whatever form each has.

use tacit_attest::{AmdCollateral, Collateral, Evidence, IntelCollateral, Platform};

use crate::VerifyError;

/// Most files beside one piece of evidence.
const MOST: usize = 16;

/// Puts collateral together; nothing if no file was given and some is needed.
pub(super) fn assemble(evidence: &Evidence, files: &[&[u8]]) -> Result<Option<Collateral>, VerifyError> {
    if files.len() > MOST {
        return Err(VerifyError::Unreadable(format!("more than {MOST} files of collateral")));
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
        Platform::Nitro => Ok(None),
    }
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
