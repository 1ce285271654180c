//! Diversity: how much of a set of machines one vendor, operator, root or chip may be.
//!
//! A property of a set, so no single piece of evidence has it: gatekeepers ask when a machine would join, and whoever accepts
//! k of n machines asks about those k.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tacit_types::Address;

use crate::demands::is_default;
use crate::{AttestError, Platform, VerifiedEvidence};

/// The limits; what is not named is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Diversity {
    /// Most machines with chips of one vendor.
    #[serde(skip_serializing_if = "is_default")]
    pub per_vendor: Option<u16>,
    /// Most machines of one operator.
    #[serde(skip_serializing_if = "is_default")]
    pub per_operator: Option<u16>,
    /// Most machines under one root of trust.
    #[serde(skip_serializing_if = "is_default")]
    pub per_root: Option<u16>,
    /// Most machines on one chip. Machines whose evidence names no chip count by their provider.
    #[serde(skip_serializing_if = "is_default")]
    pub per_chip: Option<u16>,
}

/// One machine of a set.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its evidence.
    pub evidence: &'a VerifiedEvidence,
    /// Who runs it.
    pub operator: Address,
}

impl Diversity {
    /// Refuses a set in which one vendor, operator, root or chip has more machines than its limit.
    ///
    /// # Errors
    /// [`AttestError::NotDiverse`], naming the first limit that is passed.
    pub fn check(&self, members: &[Member<'_>]) -> Result<(), AttestError> {
        let count = |what: &'static str, limit: Option<u16>, name: &dyn Fn(&Member<'_>) -> String| {
            let Some(limit) = limit else { return Ok(()) };
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for member in members {
                *counts.entry(name(member)).or_default() += 1;
            }
            match counts.into_iter().find(|(_, count)| *count > usize::from(limit)) {
                Some((name, found)) => Err(AttestError::NotDiverse { what, name, found, limit }),
                None => Ok(()),
            }
        };
        count("vendor", self.per_vendor, &|member| vendor(member.evidence.platform()).to_owned())?;
        count("operator", self.per_operator, &|member| member.operator.to_string())?;
        count("root", self.per_root, &|member| member.evidence.root().to_string())?;
        count("chip", self.per_chip, &|member| member.evidence.chip().to_string())
    }
}

fn vendor(platform: Platform) -> &'static str {
    match platform {
        Platform::Sgx | Platform::Tdx => "Intel",
        Platform::SevSnp => "AMD",
        Platform::Nitro => "AWS",
    }
}
