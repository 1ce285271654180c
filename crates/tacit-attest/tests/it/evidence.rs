//! Finds what `make evidence` gathered.

use std::path::PathBuf;

use tacit_attest::samples::{INDEX, Index, Sample};
use tacit_attest::{AttestError, Policy, Presence, Preset};

fn directory() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"));
    cache.join("tacit/evidence")
}

/// What was gathered; panics where nothing was.
pub fn index() -> Index {
    let directory = directory();
    let index = std::fs::read(directory.join(INDEX)).unwrap_or_else(|error| {
        panic!("no real evidence in {} ({error}): run `make evidence` first", directory.display())
    });
    let index = Index::parse(&index).expect("an index that `make evidence` wrote");
    for name in &index.absent {
        println!("skipped: {name}: evidence vectors not present");
    }
    index
}

/// The content of a file that was gathered.
pub fn read(file: &str) -> Vec<u8> {
    std::fs::read(directory().join(file)).unwrap_or_else(|error| panic!("{file} ({error}): run `make evidence`"))
}

/// Every sample that was gathered; panics where none was.
pub fn samples() -> Vec<Sample> {
    let read = |file: &str| Ok::<_, AttestError>(read(file));
    index().samples.iter().map(|entry| entry.load(read).unwrap()).collect()
}

/// The sample of that name; `None` only where its source was not at hand when the evidence was gathered.
pub fn sample(name: &str) -> Option<Sample> {
    let found = samples().into_iter().find(|sample| sample.name == name);
    let from_packages = ["intel-tdx-v4", "intel-tdx-v5", "intel-tdx-v5-old", "intel-sgx-v3", "amd-milan-v2"];
    assert!(found.is_some() || !from_packages.contains(&name), "{name} is missing: run `make evidence`");
    found
}

/// A preset, but AMD's revocation list is judged only where it is there: nobody recorded it with the samples.
pub fn of_samples(preset: Preset) -> Policy {
    let mut policy = Policy::preset(preset);
    policy.snp.crl = Presence::IfPresent;
    policy
}
