//! `tacit function`.

use tacit_api::{FunctionRecord, limits::MAX_BLOB};
use tacit_client::Client;
use tacit_ledger::At;
use tacit_types::{FunctionId, manifest::Manifest};

use super::{CommandResult, Environment, client_error, deploy, resolve_function};
use crate::{
    arguments::FunctionCommand,
    error::{CommandError, Exit},
    output,
};

pub async fn run(command: &FunctionCommand, environment: &Environment) -> CommandResult {
    let client = environment.client(None)?;
    match command {
        FunctionCommand::List(flag) => list(&client, flag.json).await?,
        FunctionCommand::Show(arguments) => {
            let id = resolve_function(&client, &arguments.function)?;
            show(&client, id, arguments.json).await?;
        }
        FunctionCommand::Upgrade(arguments) => {
            let id = resolve_function(&client, &arguments.function)?;
            let package = deploy::build(&arguments.path)?;
            let name = &package.manifest().function.name;
            let caller = client.caller().ok_or_else(|| client_error(tacit_client::ClientError::NoKey))?;
            if client.function_id(caller, name).map_err(client_error)? != id {
                return Err(CommandError::hinted(
                    anyhow::anyhow!(
                        "the manifest in {} is of your function {name:?}, not of {}",
                        arguments.path.display(),
                        arguments.function
                    ),
                    "name the function that the folder holds; only its owner can upgrade it",
                ));
            }
            client.function(id).await.map_err(|error| {
                let mut error = client_error(error);
                error.hint = Some("a function that does not exist yet is made with `tacit deploy`".into());
                error
            })?;
            deploy::publish(&client, &package, arguments.json).await?;
        }
        FunctionCommand::Freeze(argument) => {
            let id = resolve_function(&client, &argument.function)?;
            let writer = client.writer().map_err(client_error)?;
            let outcome = writer.freeze_function(id).await.map_err(|error| client_error(error.into()))?;
            output::note(format!("frozen for ever, final at block {}", outcome.block));
            output::line(id)?;
        }
    }
    Ok(Exit::Ok)
}

async fn list(client: &Client, json: bool) -> Result<(), CommandError> {
    let owner = client.caller().ok_or_else(|| client_error(tacit_client::ClientError::NoKey))?;
    let ledger = client.ledger().map_err(client_error)?;
    let mut records = Vec::new();
    for (id, _) in ledger.functions_of(owner, At::Final).await.map_err(|error| client_error(error.into()))? {
        records.push(client.function(id).await.map_err(client_error)?);
    }
    if json {
        return output::json(&records);
    }
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            vec![
                record.name.clone(),
                record.id.to_string(),
                format!("version {}", record.versions),
                frozen(record).into(),
            ]
        })
        .collect();
    output::bytes(output::table(&rows).as_bytes())
}

async fn show(client: &Client, id: FunctionId, json: bool) -> Result<(), CommandError> {
    let record = client.function(id).await.map_err(client_error)?;
    let manifest = client.manifest(&record).await.map_err(client_error)?;
    if json {
        return output::json(
            &serde_json::json!({"function": record, "manifest": manifest, "couldTalkTo": manifest.could_talk_to()}),
        );
    }
    output::bytes(render(&record, &manifest).as_bytes())
}

const fn frozen(record: &FunctionRecord) -> &'static str {
    if record.frozen { "frozen" } else { "" }
}

fn render(record: &FunctionRecord, manifest: &Manifest) -> String {
    let mut rows = vec![
        vec!["function".to_owned(), record.id.to_string()],
        vec!["name".into(), record.name.clone()],
        vec!["owner".into(), record.owner.to_string()],
        vec![
            "version".into(),
            format!("{} since {} {}", record.versions, record.activation, frozen(record)).trim_end().to_owned(),
        ],
        vec!["code".into(), record.code_hash.to_string()],
        vec![
            "upgrades".into(),
            if record.frozen {
                "never".into()
            } else {
                format!("count {} s after they are announced", record.upgrade_delay)
            },
        ],
        vec!["could talk to".into(), manifest.could_talk_to()],
        vec!["workers".into(), format!("at least by policy {}", manifest.trust.policy)],
    ];
    if record.secrets_version > 0 {
        rows.push(vec!["secrets".into(), format!("set {}", record.secrets_version)]);
    }
    for method in &manifest.method {
        let kind = match method.kind {
            tacit_types::manifest::MethodKind::Command => "command",
            tacit_types::manifest::MethodKind::Query => "query",
        };
        rows.push(vec!["method".into(), format!("{} ({kind})", method.name)]);
    }
    output::table(&rows)
}

/// A manifest is far smaller than the largest blob.
const _: () = assert!(tacit_types::manifest::MAX_BYTES <= MAX_BLOB);

#[cfg(test)]
mod tests {
    use super::*;
    use tacit_types::{Address, CodeHash, Digest, ManifestHash, UnixTime};

    #[test]
    fn the_human_form() {
        let record = FunctionRecord {
            id: FunctionId::from([1; 32]),
            owner: Address::from([2; 20]),
            name: "my-oracle".into(),
            versions: 3,
            code_hash: CodeHash::from([4; 32]),
            manifest_hash: ManifestHash::ZERO,
            uri: String::new(),
            activation: UnixTime(1_795_345_499),
            key_epoch: 0,
            frozen: true,
            upgrade_delay: 0,
            secrets_digest: Digest::ZERO,
            secrets_version: 0,
        };
        let manifest = Manifest::from_toml(
            "[function]\nname = \"my-oracle\"\n[[method]]\nname = \"last\"\nkind = \"query\"\n[egress]\nallow = [\"api.example.com\"]\n",
        )
        .unwrap();
        insta::assert_snapshot!(render(&record, &manifest));
    }
}
