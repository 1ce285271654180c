//! Reference manifests (RIM): what NVIDIA says that a driver or a VBIOS must measure, signed.
//!
//! A manifest is a SWID tag (ISO/IEC 19770-2) after the TCG's RIM information model, with an enveloped XML signature: ECDSA P-384,
//! SHA-384, Canonical XML 1.1. Only that one combination is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256, Sha384};
use tacit_types::UnixTime;

use super::report::GpuReport;
use super::xml::Element;
use crate::evidence::bounded;
use crate::root::Vendor;
use crate::{AttestError, Policy, path};

/// Most bytes of one manifest.
pub const MAX_MANIFEST: usize = 128 * 1024;

const WHAT: &str = "reference manifest";
const SIGNER: &str = "manifest certificate";
const MAX_SLOTS: usize = 256;
const MAX_ALTERNATIVES: usize = 64;
/// The slot of the first video decoder, which some GPUs have switched off.
const DECODER_SLOT: u16 = 35;

const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const SHA384: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const C14N11: &str = "http://www.w3.org/2006/12/xml-c14n11";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const ECDSA_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
const DIGEST_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";

/// A manifest whose signature, chain and dates hold; nothing but [`Manifest::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    version: String,
    chip: String,
    tag: String,
    slots: Vec<(u16, Vec<[u8; 48]>)>,
    simulated: bool,
    expires: UnixTime,
    digest: [u8; 32],
}

impl Manifest {
    /// Verifies a manifest: signature, chain to a root that the policy names for manifests, dates at `now`.
    ///
    /// A manifest whose signer's certificate has expired is refused, as NVIDIA's own verifiers do: the vendor re-issues them.
    ///
    /// # Errors
    /// [`AttestError`], one variant per check.
    pub fn verify(bytes: &[u8], policy: &Policy, now: UnixTime) -> Result<Self, AttestError> {
        bounded(WHAT, bytes.len(), MAX_MANIFEST)?;
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("text that is not UTF-8"))?;
        let root = Element::parse(text)?;
        let signature = Signature::parse(&root)?;

        let certificates = path::parse(SIGNER, &signature.chain)?;
        if Sha384::digest(root.canonical_without(signature.place)).as_slice() != signature.digest {
            return Err(AttestError::BadSignature { what: WHAT });
        }
        let signed = root.canonical_subset(&[signature.place, signature.signed_info]).unwrap_or_default();
        let key = path::key(SIGNER, &certificates[0])?;
        path::check_signature(WHAT, &key, signed.as_bytes(), &signature.value)?;
        let path = path::verify(SIGNER, certificates, policy.trusted_roots(Vendor::NvidiaRim), &[now])?;

