//! A GPU of our own making, with the chain, the manifests and the service that vouch for it. Whatever a test changes is signed again.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p384::ecdsa::SigningKey;
use rcgen::CustomExtension;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384};
use tacit_attest::nvidia::*;
use tacit_attest::*;
use tacit_types::UnixTime;

use crate::authority::{Issued, Wish, sign};

pub const NOW: UnixTime = UnixTime(1_780_000_000);
pub const DAY: u64 = 86_400;
pub const NONCE: [u8; 32] = [0x42; 32];
pub const DRIVER: &str = "575.32.01";
pub const VBIOS: &str = "96.00.5E.00.01";
pub const ISSUER: &str = "https://nras.attestation.nvidia.com";
pub const KID: &str = "sim-kid-1";

fn authority(name: &str) -> Wish {
    Wish::authority(name, NOW.minus(900 * DAY), NOW.plus(9000 * DAY))
}

/// Everything above a single GPU.
pub struct Maker {
    pub root: Issued,
    pub family: Issued,
    pub provisioner: Issued,
    pub manifest_root: Issued,
    pub manifest_signer: Issued,
    pub service: SigningKey,
}

impl Maker {
    fn new(chip: &str) -> Self {
        let root = Issued::root(&authority("SIMULATED Device Identity CA - NOT NVIDIA"));
        let family = root.issue(&authority(&format!("SIMULATED {chip} Identity")));
        let provisioner = family.issue(&authority(&format!("SIMULATED {chip} Provisioner")));
        let manifest_root = Issued::root(&authority("SIMULATED manifest root - NOT NVIDIA"));
        let signer = Wish::leaf("SIMULATED manifest signer", NOW.minus(100 * DAY), NOW.plus(100 * DAY));
        let manifest_signer = manifest_root.issue(&signer);
        Self {
            root,
            family,
            provisioner,
            manifest_root,
            manifest_signer,
            service: SigningKey::from_slice(&[7; 48]).unwrap(),
        }
    }

    /// A policy that knows these roots and takes GPUs as `preset` does.
    pub fn policy(&self, preset: Preset) -> Policy {
        let extra =
            |name: &str, vendor, issued: &Issued| ExtraRoot::simulated(name, vendor, issued.der.clone()).unwrap();
        Policy::preset(Preset::Dev)
            .with_root(extra("SIM-gpu", Vendor::NvidiaDevice, &self.root))
            .with_root(extra("SIM-manifests", Vendor::NvidiaRim, &self.manifest_root))
            .with_gpu(GpuPolicy::preset(preset))
    }

    /// The pinned key of the service, as a key set states it.
    pub fn jwks(&self) -> Vec<u8> {
        let point = self.service.verifying_key().to_encoded_point(false);
        let coordinate = |bytes: Option<&p384::FieldBytes>| URL_SAFE_NO_PAD.encode(bytes.unwrap());
        let key = json!({
            "kty": "EC", "crv": "P-384", "kid": KID, "alg": "ES384", "use": "sig",
            "x": coordinate(point.x()), "y": coordinate(point.y()),
        });
        serde_json::to_vec(&json!({ "keys": [key] })).unwrap()
    }

    pub fn token_policy(&self) -> Policy {
        let mut policy = self.policy(Preset::Standard);
        let keys = TokenKey::from_jwks(ISSUER, &self.jwks()).unwrap();
        policy.gpu = policy.gpu.map(|gpu| gpu.with_tokens(keys));
        policy
    }

    /// A token over `claims`.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap());
        let signed = format!("{}.{}", part(header), part(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(&self.service, signed.as_bytes())))
    }

    /// A manifest in canonical form, signed.
    pub fn manifest(&self, manifest: &ManifestText) -> Vec<u8> {
        manifest.signed(&self.manifest_signer, &[&self.manifest_signer, &self.manifest_root])
    }
}

/// The Hopper vendor that most tests share.
pub static HOPPER: LazyLock<Maker> = LazyLock::new(|| Maker::new("GH100"));
pub static BLACKWELL: LazyLock<Maker> = LazyLock::new(|| Maker::new("GB100"));

