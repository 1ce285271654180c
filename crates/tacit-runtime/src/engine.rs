//! The engine: compiles programs and runs each call in a sandbox of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tacit_types::manifest::Body;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{
    AsContextMut as _, Config, Enabled, InstanceAllocationStrategy, OperatorCost, PoolingAllocationConfig, Store,
    StoreContextMut, Trap,
};
use zeroize::Zeroizing;

use crate::bindings::{engine as javascript, function};
use crate::cache::CompiledCache;
use crate::call::{Call, CallOutcome, Failure, Output};
use crate::error::RuntimeError;
use crate::host::{FetchRequest, FetchResponse, Host, HostError};
use crate::limits::{Limit, Limits};
use crate::sandbox::{Left, Phase, Sandbox};
use crate::trace::{MODULE, SourceMap};
use crate::{image, wasi};

/// Fuel between two points at which a call lets others run: well under a millisecond.
const SLICE: u64 = 5_000_000;
/// Bytes of a module's source or of a component.
const MODULE_SIZE: usize = 16 << 20;

/// Interfaces that a function may import of the world `tacit:function@1`.
const POWERS: [&str; 9] = ["types", "state", "chain", "secrets", "http", "log", "clock", "random", "request"];

/// How an engine is set up.
pub struct EngineConfig {
    /// Calls that run at the same time; more wait.
    pub concurrency: u32,
    /// Fuel that loading a module may use; it is not billed.
    pub load_fuel: u64,
    /// Where compiled code is kept; without it everything is compiled at each start.
    pub cache: Option<CompiledCache>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { concurrency: 128, load_fuel: 500_000_000, cache: None }
    }
}

/// Runs programs. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasmtime: wasmtime::Engine,
    linker: Linker<Sandbox>,
    javascript: javascript::EnginePre<Sandbox>,
    cache: Option<CompiledCache>,
    load_fuel: u64,
    places: Semaphore,
}

/// A program that calls can run. Cheap to clone.
#[derive(Clone)]
pub struct Program(Arc<ProgramInner>);

struct ProgramInner {
    code: Code,
    methods: Vec<String>,
}

enum Code {
    JavaScript { bytecode: Vec<u8>, sources: SourceMap },
    Component(function::FunctionPre<Sandbox>),
}

impl Program {
    /// Names of the methods.
    pub fn methods(&self) -> &[String] {
        &self.0.methods
    }

    /// Bytes that the program takes in memory beside the engine: bytecode for JavaScript, none known for a component.
    pub fn bytecode_size(&self) -> usize {
        match &self.0.code {
            Code::JavaScript { bytecode, .. } => bytecode.len(),
            Code::Component(_) => 0,
        }
    }
}

impl Engine {
    /// Starts an engine; compiles the JavaScript image, or takes it from the cache.
    ///
    /// # Errors
    /// Fails when wasmtime refuses the machine: too little address space, an unknown CPU.
    pub fn new(config: EngineConfig) -> Result<Self, RuntimeError> {
        let wasmtime = wasmtime::Engine::new(&wasmtime_config(config.concurrency)).map_err(RuntimeError::Engine)?;
        let compile = |wasm: &[u8]| match &config.cache {
            Some(cache) => cache.component(&wasmtime, wasm),
            None => Component::new(&wasmtime, wasm),
        };
        let mut linker = Linker::new(&wasmtime);
        link(&mut linker).map_err(RuntimeError::Engine)?;
        let image = compile(image::JAVASCRIPT).map_err(RuntimeError::Engine)?;
        let javascript =
            linker.instantiate_pre(&image).and_then(javascript::EnginePre::new).map_err(RuntimeError::Engine)?;
        let places = Semaphore::new(config.concurrency as usize);
        Ok(Self(Arc::new(Inner {
            wasmtime,
            linker,
            javascript,
            cache: config.cache,
            load_fuel: config.load_fuel,
            places,
        })))
    }

