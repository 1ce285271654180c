//! `tacit new`: a folder with a function that deploys as it is.

use std::path::Path;

use anyhow::Context as _;

use super::CommandResult;
use crate::{
    arguments::{NewArguments, Template},
    context::is_name,
    error::{CommandError, Exit},
    output,
};

/// What editors and `tsc` need to know of the module "tacit".
const TYPES: (&str, &str) = ("src/tacit.d.ts", include_str!("../../templates/tacit.d.ts"));
/// How editors and `tsc` read the sources.
const TYPESCRIPT: (&str, &str) = ("tsconfig.json", include_str!("../../templates/tsconfig.json"));

/// A template's files. `{{name}}` stands for the function's name.
fn files(template: Template) -> &'static [(&'static str, &'static str)] {
    match template {
        Template::Ts => &[
            ("tacit.toml", include_str!("../../templates/ts/tacit.toml")),
            ("src/index.ts", include_str!("../../templates/ts/src/index.ts")),
            TYPES,
            TYPESCRIPT,
        ],
        Template::Js => &[
            ("tacit.toml", include_str!("../../templates/js/tacit.toml")),
            ("src/index.js", include_str!("../../templates/js/src/index.js")),
        ],
        Template::Oracle => &[
            ("tacit.toml", include_str!("../../templates/oracle/tacit.toml")),
            ("src/index.ts", include_str!("../../templates/oracle/src/index.ts")),
            TYPES,
            TYPESCRIPT,
        ],
    }
}

pub fn run(arguments: &NewArguments) -> CommandResult {
    let name = &arguments.name;
    if !is_name(name) {
        return Err(CommandError::usage(
            format!("{name:?} is not a function's name"),
            "1 to 63 of the characters a-z, 0-9 and -",
        ));
    }
    write(Path::new(name), name, arguments.template)?;
    let example = match arguments.template {
        Template::Ts | Template::Js => "greet '{\"name\":\"Ada\"}'",
        Template::Oracle => "price '{\"pair\":\"BTC-USD\"}'",
    };
    output::note(format!("made {name}/; next: cd {name} && tacit deploy && tacit call {name} {example}"));
    output::line(name)?;
    Ok(Exit::Ok)
}

fn write(folder: &Path, name: &str, template: Template) -> Result<(), CommandError> {
    let make = || format!("could not make the folder {}", folder.display());
    std::fs::create_dir(folder)
        .with_context(make)
        .map_err(|error| CommandError::hinted(error, "choose another name"))?;
    for (file, text) in files(template) {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).with_context(make)?;
        std::fs::write(&path, text.replace("{{name}}", name))
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;
    use tacit_client::Package;

    #[test]
    fn every_template_builds() {
        for template in Template::value_variants() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("my-function");
            write(&path, "my-function", *template).unwrap();
            let package = Package::build(&path).unwrap();
            assert_eq!(package.manifest().function.name, "my-function");
            assert!(write(&path, "my-function", *template).is_err());
        }
    }
}
