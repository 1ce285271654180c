//! Compiling a module, and running one method of it to its end.

use std::sync::atomic::Ordering;

use rquickjs::module::WriteOptions;
use rquickjs::promise::PromiseState;
use rquickjs::{ArrayBuffer, CatchResultExt, CaughtError, Ctx, Function, Module, Object, Promise, TypedArray, Value};

use crate::natives::{Bytes, HOST};
use crate::tacit::function::lifecycle;
use crate::{Compiled, Engine, Failure, Format, Output};

/// Bytes of a stack trace that are kept.
const STACK_TEXT: usize = 16 * 1024;

pub fn compile(engine: &Engine, name: String, source: String) -> Result<Compiled, Failure> {
    HOST.store(true, Ordering::Relaxed);
    engine.context.with(|ctx| {
        let module = caught(&ctx, Module::declare(ctx.clone(), name, source))?;
        let bytecode = caught(&ctx, module.write(WriteOptions { strip_source: true, ..WriteOptions::default() }))?;
        let namespace = load(&ctx, module)?;
        let mut methods = Vec::new();
        for key in namespace.keys::<String>() {
            let key = caught(&ctx, key)?;
            if caught(&ctx, namespace.get::<_, Value>(key.as_str()))?.is_function() {
                methods.push(key);
            }
        }
        Ok(Compiled { bytecode, methods })
    })
}

pub fn run(
    engine: &Engine,
    bytecode: Vec<u8>,
    method: &str,
    input: Vec<u8>,
    format: Format,
) -> Result<Output, Failure> {
    HOST.store(true, Ordering::Relaxed);
    engine.context.with(|ctx| {
        // SAFETY: the host hands back what `compile` wrote for this very image; whatever else it might be can
        // only hurt this sandbox, which ends with the call. The engine refers to the bytes: they are never freed.
        let module = caught(&ctx, unsafe { Module::load(ctx.clone(), bytecode.leak()) })?;
        let namespace = load(&ctx, module)?;
        let function: Value = caught(&ctx, namespace.get(method))?;
        let Some(function) = function.as_function() else {
            return Err(failure("NoSuchMethod", format!("the function has no method \"{method}\"")));
        };
        lifecycle::entered();
        let start = caught(&ctx, engine.start.clone().restore(&ctx))?;
        caught(&ctx, start.call::<_, ()>(()))?;
        let argument = match format {
            Format::Bytes => caught(&ctx, rquickjs::IntoJs::into_js(Bytes(input), &ctx))?,
            Format::Json => {
                let text = std::str::from_utf8(&input)
                    .map_err(|_| failure("InvalidInput", "the input is not UTF-8".into()))?;
                ctx.json_parse(text).catch(&ctx).map_err(|error| {
                    let failure = describe(&ctx, error);
                    if failure.name == "SyntaxError" {
                        self::failure("InvalidInput", format!("the input is not JSON: {}", failure.message))
                    } else {
                        failure
                    }
                })?
            }
        };
        let result: Value = caught(&ctx, function.call((argument,)))?;
        let result = match result.into_promise_or_value() {
            Ok(promise) => settle(&ctx, engine, promise)?,
            Err(value) => value,
        };
        output(&ctx, result)
    })
}

/// Evaluates a module to its end. Its top level may await, but not wait for the world.
fn load<'js>(ctx: &Ctx<'js>, module: Module<'js>) -> Result<Object<'js>, Failure> {
    let (module, promise) = caught(ctx, module.eval())?;
    while promise.state() == PromiseState::Pending && ctx.execute_pending_job() {}
    match promise.result::<Value>() {
        None => {
            Err(failure("LoadError", "the module's top level waits for something outside; wait inside a method".into()))
        }
        Some(result) => caught(ctx, result.and_then(|_| module.namespace())),
    }
}