    /// Compiles one ES module inside a sandbox, and evaluates its top level once to learn its methods.
    ///
    /// # Errors
    /// Fails when the source or its source map is too large or broken, or the module's top level fails.
    pub async fn compile_js(&self, source: &str, source_map: Option<&str>) -> Result<Program, RuntimeError> {
        fits(source.len())?;
        let sources = source_map.map(SourceMap::parse).transpose()?.unwrap_or_default();
        let limits = Limits { memory: 512 << 20, timeout: 10_000, log_bytes: 64 << 10, ..Limits::default() };
        let call = Call { limits, ..Call::query("", Bytes::new(), [0; 32]) };
        let mut store = self.store(Arc::new(Nobody), call);
        let timeout = Duration::from_millis(store.data().limits.timeout);
        let compiled = async {
            let _place = self.place().await;
            let instance = self.0.javascript.instantiate_async(&mut store).await?;
            // Compiling costs more than loading.
            store.set_fuel(self.0.load_fuel.saturating_mul(8))?;
            instance.call_compile(&mut store, MODULE, source).await
        };
        let compiled = match tokio::time::timeout(timeout, compiled).await {
            Err(_) => return Err(RuntimeError::Module(Failure::Limit(Limit::Timeout))),
            Ok(Err(error)) => return Err(RuntimeError::Module(trapped(&error, Phase::Loading))),
            Ok(Ok(Err(failure))) => return Err(RuntimeError::Module(thrown(failure, &sources, ""))),
            Ok(Ok(Ok(compiled))) => compiled,
        };
        Ok(Program(Arc::new(ProgramInner {
            code: Code::JavaScript { bytecode: compiled.bytecode, sources },
            methods: compiled.methods,
        })))
    }

    /// Loads a component of the world `tacit:function@1`.
    ///
    /// # Errors
    /// Fails when the bytes are no component, or one that imports or exports something else.
    pub async fn load_component(&self, wasm: Bytes) -> Result<Program, RuntimeError> {
        fits(wasm.len())?;
        let engine = self.clone();
        let compiled = tokio::task::spawn_blocking(move || engine.component(&wasm)).await;
        let pre = compiled.map_err(|_| RuntimeError::Component("it cannot be compiled".into()))??;
        let call = Call::query("", Bytes::new(), [0; 32]);
        let mut store = self.store(Arc::new(Nobody), call);
        let timeout = Duration::from_millis(store.data().limits.timeout);
        let methods = async {
            let _place = self.place().await;
            let instance = pre.instantiate_async(&mut store).await?;
            instance.call_methods(&mut store).await
        };
        let methods = match tokio::time::timeout(timeout, methods).await {
            Err(_) => return Err(RuntimeError::Module(Failure::Limit(Limit::Timeout))),
            Ok(Err(error)) => return Err(RuntimeError::Module(trapped(&error, Phase::Loading))),
            Ok(Ok(methods)) => methods,
        };
        Ok(Program(Arc::new(ProgramInner { code: Code::Component(pre), methods })))
    }

    fn component(&self, wasm: &[u8]) -> Result<function::FunctionPre<Sandbox>, RuntimeError> {
        let invalid = |error: wasmtime::Error| RuntimeError::Component(format!("{error:#}"));
        let component = match &self.0.cache {
            Some(cache) => cache.component(&self.0.wasmtime, wasm),
            None => Component::new(&self.0.wasmtime, wasm),
        };
        let component = component.map_err(invalid)?;
        let mut linker = self.0.linker.clone();
        for (name, _) in component.component_type().imports(&self.0.wasmtime) {
            let known = name
                .strip_prefix("tacit:function/")
                .and_then(|name| name.strip_suffix("@1.0.0"))
                .is_some_and(|name| POWERS.contains(&name));
            if !known && !wasi::is_known(name) {
                return Err(RuntimeError::UnknownImport { name: name.to_owned() });
            }
        }
        let refused = |error: wasmtime::Error| RuntimeError::NotAFunction(format!("{error:#}"));
        wasi::link(&mut linker, &component).map_err(refused)?;
        linker.instantiate_pre(&component).and_then(function::FunctionPre::new).map_err(refused)
    }