        let mut manifest = Self::content(&root)?;
        manifest.simulated = path.root.simulated;
        manifest.expires = path.expires;
        manifest.digest = Sha256::digest(bytes).into();
        Ok(manifest)
    }

    /// The version of driver or VBIOS that it describes.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The chip that it is for, as `GH100`.
    pub fn chip(&self) -> &str {
        &self.chip
    }

    /// The id of the tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// True if its root makes manifests of simulated GPUs.
    pub fn simulated(&self) -> bool {
        self.simulated
    }

    /// When the first certificate of its chain expires.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The slots that it states a value for.
    pub fn active_slots(&self) -> impl Iterator<Item = u16> {
        self.slots.iter().map(|(index, _)| *index)
    }

    /// The slots that differ: each one that is active must hold one of its values. The slot of the first video decoder is passed
    /// over where the GPU reports that decoder as switched off.
    pub fn differing_slots(&self, report: &GpuReport) -> Vec<u16> {
        self.slots
            .iter()
            .filter(|(index, _)| *index != DECODER_SLOT || report.decoder_enabled)
            .filter(|(index, values)| report.slots.get(usize::from(*index)).is_none_or(|found| !values.contains(found)))
            .map(|(index, _)| *index)
            .collect()
    }

    /// Reads what the signature covers.
    fn content(root: &Element<'_>) -> Result<Self, AttestError> {
        if !root.is(SWID, "SoftwareIdentity") {
            return Err(malformed("the root is no SoftwareIdentity"));
        }
        // One each, besides the signature.
        let (mut meta, mut payload) = (None, None);
        for element in root.elements() {
            let place = match element.local {
                "Meta" if element.namespace == SWID => &mut meta,
                "Payload" if element.namespace == SWID => &mut payload,
                "Entity" if element.namespace == SWID => continue,
                "Signature" if element.namespace == DSIG => continue,
                _ => return Err(malformed("an element that is not known here")),
            };
            if place.replace(element).is_some() {
                return Err(malformed("an element stands twice"));
            }
        }
        let (meta, payload) = meta.zip(payload).ok_or_else(|| malformed("no Meta or no Payload"))?;
        let member = |element: &Element<'_>, name: &str| -> Result<String, AttestError> {
            let value = element
                .attribute("", name)
                .filter(|value| (1..=128).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic()));
            value.map(str::to_owned).ok_or_else(|| malformed(&format!("no good attribute {name}")))
        };
        let (version, chip) = (member(meta, "colloquialVersion")?, member(meta, "product")?);
        if member(root, "name")? != chip {
            return Err(malformed("tag and Meta name different chips"));
        }
        let mut slots: Vec<(u16, Vec<[u8; 48]>)> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for resource in payload.elements() {
            let (index, active, values) = slot(resource)?;
            if !seen.insert(index) {
                return Err(malformed(&format!("slot {index} stands twice")));
            }
            if seen.len() > MAX_SLOTS {
                return Err(malformed("too many slots"));
            }
            if active {
                slots.push((index, values));
            }
        }
        if slots.is_empty() {
            return Err(malformed("no active slot"));
        }
        Ok(Self {
            version,
            chip,
            tag: member(root, "tagId")?,
            slots,
            simulated: false,
            expires: UnixTime(0),
            digest: [0; 32],
        })
    }
}

/// One `Resource`: its index, whether it counts, and the values it may have.
fn slot(resource: &Element<'_>) -> Result<(u16, bool, Vec<[u8; 48]>), AttestError> {
    let plain = |name: &str| resource.attribute("", name).unwrap_or_default();
    let number = |name: &str| -> Result<u16, AttestError> {
        let text = plain(name);
        let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(|| malformed(&format!("{name} of a slot is no number")))
    };
    if !resource.is(SWID, "Resource") || plain("type") != "Measurement" || number("size")? != 48 {
        return Err(malformed("a resource that is no measurement of 48 bytes"));
    }
    let index = number("index")?;
    let active = match plain("active") {
        "True" => true,
        "False" => false,
        _ => return Err(malformed(&format!("slot {index} is neither active nor inactive"))),
    };
    let alternatives = usize::from(number("alternatives")?);
    if !(1..=MAX_ALTERNATIVES).contains(&alternatives) || resource.attributes_in(SHA384).count() != alternatives {
        return Err(malformed(&format!("slot {index} has another number of values than it says")));
    }
    // type, index, active, alternatives, name, size, and the values.
    if resource.attribute("", "name").is_none() || resource.attribute_count() != 6 + alternatives {
        return Err(malformed(&format!("slot {index} has attributes that are not known here")));
    }
    let values = (0..alternatives).map(|number| {
        let mut value = [0; 48];
        let text = resource.attribute(SHA384, &format!("Hash{number}")).unwrap_or_default();
        hex::decode_to_slice(text, &mut value)
            .map_err(|_| malformed(&format!("slot {index}: a value that is no SHA-384")))?;
        Ok(value)
    });
    Ok((index, active, values.collect::<Result<_, AttestError>>()?))
}

/// The enveloped signature.
struct Signature {
    /// Which child of the root it is, and which of its own children is signed.
    place: usize,
    signed_info: usize,
    digest: Vec<u8>,
    value: Vec<u8>,
    chain: Vec<Vec<u8>>,
}

