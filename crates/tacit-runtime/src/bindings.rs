//! The WIT worlds as Rust, made by wasmtime.

#![allow(missing_docs)]

/// The JavaScript engine.
pub(crate) mod engine {
    wasmtime::component::bindgen!({
        path: "../../guests/wit",
        world: "engine",
        imports: {
            "tacit:function/log.write": trappable,
            "tacit:function/clock.now": trappable,
            "tacit:function/request.current": trappable,
            "tacit:function/lifecycle.entered": trappable,
            "tacit:function/http.cancel": trappable,
            default: async | trappable,
        },
        exports: { default: async },
    });
}

/// A function in any language.
pub(crate) mod function {
    wasmtime::component::bindgen!({
        path: "../../guests/wit",
        world: "function",
        imports: {
            "tacit:function/random.bytes": trappable,
            default: async | trappable,
        },
        exports: { default: async },
        with: {
            "tacit:function/types": super::engine::tacit::function::types,
            "tacit:function/chain": super::engine::tacit::function::chain,
            "tacit:function/state": super::engine::tacit::function::state,
            "tacit:function/secrets": super::engine::tacit::function::secrets,
            "tacit:function/model": super::engine::tacit::function::model,
            "tacit:function/http": super::engine::tacit::function::http,
            "tacit:function/log": super::engine::tacit::function::log,
            "tacit:function/clock": super::engine::tacit::function::clock,
            "tacit:function/request": super::engine::tacit::function::request,
        },
    });
}
