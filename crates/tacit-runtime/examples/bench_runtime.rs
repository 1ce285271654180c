//! Prints the rows of `bench runtime` as JSON.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let rows = runtime.block_on(tacit_runtime::bench::run(&mut |line| eprintln!("{line}")))?;
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}
