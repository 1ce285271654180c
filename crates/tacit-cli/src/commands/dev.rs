//! `tacit dev`: redeploys whenever a file of the function changes.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{CommandResult, Environment, deploy};
use crate::{error::Exit, output};

const LOOK: Duration = Duration::from_millis(250);
/// Most files that are watched.
const FILES: usize = 4_096;

pub async fn run(path: &Path, environment: &Environment) -> CommandResult {
    let client = environment.client(None)?;
    let mut seen = None;
    loop {
        let now = newest(path);
        if seen != Some(now) {
            seen = Some(now);
            let published = match deploy::build(path) {
                Ok(package) => deploy::publish(&client, &package, false).await.map(|_| ()),
                Err(error) => Err(error),
            };
            if let Err(error) = published {
                output::note(error.lines().trim_end());
            }
            output::note(format!("watching {} (end with Ctrl-C)", path.display()));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Ok),
        }
    }
}

/// Number of files and the newest change among them; hidden folders and `node_modules` are left out.
fn newest(root: &Path) -> (usize, Option<SystemTime>) {
    let (mut waiting, mut count, mut newest) = (vec![PathBuf::from(root)], 0, None);
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if count >= FILES || name.to_string_lossy().starts_with('.') || name == "node_modules" || name == "target" {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => waiting.push(entry.path()),
                Ok(metadata) => {
                    count += 1;
                    newest = newest.max(metadata.modified().ok());
                }
                Err(_) => {}
            }
        }
    }
    (count, newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_or_changed_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        let empty = newest(folder.path());
        std::fs::write(folder.path().join("src/a.ts"), "1").unwrap();
        let one = newest(folder.path());
        assert_ne!(empty, one);
        let file = std::fs::File::options().write(true).open(folder.path().join("src/a.ts")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        assert_ne!(newest(folder.path()), one);
        std::fs::create_dir(folder.path().join("node_modules")).unwrap();
        std::fs::write(folder.path().join("node_modules/b.js"), "1").unwrap();
        assert_eq!(newest(folder.path()).0, 1);
    }
}