/// One GPU and what it reports.
pub struct Gpu<'v> {
    pub vendor: &'v Maker,
    pub rom: Issued,
    pub leaf: Issued,
    pub architecture: GpuArchitecture,
    pub head: Vec<u8>,
    pub nonce: [u8; 32],
    pub response: Vec<u8>,
    pub slots: Vec<[u8; 48]>,
    pub fields: Vec<(u16, Vec<u8>)>,
}

pub const FWID: [u8; 48] = [0xfd; 48];

/// `CompositeDeviceID` or `DiceTcbInfo` with the firmware's digest.
pub fn firmware_extension(architecture: GpuArchitecture) -> CustomExtension {
    let wrap = |tag: u8, content: &[u8]| [vec![tag, u8::try_from(content.len()).unwrap()], content.to_vec()].concat();
    let oid = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
    let id = wrap(0x30, &[&oid[..], &wrap(0x04, &FWID)].concat());
    match architecture {
        GpuArchitecture::Hopper => CustomExtension::from_oid_content(
            &[2, 23, 133, 5, 4, 1],
            wrap(0x30, &[wrap(2, &[1]), wrap(0x30, &[5, 0]), id].concat()),
        ),
        GpuArchitecture::Blackwell => CustomExtension::from_oid_content(
            &[2, 23, 133, 5, 4, 1, 1],
            wrap(0x30, &[wrap(0x80, b"SIM"), wrap(0xa6, &id)].concat()),
        ),
    }
}

pub fn leaf_wish(architecture: GpuArchitecture, serial: u64) -> Wish {
    let mut wish = Wish::leaf("SIM GSP FMC LF", NOW.minus(900 * DAY), NOW.plus(9000 * DAY));
    wish.extensions.push(firmware_extension(architecture));
    wish.serial = serial;
    wish
}

fn slot(index: u8) -> [u8; 48] {
    [index + 1; 48]
}

impl<'v> Gpu<'v> {
    pub fn new(vendor: &'v Maker, architecture: GpuArchitecture, serial: u64) -> Self {
        let chip = if architecture == GpuArchitecture::Hopper { "GH100" } else { "GB100" };
        let rom = vendor.provisioner.issue(&authority(&format!("{chip} SIM GSP BROM")));
        let leaf = rom.issue(&leaf_wish(architecture, serial));
        let text = |text: &str| [text.as_bytes(), &[0]].concat();
        Self {
            vendor,
            rom,
            leaf,
            architecture,
            head: vec![0x11, 0xe0, 0x01, 0xff],
            nonce: NONCE,
            response: vec![0x11, 0x60, 0, 0],
            slots: (0..64).map(slot).collect(),
            fields: vec![
                (6, vec![0x00, 0x5e, 0x00, 0x96, 0x01, 0, 0, 0]),
                (15, text("882")),
                (17, text("1010")),
                (18, text("0200")),
                (3, text(DRIVER)),
                (11, vec![0xaa]),
                (20, FWID.to_vec()),
                (21, vec![0x55]),
                (99, vec![1, 2, 3]),
            ],
        }
    }

    pub fn hopper(serial: u64) -> Gpu<'static> {
        Gpu::new(&HOPPER, GpuArchitecture::Hopper, serial)
    }

    pub fn record(&self) -> Vec<u8> {
        let block = |(index, value): (usize, &[u8; 48])| {
            [&[u8::try_from(index + 1).unwrap(), 1, 51, 0, 1, 48, 0][..], value].concat()
        };
        self.slots.iter().enumerate().flat_map(block).collect()
    }

    /// The report without its signature.
    pub fn unsigned(&self) -> Vec<u8> {
        let record = self.record();
        let length = u32::try_from(record.len()).unwrap().to_le_bytes();
        let opaque: Vec<u8> = self
            .fields
            .iter()
            .flat_map(|(kind, value)| {
                let length = u16::try_from(value.len()).unwrap();
                [&kind.to_le_bytes()[..], &length.to_le_bytes(), value].concat()
            })
            .collect();
        [
            &self.head[..],
            &self.nonce,
            &[0],
            &self.response,
            &[u8::try_from(self.slots.len()).unwrap()],
            &length[..3],
            &record,
            &[0x77; 32],
            &u16::try_from(opaque.len()).unwrap().to_le_bytes(),
            &opaque,
        ]
        .concat()
    }

    pub fn sign(&self, report: Vec<u8>) -> Vec<u8> {
        let signature = self.leaf.sign(&report);
        [report, signature].concat()
    }

    pub fn item(&self) -> GpuItem {
        self.item_with(self.sign(self.unsigned()))
    }

    pub fn item_with(&self, report: Vec<u8>) -> GpuItem {
        let chain = [&self.leaf, &self.rom, &self.vendor.provisioner, &self.vendor.family, &self.vendor.root];
        GpuItem {
            architecture: self.architecture,
            nonce: NONCE,
            certificates: pem(&chain.map(|issued| issued.der.clone())),
            report,
        }
    }

    pub fn evidence(&self) -> GpuEvidence {
        GpuEvidence::new(vec![self.item()]).unwrap()
    }
}

