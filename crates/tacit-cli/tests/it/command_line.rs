//! What needs no network: exit statuses, streams, hints.

use crate::tool::Tool;

#[test]
fn a_wrong_command_line_exits_with_2_and_says_nothing_on_stdout() {
    let tool = Tool::new();
    for arguments in [
        &["frobnicate"][..],
        &["call"],
        &["up", "--workers", "0"],
        &["verify", "x", "--policy", "no-such-policy"],
        &["new", "Not_A_Name"],
    ] {
        let run = tool.run(arguments).exits(2);
        assert_eq!(run.out, "", "{arguments:?}");
        assert!(!run.err.is_empty(), "{arguments:?}");
    }
    let run = tool.run(&["up", "--gatekeepers", "3", "--threshold", "4"]).exits(2);
    assert!(run.err.contains("hint:"), "{}", run.err);
}

#[test]
fn help_goes_to_stdout_with_status_0() {
    let run = Tool::new().run(&["call", "--help"]).exits(0);
    assert!(run.out.contains("Examples:") && run.err.is_empty());
}

#[test]
fn without_a_network_the_hint_names_the_command_that_starts_one() {
    let run = Tool::new().run(&["call", "hello", "greet"]).exits(1);
    assert!(run.err.contains("hint: ") && run.err.contains("`tacit up`"), "{}", run.err);
    assert_eq!(run.out, "");
}

#[test]
fn what_cannot_be_read_or_trusted_is_refused() {
    let tool = Tool::new();
    let run = tool.run(&["verify", "no-such-file.json"]).exits(3);
    assert!(run.err.contains("no-such-file.json"));
    std::fs::write(tool.path().join("junk.json"), "{}").unwrap();
    let run = tool.run(&["verify", "junk.json", "--json"]).exits(3);
    assert_eq!(run.json()["verdict"], "refused");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/golden.receipt.json");
    let run = tool.run(&["verify", golden, "--json"]).exits(3);
    let report = run.json();
    let anchor = report["steps"].as_array().unwrap().iter().find(|step| step["step"] == "anchor").unwrap();
    assert_eq!(anchor["ok"], false);
    assert!(anchor["error"].as_str().unwrap().contains("--deployment"));
}

#[test]
fn the_golden_receipt_is_simulated_verified_or_refused() {
    let tool = Tool::new();
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors");
    let golden = format!("{vectors}/golden.receipt.json");
    let deployment = format!("{vectors}/golden.deployment.json");
    let run = tool.run(&["verify", &golden, "--deployment", &deployment, "--policy", "dev"]).exits(0);
    assert_eq!(run.out.lines().last(), Some("VERIFIED"));
    let run = tool.run(&["verify", &golden, "--deployment", &deployment]).exits(4);
    assert_eq!(run.out.lines().last(), Some("SIMULATED"));
    assert!(run.out.contains("could talk to:"), "{}", run.out);
    // A context with the bundle's cluster id is an anchor too.
    tool.run(&["context", "add", "golden", "--deployment", &deployment]).exits(0);
    tool.run(&["verify", &golden, "--policy", "dev"]).exits(0);
    let bytes = std::fs::read(&golden).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let path = tool.path().join("altered.json");
        std::fs::write(&path, altered).unwrap();
        let run =
            tool.run(&["verify", path.to_str().unwrap(), "--deployment", &deployment, "--policy", "dev"]).exits(3);
        assert!(run.out.lines().last().unwrap().starts_with("REFUSED: "), "byte {at}: {}", run.out);
    }
}

#[test]
fn a_new_function_is_made_once() {
    let tool = Tool::new();
    let run = tool.run(&["new", "my-oracle", "--template", "oracle"]).exits(0);
    assert_eq!(run.out, "my-oracle\n");
    assert!(tool.path().join("my-oracle/src/index.ts").is_file());
    let run = tool.run(&["new", "my-oracle"]).exits(1);
    assert!(run.err.contains("hint:"), "{}", run.err);
}

#[test]
fn a_key_in_the_environment_is_read_and_never_printed() {
    let tool = Tool::new();
    let secret = "0xZZZZ1f00d1f00d1f00d1f00d1f00d1f00d1f00d1f00d1f00d1f00d1f00d1f00d1f";
    let deployment = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/golden.deployment.json");
    tool.run(&["context", "add", "golden", "--deployment", deployment]).exits(0);
    tool.run(&["context", "use", "golden"]).exits(0);
    let run = tool
        .run_with(&["call", "hello", "greet"], |command| {
            command.env("TACIT_KEY", secret);
        })
        .exits(1);
    assert!(run.err.contains("TACIT_KEY") && !run.err.contains("1f00d"), "{}", run.err);
}

#[test]
fn a_manifest_with_a_key_that_nobody_knows_is_refused_by_that_key() {
    let tool = Tool::new();
    tool.run(&["new", "hello"]).exits(0);
    let path = tool.path().join("hello/tacit.toml");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let deployment = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/golden.deployment.json");
    tool.run(&["context", "add", "golden", "--deployment", deployment]).exits(0);
    tool.run(&["context", "use", "golden"]).exits(0);
    for (more, key) in [("[upgrade]\nfrozzen = true\n", "frozzen"), ("[lease]\nseconds = 1\n", "lease")] {
        std::fs::write(&path, format!("{manifest}\n{more}")).unwrap();
        let run = tool.run(&["deploy", "hello"]).exits(1);
        assert!(run.err.contains(key) && run.err.contains("tacit.toml"), "{}", run.err);
        assert_eq!(run.out, "");
    }
}

