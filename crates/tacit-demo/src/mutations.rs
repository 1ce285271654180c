//! Spoiled inputs. Each mutation changes what one step reads, and that step must fail: a check that nothing can fail is none.
//!
//! Nothing here reaches into a step. The steps get [`Inputs`] and run as always.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    demo::{Demo, Step},
    impostor,
    inputs::Inputs,
    network::copy,
};

/// One way to spoil an input.
pub struct Mutation {
    /// Its name on the command line.
    pub name: &'static str,
    /// The step that must fail.
    pub step: Step,
    /// What is spoiled.
    what: &'static str,
    /// Texts that the failure must hold: what was expected and what was found.
    says: &'static [&'static str],
    /// Spoils it. The folder is the demo's own, to put spoiled copies of files in.
    pub spoil: fn(&mut Inputs, &Path) -> Result<()>,
}

/// Every mutation, in the order of the steps.
static MUTATIONS: [Mutation; 18] = [
    Mutation {
        name: "evidence-byte",
        step: Step::Evidence,
        what: "one signed byte of a TDX quote is another",
        says: &["Intel TDX v4: expected VERIFIED, found"],
        spoil: |inputs, folder| {
            inputs.cache = copied(&inputs.cache.join("tacit/evidence"), folder, "evidence-byte/tacit/evidence", 2)?;
            edit(&inputs.cache.join("tacit/evidence/intel-tdx-v4.bin"), |quote| quote[300] ^= 1)
        },
    },
    Mutation {
        name: "evidence-date",
        step: Step::Evidence,
        what: "the evidence is judged at a date after its collateral expired",
        says: &["expected VERIFIED, found", "expired"],
        spoil: |inputs, folder| {
            inputs.cache = copied(&inputs.cache.join("tacit/evidence"), folder, "evidence-date/tacit/evidence", 2)?;
            edit_json(&inputs.cache.join("tacit/evidence/index.json"), |index| {
                index["samples"][0]["at"] = "2035-01-01T00:00:00Z".into();
            })
        },
    },
    Mutation {
        name: "impostor-unaltered",
        step: Step::Network,
        what: "the binary of worker-x is the unaltered one",
        says: &["expected that 4 of 4 gatekeepers refuse worker-x, found 0", "admitted"],
        spoil: |inputs, _| {
            inputs.impostor_bits = 0;
            Ok(())
        },
    },
    Mutation {
        name: "worker-altered",
        step: Step::Network,
        what: "the binary that the workers are compared with has another byte",
        says: &["expected that worker-1 runs", ", found 0x"],
        spoil: |inputs, folder| {
            let altered = folder.join("altered-tacit");
            impostor::alter(&inputs.worker_binary, &altered, 1)?;
            inputs.worker_binary = altered;
            Ok(())
        },
    },
    Mutation {
        name: "reference-model",
        step: Step::PrivateData,
        what: "plain Node has another model",
        says: &["expected that 171 of 171 answers equal plain Node's, found"],
        spoil: |inputs, folder| {
            inputs.reference = copied(&inputs.reference, folder, "reference-model", 0)?;
            edit_json(&inputs.reference.join("model.json"), |model| {
                let bias = model["bias"].as_f64().unwrap_or_default();
                model["bias"] = (bias + 1.0).into();
            })
        },
    },
    Mutation {
        name: "labels",
        step: Step::PrivateData,
        what: "every tenth label of the held-out rows is the other one",
        says: &["expected an accuracy of at least 95 %, found 8"],
        spoil: |inputs, folder| {
            inputs.reference = copied(&inputs.reference, folder, "labels", 0)?;
            let rows = inputs.reference.join("data/held-out.csv");
            let flipped: String = std::fs::read_to_string(&rows)?
                .lines()
                .enumerate()
                .map(|(place, row)| match row.rsplit_once(',') {
                    Some((cells, "0")) if place % 10 == 0 => format!("{cells},1\n"),
                    Some((cells, _)) if place % 10 == 0 => format!("{cells},0\n"),
                    _ => format!("{row}\n"),
                })
                .collect();
            Ok(std::fs::write(rows, flipped)?)
        },
    },
    Mutation {
        name: "control-without-markers",
        step: Step::WhoSawIt,
        what: "the client's file holds no row",
        says: &["expected that all 171 markers are found in", "found 0"],
        spoil: |inputs, _| {
            inputs.client_file = inputs.example.join("data/split.json");
            Ok(())
        },
    },
    Mutation {
        name: "marker-in-traffic",
        step: Step::WhoSawIt,
        what: "a row went through the gateway unsealed",
        says: &["expected no marker in the gateways, found 1"],
        spoil: |inputs, folder| {
            let left = inputs.left.as_mut().context("step 3 has not run")?;
            let mut traffic = std::fs::read(&left.traffic)?;
            traffic.extend_from_slice(left.rows[0].request.as_bytes());
            left.traffic = folder.join("traffic-with-a-row.bin");
            Ok(std::fs::write(&left.traffic, traffic)?)
        },
    },
    Mutation {
        name: "receipt-byte",
        step: Step::Verify,
        what: "one byte of the receipt bundle is another",
        says: &["expected the verdict \"simulated\", found \"refused\""],
        spoil: |inputs, _| {
            let left = inputs.left.as_mut().context("step 3 has not run")?;
            let middle = left.bundle.len() / 2;
            left.bundle[middle] ^= 1;
            Ok(())
        },
    },
    Mutation {
        name: "other-deployment",
        step: Step::Verify,
        what: "the verifier trusts another deployment",
        says: &["expected the verdict \"simulated\", found \"refused\"", "anchor"],
        spoil: |inputs, _| {
            inputs.deployment = inputs.project.join("vectors/golden.deployment.json");
            Ok(())
        },
    },
    Mutation {
        name: "other-signature",
        step: Step::Verify,
        what: "the tools of others get the receipt under the signature of a gatekeeper",
        says: &["check.py: expected exit status 0, found", "the receipt is signed by"],
        spoil: |inputs, _| {
            let left = inputs.left.as_mut().context("step 3 has not run")?;
            let mut bundle: Value = serde_json::from_slice(&left.handed_out)?;
            bundle["signature"] = bundle["certificate"]["signatures"][0]["signature"].clone();
            left.handed_out = serde_json::to_vec(&bundle)?;
            Ok(())
        },
    },
    Mutation {
        name: "bundle-unaltered",
        step: Step::Attacks,
        what: "one of the altered bundles is the unaltered one",
        says: &["expected that none is accepted, found 1: altered bundles"],
        spoil: |inputs, _| {
            inputs.altered_bits[500] = 0;
            Ok(())
        },
    },
    Mutation {
        name: "same-chain",
        step: Step::Attacks,
        what: "the other chain has the id of the home chain",
        says: &["expected that none is accepted, found", "another chain's request"],
        spoil: |inputs, _| {
            inputs.other_chain = 31_337;
            Ok(())
        },
    },
    Mutation {
        name: "copy-complete",
        step: Step::Attacks,
        what: "the copied disk misses no command",
        says: &["expected that none is accepted, found 1", "the copy of worker-"],
        spoil: |inputs, _| {
            inputs.commands_after_copy = 0;
            Ok(())
        },
    },
    Mutation {
        name: "store-of-today",
        step: Step::Attacks,
        what: "yesterday's store misses no command",
        says: &["expected that none is accepted, found 1: yesterday's store"],
        spoil: |inputs, _| {
            inputs.commands_since_yesterday = 0;
            Ok(())
        },
    },
    Mutation {
        name: "message-harmless",
        step: Step::PrivateAi,
        what: "the buyer complains of nothing",
        says: &["expected the label \"complaint\", found \"other\""],
        spoil: |inputs, _| {
            inputs.complaint = "Where can I park near your shop?".to_owned();
            Ok(())
        },
    },
    Mutation {
        name: "model-unswapped",
        step: Step::PrivateAi,
        what: "the model that was swapped is the same",
        says: &["expected that the swapped model is refused, found that it is served"],
        spoil: |inputs, _| {
            inputs.swapped_bits = 0;
            Ok(())
        },
    },
    Mutation {
        name: "answer-unforged",
        step: Step::PrivateAi,
        what: "the forged answer is the model's own",
        says: &["expected that the forged answer is refused (exit 3), found exit"],
        spoil: |inputs, _| {
            inputs.forged_label = "complaint";
            Ok(())
        },
    },
];

