//! A function in Rust. It greets, and counts who came by.
//!
//! Build it with `cargo build --release --target wasm32-wasip2`; the file under `target/` is what is deployed.

// The generated import of `chain.publish` takes each text as two arguments.
#![allow(clippy::too_many_arguments)]

wit_bindgen::generate!({ path: "../../guests/wit", world: "function" });

use serde::{Deserialize, Serialize};
use tacit::function::{log, request, state};

struct Function;

#[derive(Deserialize)]
struct Person {
    name: String,
}

#[derive(Serialize)]
struct Greeting {
    greeting: String,
}

#[derive(Serialize)]
struct Visits {
    name: String,
    visits: u64,
}

impl Guest for Function {
    fn methods() -> Vec<String> {
        ["greet", "visit", "total"].map(str::to_owned).to_vec()
    }

    fn call(method: String, input: Vec<u8>) -> Result<Vec<u8>, Failure> {
        match method.as_str() {
            "greet" => answer(&greet(read(&input)?)),
            "visit" => answer(&visit(read(&input)?)?),
            "total" => answer(&total()?),
            _ => Err(failure("NoSuchMethod", method)),
        }
    }
}

fn greet(person: Person) -> Greeting {
    Greeting { greeting: format!("Hello, {}!", person.name) }
}

/// Adds one to the visits of a person. Commands of one function are serial, so nothing is lost.
fn visit(person: Person) -> Result<Visits, Failure> {
    let key = format!("visits/{}", person.name);
    let visits = state::get(&key).map_err(refused)?.map_or(0, |bytes| number(&bytes)) + 1;
    state::set(&key, visits.to_string().as_bytes()).map_err(refused)?;
    log::write(log::Level::Info, &format!("visit {visits} in call {}", request::current().call_id));
    Ok(Visits { name: person.name, visits })
}

/// All visits of all people.
fn total() -> Result<u64, Failure> {
    let (mut sum, mut after) = (0, None);
    loop {
        let page = state::list("visits/", after.as_deref(), 100).map_err(refused)?;
        sum += page.iter().map(|(_, value)| number(value)).sum::<u64>();
        match page.last() {
            Some((key, _)) if page.len() == 100 => after = Some(key.clone()),
            _ => return Ok(sum),
        }
    }
}

/// State holds JSON text, as the JavaScript functions' does.
fn number(bytes: &[u8]) -> u64 {
    serde_json::from_slice(bytes).unwrap_or(0)
}

fn read<'a, T: Deserialize<'a>>(input: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(input).map_err(|error| failure("InvalidInput", error.to_string()))
}

fn answer<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| failure("Error", error.to_string()))
}

fn refused(error: state::HostError) -> Failure {
    failure("TacitError", format!("{error:?}"))
}

fn failure(name: &str, message: String) -> Failure {
    Failure { name: name.to_owned(), message, stack: None }
}

export!(Function);
