//! Where the anvil binary is.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::error::LedgerError;

/// Places to look for anvil, in this order.
#[derive(Debug, Clone, Default)]
pub struct AnvilSearch {
    /// A file named outright (`TACIT_ANVIL`); if given, nothing else counts.
    pub named: Option<PathBuf>,
    /// A list of folders (`PATH`).
    pub path: Option<OsString>,
    /// The cache that the bootstrap fills (`~/.cache/tacit`): `anvil` or `anvil/anvil` in it.
    pub cache: Option<PathBuf>,
    /// A folder inside a checkout: its `contracts/node_modules`, or that of a folder above.
    pub checkout: Option<PathBuf>,
}

impl AnvilSearch {
    /// From the environment of this process; for `main`.
    pub fn from_environment() -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        Self {
            named: std::env::var_os("TACIT_ANVIL").filter(|value| !value.is_empty()).map(PathBuf::from),
            path: std::env::var_os("PATH"),
            cache: home.map(|home| home.join(".cache/tacit")),
            checkout: std::env::current_dir().ok(),
        }
    }

    /// The first that is a file.
    ///
    /// # Errors
    /// [`LedgerError::NoAnvil`] with the places that were tried.
    pub fn find(&self) -> Result<PathBuf, LedgerError> {
        if let Some(named) = &self.named {
            return if named.is_file() { Ok(named.clone()) } else { Err(nothing(std::slice::from_ref(named))) };
        }
        let mut tried: Vec<PathBuf> = Vec::new();
        tried.extend(self.path.iter().flat_map(std::env::split_paths).map(|folder| folder.join("anvil")));
        tried.extend(self.cache.iter().flat_map(|cache| [cache.join("anvil"), cache.join("anvil/anvil")]));
        tried.extend(self.checkout.iter().flat_map(|folder| folder.ancestors()).map(in_checkout));
        match tried.iter().find(|candidate| candidate.is_file()) {
            Some(found) => Ok(found.clone()),
            None => Err(nothing(&tried)),
        }
    }
}

fn in_checkout(folder: &Path) -> PathBuf {
    let cpu = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let system = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    folder.join(format!("contracts/node_modules/@foundry-rs/anvil-{system}-{cpu}/bin/anvil"))
}

fn nothing(tried: &[PathBuf]) -> LedgerError {
    let looked_at = tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    LedgerError::NoAnvil { looked_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_tried_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, b"").unwrap();
            path
        };
        let mut search = AnvilSearch { checkout: Some(folder.path().join("crates/x")), ..AnvilSearch::default() };
        assert!(matches!(search.find(), Err(LedgerError::NoAnvil { .. })));
        let in_checkout = place(in_checkout(Path::new("")).to_str().unwrap());
        assert_eq!(search.find().unwrap(), in_checkout);
        let in_cache = place("cache/anvil/anvil");
        search.cache = Some(folder.path().join("cache"));
        assert_eq!(search.find().unwrap(), in_cache);
        let in_path = place("bin/anvil");
        search.path = Some(folder.path().join("bin").into_os_string());
        assert_eq!(search.find().unwrap(), in_path);
        let named = place("named");
        search.named = Some(named.clone());
        assert_eq!(search.find().unwrap(), named);
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error_even_if_others_are_there() {
        let search = AnvilSearch { named: Some("/nowhere/anvil".into()), ..AnvilSearch::from_environment() };
        let text = search.find().unwrap_err().to_string();
        assert!(text.contains("/nowhere/anvil") && text.contains("make bootstrap"), "{text}");
    }
}
