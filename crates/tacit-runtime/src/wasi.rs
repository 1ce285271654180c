//! The little of WASI that a Rust standard library asks for: an empty environment, seeded randomness, the call's clock.
//! Everything else that it imports is there so that the component links, and ends the call when it is used.

use wasmtime::StoreContextMut;
use wasmtime::component::{Component, ComponentType, Linker, LinkerInstance, Lower, Resource, ResourceType};

use crate::sandbox::Sandbox;

/// A stream that a program prints to; its number is 1 or 2.
struct Output;

/// An error of a stream; there never is one.
struct Broken;

/// Kinds of resources that exist only as types: no program ever gets one.
struct Absent<const KIND: usize>;

/// An open file or folder.
type Descriptor = Absent<0>;

/// Something to wait for.
type Pollable = Absent<2>;

/// Every instance that names a resource must mean the same one, so all are defined in each.
fn resources(instance: &mut LinkerInstance<'_, Sandbox>) -> wasmtime::Result<()> {
    let kinds = [
        ("error", ResourceType::host::<Broken>()),
        ("output-stream", ResourceType::host::<Output>()),
        ("descriptor", ResourceType::host::<Descriptor>()),
        ("input-stream", ResourceType::host::<Absent<1>>()),
        ("pollable", ResourceType::host::<Pollable>()),
        ("terminal-input", ResourceType::host::<Absent<3>>()),
        ("terminal-output", ResourceType::host::<Absent<4>>()),
        ("directory-entry-stream", ResourceType::host::<Absent<5>>()),
        ("network", ResourceType::host::<Absent<6>>()),
        ("tcp-socket", ResourceType::host::<Absent<7>>()),
        ("udp-socket", ResourceType::host::<Absent<8>>()),
        ("incoming-datagram-stream", ResourceType::host::<Absent<9>>()),
        ("outgoing-datagram-stream", ResourceType::host::<Absent<10>>()),
        ("resolve-address-stream", ResourceType::host::<Absent<11>>()),
    ];
    for (name, kind) in kinds {
        instance.resource(name, kind, |_, _| Ok(()))?;
    }
    Ok(())
}

/// `wasi:io/streams.stream-error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[allow(dead_code)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<Broken>),
    #[component(name = "closed")]
    Closed,
}

/// Bytes that a program may print at once.
const CHUNK: u64 = 4096;

/// Whether an import is of WASI 0.2, which the standard library of `wasm32-wasip2` brings along.
pub(crate) fn is_known(name: &str) -> bool {
    name.strip_prefix("wasi:")
        .is_some_and(|rest| rest.split_once('@').is_some_and(|(_, version)| version.starts_with("0.2.")))
}