impl Signature {
    fn parse(root: &Element<'_>) -> Result<Self, AttestError> {
        if root.count(DSIG, "Signature") != 1 {
            return Err(malformed("not exactly one signature"));
        }
        let place = place_of(root, "Signature")?;
        let signature = children(root.elements().find(|element| element.is(DSIG, "Signature")))?;
        let [signed_info, value, key_info] = exactly(&signature, ["SignedInfo", "SignatureValue", "KeyInfo"])?;
        let signature = root.elements().find(|element| element.is(DSIG, "Signature"));
        let signed_info_place = signature.map_or(Err(malformed("no signature")), |it| place_of(it, "SignedInfo"))?;

        let parts = children(Some(signed_info))?;
        let [canonicalization, method, reference] =
            exactly(&parts, ["CanonicalizationMethod", "SignatureMethod", "Reference"])?;
        algorithm(canonicalization, C14N11)?;
        algorithm(method, ECDSA_SHA384)?;
        // An empty URI is the document itself.
        if reference.attribute("", "URI") != Some("") || reference.attribute_count() != 1 {
            return Err(malformed("the signature is over something else than the document"));
        }
        let parts = children(Some(reference))?;
        let [transforms, digest_method, digest] = exactly(&parts, ["Transforms", "DigestMethod", "DigestValue"])?;
        algorithm(digest_method, DIGEST_SHA384)?;
        let parts = children(Some(transforms))?;
        let [first, second] = exactly(&parts, ["Transform", "Transform"])?;
        algorithm(first, ENVELOPED)?;
        algorithm(second, C14N11)?;

        let parts = children(Some(key_info))?;
        let [data] = exactly(&parts, ["X509Data"])?;
        let certificates = children(Some(data))?;
        if certificates.len() > path::MAX_PATH || certificates.iter().any(|it| !it.is(DSIG, "X509Certificate")) {
            return Err(malformed("key data other than a chain of certificates"));
        }
        Ok(Self {
            place,
            signed_info: signed_info_place,
            digest: base64(digest)?,
            value: base64(value)?,
            chain: certificates.into_iter().map(base64).collect::<Result<_, _>>()?,
        })
    }
}

/// Where among all nodes the first child element of that name stands.
fn place_of(parent: &Element<'_>, local: &str) -> Result<usize, AttestError> {
    parent
        .children
        .iter()
        .position(|node| matches!(node, super::xml::Node::Element(element) if element.is(DSIG, local)))
        .ok_or_else(|| malformed(&format!("no {local}")))
}

/// The elements inside an element that holds nothing else but white space.
fn children<'e, 'a>(parent: Option<&'e Element<'a>>) -> Result<Vec<&'e Element<'a>>, AttestError> {
    let parent = parent.ok_or_else(|| malformed("no signature"))?;
    let stray = |node: &super::xml::Node<'_>| matches!(node, super::xml::Node::Text(text) if !text.trim_matches([' ', '\n', '\t']).is_empty());
    if parent.children.iter().any(stray) {
        return Err(malformed("stray text in the signature"));
    }
    Ok(parent.elements().collect())
}

fn exactly<'e, 'a, const N: usize>(
    found: &[&'e Element<'a>],
    names: [&str; N],
) -> Result<[&'e Element<'a>; N], AttestError> {
    let found: [&Element<'a>; N] =
        found.try_into().map_err(|_| malformed("the signature has other parts than are known here"))?;
    if found.iter().zip(names).any(|(element, name)| !element.is(DSIG, name)) {
        return Err(malformed("the signature has other parts than are known here"));
    }
    Ok(found)
}

fn algorithm(element: &Element<'_>, expected: &str) -> Result<(), AttestError> {
    if element.attribute("", "Algorithm") == Some(expected)
        && element.attribute_count() == 1
        && element.children.is_empty()
    {
        Ok(())
    } else {
        Err(malformed(&format!("{} is not {expected}", element.local)))
    }
}

fn base64(element: &Element<'_>) -> Result<Vec<u8>, AttestError> {
    let text = element.text().filter(|_| element.attribute_count() == 0);
    let text = text.ok_or_else(|| malformed("a value that is not plain text"))?;
    let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '\n' | '\t')).collect();
    STANDARD.decode(digits).map_err(|_| malformed("a value that is not base64"))
}

fn malformed(detail: &str) -> AttestError {
    AttestError::Malformed { what: WHAT, detail: detail.to_owned() }
}
