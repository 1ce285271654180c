//! What a policy demands of GPUs.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p384::ecdsa::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tacit_types::ChipId;

use super::{DriverVersion, MAX_GPUS, VbiosVersion};
use crate::evidence::from_json;
use crate::{AttestError, PolicyError, Preset};

/// Generations of GPUs that have a confidential mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuArchitecture {
    /// GH100: H100, H200.
    Hopper,
    /// GB100 and its kin: B200, RTX PRO 6000.
    Blackwell,
}

impl GpuArchitecture {
    /// The architecture of a chip by its name, as `GH100`.
    pub(crate) fn of_chip(chip: &str) -> Option<Self> {
        match chip.get(..2) {
            Some("GH") => Some(Self::Hopper),
            Some("GB") => Some(Self::Blackwell),
            _ => None,
        }
    }
}

impl fmt::Display for GpuArchitecture {
    /// As NVIDIA's evidence writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hopper => "HOPPER",
            Self::Blackwell => "BLACKWELL",
        })
    }
}

/// What a policy demands of GPUs, its section `[gpu]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuPolicy {
    /// True if a machine without GPUs is refused.
    #[serde(default)]
    pub required: bool,
    /// Exactly so many GPUs; 0 for any number.
    #[serde(default)]
    pub count: u8,
    /// Architectures that are accepted.
    pub architectures: Vec<GpuArchitecture>,
    /// What may vouch for the firmware and the driver.
    pub firmware: GpuFirmware,
    /// The oldest driver accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_driver: Option<DriverVersion>,
    /// The oldest VBIOS accepted, by architecture.
    #[serde(default)]
    pub minimum_vbios: BTreeMap<GpuArchitecture, VbiosVersion>,
    /// GPUs that are refused, by their id.
    #[serde(default)]
    pub denied: Vec<ChipId>,
    /// Keys of attestation services whose tokens are accepted.
    #[serde(default)]
    pub token_keys: Vec<TokenKey>,
}

/// What may vouch for what the GPUs measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuFirmware {
    /// Nothing need: the verdict says that the GPUs are genuine and nothing about what runs on them. Written `"any"`.
    Any,
    /// One of these must.
    Vouched(Vec<Voucher>),
}

/// Who vouches for what a GPU measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Voucher {
    /// NVIDIA's signed reference manifests of driver and VBIOS, compared here.
    Manifest,
    /// A token of an attestation service that compared them, under a pinned key.
    Token,
}

/// A pinned public key of an attestation service (P-384, for ES384).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKey {
    /// The issuer that this key signs for (`iss`).
    pub issuer: String,
    /// The key's id (`kid`).
    pub kid: String,
    /// First coordinate, base64url.
    pub x: String,
    /// Second coordinate, base64url.
    pub y: String,
}

impl GpuPolicy {
    /// What a preset demands once somebody asks for GPUs: `dev` takes genuine ones as they are, `standard` accepts manifests or
    /// tokens (for which the caller pins keys), `high` manifests alone.
    pub fn preset(preset: Preset) -> Self {
        Self {
            required: false,
            count: 0,
            architectures: vec![GpuArchitecture::Hopper, GpuArchitecture::Blackwell],
            firmware: match preset {
                Preset::Dev => GpuFirmware::Any,
                Preset::Standard | Preset::High => GpuFirmware::Vouched(vec![Voucher::Manifest]),
            },
            minimum_driver: None,
            minimum_vbios: BTreeMap::new(),
            denied: vec![],
            token_keys: vec![],
        }
    }

    /// The same demands, and tokens under these keys accepted besides.
    pub fn with_tokens(mut self, keys: Vec<TokenKey>) -> Self {
        self.token_keys.extend(keys);
        if let GpuFirmware::Vouched(vouchers) = &mut self.firmware
            && !vouchers.contains(&Voucher::Token)
        {
            vouchers.push(Voucher::Token);
        }
        self
    }

    pub(crate) fn accepts(&self, voucher: Voucher) -> bool {
        matches!(&self.firmware, GpuFirmware::Vouched(vouchers) if vouchers.contains(&voucher))
    }

    pub(crate) fn validate(&self) -> Result<(), PolicyError> {
        let refuse = |reason: &str| Err(PolicyError::Malformed(format!("gpu: {reason}")));
        if usize::from(self.count) > MAX_GPUS {
            return refuse("more GPUs than are read");
        }
        if self.architectures.is_empty() {
            return refuse("no architecture is accepted");
        }
        if matches!(&self.firmware, GpuFirmware::Vouched(vouchers) if vouchers.is_empty()) {
            return refuse("nothing may vouch for the firmware");
        }
        if self.accepts(Voucher::Token) == self.token_keys.is_empty() {
            return refuse("tokens are accepted if and only if keys for them are pinned");
        }
        for (index, key) in self.token_keys.iter().enumerate() {
            if key.issuer.is_empty() || key.kid.is_empty() || key.verifying_key().is_none() {
                return refuse("a token key that is none");
            }
            if self.token_keys[..index].iter().any(|other| other.kid == key.kid) {
                return refuse("two token keys of one id");
            }
        }
        Ok(())
    }
}

