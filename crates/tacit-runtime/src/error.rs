//! Errors of making an engine or a program; what goes wrong inside a call is a [`crate::Failure`].

use crate::call::Failure;

/// Why an engine could not be made or a program not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The WebAssembly engine refused its configuration or its image.
    #[error("the WebAssembly engine does not start")]
    Engine(#[source] wasmtime::Error),
    /// The folder of compiled code cannot be used.
    #[error("compiled code cannot be kept")]
    Cache(#[source] std::io::Error),
    /// The module is larger than a module may be.
    #[error("the module has {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The module does not compile, or its top level fails.
    #[error("the module does not load: {0}")]
    Module(Failure),
    /// The bytes are no WebAssembly component.
    #[error("not a valid component: {0}")]
    Component(String),
    /// The component asks for something that no function gets.
    #[error("the component imports `{name}`, which functions do not get; the world is tacit:function@1")]
    UnknownImport {
        /// Name of the import.
        name: String,
    },
    /// The component lacks what a function must export, or has it with other types.
    #[error("the component is no function of the world tacit:function@1: {0}")]
    NotAFunction(String),
    /// The source map cannot be read.
    #[error("the source map cannot be read: {0}")]
    SourceMap(&'static str),
}
