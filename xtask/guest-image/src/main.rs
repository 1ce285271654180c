//! Makes the shared JavaScript image: a core module becomes a component, is initialised once, and its heap is kept.
//!
//! A program of its own, so that the other chores of xtask need no WebAssembly engine: `guest-image MODULE IMAGE`.

use anyhow::{Context as _, Result, bail};
use wasmtime::component::{Component, Instance, Lift, Linker, WasmList};
use wasmtime::{Config, Engine, Store};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, image] = arguments.as_slice() else { bail!("usage: guest-image MODULE IMAGE") };
    let module = std::fs::read(module).with_context(|| module.clone())?;
    let mut encoder = wit_component::ComponentEncoder::default().module(&module)?;
    let component = encoder.encode().context("the engine is no component")?;
    std::fs::write(image, initialise(&component)?).with_context(|| image.clone())
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
    async fn read<R: Lift + Send + Sync + 'static, T>(
        &mut self,
        instance: &str,
        function: &str,
        read: impl FnOnce(&Store<()>, R) -> T,
    ) -> T {
        let (_, instance) = self
            .instance
            .get_export(&mut self.store, None, instance)
            .expect("the instrumented component has its accessors");
        let (_, function) = self
            .instance
            .get_export(&mut self.store, Some(&instance), function)
            .expect("the accessor has its function");
        let function =
            self.instance.get_typed_func::<(), (R,)>(&mut self.store, function).expect("the accessor has its type");
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