impl TokenKey {
    /// Reads the P-384 keys of a key set (RFC 7517), to be pinned for `issuer`. Whoever calls this has decided to trust the set.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] or [`AttestError::Malformed`] if this is no key set, or one with a key that is not for ES384.
    pub fn from_jwks(issuer: &str, bytes: &[u8]) -> Result<Vec<Self>, AttestError> {
        const WHAT: &str = "key set";
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Key>,
        }
        #[derive(Deserialize)]
        struct Key {
            kty: String,
            crv: String,
            kid: String,
            x: String,
            y: String,
            alg: Option<String>,
        }
        let set: Set = from_json(WHAT, bytes)?;
        if set.keys.len() > 16 {
            return Err(AttestError::Malformed { what: WHAT, detail: "more than 16 keys".into() });
        }
        set.keys
            .into_iter()
            .map(|key| {
                let fits = key.kty == "EC" && key.crv == "P-384" && key.alg.as_deref().is_none_or(|alg| alg == "ES384");
                let pinned = Self { issuer: issuer.to_owned(), kid: key.kid, x: key.x, y: key.y };
                if fits && pinned.verifying_key().is_some() {
                    Ok(pinned)
                } else {
                    Err(AttestError::Malformed { what: WHAT, detail: "a key that is not for ES384".into() })
                }
            })
            .collect()
    }

    pub(crate) fn verifying_key(&self) -> Option<VerifyingKey> {
        let mut point = vec![4];
        for coordinate in [&self.x, &self.y] {
            let bytes = URL_SAFE_NO_PAD.decode(coordinate).ok().filter(|bytes| bytes.len() == 48)?;
            point.extend(bytes);
        }
        VerifyingKey::from_sec1_bytes(&point).ok()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum FirmwareTwin {
    Any(Any),
    Vouched(Vec<Voucher>),
}

#[derive(Serialize, Deserialize)]
enum Any {
    #[serde(rename = "any")]
    Any,
}

impl Serialize for GpuFirmware {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => Any::Any.serialize(serializer),
            Self::Vouched(vouchers) => vouchers.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for GpuFirmware {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match FirmwareTwin::deserialize(deserializer)? {
            FirmwareTwin::Any(Any::Any) => Self::Any,
            FirmwareTwin::Vouched(vouchers) => Self::Vouched(vouchers),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn demands_round_trip_and_do_not_change_policies_without_them() {
        let plain = Policy::preset(Preset::Standard);
        assert!(!plain.to_toml().unwrap().contains("gpu"));
        for preset in [Preset::Dev, Preset::Standard, Preset::High] {
            let mut gpu = GpuPolicy::preset(preset);
            gpu.minimum_driver = Some("535.86.09".parse().unwrap());
            gpu.minimum_vbios.insert(GpuArchitecture::Hopper, "96.00.5E.00.01".parse().unwrap());
            let policy = plain.clone().with_gpu(gpu);
            let toml = policy.to_toml().unwrap();
            assert_eq!(Policy::from_toml(&toml).as_ref(), Ok(&policy), "{toml}");
            assert_eq!(Policy::from_json(&policy.canonical().unwrap()).as_ref(), Ok(&policy));
            assert_ne!(policy.hash(), plain.hash());
        }
    }

    #[test]
    fn demands_that_make_no_sense_are_refused() {
        let check = |change: fn(&mut GpuPolicy)| {
            let mut gpu = GpuPolicy::preset(Preset::Standard);
            assert_eq!(gpu.validate(), Ok(()));
            change(&mut gpu);
            assert!(matches!(gpu.validate(), Err(PolicyError::Malformed(_))), "{gpu:?}");
        };
        let key = || TokenKey { issuer: "i".into(), kid: "k".into(), x: "AAAA".into(), y: "AAAA".into() };
        assert!(key().verifying_key().is_none());
        check(|gpu| gpu.count = 17);
        check(|gpu| gpu.architectures.clear());
        check(|gpu| gpu.firmware = GpuFirmware::Vouched(vec![]));
        check(|gpu| gpu.firmware = GpuFirmware::Vouched(vec![Voucher::Token]));
        check(|gpu| {
            *gpu = gpu.clone().with_tokens(vec![TokenKey {
                issuer: "i".into(),
                kid: "k".into(),
                x: "A".repeat(64),
                y: "A".repeat(64),
            }]);
        });
        assert!(TokenKey::from_jwks("i", br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"","y":""}]}"#).is_err());
    }
}