/// The mutation with this name.
pub fn find(name: &str) -> Result<&'static Mutation, String> {
    MUTATIONS.iter().find(|mutation| mutation.name == name).ok_or_else(|| {
        let names: Vec<_> = MUTATIONS.iter().map(|mutation| mutation.name).collect();
        format!("not one of {}", names.join(", "))
    })
}

/// Lists them.
pub fn list() -> Result<()> {
    let mut screen = std::io::stdout().lock();
    for Mutation { name, step, what, .. } in &MUTATIONS {
        writeln!(screen, "{name:<24} {:<22} {what}", step.name())?;
    }
    Ok(())
}

/// Runs, for each mutation, its step on the spoiled inputs; on one network, after steps 2 and 3 ran on the true ones.
pub async fn check_all(demo: &mut Demo) -> Result<()> {
    let mut honest = demo.inputs.clone();
    for step in [Step::Network, Step::PrivateData] {
        demo.run(step, &mut honest).await?;
    }
    let has_model = demo.offers_models();
    let tried: Vec<&Mutation> =
        MUTATIONS.iter().filter(|mutation| has_model || mutation.step != Step::PrivateAi).collect();
    if !has_model {
        println!("\n── {} is left out: the model could not be had; `make models` says why", Step::PrivateAi.name());
    }
    let mut wrong = Vec::new();
    for mutation in &tried {
        println!("\n── {}: {}; {} must fail", mutation.name, mutation.what, mutation.step.name());
        let mut spoiled = honest.clone();
        (mutation.spoil)(&mut spoiled, demo.folder()).with_context(|| mutation.name)?;
        match verdict(mutation, demo.run(mutation.step, &mut spoiled).await) {
            Ok(message) => println!("   failed as it must: {message}"),
            Err(error) => {
                println!("   WRONG: {error:#}");
                wrong.push(mutation.name);
            }
        }
    }
    println!("\n{} of {} spoiled inputs were noticed in the right step", tried.len() - wrong.len(), tried.len());
    ensure!(
        wrong.is_empty(),
        "expected that every spoiled input is noticed, found that these are not: {}",
        wrong.join(", ")
    );
    Ok(())
}