/// Runs jobs, exchanges and timers until `promise` is settled.
fn settle<'js>(ctx: &Ctx<'js>, engine: &Engine, promise: Promise<'js>) -> Result<Value<'js>, Failure> {
    let pump: Function = caught(ctx, engine.pump.clone().restore(ctx))?;
    loop {
        while promise.state() == PromiseState::Pending && ctx.execute_pending_job() {}
        if let Some(result) = promise.result::<Value>() {
            return caught(ctx, result);
        }
        if !caught(ctx, pump.call::<_, bool>(()))? {
            return Err(failure("NeverSettled", "the method awaits a promise that nothing can settle any more".into()));
        }
    }
}

fn output<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Output, Failure> {
    if let Ok(array) = TypedArray::<u8>::from_value(value.clone()) {
        // SAFETY: the slice is copied before any JavaScript runs again.
        let bytes = unsafe { array.as_bytes() };
        return Ok(Output { format: Format::Bytes, body: bytes.unwrap_or_default().to_vec() });
    }
    if let Some(buffer) = value.as_object().and_then(|object| ArrayBuffer::from_object(object.clone())) {
        // SAFETY: as above.
        let bytes = unsafe { buffer.as_bytes() };
        return Ok(Output { format: Format::Bytes, body: bytes.unwrap_or_default().to_vec() });
    }
    if value.is_undefined() {
        return Ok(Output { format: Format::Json, body: b"null".to_vec() });
    }
    match caught(ctx, ctx.json_stringify(value))? {
        None => Err(failure("TypeError", "the method's result is neither JSON nor bytes".into())),
        Some(text) => {
            let text = match text.to_string() {
                Ok(text) => text,
                Err(_) => return Err(failure("TypeError", "the method's result holds half a character".into())),
            };
            Ok(Output { format: Format::Json, body: text.into_bytes() })
        }
    }
}

fn caught<'js, T>(ctx: &Ctx<'js>, result: rquickjs::Result<T>) -> Result<T, Failure> {
    result.catch(ctx).map_err(|error| describe(ctx, error))
}

fn failure(name: &str, message: String) -> Failure {
    Failure { name: name.to_owned(), message, stack: None }
}

/// Puts what was thrown into words, without trusting it to be an error.
fn describe<'js>(ctx: &Ctx<'js>, error: CaughtError<'js>) -> Failure {
    let object = match error {
        CaughtError::Error(error) => return failure("EngineError", error.to_string()),
        CaughtError::Exception(exception) => exception.into_object(),
        CaughtError::Value(value) => {
            let text = match value.as_string().map(|text| text.to_string()) {
                Some(Ok(text)) => text,
                _ => ctx
                    .json_stringify(value)
                    .ok()
                    .flatten()
                    .and_then(|text| text.to_string().ok())
                    .unwrap_or_else(|| "a value without words".to_owned()),
            };
            ctx.catch();
            return failure("Thrown", text);
        }
    };
    let read = |key: &str| {
        let text = object.get::<_, Option<String>>(key);
        if text.is_err() {
            ctx.catch();
        }
        text.ok().flatten()
    };
    let mut stack = read("stack").filter(|stack| !stack.is_empty());
    if let Some(stack) = &mut stack {
        let end = (0..=STACK_TEXT.min(stack.len())).rev().find(|&end| stack.is_char_boundary(end)).unwrap_or(0);
        stack.truncate(end);
    }
    Failure {
        name: read("name").unwrap_or_else(|| "Error".to_owned()),
        message: read("message").unwrap_or_default(),
        stack,
    }
}

/// A promise, or the value itself.
trait PromiseOrValue<'js> {
    fn into_promise_or_value(self) -> Result<Promise<'js>, Value<'js>>;
}

impl<'js> PromiseOrValue<'js> for Value<'js> {
    fn into_promise_or_value(self) -> Result<Promise<'js>, Value<'js>> {
        if self.is_promise() { Ok(self.into_promise().expect("it was just seen to be a promise")) } else { Err(self) }
    }
}