    /// Runs one method in a fresh sandbox.
    pub async fn call(&self, program: &Program, call: Call, host: Arc<dyn Host>) -> CallOutcome {
        let timeout = Duration::from_millis(call.limits.timeout);
        let response = call.limits.response;
        let fuel = call.limits.fuel;
        let (method, input, format, seed) =
            (call.method.clone(), call.input.clone(), call.format, Zeroizing::new(call.seed));
        let mut store = self.store(host, call);
        let run = async {
            let _place = self.place().await;
            match &program.0.code {
                Code::JavaScript { bytecode, sources } => {
                    let instance = self.0.javascript.instantiate_async(&mut store).await?;
                    let format = match format {
                        Body::Json => javascript::Format::Json,
                        Body::Bytes => javascript::Format::Bytes,
                    };
                    let result =
                        instance.call_run(&mut store, bytecode, seed.as_slice(), &method, &input, format).await?;
                    Ok(result.map_err(|failure| thrown(failure, sources, &method)).map(|output| Output {
                        format: match output.format {
                            javascript::Format::Json => Body::Json,
                            javascript::Format::Bytes => Body::Bytes,
                        },
                        body: output.body.into(),
                    }))
                }
                Code::Component(pre) => {
                    if !program.0.methods.contains(&method) {
                        return Ok(Err(Failure::NoSuchMethod(method)));
                    }
                    let instance = pre.instantiate_async(&mut store).await?;
                    enter(store.as_context_mut())?;
                    let result = instance.call_call(&mut store, &method, &input).await?;
                    // The world has no word for the form of an output: what the manifest says holds.
                    Ok(result
                        .map_err(|failure| thrown(failure, &SourceMap::default(), &method))
                        .map(|body| Output { format, body: body.into() }))
                }
            }
        };
        let result: Result<wasmtime::Result<Result<Output, Failure>>, _> = tokio::time::timeout(timeout, run).await;
        let phase = store.data().phase;
        let result = match result {
            Err(_) => Err(Failure::Limit(Limit::Timeout)),
            Ok(Err(error)) => Err(trapped(&error, phase)),
            Ok(Ok(Ok(output))) if output.body.len() as u64 > response => Err(Failure::Limit(Limit::Response)),
            Ok(Ok(result)) => result,
        };
        let fuel_used = match phase {
            Phase::Loading => 0,
            Phase::Entered => fuel.saturating_sub(store.get_fuel().unwrap_or(0)),
        };
        let sandbox = store.into_data();
        let (host_calls, memory) = (sandbox.host_calls, sandbox.memory as u64);
        let Left { logs, effects, writes, publications } = sandbox.finish();
        // Of a call that failed, nothing but its log lines and its exchanges is left.
        let (writes, publications) = if result.is_ok() { (writes, publications) } else { Default::default() };
        CallOutcome { result, fuel_used, logs, effects, writes, publications, host_calls, memory }
    }

    async fn place(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.0.places.acquire().await.expect("the semaphore is never closed")
    }

    fn store(&self, host: Arc<dyn Host>, call: Call) -> Store<Sandbox> {
        let mut store = Store::new(&self.0.wasmtime, Sandbox::new(host, call));
        store.limiter(|sandbox| sandbox);
        store.set_fuel(self.0.load_fuel).expect("fuel is on");
        store.fuel_async_yield_interval(Some(SLICE)).expect("fuel is on and the interval is not zero");
        store
    }
}

fn fits(size: usize) -> Result<(), RuntimeError> {
    if size > MODULE_SIZE { Err(RuntimeError::TooLarge { size, limit: MODULE_SIZE }) } else { Ok(()) }
}

/// From here the fuel of the call counts, and the powers are there.
fn enter(mut store: StoreContextMut<'_, Sandbox>) -> wasmtime::Result<()> {
    let sandbox = store.data_mut();
    sandbox.counted()?;
    if sandbox.phase == Phase::Entered {
        wasmtime::bail!("a method is entered once");
    }
    sandbox.phase = Phase::Entered;
    let fuel = sandbox.limits.fuel;
    store.set_fuel(fuel)
}

