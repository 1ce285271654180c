//! The JavaScript engine as a guest: QuickJS-NG, the web prelude and the module `tacit`, for the world
//! `tacit:function/engine`.
//!
//! `initialize` builds the heap once, when the shared image is made; every call starts from that image,
//! loads the bytecode of one function and runs one method. Nothing is imported but the world itself.

// The generated import of `chain.publish` takes each text as two arguments.
#![allow(clippy::too_many_arguments)]

mod natives;
mod random;
mod run;
mod web;

use std::cell::RefCell;

use rquickjs::{Context, Function, Module, Persistent, Runtime};

wit_bindgen::generate!({ path: "../wit", world: "engine" });

/// Stack that JavaScript may use, below the 1 MiB that the linker lays out.
const STACK: usize = 512 * 1024;
/// Heap growth before the first collection: short calls never collect.
const GC_THRESHOLD: usize = 4 * 1024 * 1024;

/// The engine as it lies in the image.
struct Engine {
    context: Context,
    /// Waits for one exchange or timer and delivers it.
    pump: Persistent<Function<'static>>,
    /// Tells the prelude that a call begins.
    start: Persistent<Function<'static>>,
    // Last, so that it is dropped last; in fact nothing here is ever dropped.
    _runtime: Runtime,
}

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

/// The one implementation of the world.
struct Image;

impl Guest for Image {
    fn initialize() {
        let runtime = Runtime::new().expect("a fresh heap has room for a runtime");
        runtime.set_max_stack_size(STACK);
        let context = Context::full(&runtime).expect("a fresh heap has room for a context");
        let (pump, start) = context.with(|ctx| {
            let shared = web::install(&ctx).unwrap_or_else(|error| panic!("prelude: {error}: {:?}", ctx.catch()));
            Module::evaluate_def::<web::Tacit, _>(ctx.clone(), "tacit")
                .and_then(|(_, promise)| promise.finish::<()>())
                .unwrap_or_else(|error| panic!("module tacit: {error}: {:?}", ctx.catch()));
            let pump: Function = shared.get("pump").expect("timers.js defines pump");
            let start: Function = shared.get("start").expect("timers.js defines start");
            (Persistent::save(&ctx, pump), Persistent::save(&ctx, start))
        });
        runtime.run_gc();
        runtime.set_gc_threshold(GC_THRESHOLD);
        ENGINE.with_borrow_mut(|engine| *engine = Some(Engine { context, pump, start, _runtime: runtime }));
    }

    fn compile(name: String, source: String) -> Result<Compiled, Failure> {
        ENGINE.with_borrow(|engine| run::compile(engine.as_ref().expect("the image is initialised"), name, source))
    }

    fn run(
        bytecode: Vec<u8>,
        seed: Vec<u8>,
        method: String,
        input: Vec<u8>,
        format: Format,
    ) -> Result<Output, Failure> {
        random::seed(&seed);
        ENGINE.with_borrow(|engine| {
            run::run(engine.as_ref().expect("the image is initialised"), bytecode, &method, input, format)
        })
    }
}

export!(Image);
