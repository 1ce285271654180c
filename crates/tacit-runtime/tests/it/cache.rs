//! Compiled code on disk is run only when its MAC is right.

use std::path::Path;

use tacit_runtime::{Call, CompiledCache, Engine, EngineConfig};

use crate::support::{MemoryHost, block_on, text};

fn start(folder: &Path, key: u8) -> Engine {
    let cache = Some(CompiledCache::new(folder.to_owned(), [key; 32]));
    let engine = Engine::new(EngineConfig { concurrency: 2, cache, ..EngineConfig::default() }).unwrap();
    let program = block_on(engine.compile_js("export const main = async () => 7;", None)).unwrap();
    let host = std::sync::Arc::new(MemoryHost::default());
    assert_eq!(text(&block_on(engine.call(&program, Call::query("main", "null", [1; 32]), host))), "7");
    engine
}

fn only_file(folder: &Path) -> std::path::PathBuf {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn altered_code_is_never_run() {
    let folder = tempfile::tempdir().unwrap();
    start(folder.path(), 1);
    let file = only_file(folder.path());
    let good = std::fs::read(&file).unwrap();
    // Taken as it is: the file is not written again.
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    start(folder.path(), 1);
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), written);
    // A flipped bit: made anew, and the same bytes as before.
    let mut altered = good.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(&file, &altered).unwrap();
    start(folder.path(), 1);
    assert!(std::fs::read(&file).unwrap() == good, "the altered file was not replaced");
    // The code of somebody with another key is altered code as well.
    start(folder.path(), 2);
    let other = std::fs::read(&file).unwrap();
    assert!(other != good && other[32..] == good[32..], "the MAC must differ and the code must not");
}