/// Everything that can change what a program computes or costs stands here.
fn wasmtime_config(concurrency: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(concurrency)
        .total_core_instances(concurrency.saturating_mul(8))
        .max_core_instances_per_component(8)
        .total_memories(concurrency.saturating_mul(2))
        .max_memories_per_component(2)
        .max_memory_size(1 << 30)
        .total_tables(concurrency.saturating_mul(4))
        .max_tables_per_component(4)
        .table_elements(20_000)
        .total_stacks(concurrency)
        .max_unused_warm_slots(concurrency)
        // Above the stack and the heap of the JavaScript image: pages are restored in place, not unmapped.
        .linear_memory_keep_resident(5 << 19)
        .table_keep_resident(1 << 16)
        .async_stack_keep_resident(1 << 16)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .consume_fuel(true)
        .operator_cost(OperatorCost::new())
        .max_wasm_stack(3 << 20)
        .async_stack_size(4 << 20)
        .wasm_relaxed_simd(false)
        .cranelift_nan_canonicalization(true)
        .wasm_backtrace_max_frames(None)
        .wasm_component_model(true);
    config
}

fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    use crate::bindings::engine::tacit::function::{chain, clock, http, log, model, request, secrets, state, types};
    use crate::bindings::function::tacit::function::random;
    types::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    state::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    chain::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    secrets::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    http::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    model::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    log::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    clock::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    request::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    random::add_to_linker::<_, HasSelf<Sandbox>>(linker, |sandbox| sandbox)?;
    linker.instance("tacit:function/lifecycle@1.0.0")?.func_wrap("entered", |store, (): ()| enter(store))?;
    Ok(())
}

/// Puts a failure of the author's code into our words.
fn thrown(failure: javascript::Failure, sources: &SourceMap, method: &str) -> Failure {
    match (failure.name.as_str(), failure.message.as_str()) {
        // What the engine throws when its own stack check strikes before the sandbox's.
        ("RangeError", "Maximum call stack size exceeded") => Failure::Limit(Limit::Stack),
        ("NoSuchMethod", _) => Failure::NoSuchMethod(method.to_owned()),
        ("InvalidInput", _) => Failure::InvalidInput(failure.message),
        _ => {
            let stack = failure.stack.map(|stack| sources.translate(&stack)).unwrap_or_default();
            Failure::Thrown { name: failure.name, message: failure.message, stack }
        }
    }
}

/// Tells why a sandbox ended without an answer.
fn trapped(error: &wasmtime::Error, phase: Phase) -> Failure {
    if let Some(limit) = error.downcast_ref::<Limit>() {
        return Failure::Limit(*limit);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) if phase == Phase::Loading => Failure::Limit(Limit::LoadFuel),
        Some(Trap::OutOfFuel) => Failure::Limit(Limit::Fuel),
        Some(Trap::StackOverflow) => Failure::Limit(Limit::Stack),
        Some(trap) => Failure::Trapped(trap.to_string()),
        None => Failure::Trapped(format!("{error:#}")),
    }
}

/// The host of a module that is only being compiled: it has nothing and time stands still.
struct Nobody;

#[async_trait]
impl Host for Nobody {
    async fn state_get(&self, _key: &str) -> Result<Option<Bytes>, HostError> {
        Err(HostError::Denied("there is no state while a function is compiled".into()))
    }

    async fn state_list(
        &self,
        _prefix: &str,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Vec<(String, Bytes)>, HostError> {
        Err(HostError::Denied("there is no state while a function is compiled".into()))
    }

    async fn secret(&self, _name: &str) -> Result<Option<Zeroizing<String>>, HostError> {
        Err(HostError::Denied("there are no secrets while a function is compiled".into()))
    }

    async fn fetch(&self, _request: FetchRequest) -> Result<FetchResponse, HostError> {
        Err(HostError::Denied("there is no network while a function is compiled".into()))
    }

    fn now(&self) -> u64 {
        0
    }
}