pub fn pem(certificates: &[Vec<u8>]) -> Vec<u8> {
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
            writeln!(pem, "{}", std::str::from_utf8(line).unwrap()).unwrap();
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem.into_bytes()
}

/// What a manifest states.
#[derive(Clone)]
pub struct ManifestText {
    pub version: String,
    pub chip: String,
    /// Index, active, values.
    pub slots: Vec<(u8, bool, Vec<[u8; 48]>)>,
}

impl ManifestText {
    /// The slots below 32 are the driver's, the others the VBIOS's.
    pub fn driver(chip: &str) -> Self {
        let slots = (0..64).map(|index| (index, index < 32, vec![[0xee; 48], slot(index)])).collect();
        Self { version: DRIVER.into(), chip: chip.into(), slots }
    }

    pub fn vbios(chip: &str) -> Self {
        let slots = (0..64).map(|index| (index, index >= 32, vec![slot(index)])).collect();
        Self { version: VBIOS.into(), chip: chip.into(), slots }
    }

    /// The canonical document up to where the signature goes, and behind it.
    pub fn canonical(&self) -> (String, String) {
        let (version, chip) = (&self.version, &self.chip);
        let mut text = format!(
            "<SoftwareIdentity xmlns=\"{SWID}\" xmlns:ns0=\"{SWID}\" xmlns:ns2=\"{SHA384}\" corpus=\"false\" name=\"{chip}\" \
             tagId=\"0123\" version=\"1.0\">\n    <ns0:Entity name=\"NVIDIA &amp; not\"></ns0:Entity>\n    <ns0:Meta \
             colloquialVersion=\"{version}\" product=\"{chip}\"></ns0:Meta>\n    <ns0:Payload xmlns:SHA384=\"{SHA384}\">\n"
        );
        for (index, active, values) in &self.slots {
            let active = if *active { "True" } else { "False" };
            write!(
                text,
                "        <ns0:Resource active=\"{active}\" alternatives=\"{}\" index=\"{index}\" name=\"m\" size=\"48\" \
                 type=\"Measurement\"",
                values.len()
            )
            .unwrap();
            for (number, value) in values.iter().enumerate() {
                write!(text, " ns2:Hash{number}=\"{}\"", hex::encode(value)).unwrap();
            }
            text.push_str("></ns0:Resource>\n");
        }
        text.push_str("    </ns0:Payload>\n");
        (text, "</SoftwareIdentity>".into())
    }

    pub fn signed(&self, signer: &Issued, chain: &[&Issued]) -> Vec<u8> {
        let (front, back) = self.canonical();
        sign_document(&front, &back, &signed_info(), signer, chain)
    }
}

pub const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
pub const SHA384: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// The content of `SignedInfo`, with `DIGEST` where the digest goes.
pub fn signed_info() -> String {
    let algorithm = |name: &str, uri: &str| format!("<ds:{name} Algorithm=\"{uri}\"></ds:{name}>");
    let c14n = "http://www.w3.org/2006/12/xml-c14n11";
    [
        algorithm("CanonicalizationMethod", c14n),
        algorithm("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"),
        "<ds:Reference URI=\"\"><ds:Transforms>".into(),
        algorithm("Transform", "http://www.w3.org/2000/09/xmldsig#enveloped-signature"),
        algorithm("Transform", c14n),
        "</ds:Transforms>".into(),
        algorithm("DigestMethod", "http://www.w3.org/2001/04/xmldsig-more#sha384"),
        "<ds:DigestValue>DIGEST</ds:DigestValue></ds:Reference>".into(),
    ]
    .concat()
}

