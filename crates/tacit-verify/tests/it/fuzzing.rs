//! Every parser of hostile bytes in the pure crates and in `tacit-inference`, over its corpus and then over mutations for a bounded time.
//!
//! The sequence of mutations follows from a seed, so a panic happens again; how many fit into the time depends on the machine.
//! `TACIT_TEST_LONG` gives it ten minutes instead of ten seconds, `TACIT_FUZZ_SEED` another sequence.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde_json::Value;
use tacit_attest::samples::{INDEX, Index};
use tacit_attest::{AttestError, Collateral, Policy, Preset, event_log};

/// Mutations, for all bodies together.
const SHORT: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(600);
/// Largest input that a mutation makes.
const MAX_INPUT: usize = 128 * 1024;
/// Most seeds of one body.
const MAX_SEEDS: usize = 300;

type Run = fn(&[u8]);

struct Body {
    /// Crate and parser, as the target in `fuzz/` is called.
    name: String,
    run: Run,
    /// Seeds; the first of them were made for this parser.
    corpus: Vec<Vec<u8>>,
    own: usize,
}

#[test]
fn parsers_refuse_hostile_bytes_without_a_panic() {
    let bodies = bodies();
    let budget = if std::env::var_os("TACIT_TEST_LONG").is_some() { LONG } else { SHORT };
    let seed = std::env::var("TACIT_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut from_corpus, mut mutated) = (0u64, 0u64);
    for body in &bodies {
        let mut random = Random::new(seed, &body.name);
        for input in &body.corpus {
            execute(body, input);
            from_corpus += 1;
        }
        let started = Instant::now();
        let share = budget / bodies.len() as u32;
        let mut own = 0u64;
        while started.elapsed() < share {
            // One look at the clock for several executions.
            for _ in 0..8 {
                execute(body, &random.mutate(&body.corpus, body.own));
                own += 1;
            }
        }
        println!("{}: {} seeds, {own} mutations", body.name, body.corpus.len());
        mutated += own;
    }
    println!(
        "fuzz bodies: {}, seed {seed}: {from_corpus} executions over the corpus, {mutated} over mutations",
        bodies.len()
    );
    // Each body got its turn, and no parser is so slow that a peer could stall a node with it.
    assert!(mutated >= 8 * bodies.len() as u64);
}

#[test]
fn every_body_has_a_target_and_every_target_a_body() {
    let folder = root().join("fuzz/fuzz_targets");
    let mut targets: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut names: Vec<String> = bodies().into_iter().map(|body| body.name).collect();
    targets.sort();
    names.sort();
    assert_eq!(targets, names);
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for name in &names {
        let (of, parser) = name.split_once('_').unwrap();
        let source = std::fs::read_to_string(folder.join(format!("{name}.rs"))).unwrap();
        assert!(source.contains(&format!("tacit_{of}::fuzz::{parser}(bytes)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn the_mutator_repeats_itself_and_does_every_kind_of_thing() {
    let corpus = vec![b"0123456789abcdef".to_vec(), b"{\"a\":17}".to_vec()];
    let run = |seed| {
        let mut random = Random::new(seed, "name");
        (0..2_000).map(|_| random.mutate(&corpus, 1)).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let made = run(1);
    assert!(made.iter().any(|input| input.len() < 8) && made.iter().any(|input| input.len() > 16));
    assert!(made.iter().any(|input| input.len() == 16 && input != &corpus[0]));
    assert!(made.iter().any(|input| input.windows(4).any(|bytes| bytes == [0xff; 4])), "a length of all ones");
}

fn execute(body: &Body, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (body.run)(input))).is_err() {
        let shown = &input[..input.len().min(4096)];
        panic!("{} panicked on {} bytes, which begin with {}", body.name, input.len(), hex::encode(shown));
    }
}

/// A stream of numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn new(seed: u64, name: &str) -> Self {
        Self(name.bytes().fold(seed, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(byte))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }

    /// Changes a seed a few times: three times of four one of the parser's own, if it has any.
    fn mutate(&mut self, corpus: &[Vec<u8>], own: usize) -> Vec<u8> {
        let among = if own > 0 && self.below(4) > 0 { own } else { corpus.len() };
        let mut input = corpus[self.below(among)].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input, corpus);
        }
        input.truncate(MAX_INPUT);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        const BYTES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'0', b'{'];
        let (at, end) = (self.below(input.len()), self.below(input.len() + 1));
        let (from, to) = (at.min(end), at.max(end));
        match self.below(9) {
            0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            1 if !input.is_empty() => input[at] = BYTES[self.below(BYTES.len())],
            2 => input.truncate(end),
            3 => drop(input.drain(from..to)),
            4 => {
                let again = input[from..to.min(from + 4096)].to_vec();
                input.splice(at..at, again);
            }
            5 => {
                let other = &corpus[self.below(corpus.len())];
                let start = self.below(other.len() + 1);
                let piece = other[start..(start + self.below(2048)).min(other.len())].to_vec();
                input.splice(from..to, piece);
            }
            6 => self.overwrite_length(input),
            // The numbers in text, to their ends.
            7 => {
                if let Some(digit) = input.iter().skip(at).position(u8::is_ascii_digit) {
                    let numbers: [&[u8]; 5] = [b"0", b"-1", b"9007199254740992", b"4294967296", b"1e999"];
                    let number = numbers[self.below(5)].to_vec();
                    input.splice(at + digit..=at + digit, number);
                }
            }
            _ => input.insert(at, (self.next() & 0xff) as u8),
        }
    }

    /// Puts a length where one may stand: of two or four bytes, in either order, at an edge.
    fn overwrite_length(&mut self, input: &mut [u8]) {
        let width = if self.below(2) == 0 { 2 } else { 4 };
        if input.len() < width {
            return;
        }
        let at = self.below(input.len() - width + 1);
        let left = (input.len() - at) as u32;
        let edges = [0, 1, u32::MAX, u32::MAX / 2 + 1, left, left.wrapping_add(1), left.wrapping_sub(width as u32)];
        let length = edges[self.below(edges.len())];
        let bytes = if self.below(2) == 0 { length.to_le_bytes() } else { length.to_be_bytes() };
        let start = if self.below(2) == 0 { 0 } else { 4 - width };
        input[at..at + width].copy_from_slice(&bytes[start..start + width]);
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What bodies begin with, by kind.
#[derive(Default)]
struct Corpus {
    /// By body, where only one parser can use it.
    own: BTreeMap<String, Vec<Vec<u8>>>,
    /// JSON documents and their parts.
    json: Vec<Vec<u8>>,
    /// Bytes in any binary form.
    binary: Vec<Vec<u8>>,
}

fn bodies() -> Vec<Body> {
    let crates: [(&str, &[(&str, Run)]); 7] = [
        ("types", &tacit_types::fuzz::BODIES),
        ("attest", &tacit_attest::fuzz::BODIES),
        ("receipt", &tacit_receipt::fuzz::BODIES),
        ("envelope", &tacit_envelope::fuzz::BODIES),
        ("threshold", &tacit_threshold::fuzz::BODIES),
        ("verify", &tacit_verify::fuzz::BODIES),
        ("inference", &tacit_inference::fuzz::BODIES),
    ];
    let corpus = Corpus::gather();
    let named = crates.into_iter().flat_map(|(of, bodies)| bodies.iter().map(move |(name, run)| (of, *name, *run)));
    named
        .map(|(of, name, run)| {
            let own = corpus.own.get(name).cloned().unwrap_or_default();
            let reads_json = ["json", "keyset", "deployment", "canonical", "bundle", "question", "anchor", "tcb_info"];
            let further = if reads_json.iter().any(|word| name.contains(word)) { &corpus.json } else { &corpus.binary };
            let (mut seeds, own) = (own.clone(), own.len());
            assert!(!seeds.is_empty() || !further.is_empty(), "{of}_{name} has no seed");
            seeds.extend(further.iter().cloned());
            seeds.truncate(MAX_SEEDS);
            Body { name: format!("{of}_{name}"), run, corpus: seeds, own }
        })
        .collect()
}

impl Corpus {
    fn gather() -> Self {
        let mut corpus = Self::default();
        for (name, bytes) in tacit_envelope::fuzz::seeds()
            .into_iter()
            .chain(tacit_receipt::fuzz::seeds())
            .chain(tacit_threshold::fuzz::seeds())
            .chain(tacit_inference::fuzz::seeds())
        {
            corpus.add(name, bytes);
        }
        corpus.policies_and_logs();
        corpus.manifests();
        corpus.vectors();
        corpus.evidence();
        corpus
    }

    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.own.entry(name.to_owned()).or_default().push(bytes);
    }

    fn policies_and_logs(&mut self) {
        for preset in [Preset::Dev, Preset::Standard, Preset::High] {
            let policy = Policy::preset(preset);
            self.add("policy_toml", policy.to_toml().unwrap().into_bytes());
            self.add("policy_json", policy.canonical().unwrap());
        }
        let page = std::fs::read_to_string(root().join("docs/policy.md")).unwrap();
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        self.add("policy_toml", example.as_bytes().to_vec());
        let events: [(&str, &[u8]); 2] = [("app-id", b"one"), ("compose-hash", &[7; 32])];
        for form in [event_log::Form::Version1, event_log::Form::Version2] {
            self.add("event_log", event_log::to_json_in(form, events).into_bytes());
        }
        self.add("boot_log", boot_log());
    }

    fn manifests(&mut self) {
        for entry in std::fs::read_dir(root().join("examples")).unwrap() {
            let path = entry.unwrap().path().join("tacit.toml");
            if let Ok(text) = std::fs::read(path) {
                self.add("manifest_toml", text);
            }
        }
    }

    /// Golden files, and everything inside them that may be a message of its own.
    fn vectors(&mut self) {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(root().join("vectors")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
            let bytes = std::fs::read(path).unwrap();
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            match stem.as_str() {
                "golden.receipt" => {
                    self.add("bundle", bytes.clone());
                    self.add("bundle_alone", bytes.clone());
                    self.add("anchor", bytes.clone());
                    let deployment: Value = serde_json::from_slice(&read_vector("golden.deployment.json")).unwrap();
                    let file = STANDARD.encode(&bytes);
                    let question = serde_json::json!({
                        "file": file, "deployment": deployment, "policy": "dev", "now": 1_790_000_000u64,
                    });
                    self.add("question", question.to_string().into_bytes());
                }
                "golden.transcript" => {
                    self.add("ai_transcript_json", bytes.clone());
                    self.add("aci_report_json", value["report"].to_string().into_bytes());
                    self.add("aci_receipt_json", value["receipt"].to_string().into_bytes());
                }
                "golden.deployment" => {
                    self.add("deployment", bytes.clone());
                    self.add("anchor", bytes.clone());
                    self.add("keyset", value["gatekeepers"][0]["keyset"].to_string().into_bytes());
                }
                "formats" => {
                    if let Some(manifest) = value["inputs"]["manifest"].as_str().or(value["manifest"].as_str()) {
                        self.add("manifest_canonical", manifest.as_bytes().to_vec());
                    }
                }
                _ => {}
            }
            self.json.push(bytes);
            self.parts(&value, 0);
        }
    }

    fn parts(&mut self, value: &Value, depth: usize) {
        if depth > 6 || self.json.len() > 100 {
            return;
        }
        match value {
            Value::Object(members) => {
                self.json.push(value.to_string().into_bytes());
                members.values().for_each(|member| self.parts(member, depth + 1));
            }
            Value::Array(members) => members.iter().take(8).for_each(|member| self.parts(member, depth + 1)),
            Value::String(text) if self.binary.len() < 100 => {
                if text.starts_with('{') {
                    self.json.push(text.clone().into_bytes());
                }
                self.binary.push(text.clone().into_bytes());
                self.binary.extend(hex::decode(text.trim_start_matches("0x")).ok().filter(|bytes| bytes.len() > 32));
                let decoded = base64::engine::general_purpose::STANDARD.decode(text).ok();
                self.binary.extend(decoded.filter(|bytes| bytes.len() > 64));
            }
            _ => {}
        }
    }

    /// What `make evidence` gathered.
    fn evidence(&mut self) {
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
        let folder = cache.join("tacit/evidence");
        let index = std::fs::read(folder.join(INDEX)).unwrap_or_else(|error| {
            panic!("no real evidence in {} ({error}): run `make evidence` first", folder.display())
        });
        for entry in &Index::parse(&index).unwrap().samples {
            let read = |file: &str| Ok::<_, AttestError>(std::fs::read(folder.join(file)).unwrap());
            let sample = entry.load(read).unwrap();
            let document = sample.evidence.document().to_vec();
            self.add("evidence_json", sample.evidence.to_json());
            self.add("collateral_json", sample.collateral.to_json());
            match sample.collateral {
                Collateral::Intel(collateral) => {
                    self.add("quote", document);
                    self.add("tcb_info", collateral.tcb_info.clone().into_bytes());
                    self.add("tcb_info", collateral.qe_identity.clone().into_bytes());
                    self.add(
                        "intel_answer",
                        format!(r#"{{"tcbInfo":{},"signature":"00"}}"#, collateral.tcb_info).into_bytes(),
                    );
                    self.add("revocation_list", collateral.pck_crl.clone());
                    self.add("amd_certificate", collateral.pck_crl_issuer_chain.clone().into_bytes());
                    if let Some(chain) = &collateral.pck_certificate_chain {
                        self.add("machine_profile", chain.clone().into_bytes());
                    }
                }
                Collateral::Amd(collateral) => {
                    self.add("amd_report", document);
                    self.add("amd_certificate", collateral.vcek.clone());
                    self.add("amd_certificate", collateral.ask.clone());
                    self.add("machine_profile", collateral.vcek.clone());
                }
                Collateral::Nitro(_) => self.add("nitro_document", document),
                #[allow(unreachable_patterns)]
                _ => self.binary.push(document),
            }
        }
    }
}

fn read_vector(name: &str) -> Vec<u8> {
    crate::vector(name)
}

/// A small boot log: the specification event, one measurement, and padding.
fn boot_log() -> Vec<u8> {
    let mut specification = b"Spec ID Event03\0".to_vec();
    specification.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 48, 0, 0]);
    let mut log = [1u32, 3].map(u32::to_le_bytes).concat();
    log.extend([0; 20]);
    log.extend((specification.len() as u32).to_le_bytes());
    log.extend(specification);
    log.extend([2u32, 0x8000_0007, 1].map(u32::to_le_bytes).concat());
    log.extend([0x0c, 0]);
    log.extend([7; 48]);
    log.extend([4, 0, 0, 0]);
    log.extend(b"exit");
    log.extend([0xff; 32]);
    log
}