/// Links what a component imports of WASI.
pub(crate) fn link(linker: &mut Linker<Sandbox>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine().clone();
    for (name, _) in component.component_type().imports(&engine) {
        if !is_known(name) {
            continue;
        }
        let Some((interface, _)) = name.split_once('@') else { continue };
        resources(&mut linker.instance(name)?)?;
        match interface {
            "wasi:cli/environment" => {
                let mut instance = linker.instance(name)?;
                instance.func_wrap("get-environment", |_: StoreContextMut<'_, Sandbox>, (): ()| {
                    Ok((Vec::<(String, String)>::new(),))
                })?;
                instance.func_wrap("get-arguments", |_: StoreContextMut<'_, Sandbox>, (): ()| {
                    Ok((Vec::<String>::new(),))
                })?;
                instance.func_wrap("initial-cwd", |_: StoreContextMut<'_, Sandbox>, (): ()| Ok((None::<String>,)))?;
            }
            "wasi:random/random" | "wasi:random/insecure" => {
                let mut instance = linker.instance(name)?;
                let prefix = if interface.ends_with("insecure") { "get-insecure-random" } else { "get-random" };
                instance.func_wrap(
                    &format!("{prefix}-bytes"),
                    |mut store: StoreContextMut<'_, Sandbox>, (length,): (u64,)| {
                        let sandbox = store.data_mut();
                        sandbox.counted()?;
                        if length > sandbox.limits.memory {
                            return Err(crate::Limit::Memory.into());
                        }
                        Ok((sandbox.random_bytes(length as usize),))
                    },
                )?;
                instance.func_wrap(&format!("{prefix}-u64"), |mut store: StoreContextMut<'_, Sandbox>, (): ()| {
                    store.data_mut().counted()?;
                    Ok((store.data_mut().random_u64(),))
                })?;
            }
            "wasi:random/insecure-seed" => {
                linker.instance(name)?.func_wrap(
                    "insecure-seed",
                    |mut store: StoreContextMut<'_, Sandbox>, (): ()| {
                        store.data_mut().counted()?;
                        Ok(((store.data_mut().random_u64(), store.data_mut().random_u64()),))
                    },
                )?;
            }
            "wasi:io/poll" => {
                let mut instance = linker.instance(name)?;
                instance.func_wrap(
                    "[method]pollable.block",
                    |_: StoreContextMut<'_, Sandbox>, (_,): (Resource<Pollable>,)| Ok(()),
                )?;
                instance.func_wrap(
                    "[method]pollable.ready",
                    |_: StoreContextMut<'_, Sandbox>, (_,): (Resource<Pollable>,)| Ok((true,)),
                )?;
            }
            "wasi:filesystem/preopens" => {
                linker.instance(name)?.func_wrap("get-directories", |_: StoreContextMut<'_, Sandbox>, (): ()| {
                    Ok((Vec::<(Resource<Descriptor>, String)>::new(),))
                })?
            }
            "wasi:cli/terminal-stdin" => {
                linker.instance(name)?.func_wrap("get-terminal-stdin", |_: StoreContextMut<'_, Sandbox>, (): ()| {
                    Ok((None::<Resource<Absent<3>>>,))
                })?
            }
            "wasi:cli/terminal-stdout" => {
                linker.instance(name)?.func_wrap("get-terminal-stdout", |_: StoreContextMut<'_, Sandbox>, (): ()| {
                    Ok((None::<Resource<Absent<4>>>,))
                })?
            }
            "wasi:cli/terminal-stderr" => {
                linker.instance(name)?.func_wrap("get-terminal-stderr", |_: StoreContextMut<'_, Sandbox>, (): ()| {
                    Ok((None::<Resource<Absent<4>>>,))
                })?
            }
            "wasi:cli/stdout" => {
                linker.instance(name)?.func_wrap("get-stdout", |_: StoreContextMut<'_, Sandbox>, (): ()| {
                    Ok((Resource::<Output>::new_own(1),))
                })?
            }
            "wasi:cli/stderr" => {
                linker.instance(name)?.func_wrap("get-stderr", |_: StoreContextMut<'_, Sandbox>, (): ()| {
                    Ok((Resource::<Output>::new_own(2),))
                })?
            }
            "wasi:io/streams" => {
                let mut instance = linker.instance(name)?;
                instance.func_wrap(
                    "[method]output-stream.check-write",
                    |_: StoreContextMut<'_, Sandbox>, (_,): (Resource<Output>,)| Ok((Ok::<u64, StreamError>(CHUNK),)),
                )?;
                for method in ["write", "blocking-write-and-flush"] {
                    instance.func_wrap(
                        &format!("[method]output-stream.{method}"),
                        |mut store: StoreContextMut<'_, Sandbox>, (stream, bytes): (Resource<Output>, Vec<u8>)| {
                            let sandbox = store.data_mut();
                            sandbox.counted()?;
                            sandbox.print(stream.rep(), &bytes)?;
                            Ok((Ok::<(), StreamError>(()),))
                        },
                    )?;
                }
                // Standard output is always ready: there is nothing to wait for.
                instance.func_wrap(
                    "[method]output-stream.subscribe",
                    |_: StoreContextMut<'_, Sandbox>, (_,): (Resource<Output>,)| {
                        Ok((Resource::<Pollable>::new_own(0),))
                    },
                )?;
                for method in ["flush", "blocking-flush"] {
                    instance.func_wrap(
                        &format!("[method]output-stream.{method}"),
                        |_: StoreContextMut<'_, Sandbox>, (_,): (Resource<Output>,)| Ok((Ok::<(), StreamError>(()),)),
                    )?;
                }
            }
            _ => {}
        }
    }
    linker.define_unknown_imports_as_traps(component)
}
