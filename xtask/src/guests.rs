//! `cargo xtask guests`: builds the guests from source and makes the shared, pre-initialised JavaScript image.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, Instance, Lift, Linker, WasmList};
use wasmtime::{Config, Engine, Store};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

/// Where artefacts go: `TACIT_GUESTS_DIR`, else `~/.cache/tacit/guests`.
fn artefacts() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TACIT_GUESTS_DIR") {
        return Ok(folder.into());
    }
    let home = std::env::home_dir().context("neither TACIT_GUESTS_DIR nor a home folder is known")?;
    Ok(home.join(".cache/tacit/guests"))
}

/// Builds every guest and writes the components and `digests.json` beside them.
///
/// # Errors
/// Fails when a tool is missing, a guest does not build, or its image cannot be made.
pub fn run(root: &Path) -> Result<()> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder).join("guests"),
        None => root.join("guests/target"),
    };
    build(&root.join("guests/tacit-js"), "wasm32-unknown-unknown", &target)?;
    let module = std::fs::read(target.join("wasm32-unknown-unknown/release/tacit_js.wasm"))?;
    let component = wit_component::ComponentEncoder::default().module(&module)?.encode().context("the engine is no component")?;
    let mut made = vec![("tacit-js.wasm", initialise(&component)?)];
    for (name, folder, file) in [("hello-rust.wasm", "examples/hello-rust", "hello_rust.wasm"), ("probe.wasm", "guests/probe", "probe.wasm")] {
        build(&root.join(folder), "wasm32-wasip2", &target)?;
        made.push((name, std::fs::read(target.join("wasm32-wasip2/release").join(file))?));
    }

    let output = artefacts()?;
    std::fs::create_dir_all(&output)?;
    let mut digests = serde_json::Map::new();
    for (name, bytes) in &made {
        let digest = hex(&Sha256::digest(bytes));
        replace(&output.join(name), bytes)?;
        println!("{} ({} bytes, sha256 {digest})", output.join(name).display(), bytes.len());
        digests.insert((*name).to_owned(), format!("sha256:{digest}").into());
    }
    replace(&output.join("digests.json"), format!("{:#}\n", serde_json::Value::from(digests)).as_bytes())
}

/// Compiles one guest. Paths are mapped away, so that the same toolchain makes the same bytes in every folder.
fn build(folder: &Path, triple: &str, target: &Path) -> Result<()> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let cargo_home = cargo_home.context("neither CARGO_HOME nor a home folder is known")?;
    let map = |from: &Path, to: &str| format!("{}={to}", from.display());
    let flags = [
        format!("--remap-path-prefix={}", map(&cargo_home, "/cargo")),
        format!("--remap-path-prefix={}", map(folder, "/guest")),
        format!("--remap-path-prefix={}", map(target, "/target")),
    ];
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--target", triple])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CC_wasm32_unknown_unknown", "clang-19")
        .env("AR_wasm32_unknown_unknown", "llvm-ar-19")
        .env("CFLAGS_wasm32_unknown_unknown", format!("-ffile-prefix-map={} -ffile-prefix-map={}", map(&cargo_home, "/cargo"), map(target, "/target")))
        .status()
        .context("cargo does not start")?;
    ensure!(status.success(), "{} does not build; clang-19, lld-19, llvm-19 and the target {triple} must be installed", folder.display());
    Ok(())
}

/// Runs `initialize` once and keeps the heap that it leaves.
fn initialise(component: &[u8]) -> Result<Vec<u8>> {
    let mut config = Config::new();
    config.wasm_relaxed_simd(false);
    let engine = Engine::new(&config)?;
    let mut wizer = Wizer::new();
    wizer.init_func("initialize").keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(component)?;
    let compiled = Component::new(&engine, &instrumented)?;
    let mut linker = Linker::<()>::new(&engine);
    // The engine asks the host for nothing while it is initialised: every import is a trap.
    linker.define_unknown_imports_as_traps(&compiled)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate_async(&mut store, &compiled).await?;
        instance.get_typed_func::<(), ()>(&mut store, "initialize")?.call_async(&mut store, ()).await?;
        let image = wizer.snapshot_component(&context, &mut Snapshot { store, instance }).await?;
        Component::new(&engine, &image).map_err(anyhow::Error::from).context("the image is not valid")?;
        Ok(image)
    })
}

/// Reads the initialised instance for the snapshot.
struct Snapshot {
    store: Store<()>,
    instance: Instance,
}

impl Snapshot {
    async fn read<R: Lift + Send + Sync + 'static, T>(&mut self, instance: &str, function: &str, read: impl FnOnce(&Store<()>, R) -> T) -> T {
        let (_, instance) = self.instance.get_export(&mut self.store, None, instance).expect("the instrumented component has its accessors");
        let (_, function) = self.instance.get_export(&mut self.store, Some(&instance), function).expect("the accessor has its function");
        let function = self.instance.get_typed_func::<(), (R,)>(&mut self.store, function).expect("the accessor has its type");
        let (value,) = function.call_async(&mut self.store, ()).await.expect("an accessor does not trap");
        read(&self.store, value)
    }
}

impl ComponentInstanceState for Snapshot {
    async fn call_func_ret_list_u8(&mut self, instance: &str, function: &str, contents: impl FnOnce(&[u8]) + Send) {
        self.read(instance, function, |store, list: WasmList<u8>| contents(list.as_le_slice(store))).await;
    }

    async fn call_func_ret_s32(&mut self, instance: &str, function: &str) -> i32 {
        self.read(instance, function, |_, value| value).await
    }

    async fn call_func_ret_s64(&mut self, instance: &str, function: &str) -> i64 {
        self.read(instance, function, |_, value| value).await
    }

    async fn call_func_ret_f32(&mut self, instance: &str, function: &str) -> u32 {
        self.read(instance, function, |_, value: f32| value.to_bits()).await
    }

    async fn call_func_ret_f64(&mut self, instance: &str, function: &str) -> u64 {
        self.read(instance, function, |_, value: f64| value.to_bits()).await
    }
}

/// Replaces a file only when its bytes change, so that nothing is rebuilt for nothing.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes)?;
    std::fs::rename(&partial, path)?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
