//! Runs one script in QuickJS-NG without a sandbox. The script has `print(text)` and `cpu()`, microseconds of CPU time.

use rquickjs::function::Func;
use rquickjs::{CatchResultExt as _, Context, Runtime};

fn main() {
    let path = std::env::args().nth(1).expect("usage: quickjs-native SCRIPT");
    let source = std::fs::read_to_string(&path).expect("the script can be read");
    let runtime = Runtime::new().expect("there is memory for a runtime");
    let context = Context::full(&runtime).expect("there is memory for a context");
    let failed = context.with(|ctx| {
        let globals = ctx.globals();
        globals.set("print", Func::from(|text: String| println!("{text}"))).expect("a global can be set");
        globals.set("cpu", Func::from(cpu)).expect("a global can be set");
        ctx.eval::<(), _>(source).catch(&ctx).map_err(|error| error.to_string()).err()
    });
    if let Some(error) = failed {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// CPU microseconds of this thread, from the scheduler's own account.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}
