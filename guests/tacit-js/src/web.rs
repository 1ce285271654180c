//! The prelude: the web platform's part in JavaScript, and the module `tacit`.

use rquickjs::module::{Declarations, Exports, ModuleDef};
use rquickjs::{Ctx, Function, Object, Result};

use crate::natives;

/// The prelude's files in the order in which they build on each other.
const FILES: [(&str, &str); 11] = [
    ("base", include_str!("../prelude/base.js")),
    ("events", include_str!("../prelude/events.js")),
    ("encoding", include_str!("../prelude/encoding.js")),
    ("url", include_str!("../prelude/url.js")),
    ("timers", include_str!("../prelude/timers.js")),
    ("crypto", include_str!("../prelude/crypto.js")),
    ("clone", include_str!("../prelude/clone.js")),
    ("console", include_str!("../prelude/console.js")),
    ("fetch", include_str!("../prelude/fetch.js")),
    ("model", include_str!("../prelude/model.js")),
    ("tacit", include_str!("../prelude/tacit.js")),
];

/// Names that `import … from "tacit"` finds.
const EXPORTS: [&str; 6] = ["state", "chain", "secrets", "model", "request", "log"];

/// Where the prelude's exports wait for the module `tacit` to take them.
const HANDOVER: &str = "__tacit";

/// Runs the prelude's files; returns what they share.
pub fn install<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let native = natives::object(ctx)?;
    let shared = Object::new(ctx.clone())?;
    for (name, source) in FILES {
        let mut options = rquickjs::context::EvalOptions::default();
        options.filename = Some(format!("tacit:{name}"));
        let body: Function = ctx.eval_with_options(format!("(function (native, web) {{{source}\n}})"), options)?;
        body.call::<_, ()>((native.clone(), shared.clone()))?;
    }
    ctx.globals().set(HANDOVER, shared.get::<_, Object>("module")?)?;
    Ok(shared)
}

/// The module `tacit`.
pub struct Tacit;

impl ModuleDef for Tacit {
    fn declare(declare: &Declarations<'_>) -> Result<()> {
        for name in EXPORTS {
            declare.declare(name)?;
        }
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> Result<()> {
        let module: Object = ctx.globals().get(HANDOVER)?;
        ctx.globals().remove(HANDOVER)?;
        for name in EXPORTS {
            exports.export(name, module.get::<_, Object>(name)?)?;
        }
        Ok(())
    }
}