/// Intel's own documents beside the quotes that ship in the registry, as `make evidence` gathered them.
fn real(name: &str) -> String {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
    let cache = cache.unwrap_or_else(|| std::path::PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("tacit/evidence").join(name).display().to_string()
}

#[test]
fn a_machine_is_told_what_is_short_and_what_raises_it() {
    let tool = Tool::new();
    let (machine, documents) = (real("intel-tdx-v5-old.bin"), real("intel-tdx-v5-old.collateral.json"));
    let run = tool.run(&["tcb", "status", "--machine", &machine, "--documents", &documents]).exits(0);
    assert!(run.out.contains("intel-tdx-v5-old.bin  Intel TDX, platform family "), "{}", run.out);
    assert!(run.out.contains("short: ") && run.out.contains(" raised by "), "{}", run.out);
    let json =
        tool.run(&["worker", "check", "--machine", &machine, "--documents", &documents, "--json"]).exits(0).json();
    let forecast = &json[0]["forecasts"][0];
    assert!(forecast["shortfalls"][0]["shortBy"].as_u64().unwrap() > 0, "{json}");

    // A profile of the machine says the same as its quote.
    std::fs::write(tool.path().join("rack-3.json"), json[0]["profile"].to_string()).unwrap();
    let again = tool.run(&["tcb", "status", "--machine", "rack-3.json", "--documents", &documents, "--json"]).exits(0);
    assert_eq!(again.json()[0]["forecasts"], json[0]["forecasts"]);
}

#[test]
fn a_rehearsal_tells_who_falls_out_by_its_exit_status() {
    let tool = Tool::new();
    let (old, documents) = (real("intel-tdx-v5-old.bin"), real("intel-tdx-v5-old.collateral.json"));
    let run = tool.run(&["tcb", "rehearse", "--machine", &old, "--documents", &documents]).exits(3);
    assert!(run.out.contains("0 stay, 1 fall out") && run.out.contains("falls  intel-tdx-v5-old.bin"), "{}", run.out);
    let (current, documents) = (real("intel-tdx-v4.bin"), real("intel-tdx-v4.collateral.json"));
    let run = tool.run(&["tcb", "rehearse", "--machine", &current, "--documents", &documents, "--json"]).exits(0);
    assert_eq!(run.json()["stays"].as_array().unwrap().len(), 1);

    // Documents of another family are about nobody here, and AMD publishes none.
    let other = real("intel-sgx-v3.collateral.json");
    let run = tool.run(&["tcb", "status", "--machine", &current, "--documents", &other]).exits(1);
    assert!(run.err.contains("no document is about intel-tdx-v4.bin") && run.err.contains("hint:"), "{}", run.err);
    let run = tool.run(&["tcb", "status", "--machine", &real("amd-genoa.bin"), "--documents", &other]).exits(1);
    assert!(run.err.contains("neither a machine's profile nor an Intel quote"), "{}", run.err);
}

#[test]
fn evidence_without_collateral_says_which_is_missing_and_how_to_get_it() {
    let tool = Tool::new();
    let run = tool.run(&["verify", &real("intel-tdx-v4.bin")]).exits(5);
    for part in ["Intel's collateral for Intel TDX machines of platform family (FMSPC) ", "`tacit tcb collateral FILE"]
    {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
    // An old report does not say of which generation its chip is.
    let run = tool.run(&["verify", &real("amd-milan-v2.bin")]).exits(5);
    assert!(run.out.contains("AMD's certificates of this chip (ASK, VCEK)"), "{}", run.out);
    // Only this command fetches, from the service that it is told.
    let quote = real("intel-tdx-v4.bin");
    let run = tool.run(&["tcb", "collateral", &quote, "--pccs", "http://127.0.0.1:9/"]).exits(1);
    assert!(run.out.is_empty() && run.err.contains("cannot be reached") && run.err.contains("--pccs"), "{}", run.err);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    tool.run(&["tcb", "collateral", manifest]).exits(3);
}

/// Every sample under the policy that is committed for them, each at its own time.
#[test]
fn recorded_samples_verify_under_the_committed_policy() {
    let tool = Tool::new();
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/policies/samples.toml");
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(real("index.json")).unwrap()).unwrap();
    let entries = ["samples", "gpus"].map(|kind| index[kind].as_array().unwrap().clone()).concat();
    let mut verified = 0;
    for entry in &entries {
        let text = |name: &str| entry[name].as_str().unwrap();
        let mut arguments = vec!["verify".to_owned(), real(text("file"))];
        arguments.extend(["--policy", policy, "--at", text("at")].map(str::to_owned));
        for part in ["file", "ask", "vcek"] {
            if let Some(file) = entry["collateral"][part].as_str() {
                arguments.extend(["--collateral".to_owned(), real(file)]);
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // One quote is of a platform that Intel's documents do not know any more, one GPU's signature was spoiled.
        let refused = match text("name") {
            "intel-tdx-v5-old" => Some("below every TCB level"),
            "nvidia-hopper-560-bad-signature" => Some("signature"),
            _ => None,
        };
        let run = tool.run(&arguments).exits(if refused.is_some() { 3 } else { 0 });
        println!("{}\n{}", text("name"), run.out);
        match refused {
            None => assert_eq!(run.out.lines().last(), Some("VERIFIED"), "{}", text("name")),
            Some(reason) => assert!(run.out.to_lowercase().contains(&reason.to_lowercase()), "{}", run.out),
        }
        verified += usize::from(refused.is_none());
    }
    assert!(verified >= 4, "{verified} of {}", entries.len());
}
