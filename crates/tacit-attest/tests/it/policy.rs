//! The documentation of policies is true, and the format keeps its hashes.

use std::collections::BTreeSet;

use tacit_attest::*;

const DOCUMENT: &str = include_str!("../../../../docs/policy.md");

/// The example with a certificate in the place of its placeholder.
fn example() -> String {
    use base64::Engine as _;
    let start = DOCUMENT.find("```toml\n").unwrap() + "```toml\n".len();
    let end = start + DOCUMENT[start..].find("```").unwrap();
    let certificate = base64::engine::general_purpose::STANDARD.encode(&crate::forge::forge().ark);
    DOCUMENT[start..end].replace("BASE64", &certificate)
}

/// Every field of a policy, as dotted names.
fn fields(value: &toml::Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_table().unwrap() {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(_) if !["measurements", "events"].contains(&key.as_str()) => fields(value, &name, found),
            _ => {
                found.insert(name);
            }
        }
    }
}

#[test]
fn the_documented_example_is_read_and_names_every_field() {
    let policy = Policy::from_toml(&example()).unwrap();
    // Written again, nothing is left out: the example gives every field another value than it has without.
    let mut documented = BTreeSet::new();
    fields(&toml::from_str(&example()).unwrap(), "", &mut documented);
    let mut written = BTreeSet::new();
    fields(&toml::from_str(&policy.to_toml().unwrap()).unwrap(), "", &mut written);
    documented.remove("chips.minimum_grade");
    assert_eq!(documented, written);
    assert_eq!(Policy::from_json(&policy.canonical().unwrap()), Ok(policy));
    // And the table explains each of them.
    let table = &DOCUMENT[DOCUMENT.find("## Fields").unwrap()..];
    for field in &documented {
        let group = format!("`{}.*`", field.split('.').next().unwrap());
        assert!(table.contains(&format!("`{field}`")) || table.contains(&group), "{field} is not explained");
    }
}

#[test]
fn a_policy_of_before_keeps_its_canonical_form() {
    // As the first version of this crate wrote the preset.
    let before = concat!(
        r#"{"chips":{"allow":[],"deny":[]},"denied_classes":["epyc-milan"],"extra_roots":[],"max_collateral_age":2678400,"#,
        r#""measurements":"any","name":"standard","roots":["intel-sgx","amd-milan","amd-genoa","amd-turin"],"#,
        r#""tcb":{"accept":["UpToDate","SWHardeningNeeded","ConfigurationNeeded","ConfigurationAndSWHardeningNeeded","#,
        r#""TDRelaunchAdvised","TDRelaunchAdvisedConfigurationNeeded"],"denied_advisories":[],"grace":[],"#,
        r#""minimum_crl_numbers":[0,0],"minimum_evaluation_number":0,"snp_minimum":[]},"version":1}"#,
    );
    let policy = Policy::from_json(before.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(policy.canonical().unwrap()).unwrap(), before);
    assert_eq!(
        policy.hash().unwrap().to_string(),
        "0x36a9688ae201266b54fda389ae3084280bca6df4c8deb321c862204de4b64e5c"
    );
    // What it does not say has the safe value.
    assert_eq!((policy.snp.crl, policy.snp.max_vmpl), (Presence::Required, 0));
    assert!(policy.snp.vlek_providers.is_empty() && policy.tdx.extra_attributes.is_empty());
}

#[test]
fn each_field_changes_the_hash() {
    let hash = |text: &str| Policy::from_toml(text).unwrap().hash().unwrap();
    let example = example();
    let whole = hash(&example);
    let mut hashes = BTreeSet::new();
    for line in example.lines().filter(|line| line.contains(" = ") && !line.starts_with(['v', 's', 'c'])) {
        // Without the line the policy is another one, if it is one at all.
        let without: String = example.lines().filter(|other| *other != line).map(|line| format!("{line}\n")).collect();
        if let Ok(policy) = Policy::from_toml(&without) {
            let found = policy.hash().unwrap();
            if !line.starts_with("minimum_grade") && !line.starts_with("allow =") {
                assert_ne!(found, whole, "{line}");
                assert!(hashes.insert(found), "{line}");
            }
        }
    }
    assert!(hashes.len() > 30, "{}", hashes.len());
}

#[test]
fn slips_in_the_new_fields_are_refused() {
    let example = example();
    assert!(Policy::from_toml(&example).is_ok());
    let refuse = |from: &str, to: &str| {
        assert!(example.contains(from), "{from}");
        assert!(Policy::from_toml(&example.replace(from, to)).is_err(), "{to}");
    };
    refuse(r#"crl = "if-present""#, r#"crl = "never""#);
    refuse(r#"crl = "if-present""#, "crl = false");
    refuse("max_vmpl = 1", "max_vmpl = 4");
    refuse("alias-check", "alias");
    refuse("single-socket", "one-socket");
    refuse("grade = 2", "grade = 0");
    refuse(r#"host_data = ["99"]"#, r#"host_data = ["0x99"]"#);
    refuse(r#"host_data = ["99"]"#, r#"host_data = ["9A"]"#);
    refuse(r#"allowed_xfam = "00000000000602e7""#, r#"allowed_xfam = "0602e7""#);
    refuse("extra_misc_select", "extra_misc");
    refuse("[diversity]", "[diversities]");
    refuse("per_vendor", "per_vender");
    refuse(
        r#"compose-hash = ["5555555555555555555555555555555555555555555555555555555555555555"]"#,
        "compose-hash = []",
    );
    refuse("dynamic-platform", "dynamic");
    refuse("perfmon", "debug");
}