/// Signs a canonical document by hand, so that the library's canonical form is not its own witness.
pub fn sign_document(front: &str, back: &str, signed_info: &str, signer: &Issued, chain: &[&Issued]) -> Vec<u8> {
    let digest = STANDARD.encode(Sha384::digest(format!("{front}{back}")));
    let signed_info = signed_info.replace("DIGEST", &digest);
    let subset = format!(
        "<ds:SignedInfo xmlns=\"{SWID}\" xmlns:ds=\"{DSIG}\" xmlns:ns0=\"{SWID}\" xmlns:ns2=\"{SHA384}\">{signed_info}</ds:SignedInfo>"
    );
    let signature = STANDARD.encode(signer.sign(subset.as_bytes()));
    let certificates: String = chain
        .iter()
        .map(|issued| format!("<ds:X509Certificate>{}\n</ds:X509Certificate>", STANDARD.encode(&issued.der)))
        .collect();
    format!(
        "{front}<ds:Signature xmlns:ds=\"{DSIG}\"><ds:SignedInfo>{signed_info}</ds:SignedInfo><ds:SignatureValue>{signature}\
         </ds:SignatureValue><ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>{back}"
    )
    .into_bytes()
}

/// Good claims about one GPU.
pub fn gpu_claims(gpu: &Gpu<'_>, ueid: &str) -> Value {
    let chip = if gpu.architecture == GpuArchitecture::Hopper { "GH100" } else { "GB100" };
    let chain = json!({
        "x-nvidia-cert-expiration-date": "2050-01-01T00:00:00", "x-nvidia-cert-status": "valid",
        "x-nvidia-cert-ocsp-status": "good", "x-nvidia-cert-revocation-reason": null,
    });
    let mut claims = json!({
        "iss": ISSUER, "iat": NOW.0 - 10, "nbf": NOW.0 - 130, "exp": NOW.0 + 3600, "jti": "1",
        "eat_nonce": hex::encode(NONCE), "measres": "success", "secboot": true, "dbgstat": "disabled",
        "hwmodel": format!("{chip} SIM GSP BROM"), "oemid": "5703", "ueid": ueid, "x-nvidia-device-type": "gpu",
        "x-nvidia-gpu-driver-version": DRIVER, "x-nvidia-gpu-vbios-version": VBIOS,
        "x-nvidia-gpu-arch-check": true, "x-nvidia-attestation-warning": null,
        "x-nvidia-gpu-attestation-report-cert-chain": chain, "x-nvidia-gpu-driver-rim-cert-chain": chain,
        "x-nvidia-gpu-vbios-rim-cert-chain": chain,
    });
    for name in [
        "attestation-report-cert-chain-fwid-match",
        "attestation-report-parsed",
        "attestation-report-nonce-match",
        "attestation-report-signature-verified",
        "driver-rim-fetched",
        "driver-rim-schema-validated",
        "driver-rim-signature-verified",
        "driver-rim-version-match",
        "driver-rim-measurements-available",
        "vbios-rim-fetched",
        "vbios-rim-schema-validated",
        "vbios-rim-signature-verified",
        "vbios-rim-version-match",
        "vbios-rim-measurements-available",
        "vbios-index-no-conflict",
    ] {
        claims[format!("x-nvidia-gpu-{name}")] = true.into();
    }
    claims
}

pub fn header() -> Value {
    json!({ "alg": "ES384", "kid": KID, "typ": "JWT" })
}

/// Good claims about all of them, over these tokens.
pub fn overall_claims(tokens: &[String]) -> Value {
    let digest = |token: &String| json!(["DIGEST", ["SHA-256", hex::encode(Sha256::digest(token))]]);
    let submods: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(index, token)| (format!("GPU-{index}"), digest(token))).collect();
    json!({
        "sub": "NVIDIA-PLATFORM-ATTESTATION", "x-nvidia-ver": "3.0", "iss": ISSUER, "iat": NOW.0 - 10, "nbf": NOW.0 - 130,
        "exp": NOW.0 + 3600, "jti": "0", "eat_nonce": hex::encode(NONCE), "x-nvidia-overall-att-result": true,
        "submods": submods,
    })
}

/// The detached EAT of an overall token and the others.
pub fn detached(overall: &str, tokens: &[String]) -> String {
    let tokens: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(index, token)| (format!("GPU-{index}"), json!(token))).collect();
    json!([["JWT", overall], tokens]).to_string()
}
