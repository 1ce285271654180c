use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use object_store::{ObjectStore, local::LocalFileSystem};

use crate::error::StoreError;

/// Age after which a file that an interrupted write left behind is removed.
const LEFTOVER_AGE: Duration = Duration::from_secs(3_600);

/// Opens (and creates) a folder of the local disk as a store in which a finished write survives a power cut: the file, its
/// folder and every folder made for it are flushed before the write counts.
///
/// # Errors
/// [`StoreError::Folder`] when the folder cannot be made or read.
pub fn open_local(folder: &Path) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let failed = |source| StoreError::Folder { path: folder.display().to_string(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    }
    remove_leftovers(folder).map_err(failed)?;
    Ok(Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true)))
}

/// Removes staging files (`name#number`) of writes that a crash interrupted.
fn remove_leftovers(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            remove_leftovers(&entry.path())?;
        } else if kind.is_file() && is_staging(&entry.file_name().to_string_lossy()) {
            let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if age >= LEFTOVER_AGE {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn is_staging(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_staging_files_are_removed_and_new_ones_kept() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("function");
        fs::create_dir(&inner).unwrap();
        let file = |name: &str, age: u64| {
            let file = fs::File::create(inner.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        file("object#1", 7_200);
        file("object#2", 0);
        file("object", 7_200);
        open_local(folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(&inner).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["object", "object#2"]);
    }
}
