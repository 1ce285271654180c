//! `tacit worker check`: which evidence this machine could make, and what it would need for the rest.

use std::path::Path;

use serde::Serialize;
use tacit_platform::{Driver, Needs, detect, needs};

use super::CommandResult;
use crate::{error::Exit, output};

/// What is known about one kind of trusted hardware on this machine.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    /// The device files that were found.
    found: Vec<Device>,
    #[serde(flatten)]
    needs: Needs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    kind: &'static str,
    path: String,
    has_driver: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// True if a worker on this machine can make evidence without a guest agent.
    can_attest: bool,
    platforms: Vec<Checked>,
}

fn look(root: &Path) -> Report {
    let found = detect(root);
    let platforms = needs().into_iter().map(|needs| {
        let found = found.iter().filter(|found| needs.devices.contains(&found.device)).map(|found| Device {
            kind: found.device.name(),
            path: format!("/{}", found.path.strip_prefix(root).unwrap_or(&found.path).display()),
            has_driver: found.device.has_driver(),
        });
        Checked { found: found.collect(), needs }
    });
    Report { can_attest: Driver::find(root).is_some(), platforms: platforms.collect() }
}

pub fn check(json: bool, root: &Path) -> CommandResult {
    let report = look(root);
    if json {
        output::json(&report)?;
    } else {
        output::bytes(text(&report).as_bytes())?;
    }
    if !report.can_attest {
        output::note("no TEE on this machine: a worker here needs a simulated chip, under a simulated root");
    }
    Ok(Exit::Ok)
}

/// One paragraph for each kind of hardware.
fn text(report: &Report) -> String {
    let mut text = String::new();
    for checked in &report.platforms {
        let needs = &checked.needs;
        text += &format!("{}\n", needs.platform);
        for device in &checked.found {
            let driver = if device.has_driver { "a worker can use it" } else { "no driver for it" };
            text += &format!("  found    {} ({}; {driver})\n", device.path, device.kind);
        }
        if checked.found.is_empty() {
            text += "  not on this machine. It would need:\n";
            for (name, need) in [
                ("hardware", needs.hardware),
                ("BIOS", needs.firmware),
                ("host", needs.host),
                ("guest", needs.guest),
                ("device", needs.device),
            ] {
                text += &format!("  {name:<8} {need}\n");
            }
        }
        text += &format!("  worker   {}\n\n", needs.worker);
    }
    text += "None of these has been tried on hardware by this project; docs/hardware.md keeps the list.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_any_is_told_what_each_needs() {
        let root = tempfile::tempdir().unwrap();
        let report = look(root.path());
        assert!(!report.can_attest);
        assert!(report.platforms.iter().all(|checked| checked.found.is_empty()));
        let text = text(&report);
        for word in ["Intel TDX", "AMD SEV-SNP", "Gramine", "dstack", "Nitro", "NVIDIA"] {
            assert!(text.contains(word), "{word}");
        }
        for word in ["BIOS     ", "sev_snp=1", "group", "/dev/sgx_enclave", "Linux 6.7"] {
            assert!(text.contains(word), "{word}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["canAttest"], false);
        assert_eq!(json["platforms"][0]["platform"], "Intel TDX");
    }

    #[test]
    fn devices_are_found_by_their_files() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/sev-guest"), "").unwrap();
        std::fs::write(root.path().join("dev/nsm"), "").unwrap();
        let report = look(root.path());
        assert!(report.can_attest);
        let found: Vec<(&str, &str)> = report
            .platforms
            .iter()
            .flat_map(|checked| checked.found.iter().map(|device| (checked.needs.platform, device.path.as_str())))
            .collect();
        assert_eq!(found, [("AMD SEV-SNP", "/dev/sev-guest"), ("AWS Nitro Enclaves", "/dev/nsm")]);
        let text = text(&report);
        assert!(text.contains("found    /dev/sev-guest (AMD SEV-SNP guest; a worker can use it)"), "{text}");
        assert!(text.contains("found    /dev/nsm (AWS Nitro enclave; no driver for it)"), "{text}");
    }
}