/// The failure's words, if it is the one that the mutation must lead to.
fn verdict(mutation: &Mutation, outcome: Result<()>) -> Result<String> {
    let Err(error) = outcome else {
        bail!("expected that {} fails, found that it passes", mutation.step.name());
    };
    let words = format!("{error:#}");
    ensure!(words.starts_with(mutation.step.name()), "expected a failure of {}, found: {words}", mutation.step.name());
    for text in mutation.says {
        ensure!(words.contains(text), "expected a failure that says {text:?}, found: {words}");
    }
    Ok(words)
}

/// A copy of a folder below the demo's own, and the folder so many levels above it.
fn copied(from: &Path, folder: &Path, name: &str, above: usize) -> Result<PathBuf> {
    let to = folder.join(name);
    copy(from, &to)?;
    to.ancestors().nth(above).map(Path::to_owned).context("a folder has a parent")
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let mut bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    change(&mut bytes);
    Ok(std::fs::write(path, bytes)?)
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).with_context(|| path.display().to_string())?)?;
    change(&mut value);
    Ok(std::fs::write(path, serde_json::to_vec(&value)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_mutation_and_every_mutation_a_name_of_its_own() {
        for step in [
            Step::Evidence,
            Step::Network,
            Step::PrivateData,
            Step::WhoSawIt,
            Step::Verify,
            Step::Attacks,
            Step::PrivateAi,
        ] {
            assert!(MUTATIONS.iter().any(|mutation| mutation.step == step), "{}", step.name());
        }
        for mutation in &MUTATIONS {
            assert!(std::ptr::eq(find(mutation.name).unwrap(), mutation));
            assert!(!mutation.says.is_empty(), "{}", mutation.name);
        }
        assert!(find("none-of-them").is_err());
    }

    #[test]
    fn only_the_failure_that_was_meant_counts() {
        let mutation = find("bundle-unaltered").unwrap();
        let meant = || anyhow::anyhow!("expected that none is accepted, found 1: altered bundles");
        assert!(verdict(mutation, Err(meant().context(Step::Attacks.name()))).is_ok());
        assert!(verdict(mutation, Err(meant().context(Step::Verify.name()))).is_err());
        assert!(verdict(mutation, Err(anyhow::anyhow!("no network").context(Step::Attacks.name()))).is_err());
        assert!(verdict(mutation, Ok(())).is_err());
    }
}
